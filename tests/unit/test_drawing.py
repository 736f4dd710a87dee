"""Pictures in text, and the tables that they stand in."""

from __future__ import annotations

import sys

import pytest

from zeroslot.cli import table
from zeroslot.cli.drawing import bar, histogram_lines, sparkline
from zeroslot.cli.figures import as_rate, as_share, as_short_rate
from zeroslot.cli.screen import KEY, KEYS
from zeroslot.cli.table import Bar, Cell, lines_of, width_of


class Ascii:
    encoding = "ascii"

    @staticmethod
    def isatty() -> bool:
        return False


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An output that shows every letter."""
    monkeypatch.setattr(sys, "stdout", type("Utf8", (Ascii,), {"encoding": "utf-8"}))


def test_a_sparkline_has_a_column_for_each_value(blocks: None) -> None:
    """From nothing to the highest; nothing where there is no value; the newest on the right."""
    assert sparkline([0, 1, 4, 8], 4) == "▁▂▅█"
    assert sparkline([1, 2, None, 2], 6) == "  ▅█ █"
    assert sparkline([9, 0, 0], 2) == "▁▁"
    assert sparkline([1], 1, highest=100) == "▂"
    assert sparkline([], 3) == "   "


def test_a_bar_shows_eighths(blocks: None) -> None:
    """Something of what is more than nothing, and never more than its width."""
    assert bar(1, 1, 4) == "████"
    assert bar(5, 16, 2) == "▋"
    assert bar(1e-9, 1, 4) == "▏"
    assert bar(9, 1, 4) == "████"
    assert (bar(0, 1, 4), bar(1, 0, 4), bar(1, 1, 0)) == ("", "", "")


def test_pictures_are_ascii_where_nothing_else_can_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a terminal of LANG=C."""
    monkeypatch.setattr(sys, "stdout", Ascii)
    assert sparkline([0, 1, 4, 8], 4).isascii()
    assert bar(1, 2, 8) == "####"


def test_a_histogram_leaves_out_what_is_empty_at_its_ends(blocks: None) -> None:
    """Each line fits; counts and parts stand below each other."""
    lines = histogram_lines([(0, 10, 0), (10, 20, 1), (20, 40, 0), (40, 80, 3), (80, 160, 0)], 60)
    assert len(lines) == 3
    assert {width_of(line) for line in lines} == {60}
    assert lines[0].endswith("25.0 %")
    assert lines[2].count("█") > lines[0].count("█") > lines[1].count("█") == 0
    assert histogram_lines([(0, 10, 0)], 60) == []
    narrow = histogram_lines([(10, 20, 1234), (20, 40, 30_000)], 40)
    assert {width_of(line) for line in narrow} == {40}
    assert narrow[1].endswith("30,000")


def test_a_cut_text_has_no_space_before_its_end(blocks: None) -> None:
    """Spaces that hold a column's width are no text that is left out."""
    assert table.cut("driver    ", 8) == "driver"
    assert table.cut("a driver  ", 7) == "a driv…"


def test_a_sentence_is_broken_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only on a terminal, and a path stays whole."""
    assert table.paragraph("one two three") == "one two three"
    monkeypatch.setattr(table, "terminal_width", lambda: 9)
    assert table.paragraph("one two three /a/long/path") == "one two\n  three\n  /a/long/path"


def test_a_table_leaves_out_columns_before_it_cuts_one(blocks: None) -> None:
    """In the order that is given; the flexible column is cut to eight at least, and bars get what is left."""
    headings, rows = ("name", "a", "b", "bar"), [["a long long name", "12", "3456", Bar(1.0)]]
    options = {"right": ("a", "b"), "flexible": "name", "droppable": ("b", "a")}
    assert lines_of(headings, rows, width=80, **options)[1] == f"a long long name  12  3456  {'█' * 24}"
    assert lines_of(headings, rows, width=40, **options)[1] == f"a long long name  12  3456  {'█' * 12}"
    assert lines_of(headings, rows, width=30, **options)[1] == "a long long n…  12  3456  ████"
    assert lines_of(headings, rows, width=20, **options)[0] == "name         a  bar"
    assert lines_of(headings, rows, width=14, **options)[1] == "a long …  ████"
    assert all(width_of(line) <= 9 for line in lines_of(headings, rows, width=9, **options))


def test_a_style_does_not_count_as_width(monkeypatch: pytest.MonkeyPatch, blocks: None) -> None:
    """Text of other processes is made printable, and cannot change the style of the terminal."""
    monkeypatch.setattr(table, "has_colours", lambda: True)
    (_, line) = lines_of(("a", "b"), [[Cell("x\x1b", table.RED), "y"]], width=20)
    assert line == f"{table.RED}x\N{REPLACEMENT CHARACTER}{table.RESET}  y"


@pytest.mark.parametrize(
    ("hz", "exact", "short"),
    [
        (None, "-", "-"), (0.0, "0.000 Hz", "0.0 Hz"), (0.5, "0.500 Hz", "0.50 Hz"), (60.0, "60.00 Hz", "60.0 Hz"),
        (1000.02, "1,000.02 Hz", "1.00 kHz"), (203166.7, "203,166.7 Hz", "203.2 kHz"),
        (2e6, "2,000,000.0 Hz", "2.00 MHz"),
    ],
)  # fmt: skip  # a table
def test_rates_have_enough_digits(hz: float | None, exact: str, short: str) -> None:
    """For a tenth of a percent, or for a column."""
    assert (as_rate(hz), as_short_rate(hz)) == (exact, short)


def test_a_small_share_is_more_than_nothing() -> None:
    """One of a million."""
    assert (as_share(0.0), as_share(1e-6), as_share(0.054)) == ("0 %", "<0.1 %", "5.4 %")


def test_keys_are_letters_and_names() -> None:
    """Several may come at once."""
    assert [KEYS.get(key, key) for key in KEY.findall("q\x1b[A\x1bOBé\x1b[5~\x1b")] == [
        "q", "up", "down", "é", "page up", "escape",
    ]  # fmt: skip  # a table
