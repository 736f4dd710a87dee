"""Waiting for a condition that a word announces: zeroslot/_core/wait.pxi."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from zeroslot import SlotAllocator
from zeroslot._core.binding import deadline_after, now_ns

NEVER = 2**64 - 1


class Looks:
    """A condition that is true from its look number `last` on; `between` runs at the end of every look."""

    def __init__(self, last: int, between: Callable[[], object] = lambda: None) -> None:
        self.count, self.last, self.between = 0, last, between

    def __call__(self) -> bool:
        self.count += 1
        self.between()
        return self.count >= self.last


@pytest.fixture
def slots() -> Iterator[SlotAllocator]:
    with SlotAllocator.in_memory(4, 64) as made:
        yield made


@pytest.mark.row("NOT-2")
@pytest.mark.parametrize("timeout", [None, 0, -5, 1e300])
def test_a_condition_that_holds_needs_one_look(slots: SlotAllocator, timeout: float | None) -> None:
    """Also with a timeout of 0 and a negative one."""
    look = Looks(1)
    assert slots._wait_for_space(look, timeout)
    assert look.count == 1


@pytest.mark.row("NOT-2", "DEF-13")
def test_a_change_between_the_look_and_the_sleep_ends_the_sleep() -> None:
    """The word is captured before the look. Otherwise each turn here would sleep for a slice of 50 ms, and the watchdog
    would end the test.
    """
    with SlotAllocator.in_memory(4, 64) as slots:
        look = Looks(4000, slots.native.segment.bump_space)
        assert slots._wait_for_space(look, None)
        assert look.count == 4000


@pytest.mark.row("NOT-8")
def test_a_wait_looks_again_although_no_word_has_moved(slots: SlotAllocator) -> None:
    """Sleeps are slices, since a process that dies moves no word."""
    look = Looks(4)
    assert slots._wait_for_space(look, None)
    assert look.count == 4


@pytest.mark.row("NOT-2")
@pytest.mark.parametrize("timeout", [0, -1, -1e300, -(10**400)])
def test_a_past_deadline_gives_one_look_and_no_sleep(slots: SlotAllocator, timeout: float) -> None:
    """False, and not an error."""
    look = Looks(2)
    assert not slots._wait_for_space(look, timeout)
    assert look.count == 1


def test_a_wait_ends_soon_after_its_deadline(slots: SlotAllocator) -> None:
    """With a look after the last sleep, and not before the deadline."""
    began = now_ns()
    look = Looks(10**9)
    assert not slots._wait_for_space(look, 0.12)
    assert now_ns() - began >= 120_000_000
    assert look.count >= 3


def test_an_error_of_the_condition_ends_the_wait(slots: SlotAllocator) -> None:
    """It is the caller's."""

    def fail() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        slots._wait_for_space(Looks(2, fail), None)


@pytest.mark.row("DEF-13")
def test_deadlines_are_clamped() -> None:
    """None, infinity and what no clock reaches: never."""
    for timeout in (None, float("inf"), 1e12, 10**400):
        assert deadline_after(timeout) == NEVER
    assert now_ns() <= deadline_after(0) <= now_ns()
    assert deadline_after(-(10**400)) <= now_ns()
    assert 4 * 10**9 < deadline_after(5) - now_ns() <= 5 * 10**9


@pytest.mark.parametrize("timeout", ["1", b"1", [], {}, object(), 1j])
def test_a_timeout_is_a_number(timeout: object) -> None:
    """Anything else is a TypeError, before anything is waited for."""
    with pytest.raises(TypeError):
        deadline_after(timeout)  # type: ignore[arg-type]  # on purpose


def test_nan_is_no_timeout() -> None:
    """It compares with nothing, so it could wait for ever."""
    with pytest.raises(ValueError, match="NaN"):
        deadline_after(float("nan"))
