"""What type checkers accept: accepted.py, the examples and nothing of rejected.py passes, in mypy and in pyright.

The checkers see copies in a directory without the project's configuration, and find zeroslot as users do: installed, by
its py.typed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import zeroslot as zs

ROOT = Path(__file__).resolve().parents[2]
ACCEPTED = "accepted.py"
REJECTED = "rejected.py"
EXAMPLES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("examples/*/*.py"))
FILES = [ACCEPTED, REJECTED, *EXAMPLES]

pytestmark = pytest.mark.watchdog(600)  # a first run of mypy reads all of numpy and pydantic

Problems = set[tuple[str, int, str]]


def run(project: Path, *command: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-m", *command, *FILES], cwd=project, capture_output=True, text=True, check=False
    )
    assert finished.returncode in {0, 1}, finished.stdout + finished.stderr  # more: it could not check
    return finished.stdout


def mypy(project: Path) -> Problems:
    cache = ROOT / ".mypy_cache/users"
    output = run(project, "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", "--output=json")
    found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return {
        (one["file"], one["line"], f"{one['code']}: {one['message']}") for one in found if one["severity"] == "error"
    }


def pyright(project: Path) -> Problems:
    output = run(project, "pyright", "--outputjson", "--pythonpath", sys.executable)
    report = json.loads(output[output.index("{") :])
    assert report["summary"]["filesAnalyzed"] >= len(FILES), output
    return {
        (
            str(Path(one["file"]).relative_to(project)),
            one["range"]["start"]["line"] + 1,
            f"{one.get('rule')}: {one['message']}",
        )
        for one in report["generalDiagnostics"]
        if one["severity"] == "error"
    }


@pytest.fixture(scope="module", params=[mypy, pyright], ids=lambda checker: checker.__name__)
def problems(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Problems:
    """All that one checker objects to, in all files: one run is enough."""
    project = tmp_path_factory.mktemp("project").resolve()
    for name in (ACCEPTED, REJECTED):
        shutil.copy(ROOT / "tests/typing" / name, project)
    shutil.copytree(ROOT / "examples", project / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    found: Problems = request.param(project)
    return found


def test_what_users_write_is_accepted(problems: Problems) -> None:
    """Every public name used as meant, each with the type that it has."""
    assert [problem for problem in problems if problem[0] == ACCEPTED] == []


def test_examples_are_accepted(problems: Problems) -> None:
    """Without a plugin, as mypy --strict and pyright come."""
    assert EXAMPLES
    assert [problem for problem in problems if problem[0] in EXAMPLES] == []


def test_what_is_wrong_is_rejected(request: pytest.FixtureRequest, problems: Problems) -> None:
    """Exactly the marked lines, and by mypy for the reason that is marked."""
    marks = {
        number: mark[1]
        for number, line in enumerate((ROOT / "tests/typing" / REJECTED).read_text("utf-8").splitlines(), 1)
        if (mark := re.search(r"# error: ([\w-]+)$", line))
    }
    refused: dict[int, set[str]] = {}
    for path, line, text in problems:
        if path == REJECTED:
            refused.setdefault(line, set()).add(text.split(":")[0])
    assert sorted(refused) == sorted(marks)
    if request.node.callspec.id == "mypy":
        assert refused == {line: {code} for line, code in marks.items()}


def test_stub_agrees_with_the_binding(tmp_path: Path) -> None:
    """Each name and signature, compared by stubtest with the compiled module."""
    allowlist = str(ROOT / "tests/typing/allowlist.txt")
    finished = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "zeroslot._core.binding", "--allowlist", allowlist],
        cwd=tmp_path,
        env=os.environ | {"MYPY_CACHE_DIR": str(ROOT / ".mypy_cache/stubtest")},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize("handle", [zs.Publisher, zs.Subscriber, zs.Loan, zs.Lease])
def test_handles_take_their_type_at_run_time(handle: type) -> None:
    """`Lease[Imu]` may stand in an annotation that is evaluated."""

    class Imu(zs.Sample):
        stamp_ns: zs.U64

    alias = handle[Imu]  # type: ignore[index]  # only a type variable's type knows that it has arguments
    assert alias.__origin__ is handle
    assert alias.__args__ == (Imu,)


def test_subscripted_handles_are_callable() -> None:
    """`Publisher[Imu](…)` makes a Publisher."""

    class Imu(zs.Sample):
        stamp_ns: zs.U64

    with zs.Publisher[Imu]("robot/imu", Imu) as pub, zs.Subscriber[Imu]("robot/imu") as sub:
        pub.publish({"stamp_ns": 7})
        lease = sub.take()
        assert lease is not None
        assert lease.sample.stamp_ns == 7
