"""The rows of the feature table and the tests that prove them: `@pytest.mark.row("SEG-5")`, and `pytest --rows`.

`rows.txt` holds `ID  text` a line; lines with `#` are headings. `-` before the id: the row does not apply to zeroslot,
with the reason. `+`: it is promised, and tests/unit/test_rows.py fails where no test in a plain run proves it. Tests
that a plain run leaves out (stress, bench) are listed as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

TABLE = Path(__file__).with_name("rows.txt")


@dataclass
class Row:
    id: str
    text: str
    applies: bool
    promised: bool
    heading: str
    tests: list[str] = field(default_factory=list)


def read_rows(table: Path = TABLE) -> dict[str, Row]:
    """All rows by id, in the table's order."""
    rows: dict[str, Row] = {}
    heading = ""
    for line in table.read_text("utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.strip():
            row_id, text = line.removeprefix("- ").removeprefix("+ ").split(maxsplit=1)
            if row_id in rows:
                raise ValueError(f"{table.name}: {row_id} stands there twice")
            rows[row_id] = Row(row_id, text, not line.startswith("- "), line.startswith("+ "), heading)
    return rows


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rows", action="store_true", help="list every row of tests/rows.txt with its tests; run nothing")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Rows(config), "zeroslot-rows")


class Rows:
    """Collects the marks of a run."""

    def __init__(self, config: pytest.Config) -> None:
        self._listing = config.getoption("rows")
        self._rows = read_rows()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """First of all, so that what `-m` takes away is still seen. An id that is no row ends the run."""
        wrong = []
        for item in items:
            # A parametrized test is one test of a row.
            name = item.nodeid.partition("[")[0]
            for row_id in (row_id for mark in item.iter_markers("row") for row_id in mark.args):
                row = self._rows.get(row_id)
                if row is None:
                    wrong.append(f"{item.nodeid}: {row_id!r} is not a row of tests/{TABLE.name}")
                elif name not in row.tests:
                    row.tests.append(name)
        if wrong:
            raise pytest.UsageError(*wrong)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """With --rows: the table in place of the tests."""
        if not self._listing:
            return None
        terminal = session.config.get_terminal_writer()
        terminal.line()
        for line in self.lines():
            terminal.line(line)
        return True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self._listing and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK

    def lines(self) -> Iterator[str]:
        """The table: `+` and the tests, or `.` for a row without one; then how many there are of each."""
        heading = None
        for row in self._rows.values():
            if row.heading != heading:
                heading = row.heading
                yield f"{heading}"
            sign = "+" if row.tests else "." if row.applies else "-"
            yield f"  {sign} {row.id:<8} {row.text}"
            yield from (f"      {test}" for test in row.tests)
        applying = [row for row in self._rows.values() if row.applies]
        with_test = sum(bool(row.tests) for row in applying)
        yield f"{with_test} rows with a test, {len(applying) - with_test} without, of {len(applying)} that apply"
