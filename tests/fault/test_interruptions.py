"""The injector itself: it reaches every place, once each, and ends."""

from __future__ import annotations

import errno
import threading
from typing import Any

import pytest

import zeroslot as zs
from tests.fault.interruptions import PACKAGE, Interrupted, descriptors_run_out, failures, interruptions
from tests.process.samples import Tick


@pytest.mark.parametrize("at", ["line", "opcode"])
def test_every_place_is_interrupted_once(at):
    """Places are numbered from 1, each is another one of the operation, and the last round has none."""
    with zs.Publisher("t", Tick) as pub:
        places = []
        for place in interruptions(at=at):
            with place:
                pub.subscriber_count  # noqa: B018 (what it runs is looked at)
            places.append(place)
    assert [place.k for place in places] == list(range(1, len(places) + 1))
    assert [place.injected for place in places] == [True] * (len(places) - 1) + [False]
    assert all(isinstance(place.error, Interrupted) for place in places[:-1])
    assert places[-1].error is None
    assert places[0].where.startswith("endpoints/publisher.py:")
    assert any(place.where.startswith("memory/liveness.py:") for place in places)


def test_a_handler_that_returns_changes_nothing_else():
    """A handler may use the handle that it interrupts; only what it does itself has an effect."""
    called = []
    with zs.Publisher("t", Tick) as pub:
        for place in interruptions(lambda: called.append(pub.subscriber_count)):
            with place:
                assert pub.subscriber_count == 0
            assert place.error is None
    assert called
    assert not any(called)


def test_each_call_of_a_function_fails_once():
    """The k-th call raises instead of running; functions that the operation does not call give one round."""
    places = list(_tried(failures("os.listdir")))
    assert [place.injected for place in places] == [True] * (len(places) - 1) + [False]
    # A publisher that cannot list the bells rings its own and goes on.
    assert {place.error.errno for place in places if place.error is not None} == {errno.EMFILE}
    assert len(list(_tried(failures("os.symlink")))) == 1


def test_descriptors_run_out_until_there_are_enough():
    """From none on, one more in each round: EMFILE until the operation has what it needs."""
    places = list(_tried(descriptors_run_out()))
    assert [place.error.errno for place in places[:-1]] == [errno.EMFILE] * (len(places) - 1)
    assert len(places) > 1


def _tried(rounds):
    for place in rounds:
        with place:
            zs.Publisher("t", Tick).close()
        yield place


def test_an_error_of_a_round_without_an_injection_is_raised():
    """What the operation raises by itself is no result of an injection."""
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 (the loop is the operation)
        for place in failures("os.symlink"):
            with place:
                raise ZeroDivisionError


def test_no_injection_comes_between_a_lock_and_its_block():
    """Where the interpreter looks at no signals, nothing is injected: a lock is never left locked by a round."""
    lock = threading.Lock()
    source = "def locked(lock):\n    with lock:\n        x = 1\n    return x\n"
    namespace: dict[str, Any] = {}
    exec(compile(source, f"{PACKAGE}made.py", "exec"), namespace)  # as if it were a function of the package
    for at in ("line", "opcode"):
        places = 0
        for place in interruptions(at=at):
            with place:
                namespace["locked"](lock)
            assert not lock.locked(), place
            places += 1
        assert places > 2
