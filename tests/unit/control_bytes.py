"""A control object from the outside: the bytes that a broken or malicious peer could write, at the offsets of format
1.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

SECTIONS = [
    "published",
    "generation",
    "parked",
    "space",
    "waiting",
    "active",
    "reliable",
    "evicted",
    "counters",
    "peers",
    "ring",
    "slots",
    "pool_generation",
    "pools",
    "schema",
]
SECTION_AT = 208  # in the header
SLOT_SIZE = 128  # with up to 576 subscribers
READERS_AT = 56  # in a slot entry
PEER_SIZE = 768


class ControlBytes:
    """Reads and writes a named control object, or a pool, without the library."""

    def __init__(self, flink: str | os.PathLike[str], pool: int | None = None) -> None:
        name = Path(flink).read_text("ascii")
        self.path = Path("/dev/shm" + name + ("" if pool is None else f"-p{pool}"))

    def read(self, at: int, form: str) -> Any:
        """One number."""
        with self.path.open("rb") as file:
            file.seek(at)
            return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))[0]

    def write(self, at: int, form: str, value: int) -> None:
        """One number, through the file and not through a mapping."""
        fd = os.open(self.path, os.O_RDWR)
        try:
            os.pwrite(fd, struct.pack("<" + form, value), at)
        finally:
            os.close(fd)

    def write_bytes(self, at: int, content: bytes) -> None:
        """As they are."""
        fd = os.open(self.path, os.O_RDWR)
        try:
            os.pwrite(fd, content, at)
        finally:
            os.close(fd)

    def at(self, section: str) -> int:
        """Where a section begins."""
        offset: int = self.read(SECTION_AT + 8 * SECTIONS.index(section), "Q")
        return offset

    def ring_at(self, sequence: int) -> int:
        """Where the ring entry of a sequence lies."""
        return self.at("ring") + 8 * (sequence % self.read(52, "I"))

    def slot_of(self, sequence: int) -> int:
        """Where the slot table entry of a sequence lies; only with up to 576 subscribers."""
        return self.at("slots") + SLOT_SIZE * (self.read(self.ring_at(sequence), "Q") & 0xFFFF)

    def wait_until_parked(self) -> None:
        """Return once some reader has said that it may sleep. The watchdog is the bound."""
        while self.read(self.at("parked"), "Q") == 0:
            os.sched_yield()

    def wait_until_blocked(self) -> None:
        """Return once an owner waits for space."""
        while self.read(self.at("waiting"), "I") == 0:
            os.sched_yield()
