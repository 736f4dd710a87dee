"""`zeroslot list` and `info`: what `topics` and `inspect` know, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

import zeroslot as zs
from zeroslot.cli.figures import as_bytes, as_json


def list_topics(domain: str | None, *, json_output: bool) -> int:
    """Print every topic with a live publisher."""
    found = zs.topics(domain)
    if json_output:
        print(as_json([asdict(facts) for facts in found]))
        return 0
    if not found:
        print("no topic has a live publisher")
        return 0
    table = Table(box=None, pad_edge=False)
    for heading, justify in (("topic", "left"), ("type", "left"), ("publishers", "right"), ("subscribers", "right")):
        table.add_column(heading, justify="right" if justify == "right" else "left", no_wrap=True)
    table.add_column("published", justify="right")
    for facts in found:
        table.add_row(
            facts.topic,
            ", ".join(sorted({publisher.type_name for publisher in facts.publishers})),
            str(len(facts.publishers)),
            str(sum(len(publisher.subscribers) for publisher in facts.publishers)),
            str(sum(publisher.published for publisher in facts.publishers)),
        )
    Console().print(table)
    return 0


def show_topic(topic: str, domain: str | None, *, json_output: bool) -> int:
    """Print what is known of one topic. Raises TopicNotFoundError."""
    facts = zs.inspect(topic, domain)
    if json_output:
        print(as_json(asdict(facts)))
        return 0
    print(f"{facts.topic}  (domain {facts.domain})")
    for publisher in facts.publishers:
        print(f"\npublisher {publisher.publisher_id}  {publisher.name}".rstrip())
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
            print(f"  subscriber {subscriber.index}  {subscriber.name}".rstrip())
            held = f"{subscriber.held} of {subscriber.max_leases}"
            if subscriber.oldest_held_s is not None:
                held += f", the oldest for {subscriber.oldest_held_s:.3f} s"
            _print_pairs(
                ("process", f"{subscriber.pid}  {subscriber.command}" + ("  stopped" if subscriber.stopped else "")),
                ("taken", f"{subscriber.taken}, lost {subscriber.lost}, skipped {subscriber.skipped}"),
                ("held", held),
                ("behind", str(subscriber.behind)),
                indent="    ",
            )
    return 0


def _slots(publisher: Any) -> str:
    return ", ".join(f"{pool.slot_count} of {as_bytes(pool.slot_capacity)}" for pool in publisher.pools)


def _promise(publisher: Any) -> list[tuple[str, str]]:
    if publisher.max_period_s is None:
        return []
    return [("promises", f"a sample every {publisher.max_period_s:g} s" + ("  overdue" if publisher.overdue else ""))]


def _print_pairs(*pairs: tuple[str, str], indent: str = "  ") -> None:
    for name, value in pairs:
        print(f"{indent}{name:<10} {value}")
