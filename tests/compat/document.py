"""The tables of idl/FORMAT.md, read by programs: structures, sections, constants."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

PATH = Path(__file__).parents[2] / "idl" / "FORMAT.md"
TEXT = PATH.read_text("utf-8")
STRUCTURES = ["Header", "Counters", "Peer", "Slot", "Pool", "Metadata", "Announcement"]


class Member(NamedTuple):
    """One row of a structure's table."""

    name: str
    type: str
    count: int
    offset: int
    size: int
    is_array: bool

    @property
    def width(self) -> int:
        """Bytes of one number of it."""
        return int(self.type[1:]) // 8


@cache
def section_of(title: str) -> str:
    """The text under a heading of the third level."""
    return re.search(rf"^### {title}\n(.*?)(?=^##|\Z)", TEXT, re.DOTALL | re.MULTILINE)[1]


@cache
def members(structure: str) -> dict[str, Member]:
    """The members of a structure by name, in the table's order."""
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (u\d+)(?:\[(\d+)\])? \| (\w+) \|", section_of(structure), re.MULTILINE)
    return {
        name: Member(name, kind, int(count or 1), int(at), int(size), bool(count))
        for at, size, kind, count, name in rows
    }


CONSTANTS = {
    name: int(value) for name, value in re.findall(r"^\| ([A-Z_]+) \| (\d+) \|$", section_of("Constants"), re.MULTILINE)
}
SIZES = {structure: sum(member.size for member in members(structure).values()) for structure in STRUCTURES}
SECTIONS = re.findall(
    r"^\| \d+ \| ([A-Z_]+) \|", re.search(r"^## 3\. .*?(?=^## 4)", TEXT, re.DOTALL | re.MULTILINE)[0], re.MULTILINE
)
