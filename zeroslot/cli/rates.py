"""The rate of a publisher, computed from what a monitor sees; and how many subscribers it sees.

Why it is exact: sequence and time of the newest sample belong together. Between two looks, the difference of the
sequences over the difference of the times is the true rate of the samples between, whenever the looks happened and
however many samples were not seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt

import zeroslot as zs

SILENT_PERIODS = 4  # a publisher that has been silent for so many of its periods has stopped
PAUSE_S = 0.5  # of a publisher, which is no silence


@dataclass(frozen=True, slots=True)
class Measured:
    """What one publisher did between two looks.

    `rate_hz`: samples a second. Where none came, at most one a time since the last. None: it has published less than
    two samples. `samples`: how many came. `bytes_per_s`: rate times the mean size of these.
    `span`: the two samples that the rate is of, each its sequence and when it was published (CLOCK_MONOTONIC of the
    publisher); None where none came.
    """

    rate_hz: float | None
    samples: int
    mean_bytes: float | None
    span: tuple[tuple[int, int], tuple[int, int]] | None = None

    @property
    def bytes_per_s(self) -> float | None:
        """Bytes a second."""
        if self.rate_hz is None or self.mean_bytes is None:
            return None
        return self.rate_hz * self.mean_bytes


class Rate:
    """Measures one publisher from look to look. `kept`: the samples that can be taken at the first look."""

    def __init__(self, first: zs.PublisherSnapshot, kept: Sequence[zs.SampleFacts] = ()) -> None:
        self._last = first
        self._rate_hz = rate_of(kept)

    def update(self, now: zs.PublisherSnapshot, interval_s: float) -> Measured:
        """What it did since the last look, `interval_s` ago. `now` is of the same publisher."""
        last = self._last
        if now.sequence or not last.sequence:  # else its newest sample could not be read: it changes too fast
            self._last = now
        samples, size = now.published - last.published, now.bytes - last.bytes
        counted, span_ns = now.sequence - last.sequence, now.newest_ns - last.newest_ns
        span: tuple[tuple[int, int], tuple[int, int]] | None = None
        if last.sequence and counted > 0 and span_ns > 0:
            self._rate_hz = counted * 1e9 / span_ns
            span = (last.sequence, last.newest_ns), (now.sequence, now.newest_ns)
        elif counted == 0 and self._rate_hz and now.age_s:
            silent = now.age_s > max(2 * interval_s, SILENT_PERIODS / self._rate_hz)
            return Measured(0.0 if silent else min(self._rate_hz, 1 / now.age_s), samples, self._mean(now))
        mean = size / samples if samples > 0 and size >= 0 else self._mean(now)
        return Measured(self._rate_hz, samples, mean, span)

    @property
    def rate_hz(self) -> float | None:
        """The last rate that was found while samples came."""
        return self._rate_hz

    @staticmethod
    def _mean(now: zs.PublisherSnapshot) -> float | None:
        return now.bytes / now.published if now.published else None


def rate_of(kept: Sequence[zs.SampleFacts]) -> float | None:
    """The rate of samples that can still be taken; None of less than two."""
    if len(kept) < 2 or kept[-1].published_ns <= kept[0].published_ns:
        return None
    return (kept[-1].sequence - kept[0].sequence) * 1e9 / (kept[-1].published_ns - kept[0].published_ns)


def rate_now(kept: Sequence[zs.SampleFacts], age_s: float | None) -> float | None:
    """The same by one look: it falls while the publisher is silent. `age_s`: of its newest sample.

    A short silence changes nothing: what is kept may be a few milliseconds, and a busy machine pauses a process longer.
    """
    rate = rate_of(kept)
    if rate is None or not age_s or age_s < max(PAUSE_S, SILENT_PERIODS / rate):
        return rate
    return min(rate, (kept[-1].sequence - kept[0].sequence) / age_s)


def distinct_subscribers(publishers: Iterable[zs.PublisherSnapshot]) -> int:
    """How many subscribers there are. One that reads several publishers of a topic has an entry in each."""
    found: dict[str, Counter[tuple[int, str]]] = {}
    for each in publishers:
        entries = Counter((peer.pid, peer.name) for peer in each.subscribers)
        found[each.topic] = found.get(each.topic, Counter()) | entries
    return sum(each.total() for each in found.values())


class Seen:
    """The periods between samples that were seen one after the other, and the sizes of the samples."""

    def __init__(self) -> None:
        self._last: zs.SampleFacts | None = None
        self.clear()

    def clear(self) -> None:
        """Forget the figures; the next period may begin with the sample seen last."""
        self.periods_ns: list[int] = []
        self.sizes: list[int] = []

    @property
    def last_sequence(self) -> int:
        """The newest sample that was seen."""
        return self._last.sequence if self._last is not None else 0

    def add(self, samples: Sequence[zs.SampleFacts]) -> None:
        """Samples after those seen before, oldest first."""
        for each in samples:
            if self._last is not None and each.sequence == self._last.sequence + 1:
                self.periods_ns.append(each.published_ns - self._last.published_ns)
            self.sizes.append(each.size_bytes)
            self._last = each

    @property
    def deviation_ns(self) -> float | None:
        """The standard deviation of the periods; None of less than two."""
        if len(self.periods_ns) < 2:
            return None
        mean = sum(self.periods_ns) / len(self.periods_ns)
        return sqrt(sum((each - mean) ** 2 for each in self.periods_ns) / (len(self.periods_ns) - 1))
