"""Clocks: whether the times in a segment can be compared with this process's, and whether its owner is overdue.

CLOCK_MONOTONIC is the same clock for all processes of one time namespace, and another one in another namespace.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

from zeroslot._core.binding import sample_now_ns

if TYPE_CHECKING:
    from zeroslot._core.binding import Segment


@lru_cache(maxsize=1)
def time_namespace(pid: int) -> int:
    """The inode of this process's time namespace; 0 where the kernel has none (before 5.6) or /proc is missing.

    `pid` is this process's: a forked child does not use its parent's cached value.
    """
    try:
        return os.stat(f"/proc/{pid}/ns/time").st_ino
    except OSError:
        return 0


def shares_clock(segment: Segment) -> bool:
    """Whether the times that a segment's owner writes are of the same clock as this process's."""
    return bool(segment.info.time_namespace == time_namespace(os.getpid()))


def promised_period(segment: Segment) -> tuple[float | None, bool | None]:
    """The longest time in seconds between two samples that the owner promises, and whether it is overdue.

    The period is None without a promise. It counts from the newest sample, or from the creation. Overdue is None where
    the owner has another clock.
    """
    info = segment.info
    period_ns = info.max_period_ns
    if not period_ns:
        return None, False
    if not shares_clock(segment):
        return period_ns / 1e9, None
    return period_ns / 1e9, sample_now_ns() - (segment.newest_ns or info.created_monotonic_ns) > period_ns
