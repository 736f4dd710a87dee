"""`zeroslot list`: the topics of a domain, or of all, for people and for programs.

Why the text comes from a monitor and JSON from `topics`: the text needs no command lines of processes, which take most
of the time; and the rate is that of the samples that can be taken, for which one look is enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import zeroslot as zs
from zeroslot.cli.figures import as_bytes, as_json, as_short_rate
from zeroslot.cli.rates import distinct_subscribers, rate_now
from zeroslot.cli.table import BOLD, DIM, RED, YELLOW, Cell, fault_cell, lines_of, printable, styled
from zeroslot.cli.topics import print_problems, wish_of

HEADINGS = ("domain", "topic", "type", "publishers", "subscribers", "rate", "published", "lost")
NUMBERS = HEADINGS[3:]
DROPPED = ("published", "publishers", "type", "lost")
VERBOSE = ("", "name", "pid", "rate", "samples", "lost", "held", "behind", "notes")
VERBOSE_DROPPED = ("held", "notes", "pid", "rate")


Rated = tuple[zs.PublisherSnapshot, float | None]  # a publisher and its rate


@dataclass
class Listed:
    """What one domain has: its publishers by topic, each with its rate, subscribers that wait for one, and what cannot
    be read.
    """

    domain: str
    topics: dict[str, list[Rated]] = field(default_factory=dict)
    problems: tuple[zs.Problem, ...] = ()
    waiting: dict[str, tuple[zs.WaitingInfo, ...]] = field(default_factory=dict)

    def everything(self) -> Iterator[tuple[str, tuple[list[Rated], tuple[zs.WaitingInfo, ...]]]]:
        """Each topic with its publishers and with the subscribers that wait, in the order of their names."""
        for topic in sorted({*self.topics, *self.waiting}):
            yield topic, (self.topics.get(topic, []), self.waiting.get(topic, ()))


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
    lines = _verbose_lines(found, all_domains) if verbose else _lines(found, all_domains)
    print("\n".join(lines) or "no topic has a live publisher" + (" in any domain" if all_domains else ""))
    print_problems([problem for each in found for problem in each.problems])
    for _, text in closed:
        print(styled(f"unreadable: {printable(text)}", RED))
    return 0


def _look(domain: str | None) -> Listed:
    with zs.Monitor(domain=domain) as monitor:
        snapshot = monitor.snapshot(waiting=True)
        found = Listed(snapshot.domain, problems=snapshot.problems, waiting=snapshot.waiting)
        for each in snapshot.publishers:
            rate = rate_now(monitor.samples_after(each.publisher_id), each.age_s)
            found.topics.setdefault(each.topic, []).append((each, rate))
        return found


def _lines(found: list[Listed], all_domains: bool) -> list[str]:
    """A line for each topic; none where there is no topic."""
    rows = [row if all_domains else row[1:] for each in found for row in _rows(each)]
    headings = HEADINGS if all_domains else HEADINGS[1:]
    return lines_of(headings, rows, right=NUMBERS, flexible="topic", droppable=DROPPED, least=16) if rows else []


def _rows(listed: Listed) -> Iterator[list[str | Cell]]:
    for topic, (publishers, waiting) in listed.everything():
        readers = distinct_subscribers(each for each, _ in publishers)
        counts = [str(readers)] if readers or not waiting else []
        counts += [f"{len(waiting)} waiting"] if waiting else []
        rates = [rate for _, rate in publishers if rate is not None]
        yield [
            listed.domain, Cell(topic, BOLD), ", ".join(sorted({each.type_name for each, _ in publishers})),
            str(len(publishers)), " + ".join(counts), as_short_rate(sum(rates) if rates else None),
            f"{sum(each.published for each, _ in publishers):,}",
            fault_cell(sum(peer.lost for each, _ in publishers for peer in each.subscribers)),
        ]  # fmt: skip  # a row is a row


def _verbose_lines(found: list[Listed], all_domains: bool) -> list[str]:
    """A line for each topic, and one below it for each of its publishers and subscribers."""
    titles: list[tuple[str, int]] = []
    rows: list[list[str | Cell]] = []
    for listed in found:
        for topic, (publishers, waiting) in listed.everything():
            below = [row for each, rate in publishers for row in _peers(each, rate)]
            below += [[Cell("waiting", YELLOW), each.name, str(each.pid), *[""] * 5, wish_of(each)] for each in waiting]
            types = ", ".join(dict.fromkeys(each.type_name for each, _ in publishers))
            where = f"{listed.domain}: " if all_domains else ""
            titles.append((f"{styled(printable(where + topic), BOLD)}  {styled(printable(types), DIM)}", len(below)))
            rows += below
    if not rows:
        return []
    lines = lines_of(
        VERBOSE, rows, right=VERBOSE[2:-1], flexible="name", droppable=VERBOSE_DROPPED, indent="  ", heading_style=DIM
    )
    shown, at = lines[:1], 1
    for title, count in titles:
        shown += [title, *lines[at : at + count]]
        at += count
    return shown


def _peers(each: zs.PublisherSnapshot, rate: float | None) -> Iterator[list[str | Cell]]:
    """A publisher and its subscribers."""
    size = f", {as_bytes(round(each.bytes / each.published))}" if each.published else ""
    yield [
        "publisher", each.name, str(each.pid), as_short_rate(rate), f"{each.published:,}", "", "", "",
        Cell(f"depth {each.depth}{size}", DIM),
    ]  # fmt: skip  # a row is a row
    for peer in each.subscribers:
        yield [
            "subscriber", peer.name, str(peer.pid), "", f"{peer.taken:,}", fault_cell(peer.lost),
            f"{peer.held} of {peer.max_leases}", f"{peer.behind:,}", Cell("reliable" if peer.reliable else "", DIM),
        ]  # fmt: skip  # a row is a row
