"""Which processes are alive, known by locks that the kernel frees when a process dies.

A publisher locks byte 0 of its control object, a subscriber byte 64 + its index. The locks belong to an open file
description, so another descriptor of the same file in the same process neither sees nor frees them. There are no
heartbeats: a held lock means alive, also when the process is stopped, in a debugger, or in another pid namespace.

Why each segment has two descriptions here: a description does not see its own locks, and a mapping keeps the
description that it was made through. One holds the locks, and nothing is mapped through it. The other is mapped through
and probes, and never locks. Both are opened at the attach: a process that has dropped its rights since then could open
neither again.

Why probing never tries to lock: a lock that is taken only to see whether it is free makes the peer look alive.

Why a cleaner locks bytes 0 and 1: the length of the lock over byte 0 says which of them has it. A cleaner cannot lock
while the owner lives.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from zeroslot._core.binding import CLEANER_BYTES, DEAD, FIRST_PEER_BYTE, OPEN, OWNER_BYTE

if TYPE_CHECKING:
    from zeroslot._core.binding import Descriptor, Segment

_CLEANER_TRIES = 100

_reaping = threading.RLock()  # reentrant: a signal handler may publish while its thread reaps


def _renew_lock() -> None:
    # In a forked child: the thread that holds the lock does not exist there.
    global _reaping  # noqa: PLW0603 (one lock for the process)
    _reaping = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)


def peer_byte(index: int) -> int:
    """The byte of the control object that the subscriber of this index locks."""
    return FIRST_PEER_BYTE + index


def is_owned(probe: Descriptor) -> bool:
    """Whether the segment's owner is alive. `probe` holds no lock. A longer lock over byte 0 is a cleaner's."""
    return probe.lock_length(OWNER_BYTE) == 1


def live_peers(segment: Segment, probe: Descriptor) -> list[int]:
    """The indexes of the attached subscribers that are alive. `probe` holds no lock."""
    return [index for index in segment.active_indexes() if probe.is_locked(peer_byte(index))]


def registered_peers(segment: Segment, probe: Descriptor) -> list[int]:
    """The indexes that living processes hold: of subscribers, also those that have left and still hold samples, and of
    processes that redeem tickets. `probe` holds no lock.
    """
    return [index for index in range(segment.info.max_subscribers) if probe.is_locked(peer_byte(index))]


def dead_peers(segment: Segment, probe: Descriptor) -> list[int]:
    """The indexes of dead subscribers that have left something in the segment. `probe` holds no lock."""
    return [index for index in segment.indexes_in_use() if not probe.is_locked(peer_byte(index))]


def register(segment: Segment, description: Descriptor) -> int | None:
    """Take a free index of the peer table by locking its byte, and clear what a dead predecessor left. None: all
    indexes are taken.

    The lock is the registration: only its holder writes the entry, so a joiner and a reaper cannot meet there. A reaper
    holds a lock for a moment, so a table that seems full is searched a second time.
    """
    for _round in range(2):
        for index in range(segment.info.max_subscribers):
            if description.try_lock(peer_byte(index)):
                segment.clear_peer(index)
                return index
    return None


def reap(segment: Segment, description: Descriptor, dead: list[int]) -> int:
    """Clear what dead subscribers left; the number of entries that were cleared.

    A subscriber is dead if its byte can be locked, and its entry is cleared under that lock. One thread of a process
    does this at a time, since two threads with one description do not exclude each other. A joiner that finds the byte
    locked takes the next index.
    """
    reaped = 0
    with _reaping:
        left = set(segment.indexes_in_use())  # another thread may have cleared some meanwhile
        for index in dead:
            if index in left and segment.reap_peer(description, index):
                reaped += 1
    segment.bump_space()
    return reaped


def lock_to_clean(own: Descriptor) -> bool:
    """Lock a dead owner's segment as its cleaner, through a description that does nothing else.

    False: the owner is alive, or another cleaner holds the lock. If another cleaner holds it, wait, but not for long:
    that process may be stopped.
    """
    for _ in range(_CLEANER_TRIES):
        if own.try_lock(OWNER_BYTE, count=CLEANER_BYTES):
            return True
        if is_owned(own):
            return False
        time.sleep(0.001)
    return False


def mark_owner_dead(segment: Segment, probe: Descriptor) -> bool:
    """Mark a segment whose owner is dead as dead, and wake all its sleepers. False: the owner lives, or has sealed it.

    No lock is needed: a dead owner stays dead, and marking twice has the same result.
    """
    if is_owned(probe) or segment.state != OPEN:
        return False
    segment.end(DEAD)
    return True
