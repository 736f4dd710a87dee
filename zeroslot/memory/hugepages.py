"""Huge pages for pools: requested and counted, never required.

A page of 2 MiB needs one entry where small pages need 512, so a walk through a large sample misses fewer translations,
and a process maps the sample 512 times faster. There are two ways to them:

- /dev/shm is mounted with `huge=advise`, `within_size` or `always`: the first touch of advised memory gets huge pages.
- Linux 6.1 and newer: MADV_COLLAPSE replaces small pages by huge ones, however /dev/shm is mounted, unless
  /sys/kernel/mm/transparent_hugepage/shmem_enabled says `deny`. It copies the bytes, and takes a few times as long as
  the first touch.

Why pages are touched before posix_fallocate, which alone guarantees the memory: on a tmpfs with `huge=advise`,
posix_fallocate takes small pages. The touch is a system call that fails where a plain access would be a SIGBUS.

Readers need nothing: a large mapping begins at a multiple of a huge page, and huge pages of the object are mapped as
such.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from zeroslot._core.binding import HUGE_PAGE, Region, notice
from zeroslot.memory.objects import SHM, STEP_BYTES

if TYPE_CHECKING:
    from zeroslot._core.binding import Descriptor

log = logging.getLogger("zeroslot")

ENABLED = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
_reported = threading.Event()


def allocate(pool: Descriptor, size: int) -> None:
    """Give a new object its size, and huge pages as far as the first touch gets them. posix_fallocate adds the rest."""
    os.ftruncate(pool.fileno(), size)
    region = Region(pool, size, True)
    for at in range(0, size, STEP_BYTES):
        region.allocate_huge(at, min(STEP_BYTES, size - at))
        notice()


def collapse(region: Region) -> None:
    """Make huge what is still small, and log a warning, once a process, where that fails."""
    for at in range(0, region.size - HUGE_PAGE + 1, HUGE_PAGE):
        region.collapse(at, HUGE_PAGE)
        notice()
    _report(huge_bytes([region]), region.size)


def _report(found: int, size: int) -> None:
    if _reported.is_set() or found >= size // HUGE_PAGE * HUGE_PAGE:
        return
    _reported.set()
    log.warning(
        "huge pages: %d of %d bytes have them. Free memory may be in too small pieces; otherwise use Linux 6.1 or "
        "newer, or mount %s with huge=advise. `[deny]` in %s forbids them (it has: %s)",
        found,
        size,
        SHM,
        ENABLED,
        _setting(),
    )


def _setting() -> str:
    try:
        return ENABLED.read_text("ascii").strip()
    except OSError:
        return "nothing: this kernel has no huge pages for shared memory"


def huge_bytes(regions: Iterable[Region]) -> int:
    """How many bytes of these mappings are mapped as huge pages in this process, from /proc/self/smaps."""
    ranges = [(region.address, region.address + region.size) for region in regions]
    count = 0
    inside = False
    try:
        lines = Path("/proc/self/smaps").read_text("ascii", "replace").splitlines()
    except OSError:
        return 0
    for line in lines:
        name, _, value = line.partition(" ")
        if not name.endswith(":"):
            begin = int(name.partition("-")[0], 16)
            inside = any(low <= begin < high for low, high in ranges)
        elif inside and name == "ShmemPmdMapped:":
            count += 1024 * int(value.split()[0])
    return count
