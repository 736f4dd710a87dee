"""`zeroslot hz` and `bw`: rate and bandwidth of a topic's publishers, a line for each interval.

The rate is exact (zeroslot.cli.rates). Single periods and sizes are known of the samples that were seen: each look sees
those that can still be taken, and there are several looks an interval.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import zeroslot as zs
from zeroslot.cli.figures import as_bytes, as_json_line, as_rate, as_time
from zeroslot.cli.rates import Measured, Rate, Seen
from zeroslot.cli.table import BOLD, CYAN, DIM, RED, Bar, Cell, lines_of, styled
from zeroslot.cli.topics import print_problems

What = Literal["hz", "bw"]

LOOKS = 10  # in an interval
LEAST_LOOK_S = 0.02
HEADINGS_EVERY = 20  # reports


def report_rates(topic: str, domain: str | None, *, what: What, interval: float, times: int, json_output: bool) -> int:
    """Print a report each interval; `times` 0: until Ctrl-C. 1: at the end there is no publisher that can be read.

    Raises TopicNotFoundError where there is nothing at the beginning.
    """
    with zs.Monitor(topic, domain=domain) as monitor:
        watch = Watch(monitor)
        printer = Lines(watch) if json_output else Table(watch, what)
        printer.begin()
        try:
            for number in range(1, times + 1) if times else itertools.count(1):
                watch.measure(number * interval)
                printer.report()
        finally:
            printer.end()
        return int(not watch.publishers)


@dataclass
class Watched:
    """One publisher: how it began here, and what it did in the last interval."""

    first: zs.PublisherSnapshot
    now: zs.PublisherSnapshot
    rate: Rate
    seen: Seen
    measured: Measured | None = None

    @property
    def whole_rate_hz(self) -> float | None:
        """The rate from the first to the newest sample that was seen."""
        counted, span_ns = self.now.sequence - self.first.sequence, self.now.newest_ns - self.first.newest_ns
        return counted * 1e9 / span_ns if self.first.sequence and span_ns > 0 else None


class Watch:
    """All publishers of one topic."""

    def __init__(self, monitor: zs.Monitor) -> None:
        self.monitor = monitor
        self.topic = str(monitor.topic)
        self.publishers: dict[str, Watched] = {}
        self.seconds = 0.0
        self._began = time.monotonic()
        self.problems: tuple[zs.Problem, ...] = ()
        self._look(0.0)
        if not self.publishers and not self.problems:
            zs.inspect(self.topic, monitor.domain)  # which says what is missing

    def measure(self, until_s: float) -> None:
        """Look several times until so many seconds have passed since the beginning."""
        before = self.seconds
        for each in self.publishers.values():
            each.seen.clear()
        step = max((until_s - before) / LOOKS, LEAST_LOOK_S)
        while (left := self._began + until_s - time.monotonic()) > 0:
            time.sleep(min(step, left))
            for name, each in self.publishers.items():
                each.seen.add(self.monitor.samples_after(name, each.seen.last_sequence))
        self.seconds = time.monotonic() - self._began
        self._look(self.seconds - before)

    def _look(self, interval_s: float) -> None:
        snapshot = self.monitor.snapshot()
        self.problems = snapshot.problems
        known, self.publishers = self.publishers, {}
        for now in snapshot.publishers:
            each = known.get(now.publisher_id)
            if each is None:
                kept, seen = self.monitor.samples_after(now.publisher_id), Seen()
                seen.add(kept[-1:])  # the first period begins here
                seen.clear()
                each = Watched(now, now, Rate(now, kept), seen)
            else:
                if not each.first.sequence:
                    each.first = now
                each.now, each.measured = now, each.rate.update(now, interval_s)
            self.publishers[now.publisher_id] = each

    @property
    def measured(self) -> list[tuple[Watched, Measured]]:
        """The publishers that have been here for an interval."""
        return [(each, each.measured) for each in self.publishers.values() if each.measured is not None]


class Lines:
    """A JSON object a line."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def begin(self) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""

    def report(self) -> None:
        """Print one."""
        found = [_facts(each, measured) for each, measured in self._watch.measured]
        facts = {
            "topic": self._watch.topic,
            "domain": self._watch.monitor.domain,
            "seconds": round(self._watch.seconds, 6),
            "rate_hz": _sum(each["rate_hz"] for each in found),
            "bytes_per_s": _sum(each["bytes_per_s"] for each in found),
            "publishers": found,
            "problems": list(map(asdict, self._watch.problems)),
        }
        print(as_json_line(facts), flush=True)


