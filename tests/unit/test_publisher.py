"""The publisher: what it accepts, in which order it publishes, and what it leaves."""

from __future__ import annotations

import copy
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

import zeroslot as zs
from tests import shared_memory
from tests.unit.control_bytes import ControlBytes
from zeroslot import (
    BackpressureError,
    ClosedError,
    DeclarationError,
    NoFreeSlotError,
    Publisher,
    QosMismatchError,
    Sample,
    SlotAllocator,
    Subscriber,
    TopicNameError,
    TypeMismatchError,
    layout_of,
)
from zeroslot.memory import flink
from zeroslot.testing import abandon


class Reading(Sample):
    n: zs.U32 = 0
    values: Annotated[NDArray[np.float64], zs.Shape(2)] = np.zeros(2)
    label: Annotated[str, zs.MaxBytes(8)] = ""


class Other(Sample):
    n: zs.U64 = 0


class Flags(Sample):
    on: zs.Bool
    mode: zs.U8


@pytest.fixture
def pub() -> Iterator[Publisher[Reading]]:
    with Publisher("reading", Reading, depth=2) as made:
        yield made


@pytest.fixture
def sub(pub: Publisher[Reading]) -> Iterator[Subscriber[Reading]]:
    with Subscriber("reading", Reading, max_leases=8) as made:
        yield made


def numbers(sub: Subscriber[Reading]) -> list[int]:
    found = []
    while (lease := sub.take()) is not None:
        found.append(lease.sample.n)
    return found


# --- publish ---


@pytest.mark.row("PUB-1", "SLOT-2")
def test_publish_takes_models_views_records_and_mappings(pub: Publisher[Reading], sub: Subscriber[Reading]) -> None:
    """All arrive equal, with the sequence that was returned."""
    model = Reading(n=7, values=[1, 2], label="ä")
    assert pub.publish(model) == 1
    lease = sub.take()
    assert lease is not None
    record = np.zeros((), layout_of(Reading).dtype)
    record["n"], record["values"], record["label"]["length"] = 7, [1, 2], 2
    record["label"]["data"][:2] = list("ä".encode())
    ways: list[Any] = [lease.sample, lease.copy(), {"n": 7, "values": [1, 2], "label": "ä"}, record, record[()]]
    for sequence, way in enumerate(ways, 2):
        assert pub.publish(way) == sequence == pub.sequence
        got = sub.take()
        assert got is not None
        assert (got.sequence, got.sample) == (sequence, model)


@pytest.mark.row("PUB-1", "TYP-2")
@pytest.mark.parametrize(
    ("sample", "error"),
    [
        (None, TypeError),
        (5, TypeError),
        ("text", TypeError),
        ([], TypeError),
        (Other(), TypeError),
        (Reading, TypeError),
        ({"n": -1}, ValidationError),
        ({"n": "many"}, ValidationError),
        ({"values": [1, 2, 3]}, ValidationError),
        ({"label": "123456789"}, ValidationError),
        (np.zeros((), "f8"), TypeError),
        (np.zeros(3, "u1"), TypeError),
        (object(), TypeError),
        (b"bytes", TypeError),
    ],
)
def test_what_is_no_sample_is_refused_before_a_slot_is_borrowed(
    pub: Publisher[Reading], sub: Subscriber[Reading], sample: Any, error: type
) -> None:
    """Nothing is published, nothing stays loaned."""
    with pytest.raises(error):
        pub.publish(sample)
    assert (pub.sequence, pub.allocator.loan_count, pub.stats.discarded) == (0, 0, 0)
    assert sub.take() is None


class Part(Sample):
    x: zs.U8 = 0


class Whole(Sample):
    n: zs.U8 = 0
    real: zs.F32 = 0.0
    text: Annotated[str, zs.MaxBytes(4)] = ""
    raw: Annotated[bytes, zs.MaxBytes(4)] = b""
    values: Annotated[NDArray[np.float32], zs.Shape(2)] = np.zeros(2, np.float32)
    mode: Literal[1, 2] = 1
    maybe: zs.U8 | None = None
    part: Part = Part()
    parts: Annotated[list[Part], zs.MaxLen(2)] = []  # noqa: RUF012  # pydantic copies it


