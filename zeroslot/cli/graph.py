"""`zeroslot graph`: which processes publish and read which topics, as Mermaid, as a Graphviz digraph, or as JSON.

A process is one node, whatever it publishes and reads, so that a picture shows where samples go through. A rate comes
from the times of the samples that can still be taken: one look is enough, and it takes part in nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import zeroslot as zs
from zeroslot.cli.figures import as_json
from zeroslot.cli.rates import rate_now
from zeroslot.cli.table import printable


@dataclass(frozen=True, slots=True)
class Process:
    """One process: the names of its handles."""

    pid: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic, and the types of its publishers."""

    topic: str
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Edge:
    """A process that publishes a topic (role "publisher"), or reads it ("subscriber")."""

    role: str
    pid: int
    topic: str
    rate_hz: float | None = None
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Graph:
    """Everything of one domain."""

    domain: str
    processes: tuple[Process, ...]
    topics: tuple[Topic, ...]
    edges: tuple[Edge, ...]


def graph_of(domain: str | None) -> Graph:
    """The live publishers and subscribers of a domain."""
    names: dict[int, dict[str, None]] = {}
    types: dict[str, dict[str, None]] = {}
    edges: dict[tuple[str, int, str], Edge] = {}
    with zs.Monitor(domain=domain) as monitor:
        for each in monitor.snapshot().publishers:
            names.setdefault(each.pid, {})[each.name] = None
            types.setdefault(each.topic, {})[each.type_name] = None
            _add(
                edges,
                Edge("publisher", each.pid, each.topic, rate_now(monitor.samples_after(each.publisher_id), each.age_s)),
            )
            for peer in each.subscribers:
                names.setdefault(peer.pid, {})[peer.name] = None
                _add(edges, Edge("subscriber", peer.pid, each.topic, lost=peer.lost))
        return Graph(
            monitor.domain,
            tuple(Process(pid, tuple(found)) for pid, found in sorted(names.items())),
            tuple(Topic(topic, tuple(found)) for topic, found in types.items()),
            tuple(edges.values()),
        )


def _add(edges: dict[tuple[str, int, str], Edge], edge: Edge) -> None:
    """Several publishers of a process and a topic are one edge, and so are its subscriptions."""
    key = edge.role, edge.pid, edge.topic
    before = edges.get(key)
    if before is not None:
        rates = [rate for rate in (before.rate_hz, edge.rate_hz) if rate is not None]
        edge = Edge(*key, sum(rates) if rates else None, before.lost + edge.lost)
    edges[key] = edge


def print_graph(domain: str | None, *, form: str) -> int:
    """Print the graph of a domain."""
    found = graph_of(domain)
    if form == "json":
        print(as_json(asdict(found)))
    else:
        print("\n".join(as_dot(found) if form == "dot" else as_mermaid(found)))
    return 0


def as_mermaid(found: Graph) -> list[str]:
    """A Mermaid flowchart, a line each."""
    numbers = {topic.topic: number for number, topic in enumerate(found.topics)}
    lines = ["flowchart LR"]
    lines += [f'    p{process.pid}["{_entities(_process_lines(process), "<br>")}"]' for process in found.processes]
    lines += [f'    t{numbers[topic.topic]}(["{_entities(_topic_lines(topic), "<br>")}"])' for topic in found.topics]
    for edge in found.edges:
        process, topic, text = f"p{edge.pid}", f"t{numbers[edge.topic]}", _entities([_text_of(edge)], "")
        ends = (process, topic) if edge.role == "publisher" else (topic, process)
        lines.append(f'    {ends[0]} -->|"{text}"| {ends[1]}' if text else f"    {ends[0]} --> {ends[1]}")
    return lines


def as_dot(found: Graph) -> list[str]:
    """A digraph in the language of Graphviz, a line each."""
    numbers = {topic.topic: number for number, topic in enumerate(found.topics)}
    lines = ["digraph zeroslot {", "    rankdir=LR;"]
    lines += [
        f"    p{process.pid} [shape=box, label={_quoted(_process_lines(process))}];" for process in found.processes
    ]
    lines += [
        f"    t{numbers[topic.topic]} [shape=ellipse, label={_quoted(_topic_lines(topic))}];" for topic in found.topics
    ]
    for edge in found.edges:
        process, topic, text = f"p{edge.pid}", f"t{numbers[edge.topic]}", _text_of(edge)
        ends = (process, topic) if edge.role == "publisher" else (topic, process)
        lines.append(f"    {ends[0]} -> {ends[1]}" + (f" [label={_quoted([text])}];" if text else ";"))
    return [*lines, "}"]


def _process_lines(process: Process) -> list[str]:
    return [", ".join(process.names), f"pid {process.pid}"]


def _topic_lines(topic: Topic) -> list[str]:
    return [topic.topic, ", ".join(topic.types)]


def _text_of(edge: Edge) -> str:
    if edge.role == "subscriber":
        return f"{edge.lost} lost" if edge.lost else ""
    if edge.rate_hz is None:
        return ""
    for limit, unit, factor in ((1e3, "Hz", 1.0), (1e6, "kHz", 1e3)):
        if edge.rate_hz < limit:
            return f"{edge.rate_hz / factor:.4g} {unit}"
    return f"{edge.rate_hz / 1e6:.4g} MHz"


def _entities(lines: list[str], between: str) -> str:
    """Text of other processes for Mermaid, where every letter that could mean something is an entity."""
    safe = {letter: f"#{ord(letter)};" for letter in '"#<>&;`[](){}|\\*_'}
    return between.join("".join(safe.get(letter, letter) for letter in printable(line)) for line in lines)


def _quoted(lines: list[str]) -> str:
    """A string of Graphviz."""
    return '"' + "\\n".join(printable(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines) + '"'
