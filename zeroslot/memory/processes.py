"""What /proc says of a process: its start time, its command, whether it is stopped.

A pid alone is not enough, since numbers are used again: together with the start time it names one process. None of this
says whether a process holds a segment; the locks do, see zeroslot.memory.liveness.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from zeroslot.memory.clocks import time_namespace


@dataclass(frozen=True, slots=True)
class Identity:
    """What a process writes about itself into headers and peer tables.

    `start_time` is in clock ticks since boot. Processes with the same `time_namespace` have the same monotonic clock; 0
    where the system does not say.
    """

    pid: int
    start_time: int
    name: str
    time_namespace: int = 0


def identity(name: str | None) -> Identity:
    """This process, under the given name (default: its program's)."""
    if name is None:
        name = os.path.basename(sys.argv[0].rstrip("/")) if sys.argv and sys.argv[0] else "python"
        name = name.encode("utf-8", "backslashreplace").decode()  # the name of a file need not be UTF-8
    pid = os.getpid()
    return Identity(pid, _own_start_time(pid), name, time_namespace(pid))


@lru_cache(maxsize=1)
def _own_start_time(pid: int) -> int:
    # Cached: on a busy machine /proc takes longer to answer than the rest of an attach. By pid: a forked child has its
    # own start time.
    return start_time_of(pid)


def start_time_of(pid: int) -> int:
    """When a process started, in clock ticks since boot (proc(5), stat field 22); 0 when it does not exist."""
    fields = _stat_fields(pid)
    return int(fields[19]) if len(fields) > 19 else 0


def is_stopped(pid: int, start_time: int = 0) -> bool:
    """Whether a process is stopped by a signal or a debugger. False when it has ended, or the pid is used again."""
    fields = _stat_fields(pid)
    if start_time and fields[19:20] != [str(start_time)]:
        return False
    return fields[:1] in (["T"], ["t"])


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from field 3 on; empty when the process does not exist."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def command_of(pid: int, start_time: int = 0) -> str:
    """The command line of a process, on one line and without commands to a terminal. Empty when it does not exist, or
    the pid is used again.
    """
    if start_time and start_time_of(pid) != start_time:
        return ""
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in " ".join(text.split()))