@pytest.mark.row("PUB-1", "TYP-2")
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"n": 256}, ValueError),
        ({"n": -1}, ValueError),
        ({"n": "1"}, TypeError),
        ({"n": 1.5}, TypeError),
        ({"real": 1e39}, ValueError),
        ({"real": None}, TypeError),
        ({"text": "12345"}, ValueError),
        ({"text": b"1"}, TypeError),
        ({"text": "\ud800"}, ValueError),
        ({"raw": "1"}, TypeError),
        ({"raw": b"12345"}, ValueError),
        ({"values": [1, 2, 3]}, ValueError),
        ({"values": ["a", "b"]}, ValueError),
        ({"values": np.zeros(3)}, ValueError),
        ({"mode": 3}, ValueError),
        ({"maybe": 256}, ValueError),
        ({"part": 5}, TypeError),
        ({"part": "x"}, TypeError),
        ({"part": object()}, TypeError),
        ({"part": None}, TypeError),
        ({"part": Part.model_construct(x=256)}, ValueError),
        ({"parts": [Part(), 5]}, TypeError),
        ({"parts": [Part()] * 3}, ValueError),
        ({"parts": [Part.model_construct(x=256)]}, ValueError),
        ({"parts": "ab"}, TypeError),
    ],
)
def test_a_model_that_memory_cannot_hold_is_refused(changes: dict[str, Any], error: type) -> None:
    """Kind, range and bounds of a model that was changed past its validation: the error names the field, nothing is
    published, nothing stays loaned.
    """
    with Publisher("whole", Whole) as pub, Subscriber("whole", Whole) as sub:
        with pytest.raises(error, match=next(iter(changes))) as caught:
            pub.publish(Whole().model_copy(update=changes))
        assert not isinstance(caught.value, ValidationError)
        assert (pub.sequence, pub.allocator.loan_count) == (0, 0)
        assert sub.take() is None
        assert pub.publish(Whole()) == 1


def test_a_model_without_one_of_its_fields_is_refused() -> None:
    """`model_construct` makes such ones."""
    incomplete = Reading.model_construct()
    del incomplete.__dict__["n"]
    with Publisher("reading", Reading) as pub, pytest.raises(ValueError, match="n is missing"):
        pub.publish(incomplete)


@pytest.mark.row("PUB-1")
def test_a_converting_validator_is_applied_once() -> None:
    """At the construction, and not again when the model is published, copied, or put into another one as a view."""

    class Doubled(Sample):
        n: Annotated[zs.U32, AfterValidator(lambda value: 2 * value)]
        _secret: int = PrivateAttr(7)

        def model_post_init(self, context: Any, /) -> None:
            self._secret = 8

    class Holder(Sample):
        one: Doubled
        more: Annotated[list[Doubled], zs.MaxLen(2)]

    with Publisher("holder", Holder) as pub, Subscriber("holder", Holder, max_leases=8) as sub:
        holder = Holder(one=Doubled(n=1), more=[Doubled(n=2)])
        assert (holder.one.n, holder.more[0].n) == (2, 4)
        pub.publish(holder)
        lease = sub.take()
        assert lease is not None
        assert lease.copy() == holder
        assert lease.copy().one._secret == 8
        assert Holder(one=lease.sample.one, more=[*lease.sample.more]) == holder
        pub.publish(lease.sample)
        again = sub.take()
        assert again is not None
        assert again.sample == holder
        pub.publish({"one": {"n": 1}, "more": []})  # a mapping is validated as the constructor's keywords are
        mapped = sub.take()
        assert mapped is not None
        assert mapped.sample.one.n == 2


def test_post_init_does_not_change_what_was_published() -> None:
    """A copy has the private attributes that it makes, and the fields of the sample."""

    class Counted(Sample):
        n: zs.U32
        _double: int = PrivateAttr(0)

        def model_post_init(self, context: Any, /) -> None:
            self.n += 1
            self._double = 2 * self.n

    with Publisher("counted", Counted) as pub, Subscriber("counted", Counted) as sub:
        pub.publish(Counted(n=1))
        lease = sub.take()
        assert lease is not None
        copied = lease.copy()
        assert (lease.sample.n, copied.n, copied.model_fields_set) == (2, 2, {"n"})
        assert copied._double == 6


