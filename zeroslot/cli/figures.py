"""Figures as people and programs read them: percentiles, histograms that processes can send each other, units, JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

PERCENTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999), ("max", 1.0))
MANTISSA_BITS = 7


def as_json(facts: Any) -> str:
    """Facts as JSON; paths as text."""
    return json.dumps(facts, indent=2, default=str)


def as_json_line(facts: Any) -> str:
    """The same on one line."""
    return json.dumps(facts, default=str)


def median(values: Sequence[float]) -> float:
    """The middle value, the upper one of two."""
    return sorted(values)[len(values) // 2]


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """The values at and below which that part of all lies (nearest rank)."""
    ranked = sorted(values)
    return {name: ranked[max(0, -int(-part * len(ranked) // 1) - 1)] for name, part in PERCENTILES}


class Histogram:
    """Counts of whole numbers in buckets less than 2 % wide, from which percentiles are read. Histograms add up."""

    def __init__(self) -> None:
        self.buckets: Counter[int] = Counter()

    def add(self, value: int) -> None:
        """Count one value; what is below zero counts as zero."""
        value = max(value, 0)
        shift = max(0, value.bit_length() - MANTISSA_BITS)
        self.buckets[(shift << (MANTISSA_BITS - 1)) + (value >> shift)] += 1

    def update(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Count what another histogram has as `pairs`."""
        for bucket, count in pairs:
            self.buckets[bucket] += count

    def pairs(self) -> list[tuple[int, int]]:
        """Its content as a list that JSON can carry."""
        return list(self.buckets.items())

    def values(self) -> list[tuple[float, int]]:
        """The middle of each bucket, and how many values are in it."""
        return [(_middle(bucket), count) for bucket, count in self.buckets.items()]

    def clear(self) -> None:
        """Start from nothing."""
        self.buckets.clear()

    def at(self, part: float) -> float | None:
        """The value at and below which `part` of all lies, as the middle of its bucket; None without values."""
        wanted = part * self.buckets.total()
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                return _middle(bucket)
        return None


def _middle(bucket: int) -> float:
    half = 1 << (MANTISSA_BITS - 1)
    shift = max(0, bucket // half - 1)
    low = (bucket - shift * half) << shift
    return low + ((1 << shift) - 1) / 2


def as_time(ns: float | None) -> str:
    """Nanoseconds in the unit that suits them."""
    if ns is None:
        return "-"
    for limit, unit, factor in ((1e3, "ns", 1.0), (1e6, "us", 1e3), (1e9, "ms", 1e6)):
        if ns < limit:
            return f"{ns / factor:.{0 if unit == 'ns' else 1}f} {unit}"
    return f"{ns / 1e9:.1f} s"


def as_lag(lag_s: float | None, behind: int) -> str:
    """The age of the oldest sample that waits for a subscriber which is so many samples behind. None: not known."""
    return "-" if lag_s is None else as_time(lag_s * 1e9) if behind else "0"


def as_duration(seconds: float) -> str:
    """Seconds as a person says them: 12.3 ms, 4.2 s, 3 min, 2 h."""
    if seconds < 60:
        return as_time(seconds * 1e9)
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.0f} h"


def as_bytes(count: float) -> str:
    """Bytes in the unit that suits them: of 1000; of 1024 for an int that is few of them, as sizes of memory are.

    Give a float for what grows or flows, so that its unit does not change from one figure to the next.
    """
    for binary, size in (("MiB", 2**20), ("KiB", 2**10)):
        if isinstance(count, int) and size <= count < size << 10 and count % size == 0:
            return f"{count // size} {binary}"
    for limit, unit, factor in ((1e3, "B", 1.0), (1e6, "kB", 1e3), (1e9, "MB", 1e6)):
        if count < limit:
            return f"{count / factor:.{0 if unit == 'B' else 1}f} {unit}"
    return f"{count / 1e9:.2f} GB"


def as_rate(hz: float | None) -> str:
    """Samples a second, with five digits or more."""
    if hz is None:
        return "-"
    return f"{hz:,.{1 if hz >= 99_999.5 else 2 if hz >= 9.9995 else 3}f} Hz"


def as_short_rate(hz: float | None) -> str:
    """Samples a second in the unit that suits them, with three or four digits."""
    if hz is None:
        return "-"
    for limit, unit, factor in ((999.95, "Hz", 1.0), (999.95e3, "kHz", 1e3)):
        if hz < limit:
            return f"{hz / factor:.{1 if hz / factor >= 10 or not hz else 2}f} {unit}"
    return f"{hz / 1e6:.2f} MHz"


def as_share(part: float) -> str:
    """A part of 1 in percent; what is more than nothing never reads as nothing."""
    return "0 %" if not part else "<0.1 %" if part < 0.001 else f"{part * 100:.1f} %"
