"""Readers and a segment in obvious Python, with which state machines compare the real ones."""

from __future__ import annotations

from dataclasses import dataclass, field

from zeroslot import TooManyLeasesError


@dataclass
class ModelReader:
    """A cursor, counters, and how many samples it holds."""

    cursor: int
    max_leases: int
    taken: int = 0
    lost: int = 0
    skipped: int = 0
    held: int = 0


@dataclass
class ModelSegment:
    """What was published, in a list, and what each reader holds of it."""

    slot_count: int
    depth: int
    max_loans: int
    published: list[int] = field(default_factory=list)
    loans: int = 0
    holders: dict[int, int] = field(default_factory=dict)  # sequence -> leases on it

    @property
    def newest(self) -> int:
        return len(self.published)

    @property
    def oldest(self) -> int:
        """The oldest sequence that can be taken."""
        return max(1, self.newest - self.depth + 1)

    @property
    def free(self) -> int:
        """Slots that are neither loaned, nor kept, nor held after they were retired."""
        kept = self.newest - self.oldest + 1 if self.published else 0
        retired = sum(1 for sequence in self.holders if sequence < self.oldest)
        return self.slot_count - self.loans - kept - retired

    def can_reserve(self) -> bool:
        return self.loans < self.max_loans and self.free > 0

    def take(self, reader: ModelReader) -> int | None:
        """The next sequence; what it would have been before is lost."""
        if reader.cursor == self.newest:
            return None
        self._refuse(reader)
        if reader.cursor + 1 < self.oldest:
            reader.lost += self.oldest - reader.cursor - 1
            reader.cursor = self.oldest - 1
        return self._lease(reader, reader.cursor + 1)

    def latest(self, reader: ModelReader) -> int | None:
        """The newest sequence; what lies between is skipped."""
        if reader.cursor == self.newest:
            return None
        self._refuse(reader)
        reader.skipped += self.newest - reader.cursor - 1
        return self._lease(reader, self.newest)

    def _refuse(self, reader: ModelReader) -> None:
        if reader.held >= reader.max_leases:
            raise TooManyLeasesError

    def _lease(self, reader: ModelReader, sequence: int) -> int:
        reader.cursor, reader.taken, reader.held = sequence, reader.taken + 1, reader.held + 1
        self.holders[sequence] = self.holders.get(sequence, 0) + 1
        return sequence

    def release(self, reader: ModelReader, sequence: int) -> None:
        """One lease less."""
        reader.held -= 1
        self.holders[sequence] -= 1
        if not self.holders[sequence]:
            del self.holders[sequence]
