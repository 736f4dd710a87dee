"""The table of `make mutants` keeps up with the sources. That each mutant is noticed takes minutes, and that target."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.__main__ import judge
from tests.mutants.core import HEADERS, PROGRAMS, CoreMutant, read_core_table
from tests.mutants.places import Sources, StaleError
from tests.mutants.table import ROOT, Mutant, missing_tests, read_table

pytestmark = pytest.mark.sources

MUTANTS = read_table()


@pytest.fixture(scope="module")
def sources() -> Sources:
    """The sources of this checkout."""
    return Sources(ROOT)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_has_its_place(mutant: Mutant, sources: Sources) -> None:
    """Every change finds exactly one place and changes something there, and Python stays Python."""
    for file, text in mutant.mutated(sources).items():
        assert text != (ROOT / file).read_text("utf-8")
        if file.endswith(".py"):
            compile(text, file, "exec")
    assert mutant.rule
    assert mutant.breaks
    assert bool(mutant.noticed_by) != bool(mutant.argument)


@pytest.mark.parametrize("mutant", read_core_table(), ids=lambda mutant: mutant.name)
def test_a_mutant_of_the_headers_has_its_place(mutant: CoreMutant, sources: Sources) -> None:
    """Every change finds exactly one place in a header; an order is one that the core defines; its programs exist."""
    headers = mutant.headers(sources)
    for header, text in headers.items():
        assert text != (HEADERS / header).read_text("utf-8")
    orders = (HEADERS / "zs_atomic.h").read_text("utf-8")
    assert all(f"#define {order.partition('=')[0]} " in orders for order in mutant.define)
    assert bool(headers) != bool(mutant.define)
    assert all(program == "tsan" or (PROGRAMS / f"test_{program}.c").exists() for program in mutant.noticed_by)


def test_every_test_of_the_table_exists() -> None:
    """A test that was renamed notices nothing."""
    assert missing_tests(MUTANTS) == []


def test_no_two_mutants_are_one(sources: Sources) -> None:
    """Each row leaves out something else."""
    texts = [tuple(sorted(mutant.mutated(sources).items())) for mutant in MUTANTS]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    "row",
    [
        "",
        'skip = "a()"\ncode = "b()"\nby = ""',
        'code = "b()"',
        'skip = "a()"\nby = "b()"',
        'move = "a()"\nby = "b()"',
        'file = "x.py"\nskip = "a()"',
    ],
)
def test_a_row_that_is_no_change_is_an_error(row: str, tmp_path: Path) -> None:
    """One operation with its second key, and no key that nothing reads."""
    table = tmp_path / "table.toml"
    table.write_text(f'[x]\nrule = ""\nbreaks = ""\nin = "f"\n{row}\n')
    with pytest.raises(StaleError, match="x: "):
        read_table(table)


def test_a_test_that_is_not_there_is_named() -> None:
    """A file that is not there, and a function that its file does not have."""
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
