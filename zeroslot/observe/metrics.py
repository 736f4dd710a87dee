"""`MetricsCollector`: the counters of live publishers and subscribers as Prometheus metrics.

It reads what a `Monitor` reads, at each scrape, and so takes no part.

Why the labels are names and not process ids: each new value of a label is a new time series, which a Prometheus keeps.
A publisher that restarts every hour would make one an hour. Processes of the same name are summed, and no sum gets
smaller when one of them ends. `with_pid` tells them apart, for processes that restart rarely.

Why the histogram has fewer buckets than the segment: each is a time series as well.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from zeroslot.memory.directories import checked_domain
from zeroslot.observe.accumulated import Accumulated, Counts, Labels
from zeroslot.observe.histogram import BOUNDS_NS
from zeroslot.observe.monitor import Monitor, PublisherSnapshot, Snapshot, SubscriberSnapshot

if TYPE_CHECKING:
    from prometheus_client.core import Metric

# Of the publisher's counters: the metric, what it counts, and the factor to its unit.
PUBLISHER_COUNTERS = {
    "published": ("published_samples", "Samples published.", 1.0),
    "bytes": ("published_bytes", "Bytes of the samples published.", 1.0),
    "discarded": ("discarded_loans", "Loans that ended without a sample.", 1.0),
    "no_free_slot": ("no_free_slot", "Loans that failed because no slot was free.", 1.0),
    "wakes": ("wakes", "System calls that woke sleeping subscribers.", 1.0),
    "reaped": ("reaped_subscribers", "Dead subscribers whose entries the publisher cleared.", 1.0),
    "evicted": ("evicted_subscribers", "Subscribers that the publisher evicted.", 1.0),
    "blocked": ("blocked", "Times that the publisher waited for subscribers.", 1.0),
    "blocked_ns": ("blocked_seconds", "Time that the publisher waited for subscribers.", 1e-9),
}
SUBSCRIBER_COUNTERS = {
    "taken": ("taken_samples", "Samples taken."),
    "lost": ("lost_samples", "Samples overwritten before they were taken."),
    "skipped": ("skipped_samples", "Samples skipped on purpose."),
}
POOL_COUNTERS = {
    "committed": ("pool_published_samples", "Samples published in slots of this capacity."),
    "discarded": ("pool_discarded_loans", "Loans of slots of this capacity that ended without a sample."),
    "passed_on": ("pool_passed_on_loans", "Loans that fit this capacity and got a larger slot."),
    "no_free_slot": ("pool_no_free_slot", "Loans that fit this capacity and got no slot."),
}
PUBLISHER_LABELS = ("domain", "topic", "publisher")
# The ends of the buckets of the latency histogram: each is four times the one before, from 64 ns to 17 s.
ENDS = tuple(bucket for bucket in range(9, len(BOUNDS_NS), 8) if BOUNDS_NS[bucket] < 20e9)


class MetricsCollector:
    """A collector for a registry of prometheus_client: `registry.register(MetricsCollector())`.

    It has the metrics of all topics of a domain, or of one. Each scrape reads the counters anew, which takes about
    20 us a publisher and disturbs none. `with_pid`: labels with process ids, which make new time series with each
    restart. Threads may share it. A context manager.

    Counters of processes with the same labels are summed, and stay in the sum when one of them ends. Latencies come
    from one take in 64. Needs prometheus_client (the extra `metrics`); raises ModuleNotFoundError without it.

    >>> registry = CollectorRegistry()
    >>> registry.register(MetricsCollector("robot/imu"))
    """

    def __init__(self, topic: str | None = None, *, domain: str | None = None, with_pid: bool = False) -> None:
        try:
            import prometheus_client  # noqa: F401  # an error of the constructor, and not of the first scrape
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "metrics need prometheus_client, which is not installed: pip install 'zeroslot[metrics]'",
                name=error.name,
            ) from None
        self.domain = checked_domain(domain)
        self.topic = topic
        self.with_pid = with_pid
        self._publisher_label_names = (*PUBLISHER_LABELS, *(("publisher_pid",) if with_pid else ()))
        self._monitor = Monitor(topic, domain=self.domain)
        self._lock = threading.Lock()
        self._sums = {name: Accumulated() for name in ("publishers", "pools", "subscribers")}

    def describe(self) -> list[Metric]:
        """Nothing: a registry then does not scrape when the collector is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics now. Raises PermissionError when the domain's directory may not be read, ClosedError after
        `close`.
        """
        with self._lock:  # of two scrapes at once
            snapshot = self._monitor.snapshot()
            yield from list(self._metrics(snapshot))

    def close(self) -> None:
        """Let go of all mappings. A second call does nothing."""
        self._monitor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- what is behind it

    def _metrics(self, snapshot: Snapshot) -> Iterator[Metric]:
        publishers = [(self._publisher_labels(each), each) for each in snapshot.publishers]
        subscribers = [
            (self._subscriber_labels(labels, peer), each, peer)
            for labels, each in publishers
            for peer in each.subscribers
        ]
        yield from self._of_publishers(publishers)
        yield from self._of_pools(publishers)
        yield from self._of_subscribers(subscribers)
        problems: dict[Labels, float] = {}
        for problem in snapshot.problems:
            problems[self.domain, problem.kind] = problems.get((self.domain, problem.kind), 0) + 1
        yield _gauge("problems", "Things in the domain's directory that cannot be read.", ("domain", "kind"), problems)

    def _publisher_labels(self, each: PublisherSnapshot) -> Labels:
        pid = (str(each.pid),) if self.with_pid else ()
        return (self.domain, each.topic, each.name, *pid)

    def _subscriber_labels(self, publisher: Labels, peer: SubscriberSnapshot) -> Labels:
        pid = (str(peer.pid),) if self.with_pid else ()
        return (*publisher, peer.name, *pid)

    def _of_publishers(self, publishers: list[tuple[Labels, PublisherSnapshot]]) -> Iterator[Metric]:
        names = self._publisher_label_names
        now: dict[Hashable, tuple[Labels, Counts]] = {
            each.publisher_id: (labels, tuple(each.counters[name] for name in PUBLISHER_COUNTERS))
            for labels, each in publishers
        }
        sums = self._sums["publishers"].update(now)
        for at, (name, text, factor) in enumerate(PUBLISHER_COUNTERS.values()):
            yield _counter(name, text, names, {labels: counts[at] * factor for labels, counts in sums.items()})
        yield _gauge("publishers", "Live publishers.", names, _added(publishers, lambda _: 1))
        memory = _added(publishers, lambda each: sum(pool.size_bytes for pool in each.pools))
        yield _gauge("memory_bytes", "Shared memory of the slots.", names, memory)
        ages: dict[Labels, float] = {}
        for labels, each in publishers:
            if each.age_s is not None:
                ages[labels] = min(each.age_s, ages.get(labels, each.age_s))
        yield _gauge("newest_sample_age_seconds", "How long ago the newest sample was published.", names, ages)
        promised = {labels: each.max_period_s for labels, each in publishers if each.max_period_s is not None}
        yield _gauge("max_period_seconds", "The longest time between two samples that is promised.", names, promised)

    def _of_pools(self, publishers: list[tuple[Labels, PublisherSnapshot]]) -> Iterator[Metric]:
        names = (*self._publisher_label_names, "slot_bytes")
        pools = [
            ((*labels, str(pool.slot_capacity)), (each.publisher_id, k), pool)
            for labels, each in publishers
            for k, pool in enumerate(each.pools)
        ]
        sums = self._sums["pools"].update(
            {source: (labels, tuple(getattr(pool, name) for name in POOL_COUNTERS)) for labels, source, pool in pools}
        )
        for at, (name, text) in enumerate(POOL_COUNTERS.values()):
            yield _counter(name, text, names, {labels: counts[at] for labels, counts in sums.items()})
        slots = _added(((labels, pool) for labels, _, pool in pools), lambda pool: pool.slot_count)
        yield _gauge("pool_slots", "Slots of this capacity.", names, slots)

    def _of_subscribers(
        self, subscribers: list[tuple[Labels, PublisherSnapshot, SubscriberSnapshot]]
    ) -> Iterator[Metric]:
        names = (*self._publisher_label_names, "subscriber", *(("subscriber_pid",) if self.with_pid else ()))
        now: dict[Hashable, tuple[Labels, Counts]] = {
            (each.publisher_id, peer.index, peer.epoch): (
                labels,
                (*(getattr(peer, name) for name in SUBSCRIBER_COUNTERS), *peer.latency.counts),
            )
            for labels, each, peer in subscribers
        }
        sums = self._sums["subscribers"].update(now)
        for at, (name, text) in enumerate(SUBSCRIBER_COUNTERS.values()):
            yield _counter(name, text, names, {labels: counts[at] for labels, counts in sums.items()})
        latencies = {labels: counts[len(SUBSCRIBER_COUNTERS) :] for labels, counts in sums.items()}
        yield _histogram("latency_seconds", "Age of samples when they were taken, of one take in 64.", names, latencies)
        pairs = [(labels, peer) for labels, _, peer in subscribers]
        yield _gauge("subscribers", "Live subscribers.", names, _added(pairs, lambda _: 1))
        yield _gauge("held_samples", "Samples held now.", names, _added(pairs, lambda peer: peer.held))
        yield _gauge(
            "max_leases", "Samples that may be held at once.", names, _added(pairs, lambda peer: peer.max_leases)
        )
        behind: dict[Labels, float] = {}
        lag: dict[Labels, float] = {}
        for labels, peer in pairs:
            behind[labels] = max(peer.behind, behind.get(labels, 0))
            if peer.lag_s is not None:
                lag[labels] = max(peer.lag_s, lag.get(labels, 0.0))
        yield _gauge("behind_samples", "Samples not taken yet, of the one that is most behind.", names, behind)
        yield _gauge("lag_seconds", "Age of the oldest sample not taken yet.", names, lag)


def _added(pairs: Iterable[tuple[Labels, Any]], value: Callable[[Any], int]) -> dict[Labels, int]:
    """The sums of a value by labels."""
    sums: dict[Labels, int] = {}
    for labels, each in pairs:
        sums[labels] = sums.get(labels, 0) + value(each)
    return sums


def _counter(name: str, text: str, labels: Labels, values: Mapping[Labels, float]) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"zeroslot_{name}", text, labels=labels)
    for each, value in values.items():
        family.add_metric(each, value)
    return family


def _gauge(name: str, text: str, labels: Labels, values: Mapping[Labels, float]) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"zeroslot_{name}", text, labels=labels)
    for each, value in values.items():
        family.add_metric(each, value)
    return family


def _histogram(name: str, text: str, labels: Labels, values: Mapping[Labels, Counts]) -> Metric:
    """A histogram in seconds. Its sum is computed from the middles of the segment's buckets, at most 13 % off."""
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(f"zeroslot_{name}", text, labels=labels)
    middles = [(low + high) / 2e9 for low, high in zip(BOUNDS_NS, (*BOUNDS_NS[1:], BOUNDS_NS[-1]), strict=True)]
    for each, counts in values.items():
        buckets = [(repr(BOUNDS_NS[end] / 1e9), float(sum(counts[:end]))) for end in ENDS]
        buckets.append(("+Inf", float(sum(counts))))
        family.add_metric(each, buckets, sum(count * middle for count, middle in zip(counts, middles, strict=True)))
    return family
