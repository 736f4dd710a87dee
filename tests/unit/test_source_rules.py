"""Rules of the project that a program can check, and that its linters do not."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.sources

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "zeroslot" / "_core"
SOURCES = {".py", ".pyi", ".pyx", ".h", ".c", ".cc", ".cpp", ".pml", ".idl", ".md", ".toml", ".yaml", ""}


def package() -> list[Path]:
    return [path for path in sorted((ROOT / "zeroslot").rglob("*.py")) if "__pycache__" not in path.parts]


def written() -> Iterator[Path]:
    """All that people write here: no build's output, no cache."""
    top = [path for path in ROOT.iterdir() if path.is_file() and path.suffix in SOURCES]
    folders = [ROOT / name for name in ("zeroslot", "tests", "examples", "idl", ".ci")]
    below = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix in SOURCES]
    for path in sorted(top + below):
        if not {"__pycache__", "build"} & set(path.parts) and path.name != "LICENSE":
            yield path


def python() -> list[Path]:
    return [path for path in written() if path.suffix in {".py", ".pyi", ".pyx"}]


def core() -> list[Path]:
    return sorted([*CORE.rglob("*.h"), *CORE.glob("*.pyx"), *CORE.glob("*.pxi")])


def code_of(path: Path) -> str:
    """A header or binding without its comments, line by line as it was."""
    text = path.read_text("utf-8")
    pattern = r"/\*.*?\*/|//[^\n]*" if path.suffix == ".h" else r'"""(?:.|\n)*?"""|#[^\n]*'
    return re.sub(pattern, lambda match: "\n" * match.group().count("\n"), text, flags=re.DOTALL)


def found(paths: list[Path], pattern: str, text: str | None = None) -> list[str]:
    """Where a pattern stands in the code of these files."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate((text or code_of(path)).splitlines(), 1)
        if re.search(pattern, line)
    ]


def test_no_star_imports() -> None:
    """A name can be traced to where it is made."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in package()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
    ]
    assert wrong + found([path for path in core() if path.suffix != ".h"], r"\bc?import\s+\*") == []


def test_only_the_command_line_prints() -> None:
    """A library logs."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in package()
        if path.relative_to(ROOT / "zeroslot").parts[0] != "cli"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"print", "pprint"}
    ]
    assert wrong + found(core(), r"\b(?:print|printf|fprintf|puts|perror)\s*\(") == []


def test_no_assert_in_the_package() -> None:
    """What a user may do wrong is an error with a text, also under -O."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in package()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert wrong + found(core(), r"^\s*assert\b") == []


def test_nothing_is_left_for_later() -> None:
    """What is open is an issue, not a comment."""
    later = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")) + r")\b")
    assert [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in written()
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1)
        if later.search(line)
    ] == []


SILENCED = re.compile(r"#\s*(?:noqa|type:\s*ignore|pyright:\s*ignore|pragma:|cython-lint:|nosec|fmt:)")
REASONED = re.compile(
    r"#\s*(?:noqa:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*|(?:type|pyright):\s*ignore\[[\w, -]+\]|(?:pragma|fmt):\s*\w+)"
    r"[\s:,#-]+(?!(?:noqa|type:|pyright:))[^\s#]\S*\s+\S"
)


def unreasoned(line: str) -> bool:
    """Whether a line silences a checker without naming the rule and saying why, in two words at least."""
    return bool(SILENCED.search(line)) and not REASONED.search(line)


def test_every_silenced_warning_has_a_reason() -> None:
    """`# noqa: S101  # why`, `# type: ignore[misc]  # why`."""
    this = Path(__file__).resolve()
    assert [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in python()
        if path != this
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if unreasoned(line)
    ] == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("x = 1  # noqa", True),
        ("x = 1  # noqa: E501", True),
        ("x = 1  # type: ignore", True),
        ("x = 1  # type: ignore[misc]", True),
        ("x = 1  # type: ignore[misc]  # noqa: E501", True),
        ("x = 1  # noqa: S101  # the type checker narrows by it", False),
        ("x = 1  # noqa: S101, E501 the type checker narrows by it", False),
        ("x = 1  # type: ignore[no-untyped-call]  # Cython leaves it untyped", False),
        ("x = 1  # pyright: ignore[reportPrivateUsage]  # the test looks inside", False),
        ("x = 1  # a type: any", False),
    ],
)
def test_a_reason_is_told_from_none(line: str, *, wrong: bool) -> None:
    assert unreasoned(line) is wrong


@pytest.mark.row("DEF-5")
def test_memory_orders_are_named_in_one_header() -> None:
    """Each order stands beside the one that it pairs with, in zs_atomic.h, where the explorer can weaken it."""
    others = [path for path in core() if path.name != "zs_atomic.h"]
    assert (
        found(others, r"__ATOMIC_|\bmemory_order|\b__atomic_|\b__sync_|\b_Atomic\b|\bstdatomic\b|\bstd::atomic\b") == []
    )


def test_no_fence_stands_alone() -> None:
    """TSan sees none of them, and a reader cannot tell what one orders. Nor is `volatile` an atomic.

    The one exception orders the stores around the caches of zs_copy.h before the release store of a commit, which C11
    does not do for such stores.
    """
    fences = (r"atomic_(?:thread|signal)_fence", r"\b__sync_synchronize\b", r"\b(?:_mm_)?[lms]fence\b", r"\bdmb\b")
    assert [place.partition(":")[0].rpartition("/")[2] for place in found(core(), "|".join(fences))] == ["zs_copy.h"]
    assert found(core(), r"(?<!asm )(?<!__asm__ )\bvolatile\b") == []


@pytest.mark.row("DEF-5")
def test_both_ends_of_a_pair_carry_its_label() -> None:
    """`SYNC lease` on a store without a second `SYNC lease` is an order that orders nothing.

    zs_atomic.h, which tells of each pair, is not an end of any; and what it does not tell of is no pair.
    """
    label = re.compile(r"\bSYNC ([a-z][a-z0-9_-]*)")
    told = set(label.findall((CORE / "include" / "zeroslot" / "zs_atomic.h").read_text("utf-8")))
    others = [path.read_text("utf-8") for path in core() if path.name != "zs_atomic.h"]
    ends = Counter(name for text in others for name in label.findall(text))
    assert ends, "no header carries a label"
    assert sorted(name for name, count in ends.items() if count < 2) == []
    assert told == set(ends)


def test_the_top_level_is_what_the_project_is() -> None:
    """No setup.py, no folder of odds and ends; what git ignores does not count."""
    wanted = {
        *("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "Makefile"),
        *(".ci", ".gitignore", ".pre-commit-config.yaml", "idl", "zeroslot", "tests", "examples"),
    }
    rules = [line.strip("/") for line in (ROOT / ".gitignore").read_text("utf-8").split()]
    ignored = [".git", *(rule for rule in rules if "/" not in rule)]
    names = {path.name for path in ROOT.iterdir()}
    assert {name for name in names if not any(Path(name).match(rule) for rule in ignored)} == wanted
