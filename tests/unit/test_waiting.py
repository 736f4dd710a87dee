"""Waiting for a condition that a word announces."""

from __future__ import annotations

import pytest

from zeroslot._core.binding import deadline_after, now_ns
from zeroslot.endpoints.waiting import wait_until

NEVER = 2**64 - 1


class Announced:
    """A condition that comes true when the word has reached `at`; sleeping moves the word."""

    def __init__(self, at: int) -> None:
        self.word, self.at = 0, at
        self.slept: list[tuple[int, int]] = []

    def condition(self) -> bool:
        return self.word >= self.at

    def capture(self) -> int:
        return self.word

    def sleep(self, seen: int, deadline_ns: int) -> None:
        self.slept.append((seen, deadline_ns))
        self.word += 1


@pytest.mark.row("NOT-2")
def test_a_condition_that_holds_is_seen_without_sleeping() -> None:
    """Also with a timeout of 0 and a negative one."""
    for timeout in (None, 0, -5, 1e300):
        it = Announced(0)
        assert wait_until(it.condition, it.capture, it.sleep, timeout)
        assert it.slept == []


@pytest.mark.row("NOT-2", "DEF-13")
def test_the_word_is_captured_before_the_condition_is_looked_at() -> None:
    """A change between the look and the sleep ends the sleep at once: it sleeps on the value from before the look."""
    it = Announced(1)
    order = []

    def condition() -> bool:
        order.append("look")
        it.word += 1  # a change right after this look
        return len(order) > 2

    def capture() -> int:
        order.append("capture")
        return it.word

    seen = []
    assert wait_until(condition, capture, lambda value, _: seen.append(value), None)
    assert order[:2] == ["capture", "look"]
    assert seen == [0]
    assert it.word == 2


@pytest.mark.row("NOT-8")
def test_sleeps_are_slices_and_end_at_the_deadline() -> None:
    """A process that dies moves no word, so nobody sleeps for ever on one."""
    it = Announced(3)
    assert wait_until(it.condition, it.capture, it.sleep, None)
    assert [seen for seen, _ in it.slept] == [0, 1, 2]
    assert all(deadline < now_ns() + 10**9 for _, deadline in it.slept)


@pytest.mark.row("NOT-2")
@pytest.mark.parametrize("timeout", [0, -1, -1e300, -(10**400)])
def test_a_past_deadline_gives_one_look_and_no_sleep(timeout: float) -> None:
    """False, and not an error."""
    it = Announced(1)
    assert not wait_until(it.condition, it.capture, it.sleep, timeout)
    assert it.slept == []


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
