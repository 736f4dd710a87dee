"""`zeroslot bench`: figures of this machine, as tables or as JSON. They are measurements without a verdict."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from zeroslot.cli.bench import machine
from zeroslot.cli.bench.measurements import MEASUREMENTS, Numbers, Row
from zeroslot.cli.drawing import spread_lines, spread_of
from zeroslot.cli.figures import as_bytes, as_time
from zeroslot.cli.screen import is_terminal
from zeroslot.cli.table import BOLD, CYAN, DIM, GREEN, Bar, Cell, cut, lines_of, paragraph, styled, terminal_width

__all__ = ["MEASUREMENTS", "run_bench"]

DRAWN = ("bytes_per_s", "p50")  # the figure beside which a bar stands: the first one that there is
DROPPED = ("p90", "p99.9", "lost", "above", "max", "spread", "", "ratio", "p99")


def run_bench(names: list[str], *, quick: bool, json_output: bool) -> int:
    """Run these measurements one after the other."""
    facts = machine.facts()
    found: list[Row] = []
    if not json_output:
        _print_machine(facts)
    for name in dict.fromkeys(names):
        measure = MEASUREMENTS[name]
        rows: list[Row] = []
        shows = not json_output and is_terminal()
        _show(f"{name}…", shows=shows)
        try:
            for row in measure(Numbers(quick=quick)):
                rows.append(row)
                _show(f"{name}: {row.what} done", shows=shows)
        finally:
            _show("", shows=shows)
        found += rows
        if not json_output:
            print(f"{styled(name, BOLD)}  {' '.join((measure.__doc__ or '').split())}")
            print("\n".join(_lines(rows)) + "\n", flush=True)
    if json_output:
        print(json.dumps({"machine": facts, "quick": quick, "rows": [asdict(row) for row in found]}, indent=2))
    return 0


def _show(text: str, *, shows: bool) -> None:
    """What is going on, on a line that the next one replaces."""
    if shows:
        width = (terminal_width() or 80) - 1
        print(f"\r\x1b[K{styled(cut(text, width), DIM)}", end="", flush=True)


def _print_machine(facts: dict[str, Any]) -> None:
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    where = f"pinned to {facts['pinned_to']}" if facts["pinned_to"] else "one core for both sides"
    print(paragraph(f"{facts['cpu']}, {facts['cores']} cores, {where}, load {facts['load_average'][0]}", ""))
    print(paragraph(f"{facts['system']} {facts['kernel']}, {facts['python']}, {versions}", "") + "\n", flush=True)


def _lines(rows: list[Row]) -> list[str]:
    """A table, in which rows whose names differ in what follows the last comma stand together."""
    figures = list(dict.fromkeys(heading for row in rows for heading in row.figures))
    drawn = next((each for each in DRAWN if each in figures), "")
    spreads, scale = spread_lines([spread_of(row.spread.items()) for row in rows])
    names = [each.replace("p99_9", "p99.9").replace("_per_s", "/s") for each in figures]
    place = figures.index(drawn) + 1 if drawn else len(figures)
    headings = ["what", *names[:place], "", *names[place:], *(["spread"] if scale else [])]
    groups = [row.what.rpartition(", ")[0] if row.payload_bytes else "" for row in rows]
    most: dict[str, float] = {}
    for row, group in zip(rows, groups, strict=True):
        most[group] = max(most.get(group, 0.0), row.figures.get(drawn, 0.0))
    cells: list[list[str | Cell | Bar]] = []
    last = ""
    for row, group, spread in zip(rows, groups, spreads, strict=True):
        if group != last:
            cells.append([Cell(group, DIM), *[""] * place, Bar(0), *[""] * (len(headings) - place - 2)])
        last = group
        shown: list[str | Cell | Bar] = [_cell(name, row.figures.get(name), row.unit) for name in figures]
        part = row.figures.get(drawn, 0.0) / most[group] if most[group] > 0 else 0.0
        what = row.what.removeprefix(f"{group}, ")
        cells.append([
            f"  {what}" if group else what, *shown[:place], Bar(part, CYAN), *shown[place:],
            *([Cell(spread, GREEN)] if scale else []),
        ])  # fmt: skip  # a row is a row
    lines = lines_of(headings, cells, right=names, flexible="what", least=18, droppable=DROPPED, indent="  ",
                     heading_style=DIM)  # fmt: skip  # what is shown, and how
    if scale and "spread" in lines[0]:
        lines.append(styled(f"  spread: {scale}", DIM))
    return lines


def _cell(heading: str, value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if heading == "ratio":
        return f"{value:.2f}"
    if heading == "bytes_per_s":
        return f"{as_bytes(value)}/s"
    if unit != "ns":
        return f"{value:,.0f}"
    return f"{value:.0f} ns" if abs(value) < 1000 else as_time(value)
