"""Changes to the bytes of a control object: each byte in turn, and random ones.

A change is a number, and a seed and a number give the same change again, so that a failure can be repeated. Half of the
random changes know the format (fields near their limits, off by one, swapped, taken from another segment, ring and slot
entries mixed); the other half do not.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.unit.control_bytes import PEER_SIZE, READERS_AT, SECTION_AT, SECTIONS, SLOT_SIZE

HEADER_SIZE = 384
POOL_SIZE = 64

# (offset, width) of every number; the offsets are those of idl/FORMAT.md.
HEADER = [
    *((at, 4) for at in (8, 12, *range(48, 80, 4), *range(96, 112, 4), 128, 132, 328, 332)),
    *((at, 8) for at in (16, 24, 80, 88, 112, 120, *range(136, 176, 8))),
    *((at, 8) for at in range(SECTION_AT, SECTION_AT + 8 * len(SECTIONS), 8)),
]
PEER = [(0, 4), (4, 4), (8, 8), (48, 8), (56, 4), (60, 4), (64, 8), (72, 4), (80, 8)]
PEER += [*((at, 8) for at in range(128, 176, 8)), (256, 4)]
SLOT = [(0, 8), (8, 8), (16, 8), (24, 8), (32, 4), (36, 4), (40, 8), (48, 8), (READERS_AT, 8)]
POOL = [(0, 8), (8, 4), (12, 4), (16, 4)]

# At the limits of the format and of the types it is read into.
LIMITS = [0, 1, 2, 63, 64, 65, 127, 128, 255, 384, 1023, 1024, 1025, 4096]
LIMITS += [2**k + more for k in (16, 20, 22, 31, 32, 46, 48, 62, 63, 64) for more in (-2, -1, 0)]


@dataclass(frozen=True)
class Edit:
    """Some bytes: turned over by a mask (one byte), or others in their place."""

    at: int
    content: bytes
    mask: int = 0

    def make(self, memory: Any) -> None:
        """Change the memory of a control object, or of another one of the same form."""
        if self.mask:
            memory[self.at] ^= self.mask
        else:
            memory[self.at : self.at + len(self.content)] = self.content

    def __str__(self) -> str:
        if self.mask:
            return f"byte {self.at} ^ {self.mask:#04x}"
        return f"{len(self.content)} bytes at {self.at} are {self.content[:64].hex()}"


Change = list[Edit]


class Anatomy:
    """Where things lie in a good control object."""

    def __init__(self, good: bytes) -> None:
        self.good = good
        self.at = dict(zip(SECTIONS, struct.unpack_from(f"<{len(SECTIONS)}Q", good, SECTION_AT), strict=True))
        self.slots, self.pools, self.peers = (struct.unpack_from("<I", good, at)[0] for at in (56, 60, 64))
        self.ring = struct.unpack_from("<I", good, 52)[0]
        self.fields = [
            *HEADER,
            *((self.at[name], 8) for name in ("published", "parked", "active", "reliable")),
            *((self.at[name], 4) for name in ("generation", "space", "waiting", "pool_generation")),
            *((self.at["evicted"] + 4 * i, 4) for i in range(self.peers)),
            *((self.at["peers"] + PEER_SIZE * i + at, width) for i in range(self.peers) for at, width in PEER),
            *((self.at["ring"] + 8 * i, 8) for i in range(self.ring)),
            *((self.at["slots"] + SLOT_SIZE * i + at, width) for i in range(self.slots) for at, width in SLOT),
            *((self.at["pools"] + POOL_SIZE * i + at, width) for i in range(self.pools) for at, width in POOL),
            *((self.at["schema"] + at, 4) for at in (0, 4, 8)),
        ]

    def end_of(self, section: str) -> int:
        """Where the next one begins."""
        following = SECTIONS.index(section) + 1
        return self.at[SECTIONS[following]] if following < len(SECTIONS) else len(self.good)

    def touches(self, change: Change, *sections: str) -> bool:
        """Whether a change is in one of these sections; "header" is one."""
        spans = [(0, HEADER_SIZE) if name == "header" else (self.at[name], self.end_of(name)) for name in sections]
        return any(edit.at < end and edit.at + len(edit.content) > start for edit in change for start, end in spans)


class Flips(Sequence[Change]):
    """Bytes turned over, each by each of the masks; one change is one byte."""

    def __init__(self, good: bytes, offsets: list[int], masks: list[int], *, rotate: bool = False) -> None:
        """`rotate`: each byte by one of the masks only, a byte further by the next."""
        pairs = (
            [(at, masks[at % len(masks)]) for at in offsets] if rotate else [(at, m) for at in offsets for m in masks]
        )
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, number: int) -> Change:
        at, mask = self._pairs[number]
        return [Edit(at, b"\0", mask)]


class Drawn(Sequence[Change]):
    """Changes that a seed draws. `other` is the control object of another segment."""

    def __init__(self, good: bytes, other: bytes, seed: int, count: int) -> None:
        self._anatomy = Anatomy(good)
        self._good, self._other, self._seed, self._count = good, other, seed, count
        self._kinds: list[Callable[[random.Random], Change]] = [
            self._words, self._run, self._fields, self._fields, self._swapped, self._entries, self._foreign,
        ]  # fmt: skip  # one list

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Change:
        draw = random.Random(self._seed << 40 | number)
        return draw.choice(self._kinds)(draw)

    def _words(self, draw: random.Random) -> Change:
        """Hostile values anywhere."""
        change = []
        for _ in range(draw.choice((1, 1, 2, 4))):
            width = draw.choice((1, 2, 4, 8))
            at = draw.randrange(0, len(self._good) - 8, width)
            change.append(Edit(at, _packed(draw.choice((draw.choice(LIMITS), draw.getrandbits(64))), width)))
        return change

    def _run(self, draw: random.Random) -> Change:
        """A run of noise, of zeros or of ones."""
        length = draw.randrange(1, draw.choice((16, 128, 1024)))
        at = draw.randrange(len(self._good) - length)
        return [Edit(at, draw.choice((draw.randbytes(length), bytes(length), b"\xff" * length)))]

    def _number(self, field: tuple[int, int]) -> int:
        return int.from_bytes(self._good[field[0] : field[0] + field[1]], "little")

    def _fields(self, draw: random.Random) -> Change:
        """Numbers of the format: off by a little, by a power of two, at a limit, or those of another field."""
        change = []
        for _ in range(draw.choice((1, 1, 2, 3))):
            at, width = draw.choice(self._anatomy.fields)
            old = self._number((at, width))
            value = draw.choice(
                (
                    old + draw.choice((-129, -128, -64, -2, -1, 1, 2, 8, 64, 128, 129)),
                    old ^ 1 << draw.randrange(8 * width),
                    old * 2,
                    draw.choice(LIMITS),
                    len(self._good) + draw.choice((-128, -1, 0, 1, 128)),
                    self._number(draw.choice(self._anatomy.fields)),
                )
            )
            change.append(Edit(at, _packed(value, width)))
        return change

    def _swapped(self, draw: random.Random) -> Change:
        """Two numbers in each other's place."""
        one = draw.choice(self._anatomy.fields)
        two = draw.choice([field for field in self._anatomy.fields if field[1] == one[1]])
        return [Edit(one[0], _packed(self._number(two), two[1])), Edit(two[0], _packed(self._number(one), one[1]))]

    def _entries(self, draw: random.Random) -> Change:
        """Whole entries of the ring, the slots or the peers over others, and ring entries that no owner wrote."""
        anatomy = self._anatomy
        section, size, count = draw.choice(
            (("ring", 8, anatomy.ring), ("slots", SLOT_SIZE, anatomy.slots), ("peers", PEER_SIZE, anatomy.peers))
        )
        change = []
        for _ in range(draw.choice((1, 2, 4))):
            to, source = (anatomy.at[section] + size * draw.randrange(count) for _ in range(2))
            change.append(Edit(to, self._good[source : source + size]))
        if draw.random() < 0.7:
            at = anatomy.at["ring"] + 8 * draw.randrange(anatomy.ring)
            sequence = draw.choice(
                (self._number((at, 8)) >> 16, self._number((at, 8)) >> 16, draw.randrange(20), 2**48 - 1)
            )
            slot = draw.choice((*range(anatomy.slots + 2), 255, 4096, 65534, 65535, draw.randrange(65536)))
            change.append(Edit(at, _packed(sequence << 16 | slot, 8)))
        return change

    def _foreign(self, draw: random.Random) -> Change:
        """Parts of another segment's: its header, with its own name or this segment's, a section, anything."""
        what = draw.randrange(4)
        if what == 0:
            return [Edit(0, self._other[:HEADER_SIZE])]
        if what == 1:
            return [Edit(0, self._other[:24] + self._good[24:32] + self._other[32:HEADER_SIZE])]
        if what == 2:
            section = draw.choice(SECTIONS)
            start, others = self._anatomy.at[section], Anatomy(self._other)
            length = min(self._anatomy.end_of(section) - start, others.end_of(section) - others.at[section])
            return [Edit(start, self._other[others.at[section] : others.at[section] + length])]
        length = draw.randrange(1, 2048)
        start = draw.randrange(min(len(self._good), len(self._other)) - length)
        return [Edit(start, self._other[start : start + length])]


def _packed(value: int, width: int) -> bytes:
    return (value & (1 << 8 * width) - 1).to_bytes(width, "little")


def changes_of(spec: dict[str, Any], good: bytes, other: bytes) -> Sequence[Change]:
    """The changes that a test asks for."""
    if spec["kind"] == "none":
        return [[]]
    if spec["kind"] == "flips":
        offsets = range(len(good))
        if spec["only_told"]:
            schema = Anatomy(good).at["schema"]
            offsets = [at for at in offsets if good[at] or at < schema]
        return Flips(good, list(offsets), spec["masks"], rotate=spec["rotate"])
    return Drawn(good, other, spec["seed"], spec["count"])
