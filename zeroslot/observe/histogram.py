"""The histogram in which a subscriber counts the ages of the samples that it takes.

Every 64th take is counted, four buckets an octave (idl/FORMAT.md, section 4). So a percentile is known to lie in a
bucket whose ends are at most a quarter apart, and the rarest ages are seen only in the long run.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from zeroslot._core.binding import LATENCY_BUCKETS, LATENCY_EVERY


def _lower_bound(bucket: int) -> int:
    """The shortest age in nanoseconds that a bucket counts."""
    return 0 if bucket == 0 else (4 + (bucket - 1) % 4) << ((bucket - 1) // 4 + 2)


BOUNDS_NS = tuple(_lower_bound(bucket) for bucket in range(LATENCY_BUCKETS))


@dataclass(frozen=True, slots=True)
class LatencyHistogram:
    """How long samples waited from their publication until a subscriber took them, in nanoseconds.

    `counts[i]` samples waited at least `bounds_ns[i]`, and less than `bounds_ns[i + 1]`; the last bucket has no end.
    `max_ns`: the longest age that was counted, over all of the subscriber's time. One take in `every` is counted.
    """

    counts: tuple[int, ...]
    max_ns: int = 0

    @property
    def bounds_ns(self) -> tuple[int, ...]:
        """The shortest age that each bucket counts."""
        return BOUNDS_NS

    @property
    def every(self) -> int:
        """One take in this many is counted."""
        return LATENCY_EVERY

    @property
    def count(self) -> int:
        """How many takes were counted."""
        return sum(self.counts)

    def bucket_at(self, part: float) -> tuple[int, int] | None:
        """The ends in nanoseconds of the bucket that has the percentile: at and below it lies `part` (0 to 1) of all
        ages. None: nothing was counted.
        """
        total = self.count
        if not total:
            return None
        wanted, seen = part * total, 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if count and seen >= wanted:
                return self._ends(bucket)
        return self._ends(bisect_right(BOUNDS_NS, self.max_ns) - 1)

    def percentile(self, part: float) -> float | None:
        """The middle of `bucket_at(part)`, which is at most 13 % off where the bucket is not the last one."""
        ends = self.bucket_at(part)
        return None if ends is None else sum(ends) / 2

    def since(self, earlier: LatencyHistogram) -> LatencyHistogram:
        """What was counted after `earlier`, a histogram of the same subscriber. Counts may have wrapped once.

        `max_ns` is the end of the highest bucket then, or the longest age itself where that is new.
        """
        counts = tuple((now - before) % 2**32 for now, before in zip(self.counts, earlier.counts, strict=True))
        highest = max((bucket for bucket, count in enumerate(counts) if count), default=None)
        if highest is None:
            return LatencyHistogram(counts, 0)
        longest = self.max_ns if self.max_ns > earlier.max_ns else self._ends(highest)[1]
        return LatencyHistogram(counts, min(longest, self.max_ns))

    def _ends(self, bucket: int) -> tuple[int, int]:
        low = BOUNDS_NS[bucket]
        high = BOUNDS_NS[bucket + 1] if bucket + 1 < LATENCY_BUCKETS else self.max_ns
        return low, max(low, min(high, self.max_ns) if self.max_ns else high)
