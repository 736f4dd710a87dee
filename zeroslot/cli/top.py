"""`zeroslot top`: the topics of a domain with their rates, and what each subscriber takes, loses and is behind.

What is shown of a publisher is exact (zeroslot.cli.rates). A subscriber's rates are differences of its counters, and
its latencies those of the last ten seconds or so that it has counted itself.

Why only the lines that can be seen are made: a domain may have hundreds of topics, and a terminal fifty lines.
"""

from __future__ import annotations

import math
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import zeroslot as zs
from zeroslot.cli.drawing import sparkline
from zeroslot.cli.figures import as_bytes, as_duration, as_json, as_json_line, as_lag, as_short_rate, as_time
from zeroslot.cli.rates import Measured, Rate, distinct_subscribers
from zeroslot.cli.screen import Screen, is_terminal
from zeroslot.cli.table import (
    BOLD,
    CYAN,
    DIM,
    RED,
    RESET,
    YELLOW,
    Cell,
    cut,
    fault_cell,
    has_colours,
    lines_of,
    printable,
    width_of,
)
from zeroslot.cli.topics import print_problems, problem_line

HISTORY = 60  # rates that are remembered
LATENCY_S = 10.0  # the latencies shown are of so long
SPARKS = 20
REVERSE = "\x1b[7m"
HEADINGS = ("topic", "type", "rate", "history", "bandwidth", "lag", "lost/s", "lost", "p50", "p99", "pid")
DROPPED = ("pid", "type", "p50", "p99", "bandwidth", "lost/s", "history")
NUMBERS = tuple(heading for heading in HEADINGS if heading not in {"topic", "type"})
SORTS = {"n": "topic", "r": "rate", "b": "bandwidth", "l": "lag", "d": "lost", "p": "p99"}
FIRST_DOWN = ("rate", "bandwidth", "lag", "lost", "p99")  # the largest first


@dataclass
class PeerRow:
    """One subscriber of one publisher."""

    now: zs.SubscriberSnapshot
    taken_hz: float = 0.0
    lost_hz: float = 0.0
    history: deque[float | None] = field(default_factory=lambda: deque(maxlen=HISTORY))
    latencies: deque[tuple[float, zs.LatencyHistogram]] = field(default_factory=deque)

    def update(self, now: zs.SubscriberSnapshot, seconds: float) -> None:
        """What it did since the last look."""
        self.taken_hz = max(0, now.taken - self.now.taken) / seconds
        self.lost_hz = max(0, now.lost - self.now.lost) / seconds
        self.now = now
        self.history.append(self.taken_hz)

    @property
    def latency(self) -> zs.LatencyHistogram:
        """What it has counted in the last seconds; all that it has counted, where that is nothing."""
        recent = self.now.latency.since(self.latencies[0][1])
        return recent if recent.count else self.now.latency


@dataclass
class Row:
    """One publisher, and its subscribers."""

    now: zs.PublisherSnapshot
    rate: Rate
    measured: Measured
    peers: dict[tuple[int, int], PeerRow] = field(default_factory=dict)
    is_one_of_several: bool = False  # publishers of the topic
    history: deque[float | None] = field(default_factory=lambda: deque(maxlen=HISTORY))

    @property
    def title(self) -> str:
        """The topic, and the publisher's name where there are several."""
        return f"{self.now.topic} ({self.now.name})" if self.is_one_of_several else self.now.topic

    @property
    def lag_s(self) -> float:
        """The longest lag of its subscribers."""
        return max((peer.now.lag_s or 0.0 for peer in self.peers.values()), default=0.0)

    @property
    def lost(self) -> int:
        """What its subscribers have lost."""
        return sum(peer.now.lost for peer in self.peers.values())

    @property
    def lost_hz(self) -> float:
        """What they lose in a second."""
        return sum(peer.lost_hz for peer in self.peers.values())

    @property
    def p99_ns(self) -> float:
        """The highest p99 of its subscribers."""
        return max((peer.latency.percentile(0.99) or 0.0 for peer in self.peers.values()), default=0.0)


