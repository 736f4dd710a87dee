"""What a test left in shared memory: objects of zeroslot, and files in its own ZEROSLOT_DIR.

Objects of all processes of a machine share one directory, so another program, or another run of these tests, can make
and remove some meanwhile. An object counts as left behind by a test when it is new and either this process still maps
it, or no process maps it and none removes it within LOOKS looks.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

from zeroslot._core.binding import Descriptor

OBJECTS = Path("/dev/shm")
LOOKS = 40  # at what another process may be about to remove
NAME = re.compile(r"zs-[0-9a-f]{16}(-p\d+)?")


def objects() -> set[str]:
    """The names of all zeroslot objects there are."""
    return {name for name in os.listdir(OBJECTS) if NAME.fullmatch(name)}


def files(root: Path) -> set[Path]:
    """All that is not a directory below `root`: flinks, bells, temporary names. Announcements of processes that were
    killed may stay until the next publisher of their topic.
    """
    found = {Path(directory, name) for directory, _, names in os.walk(root) for name in names}
    return {path for path in found if not (path.suffix == ".sub" and _was_killed(path))}


def _was_killed(announcement: Path) -> bool:
    """Whether the process that made an announcement is dead: the lock has fallen, whatever was written until then."""
    try:
        with contextlib.closing(Descriptor.open(str(announcement), os.O_RDONLY)) as probe:
            return not probe.is_locked(0)
    except FileNotFoundError:
        return True


def left_behind(before: Iterable[str], looks: int = LOOKS) -> set[str]:
    """The objects that are not in `before` and that no other process keeps, or removes before the last look."""
    before = set(before)
    mine = os.getpid()
    for _ in range(looks):
        new = objects() - before
        if not new:
            return set()
        users = _users(new)
        mapped = {name for name in new if mine in users[name]}
        if mapped:
            return mapped | {name for name in new if not users[name]}
        orphans = {name for name in new if not users[name]}
        if not orphans:
            return set()
        time.sleep(0.05)  # another process may be removing its objects
    return orphans


def remove(names: Iterable[str]) -> None:
    """Unlinks these objects."""
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            (OBJECTS / name).unlink()


def _users(names: set[str]) -> dict[str, set[int]]:
    users: dict[str, set[int]] = {name: set() for name in names}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        process = Path("/proc", pid)
        with contextlib.suppress(OSError):  # it has ended, or it is another user's
            held = process.joinpath("maps").read_text()
            for entry in process.joinpath("fd").iterdir():
                with contextlib.suppress(OSError):
                    held += f"{os.readlink(entry)}\n"
            for name in names:
                if re.search(rf"/{name}(?![-0-9a-z])", held):
                    users[name].add(int(pid))
    return users
