"""The cost of publish with 32 subscribers attached, which neither take nor sleep, compared with none."""

from __future__ import annotations

from collections.abc import Iterator

from common import Result, at_most, main, medians, ratio

from zeroslot.cli.bench.measurements import fanout_rounds


def measure(quick: bool) -> Iterator[Result]:
    """The ratio."""
    by_count = fanout_rounds(*((5, 2000) if quick else (31, 10000)))
    found = {f"{count} subscribers": costs for count, costs in by_count.items()}
    what = "loan + set + commit with 32 subscribers attached: times none"
    yield at_most(what, 1.2, ratio(found, "32 subscribers", "0 subscribers"), medians(found))


if __name__ == "__main__":
    main(measure)