class Model:
    """What is known of a domain, from look to look."""

    def __init__(self, monitor: zs.Monitor) -> None:
        self._monitor = monitor
        self._looked_s: float | None = None
        self.rows: dict[str, Row] = {}
        self.waiting: dict[str, tuple[zs.WaitingInfo, ...]] = {}
        self.problems: tuple[zs.Problem, ...] = ()
        self.domain = monitor.domain

    def look(self) -> None:
        """Read all counters."""
        snapshot = self._monitor.snapshot(waiting=True)
        at_s = time.monotonic()
        seconds = max(at_s - self._looked_s, 1e-6) if self._looked_s is not None else math.inf
        self._looked_s = at_s
        self.problems, self.waiting = snapshot.problems, snapshot.waiting
        known, self.rows = self.rows, {}
        publishers = Counter(now.topic for now in snapshot.publishers)
        for now in snapshot.publishers:
            row = known.get(now.publisher_id)
            if row is None:
                rate = Rate(now, self._monitor.samples_after(now.publisher_id))
                row = Row(now, rate, rate.update(now, 0.0))
            else:
                row.now, row.measured = now, row.rate.update(now, seconds)
                row.history.append(row.measured.rate_hz)
            row.is_one_of_several = publishers[now.topic] > 1
            self._update_peers(row, at_s, seconds)
            self.rows[now.publisher_id] = row

    @staticmethod
    def _update_peers(row: Row, at_s: float, seconds: float) -> None:
        known, row.peers = row.peers, {}
        for now in row.now.subscribers:
            peer = known.get((now.index, now.epoch))
            if peer is None:
                peer = PeerRow(now)
            else:
                peer.update(now, seconds)
            peer.latencies.append((at_s, now.latency))
            while len(peer.latencies) > 2 and at_s - peer.latencies[1][0] >= LATENCY_S:
                peer.latencies.popleft()
            row.peers[now.index, now.epoch] = peer


SORTED_BY: dict[str, Callable[[Row], Any]] = {
    "topic": lambda row: row.now.topic,
    "rate": lambda row: row.measured.rate_hz or 0.0,
    "bandwidth": lambda row: row.measured.bytes_per_s or 0.0,
    "lag": lambda row: row.lag_s,
    "lost": lambda row: (row.lost_hz, row.lost),
    "p99": lambda row: row.p99_ns,
}


@dataclass
class View:
    """How the model is shown: what the keys change."""

    sort: str = "topic"
    reverse: bool = False
    subscribers: bool = True
    paused: bool = False
    filter: str = ""
    typing: bool = False
    offset: int = 0

    def rows(self, model: Model) -> list[Row]:
        """The publishers in their order."""
        found = [row for row in model.rows.values() if self.filter in row.now.topic]
        found.sort(key=lambda row: (row.now.topic, row.now.name, row.now.pid))
        down = (self.sort in FIRST_DOWN) != self.reverse
        return sorted(found, key=SORTED_BY[self.sort], reverse=down)

    def key(self, key: str, page: int) -> bool:
        """What a key does. False: the end."""
        if self.typing:
            self._type(key)
        elif key in {"q", "Q"}:
            return False
        elif key in SORTS:
            self.reverse = not self.reverse if self.sort == SORTS[key] else False
            self.sort, self.offset = SORTS[key], 0
        elif key == "s":
            self.subscribers, self.offset = not self.subscribers, 0
        elif key == " ":
            self.paused = not self.paused
        elif key == "/":
            self.typing, self.filter, self.offset = True, "", 0
        elif key == "escape":
            self.filter, self.offset = "", 0
        elif key in MOVES:
            self.offset = max(0, self.offset + MOVES[key](page))
        return True

    def _type(self, key: str) -> None:
        if key in {"enter", "escape"}:
            self.typing = False
            if key == "escape":
                self.filter = ""
        elif key == "backspace":
            self.filter = self.filter[:-1]
        elif len(key) == 1 and key.isprintable():
            self.filter += key
        self.offset = 0


KEYS = "q quit", "/ filter"
MORE_KEYS = "s subscribers", "Space pause"  # where there is room
MOVES: dict[str, Callable[[int], int]] = {
    "up": lambda _: -1,
    "down": lambda _: 1,
    "page up": lambda page: -page,
    "page down": lambda page: page,
    "home": lambda _: -(10**9),
    "end": lambda _: 10**9,
}


def run_top(domain: str | None, *, interval: float, sort: str, once: bool, json_output: bool) -> int:
    """Show the domain until `q`. `once`: print one table and end. 1: there is no terminal to show it on."""
    if not once and not json_output and not is_terminal():
        print("zeroslot: top needs a terminal. Use --once for a table, or --json for an object a line", file=sys.stderr)
        return 1
    with zs.Monitor(domain=domain) as monitor:
        model, view = Model(monitor), View(sort)
        model.look()
        if once or json_output:
            return _print(model, view, interval, once=once, json_output=json_output)
        return _show(model, view, interval)


