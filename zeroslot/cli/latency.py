"""`zeroslot latency`: how long samples waited for each subscriber, as the subscribers themselves have counted it."""

from __future__ import annotations

import itertools
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import zeroslot as zs
from zeroslot.cli.drawing import histogram_lines
from zeroslot.cli.figures import PERCENTILES, as_json, as_json_line, as_lag, as_time
from zeroslot.cli.table import BOLD, DIM, Cell, lines_of, paragraph, printable, styled, terminal_width
from zeroslot.cli.topics import print_problems

HEADINGS = ("publisher", "subscriber", "pid", "p50", "p90", "p99", "p99.9", "max", "counted", "waiting", "lag")
NUMBERS = HEADINGS[2:]
DROPPED = ("waiting", "pid", "lag", "p99.9", "counted", "p90", "publisher")
WIDTH, WIDEST = 80, 100  # of a histogram where stdout is no terminal, and at most


@dataclass(frozen=True, slots=True)
class Waited:
    """What one subscriber of one publisher has counted."""

    publisher: zs.PublisherSnapshot
    peer: zs.SubscriberSnapshot
    latency: zs.LatencyHistogram

    @property
    def key(self) -> tuple[str, int, int]:
        """The subscriber, in all of its snapshots."""
        return self.publisher.publisher_id, self.peer.index, self.peer.epoch


def report_latencies(topic: str, domain: str | None, *, interval: float | None, times: int, json_output: bool) -> int:
    """Print what every subscriber has counted since it attached; with an interval, what it counts in each one.

    1: the topic has no publisher that can be read. Raises TopicNotFoundError where there is nothing at all.
    """
    with zs.Monitor(topic, domain=domain) as monitor:
        snapshot = monitor.snapshot()
        if not snapshot.publishers and not snapshot.problems:
            zs.inspect(topic, domain)  # which says what is missing
        if interval is None:
            _print(snapshot, topic, _waited(snapshot, {}), json_output=json_output)
            return int(not snapshot.publishers)
        began = time.monotonic()
        for number in range(1, times + 1) if times else itertools.count(1):
            before = {each.key: each.peer.latency for each in _waited(snapshot, {})}
            time.sleep(max(0.0, began + number * interval - time.monotonic()))
            snapshot = monitor.snapshot()
            seconds = time.monotonic() - began
            waited = _waited(snapshot, before)
            _print(snapshot, topic, waited, json_output=json_output, seconds=seconds, explain=number == 1)
        return int(not snapshot.publishers)


def _waited(snapshot: zs.Snapshot, before: dict[tuple[str, int, int], zs.LatencyHistogram]) -> list[Waited]:
    found = [Waited(each, peer, peer.latency) for each in snapshot.publishers for peer in each.subscribers]
    return [
        Waited(each.publisher, each.peer, each.latency.since(before[each.key])) if each.key in before else each
        for each in found
    ]


def _print(
    snapshot: zs.Snapshot,
    topic: str,
    waited: list[Waited],
    *,
    json_output: bool,
    seconds: float | None = None,
    explain: bool = True,
) -> None:
    if json_output:
        facts = {"topic": topic, "domain": snapshot.domain, "seconds": seconds, "every": _every(waited),
                 "subscribers": [_facts(each) for each in waited],
                 "problems": list(map(asdict, snapshot.problems))}  # fmt: skip  # what belongs together stands together
        print(as_json(facts) if seconds is None else as_json_line(facts), flush=True)
        return
    when = "" if seconds is None else f"  {seconds:.1f} s"
    print(f"{styled(topic, BOLD)}  (domain {snapshot.domain}){when}")
    print_problems(snapshot.problems)
    if waited:
        several = len(snapshot.publishers) > 1
        headings = HEADINGS if several else HEADINGS[1:]
        rows = [_row(each)[len(HEADINGS) - len(headings) :] for each in waited]
        print("\n".join(lines_of(headings, rows, right=NUMBERS, flexible="subscriber", droppable=DROPPED)))
        if seconds is None:
            _print_histograms(waited, several=several)
        for line in paragraph(_how_coarse(waited), indent="").splitlines() if explain else ():
            print(styled(line, DIM))
    elif snapshot.publishers:
        print("no subscriber")
    sys.stdout.flush()


def _row(each: Waited) -> list[str | Cell]:
    percentiles = [each.latency.percentile(part) for _, part in PERCENTILES[:-1]]
    longest = each.latency.max_ns if each.latency.count else None
    shown: list[str | Cell] = [as_time(value) for value in percentiles]
    shown[0] = Cell(as_time(percentiles[0]), BOLD)
    return [each.publisher.name, each.peer.name, str(each.peer.pid), *shown, as_time(longest),
            f"{each.latency.count:,}", f"{each.peer.behind:,}",
            as_lag(each.peer.lag_s, each.peer.behind)]  # fmt: skip  # a row is a row


def _print_histograms(waited: list[Waited], *, several: bool) -> None:
    width = min(terminal_width() or WIDTH, WIDEST)
    for each in waited:
        lines = histogram_lines(_octaves(each.latency), width)
        if lines:
            of = f"{each.latency.count:,} of {each.peer.taken:,} takes counted"
            source = f" from {printable(each.publisher.name)}" if several else ""
            print(f"\n{styled(printable(each.peer.name), BOLD)} (pid {each.peer.pid}){source}, {of}")
            print("\n".join(lines))
    if any(each.latency.count for each in waited):
        print()


def _octaves(latency: zs.LatencyHistogram) -> list[tuple[float, float, int]]:
    """The buckets of the histogram, those of an octave as one: 4 of them, and the first one."""
    bounds, found = latency.bounds_ns, []
    for first in (0, *range(1, len(bounds), 4)):
        after = first + 4 if first else 1
        count = sum(latency.counts[first:after])
        found.append((float(bounds[first]), float(bounds[after] if after < len(bounds) else latency.max_ns), count))
    return found


def _every(waited: list[Waited]) -> int | None:
    return waited[0].latency.every if waited else None


def _how_coarse(waited: list[Waited]) -> str:
    text = f"One take in {_every(waited)} is counted. A percentile is the middle of its bucket, at most 13 % off"
    few = min((each.latency.count for each in waited if each.latency.count), default=0)
    return text + (f"; p99.9 of {few:,} is little more than the longest." if 0 < few < 1000 else ".")


def _facts(each: Waited) -> dict[str, Any]:
    latency = each.latency
    longest = latency.max_ns if latency.count else None
    percentiles = {name: latency.percentile(part) for name, part in PERCENTILES[:-1]}
    buckets = {name: latency.bucket_at(part) for name, part in PERCENTILES[:-1]}
    return {
        "publisher_id": each.publisher.publisher_id,
        "publisher": each.publisher.name,
        "name": each.peer.name,
        "pid": each.peer.pid,
        "taken": each.peer.taken,
        "counted": latency.count,
        "latency_ns": percentiles | {"max": longest},
        "bucket_ns": buckets,
        "behind": each.peer.behind,
        "lag_s": each.peer.lag_s,
    }
