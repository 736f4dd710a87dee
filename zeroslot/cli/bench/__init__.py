"""`zeroslot bench`: figures of this machine, as tables or as JSON. They are measurements without a verdict."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from zeroslot.cli.bench import machine
from zeroslot.cli.bench.measurements import MEASUREMENTS, Numbers, Row
from zeroslot.cli.figures import as_bytes, as_time

__all__ = ["MEASUREMENTS", "run_bench"]


def run_bench(names: list[str], *, quick: bool, json_output: bool) -> int:
    """Run these measurements one after the other."""
    facts = machine.facts()
    found: list[Row] = []
    console = Console() if sys.stdout.isatty() else Console(width=120)
    if not json_output:
        _print_machine(console, facts)
    for name in dict.fromkeys(names):
        measure = MEASUREMENTS[name]
        rows: list[Row] = []
        progress = console.status(f"{name}…") if console.is_terminal and not json_output else None
        if progress is not None:
            progress.start()
        try:
            for row in measure(Numbers(quick=quick)):
                rows.append(row)
                if progress is not None:
                    progress.update(f"{name}: {row.what} done")
        finally:
            if progress is not None:
                progress.stop()
        found += rows
        if not json_output:
            console.print(f"[bold]{name}[/]  {(measure.__doc__ or '').strip()}", highlight=False)
            console.print(_table(rows))
            console.print()
    if json_output:
        print(json.dumps({"machine": facts, "quick": quick, "rows": [asdict(row) for row in found]}, indent=2))
    return 0


def _print_machine(console: Console, facts: dict[str, Any]) -> None:
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    where = f"pinned to {facts['pinned_to']}" if facts["pinned_to"] else "one core for both sides"
    console.print(f"{facts['cpu']}, {facts['cores']} cores, {where}, load {facts['load_average'][0]}", highlight=False)
    console.print(f"{facts['system']} {facts['kernel']}, {facts['python']}, {versions}\n", highlight=False)


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True, min_width=32)
    headings = list(dict.fromkeys(heading for row in rows for heading in row.figures))
    for heading in headings:
        table.add_column(heading.replace("p99_9", "p99.9").replace("_per_s", "/s"), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.what, *(_cell(heading, row.figures.get(heading), row.unit) for heading in headings))
    return table


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
