"""Closing and creating that are interrupted, at every place: a second call, a finalizer or the exit ends them whole."""

from __future__ import annotations

import gc
import itertools
import os
import sys
from collections.abc import Callable, Iterator
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


@pytest.fixture
def others(zeroslot_dir: Path) -> Iterator[tuple[zs.Publisher[Tick], zs.SlotAllocator]]:
    """A publisher and an allocator to attach to."""
    with zs.Publisher("t", Tick) as pub, zs.SlotAllocator.create(zeroslot_dir / "other.flink", 4, 64) as slots:
        yield pub, slots


def remains(root: Path, before: set[Any] | None = None) -> set[Any]:
    """Objects and files that are there. Where there are others than before, what only cycles keep goes first."""
    found: set[Any] = {*shared_memory.objects(), *shared_memory.files(root)}
    if before is not None and found != before:
        gc.collect()
        return remains(root)
    return found


@pytest.mark.parametrize("at", ["line", "opcode"])
@pytest.mark.parametrize("make", MAKERS)
def test_an_interrupted_close_is_finished_by_the_next(
    zeroslot_dir: Path, others: tuple[zs.Publisher[Tick], zs.SlotAllocator], make: str, at: At
) -> None:
    """Ctrl-C at each place of `close`: the second call leaves what there was before the handle, and no peer."""
    before = remains(zeroslot_dir)
    for place in interruptions(at=at):
        handle = MAKERS[make](zeroslot_dir)
        with place:
            handle.close()
        assert place.error is None or isinstance(place.error, Interrupted)
        handle.close()
        assert handle.closed
        assert remains(zeroslot_dir, before) == before, place
        assert others[0].subscriber_count == 0, place
        assert others[1].subscriber_indexes() == [], place
        assert [len(topic.publishers) for topic in zs.topics()] == [1], place


@pytest.mark.parametrize("make", MAKERS)
def test_an_interrupted_close_is_finished_by_the_finalizer(
    zeroslot_dir: Path, others: tuple[zs.Publisher[Tick], zs.SlotAllocator], unraisable: list[Any], make: str
) -> None:
    """As above, without a second call: the handle is collected."""
    before = remains(zeroslot_dir)
    for place in interruptions():
        handle = MAKERS[make](zeroslot_dir)
        with place:
            handle.close()
        forget_handled_error()
        del handle
        assert remains(zeroslot_dir, before) == before, place
        assert others[0].subscriber_count == 0, place
        assert others[1].subscriber_indexes() == [], place
    assert unraisable == []


@pytest.mark.parametrize("make", MAKERS)
def test_an_interrupted_finalizer_still_closes_the_handle(
    zeroslot_dir: Path, others: tuple[zs.Publisher[Tick], zs.SlotAllocator], unraisable: list[Any], make: str
) -> None:
    """Ctrl-C while an open handle is collected: Python reports it, and nothing is left."""
    before = remains(zeroslot_dir)
    for place in interruptions():
        handle = MAKERS[make](zeroslot_dir)
        with place:
            del handle
        zs.Publisher("u", Tick).close()  # the next to leave the domain
        assert remains(zeroslot_dir, before) == before, place
        assert others[0].subscriber_count == 0, place
    assert {type(error) for error in unraisable} <= {Interrupted}


@pytest.mark.parametrize("at", ["line", "opcode"])
@pytest.mark.parametrize("make", MAKERS)
def test_an_interrupted_constructor_leaves_nothing_and_prints_nothing(
    zeroslot_dir: Path,
    others: tuple[zs.Publisher[Tick], zs.SlotAllocator],
    unraisable: list[Any],
    make: str,
    at: At,
) -> None:
    """Ctrl-C at each place: no object, no file, no peer is left, and no finalizer prints a traceback."""
    before = remains(zeroslot_dir)
    for place in interruptions(at=at):
        handle = None
        with place:
            handle = MAKERS[make](zeroslot_dir)
        assert place.error is None or isinstance(place.error, Interrupted)
        if handle is not None:
            handle.close()
        handle = None
        assert remains(zeroslot_dir, before) == before, place
        assert others[0].subscriber_count == 0, place
        assert others[1].subscriber_indexes() == [], place
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


@pytest.mark.parametrize("make", MAKERS)
def test_a_constructor_that_runs_out_of_descriptors_leaves_nothing(
    zeroslot_dir: Path, others: tuple[zs.Publisher[Tick], zs.SlotAllocator], unraisable: list[Any], make: str
) -> None:
    """EMFILE at each opening: an OSError, and nothing left."""
    before = remains(zeroslot_dir)
    for place in itertools.chain(descriptors_run_out(), failures("os.open", *NATIVE)):
        handle = None
        with place:
            handle = MAKERS[make](zeroslot_dir)
        assert place.error is None or isinstance(place.error, OSError), (place, place.error)
        if handle is not None:
            handle.close()
        handle = None
        assert remains(zeroslot_dir, before) == before, place
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
def test_a_signal_handler_may_close_the_handle_that_is_being_closed(
    zeroslot_dir: Path, others: tuple[zs.Publisher[Tick], zs.SlotAllocator], make: str
) -> None:
    """At each place of `close`: both calls return, and the handle is closed once."""
    before = remains(zeroslot_dir)
    current: list[Any] = []

    def handler() -> None:
        current[0].close()

    for place in interruptions(handler):
        handle = MAKERS[make](zeroslot_dir)
        current[:] = [handle]
        with place:
            handle.close()
        assert place.error is None, place
        assert handle.closed
        assert remains(zeroslot_dir, before) == before, place
        assert others[0].subscriber_count == 0, place


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
