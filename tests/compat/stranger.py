"""A reader of segments that was written from idl/FORMAT.md and from nothing else: no zeroslot, no C.

It shows that the document is complete. It is no implementation: Python has no atomic read-modify-write, so its bits are
plain byte stores, which is enough where no other reader touches the same byte at that moment.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

MAGIC = bytes.fromhex("89 5A 53 4C 4F 54 0D 0A")
HEADER = struct.Struct("<8s2I2Q16s8I2Q4I2Q2I5Q32s15Q2I48x")
SECTIONS = (
    *("published", "generation", "parked", "space", "waiting", "active", "reliable", "evicted"),
    *("counters", "peers", "ring", "slots", "pool_generation", "pools", "schema"),
)
BEFORE_SECTIONS = (
    *("magic", "format", "header_size", "control_size", "segment_id", "type_hash", "depth", "ring_capacity"),
    *("slot_limit", "pool_limit", "max_subscribers", "reader_words", "spare_slots", "max_loans", "first_sequence"),
    *(
        "schema_size",
        "peer_size",
        "slot_size",
        "readers_at",
        "payload_kind",
        "incompat",
        "compat",
        "owner_pid",
        "policy",
    ),
    *(
        "owner_start_time",
        "created_realtime_ns",
        "created_monotonic_ns",
        "time_namespace",
        "max_period_ns",
        "owner_name",
    ),
)
STATE_AT = 332
CREATING, OPEN, SEALED, DEAD = range(4)


class NotASegmentError(Exception):
    """Another format, or bytes that cannot be."""


@dataclass
class Sample:
    sequence: int
    published_ns: int
    payload: bytes


def control_path(flink: Path) -> Path:
    """Section 1: a flink holds the name of the object and nothing else."""
    name = flink.read_bytes().decode("ascii")
    if not name.startswith("/zs-") or len(name) != 20 or int(name[4:], 16) < 0:
        raise NotASegmentError(name)
    return Path("/dev/shm") / name[1:]


def check(raw: bytes, object_size: int) -> dict:
    """Section 5: what has to hold before anything is trusted. The header by names."""
    if len(raw) < 384:
        raise NotASegmentError("too short")
    fields = HEADER.unpack(raw[:384])
    h = dict(zip(BEFORE_SECTIONS, fields[:30], strict=True))
    h["section_at"] = dict(zip(SECTIONS, fields[30:45], strict=True))
    h["reserve_slots"], h["state"] = fields[45:]

    words = (h["max_subscribers"] + 63) // 64
    sizes = {
        "published": 8,
        "generation": 4,
        "parked": 8 * words,
        "space": 4,
        "waiting": 4,
        "active": 8 * words,
        "reliable": 8 * words,
        "evicted": 4 * h["max_subscribers"],
        "counters": 128,
        "peers": h["peer_size"] * h["max_subscribers"],
        "ring": 8 * h["ring_capacity"],
        "slots": h["slot_size"] * h["slot_limit"],
        "pool_generation": 4,
        "pools": 64 * h["pool_limit"],
        "schema": h["schema_size"],
    }
    sound = (
        h["magic"] == MAGIC
        and h["format"] == 1
        and h["incompat"] == 0
        and h["header_size"] >= 384
        and h["header_size"] % 128 == 0
        and h["header_size"] <= h["control_size"] <= min(object_size, 2**32)
        and 1 <= h["depth"] <= h["slot_limit"] <= 65535
        and h["ring_capacity"].bit_count() == 1
        and max(2, 2 * h["depth"]) <= h["ring_capacity"] <= 4 * 65535
        and 1 <= h["pool_limit"] <= 16
        and 1 <= h["max_subscribers"] <= 1024
        and h["reader_words"] == words
        and h["peer_size"] >= 768
        and h["peer_size"] % 64 == 0
        and h["slot_size"] % 64 == 0
        and h["readers_at"] >= 56
        and h["readers_at"] % 8 == 0
        and h["readers_at"] + 8 * words <= h["slot_size"]
        and 1 <= h["first_sequence"] < 2**62
        and h["spare_slots"] <= 65535
        and h["max_loans"] <= 65535
        and h["reserve_slots"] <= 65535
        and h["policy"] <= 2
        and h["schema_size"] < 2**32
    )
    end = h["header_size"]
    for name, at in h["section_at"].items():
        sound = sound and at % 128 == 0 and at >= end
        end = at + sizes[name]
    if not sound or end > h["control_size"]:
        raise NotASegmentError("the header cannot be")
    return h


class Stranger:
    """One reader of one segment."""

    def __init__(self, control: Path, pools: list[Path]) -> None:
        self._fd = os.open(control, os.O_RDWR)
        self._map = mmap.mmap(self._fd, os.fstat(self._fd).st_size)
        (state,) = struct.unpack_from("<I", self._map, STATE_AT)
        if state == CREATING:
            raise NotASegmentError("not yet")
        self.header = check(self._map[:384], len(self._map))
        self._at = self.header["section_at"]
        self._files = pools
        self._pools: list[tuple[int, int, int, mmap.mmap]] = []
        self._slots = 0
        self._map_pools()
        if self._slots == 0:
            raise NotASegmentError("no pool")
        self.lost = 0
        self.index = -1

    def _map_pools(self) -> None:
        """Section 5: those that the table has more than before."""
        for k in range(len(self._pools), self.header["pool_limit"]):
            capacity, first, count, pool_state = struct.unpack_from("<Q3I", self._map, self._at["pools"] + 64 * k)
            if pool_state == 0:
                break
            (inode,) = struct.unpack_from("<Q", self._map, self._at["pools"] + 64 * k + 24)
            info = self._files[k].stat()
            if capacity == 0 or capacity % 128 or capacity * count != info.st_size or first != self._slots:
                raise NotASegmentError(f"pool {k}")
            if inode not in (0, info.st_ino) or first + count > self.header["slot_limit"]:
                raise NotASegmentError(f"pool {k}")
            self._slots += count
            with self._files[k].open("rb") as file:
                self._pools.append((first, count, capacity, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)))

    def _load(self, section: str, index: int = 0, kind: str = "Q") -> int:
        at = self._at[section] + index * struct.calcsize(kind)
        return int(struct.unpack_from("<" + kind, self._map, at)[0])

    def _bit(self, at: int, on: bool) -> None:
        at += self.index // 8
        mask = 1 << self.index % 8
        self._map[at] = self._map[at] | mask if on else self._map[at] & ~mask

    @property
    def state(self) -> int:
        return int(struct.unpack_from("<I", self._map, STATE_AT)[0])

    @property
    def published(self) -> int:
        return self._load("published")

    def schema(self) -> list[str]:
        """Section 8: name, IDL and JSON."""
        raw = self._map[self._at["schema"] : self._at["schema"] + self.header["schema_size"]]
        texts, at = [], 12
        for length in struct.unpack_from("<3I", raw):
            texts.append(raw[at : at + length].decode())
            at += length
        if at > len(raw) or any(raw[at:]):
            raise NotASegmentError("schema")
        return texts

    def canonical_hash(self, canonical: str) -> bool:
        """Section 8: whether the samples are what this canonical text says."""
        return hashlib.sha256(canonical.encode()).digest()[:16] == self.header["type_hash"]

    def join(self, history: int = 0) -> int:
        """Section 7, join: the first index whose byte can be locked."""
        for index in range(self.header["max_subscribers"]):
            try:
                flock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 64 + index, 1, 0)
                fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, flock)
                self.index = index
                break
            except (BlockingIOError, PermissionError):
                continue
        self._bit(self._at["active"], False)
        self._bit(self._at["reliable"], False)
        self._bit(self._at["parked"], False)
        for slot in range(self.header["slot_limit"]):
            self._bit(self._readers_at(slot), False)
        peer = self._at["peers"] + self.header["peer_size"] * self.index
        (epoch,) = struct.unpack_from("<I", self._map, peer)
        struct.pack_into("<2IQ32s", self._map, peer, epoch + 1 or 1, os.getpid(), 0, b"stranger")
        struct.pack_into("<2I", self._map, peer + 56, 0, 1)
        struct.pack_into("<Q2IQ", self._map, peer + 64, 0, 0, 0, 0)
        struct.pack_into("<5Q", self._map, peer + 128, self._start(history), 0, 0, 0, 0)
        self._bit(self._at["active"], True)
        self.cursor = self._start(history)
        struct.pack_into("<Q", self._map, peer + 128, self.cursor)
        return self.index

    def _start(self, history: int) -> int:
        return max(self.published - history, self.header["first_sequence"] - 1)

    def _slot_at(self, slot: int) -> int:
        return int(self._at["slots"] + self.header["slot_size"] * slot)

    def _readers_at(self, slot: int) -> int:
        return self._slot_at(slot) + int(self.header["readers_at"])

    def take(self) -> Sample | None:
        """Section 7, take: a copy of the next sample, None where there is none."""
        while True:
            c = self.cursor + 1
            entry = self._load("ring", c % self.header["ring_capacity"])
            distance = ((entry >> 16) - c + 2**47) % 2**48 - 2**47
            if distance < 0:
                return None
            if distance == 0:
                slot = entry & 0xFFFF
                if slot >= self.header["slot_limit"]:
                    raise NotASegmentError("ring")
                if slot >= self._slots:
                    self._map_pools()
                at = self._slot_at(slot)
                self._bit(self._readers_at(slot), True)
                try:
                    sequence, published_ns, size = struct.unpack_from("<3Q", self._map, at)
                    if sequence == c:
                        self.cursor = c
                        return Sample(c, published_ns, self._payload(slot, size))
                finally:
                    self._bit(self._readers_at(slot), False)
            oldest = max(self.published - self.header["depth"] + 1, self.header["first_sequence"])
            if oldest <= c:
                raise NotASegmentError("a lap without progress")
            self.lost += oldest - c
            self.cursor = oldest - 1

    def _payload(self, slot: int, size: int) -> bytes:
        for first, count, capacity, memory in self._pools:
            if first <= slot < first + count:
                if size > capacity:
                    raise NotASegmentError("size")
                at = (slot - first) * capacity
                return memory[at : at + size]
        raise NotASegmentError("slot")

    def leave(self) -> None:
        """Section 7, leave."""
        self._bit(self._at["active"], False)
        self.close()

    def close(self) -> None:
        self._map.close()
        for *_, memory in self._pools:
            memory.close()
        os.close(self._fd)
