"""Tables of plain text: aligned columns, cut to the terminal's width. They need no package but Python.

Why not rich: `list`, `info` and `stat` are typed often, and importing rich takes longer than their work.
"""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Collection, Iterable, Sequence

GAP = "  "
BOLD, DIM, RED, CYAN, RESET = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[36m", "\x1b[0m"


def has_colours() -> bool:
    """Whether stdout is a terminal that shows styles; NO_COLOR and TERM=dumb say no."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, style: str) -> str:
    """The text in a style, where stdout shows styles."""
    return f"{style}{text}{RESET}" if text and has_colours() else text


def printable(text: str) -> str:
    """A text of another process without what a terminal would take as a command."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def width_of(text: str) -> int:
    """The columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(letter) in {"W", "F"} for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) != 0 for letter in text)


def cut(text: str, width: int) -> str:
    """The text in at most `width` columns, with an ellipsis in place of what is left out."""
    if width_of(text) <= width:
        return text
    kept = ""
    for letter in text:
        if width_of(kept + letter) > width - 1:
            break
        kept += letter
    return f"{kept}…" if width > 0 else ""


def terminal_width() -> int | None:
    """The columns of the terminal; None where stdout is none, and lines are as long as they are."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def lines_of(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[str] = (),
    flexible: str | None = None,
    indent: str = "",
) -> list[str]:
    """A table as lines, the headings first. `right`: the headings of columns of numbers. `flexible`: the heading of the
    column that is cut where the terminal is too narrow, the last one by default.
    """
    cells = [list(map(printable, row)) for row in (headings, *rows)]
    widths = [max(width_of(row[column]) for row in cells) for column in range(len(headings))]
    limit = terminal_width()
    bends = headings.index(flexible) if flexible is not None else len(headings) - 1
    if limit is not None:
        over = len(indent) + sum(widths) + len(GAP) * (len(widths) - 1) - limit
        widths[bends] = max(widths[bends] - max(over, 0), min(widths[bends], 8))
    lines = []
    for number, row in enumerate(cells):
        parts = []
        for heading, text, width in zip(headings, row, widths, strict=True):
            shown = cut(text, width)
            space = " " * (width - width_of(shown))
            parts.append(space + shown if heading in right else shown + space)
        line = indent + GAP.join(parts).rstrip()
        line = line if limit is None else cut(line, limit)
        lines.append(styled(line, BOLD) if number == 0 else line)
    return lines
