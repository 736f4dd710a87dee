"""The checks of the core outside of pytest: models, mutants, sanitizers and the explorer of weak orders.

`make test` runs all of them (tests/core/Makefile). The tests here check that it does, that the documents list what
exists, and that each kind of check notices a mistake.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.core import read_core_table
from tests.options import SHARES

pytestmark = pytest.mark.sources

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "zeroslot" / "_core"
INCLUDE = CORE / "include" / "zeroslot"
PROGRAMS = ROOT / "tests" / "core"
MODELS = PROGRAMS / "model"


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(command, cwd=ROOT, env=inherited | variables, capture_output=True, text=True)


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The explorer, compiled from the headers that ship."""
    build = tmp_path_factory.mktemp("core")
    done = run("make", "-C", str(PROGRAMS), f"BUILD={build}", str(build / "weak"))
    assert done.returncode == 0, done.stderr
    return build / "weak"


@pytest.mark.row("NEW-17")
def test_what_ci_runs_has_all_of_them(tmp_path: Path) -> None:
    """`.ci/run` ends with `make test`: the checkers, the core's programs, the models, and pytest; at last its sum."""
    last = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()[-1]
    assert re.fullmatch(r"exec make test( EXTRAS=[a-z,]+)?", last)
    makefile = (ROOT / "Makefile").read_text("utf-8")
    rules = dict(re.findall(r"^(\w+):([^=\n]*)$", makefile, flags=re.MULTILINE))
    assert {"lint", "core", "model", "gate", "others", "pytest"} <= set(rules["parts"].split())
    recipe = re.search(r"^test:.*\n((?:\t.*\n)+)", makefile, flags=re.MULTILINE)
    assert recipe is not None
    assert [line.split()[-1] for line in recipe[1].splitlines()][1:] == ["parts", "$(RESULTS)"]
    assert rules["pytest"].split() == [f"pytest-{share}" for share in (*SHARES, "rest")]
    core = dict(re.findall(r"^(\w+):([^=\n]*)$", (PROGRAMS / "Makefile").read_text("utf-8"), flags=re.MULTILINE))
    assert {"asan", "tsan", "weak"} <= set(core["all"].split())
    assert f"-C {PROGRAMS.relative_to(ROOT)} all" in (ROOT / "Makefile").read_text("utf-8")
    assert f"-C {PROGRAMS.relative_to(ROOT)} model" in (ROOT / "Makefile").read_text("utf-8")


@pytest.mark.row("NEW-17")
def test_every_model_is_listed_and_every_line_of_the_list_is_run(tmp_path: Path) -> None:
    """Each holds as it is, each has rules that are left out in turn; switches that no model knows are none."""
    text = (MODELS / "README.md").read_text("utf-8")
    checks = re.findall(r"^\| `([a-z_]+)([^`]*)` \| (holds|breaks) \|", text, flags=re.MULTILINE)
    there = {path.stem for path in MODELS.glob("*.pml")}
    for expected in ("holds", "breaks"):
        assert {model for model, _, kind in checks if kind == expected} == there
    for model, switches, _ in checks:
        source = (MODELS / f"{model}.pml").read_text("utf-8")
        for switch in re.findall(r"-D(\w+)", switches):
            assert re.search(rf"\b{switch}\b", source), f"{model}.pml knows no {switch}"
    wanted = run("make", "-n", "-C", str(MODELS), f"BUILD={tmp_path / 'model'}").stdout
    ran = re.findall(r"\./check\.sh (\w+) (holds|breaks)([^>]*)>", wanted)
    assert sorted((model, expected, tuple(switches.split())) for model, expected, switches in ran) == sorted(
        (model, expected, tuple(switches.split())) for model, switches, expected in checks
    )


@pytest.mark.row("NEW-17", "DEF-6")
@pytest.mark.skipif(shutil.which("spin") is None, reason="spin is not installed")
def test_a_rule_that_is_left_out_breaks_its_model(tmp_path: Path) -> None:
    """The search finds the omission, and nothing without it; and it complains where it was told otherwise."""

    def check(expected: str, *switches: str) -> int:
        command = ["./check.sh", "join_reap", expected, *switches]
        return subprocess.run(
            command, cwd=MODELS, env=os.environ | {"BUILD": str(tmp_path)}, capture_output=True
        ).returncode

    assert check("holds") == 0
    assert check("breaks", "-DREAPER_TAKES_NO_LOCK") == 0
    assert check("holds", "-DREAPER_TAKES_NO_LOCK") != 0
    assert check("breaks") != 0


def test_example_of_the_core_compiles_and_runs(tmp_path: Path) -> None:
    """The C program of zeroslot/_core/README.md, without a warning."""
    example = re.search(r"```c\n(.*?)```", (CORE / "README.md").read_text("utf-8"), re.DOTALL)
    assert example
    (tmp_path / "example.c").write_text(example[1], "utf-8")
    flags = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", str(CORE / "include"))
    program = str(tmp_path / "example")
    compiled = run(os.environ.get("CC", "cc"), *flags, str(tmp_path / "example.c"), "-o", program)
    assert compiled.returncode == 0, compiled.stderr
    assert run(program).stdout == "sample 1 is 42\n"


@pytest.mark.row("NEW-17", "DEF-5")
def test_every_order_of_the_core_is_weakened_in_turn(weak: Path) -> None:
    """All pairs of zs_atomic.h stand in weak.md's table, and the explorer finds each of them needed."""
    orders = set(
        re.findall(
            r"^#define ZS_(\w+_(?:LOAD|STORE|RMW)) ",
            (INCLUDE / "zs_atomic.h").read_text(),
            re.MULTILINE,
        )
    )
    table = (PROGRAMS / "weak.md").read_text("utf-8")
    cells = re.findall(r"^\| ([A-Z_, ]+) \|", table, flags=re.MULTILINE)
    listed = re.findall(r"\w+_(?:LOAD|STORE|RMW)\b", ", ".join(cells))
    assert sorted(listed) == sorted(orders)
    done = run(str(weak))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"of {len(orders)} orders, 0 can be weaker without breaking a promise" in done.stdout


@pytest.mark.row("NEW-17", "DEF-5")
@pytest.mark.parametrize(("order", "weaker"), [("LEASE_LOAD", "acquire"), ("RING_STORE", "relaxed")])
def test_a_weaker_order_shows_the_run_in_which_it_goes_wrong(weak: Path, order: str, weaker: str) -> None:
    """On any processor: the accesses are simulated."""
    done = run(str(weak), f"ZS_{order}", weaker)
    assert "no promise breaks" not in done.stdout
    assert "check failed" in done.stdout + done.stderr


@pytest.mark.row("NEW-17")
def test_every_rule_of_the_core_has_the_mutants_that_its_document_names() -> None:
    """The table of zeroslot/_core/README.md and the one of tests/core/mutants.toml."""
    text = (CORE / "README.md").read_text("utf-8").partition("## Rules whose omission")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    named = {name for cells in rows[2:] for name in cells[2].split(", ")} - {"-"}
    assert named
    assert named <= {mutant.name for mutant in read_core_table()}


@pytest.mark.row("NEW-17")
def test_a_mutant_is_caught() -> None:
    """A rule is broken in a copy of the headers, and a program of tests/core fails."""
    done = run(sys.executable, "-m", "tests.mutants.core", "held-slot-is-leased-again")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "caught    held-slot-is-leased-again: ring" in done.stdout
