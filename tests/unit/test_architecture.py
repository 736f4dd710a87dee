"""A module of the package imports only what stands above it.

A module may import what stands in a row above, and what stands to its left in its own row. All imports count, those
inside functions and for type checkers too: a cycle that only a type checker sees is still a cycle in what one has to
understand.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "zeroslot"

LAYERS = (
    ("errors", "qos"),
    ("fields", "layout", "schema", "idl", "sample", "view"),  # what memory means: pure, no I/O
    ("access", "segment", "flink", "bell", "peers", "cleaning"),  # where memory is, who holds it
    ("closing", "reader", "allocator"),  # untyped slots
    ("waiting", "publisher", "subscriber", "inspection", "testing"),
)
ORDER = [module for layer in LAYERS for module in layer]
# May import the public names of `zeroslot`, as any program does, and themselves.
APPS = ("cli", "record", "bridge")
# See everything: the public face, and `python -m zeroslot`.
FACES = ("__init__", "__main__")
CORE = "_core"


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def part(path: Path) -> str:
    """The name by which the order knows a module: that of the file, or of the folder, right below the package."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path, source: str | None = None) -> Iterator[tuple[int, str, str | None]]:
    """All imports of this package in a module, anywhere in it, as (line, absolute module, name or None)."""
    inside = ["zeroslot", *path.relative_to(PACKAGE).with_suffix("").parts][:-1]
    for node in ast.walk(ast.parse(source if source is not None else path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(inside[: len(inside) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            found = [(module, alias.name) for alias in node.names]
        else:
            continue
        yield from ((node.lineno, module, name) for module, name in found if module.split(".")[0] == "zeroslot")


def targets(path: Path, source: str | None = None) -> Iterator[tuple[int, str]]:
    """The same as (line, name right below the package): `zeroslot` itself, or a name of its face, is "__init__"."""
    for line, module, name in imports(path, source):
        below = module.split(".")[1:2]
        if not below and name is not None and (PACKAGE / name).is_dir() | (PACKAGE / f"{name}.py").is_file():
            below = [name]
        yield line, below[0] if below else "__init__"


def breaches(path: Path, source: str | None = None) -> list[str]:
    """What a module imports and may not."""
    own = part(path)
    if own in FACES:
        return []
    found = []
    for line, target in targets(path, source):
        if own in ORDER:
            allowed = target == CORE or target in ORDER[: ORDER.index(own)]
        elif own in APPS:
            allowed = target in {own, "__init__"}
        else:
            allowed = own == target == CORE and path.name != "binding.pyx"
        if not allowed:
            found.append(f"{path.relative_to(PACKAGE.parent)}:{line} imports {target}")
    return found


def test_every_module_has_its_place() -> None:
    """A new module is put into the order before it is written."""
    known = {*ORDER, *APPS, *FACES, CORE}
    assert [str(path) for path in modules() if part(path) not in known] == []


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_stands_above_it(path: Path) -> None:
    """The layers hold, also inside functions and under TYPE_CHECKING."""
    assert breaches(path) == []


@pytest.mark.parametrize("path", [path for path in modules() if part(path) in APPS], ids=lambda path: path.stem)
def test_applications_use_the_public_names_alone(path: Path) -> None:
    """What the command line needs, a user's program can have."""
    public = set(importlib.import_module("zeroslot").__all__) | {"__version__"}
    tree = ast.parse(path.read_text("utf-8"))
    aliases = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "zeroslot"
    }
    used = {
        (node.lineno, node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases
    }
    used |= {(line, name) for line, module, name in imports(path) if module == "zeroslot" and name is not None}
    assert [f"{line}: {name}" for line, name in sorted(used) if name not in public and name != part(path)] == []


def test_the_core_imports_the_errors_at_most() -> None:
    """The binding converts, and raises the package's errors; the core's Python files import each other otherwise."""
    raised = "from zeroslot import errors"
    statement = re.compile(
        r"^\s*(?:from|import|cimport)\s.*\bzeroslot\b(?!\._core\b|\s+import\s+_core\b).*", re.MULTILINE
    )
    relative = re.compile(r"^\s*from\s+\.\..*", re.MULTILINE)
    found = []
    for path in sorted((PACKAGE / CORE).glob("*.py*")):
        text = path.read_text("utf-8") if path.suffix in {".py", ".pyx", ".pxd", ".pyi"} else ""
        found += [
            f"{path.name}: {match.group().strip()}"
            for match in statement.finditer(text)
            if (path.name, match.group().strip()) != ("binding.pyx", raised)
        ]
        found += [f"{path.name}: {match.group().strip()}" for match in relative.finditer(text)]
    assert found == []


def test_headers_include_each_other_and_the_system_alone() -> None:
    """The core compiles without Python."""
    headers = {path.name for path in (PACKAGE / CORE).glob("*.h")}
    include = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
    found = [
        f"{path.name} includes {ours or system}"
        for path in sorted((PACKAGE / CORE).glob("*.h"))
        for ours, system in include.findall(path.read_text("utf-8"))
        if (ours and ours not in headers) or system.lower().startswith(("python", "numpy/"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("errors.py", "from zeroslot.qos import Qos"),
        ("layout.py", "from .schema import x"),
        ("layout.py", "def f():\n    import zeroslot.publisher"),
        ("view.py", "from . import segment"),
        ("peers.py", "import zeroslot"),
        ("publisher.py", "from zeroslot import subscriber"),
        ("publisher.py", "if TYPE_CHECKING:\n    from zeroslot.subscriber import Subscriber"),
        ("cli/demo.py", "from zeroslot.publisher import Publisher"),
        ("cli/demo.py", "from .._core import binding"),
        ("record/__init__.py", "from zeroslot.cli import main"),
        ("_core/build_backend.py", "import zeroslot.errors"),
    ],
)
def test_the_walk_sees_a_breach(module: str, source: str) -> None:
    """This test of tests: each way to reach what stands below is noticed."""
    path = PACKAGE / module
    # `from . import x` is told from a name of the face by the file, which may not be written yet.
    assert breaches(path, source) != []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("qos.py", "from zeroslot.errors import ZeroslotError"),
        ("layout.py", "from .fields import x\nfrom ._core import binding\nimport zeroslot._core.binding"),
        ("publisher.py", "from zeroslot.waiting import x\nimport numpy"),
        ("cli/demo.py", "import zeroslot as zs\nfrom zeroslot import Sample"),
        ("cli/demo.py", "from .table import x\nfrom zeroslot.cli import y"),
    ],
)
def test_the_walk_lets_pass_what_is_right(module: str, source: str) -> None:
    assert breaches(PACKAGE / module, source) == []
