"""The real SlotAllocator and SlotReader against the same thing in obvious Python."""

from __future__ import annotations

import struct
from typing import Any

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

from tests.property.models import ModelReader, ModelSegment
from zeroslot import NoFreeSlotError, SlotAllocator, TooManyLeasesError


def payload(value: int) -> bytes:
    return struct.pack("<16Q", *[value] * 16)


class SlotsAgainstTheModel(RuleBasedStateMachine):
    """Every step on both; afterwards all that can be seen is equal."""

    loans: Bundle[Any] = Bundle("loans")
    readers: Bundle[Any] = Bundle("readers")
    leases: Bundle[Any] = Bundle("leases")

    @initialize(depth=st.integers(1, 4), max_loans=st.integers(1, 3), spare=st.integers(0, 3))
    def create(self, depth: int, max_loans: int, spare: int) -> None:
        count = max(2, depth + max_loans + spare)
        self.real = SlotAllocator.in_memory(count, 128, depth=depth, max_loans=max_loans, max_subscribers=70)
        self.model = ModelSegment(count, depth, max_loans)
        self.value = 0
        self.everyone: list[tuple[Any, ModelReader]] = []
        self.held: list[tuple[Any, int]] = []

    @rule(target=loans)
    def reserve(self) -> Any:
        if not self.model.can_reserve():
            with pytest.raises(NoFreeSlotError):
                self.real.reserve()
            return multiple()
        self.model.loans += 1
        slot = self.real.reserve()
        slot.write(b"\xee" * 128)  # a reader of this memory would see it
        return slot

    @rule(slot=consumes(loans), by=st.sampled_from(["in place", "copy", "end of with"]))
    def commit(self, slot: Any, by: str) -> None:
        self.value += 1
        if by == "copy":
            sequence = self.real.commit(slot, payload(self.value))
        elif by == "in place":
            slot.array("<u8")[:] = self.value
            sequence = self.real.commit(slot)
        else:
            with slot:
                slot.array("<u8")[:] = self.value
            sequence = self.real.sequence
        self.model.loans -= 1
        self.model.published.append(self.value)
        assert sequence == self.model.newest

    @rule(count=st.integers(1, 6))
    def publish(self, count: int) -> None:
        """So many at once that readers fall behind."""
        for _ in range(count):
            if self.model.can_reserve():
                self.value += 1
                self.model.published.append(self.value)
                assert self.real.commit(self.real.reserve(), payload(self.value)) == self.model.newest

    @rule(slot=consumes(loans), by=st.sampled_from(["allocator", "slot", "exception"]))
    def give_back(self, slot: Any, by: str) -> None:
        if by == "allocator":
            self.real.discard(slot)
        elif by == "exception":
            with pytest.raises(ZeroDivisionError), slot:
                raise ZeroDivisionError
        else:
            slot.discard()
        self.model.loans -= 1

    @rule(target=readers, history=st.integers(0, 4), max_leases=st.integers(1, 5))
    def join(self, history: int, max_leases: int) -> Any:
        history = min(history, self.model.depth)
        both = (
            self.real.reader(history=history, max_leases=max_leases),
            ModelReader(max(0, self.model.newest - history), max_leases),
        )
        self.everyone.append(both)
        return both

    @rule(both=consumes(readers))
    def leave(self, both: Any) -> None:
        both[0].close()
        self.everyone.remove(both)

    @rule(target=leases, both=readers, newest=st.booleans())
    def take(self, both: Any, newest: bool) -> Any:
        reader, model = both
        try:
            expected = self.model.latest(model) if newest else self.model.take(model)
        except TooManyLeasesError:
            with pytest.raises(TooManyLeasesError):
                reader.latest() if newest else reader.take()
            return multiple()
        lease = reader.latest() if newest else reader.take()
        if expected is None:
            assert lease is None
            return multiple()
        assert lease is not None
        assert lease.sequence == expected
        self.held.append((memoryview(lease), expected))
        lease.release()  # the memoryview holds it
        return (self.held[-1], model)

    @rule(both=consumes(leases))
    def release(self, both: Any) -> None:
        entry, model = both
        self.held = [each for each in self.held if each is not entry]
        entry[0].release()
        self.model.release(model, entry[1])

    @invariant()
    def nothing_held_has_changed(self) -> None:
        for view, sequence in getattr(self, "held", []):
            assert view == payload(self.model.published[sequence - 1])

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "real"):
            return
        assert self.real.sequence == self.model.newest
        assert self.real.loan_count == self.model.loans
        assert self.real.free_count == self.model.free
        for reader, model in self.everyone:
            assert reader.stats == {
                "taken": model.taken,
                "lost": model.lost,
                "skipped": model.skipped,
                "leases": model.held,
            }

    @invariant()
    def exactly_depth_samples_are_there(self) -> None:
        if not hasattr(self, "real") or self.model.newest == 0:
            return
        with self.real.reader(history=self.model.depth) as late:
            found = []
            while (lease := late.take()) is not None:
                found.append(lease.sequence)
                assert bytes(lease) == payload(self.model.published[lease.sequence - 1])
                del lease
        assert found == list(range(self.model.oldest, self.model.newest + 1))

    def teardown(self) -> None:
        if hasattr(self, "real"):
            for reader, _ in self.everyone:
                reader.close()
            self.real.close()


@pytest.mark.row("PUB-3", "SLOT-1", "SLOT-8", "SUB-1", "SUB-2", "SUB-8", "SUB-10", "SUB-11", "DEF-14")
def test_slots_behave_as_the_model() -> None:
    """Any order of reserve, commit, discard, join, take, latest, release and leave: what is seen is the same."""
    run_state_machine_as_test(
        SlotsAgainstTheModel, settings=settings(deadline=None, max_examples=120, stateful_step_count=60)
    )