@pytest.mark.row("PUB-1")
def test_aliases_do_not_matter_to_a_model_and_do_to_a_mapping() -> None:
    """An alias that is another field's name exchanges nothing."""

    class Crossed(Sample):
        model_config = ConfigDict(validate_by_name=False)
        a: zs.U8 = Field(0, alias="b")
        b: zs.U8 = Field(0, alias="a")

    with Publisher("crossed", Crossed) as pub, Subscriber("crossed", Crossed, max_leases=8) as sub:
        model = Crossed(a=1, b=2)
        assert (model.a, model.b) == (2, 1)
        pub.publish(model)
        pub.publish({"a": 1, "b": 2})
        for _ in range(2):
            lease = sub.take()
            assert lease is not None
            assert (lease.sample.a, lease.sample.b) == (2, 1)
            for copied in (lease.copy(), copy.deepcopy(lease.sample), Crossed.model_validate(lease.sample)):
                assert copied == model
            assert lease.sample.model_dump() == {"a": 2, "b": 1}
            assert lease.sample.model_dump(by_alias=True) == {"b": 2, "a": 1}


def test_a_model_of_a_derived_class_gives_the_fields_of_the_declared_one() -> None:
    """At the top, nested and in lists; what it has beyond them stays behind."""

    class Longer(Part):
        y: zs.U8 = 5

    with Publisher("part", Part) as pub, Subscriber("part", Part) as sub:
        pub.publish(Longer(x=3))
        lease = sub.take()
        assert lease is not None
        assert lease.sample == Part(x=3)
    with Publisher("whole", Whole) as whole, Subscriber("whole", Whole, max_leases=4) as sub:
        whole.publish(Whole(part=Longer(x=3), parts=[Longer(x=4)]))
        taken = sub.take()
        assert taken is not None
        assert (taken.sample.part, taken.sample.parts) == (Part(x=3), [Part(x=4)])


def test_a_view_of_another_class_is_copied_by_the_names_of_its_fields() -> None:
    """Such as one of a subscriber that has only the schema. A field that it lacks is an error."""
    with Publisher("whole", Whole) as pub, Subscriber("whole", max_leases=8) as sub, Publisher("part", Part) as other:
        pub.publish(Whole(n=5, part=Part(x=7), parts=[Part(x=8)]))
        lease = sub.take()
        assert lease is not None
        pub.publish(lease.sample)
        again = sub.take()
        assert again is not None
        assert again.sample == lease.sample
        with pytest.raises(ValueError, match="x is missing"):
            other.publish(lease.sample)  # type: ignore[arg-type]  # a view of another class


def test_a_cached_property_is_no_field() -> None:
    """pydantic keeps its value beside the fields."""

    class Cached(Sample):
        model_config = ConfigDict(extra="forbid")
        n: zs.U8

        @cached_property
        def double(self) -> int:
            return 2 * self.n

    model = Cached(n=2)
    assert model.double == 4
    assert model == Cached(n=2)
    with Publisher("cached", Cached) as pub, Subscriber("cached", Cached) as sub:
        pub.publish(model)
        lease = sub.take()
        assert lease is not None
        assert lease.sample == model
        assert lease.copy() == model


def test_a_record_with_invalid_bytes_is_refused() -> None:
    """Its dtype is right and its lengths are not: what is published can be read."""
    with Publisher("reading", Reading) as pub:
        record = np.zeros((), layout_of(Reading).dtype)
        record["label"]["length"] = 9
        with pytest.raises(ValueError, match="record"):
            pub.publish(record)
        assert (pub.sequence, pub.allocator.loan_count) == (0, 0)


