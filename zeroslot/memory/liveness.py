"""Who is there: locks that the kernel frees when a process dies, and what /proc says of a process.

A publisher holds byte 0 of its control object, a subscriber byte 64 + its index (open-file-description locks, so that
a second descriptor of the same file in this process neither sees nor frees them). There is no heartbeat: a lock that is
held means alive, also when the process is stopped, in a debugger, or in another pid namespace.

Why each segment has two descriptions here: a description does not see its own locks, and a mapping keeps the
description that it was made through. One holds the locks, and nothing is mapped through it; the other is mapped through
and asked, and never locks. Both are kept from the attach: a process that has dropped its rights meanwhile could open
neither again.

Why probing never tries to lock: a lock taken only to see whether it is free would make the peer look alive.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from zeroslot._core.binding import Descriptor, now_ns
from zeroslot.memory.segment import CLEANER_BYTES, DEAD, OPEN, OWNER_BYTE, Identity, is_owned, peer_byte

if TYPE_CHECKING:
    from zeroslot._core.binding import Descriptor, Segment

_CLEANER_TRIES = 100

_reaping = threading.RLock()  # reentrant: a signal handler may publish while its thread reaps


def _forget_reaping() -> None:
    # In a forked child, where the thread that holds it does not exist.
    global _reaping  # noqa: PLW0603 (the lock of the process, which is another one now)
    _reaping = threading.RLock()


os.register_at_fork(after_in_child=_forget_reaping)


def register(segment: Segment, description: Descriptor) -> int | None:
    """Take a free index of the peer table by locking its byte, and clear what a dead predecessor left. None: all
    indexes are taken.

    The lock is the registration: only its holder writes the entry, so a joiner and a reaper cannot meet there. A reaper
    holds a lock for a moment, so a table that seems full is searched a second time.
    """
    for _round in range(2):
        for index in range(segment.facts()["max_subscribers"]):
            if description.try_lock(peer_byte(index)):
                segment.clear_peer(index)
                return index
    return None


def reap(segment: Segment, description: Descriptor, dead: list[int]) -> int:
    """Clear what these dead subscribers left. Returns how many there still were.

    A dead one is one whose byte can be locked. The lock is held while the entry is cleared; one thread of a process at
    a time does this, since two that use one description do not keep each other out. A joiner that wants the index
    takes the next.
    """
    reaped = 0
    with _reaping:
        left = set(segment.indexes_in_use())  # another thread may have cleared them before this one had its turn
        for index in dead:
            if index in left and segment.reap_peer(description, index):
                reaped += 1
    segment.bump_space()
    return reaped


def lock_to_clean(own: Descriptor) -> bool:
    """Lock a dead owner's segment, through a description of one's own. False: the owner lives, or another cleaner
    holds it.

    Another cleaner is waited for, but not for long: it may be stopped.
    """
    for _ in range(_CLEANER_TRIES):
        if own.try_lock(OWNER_BYTE, count=CLEANER_BYTES):
            return True
        if is_owned(own):
            return False
        time.sleep(0.001)
    return False


def bury(segment: Segment, probe: Descriptor) -> bool:
    """Mark a segment whose owner is dead as dead, and wake everybody. False: the owner lives, or has sealed it.

    This takes no lock: an owner that is dead stays dead, and however many processes mark it, the result is the same.
    """
    if is_owned(probe) or segment.state != OPEN:
        return False
    segment.end(DEAD)
    return True


def identity(name: str | None) -> Identity:
    """This process; `name` is what others shall call it (default: its program)."""
    if name is None:
        name = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
        name = name.encode("utf-8", "backslashreplace").decode()  # the name of a file need not be UTF-8
    pid = os.getpid()
    return Identity(pid, _own_start_time(pid), name, time_namespace(pid))


@lru_cache(maxsize=1)
def _own_start_time(pid: int) -> int:
    # Asked once: on a busy machine the answer of /proc takes longer than all the rest of an attach. By pid, because a
    # forked child has its own.
    return start_time_of(pid)


@lru_cache(maxsize=1)
def time_namespace(pid: int) -> int:
    """The clock domain of this process, whose pid is `pid`: CLOCK_MONOTONIC is the same clock for all processes of the
    same time namespace. The inode of the namespace; 0 where the kernel has none (before 5.6) or /proc is not there.
    """
    try:
        return os.stat(f"/proc/{pid}/ns/time").st_ino
    except OSError:
        return 0


def has_our_clock(segment: Segment) -> bool:
    """Whether the times that a segment's owner writes are of the same clock as this process's."""
    return bool(segment.facts()["time_namespace"] == time_namespace(os.getpid()))


def promised_period(segment: Segment) -> tuple[float | None, bool | None]:
    """The longest time between two samples that the owner promises, in seconds, or None without a promise; and whether
    it has passed since the newest sample, or since the creation: None where the owner's clock is another one.
    """
    facts = segment.facts()
    period_ns = facts["max_period_ns"]
    if not period_ns:
        return None, False
    if not has_our_clock(segment):
        return period_ns / 1e9, None
    return period_ns / 1e9, now_ns() - (segment.newest_ns or facts["created_monotonic_ns"]) > period_ns


def start_time_of(pid: int) -> int:
    """When a process started, in clock ticks since boot (proc(5), stat field 22); 0 when it is not there."""
    fields = _stat_of(pid)
    return int(fields[19]) if len(fields) > 19 else 0


def is_stopped(pid: int, start_time: int = 0) -> bool:
    """Whether a process is stopped by a signal or a debugger; not when it is gone, or another one with its number."""
    fields = _stat_of(pid)
    if start_time and fields[19:20] != [str(start_time)]:
        return False
    return fields[:1] in (["T"], ["t"])


def _stat_of(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def command_of(pid: int, start_time: int = 0) -> str:
    """The command line of a process; empty when it is gone, or another one with its number."""
    if start_time and start_time_of(pid) != start_time:
        return ""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
