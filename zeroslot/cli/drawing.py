"""Pictures of figures in plain text: sparklines, bars, and histograms of times.

Eighths of a block where stdout can show them, and ASCII elsewhere.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from zeroslot.cli.figures import as_share, as_time

COLUMNS, EIGHTHS = "▁▂▃▄▅▆▇█", "▏▎▍▌▋▊▉█"
ASCII_COLUMNS = "._-~=+*#"
LEAST_BAR = 4  # columns


def has_blocks() -> bool:
    """Whether stdout can show the letters of a picture."""
    try:
        COLUMNS.encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeError):
        return False
    return True


def sparkline(values: Sequence[float | None], width: int, highest: float | None = None) -> str:
    """The last `width` values as columns of a height from 0 to `highest`, by default the highest of them; the newest on
    the right. A space where there is no value; the lowest column stands for 0 alone.
    """
    shown = list(values[-width:]) if width > 0 else []
    top = max((value for value in shown if value is not None), default=0.0) if highest is None else highest
    letters = COLUMNS if has_blocks() else ASCII_COLUMNS
    columns = [" " if value is None else _column(letters, value, top) for value in shown]
    return " " * (width - len(columns)) + "".join(columns)


def _column(letters: str, value: float, top: float) -> str:
    if value <= 0 or top <= 0:
        return letters[0]
    return letters[min(len(letters) - 1, max(1, round(value / top * (len(letters) - 1))))]


def bar(value: float, highest: float, width: int) -> str:
    """A bar of at most `width` columns, which is full at `highest`. Something is shown of what is more than 0."""
    if width <= 0 or value <= 0 or highest <= 0:
        return ""
    part = min(value / highest, 1.0)
    if not has_blocks():
        return "#" * max(1, round(part * width))
    eighths = max(1, round(part * width * 8))
    full, rest = divmod(eighths, 8)
    return EIGHTHS[-1] * full + (EIGHTHS[rest - 1] if rest else "")


def histogram_lines(buckets: Sequence[tuple[float, float, int]], width: int, indent: str = "  ") -> list[str]:
    """A line for each bucket (its ends in nanoseconds, and how much it has), with a bar in the columns that are left of
    `width`. Empty buckets at both ends are left out, and the percentages where there is no room for them.
    """
    filled = [place for place, (_, _, count) in enumerate(buckets) if count]
    if not filled:
        return []
    shown = buckets[filled[0] : filled[-1] + 1]
    total, most = sum(count for *_, count in shown), max(count for *_, count in shown)
    counts = [f"{count:,}" for *_, count in shown]
    digits = max(map(len, counts))
    lines = []
    for (low, high, count), text in zip(shown, counts, strict=True):
        before = f"{indent}{as_time(low):>8} - {as_time(high):>8}  "
        after = f"  {text:>{digits}}"
        if width - len(before) - len(after) - 9 >= LEAST_BAR:
            after += f"  {as_share(count / total):>7}"
        room = max(width - len(before) - len(after), LEAST_BAR)
        lines.append(f"{before}{bar(count, most, room):<{room}}{after}")
    return lines


PER_OCTAVE = 2  # columns of a spread
Spread = Mapping[int, int]  # how many values are in each half octave; its number is that of `spread_of`


def spread_of(counts: Iterable[tuple[float, int]]) -> Counter[int]:
    """Values and how often each occurs, by half octaves."""
    found: Counter[int] = Counter()
    for value, count in counts:
        found[math.floor(PER_OCTAVE * math.log2(max(value, 1.0)))] += count
    return found


def spread_lines(spreads: Sequence[Spread]) -> tuple[list[str], str]:
    """How values are spread, one line for each: columns from the smallest to the largest of all, on one scale of
    times; and what the scale is. Something is shown of a single value.
    """
    places = [place for spread in spreads for place, count in spread.items() if count]
    if not places:
        return [""] * len(spreads), ""
    low, high = min(places), max(places)
    lines = [sparkline_of(spread, low, high) for spread in spreads]
    ends = [as_time(2 ** (place / PER_OCTAVE)) for place in (low, high + 1)]
    return lines, f"{ends[0]} to {ends[1]}, each column 1.4 times the one before"


def sparkline_of(spread: Spread, low: int, high: int) -> str:
    """The columns of one spread; spaces where there is nothing."""
    return sparkline([spread.get(place, 0) or None for place in range(low, high + 1)], high - low + 1)