@pytest.mark.row("PUB-4")
def test_publish_with_timeout_0_raises_at_once(pub: Publisher[Reading]) -> None:
    """With every loan out; the error says what is out; nothing waits."""
    loans = [pub.loan(), pub.loan()]
    for timeout in ({}, {"timeout": 0}, {"timeout": -1}, {"timeout": 1e-9}):
        with pytest.raises(NoFreeSlotError, match=r"max_loans.* 2"):
            pub.publish(Reading(), **timeout)
    loans.pop().discard()
    assert pub.publish(Reading()) == 1


@pytest.mark.row("SLOT-17")
@pytest.mark.parametrize("timeout", ["1", object(), [], float("nan")])
def test_invalid_timeouts_are_refused(pub: Publisher[Reading], timeout: Any) -> None:
    """When there is something to wait for; nothing is loaned then."""
    held = [pub.loan(), pub.loan()]
    for use in (pub.loan, pub.loan_uninit, lambda timeout: pub.publish(Reading(), timeout)):
        with pytest.raises((TypeError, ValueError)):
            use(timeout)
    assert pub.allocator.loan_count == 2
    del held


@pytest.mark.row("PUB-3", "SUB-11")
def test_every_subscriber_can_take_the_newest_depth_samples(pub: Publisher[Reading], sub: Subscriber[Reading]) -> None:
    """Exactly those; a subscriber that does not take loses the oldest, and knows how many."""
    for n in range(10):
        pub.publish(Reading(n=n))
    with Subscriber("reading", Reading, history=2) as late:
        assert numbers(late) == [8, 9]
        assert late.lost == 0
    assert numbers(sub) == [8, 9]
    assert (sub.lost, sub.stats.taken) == (8, 2)


@pytest.mark.row("PUB-3")
def test_loans_that_are_out_do_not_cost_depth(pub: Publisher[Reading]) -> None:
    """depth stays exact while every loan is out and every spare slot is held."""
    with Subscriber("reading", Reading, max_leases=40, history=2) as sub:
        held = []
        for n in range(32):
            pub.publish(Reading(n=n))
            held.append(sub.take())
        loans = [pub.loan(), pub.loan()]
        with Subscriber("reading", Reading, history=2) as late:
            assert numbers(late) == [30, 31]
        assert [lease.sample.n for lease in held] == list(range(32))  # type: ignore[union-attr]  # all were there
        del loans


# --- reliable subscribers ---


@pytest.mark.row("PUB-2", "PUB-4")
def test_on_full_raise_raises_at_once() -> None:
    """BackpressureError names the subscriber that is behind; after a take the next goes through."""
    with Publisher("r", Reading, depth=2, on_full="raise") as pub:
        with Subscriber("r", Reading, reliable=True, name="slowpoke") as sub:
            pub.publish(Reading(n=1))
            pub.publish(Reading(n=2))
            with pytest.raises(BackpressureError, match="slowpoke") as caught:
                pub.publish(Reading(n=3))
            assert isinstance(caught.value, TimeoutError)
            assert caught.value.holders[0].behind == 2
            lease = sub.take()
            pub.publish(Reading(n=3))
            assert numbers(sub) == [2, 3]
            assert sub.lost == 0
            del lease
        for n in range(9):
            pub.publish(Reading(n=n))