def _facts(each: Watched, measured: Measured) -> dict[str, Any]:
    periods, sizes = each.seen.periods_ns, each.seen.sizes
    return {
        "publisher_id": each.now.publisher_id,
        "name": each.now.name,
        "pid": each.now.pid,
        "samples": measured.samples,
        "rate_hz": measured.rate_hz,
        "between": [{"sequence": sequence, "published_ns": at_ns} for sequence, at_ns in measured.span or ()],
        "bytes_per_s": measured.bytes_per_s,
        "age_s": each.now.age_s,
        "periods": {
            "seen": len(periods),
            "min_ns": min(periods, default=None),
            "max_ns": max(periods, default=None),
            "deviation_ns": each.seen.deviation_ns,
        },
        "sizes": {
            "seen": len(sizes),
            "mean_bytes": measured.mean_bytes,
            "min_bytes": min(sizes, default=None),
            "max_bytes": max(sizes, default=None),
        },
    }


def _sum(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) if found else None


COLUMNS: dict[What, tuple[str, ...]] = {
    "hz": ("time", "publisher", "rate", "min period", "max", "deviation", "seen", ""),
    "bw": ("time", "publisher", "bandwidth", "rate", "mean size", "min", "max", ""),
}
DROPPED: dict[What, tuple[str, ...]] = {
    "hz": ("deviation", "seen", "max", "min period", "", "publisher"),
    "bw": ("min", "max", "mean size", "", "rate", "publisher"),
}


class Table:
    """A line for each publisher and interval, with a bar beside the figure."""

    def __init__(self, watch: Watch, what: What) -> None:
        self._watch = watch
        self._what: What = what
        self._highest = 0.0
        self._reports = 0

    def begin(self) -> None:
        """Print what is looked at."""
        print(f"{styled(self._watch.topic, BOLD)}  (domain {self._watch.monitor.domain})")
        print_problems(self._watch.problems)
        sys.stdout.flush()

    def report(self) -> None:
        """Print the lines of one interval."""
        measured = self._watch.measured
        values = [value for _, each in measured if (value := self._value(each)) is not None]
        self._highest = max([self._highest, *values])
        rows = [self._row(each, found) for each, found in measured]
        if len(rows) > 1:
            rows.append(self._total(sum(values)))
        if not rows:
            rows = [[self._time(), Cell("no publisher", RED), *[""] * 5, Bar(0)]]
        lines = lines_of(
            COLUMNS[self._what], rows, right=COLUMNS[self._what][2:-1], flexible="publisher",
            droppable=DROPPED[self._what],
        )  # fmt: skip  # what is shown, and how
        repeat = HEADINGS_EVERY if sys.stdout.isatty() else 0
        with_headings = self._reports == 0 or (repeat and self._reports % repeat == 0)
        self._reports += 1
        print("\n".join(lines if with_headings else lines[1:]), flush=True)

    def end(self) -> None:
        """Print the figures over all of the time."""
        if self._reports < 2:
            return
        for each in self._watch.publishers.values():
            rate = each.whole_rate_hz
            size = (each.now.bytes - each.first.bytes) / max(1, each.now.published - each.first.published)
            shown = as_rate(rate) if self._what == "hz" or rate is None else f"{as_bytes(rate * size)}/s"
            samples = each.now.published - each.first.published
            print(f"{each.now.name}: {shown} over {self._watch.seconds:.1f} s, {samples:,} samples", flush=True)

    def _value(self, measured: Measured) -> float | None:
        return measured.rate_hz if self._what == "hz" else measured.bytes_per_s

    def _time(self) -> str:
        return f"{self._watch.seconds:6.1f} s"

    def _row(self, each: Watched, measured: Measured) -> list[str | Cell | Bar]:
        value, periods, sizes = self._value(measured), each.seen.periods_ns, each.seen.sizes
        shown: list[str | Cell]
        if self._what == "hz":
            some = f"{len(periods):,} of {max(measured.samples, len(periods)):,}" if periods else "-"
            shown = [
                Cell(f"{as_rate(value):>14}", BOLD), *(f"{as_time(found):>9}" for found in (
                    min(periods, default=None), max(periods, default=None), each.seen.deviation_ns)),
                Cell(f"{some:>14}", DIM),
            ]  # fmt: skip  # a row is a row
        else:
            shown = [
                Cell(f"{_bytes_rate(value):>12}", BOLD), f"{as_rate(measured.rate_hz):>14}",
                *(f"{_size(found):>9}" for found in (
                    measured.mean_bytes, min(sizes, default=None), max(sizes, default=None))),
            ]  # fmt: skip  # a row is a row
        return [self._time(), f"{each.now.name:<10}", *shown, self._bar(value)]

    def _total(self, value: float) -> list[str | Cell | Bar]:
        shown = as_rate(value) if self._what == "hz" else _bytes_rate(value)
        return [self._time(), Cell("all", BOLD), Cell(shown, BOLD), "", "", "", "", Bar(0)]

    def _bar(self, value: float | None) -> Bar:
        return Bar((value or 0.0) / self._highest if self._highest else 0.0, CYAN)


def _bytes_rate(value: float | None) -> str:
    return "-" if value is None else f"{as_bytes(value)}/s"


def _size(value: float | None) -> str:
    return "-" if value is None else as_bytes(round(value))
