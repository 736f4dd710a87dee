"""`zeroslot graph`: which processes publish and read which topics, as a picture of text, as Mermaid, as a Graphviz
digraph, or as JSON.

A process is one node, whatever it publishes and reads, so that a picture shows where samples go through. A rate comes
from the times of the samples that can still be taken: one look is enough, and it takes part in nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import zeroslot as zs
from zeroslot.cli.drawing import has_blocks
from zeroslot.cli.figures import as_json, as_short_rate
from zeroslot.cli.rates import rate_now
from zeroslot.cli.table import BOLD, CYAN, DIM, RED, YELLOW, cut, printable, styled, terminal_width, width_of
from zeroslot.cli.topics import print_problems


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
    """A process that publishes a topic (role "publisher"), reads it ("subscriber"), or waits for a publisher of it
    ("waiting").
    """

    role: str
    pid: int
    topic: str
    rate_hz: float | None = None
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Graph:
    """Everything of one domain. `problems`: what of it cannot be read."""

    domain: str
    processes: tuple[Process, ...]
    topics: tuple[Topic, ...]
    edges: tuple[Edge, ...]
    problems: tuple[zs.Problem, ...] = ()


def graph_of(domain: str | None) -> Graph:
    """The live publishers and subscribers of a domain, and subscribers that wait for a publisher."""
    names: dict[int, dict[str, None]] = {}
    types: dict[str, dict[str, None]] = {}
    edges: dict[tuple[str, int, str], Edge] = {}
    with zs.Monitor(domain=domain) as monitor:
        snapshot = monitor.snapshot(waiting=True)
        for each in snapshot.publishers:
            names.setdefault(each.pid, {})[each.name] = None
            types.setdefault(each.topic, {})[each.type_name] = None
            _add(
                edges,
                Edge("publisher", each.pid, each.topic, rate_now(monitor.samples_after(each.publisher_id), each.age_s)),
            )
            for peer in each.subscribers:
                names.setdefault(peer.pid, {})[peer.name] = None
                _add(edges, Edge("subscriber", peer.pid, each.topic, lost=peer.lost))
        for topic, waiting in snapshot.waiting.items():
            types.setdefault(topic, {})
            for one in waiting:
                names.setdefault(one.pid, {})[one.name] = None
                _add(edges, Edge("waiting", one.pid, topic))
        return Graph(
            monitor.domain,
            tuple(Process(pid, tuple(found)) for pid, found in sorted(names.items())),
            tuple(Topic(topic, tuple(found)) for topic, found in sorted(types.items())),
            tuple(edges.values()),
            snapshot.problems,
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
    """Print the graph of a domain. What cannot be read is told on stderr, or in the JSON."""
    found = graph_of(domain)
    if form == "json":
        print(as_json(asdict(found)))
        return 0
    forms = {"text": as_picture, "mermaid": as_mermaid, "dot": as_dot}
    print("\n".join(forms[form](found)))
    print_problems(found.problems, file=sys.stderr)
    return 0


ASCII = str.maketrans("─┬┤┘├└→←", "-+++++><")
LEAST_NAME = 16  # columns of a publisher, below which the picture has another form
COLOURS = {"publisher": CYAN, "subscriber": RED, "waiting": YELLOW}


def as_picture(found: Graph) -> list[str]:
    """Each topic between the processes that publish it, on the left, and those that read it, on the right; below each
    other where the terminal is too narrow.
    """
    if not found.topics:
        return [f"no topic in domain {found.domain} has a publisher or a subscriber"]
    names = {each.pid: printable(f"{', '.join(each.names)} ({each.pid})") for each in found.processes}
    left = {topic.topic: _ends(found, topic, names, left=True) for topic in found.topics}
    right = {topic.topic: _ends(found, topic, names, left=False) for topic in found.topics}
    widths = [max((width_of(end[at]) for ends in left.values() for end in ends), default=0) for at in (0, 1)]
    middle = max(width_of(printable(topic.topic)) for topic in found.topics)
    ends = max((width_of(" ".join(end[:2])) for ends in right.values() for end in ends), default=0)
    limit = terminal_width()
    over = sum(widths) + middle + ends + 14 - limit if limit is not None else 0
    if over > 0 and widths[0] - over >= LEAST_NAME:
        widths[0] -= over
        over = 0
    lines: list[str] = []
    for topic in found.topics:
        both = left[topic.topic], right[topic.topic]
        lines += _beside(topic, *both, widths, middle) if over <= 0 else _below(topic, *both)
    return lines


End = tuple[str, str, str]  # a process, what is told of it, and the style of that


def _ends(found: Graph, topic: Topic, names: dict[int, str], *, left: bool) -> list[End]:
    return [
        (names[edge.pid], _text_of(edge), COLOURS[edge.role])
        for edge in found.edges
        if edge.topic == topic.topic and (edge.role == "publisher") == left
    ]


def _beside(topic: Topic, left: list[End], right: list[End], widths: Sequence[int], middle: int) -> list[str]:
    lines = []
    for at in range(max(len(left), len(right))):
        publisher, rate, style = left[at] if at < len(left) else ("", "", "")
        publisher = cut(publisher, widths[0])
        reader, told, colour = right[at] if at < len(right) else ("", "", "")
        name = printable(topic.topic) if at == 0 else ""
        cells = [
            publisher + " " * (widths[0] - width_of(publisher)),
            " " * (widths[1] - width_of(rate)) + styled(rate, style),
            _line(at, len(left), "─┤  ", "─┘  "),
            styled(name, BOLD) + " " * (middle - width_of(name)),
            _line(at, len(right), " ├─→", " └─→"),
            f"{reader}  {styled(told, colour)}",
        ]
        lines.append(" ".join(cells).rstrip())
    return lines


def _line(at: int, count: int, between: str, last: str) -> str:
    """What joins a topic to the process of a row, one of `count`."""
    if at >= count:
        return " " * 4
    return _drawn("───→" if count == 1 else "─┬─→" if at == 0 else last if at == count - 1 else between)


def _drawn(text: str) -> str:
    return styled(text if has_blocks() else text.translate(ASCII), DIM)


def _below(topic: Topic, left: list[End], right: list[End]) -> list[str]:
    ends = [("←", each) for each in left] + [("→", each) for each in right]
    lines = [f"  {_drawn(arrow)} {name}  {styled(text, style)}".rstrip() for arrow, (name, text, style) in ends]
    return [styled(printable(topic.topic), BOLD), *lines]


def as_mermaid(found: Graph) -> list[str]:
    """A Mermaid flowchart, a line each."""
    numbers = {topic.topic: number for number, topic in enumerate(found.topics)}
    lines = ["flowchart LR"]
    lines += [f'    p{process.pid}["{_entities(_process_lines(process), "<br>")}"]' for process in found.processes]
    lines += [f'    t{numbers[topic.topic]}(["{_entities(_topic_lines(topic), "<br>")}"])' for topic in found.topics]
    for edge in found.edges:
        process, topic, text = f"p{edge.pid}", f"t{numbers[edge.topic]}", _entities([_text_of(edge)], "")
        ends = (process, topic) if edge.role == "publisher" else (topic, process)
        arrow = "-.->" if edge.role == "waiting" else "-->"
        lines.append(f'    {ends[0]} {arrow}|"{text}"| {ends[1]}' if text else f"    {ends[0]} {arrow} {ends[1]}")
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
        style = "style=dashed, " if edge.role == "waiting" else ""
        lines.append(f"    {ends[0]} -> {ends[1]}" + (f" [{style}label={_quoted([text])}];" if text else ";"))
    return [*lines, "}"]


def _process_lines(process: Process) -> list[str]:
    return [", ".join(process.names), f"pid {process.pid}"]


def _topic_lines(topic: Topic) -> list[str]:
    return [topic.topic, ", ".join(topic.types)] if topic.types else [topic.topic]


def _text_of(edge: Edge) -> str:
    if edge.role == "waiting":
        return "waits"
    if edge.role == "subscriber":
        return f"{edge.lost:,} lost" if edge.lost else ""
    return "" if edge.rate_hz is None else as_short_rate(edge.rate_hz)


def _entities(lines: list[str], between: str) -> str:
    """Text of other processes for Mermaid, where every letter that could mean something is an entity."""
    safe = {letter: f"#{ord(letter)};" for letter in '"#<>&;`[](){}|\\*_'}
    return between.join("".join(safe.get(letter, letter) for letter in printable(line)) for line in lines)


def _quoted(lines: list[str]) -> str:
    """A string of Graphviz."""
    return '"' + "\\n".join(printable(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines) + '"'