def _print(model: Model, view: View, interval: float, *, once: bool, json_output: bool) -> int:
    due = time.monotonic()
    while True:
        due += interval
        time.sleep(max(0.0, due - time.monotonic()))
        model.look()
        if json_output:
            facts = _facts(model, view)
            print(as_json(facts) if once else as_json_line(facts), flush=True)
        else:
            rows = view.rows(model)
            table = _table(rows, view, None, history=False)
            print("\n".join([printable(_summary(model)), *table, *_waiting(model, view)]))
            print_problems(model.problems)
        if once:
            return 0


def _show(model: Model, view: View, interval: float) -> int:
    due = time.monotonic() + interval
    with Screen() as screen:
        while True:
            columns, lines = screen.size
            picture, page = _picture(model, view, columns, lines, interval)
            screen.draw(picture)
            for key in screen.keys(due - time.monotonic()):
                if not view.key(key, page):
                    return 0
            if time.monotonic() >= due:
                due = max(due + interval, time.monotonic())
                if not view.paused:
                    model.look()


def _picture(model: Model, view: View, columns: int, lines: int, interval: float) -> tuple[list[str], int]:
    """The lines of the screen, and how many of them are rows."""
    rows = view.rows(model)
    told = model.problems[: max(lines // 4, 1)]
    notes = [_painted(cut(each, columns), YELLOW) for each in _waiting(model, view)]
    notes += [_painted(cut(f" {_short(each)}", columns), RED) for each in told]
    room = max(lines - 3 - len(notes), 1)
    height = [1 + (len(row.peers) if view.subscribers else 0) for row in rows]
    view.offset = min(view.offset, max(0, sum(height) - room))
    first, above = 0, 0
    while first < len(rows) and above + height[first] <= view.offset:
        above += height[first]
        first += 1
    last, shown = first, above - view.offset
    while last < len(rows) and shown < room:
        shown += height[last]
        last += 1
    table = _table(rows[first:last], view, columns, history=True)
    skipped = view.offset - above
    body = table[1 + skipped : 1 + skipped + room]
    if not rows:
        body = ["", cut("  no topic has a live publisher" if not view.filter else "  no topic matches", columns)]
    body += [""] * (room - len(body))
    heading = table[0]
    title = _title(model, columns, interval, paused=view.paused)
    shown_part = f"{min(view.offset + 1, sum(height))}-{min(view.offset + room, sum(height))} of {sum(height)}"
    footer = _footer(view, columns, shown_part if sum(height) > room else "")
    return [title, heading, *body, *notes, footer], room


def _summary(model: Model) -> str:
    rows = model.rows.values()
    rate = sum(row.measured.rate_hz or 0.0 for row in rows)
    carried = sum(row.measured.bytes_per_s or 0.0 for row in rows)
    topics = len({row.now.topic for row in rows})
    peers = distinct_subscribers(row.now for row in rows)
    return (
        f"{model.domain}: {_many(topics, 'topic')}, {_many(len(rows), 'publisher')}, {_many(peers, 'subscriber')}, "
        f"{as_short_rate(rate)}, {as_bytes(carried)}/s"
    )


def _waiting(model: Model, view: View) -> list[str]:
    """One line of the subscribers that wait for a publisher, by topic; none where there are none."""
    found = [(topic, peers) for topic, peers in model.waiting.items() if view.filter in topic]
    told = [f"{topic} ({', '.join(f'{peer.name} {peer.pid}' for peer in peers)})" for topic, peers in found]
    return [printable(f" waiting for a publisher: {', '.join(told)}")] if told else []


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _title(model: Model, columns: int, interval: float, *, paused: bool) -> str:
    left = f" zeroslot top  {_summary(model)}"
    right = f"{'paused' if paused else f'every {interval:g} s'}  {time.strftime('%H:%M:%S')} "
    room = columns - width_of(right) - 2
    text = f"{cut(left, room):<{room}}  {right}" if room > 20 else cut(left, columns)
    return _painted(f"{text:<{columns}}", REVERSE + BOLD)


def _footer(view: View, columns: int, part: str) -> str:
    if view.typing:
        return cut(f" /{view.filter}_   Enter keeps the filter, Esc drops it", columns)
    sorts = "  ".join(f"{key} {name}" for key, name in SORTS.items())
    part = cut(part, columns)
    left, room = "", max(columns - len(part) - 1, 0)
    for each in (f"filter: {view.filter} (Esc drops it)" if view.filter else "", *KEYS, f"sort: {sorts}", *MORE_KEYS):
        if each and len(left) + 2 + len(each) <= room:
            left += f"{'  ' if left else ' '}{each}"
    return _painted(f"{cut(left, room):<{room}}{part}", DIM)


def _painted(text: str, style: str) -> str:
    return f"{style}{text}{RESET}" if has_colours() else text


def _short(problem: zs.Problem) -> str:
    """What is wrong, in one line; of its path the last two names."""
    return problem_line(problem).replace(str(problem.where), "/".join(["…", *problem.where.parts[-2:]]))


def _table(rows: list[Row], view: View, columns: int | None, *, history: bool) -> list[str]:
    arrow = "▴" if (view.sort in FIRST_DOWN) == view.reverse else "▾"
    wanted = [heading for heading in HEADINGS if history or heading != "history"]
    headings = [f"{heading}{arrow}" if heading == view.sort else heading for heading in wanted]
    cells = []
    for row in rows:
        cells.append(_publisher(row, history=history))
        if view.subscribers:
            cells += [_subscriber(peer, row, history=history) for peer in row.peers.values()]

    def marked(names: tuple[str, ...]) -> list[str]:
        return [headings[wanted.index(name)] for name in names if name in wanted]

    return lines_of(
        headings, cells, right=marked(NUMBERS), flexible=marked(("topic",))[0], least=16, droppable=marked(DROPPED),
        width=columns, indent=" ",
    )  # fmt: skip  # what is shown, and how


def _publisher(row: Row, *, history: bool) -> list[str | Cell]:
    now, measured = row.now, row.measured
    sparks = [Cell(sparkline(list(row.history), SPARKS), CYAN)] if history else []
    carried = measured.bytes_per_s
    rate = Cell(as_short_rate(measured.rate_hz))
    if not measured.rate_hz and now.age_s:
        rate = Cell(f"none for {as_duration(now.age_s)}", YELLOW)
    return [
        Cell(row.title, BOLD), Cell(now.type_name, DIM), rate, *sparks,
        "-" if carried is None else f"{as_bytes(carried)}/s", "", "", "", "", "", Cell(str(now.pid), DIM),
    ]  # fmt: skip  # a row is a row


def _subscriber(peer: PeerRow, row: Row, *, history: bool) -> list[str | Cell]:
    now, latency = peer.now, peer.latency
    highest = max((rate for rate in row.history if rate is not None), default=0.0)
    sparks = [Cell(sparkline(list(peer.history), SPARKS, highest or None), DIM)] if history else []
    return [
        f"  {now.name}", Cell("reliable" if now.reliable else "", DIM), as_short_rate(peer.taken_hz), *sparks, "",
        as_lag(now.lag_s, now.behind),
        Cell(as_short_rate(peer.lost_hz).removesuffix(" Hz") if peer.lost_hz else "0", RED if peer.lost_hz else ""),
        fault_cell(now.lost), as_time(latency.percentile(0.5)),
        as_time(latency.percentile(0.99)), Cell(str(now.pid), DIM),
    ]  # fmt: skip  # a row is a row


def _facts(model: Model, view: View) -> dict[str, Any]:
    return {
        "domain": model.domain,
        "publishers": [_publisher_facts(row) for row in view.rows(model)],
        "waiting": {topic: [asdict(each) for each in peers] for topic, peers in model.waiting.items()},
        "problems": [asdict(each) for each in model.problems],
    }


def _publisher_facts(row: Row) -> dict[str, Any]:
    now = row.now
    return {
        "topic": now.topic, "publisher_id": now.publisher_id, "name": now.name, "pid": now.pid, "type": now.type_name,
        "rate_hz": row.measured.rate_hz, "bytes_per_s": row.measured.bytes_per_s, "published": now.published,
        "age_s": now.age_s,
        "subscribers": [
            {
                "name": peer.now.name, "pid": peer.now.pid, "reliable": peer.now.reliable, "taken_hz": peer.taken_hz,
                "lost_hz": peer.lost_hz, "taken": peer.now.taken, "lost": peer.now.lost, "skipped": peer.now.skipped,
                "held": peer.now.held, "behind": peer.now.behind, "lag_s": peer.now.lag_s,
                "p50_ns": peer.latency.percentile(0.5), "p99_ns": peer.latency.percentile(0.99),
            }
            for peer in row.peers.values()
        ],
    }  # fmt: skip  # what belongs together stands together
