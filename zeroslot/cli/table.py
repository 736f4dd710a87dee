"""Tables of plain text: aligned columns, cut to the terminal's width. They need no package but Python.

Why not rich: `list`, `info` and `stat` are typed often, and importing rich takes longer than their work.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from zeroslot.cli.drawing import LEAST_BAR, bar

GAP = "  "
BOLD, DIM, RED, CYAN, RESET = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[36m", "\x1b[0m"
LEAST_WIDTH, WIDEST_BAR = 8, 24
GREEN, YELLOW = "\x1b[32m", "\x1b[33m"


class Cell(NamedTuple):
    """A text of a table with its style."""

    text: str
    style: str = ""


def fault_cell(count: int) -> Cell:
    """A count of what should not happen, such as lost samples: red where it is not 0."""
    return Cell(f"{count:,}", RED if count else "")


class Bar(NamedTuple):
    """A cell of a table with a bar that is full at 1.0."""

    part: float
    style: str = ""


def has_colours() -> bool:
    """Whether stdout is a terminal that shows styles; NO_COLOR and TERM=dumb say no."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, style: str) -> str:
    """The text in a style, where stdout shows styles."""
    return f"{style}{text}{RESET}" if text and has_colours() else text


def printable(text: str) -> str:
    """A text of another process without what a terminal would take as a command."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def width_of(text: str) -> int:
    """The columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(letter) in {"W", "F"} for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) != 0 for letter in text)


def cut(text: str, width: int) -> str:
    """The text in at most `width` columns, with an ellipsis in place of what is left out."""
    text = text.rstrip()
    if width_of(text) <= width:
        return text
    kept = ""
    for letter in text:
        if width_of(kept + letter) > width - 1:
            break
        kept += letter
    return f"{kept}…" if width > 0 else ""


def paragraph(text: str, indent: str = "  ") -> str:
    """A sentence in lines that fit the terminal; those after the first are indented. A path stays in one piece."""
    width = terminal_width()
    if width is None or width_of(text) <= width:
        return text
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def terminal_width() -> int | None:
    """The columns of the terminal; None where stdout is none, and lines are as long as they are."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def lines_of(
    headings: Sequence[str],
    rows: Iterable[Sequence[str | Cell | Bar]],
    *,
    right: Collection[str] = (),
    flexible: str | None = None,
    least: int = LEAST_WIDTH,
    droppable: Sequence[str] = (),
    indent: str = "",
    width: int | None = None,
    heading_style: str = BOLD,
) -> list[str]:
    """A table as lines, the headings first.

    `right`: the headings of columns of numbers. Where the columns do not fit `width` (by default the terminal's), those
    of `droppable` are left out one after the other, while `flexible`, by default the last column, can be cut to `least`
    columns at most. A column of bars gets what is left.
    """
    limit = terminal_width() if width is None else width
    cells = [[_as_cell(each) for each in row] for row in ([Cell(each, heading_style) for each in headings], *rows)]
    places = list(range(len(headings)))
    widths = [_natural(row[place] for row in cells) for place in places]
    bends = headings.index(flexible) if flexible is not None else len(headings) - 1
    least = min(widths[bends], least)

    def over() -> int:
        used = len(indent) + sum(widths[place] for place in places) + len(GAP) * (len(places) - 1)
        return used - limit if limit is not None else 0

    for heading in filter(headings.__contains__, droppable):
        if over() <= widths[bends] - least:
            break
        places.remove(headings.index(heading))
    widths[bends] -= max(0, min(over(), widths[bends] - least))
    for place in places:
        if any(isinstance(row[place], Bar) for row in cells):
            widths[place] = min(WIDEST_BAR, widths[place] - over()) if limit is not None else WIDEST_BAR
    paint = has_colours()
    shown = [widths[place] for place in places]
    numbers = [headings[place] in right for place in places]
    return [_line([row[place] for place in places], shown, numbers, indent, limit, paint) for row in cells]


def _as_cell(given: str | Cell | Bar) -> Cell | Bar:
    if isinstance(given, Bar):
        return given
    text, style = given if isinstance(given, Cell) else (given, "")
    return Cell(printable(text), style)


def _natural(column: Iterable[Cell | Bar]) -> int:
    return max(LEAST_BAR if isinstance(each, Bar) else width_of(each.text) for each in column)


def _line(
    row: list[Cell | Bar], widths: list[int], numbers: list[bool], indent: str, limit: int | None, paint: bool
) -> str:
    plain, painted = [], []
    for each, width, number in zip(row, widths, numbers, strict=True):
        text = bar(each.part, 1.0, width) if isinstance(each, Bar) else cut(each.text, width)
        space = " " * (width - width_of(text))
        plain.append(space + text if number else text + space)
        shown = f"{each.style}{text}{RESET}" if paint and each.style and text.strip() else text
        painted.append(space + shown if number else shown + space)
    line = indent + GAP.join(plain).rstrip()
    if limit is not None and width_of(line) > limit:
        return cut(line, limit)
    return indent + GAP.join(painted).rstrip()
