"""Sums of counters over sources that come and go, such as the publishers of one name: no sum gets smaller.

Why this is not a plain sum: when one of two publishers ends, the sum of the others is smaller, and a program that
computes rates takes that for a restart. So what a source had counted when it ended stays in the sum, as long as another
source with the same labels lives. When none does, the sum is forgotten, and begins anew with the next one.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

Labels = tuple[str, ...]
Counts = tuple[int, ...]

_REMEMBERED = 1000  # ended sources that may come back, such as one that could not be read for a moment


class Accumulated:
    """Counts of the same kinds, summed by labels."""

    def __init__(self) -> None:
        self._last: dict[Hashable, tuple[Labels, Counts]] = {}
        self._ended: dict[Hashable, tuple[Labels, Counts]] = {}  # oldest first
        self._forgotten: dict[Labels, Counts] = {}  # the sums of those that ended long ago

    def update(self, now: Mapping[Hashable, tuple[Labels, Counts]]) -> dict[Labels, Counts]:
        """The sums, by labels. `now`: the labels and the counts of each source that lives."""
        live = {labels for labels, _ in now.values()}
        ended = self._ended | {source: last for source, last in self._last.items() if source not in now}
        self._ended = {source: last for source, last in ended.items() if source not in now and last[0] in live}
        self._forgotten = {labels: counts for labels, counts in self._forgotten.items() if labels in live}
        while len(self._ended) > _REMEMBERED:
            labels, counts = self._ended.pop(next(iter(self._ended)))
            self._forgotten[labels] = _sum(self._forgotten.get(labels), counts)
        self._last = dict(now)
        sums = dict(self._forgotten)
        for labels, counts in (*self._ended.values(), *now.values()):
            sums[labels] = _sum(sums.get(labels), counts)
        return sums


def _sum(one: Counts | None, other: Counts) -> Counts:
    return other if one is None else tuple(a + b for a, b in zip(one, other, strict=True))
