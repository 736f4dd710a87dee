"""The report: tables as Markdown, plots as SVG, and the section of the README that is made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.bench.peers import PEERS
from tests.bench.ways import BLOCK, COPIED, FILLED, FRAME, SPIN, TYPED, size_name
from zeroslot.cli.figures import as_time, median

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).with_name("report")
BEGIN, END = "<!-- bench: made by `python -m tests.bench report FILE --write` -->", "<!-- bench: end -->"
PERCENTILES = ("p50", "p90", "p99", "p99_9", "max")

Found = dict[str, Any]
Rows = list[dict[str, Any]]


def number(value: float) -> str:
    """Three digits that count."""
    if value == 0 or 100 <= abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(head: list[str], lines: Iterable[list[str]]) -> str:
    """A Markdown table; all columns but the first are on the right."""
    rules = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rules, *lines])


def rows_of(found: Found, part: str, **facts: object) -> Rows:
    """The rows of a part that have these facts."""
    return [
        row
        for row in found["rows"]
        if row["part"] == part and all(row["facts"].get(name) == value for name, value in facts.items())
    ]


def row_of(found: Found, part: str, peer: str, what: str | None = None, **facts: object) -> dict[str, Any] | None:
    """The one row of a peer; None if it was not measured."""
    for row in rows_of(found, part, **facts):
        if row["peer"] == peer and row["figures"] and (what is None or row["what"] == what):
            return dict(row)
    return None


def is_ours(peer: str) -> bool:
    """Whether it is zeroslot, with whatever settings."""
    return peer.partition(",")[0] == "zeroslot"


def machine_line(found: Found) -> str:
    """What it was measured on, in one line."""
    facts = found["machine"]
    kind = "virtual machine" if facts.get("hypervisor") else "machine"
    placed = f"pinned to {' and '.join(map(str, facts['pinned_to']))}" if facts["pinned_to"] else "one processor"
    scheduler = "" if facts.get("scheduler", "normal") == "normal" else f", scheduled as {facts['scheduler']}"
    load = f"load {facts['load_average'][0]} before, {facts['load_average_after'][0]} after"
    return (
        f"{facts['cpu']}, {facts['cores']} cores of a {kind}, {placed}{scheduler}; {facts['system']} "
        f"{facts['kernel']}, {facts['python']}, "
        f"numpy {facts['versions']['numpy']}; {load}; {found['runs']} alternating runs; "
        f"zeroslot at {facts['commit']}, {facts['date']}."
    )


# --- the whole report ---


def markdown(found: Found) -> str:
    """All tables."""
    parts = list(dict.fromkeys(row["part"] for row in found["rows"]))
    text = ["# Benchmark report", "", machine_line(found), ""]
    text += [
        "Times are nanoseconds unless a column says otherwise. `low` and `high` are the medians of the fastest and the"
    ]
    text += ["slowest run; p50 to p99.9 are medians over the runs, max is the largest value of all.", ""]
    if bars := bar_table(found):
        text += ["## What it should reach", "", bars, ""]
    for part in parts:
        text += [f"## {part.capitalize()}", ""]
        text += latency_tables(found) if part == "latency" else [generic_table(rows_of(found, part)), ""]
        if absent := sorted({f"{row['peer']}: {row['why']}" for row in rows_of(found, part) if row["why"]}):
            text += ["Not measured: " + "; ".join(absent) + ".", ""]
    text += ["## Peers", "", peer_table(found), ""]
    if statements := statement_list(found):
        text += ["## Statements", "", "What is sent and received in each round; `turn` is its number.", "", statements]
    return "\n".join(text).rstrip() + "\n"


def generic_table(rows: Rows) -> str:
    """One line a row, one column a figure."""
    rows = [row for row in rows if row["figures"]]
    heads = list(dict.fromkeys(name for row in rows for name in row["figures"]))
    lines_known = any("lines" in row["facts"] for row in rows)
    head = [
        "",
        "peer",
        *(name.replace("p99_9", "p99.9") for name in heads),
        *(["shared cache lines"] if lines_known else []),
    ]
    lines = []
    for row in rows:
        cells = [cell(row, name) for name in heads]
        unit = f" ({row['unit']})" if row["unit"] not in {"", "ns"} else ""
        above = f", above {row['facts']['above']}" if "above" in row["facts"] else ""
        last = [str(row["facts"].get("lines", ""))] if lines_known else []
        lines.append([row["what"] + above + unit, row["peer"], *cells, *last])
    return table(head, lines)


def latency_tables(found: Found) -> list[str]:
    """Typed with all percentiles; filled and copied with one column a size."""
    text = []
    for wait, name in ((SPIN, "spinning"), (BLOCK, "blocking")):
        rows = [row for row in rows_of(found, "latency", wait=wait, payload=TYPED) if row["figures"]]
        heads = [*PERCENTILES, "low", "high"]
        if rows:
            lines = [[row["peer"], *(cell(row, head) for head in heads)] for row in rows]
            head = [f"64 B typed, {name}", *(head.replace("_", ".") for head in heads)]
            text += [table(head, lines), ""]
        for payload in (FILLED, COPIED):
            rows = rows_of(found, "latency", wait=wait, payload=payload)
            sizes = sorted({row["facts"]["bytes"] for row in rows if row["figures"]})
            if not sizes:
                continue
            lines = []
            for peer in dict.fromkeys(row["peer"] for row in rows):
                cells = [row_of(found, "latency", peer, wait=wait, payload=payload, bytes=size) for size in sizes]
                lines.append([peer, *(spread_cell(cell) for cell in cells)])
            how = "filled in place (both ends)" if payload == FILLED else "copied"
            text += [table([f"{how}, {name}; p50 (low to high)", *map(size_name, sizes)], lines), ""]
    return text


def cell(row: dict[str, Any], figure: str) -> str:
    """A figure; nothing if the row has none."""
    return number(row["figures"][figure]) if figure in row["figures"] else ""


def spread_cell(row: dict[str, Any] | None) -> str:
    """The median and its spread."""
    if row is None:
        return ""
    figures = row["figures"]
    return f"{number(figures['p50'])} ({number(figures['low'])} to {number(figures['high'])})"


def peer_table(found: Found) -> str:
    """Version and settings of each peer."""
    lines = [
        [
            name,
            facts["version"] or ("" if not facts["missing"] else facts["missing"]),
            facts["placed"],
            facts["settings"],
        ]
        for name, facts in found["peers"].items()
    ]
    return table(["peer", "version", "processes", "settings"], lines)


def statement_list(found: Found) -> str:
    """The statements of each peer, of one size each."""
    text: list[str] = []
    seen = set()
    for row in rows_of(found, "latency"):
        facts = row["facts"]
        statements = facts.get("statements")
        if not statements or (key := (row["peer"], facts["wait"], facts["payload"], statements)) in seen:
            continue
        seen.add(key)
        send, receive = statements.split("\n---\n")
        text += [f"{row['peer']}, {facts['payload']}, {'spinning' if facts['wait'] == SPIN else 'blocking'}:", ""]
        text += ["```python", send, "# there", receive, "```", ""]
    return "\n".join(text)


# --- the bars ---


def bar_table(found: Found) -> str:
    """Each bar, with the median over the runs and its spread."""
    lines = []
    for what, limit, direction, values in bars(found):
        if not values:
            continue
        middle = median(values)
        reached = middle <= limit if direction == "at most" else middle >= limit
        spread = f"{number(min(values))} to {number(max(values))}"
        lines.append([what, f"{direction} {number(limit)}", number(middle), spread, "yes" if reached else "**no**"])
    return table(["what", "bar", "found", "spread", "reached"], lines) if lines else ""


Bar = tuple[str, float, str, list[float]]


def bars(found: Found) -> list[Bar]:
    """The bars of DESIGN.md and their values in each run. Ratios are those of one run, and then the median is taken."""

    def latency(peer: str, wait: str = SPIN, payload: str = TYPED, size: int = 64) -> list[float]:
        row = row_of(found, "latency", peer, wait=wait, payload=payload, bytes=size)
        return list(row["runs"]) if row else []

    def both(over: list[float], under: list[float], make: Callable[[float, float], float]) -> list[float]:
        return [make(one, other) for one, other in zip(over, under, strict=False)]

    def ratio(one: float, other: float) -> float:
        return one / other

    def best(wait: str, payload: str, size: int) -> list[float]:
        peers = {row["peer"] for row in rows_of(found, "latency", wait=wait, payload=payload, bytes=size)}
        others = [latency(peer, wait, payload, size) for peer in peers if peer in PEERS and not is_ours(peer)]
        return min(filter(None, others), key=median, default=[])

    def first(part: str, peer: str, what: str, figure: str) -> list[float]:
        row = row_of(found, part, peer, what)
        if row is None:
            return []
        return list(row["runs"]) if figure == "above" else [row["figures"][figure]]

    zeroslot, typed = latency("zeroslot"), "64 B typed, one way, spinning: "
    row = row_of(found, "latency", "zeroslot", wait=SPIN, payload=TYPED)
    tail = [row["figures"]["p99"] / row["figures"]["p50"]] if row else []
    imports = [first("startup", name, "import", "p50") for name in ("zeroslot", "numpy and pydantic")]
    return [
        (
            typed + "times faster than iceoryx2's Python binding",
            10,
            "at least",
            both(latency("iceoryx2"), zeroslot, ratio),
        ),
        (
            typed + "times faster than iceoryx2 by address",
            1,
            "at least",
            both(latency("iceoryx2, by address"), zeroslot, ratio),
        ),
        (
            typed + "ns above the core in C",
            250,
            "at most",
            both(zeroslot, latency("zeroslot's core, C"), lambda a, b: a - b),
        ),
        (
            typed + "times faster than shared memory by hand",
            1.3,
            "at least",
            both(latency("shared_memory, by hand"), zeroslot, ratio),
        ),
        (
            typed + "times faster than shared memory by hand, through numpy",
            1.3,
            "at least",
            both(latency("shared_memory, numpy"), zeroslot, ratio),
        ),
        (typed + "p99, times the median", 2, "at most", tail),
        (
            "loan + set + commit, ns above an empty method call",
            90,
            "at most",
            first("calls", "zeroslot", "loan + set + commit", "above"),
        ),
        (
            "send of two numbers, ns above an empty method call",
            90,
            "at most",
            first("calls", "zeroslot", "send of two numbers", "above"),
        ),
        (
            "take + read + release, ns above an empty method call",
            70,
            "at most",
            first("calls", "zeroslot", "take + read + release", "above"),
        ),
        (
            "publish(model) of 10 fields, ns above an empty method call",
            500,
            "at most",
            first("calls", "zeroslot", "publish(model) of 10 fields", "above"),
        ),
        (
            "64 B typed, blocking: times the fastest peer that blocks",
            1,
            "at most",
            both(latency("zeroslot", BLOCK), best(BLOCK, TYPED, 64), ratio),
        ),
        (
            "64 B typed, blocking: times a bare futex in C",
            1.1,
            "at most",
            both(latency("zeroslot", BLOCK), latency("a bare futex, C", BLOCK), ratio),
        ),
        (
            "1 MiB copied, spinning: times the fastest peer",
            1,
            "at most",
            both(latency("zeroslot", SPIN, COPIED, 1 << 20), best(SPIN, COPIED, 1 << 20), ratio),
        ),
        (
            "6.2 MB copied, spinning: times the fastest peer",
            1,
            "at most",
            both(latency("zeroslot", SPIN, COPIED, FRAME), best(SPIN, COPIED, FRAME), ratio),
        ),
        (
            "filled in place, spinning: 8 MiB, times 64 B",
            1.2,
            "at most",
            both(latency("zeroslot", SPIN, FILLED, 8 << 20), latency("zeroslot", SPIN, FILLED), ratio),
        ),
        (
            "publish(frame) of 6.2 MB: part of memcpy's bandwidth",
            0.9,
            "at least",
            first("frames", "zeroslot", "6.2 MB, publish", "part of memcpy"),
        ),
        (
            "publish with 32 subscribers attached: times none",
            1.2,
            "at most",
            first("fanout", "zeroslot", "publish, 32 attached", "times none"),
        ),
        (
            "publish_many to take_many, million samples a second",
            20,
            "at least",
            first("batches", "zeroslot", "publish_many, take_many", "million/s"),
        ),
        ("import zeroslot: times numpy and pydantic", 1.3, "at most", both(*imports, ratio)),
        ("attach, ms", 1, "at most", first("startup", "zeroslot", "attach to a pool of 640 B", "p50")),
    ]


# --- the section of the README ---


README_ROWS = (
    ("64 B, spinning", SPIN, TYPED, 64),
    ("64 B, blocking", BLOCK, TYPED, 64),
    ("8 MiB in place", None, FILLED, 8 << 20),
    ("1 MiB copied", None, COPIED, 1 << 20),
    ("6.2 MB copied", None, COPIED, FRAME),
)


def readme_section(found: Found) -> str:
    """One table, one plot, the machine line."""
    peers = list(dict.fromkeys(row["peer"] for row in rows_of(found, "latency")))
    lines = []
    for peer in peers:
        cells = [best_cell(found, peer, wait, payload, size) for _, wait, payload, size in README_ROWS]
        if any(cells):
            lines.append((cells, peer))
        elif why := next((row["why"] for row in rows_of(found, "latency") if row["peer"] == peer and row["why"]), ""):
            lines.append(([*[""] * (len(README_ROWS) - 1), why], peer))
    floors = {peer for peer in peers if peer.endswith(", C") or peer.startswith("memcpy")}
    lines.sort(key=lambda line: (line[1] in floors, not is_ours(line[1]), place(line[0])))
    body = [
        [f"**{peer}**" if peer == "zeroslot" else f"*{peer}*" if peer in floors else peer, *cells]
        for cells, peer in lines
    ]
    text = [BEGIN, "", table(["one way, median", *(name for name, *_ in README_ROWS)], body), ""]
    text += ["Rows in italics are what the machine takes without Python.", ""]
    text += [
        "![One way against the size of the message](tests/bench/report/latency.svg)",
        "",
        machine_line(found),
        "",
        END,
    ]
    return "\n".join(text)


def place(cells: list[str]) -> tuple[int, ...]:
    """Peers that spin first, then those that block."""
    return tuple(0 if cell else 1 for cell in cells[:1])


def best_cell(found: Found, peer: str, wait: str | None, payload: str, size: int) -> str:
    """The median, of the faster wait if there is a choice."""
    cells = [
        row["figures"]["p50"]
        for one in ((SPIN, BLOCK) if wait is None else (wait,))
        if (row := row_of(found, "latency", peer, wait=one, payload=payload, bytes=size))
    ]
    return as_time(min(cells)).replace("us", "µs") if cells else ""


def write(found: Found) -> None:
    """report/README.md, the plots, and the section of the README between its two marks."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "README.md").write_text(markdown(found), "utf-8")
    plot_latency(found, FOLDER / "latency.svg")
    plot_hop(found, FOLDER / "hop.svg")
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"README.md has no section between {BEGIN} and {END}")
    readme.write_text(before + readme_section(found) + after, "utf-8")


