"""What the demo shows: a live picture on a terminal, plain lines elsewhere, and the summary."""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from zeroslot.cli.drawing import bar, sparkline, spread_lines, spread_of
from zeroslot.cli.figures import Histogram, as_bytes, as_time
from zeroslot.cli.screen import Screen as Terminal
from zeroslot.cli.screen import is_terminal
from zeroslot.cli.table import BOLD, CYAN, DIM, GREEN, RED, Cell, cut, lines_of, styled, terminal_width

LINE_S = 0.99
HISTORY = 40  # rates that are remembered, and columns of their picture
SPARKS, NARROW_SPARKS = 16, 12
WIDE = 100  # columns, from which the pictures of rates are wide
RECENT_NS = 1_000_000_000


class Rate:
    """How much a counter that is reported from time to time grows in a second, over the last second or so."""

    def __init__(self) -> None:
        self._seen: list[tuple[int, int]] = []
        self.history: deque[float | None] = deque(maxlen=HISTORY)

    def note(self, count: int, now_ns: int) -> None:
        """The counter stood at `count`."""
        self._seen.append((now_ns, count))
        while len(self._seen) > 2 and now_ns - self._seen[1][0] >= RECENT_NS:
            del self._seen[0]
        if len(self._seen) > 1:
            self.history.append(self.per_second)

    @property
    def per_second(self) -> float:
        """0 until there are two reports."""
        if len(self._seen) < 2:
            return 0.0
        (since, before), (now, count) = self._seen[0], self._seen[-1]
        return (count - before) * 1e9 / max(now - since, 1)


@dataclass
class SubscriberState:
    """What one subscriber process has reported: `recent` since the last line or picture, `latency` since the start."""

    pid: int
    taken: int = 0
    lost: int = 0
    torn: int = 0
    latency: Histogram = field(default_factory=Histogram)
    recent: Histogram = field(default_factory=Histogram)
    rate: Rate = field(default_factory=Rate)

    def note(self, report: dict[str, Any]) -> None:
        """Take over a report."""
        self.taken, self.lost, self.torn = report["taken"], report["lost"], report["torn"]
        self.latency.update(report["latency"])
        self.recent.update(report["latency"])
        self.rate.note(self.taken, time.monotonic_ns())

    def summary(self) -> dict[str, Any]:
        """For JSON."""
        latency = {"p50": self.latency.at(0.5), "p99": self.latency.at(0.99), "max": self.latency.at(1.0)}
        return {"pid": self.pid, "taken": self.taken, "lost": self.lost, "torn": self.torn, "latency_ns": latency}


@dataclass
class TopicState:
    """What is known of one topic."""

    name: str
    type_name: str
    sample_bytes: int
    pid: int
    subscribers: list[SubscriberState]
    published: int = 0
    seconds: float = 0.0
    rate: Rate = field(default_factory=Rate)

    def note(self, count: int) -> None:
        """The publisher's counter."""
        self.published = count
        self.rate.note(count, time.monotonic_ns())

    @property
    def missing(self) -> int:
        """Samples that some subscriber neither took nor counts as lost: none, once all have finished."""
        return sum(abs(self.published - one.taken - one.lost) for one in self.subscribers)

    def summary(self) -> dict[str, Any]:
        """For JSON."""
        rate = self.published / self.seconds if self.seconds else 0.0
        return {
            "topic": self.name, "type": self.type_name, "sample_bytes": self.sample_bytes, "pid": self.pid,
            "published": self.published, "rate_hz": rate, "bytes_per_second": rate * self.sample_bytes,
            "subscribers": [one.summary() for one in self.subscribers],
        }  # fmt: skip  # what belongs together stands together


class Screen(Protocol):
    """Where the demo shows itself. A context manager around the run; `update` is called often."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *exception: object) -> Any: ...

    def update(self, topics: list[TopicState], seconds: float) -> None:
        """Show how things stand after so many seconds."""


class Silent:
    """Shows nothing."""

    def __enter__(self) -> None: ...

    def __exit__(self, *exception: object) -> None: ...

    def update(self, topics: list[TopicState], seconds: float) -> None:
        """Show nothing."""


class Lines:
    """A line a second and topic, for logs and pipes."""

    def __init__(self) -> None:
        self._printed_s = 0.0

    def __enter__(self) -> None:
        print(f"zeroslot demo, pid {os.getpid()}: starting two publishers and four subscribers", flush=True)

    def __exit__(self, *exception: object) -> None: ...

    def update(self, topics: list[TopicState], seconds: float) -> None:
        """Print, once a second."""
        if seconds - self._printed_s < LINE_S:
            return
        self._printed_s = seconds
        for topic in topics:
            print(f"{seconds:5.1f} s  {_line(topic)}", flush=True)


def _line(topic: TopicState) -> str:
    parts = [
        f"{topic.name:<11} {topic.rate.per_second:7.1f}/s {as_bytes(topic.rate.per_second * topic.sample_bytes):>8}/s"
    ]
    for one in topic.subscribers:
        recent = f"p50 {as_time(one.recent.at(0.5))}, p99 {as_time(one.recent.at(0.99))}"
        parts.append(f"{recent}, lost {one.lost}, torn {one.torn}")
        one.recent.clear()
    return "  |  ".join(parts)


class Picture:
    """Fills the terminal while the demo runs. `seconds`: how long that is."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._terminal = Terminal()

    def __enter__(self) -> None:
        self._terminal.__enter__()
        self._terminal.draw(["", styled(" zeroslot demo", BOLD), "", " starting two publishers and four subscribers…"])

    def __exit__(self, *exception: object) -> None:
        self._terminal.__exit__()

    def update(self, topics: list[TopicState], seconds: float) -> None:
        """Draw."""
        self._terminal.keys(0)
        columns, _ = self._terminal.size
        clock = f"{seconds:.1f} of {self._seconds:g} s"
        room = columns - len(clock) - 36
        done = bar(seconds, self._seconds, min(room, 40)) if room > 3 else ""
        title = cut(f" zeroslot demo  {clock}  {done}", columns)
        picture = ["", styled(title, BOLD), "", *_picture(topics, columns, recent=True), ""]
        self._terminal.draw([*picture, styled(cut(" Ctrl-C ends it", columns), DIM)])
        for one in (one for topic in topics for one in topic.subscribers):
            one.recent.clear()


