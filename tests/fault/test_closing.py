"""Closing and creating, interrupted at every place: a second call, the finalizer or the exit finishes what is left."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import zeroslot as zs
from tests import shared_memory
from tests.fault.interruptions import (
    At,
    Interrupted,
    descriptors_run_out,
    failures,
    forget_handled_error,
    interruptions,
)
from tests.process.actors import Cast
from tests.process.samples import Tick

MAKERS: dict[str, Callable[[Path], Any]] = {
    "Publisher": lambda root: zs.Publisher("t", Tick),
    "Subscriber": lambda root: zs.Subscriber("t", Tick),
    "SlotAllocator": lambda root: zs.SlotAllocator.create(root / "slots.flink", 4, 64),
    "SlotReader": lambda root: zs.SlotReader.attach(root / "other.flink"),
}
NATIVE = [
    "zeroslot.memory.create.Region",
    "zeroslot.memory.attach.Region",
    "zeroslot.memory.bell.Region",
    "zeroslot.memory.objects.reopen",
    "zeroslot.memory.create.reopen",
    "zeroslot.memory.attach.reopen",
    "zeroslot.memory.bell.reopen",
]


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What finalizers raised."""
    found: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: found.append(what.exc_value))
    return found


@dataclass
class Others:
    """A publisher and an allocator to attach to, and what they have in shared memory."""

    root: Path
    pub: zs.Publisher[Tick]
    slots: zs.SlotAllocator
    before: set[Any]

    def are_alone(self, place: object) -> None:
        """No object, no file and no peer is left of a handle that is gone."""
        found = remains(self.root)
        if found != self.before:
            gc.collect()  # what only cycles keep
            found = remains(self.root)
        assert found == self.before, place
        assert self.pub.subscriber_count == 0, place
        assert self.slots.subscriber_indexes() == [], place


@pytest.fixture
def others(zeroslot_dir: Path) -> Iterator[Others]:
    with zs.Publisher("t", Tick) as pub, zs.SlotAllocator.create(zeroslot_dir / "other.flink", 4, 64) as slots:
        yield Others(zeroslot_dir, pub, slots, remains(zeroslot_dir))


def remains(root: Path) -> set[Any]:
    """The objects and files that are there."""
    return {*shared_memory.objects(), *shared_memory.files(root)}


@pytest.mark.parametrize(
    ("at", "by"), [("line", "a second close"), ("opcode", "a second close"), ("line", "the finalizer")]
)
@pytest.mark.parametrize("make", MAKERS)
def test_an_interrupted_close_is_finished_by_a_second_one_or_the_finalizer(
    others: Others, unraisable: list[Any], make: str, at: At, by: str
) -> None:
    """Ctrl-C at each place of `close`: afterwards everything is as before the handle."""
    for place in interruptions(at=at):
        handle = MAKERS[make](others.root)
        with place:
            handle.close()
        assert place.error is None or isinstance(place.error, Interrupted)
        if by == "a second close":
            handle.close()
            assert handle.closed
        else:
            forget_handled_error()
            del handle
        others.are_alone(place)
        assert [len(topic.publishers) for topic in zs.topics()] == [1], place
    assert unraisable == []


@pytest.mark.parametrize("make", MAKERS)
def test_an_interrupted_finalizer_still_closes_the_handle(others: Others, unraisable: list[Any], make: str) -> None:
    """Ctrl-C while an open handle is collected: Python reports it, and nothing is left."""
    for place in interruptions():
        handle = MAKERS[make](others.root)
        with place:
            del handle
        zs.Publisher("u", Tick).close()  # the next to leave the domain
        others.are_alone(place)
    assert {type(error) for error in unraisable} <= {Interrupted}


FAILURES: dict[str, tuple[Callable[[], Iterator[Any]], type[BaseException]]] = {
    "Ctrl-C at a line": (partial(interruptions, at="line"), Interrupted),
    "Ctrl-C at an instruction": (partial(interruptions, at="opcode"), Interrupted),
    "no free descriptor": (descriptors_run_out, OSError),
    "a failed opening": (partial(failures, "os.open", *NATIVE), OSError),
}


