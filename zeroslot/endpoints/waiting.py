"""Waiting for a condition that a shared word announces: for subscribers, for publishers.

Samples are waited for in the core. What is here is rare, so it may cost a look in Python per wake-up.

Why the word is captured before the condition is looked at: whatever happens in between moves the word, and the sleep
ends at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zeroslot._core.binding import deadline_after, now_ns

if TYPE_CHECKING:
    from collections.abc import Callable

SLICE_NS = 50_000_000  # after this the condition is looked at again, since a process that dies moves no word


def wait_until(
    condition: Callable[[], bool], capture: Callable[[], int], sleep: Callable[[int, int], None], timeout: float | None
) -> bool:
    """Whether `condition()` came true within `timeout` seconds (None: for ever).

    `capture()` gives the word's value, `sleep(value, deadline_ns)` sleeps while the word has it.
    """
    deadline = deadline_after(timeout)
    while True:
        seen = capture()
        if condition():
            return True
        now = now_ns()
        if now >= deadline:
            return False
        sleep(seen, min(deadline, now + SLICE_NS))
