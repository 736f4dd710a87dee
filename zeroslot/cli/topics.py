"""`zeroslot list` and `info`: what `topics` and `inspect` know, for people and for programs."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TextIO

import zeroslot as zs
from zeroslot.cli.figures import as_bytes, as_duration, as_json
from zeroslot.cli.table import BOLD, RED, lines_of, printable, styled


def list_topics(
    domain: str | None, *, verbose: bool = False, all_domains: bool = False, json_output: bool = False
) -> int:
    """Print every topic with a live publisher, and what cannot be read. `all_domains`: of every domain."""
    found: list[zs.TopicInfo] = []
    problems: list[tuple[str, str]] = []  # domains that cannot be read at all
    for each in zs.domains() if all_domains else [domain]:
        try:
            found += zs.topics(each)
        except PermissionError as error:
            if not all_domains:
                raise
            problems.append((str(each), str(error)))
    if json_output:
        closed = [{"topic": None, "domain": each, "publishers": [], "problems": [text]} for each, text in problems]
        print(as_json([*map(asdict, found), *closed]))
        return 0
    rows = _verbose_rows(found) if verbose else _rows(found)
    if rows:
        headings = ["topic", "type", "publishers", "subscribers", "published"]
        if verbose:
            headings = ["topic", "role", "pid", "name", "facts"]
        if all_domains:
            headings.insert(0, "domain")
        else:
            rows = [row[1:] for row in rows]
        numbers = ("pid",) if verbose else ("publishers", "subscribers", "published")
        print("\n".join(lines_of(headings, rows, right=numbers, flexible="facts" if verbose else "type")))
    else:
        print("no topic has a live publisher" + (" in any domain" if all_domains else ""))
    print_problems([problem for topic in found for problem in topic.problems])
    for _, text in problems:
        print(styled(f"unreadable: {printable(text)}", RED))
    return 0


def _rows(found: list[zs.TopicInfo]) -> list[list[str]]:
    return [
        [
            facts.domain,
            facts.topic,
            ", ".join(sorted({publisher.type_name for publisher in facts.publishers})),
            str(len(facts.publishers)),
            str(sum(len(publisher.subscribers) for publisher in facts.publishers)),
            str(sum(publisher.published for publisher in facts.publishers)),
        ]
        for facts in found
        if facts.publishers
    ]


def _verbose_rows(found: list[zs.TopicInfo]) -> list[list[str]]:
    rows = []
    for facts in found:
        for publisher in facts.publishers:
            size = f", {as_bytes(publisher.sample_bytes)}" if publisher.sample_bytes else ""
            rows.append([
                facts.domain, facts.topic, "publisher", str(publisher.pid), publisher.name,
                f"{publisher.type_name}{size}, depth {publisher.depth}, {publisher.published} published",
            ])  # fmt: skip  # a row is a row
            rows += [
                [
                    facts.domain, facts.topic, "  subscriber", str(peer.pid), peer.name,
                    f"{'reliable, ' if peer.reliable else ''}{peer.taken} taken, {peer.lost} lost, {peer.held} held",
                ]
                for peer in publisher.subscribers
            ]  # fmt: skip  # a row is a row
    return rows


def print_problems(problems: list[zs.Problem] | tuple[zs.Problem, ...], file: TextIO | None = None) -> None:
    """One line for each: what it is, where, and what is wrong."""
    for problem in problems:
        place = "" if str(problem.where) in problem.text else f"{problem.where}: "
        print(styled(f"{problem.kind}: {printable(place + problem.text)}", RED), file=file)


def show_topic(topic: str, domain: str | None, *, json_output: bool) -> int:
    """Print what is known of one topic. 1: it has problems and no publisher. Raises TopicNotFoundError."""
    facts = zs.inspect(topic, domain)
    status = int(not facts.publishers)
    if json_output:
        print(as_json(asdict(facts)))
        return status
    print(f"{styled(facts.topic, BOLD)}  (domain {facts.domain})")
    for publisher in facts.publishers:
        _print_publisher(publisher)
    if status:
        print(f"zeroslot: {topic} has no publisher that can be read", file=sys.stderr)
    print_problems(facts.problems)
    return status


def _print_publisher(publisher: zs.PublisherInfo) -> None:
    print("\n" + f"{styled('publisher', BOLD)} {publisher.publisher_id}  {printable(publisher.name)}".rstrip())
    _print_pairs(
        ("process", f"{publisher.pid}  {publisher.command}"),
        ("type", f"{publisher.type_name}  {publisher.type_hash[:8]}"),
        ("sample", as_bytes(publisher.sample_bytes)),
        ("slots", f"{_slots(publisher)}, depth {publisher.depth}"),
        ("on full", publisher.on_full),
        ("published", str(publisher.published)),
        *_promise(publisher),
    )
    for subscriber in publisher.subscribers:
        print(f"  {styled('subscriber', BOLD)} {subscriber.index}  {printable(subscriber.name)}".rstrip())
        held = f"{subscriber.held} of {subscriber.max_leases}"
        if subscriber.oldest_held_s is not None:
            held += f", the oldest for {as_duration(subscriber.oldest_held_s)}"
        _print_pairs(
            ("process", f"{subscriber.pid}  {subscriber.command}" + ("  stopped" if subscriber.stopped else "")),
            ("taken", f"{subscriber.taken}, lost {subscriber.lost}, skipped {subscriber.skipped}"),
            ("held", held),
            ("behind", str(subscriber.behind)),
            indent="    ",
        )


def _slots(publisher: zs.PublisherInfo) -> str:
    return ", ".join(f"{pool.slot_count} of {as_bytes(pool.slot_capacity)}" for pool in publisher.pools)


def _promise(publisher: zs.PublisherInfo) -> list[tuple[str, str]]:
    if publisher.max_period_s is None:
        return []
    return [("promises", f"a sample every {publisher.max_period_s:g} s" + ("  overdue" if publisher.overdue else ""))]


def _print_pairs(*pairs: tuple[str, str], indent: str = "  ") -> None:
    for name, value in pairs:
        print(f"{indent}{name:<10} {printable(value)}")
