"""The table of `make mutants` keeps up with the sources. That each mutant is noticed takes minutes, and that target."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.__main__ import judge
from tests.mutants.table import ROOT, Change, Mutant, StaleError, missing_tests, read_table

MUTANTS = read_table()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_has_its_place(mutant: Mutant) -> None:
    """Every text stands exactly once where the table says, and Python stays Python."""
    for file, text in mutant.mutated(ROOT).items():
        if file.endswith(".py"):
            compile(text, file, "exec")
    assert mutant.rule
    assert mutant.breaks
    assert bool(mutant.noticed_by) != bool(mutant.argument)


def test_every_test_of_the_table_exists() -> None:
    """A test that was renamed notices nothing."""
    assert missing_tests(MUTANTS) == []


def test_no_two_mutants_are_one() -> None:
    """Each row leaves out something else."""
    changes = [mutant.changes for mutant in MUTANTS]
    assert len(set(changes)) == len(changes)


def test_a_stale_row_is_an_error(tmp_path: Path) -> None:
    """A text that is not there, or there twice, or replaced by itself; a test that is not there."""
    (tmp_path / "file").write_text("one two two")
    for text, by in (("three", ""), ("two", ""), ("one", "one")):
        with pytest.raises(StaleError):
            Mutant("x", "", "", (Change("file", text, by),), (), hangs=False, argument="").mutated(tmp_path)
    with pytest.raises(StaleError):
        Mutant("x", "", "", (Change("none", "one", ""),), (), hangs=False, argument="").mutated(tmp_path)
    for test in ("tests/none.py", "tests/unit/test_mutants.py::test_none"):
        assert missing_tests([Mutant("x", "", "", (), (test,), hangs=False, argument="")]) == [f"x: {test}"]


@pytest.mark.parametrize(
    ("status", "output", "results", "noticed"),
    [
        (1, "", {"a": "failed 1"}, True),
        (0, "", {"a": "passed 1"}, False),
        (2, "", {}, False),
        (2, "", {"a": "failed 0"}, False),
        (4, "", {}, False),
        (5, "", {}, False),
        (-11, "", {}, True),
        (139, "", {}, True),
        (1, "Timeout (0:00:20)!", {}, False),
    ],
)
def test_only_a_test_that_ran_notices(status: int, output: str, results: dict[str, str], noticed: bool) -> None:
    """Not one that could not be collected, and the watchdog only where the table speaks of a hang."""
    mutant = Mutant("x", "", "", (), (), hangs=False, argument="")
    assert judge(mutant, (status, output, results))[0] is noticed
    hanging = Mutant("x", "", "", (), (), hangs=True, argument="")
    assert judge(hanging, (1, "...Timeout (0:00:20)!", {}))[0]