def test_a_take_while_the_error_is_made_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The subscriber in the way may go on at any time; then the sample is published."""
    make_error = SlotAllocator._no_slot_error
    with (
        Publisher("r", Reading, depth=2, on_full="raise") as pub,
        Subscriber("r", Reading, reliable=True) as sub,
    ):

        def make_error_late(allocator: SlotAllocator, *arguments: Any) -> Exception:
            sub.take()
            return make_error(allocator, *arguments)

        monkeypatch.setattr(SlotAllocator, "_no_slot_error", make_error_late)
        assert [pub.publish(Reading(n=n)) for n in range(1, 5)] == [1, 2, 3, 4]
        assert pub.stats.no_free_slot == 0


@pytest.mark.row("PUB-2", "PUB-6", "NOT-4")
def test_on_full_block_waits_for_a_take() -> None:
    """The publisher sleeps until the subscriber has taken; nothing is lost, and the order is kept."""
    with (
        Publisher("r", Reading, depth=2, on_full="block") as pub,
        Subscriber("r", Reading, reliable=True, max_leases=2) as sub,
    ):
        done: list[int] = []

        def work() -> None:
            done.extend(pub.publish(Reading(n=n)) for n in range(50))

        thread = threading.Thread(target=work)
        thread.start()
        control = ControlBytes(pub.flink)
        control.wait_until_blocked()
        found = []
        while len(found) < 50:
            lease = sub.take(timeout=None)
            assert lease is not None
            found.append(lease.sample.n)
        thread.join()
        assert found == list(range(50))
        assert done == list(range(1, 51))
        assert sub.lost == 0
        assert pub.stats.blocked >= 1
        assert pub.flush(0)


@pytest.mark.row("PUB-2", "NOT-4", "PEER-13")
def test_a_blocked_publisher_goes_on_when_the_subscriber_leaves() -> None:
    """Leaving is as good as taking."""
    with Publisher("r", Reading, depth=2, on_full="block") as pub:
        sub = Subscriber("r", Reading, reliable=True)
        thread = threading.Thread(target=lambda: [pub.publish(Reading()) for _ in range(3)])
        thread.start()
        ControlBytes(pub.flink).wait_until_blocked()
        sub.close()
        thread.join()
        assert pub.sequence == 3


@pytest.mark.row("PUB-2")
@pytest.mark.parametrize("on_full", ["block", "raise"])
def test_unreliable_subscribers_block_no_publisher(on_full: Any) -> None:
    """Whatever the policy."""
    with Publisher("r", Reading, depth=2, on_full=on_full) as pub, Subscriber("r", Reading) as sub:
        for n in range(9):
            pub.publish(Reading(n=n))
        assert numbers(sub) == [7, 8]


@pytest.mark.row("PUB-2")
def test_an_evicting_publisher_serves_no_reliable_subscriber(pub: Publisher[Reading]) -> None:
    """QosMismatchError where it subscribes, with both sides' settings."""
    with pytest.raises(QosMismatchError, match="on_full") as caught:
        Subscriber("reading", Reading, reliable=True)
    assert caught.value.setting == "reliable"
    assert pub.subscriber_count == 0


@pytest.mark.row("SUB-19")
def test_flush_waits_for_reliable_subscribers_only() -> None:
    """False in time while one is behind, True when it has taken all, True without subscribers."""
    with Publisher("r", Reading, depth=4, on_full="block") as pub, Subscriber("r", Reading):
        pub.publish(Reading())
        assert pub.flush(0)
        with Subscriber("r", Reading, reliable=True) as sub:
            pub.publish(Reading())
            for timeout in (0, -1, 1e-6):
                assert not pub.flush(timeout)
            assert sub.take() is not None
            assert pub.flush(None)


def test_ctrl_c_ends_a_blocked_publish() -> None:
    """The signal is noticed while it waits; no loan stays out."""
    with Publisher("r", Reading, depth=2, on_full="block") as pub, Subscriber("r", Reading, reliable=True):
        pub.publish(Reading())
        pub.publish(Reading())
        control = ControlBytes(pub.flink)

        def interrupt() -> None:
            control.wait_until_blocked()
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            pub.publish(Reading())
        thread.join()
        assert pub.allocator.loan_count == 0
        assert control.read(control.at("waiting"), "I") == 0


# --- subscribers that are attached ---


@pytest.mark.row("NOT-12", "PEER-4")
def test_wait_for_subscribers_counts_live_subscribers(pub: Publisher[Reading]) -> None:
    """True at once when they are there, False in time; a join wakes it."""
    assert pub.subscriber_count == 0
    assert pub.wait_for_subscribers(0, 0)
    for timeout in (0, -1, 1e-6):
        assert not pub.wait_for_subscribers(1, timeout)
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(pub.wait_for_subscribers(2)))
    thread.start()
    with Subscriber("reading", Reading), Subscriber("reading", Reading):
        thread.join()
        assert results == [True]
        assert pub.subscriber_count == 2
    assert pub.subscriber_count == 0


