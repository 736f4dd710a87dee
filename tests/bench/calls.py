"""The cost of calls above an empty method call or attribute access, and of the import above numpy and pydantic."""

from __future__ import annotations

from collections.abc import Iterator

from common import Result, as_ns, main, median

from zeroslot.cli.bench import measurements
from zeroslot.cli.bench.measurements import Numbers

BARS = {
    "loan + set + commit": 130,
    "take + read + release": 130,
    "scalar field get": 30,
    "array field get": 60,
}


def measure(quick: bool) -> Iterator[Result]:
    """Calls, import, attach."""
    for row in measurements.calls(Numbers(quick=quick)):
        if row.what in BARS:
            bar, above = BARS[row.what], row.figures["above"]
            what = f"{row.what}: ns above {row.facts['above']}"
            yield Result(what, f"<= {bar}", f"{above:.0f}", above <= bar, as_ns(row.figures["p50"]))
    times = measurements.import_rounds(5 if quick else 21)
    names = ("zeroslot", "numpy and pydantic")
    found = median([one / other for one, other in zip(*(times[name] for name in names), strict=True)])
    details = ", ".join(f"{name} {as_ns(median(times[name]))}" for name in names)
    yield Result("import: times numpy and pydantic", "<= 1.3", f"{found:.2f}", found <= 1.3, details)
    for row in measurements.attach(Numbers(quick=quick)):
        p50 = row.figures["p50"]
        yield Result(f"attach to {row.what}: ms", "<= 1", f"{p50 / 1e6:.2f}", p50 <= 1e6, as_ns(p50))


if __name__ == "__main__":
    main(measure)
