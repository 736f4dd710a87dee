"""`zeroslot stat`: every counter of the publishers, of their pools, and of their subscribers."""

from __future__ import annotations

from dataclasses import asdict

import zeroslot as zs
from zeroslot.cli.figures import as_bytes, as_duration, as_json, as_lag, as_share, as_time
from zeroslot.cli.table import (
    BOLD,
    DIM,
    GAP,
    RED,
    YELLOW,
    Cell,
    cut,
    fault_cell,
    lines_of,
    printable,
    styled,
    terminal_width,
    width_of,
)
from zeroslot.cli.topics import print_problems

# What is worth a look where it is not 0.
BAD = {"no_free_slot": RED, "reaped": YELLOW, "evicted": YELLOW, "blocked": YELLOW, "blocked_ns": YELLOW}
SUBSCRIBER = ("subscriber", "pid", "taken", "lost", "of all", "skipped", "held", "behind", "lag", "reliable")
SUBSCRIBER_DROPPED = ("reliable", "pid", "skipped", "lag", "held", "behind", "of all")
POOL = ("slots", "memory", "published", "discarded", "passed on", "no free slot")
POOL_DROPPED = ("passed on", "discarded", "memory")
WIDTH = 100  # where stdout is no terminal


def print_counters(topic: str | None, domain: str | None, *, json_output: bool) -> int:
    """Print them for a topic, or for all. 1: the topic has no publisher that can be read. Raises TopicNotFoundError."""
    with zs.Monitor(topic, domain=domain) as monitor:
        snapshot = monitor.snapshot()
    if topic is not None and not snapshot.publishers and not snapshot.problems:
        zs.inspect(topic, domain)  # which says what is missing
    status = int(topic is not None and not snapshot.publishers)
    if json_output:
        print(as_json(asdict(snapshot)))
        return status
    for number, each in enumerate(snapshot.publishers):
        print(("\n" if number else "") + "\n".join(_block(each)))
    if not snapshot.publishers and not snapshot.problems:
        print("no topic has a live publisher")
    print_problems(snapshot.problems)
    return status


def _block(each: zs.PublisherSnapshot) -> list[str]:
    size = f", {as_bytes(round(each.bytes / each.published))}" if each.published else ""
    width = terminal_width() or WIDTH
    title = f"{each.topic}  {each.name} (pid {each.pid})"
    about = cut(f"  {each.type_name}{size}, depth {each.depth}, on full {each.on_full}", width - width_of(title))
    lines = [styled(cut(printable(title), width), BOLD) + styled(printable(about), DIM), *_grid(each)]
    return [*lines, *_pools(each), *_subscribers(each)]


def _pools(each: zs.PublisherSnapshot) -> list[str]:
    rows: list[list[str | Cell]] = [
        [
            f"{pool.slot_count} x {as_bytes(pool.slot_capacity)}", as_bytes(pool.size_bytes), f"{pool.committed:,}",
            f"{pool.discarded:,}", f"{pool.passed_on:,}", fault_cell(pool.no_free_slot),
        ]
        for pool in each.pools
    ]  # fmt: skip  # a row is a row
    return lines_of(POOL, rows, right=POOL, droppable=POOL_DROPPED, indent="  ", heading_style=DIM) if rows else []


def _subscribers(each: zs.PublisherSnapshot) -> list[str]:
    rows = [_peer(peer) for peer in each.subscribers]
    if not rows:
        return []
    return lines_of(
        SUBSCRIBER, rows, right=SUBSCRIBER[1:-1], flexible="subscriber", droppable=SUBSCRIBER_DROPPED, indent="  ",
        heading_style=DIM,
    )  # fmt: skip  # what is shown, and how


def _grid(each: zs.PublisherSnapshot) -> list[str]:
    """The publisher's counters, as many in a line as fit."""
    pairs = []
    for name, count in each.counters.items():
        heading = name.removesuffix("_ns").replace("_", " ") + (" for" if name.endswith("_ns") else "")
        shown = as_bytes(float(count)) if name == "bytes" else as_time(count) if name.endswith("_ns") else f"{count:,}"
        pairs.append((heading, shown, BAD.get(name, "") if count else ""))
    if each.age_s is not None:
        pairs.append(("newest", f"{as_duration(each.age_s)} ago", ""))
    names, values = (max(width_of(pair[at]) for pair in pairs) for at in (0, 1))
    columns = max(1, ((terminal_width() or WIDTH) - 2 + len(GAP)) // (names + 1 + values + len(GAP)))
    cells = [f"{styled(name, DIM)}{' ' * (names - width_of(name))} {' ' * (values - width_of(value))}"
             f"{styled(value, style)}" for name, value, style in pairs]  # fmt: skip  # one cell
    return [f"  {GAP.join(cells[at : at + columns])}" for at in range(0, len(cells), columns)]


def _peer(peer: zs.SubscriberSnapshot) -> list[str | Cell]:
    due = peer.taken + peer.lost + peer.skipped
    return [
        peer.name, str(peer.pid), f"{peer.taken:,}", fault_cell(peer.lost), as_share(peer.lost / due if due else 0.0),
        f"{peer.skipped:,}", f"{peer.held} of {peer.max_leases}", f"{peer.behind:,}", as_lag(peer.lag_s, peer.behind),
        "reliable" if peer.reliable else "",
    ]  # fmt: skip  # a row is a row
