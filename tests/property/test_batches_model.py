"""Batches between single calls, against the same thing in obvious Python: publish_many, loan_many and take_many."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from numpy.typing import NDArray

import zeroslot as zs
from tests.property.models import ModelReader, ModelSegment

NO_ROOM = (zs.NoFreeSlotError, zs.BackpressureError)


class Words(zs.Sample):
    """One number, sixteen times."""

    n: zs.U64
    words: Annotated[NDArray[np.uint64], zs.Shape(15)]


DTYPE = zs.layout_of(Words).dtype


def records(first: int, count: int) -> NDArray[Any]:
    """Samples with the numbers from `first` on."""
    made = np.zeros(count, DTYPE)
    made["n"] = np.arange(first, first + count)
    made["words"] = made["n"][:, None]
    return made


def number_of(sample: Any) -> int:
    """The number that a sample has in each word."""
    assert (sample.words == sample.n).all()
    return int(sample.n)


class BatchesAgainstTheModel(RuleBasedStateMachine):
    """Every step on both; afterwards all that can be seen is equal."""

    loans: Bundle[Any] = Bundle("loans")
    readers: Bundle[Any] = Bundle("readers")
    leases: Bundle[Any] = Bundle("leases")

    @initialize(depth=st.integers(3, 6), max_loans=st.integers(1, 3), spare=st.integers(0, 4), reliable=st.booleans())
    def create(self, depth: int, max_loans: int, spare: int, reliable: bool) -> None:
        self.reliable = reliable
        self.real = zs.Publisher(
            "batches", Words, depth=depth, max_loans=max_loans, spare_slots=spare, max_subscribers=70,
            on_full="raise" if reliable else "evict",
        )  # fmt: skip  # one option a line
        self.model = ModelSegment(self.real.slot_count, depth, max_loans)
        self.everyone: list[tuple[zs.Subscriber[Words], ModelReader]] = []
        self.held: list[tuple[Any, int]] = []

    def can_reserve(self, count: int = 1) -> bool:
        """Whether so many loans can be had at once. A reliable subscriber is to lose none of them."""
        model = self.model
        floor = min((reader.cursor for _, reader in self.everyone), default=model.newest) if self.reliable else 0
        window = floor + model.depth - model.newest - model.loans if self.reliable else count
        return model.loans + count <= model.max_loans and model.free >= count and window >= count

    def publish_one(self) -> None:
        self.model.published.append(self.model.newest + 1)

    @rule(count=st.integers(0, 9), form=st.sampled_from(["array", "strided", "backwards", "models", "mappings"]))
    def publish_many(self, count: int, form: str) -> None:
        """As many as there is room for; the error tells how many those were."""
        array = records(self.model.newest + 1, count)
        samples: Any = array
        if form == "strided":
            samples = np.repeat(array, 2)[::2]
        elif form == "backwards":
            samples = array[::-1].copy()[::-1]
        elif form in ("models", "mappings"):
            samples = [{"n": record["n"], "words": record["words"]} for record in array]
            samples = [Words(**sample) for sample in samples] if form == "models" else samples
        published = 0
        while published < count and self.can_reserve():
            self.publish_one()
            published += 1
        if published == count:
            assert self.real.publish_many(samples) == self.model.newest
            return
        with pytest.raises(NO_ROOM) as caught:
            self.real.publish_many(samples)
        assert caught.value.published == published  # type: ignore[union-attr]  # what publish_many adds

    @rule(count=st.integers(1, 6))
    def publish(self, count: int) -> None:
        """One by one."""
        for _ in range(count):
            if self.can_reserve():
                self.publish_one()
                assert self.real.send(**self.fields()) == self.model.newest

    def fields(self) -> dict[str, Any]:
        return {"n": self.model.newest, "words": np.full(15, self.model.newest)}

    @rule(target=loans, count=st.integers(1, 3))
    def loan_many(self, count: int) -> Any:
        """All or none."""
        if count > self.model.max_loans:
            with pytest.raises(ValueError, match="max_loans"):
                self.real.loan_many(count)
            return multiple()
        if not self.can_reserve(count):
            with pytest.raises(NO_ROOM):
                self.real.loan_many(count)
            return multiple()
        self.model.loans += count
        return self.real.loan_many(count)

    @rule(loans=consumes(loans), by=st.sampled_from(["commit", "discard", "exception"]))
    def give_back(self, loans: zs.Loans[Words], by: str) -> None:
        self.model.loans -= len(loans)
        if by == "exception":
            with suppress(ZeroDivisionError), loans as samples:
                samples[0].n = 4711
                raise ZeroDivisionError
            return
        for sample in loans.samples if by == "commit" else []:
            self.publish_one()
            sample.n = self.model.newest
            sample.words[:] = self.model.newest
            del sample
        if by == "commit":
            assert loans.commit() == self.model.newest
        else:
            loans.discard()

    @rule(target=readers, history=st.integers(0, 4), max_leases=st.integers(1, 4))
    def join(self, history: int, max_leases: int) -> Any:
        history = 0 if self.reliable else min(history, self.model.depth)
        both = (
            zs.Subscriber("batches", Words, history=history, max_leases=max_leases, reliable=self.reliable),
            ModelReader(max(0, self.model.newest - history), max_leases),
        )
        self.everyone.append(both)
        return both

    @rule(both=consumes(readers))
    def leave(self, both: Any) -> None:
        both[0].close()
        self.everyone.remove(both)

    @rule(both=readers, most=st.one_of(st.none(), st.integers(1, 5)), given=st.booleans())
    def take_many(self, both: Any, most: int | None, given: bool) -> None:
        """What as many single takes would have given, each released at once."""
        sub, model = both
        out = np.zeros(7, DTYPE) if given else None
        limit = min(7 if given else 10**6, 10**6 if most is None else most)
        if model.held >= model.max_leases and model.cursor < self.model.newest:
            with pytest.raises(zs.TooManyLeasesError):
                sub.take_many(most, out=out)
            return
        lost, expected = model.lost, []
        while len(expected) < limit and (sequence := self.model.take(model)) is not None:
            expected.append(sequence)
            self.model.release(model, sequence)
        batch = sub.take_many(most, out=out)
        assert batch.sequences.tolist() == expected
        assert [number_of(record) for record in np.rec.array(batch.samples)] == expected
        assert batch.lost == model.lost - lost
        assert out is None or not np.any(out["n"][len(expected) :])

    @rule(target=leases, both=readers, newest=st.booleans())
    def take(self, both: Any, newest: bool) -> Any:
        sub, model = both
        take = sub.latest if newest else sub.take
        try:
            expected = self.model.latest(model) if newest else self.model.take(model)
        except zs.TooManyLeasesError:
            with pytest.raises(zs.TooManyLeasesError):
                take()
            return multiple()
        lease = take()
        if expected is None:
            assert lease is None
            return multiple()
        assert lease is not None
        assert lease.sequence == expected
        self.held.append((lease, expected))
        return (self.held[-1], model)

    @rule(both=consumes(leases))
    def release(self, both: Any) -> None:
        entry, model = both
        self.held = [each for each in self.held if each is not entry]
        entry[0].release()
        self.model.release(model, entry[1])

    @invariant()
    def nothing_held_has_changed(self) -> None:
        for lease, sequence in getattr(self, "held", []):
            assert number_of(lease.sample) == sequence

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "real"):
            return
        assert self.real.sequence == self.model.newest
        assert self.real.allocator.loan_count == self.model.loans
        assert self.real.allocator.free_count == self.model.free
        for sub, model in self.everyone:
            stats = sub.stats
            assert (stats.taken, stats.lost, stats.skipped, stats.leases) == (
                *(model.taken, model.lost, model.skipped, model.held),
            )
            assert not (self.reliable and model.lost)

    def teardown(self) -> None:
        if hasattr(self, "real"):
            for lease, _ in self.held:
                lease.release()
            for sub, _ in self.everyone:
                sub.close()
            self.real.close()


@pytest.mark.row("PUB-5", "PUB-2", "SUB-2", "SUB-11")
def test_batches_behave_as_the_model() -> None:
    """Any order of batches and single calls, with reliable subscribers or without: what is seen is the same."""
    run_state_machine_as_test(
        BatchesAgainstTheModel, settings=settings(deadline=None, max_examples=80, stateful_step_count=50)
    )