@pytest.mark.row("NEW-10")
def test_publish_wakes_no_subscriber_that_is_awake() -> None:
    """With 32 of them no wake is made, and none of their counters moves the publisher's words."""
    with Publisher("reading", Reading) as pub:
        subs = [Subscriber("reading", Reading) for _ in range(32)]
        for n in range(100):
            pub.publish(Reading(n=n))
        assert (pub.stats.wakes, pub.stats.blocked, pub.stats.no_free_slot) == (0, 0, 0)
        assert all(numbers(sub) == list(range(92, 100)) and sub.lost == 92 for sub in subs)
        for sub in subs:
            sub.close()


@pytest.mark.row("SLOT-18", "OBS-1")
def test_stats_are_exact(pub: Publisher[Reading]) -> None:
    """Published, bytes, discarded."""
    for n in range(5):
        pub.publish(Reading(n=n))
    pub.loan().discard()
    stats = pub.stats
    assert (stats.published, stats.bytes, stats.discarded) == (5, 5 * layout_of(Reading).size, 1)


# --- making and ending one ---


@pytest.mark.row("DIS-1", "SEC-1", "SEC-2")
def test_a_publisher_is_found_by_a_flink_of_its_own(pub: Publisher[Reading], zeroslot_dir: Path) -> None:
    """Its content is the control object's name and nothing else; all of it is the user's alone."""
    assert pub.flink.parent == zeroslot_dir / "default" / "reading"
    content = pub.flink.read_bytes()
    assert content == b"/zs-" + pub.publisher_id.encode()
    for each in (pub.flink, ControlBytes(pub.flink).path, ControlBytes(pub.flink, pool=0).path):
        assert each.stat().st_mode & 0o777 == 0o600
        assert each.stat().st_uid == os.getuid()
    for directory in (pub.flink.parent, pub.flink.parent.parent):
        assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.row("SEG-11", "DIS-1")
def test_close_removes_flink_objects_and_directories(zeroslot_dir: Path) -> None:
    """And a second one of the topic keeps its own."""
    one, two = Publisher("a/b/c", Reading), Publisher("a/b/c", Reading)
    objects = [ControlBytes(each.flink).path for each in (one, two)]
    one.close()
    assert [each.exists() for each in objects] == [False, True]
    assert two.flink.exists()
    two.close()
    assert not objects[1].exists()
    assert list(zeroslot_dir.iterdir()) == []


@pytest.mark.row("SEG-13")
def test_the_next_publisher_removes_what_a_dead_one_left() -> None:
    """Of the same topic."""
    dead = Publisher("reading", Reading)
    path, control = dead.flink, ControlBytes(dead.flink).path
    abandon(dead)
    assert path.exists()
    with Publisher("reading", Reading):
        assert not path.exists()
        assert not control.exists()


@pytest.mark.row("TYP-4", "TYP-6", "NEW-3")
def test_a_live_publisher_of_another_type_is_a_mismatch(pub: Publisher[Reading]) -> None:
    """TypeMismatchError with the difference; a dead one is not."""
    with pytest.raises(TypeMismatchError, match="values") as caught:
        Publisher("reading", Other)
    assert caught.value.topic == "reading"
    abandon(pub)
    with Publisher("reading", Other):
        pass


