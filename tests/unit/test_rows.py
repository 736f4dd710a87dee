"""Promises and their tests: every promised row of tests/rows.txt has one, and so has every row of tests/README.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rows import read_rows

pytestmark = pytest.mark.sources

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
LEFT_OUT = {"stress", "bench"}  # by a plain run
PROMISED = [row.id for row in read_rows().values() if row.promised]


def marks_of(function: ast.FunctionDef) -> Iterator[tuple[str, list[str]]]:
    """The marks of a test: name and arguments that are texts."""
    for decorator in function.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        name = ast.unparse(call.func if call else decorator)
        if name.startswith("pytest.mark."):
            texts = [each.value for each in call.args if isinstance(each, ast.Constant)] if call else []
            yield name.removeprefix("pytest.mark."), [text for text in texts if isinstance(text, str)]


def all_tests() -> dict[str, dict[str, list[str]]]:
    """Every test by `tests/file.py::name`, with its marks."""
    found: dict[str, dict[str, list[str]]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                marks: dict[str, list[str]] = {}
                for name, texts in marks_of(node):
                    marks.setdefault(name, []).extend(texts)
                found[f"{path.relative_to(ROOT)}::{node.name}"] = marks
    return found


ALL = all_tests()


def rows_of_the_readme() -> list[list[str]]:
    """The table "What happens if": cells of each row."""
    section = (TESTS / "README.md").read_text("utf-8").partition("## What happens if\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


README = rows_of_the_readme()


def test_something_is_promised() -> None:
    """A table that is read wrongly would promise nothing."""
    assert len(PROMISED) > 50
    assert len(README) >= 25
    assert len(ALL) > 500


@pytest.mark.row("DEF-19")
@pytest.mark.parametrize("row_id", PROMISED)
def test_a_promised_row_has_a_test(row_id: str) -> None:
    """One that a plain run runs."""
    assert [test for test, marks in ALL.items() if row_id in marks.get("row", []) and not marks.keys() & LEFT_OUT], (
        f"no test is marked with {row_id}"
    )


def test_a_row_that_does_not_apply_has_no_test() -> None:
    """Else it does."""
    without = {row.id for row in read_rows().values() if not row.applies}
    assert {test: marks["row"] for test, marks in ALL.items() if without & set(marks.get("row", []))} == {}


@pytest.mark.row("DEF-19")
@pytest.mark.parametrize("cells", README, ids=[cells[0] for cells in README])
def test_a_row_of_the_readme_names_tests_that_are_there(cells: list[str]) -> None:
    """What happens, and the tests that prove it, which a plain run runs."""
    happens, then, proof = cells
    assert happens
    assert then
    named = re.findall(r"`([^`]+)`", proof)
    assert named, "nothing proves it"
    for test in named:
        assert test in ALL, f"there is no {test}"
        assert not ALL[test].keys() & LEFT_OUT