@pytest.mark.watchdog(900.0)  # a round for each of the thousands of instructions of a constructor
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("make", MAKERS)
def test_a_failed_constructor_leaves_nothing_and_prints_nothing(
    others: Others, unraisable: list[Any], make: str, failure: str
) -> None:
    """At each place: no object, no file, no peer is left, and no finalizer prints a traceback."""
    rounds, expected = FAILURES[failure]
    for place in rounds():
        handle = None
        with place:
            handle = MAKERS[make](others.root)
        assert place.error is None or isinstance(place.error, expected), (place, place.error)
        if handle is not None:
            handle.close()
        handle = None
        others.are_alone(place)
    assert unraisable == []


@pytest.mark.parametrize("make", MAKERS)
def test_an_interrupted_first_handle_of_a_domain_leaves_no_bell(
    zeroslot_dir: Path, unraisable: list[Any], make: str
) -> None:
    """If the process has no other handle in the domain, its directory and bell are made and removed again."""
    if make == "SlotReader":
        pytest.skip("it uses no domain, and attaches to what is there")
    for place in interruptions():
        handle = None
        with place:
            handle = MAKERS[make](zeroslot_dir)
        if handle is not None:
            handle.close()
        handle = None
        assert list(zeroslot_dir.iterdir()) == [], place
    for place in interruptions():
        handle = MAKERS[make](zeroslot_dir)
        with place:
            handle.close()
        handle.close()
        assert list(zeroslot_dir.iterdir()) == [], place
    assert unraisable == []


def test_a_publisher_whose_close_was_interrupted_publishes_only_while_it_is_open(zeroslot_dir: Path) -> None:
    """At each place: it is closed and refuses, or it is open, listed and publishes."""
    for place in interruptions():
        with zs.Publisher("t", Tick) as pub, zs.Subscriber("t", Tick, reliable=False) as sub:
            with place:
                pub.close()
            if pub.closed:
                with pytest.raises(zs.ClosedError):
                    pub.publish(Tick(number=1))
                assert sub.take() is None
            else:
                assert [len(topic.publishers) for topic in zs.topics()] == [1], place
                pub.publish(Tick(number=1))
                assert sub.take() is not None


@pytest.mark.parametrize("make", MAKERS)
def test_a_signal_handler_may_close_the_handle_that_is_being_closed(others: Others, make: str) -> None:
    """At each place of `close`: both calls return, and the handle is closed once."""
    current: list[Any] = []

    def handler() -> None:
        current[0].close()

    for place in interruptions(handler):
        handle = MAKERS[make](others.root)
        current[:] = [handle]
        with place:
            handle.close()
        assert place.error is None, place
        assert handle.closed
        others.are_alone(place)


def test_an_exit_interrupted_at_any_place_closes_every_handle(cast: Cast, zeroslot_dir: Path) -> None:
    """Ctrl-C at each place of closing at exit: a second call closes the rest."""
    child = cast(
        """
        import os
        import zeroslot as zs
        from zeroslot.endpoints import handle
        from tests.fault.interruptions import interruptions
        from tests.process.samples import Tick

        root = os.environ["ZEROSLOT_DIR"]
        left = []
        for place in interruptions():
            kept = [zs.Publisher("t", Tick), zs.Subscriber("t", Tick)]
            kept.append(zs.SlotAllocator.create(f"{root}/s.flink", 4, 64))
            with place:
                handle._close_all()
            handle._close_all()
            if os.listdir(root) or any(name.startswith("zs-") for name in os.listdir("/dev/shm")):
                left.append(repr(place))
        say([place.k > 100, left])
        """
    )
    assert child.hear() == [True, []]
    child.finish()
    assert os.listdir(zeroslot_dir) == []


def test_the_exit_finishes_a_close_that_was_interrupted_during_it(cast: Cast, zeroslot_dir: Path) -> None:
    """The interruption is raised afterwards."""
    child = cast(
        """
        import zeroslot as zs
        from zeroslot.endpoints import handle, publisher
        from tests.process.samples import Tick

        pub = zs.Publisher("t", Tick)
        original, calls = publisher.Publisher._end, []
        def interrupted(self):
            calls.append(self)
            if len(calls) == 1:
                raise KeyboardInterrupt
            original(self)
        publisher.Publisher._end = interrupted
        try:
            handle._close_all()
        except KeyboardInterrupt:
            say([len(calls), zs.topics() == ()])
        """
    )
    assert child.hear() == [2, True]
    child.finish()