# --- the plots ---


def new_plot(height: float) -> tuple[Any, Any]:
    """A figure whose SVG is the same whenever it is drawn of the same data, with its text as text."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "zeroslot", "font.size": 9, "axes.spines.top": False}
    mpl.rcParams |= {"axes.spines.right": False}
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=(8, height), layout="constrained")


def save(figure: Any, path: Path) -> None:
    """As SVG, without a date."""
    from matplotlib import pyplot as plt

    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    path.write_text("\n".join(line.rstrip() for line in path.read_text("utf-8").splitlines()) + "\n", "utf-8")


def plot_latency(found: Found, path: Path) -> None:
    """One way against the size, copied: a line for each peer, in its faster wait."""
    figure, axes = new_plot(4.6)
    colors = ["blue", "orange", "green", "red", "purple", "brown", "pink", "olive", "cyan"]
    axes.set_prop_cycle(color=[*(f"tab:{color}" for color in colors), "navy", "teal", "crimson", "tan"])
    ends: list[tuple[float, str, Any]] = []
    for peer in dict.fromkeys(row["peer"] for row in rows_of(found, "latency", payload=COPIED)):
        points: dict[int, float] = {}
        waits = set()
        for row in rows_of(found, "latency", payload=COPIED):
            if row["peer"] == peer and row["figures"]:
                size = row["facts"]["bytes"]
                if row["figures"]["p50"] < points.get(size, 1e18):
                    points[size] = row["figures"]["p50"]
                waits.add(row["facts"]["wait"])
        style = {"lw": 2.5, "color": "black"} if peer == "zeroslot" else {"lw": 1.2}
        if "memcpy" in peer:
            style = {"lw": 1, "color": "gray", "ls": ":"}
        sizes = sorted(points)
        if sizes:
            (line,) = axes.plot(sizes, [points[size] for size in sizes], marker=".", **style)
            ends.append((points[sizes[-1]], f"{peer}{'' if SPIN in waits else ' (blocking)'}", line))
    filled = [row for row in rows_of(found, "latency", wait=SPIN, payload=FILLED) if row["peer"] == "zeroslot"]
    if filled:
        pairs = sorted((row["facts"]["bytes"], row["figures"]["p50"]) for row in filled if row["figures"])
        (line,) = axes.plot(*zip(*pairs, strict=True), marker=".", lw=2.5, ls="--", color="black")
        ends.append((pairs[-1][1], "zeroslot, filled in place", line))
    axes.set(xscale="log", yscale="log", xlabel="bytes", ylabel="ns, one way, median")
    ends.sort(key=lambda end: -end[0])
    axes.legend(
        [end[2] for end in ends], [end[1] for end in ends], loc="center left", bbox_to_anchor=(1, 0.5), frameon=False
    )
    save(figure, path)


def plot_hop(found: Found, path: Path) -> None:
    """The steps of a hand-over, one after the other: what each costs in one process, and what cache lines add."""
    rows = [row for row in rows_of(found, "hop") if "lines" in row["facts"]]
    if not rows:
        return
    figure, axes = new_plot(2.4)
    at = 0.0
    for row in rows:
        hot, moved = row["figures"]["hot"], max(row["figures"]["moved"], 0.0)
        index = rows.index(row)
        axes.barh(len(rows) - index, hot, left=at, color="tab:blue")
        axes.barh(len(rows) - index, moved, left=at + hot, color="tab:orange")
        at += hot + moved
    axes.set(yticks=range(len(rows), 0, -1), yticklabels=[row["what"] for row in rows], xlabel="ns")
    axes.legend(["in one process", "cache lines that move"], frameon=False)
    save(figure, path)
