"""Reads `table.toml`: which rule is left out where, and which tests must fail then."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mutants.places import Match, Source, Sources, StaleError

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("table.toml")
FALSE, TRUE, NOTHING = ({"python": python, "c": c} for python, c in (("False", "0"), ("True", "1"), ("pass", ";")))
OPERATIONS = {"code": "by", "skip": None, "never": None, "always": None, "move": "before"}  # with their second key


@dataclass(frozen=True)
class Edit:
    """Another text for a stretch of one file."""

    source: Source
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Change:
    """One operation on one place. `second` is what replaces the code, or what it is moved before."""

    place: str
    operation: str
    code: str
    second: str = ""

    def edits(self, sources: Sources) -> list[Edit]:
        """What has to change in the sources. StaleError unless there is exactly one place for it."""
        found = sources.find(self.place, self.code)
        language = found.source.language
        if self.operation == "code":
            if self.code == self.second:
                raise StaleError(f"{self.place}: this changes nothing:\n{self.code}")
            return [_edit(found, _filled(_indented(self.second, found), found))]
        if self.operation in ("never", "always"):
            return [_edit(found, (FALSE if self.operation == "never" else TRUE)[language])]
        statement = found.statement()
        edits = [_edit(statement, NOTHING[language])]
        if self.operation == "move":
            target = sources.find(self.place, self.second)
            moved = statement.source.text[statement.start : statement.end]
            moved = moved.replace(f"\n{statement.indent}", f"\n{target.indent}")
            edits.append(Edit(target.source, target.start, target.start, f"{moved}\n{target.indent}"))
        return edits


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

    def mutated(self, sources: Sources) -> dict[str, str]:
        """The new texts of the files that it changes."""
        return mutated(self.name, self.changes, sources)


def mutated(name: str, changes: Iterable[Change], sources: Sources) -> dict[str, str]:
    """The new texts of the files that these changes change."""
    texts: dict[str, str] = {}
    begins: dict[str, int] = {}  # of the edits so far, which go from the end of a file to its beginning
    edits = [edit for change in changes for edit in change.edits(sources)]
    for edit in sorted(edits, key=lambda edit: edit.start, reverse=True):
        file = edit.source.file
        text = texts.get(file, edit.source.text)
        if edit.end > begins.get(file, len(text)):
            raise StaleError(f"{name} changes one place of {file} twice")
        texts[file] = text[: edit.start] + edit.text + text[edit.end :]
        begins[file] = edit.start
    return texts


def read_table(path: Path = TABLE) -> list[Mutant]:
    """All mutants, in the order of the table."""
    mutants = []
    for name, row in tomllib.loads(path.read_text("utf-8")).items():
        facts = {key: row.pop(key, "") for key in ("rule", "breaks", "argument")}
        tests, hangs = tuple(row.pop("noticed_by", ())), row.pop("hangs", False)
        mutants.append(Mutant(name, changes=read_changes(name, row), noticed_by=tests, hangs=hangs, **facts))
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


def read_changes(name: str, row: Mapping[str, Any]) -> tuple[Change, ...]:
    """The change that a row is, and those that it has `also`."""
    first = {key: value for key, value in row.items() if key != "also"}
    return tuple(_change(name, {"in": row["in"], **each}) for each in (first, *row.get("also", ())))


def _change(name: str, row: Mapping[str, Any]) -> Change:
    operations = [operation for operation in OPERATIONS if operation in row]
    if len(operations) != 1:
        raise StaleError(f"{name}: a change is one of {', '.join(OPERATIONS)}")
    operation = operations[0]
    second = OPERATIONS[operation]
    if row.keys() != {"in", operation, *([second] if second else [])}:
        raise StaleError(f"{name}: {operation} goes with {second or 'nothing'}, and not with {', '.join(row)}")
    return Change(row["in"], operation, row[operation], row[second] if second else "")


def _edit(match: Match, text: str) -> Edit:
    if not match.balanced:
        raise StaleError(f"this cuts through parentheses: {match.source.text[match.start : match.end]}")
    return Edit(match.source, match.start, match.end, text)


def _filled(text: str, match: Match) -> str:
    """The text with what each `...` of the pattern stands for."""
    pieces = text.split("...")
    if match.gaps and len(pieces) > 1:
        if len(pieces) - 1 > len(match.gaps):
            raise StaleError(f"more ... than the pattern has:\n{text}")
        return "".join(piece + gap for piece, gap in zip(pieces, [*match.gaps[: len(pieces) - 1], ""], strict=True))
    return text


def _indented(text: str, match: Match) -> str:
    """The lines of a replacement, from the second on as deep as the first one stands."""
    return text.strip("\n").replace("\n", f"\n{match.indent}")


def _functions(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)}
