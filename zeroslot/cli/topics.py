"""`zeroslot info`: what `inspect` knows of a topic, and what cannot be read, as all commands print it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TextIO

import zeroslot as zs
from zeroslot.cli.figures import as_bytes, as_duration, as_json
from zeroslot.cli.table import BOLD, DIM, RED, cut, paragraph, printable, styled, terminal_width


def print_problems(problems: list[zs.Problem] | tuple[zs.Problem, ...], file: TextIO | None = None) -> None:
    """A line for each, or several where the terminal is narrow."""
    for problem in problems:
        print(styled(paragraph(problem_line(problem)), RED), file=file)


def problem_line(problem: zs.Problem) -> str:
    """What it is, where, and what is wrong."""
    place = "" if str(problem.where) in problem.text else f"{problem.where}: "
    return f"{problem.kind}: {printable(place + problem.text)}"


def show_topic(topic: str, domain: str | None, *, json_output: bool) -> int:
    """Print what is known of one topic. 1: it has no publisher that can be read. Raises TopicNotFoundError."""
    facts = zs.inspect(topic, domain, waiting=True)
    status = int(not facts.publishers)
    if json_output:
        print(as_json(asdict(facts)))
        return status
    print(f"{styled(facts.topic, BOLD)}  (domain {facts.domain})")
    for publisher in facts.publishers:
        _print_publisher(publisher)
    for peer in facts.waiting:
        print(f"  {styled('waiting', BOLD)}  {printable(peer.name)}".rstrip())
        _print_pairs(
            ("process", f"{peer.pid}  {peer.command}", ""),
            *([("", "stopped", RED)] if peer.stopped else []),
            ("wants", wish_of(peer), ""),
            indent="    ",
        )
    if status:
        print(f"zeroslot: {topic} has no publisher that can be read", file=sys.stderr)
    print_problems(facts.problems)
    return status


def _print_publisher(publisher: zs.PublisherInfo) -> None:
    print("\n" + f"{styled('publisher', BOLD)} {publisher.publisher_id}  {printable(publisher.name)}".rstrip())
    _print_pairs(
        ("process", f"{publisher.pid}  {publisher.command}", ""),
        ("type", f"{publisher.type_name}  {publisher.type_hash[:8]}", ""),
        ("sample", _size(publisher), ""),
        ("slots", f"{_slots(publisher)}, depth {publisher.depth}", ""),
        ("on full", publisher.on_full, ""),
        ("published", f"{publisher.published:,}", ""),
        *_promise(publisher),
    )
    for subscriber in publisher.subscribers:
        print(f"  {styled('subscriber', BOLD)} {subscriber.index}  {printable(subscriber.name)}".rstrip())
        held = f"{subscriber.held} of {subscriber.max_leases}"
        if subscriber.oldest_held_s is not None:
            held += f", the oldest for {as_duration(subscriber.oldest_held_s)}"
        _print_pairs(
            ("process", f"{subscriber.pid}  {subscriber.command}", ""),
            *([("", "stopped", RED)] if subscriber.stopped else []),
            ("taken", f"{subscriber.taken:,}" + (", reliable" if subscriber.reliable else ""), ""),
            ("lost", f"{subscriber.lost:,}, skipped {subscriber.skipped:,}", RED if subscriber.lost else ""),
            ("held", held, ""),
            ("behind", f"{subscriber.behind:,}", ""),
            indent="    ",
        )


def wish_of(peer: zs.WaitingInfo) -> str:
    """What a subscriber that waits for a publisher asks for."""
    reads = f"type {peer.type_hash[:8]}" if peer.type_hash else "any type"
    return f"{reads}{' by name' if peer.match == 'by_name' else ''}{', reliable' if peer.reliable else ''}"


def _slots(publisher: zs.PublisherInfo) -> str:
    return ", ".join(f"{pool.slot_count} of {as_bytes(pool.slot_capacity)}" for pool in publisher.pools)


def _size(publisher: zs.PublisherInfo) -> str:
    """The bytes of a sample, and what they are on average where they vary."""
    mean = round(publisher.counters["bytes"] / publisher.published) if publisher.published else publisher.sample_bytes
    size = as_bytes(publisher.sample_bytes)
    return size if mean == publisher.sample_bytes else f"{size} and what varies, {as_bytes(mean)} on average"


def _promise(publisher: zs.PublisherInfo) -> list[tuple[str, str, str]]:
    if publisher.max_period_s is None:
        return []
    text = f"a sample every {publisher.max_period_s:g} s" + ("  overdue" if publisher.overdue else "")
    return [("promises", text, RED if publisher.overdue else "")]


def _print_pairs(*pairs: tuple[str, str, str], indent: str = "  ") -> None:
    """Names, values and their styles, a line each, cut where the terminal ends."""
    width = terminal_width()
    for name, value, style in pairs:
        text = printable(value)
        shown = text if width is None else cut(text, width - len(indent) - 11)
        print(f"{indent}{styled(f'{name:<10}', DIM)} {styled(shown, style)}")
