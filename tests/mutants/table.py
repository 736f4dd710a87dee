"""Reads `table.toml`: which text is replaced by which, and which tests must fail then."""

from __future__ import annotations

import ast
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("table.toml")
KEYS = {"rule", "breaks", "file", "text", "by", "also", "noticed_by", "hangs", "argument"}


class StaleError(Exception):
    """The sources have moved on, and the table has to follow."""


@dataclass(frozen=True)
class Change:
    """One replacement in one file."""

    file: str
    text: str
    by: str

    def apply(self, before: str) -> str:
        """The file's text with the change. StaleError unless there is exactly one place for it."""
        count = before.count(self.text)
        if count != 1:
            raise StaleError(f"{self.file} has this {count} times, and not once:\n{self.text}")
        if self.text == self.by:
            raise StaleError(f"{self.file}: this changes nothing:\n{self.text}")
        return before.replace(self.text, self.by)


@dataclass(frozen=True)
class Mutant:
    """One rule left out. `argument` says why, where no test can notice; `hangs`: only the watchdog does."""

    name: str
    rule: str
    breaks: str
    changes: tuple[Change, ...]
    noticed_by: tuple[str, ...]
    hangs: bool
    argument: str

    def mutated(self, root: Path) -> dict[str, str]:
        """The new texts of the files that it changes."""
        texts: dict[str, str] = {}
        for change in self.changes:
            path = root / change.file
            before = texts.get(change.file, path.read_text("utf-8") if path.is_file() else "")
            texts[change.file] = change.apply(before)
        return texts


def read_table(path: Path = TABLE) -> list[Mutant]:
    """All mutants, in the order of the table."""
    mutants = []
    for name, row in tomllib.loads(path.read_text("utf-8")).items():
        if not row.keys() <= KEYS:
            raise StaleError(f"{name}: no row has {', '.join(row.keys() - KEYS)}")
        changes = [Change(each["file"], each["text"], each["by"]) for each in (row, *row.get("also", []))]
        mutants.append(
            Mutant(
                name,
                row["rule"],
                row["breaks"],
                tuple(changes),
                tuple(row.get("noticed_by", [])),
                row.get("hangs", False),
                row.get("argument", ""),
            )
        )
    return mutants


def missing_tests(mutants: list[Mutant], root: Path = ROOT) -> list[str]:
    """The named tests that are not there. A file may stand for all of its tests."""
    wrong = []
    for mutant in mutants:
        for test in mutant.noticed_by:
            file, _, function = test.partition("[")[0].partition("::")
            path = root / file
            names = _functions(path) if path.is_file() else set()
            if not names or (function and function not in names):
                wrong.append(f"{mutant.name}: {test}")
    return wrong


def _functions(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)}
