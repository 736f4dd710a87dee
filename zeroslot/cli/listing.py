"""`zeroslot list`: the topics of a domain, or of all, for people and for programs.

Why the text comes from a monitor and JSON from `topics`: the text needs no command lines of processes, which take most
of the time; and the rate is that of the samples that can be taken, for which one look is enough.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import zeroslot as zs
from zeroslot.cli.figures import as_bytes, as_json, as_short_rate
from zeroslot.cli.rates import rate_now
from zeroslot.cli.table import BOLD, DIM, RED, Bar, Cell, lines_of, printable, styled
from zeroslot.cli.topics import print_problems, wish_of

HEADINGS = ("domain", "topic", "type", "publishers", "subscribers", "rate", "published", "lost")
NUMBERS = HEADINGS[3:]
DROPPED = ("published", "publishers", "type", "lost")
VERBOSE = ("domain", "topic", "role", "pid", "name", "facts")


@dataclass
class Listed:
    """What one domain has: its publishers by topic, each with its rate, subscribers that wait for one, and what cannot
    be read.
    """

    domain: str
    topics: dict[str, list[tuple[zs.PublisherSnapshot, float | None]]] = field(default_factory=dict)
    problems: tuple[zs.Problem, ...] = ()
    waiting: dict[str, tuple[zs.WaitingInfo, ...]] = field(default_factory=dict)


def list_topics(
    domain: str | None, *, verbose: bool = False, all_domains: bool = False, json_output: bool = False
) -> int:
    """Print every topic with a live publisher or subscribers that wait, and what cannot be read. `all_domains`: of
    every domain.
    """
    found: list[Listed] = []
    records: list[zs.TopicInfo] = []
    closed: list[tuple[str, str]] = []  # domains that cannot be read at all
    for each in zs.domains() if all_domains else [domain]:
        try:
            if json_output:
                records += zs.topics(each, waiting=True)
            else:
                found.append(_look(each))
        except PermissionError as error:
            if not all_domains:
                raise
            closed.append((str(each), str(error)))
    if json_output:
        unread = [{"topic": None, "domain": each, "publishers": [], "problems": [text]} for each, text in closed]
        print(as_json([*map(asdict, records), *unread]))
        return 0
    rows = [row for each in found for row in (_verbose_rows(each) if verbose else _rows(each))]
    if rows:
        print("\n".join(_lines(rows, verbose=verbose, all_domains=all_domains)))
    else:
        print("no topic has a live publisher" + (" in any domain" if all_domains else ""))
    print_problems([problem for each in found for problem in each.problems])
    for _, text in closed:
        print(styled(f"unreadable: {printable(text)}", RED))
    return 0


def _look(domain: str | None) -> Listed:
    with zs.Monitor(domain=domain) as monitor:
        snapshot = monitor.snapshot()
        found = Listed(snapshot.domain, problems=snapshot.problems, waiting=zs.waiting_subscribers(domain))
        for each in snapshot.publishers:
            rate = rate_now(monitor.samples_after(each.publisher_id), each.age_s)
            found.topics.setdefault(each.topic, []).append((each, rate))
        return found


def _lines(rows: list[list[str | Cell]], *, verbose: bool, all_domains: bool) -> list[str]:
    headings: tuple[str, ...] = VERBOSE if verbose else HEADINGS
    if not all_domains:
        headings, rows = headings[1:], [row[1:] for row in rows]
    shown: list[list[str | Cell | Bar]] = [list(row) for row in rows]
    if verbose:
        return lines_of(headings, shown, right=("pid",), flexible="facts", droppable=("role", "pid"), least=24)
    return lines_of(headings, shown, right=NUMBERS, flexible="topic", droppable=DROPPED, least=16)


def _rows(listed: Listed) -> list[list[str | Cell]]:
    rows: list[list[str | Cell]] = []
    for topic in sorted({*listed.topics, *listed.waiting}):
        publishers, waiting = listed.topics.get(topic, []), len(listed.waiting.get(topic, ()))
        peers = [peer for each, _ in publishers for peer in each.subscribers]
        subscribers = f"{len(peers)} + {waiting} waiting" if waiting else str(len(peers))
        rates = [rate for _, rate in publishers if rate is not None]
        rows.append([
            listed.domain, Cell(topic, BOLD), ", ".join(sorted({each.type_name for each, _ in publishers})),
            str(len(publishers)), subscribers, as_short_rate(sum(rates) if rates else None),
            f"{sum(each.published for each, _ in publishers):,}", _lost(sum(peer.lost for peer in peers)),
        ])  # fmt: skip  # a row is a row
    return rows


def _verbose_rows(listed: Listed) -> list[list[str | Cell]]:
    rows: list[list[str | Cell]] = []
    for each, rate in (pair for publishers in listed.topics.values() for pair in publishers):
        size = f" of {as_bytes(each.sample_bytes)}" if each.sample_bytes else ""
        rows.append([
            listed.domain, Cell(each.topic, BOLD), "publisher", str(each.pid), each.name,
            f"{as_short_rate(rate)}, {each.published:,} published, {each.type_name}{size}, depth {each.depth}",
        ])  # fmt: skip  # a row is a row
        rows += [
            [
                Cell(listed.domain, DIM), Cell(each.topic, DIM), "  subscriber", str(peer.pid), peer.name,
                Cell(
                    f"{peer.taken:,} taken, {peer.lost:,} lost, {peer.held} of {peer.max_leases} held"
                    f"{f', {peer.behind:,} behind' if peer.behind else ''}{', reliable' if peer.reliable else ''}",
                    RED if peer.lost else "",
                ),
            ]
            for peer in each.subscribers
        ]  # fmt: skip  # a row is a row
    for topic, waiting in listed.waiting.items():
        for peer in waiting:
            rows.append([listed.domain, topic, "  waiting", str(peer.pid), peer.name, wish_of(peer)])
    return rows


def _lost(count: int) -> Cell:
    return Cell(f"{count:,}", RED if count else "")