@pytest.fixture
def before_the_flink(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Runs an action once, in the next creation, right before its flink appears."""
    real = flink.publish_flink

    def arrange(action: Callable[[], object]) -> None:
        def interleaved(*arguments: Any, **named: Any) -> None:
            monkeypatch.setattr(flink, "publish_flink", real)
            action()
            real(*arguments, **named)

        monkeypatch.setattr(flink, "publish_flink", interleaved)

    return arrange


@pytest.mark.row("TYP-4", "NEW-3")
def test_of_two_types_that_start_at_the_same_moment_one_withdraws(
    before_the_flink: Callable[[Callable[[], object]], None], zeroslot_dir: Path
) -> None:
    """The later flink is withdrawn, with the same error as one that came later; nothing of it is left."""
    with ExitStack() as stack:
        first: list[Publisher[Other]] = []
        before_the_flink(lambda: first.append(stack.enter_context(Publisher("reading", Other))))
        objects = shared_memory.objects()
        with pytest.raises(TypeMismatchError, match="values"):
            Publisher("reading", Reading)
        assert list(zeroslot_dir.rglob("*.flink")) == [first[0].flink]
        assert len(shared_memory.objects() - objects) == 2
        first[0].publish({"n": 1})
        with Subscriber("reading", Other, history=1) as sub:
            assert sub.take() is not None


def test_of_two_types_whose_flinks_appear_at_the_same_moment_not_both_succeed(
    monkeypatch: pytest.MonkeyPatch, zeroslot_dir: Path
) -> None:
    """Both have looked before either flink appeared, and both look after both did: both withdraw."""
    linked = threading.Barrier(2)
    looked = threading.Barrier(2)
    real_link, real_look = flink.publish_flink, Publisher._refuse_other_types

    def link(*arguments: Any, **named: Any) -> None:
        linked.wait()
        real_link(*arguments, **named)
        linked.wait()

    def look(self: Publisher[Any], *arguments: Any, **named: Any) -> None:
        try:
            real_look(self, *arguments, **named)
        finally:
            looked.wait()

    monkeypatch.setattr(flink, "publish_flink", link)
    monkeypatch.setattr(Publisher, "_refuse_other_types", look)
    refused: list[Exception] = []

    def start(kind: type[Sample]) -> None:
        try:
            Publisher("reading", kind)
        except TypeMismatchError as error:
            refused.append(error)

    threads = [threading.Thread(target=start, args=(kind,)) for kind in (Reading, Other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 2
    assert list(zeroslot_dir.iterdir()) == []


def test_of_one_type_both_that_start_at_the_same_moment_succeed(
    before_the_flink: Callable[[Callable[[], object]], None],
) -> None:
    """Their second look finds nothing to refuse."""
    with ExitStack() as stack:
        before_the_flink(lambda: stack.enter_context(Publisher("reading", Reading)))
        with Publisher("reading", Reading), Subscriber("reading", Reading) as sub:
            assert len(sub.publishers) == 2


def test_a_flink_of_bytes_is_another_type(zeroslot_dir: Path) -> None:
    """An untyped segment under the topic's directory."""
    place = zeroslot_dir / "default" / "reading"
    place.mkdir(parents=True, mode=0o700)
    os.chmod(place.parent, 0o700)
    with SlotAllocator.create(place / "0123456789abcdef.flink", 4, 64):
        with pytest.raises(TypeMismatchError, match="bytes"):
            Publisher("reading", Reading)
        with pytest.raises(TypeMismatchError, match="SlotReader"):
            Subscriber("reading", Reading)


@pytest.mark.row("TYP-2")
@pytest.mark.parametrize("kind", [None, 5, "Reading", int, str, BaseModel, object, Reading(), Sample.__class__])
def test_what_is_no_sample_type_is_a_declaration_error(kind: Any) -> None:
    """For both ends; nothing is created."""
    with pytest.raises(DeclarationError):
        Publisher("t", kind)
    if kind is not None:
        with pytest.raises(DeclarationError):
            Subscriber("t", kind)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"depth": 0}, ValueError),
        ({"depth": "8"}, TypeError),
        ({"max_loans": 0}, ValueError),
        ({"spare_slots": -1}, ValueError),
        ({"spare_slots": 2.0}, TypeError),
        ({"max_subscribers": 1025}, ValueError),
        ({"on_full": "wait"}, ValueError),
        ({"mode": 0o666}, ValueError),
        ({"mode": "600"}, TypeError),
        ({"domain": "a/b"}, TopicNameError),
        ({"domain": 5}, TopicNameError),
        ({"name": 5}, TypeError),
        ({"unknown": 1}, TypeError),
        ({"depth": 1, "max_loans": 2, "on_full": "block"}, ValueError),
    ],
)
def test_wrong_options_are_errors_and_leave_nothing(zeroslot_dir: Path, options: dict[str, Any], error: type) -> None:
    """Not even a directory."""
    with pytest.raises(error):
        Publisher("t", Reading, **options)
    gc.collect()
    assert list(zeroslot_dir.iterdir()) == []