HEADINGS = ("topic", "pid", "samples", "rate", "history", "bandwidth", "p50", "p99", "lost", "torn", "latency")
DROPPED = ("pid", "bandwidth", "samples", "latency", "history", "p50")


def _picture(topics: list[TopicState], columns: int | None, *, recent: bool) -> list[str]:
    """The table of all topics, and what its column of latencies means."""
    subscribers = [one for topic in topics for one in topic.subscribers]
    sparks = NARROW_SPARKS if (columns or terminal_width() or WIDE) < WIDE else SPARKS
    spreads, scale = spread_lines([spread_of(one.latency.values()) for one in subscribers])
    spread = {one.pid: line for one, line in zip(subscribers, spreads, strict=True)}
    rows: list[list[str | Cell]] = []
    for topic in topics:
        rows.append(_publisher(topic, sparks, recent=recent))
        rows += [_subscriber(one, topic, spread[one.pid], sparks, recent=recent) for one in topic.subscribers]
    lines = lines_of(HEADINGS, rows, right=HEADINGS[1:-1], flexible="topic", least=17, droppable=DROPPED, width=columns,
                     indent=" ", heading_style=DIM)  # fmt: skip  # what is shown, and how
    if scale and "latency" in lines[0]:
        note = f" latency: {scale}"
        lines += ["", styled(note if columns is None else cut(note, columns), DIM)]
    return lines


def _publisher(topic: TopicState, sparks: int, *, recent: bool) -> list[str | Cell]:
    rate = topic.rate.per_second if recent else topic.published / max(topic.seconds, 1e-9)
    return [
        Cell(f"{topic.name} {topic.type_name}", BOLD), str(topic.pid), f"{topic.published:,}", f"{rate:.1f}/s",
        Cell(sparkline(list(topic.rate.history), sparks), CYAN), f"{as_bytes(rate * topic.sample_bytes)}/s",
        "", "", "", "", "",
    ]  # fmt: skip  # a row is a row


def _subscriber(one: SubscriberState, topic: TopicState, spread: str, sparks: int, *, recent: bool) -> list[str | Cell]:
    rate = one.rate.per_second if recent else one.taken / max(topic.seconds, 1e-9)
    times = one.recent if recent and one.recent.buckets else one.latency
    highest = max((each for each in topic.rate.history if each is not None), default=None)
    return [
        "  subscriber", str(one.pid), f"{one.taken:,}", f"{rate:.1f}/s",
        Cell(sparkline(list(one.rate.history), sparks, highest), CYAN), f"{as_bytes(rate * topic.sample_bytes)}/s",
        as_time(times.at(0.5)), as_time(times.at(0.99)), _count(one.lost), _count(one.torn), Cell(spread, GREEN),
    ]  # fmt: skip  # a row is a row


def _count(bad: int) -> Cell:
    return Cell(f"{bad:,}", RED if bad else GREEN)


def screen_for_stdout(seconds: float) -> Screen:
    """A picture where stdout is a terminal, lines elsewhere."""
    return Picture(seconds) if is_terminal() else Lines()


def print_summary(topics: list[TopicState], verdict: str) -> None:
    """The end: all figures over the whole run, and what they say."""
    if is_terminal():
        print("\n".join([styled("zeroslot demo, the whole run", BOLD), *_picture(topics, None, recent=False), ""]))
    else:
        for topic in topics:
            rate = topic.published / max(topic.seconds, 1e-9)
            bandwidth = as_bytes(rate * topic.sample_bytes)
            print(f"{topic.name}: {topic.published} published, {rate:.1f}/s, {bandwidth}/s")
            for one in topic.subscribers:
                times = f"p50 {as_time(one.latency.at(0.5))}, p99 {as_time(one.latency.at(0.99))}"
                print(f"  subscriber {one.pid}: {one.taken} taken, {times}, lost {one.lost}, torn {one.torn}")
    print(verdict, flush=True)
