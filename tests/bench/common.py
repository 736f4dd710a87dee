"""The common part of the comparisons: alternating rounds, medians of ratios, and results as a table.

These scripts compare zeroslot with other software on this machine. They are not tests, because the results depend on
the machine: they print each figure with its bar, and the exit status is always 0. Run one with the Python that has
zeroslot, or `.venv/bin/python tests/bench/report.py` for all. `--quick` runs fewer rounds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from zeroslot.cli.bench import machine
from zeroslot.cli.figures import as_time, median

ROOT = Path(__file__).resolve().parents[2]


Round = Callable[[], float]


@dataclass(frozen=True)
class Result:
    """One bar and the figure found. `reached` is None if there is no bar, or nothing to compare with."""

    what: str
    bar: str
    found: str
    reached: bool | None
    details: str = ""


def alternate(rounds: int, sides: dict[str, Round]) -> dict[str, list[float]]:
    """One figure of each side in each round. The first round is a warm-up, and not counted."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            figure = side()
            if number:
                found[name].append(figure)
    return found


def ratio(found: dict[str, list[float]], over: str, under: str) -> float:
    """The median of the ratios of each round, so that a drift of the machine affects both sides."""
    return median([one / other for one, other in zip(found[over], found[under], strict=True)])


def medians(found: dict[str, list[float]]) -> str:
    """The median of each side, and its best round."""
    return ", ".join(f"{name} {as_ns(median(times))} (best {as_ns(min(times))})" for name, times in found.items())


def as_ns(ns: float) -> str:
    """Whole nanoseconds below 10 us, where `as_time` would round."""
    return f"{ns:.0f} ns" if ns < 10_000 else as_time(ns)


def at_most(what: str, limit: float, found: float, details: str) -> Result:
    """A bar that the figure must not exceed."""
    return Result(what, f"<= {limit:g}", f"{found:.2f}", found <= limit, details)


def at_least(what: str, limit: float, found: float, details: str) -> Result:
    """A bar that the figure must reach."""
    return Result(what, f">= {limit:g}", f"{found:.2f}", found >= limit, details)


def main(*measurements: Callable[[bool], Iterable[Result]]) -> None:
    """Run measurements and print the results, as a markdown table or as JSON."""
    options = argparse.ArgumentParser(description=(sys.modules["__main__"].__doc__ or "").partition("\n")[0])
    options.add_argument("--quick", action="store_true", help="fewer rounds")
    options.add_argument("--json", action="store_true", help="JSON instead of a table")
    given = options.parse_args()
    facts = machine.facts()
    if not given.json:
        print(
            f"{facts['cpu']}, {facts['cores']} cores, {facts['system']} {facts['kernel']}, {facts['python']}, ", end=""
        )
        print(f"load average {facts['load_average'][0]}\n")
        print("| what | bar | found | | medians |\n| --- | --- | --- | --- | --- |")
    results = []
    for measure in measurements:
        for result in measure(given.quick):
            results.append(result)
            if not given.json:
                mark = {True: "reached", False: "**not reached**", None: ""}[result.reached]
                print(f"| {result.what} | {result.bar} | {result.found} | {mark} | {result.details} |", flush=True)
    if given.json:
        print(json.dumps({"machine": facts, "results": [asdict(result) for result in results]}, indent=2))