def test_after_close_everything_raises(pub: Publisher[Reading]) -> None:
    """ClosedError; a loan that is out can be dropped and not committed; views stay readable."""
    loan = pub.loan()
    loan.sample.n = 5
    view = loan.sample
    pub.close()
    pub.close()
    assert pub.closed
    for use in (pub.loan, pub.loan_uninit, lambda: pub.publish(Reading()), loan.commit):
        with pytest.raises(ClosedError):
            use()
    for question in (lambda: pub.subscriber_count, lambda: pub.wait_for_subscribers(1, 0), lambda: pub.flush(0)):
        with pytest.raises(ClosedError):
            question()
    assert view.n == 5
    assert "closed" in repr(pub)
    loan.discard()


def test_a_commit_after_the_close_raises_closed(pub: Publisher[Reading]) -> None:
    """The block ends with ClosedError, and the exit of the publisher is quiet."""

    def closes() -> None:
        with pub.loan():
            pub.close()

    with pytest.raises(ClosedError):
        closes()


@pytest.mark.row("SEG-11")
def test_a_publisher_in_a_cycle_is_closed_by_the_collector(zeroslot_dir: Path) -> None:
    """Also in the middle of making another one, whose own lock it must not wait for."""

    class Node:
        me: Any
        pub: Any

    node = Node()
    node.me, node.pub = node, Publisher("lost", Reading)
    path = node.pub.flink
    del node
    real = flink.open_directory

    def collecting(directory: Path) -> Any:
        gc.collect()
        return real(directory)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zeroslot.memory.flink.open_directory", collecting)
        with Publisher("other", Reading, domain="elsewhere"):
            assert not path.exists()


def test_a_half_constructed_publisher_raises() -> None:
    """`__new__` alone: every use raises but `close`, which has nothing to do."""
    empty = Publisher.__new__(Publisher)
    for name in ("sequence", "subscriber_count", "stats", "flink", "slot_count", "depth", "closed"):
        with pytest.raises((AttributeError, ClosedError)):
            getattr(empty, name)
    for use in (empty.loan, empty.loan_uninit, lambda: empty.publish({}), lambda: empty.flush(0)):
        with pytest.raises((AttributeError, ClosedError)):
            use()
    empty.close()


def test_more_leases_than_spare_slots_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """With the numbers, at the join that crosses the line; up to it loan cannot fail because of readers."""
    with Publisher("w", Reading, depth=2, max_loans=1, spare_slots=4) as pub:
        with caplog.at_level(logging.WARNING, "zeroslot"):
            with Subscriber("w", Reading, max_leases=4) as sub:
                assert caplog.records == []
                held = [(pub.loan_uninit().commit(), sub.take() if n < 4 else None) for n in range(20)]
                with Subscriber("w", Reading, max_leases=1):
                    assert "5" in caplog.text
                    assert "spare_slots" in caplog.text
                del held


@pytest.mark.row("SLOT-10", "SUB-2")
def test_threads_share_a_publisher(pub: Publisher[Reading], sub: Subscriber[Reading]) -> None:
    """Sequences are given once each, samples are whole."""
    gate = threading.Barrier(3)
    sequences: list[int] = []
    stop = threading.Event()
    torn: list[Any] = []

    def write(n: int) -> None:
        gate.wait()
        made = (Reading(n=n * 1000 + i, values=np.full(2, n * 1000.0 + i)) for i in range(300))
        sequences.extend(pub.publish(reading, timeout=None) for reading in made)

    def read() -> None:
        gate.wait()
        while not stop.is_set() or sub.wait(0):
            lease = sub.take()
            if lease is not None and lease.sample.values.tolist() != [float(lease.sample.n)] * 2:
                torn.append(lease.copy())

    writers = [threading.Thread(target=write, args=(n,)) for n in range(2)]
    reader = threading.Thread(target=read)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    assert sorted(sequences) == list(range(1, 601))
    assert torn == []
    assert sub.stats.taken + sub.lost == 600
