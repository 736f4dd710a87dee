"""A module of the package imports only what stands before it in the order of floors.

A module may import what stands on a floor above its own, and what stands before it on its own floor. All imports count,
also those inside functions and for type checkers: a cycle that only a type checker sees is still a cycle in what one
has to understand.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "zeroslot"

# Each tuple is a floor. What a room or a module of it may import stands before it.
FLOORS = (
    ("arguments", "qos", "info", "errors"),
    (  # what memory means: pure, no I/O
        "types.names",
        "types.section",
        "types.nodes.base",
        "types.nodes.scalars",
        "types.nodes.bounds",
        "types.nodes.families",
        "types.nodes.enums",
        "types.nodes.arrays",
        "types.nodes.text",
        "types.nodes.lists",
        "types.nodes.bounded_arrays",
        "types.nodes.optional",
        "types.nodes.variable",
        "types.export.writer",
        "types.export.idl",
        "types.export.c",
        "types.layout",
        "types.registry",
        "types.annotations",
        "types.schema",
        "types.difference",
        "types.model",
        "types.by_name",
        "types.view",
        "types.compiled",
        "types.sample",
        "types.from_schema",
        "types.whole",
    ),
    (  # where memory is, how it is found, which processes hold it
        "memory.access",
        "memory.clocks",
        "memory.processes",
        "memory.liveness",
        "memory.objects",
        "memory.hugepages",
        "memory.create",
        "memory.attach",
        "memory.peers",
        "memory.directories",
        "memory.announcement",
        "memory.flink",
        "memory.bell",
        "memory.cleanup",
    ),
    (  # the handles that write and read samples
        "endpoints.handle",
        "endpoints.tickets",
        "endpoints.reader",
        "endpoints.awaiting",
        "endpoints.pressure",
        "endpoints.allocator",
        "endpoints.versions",
        "endpoints.publisher",
        "endpoints.waker",
        "endpoints.loops",
        "endpoints.following",
        "endpoints.redeeming",
        "endpoints.callbacks",
        "endpoints.subscriber",
        "endpoints.waiting",
        "endpoints.waitset",
        "endpoints.in_memory",
    ),
    (
        "observe.histogram",
        "observe.introspection",
        "observe.monitor",
        "observe.accumulated",
        "observe.metrics",
        "observe.machine",
        "observe.silence",
        "observe.doctor",
        "testing",
        "pytest_plugin",
    ),
)
ORDER = [module for floor in FLOORS for module in floor]
ROOMS = {module.split(".")[0] for module in ORDER if "." in module}
# May import the public names of `zeroslot`, as any program does, and themselves.
APPS = ("cli", "record", "bridge", "patterns", "idlc")
# See everything: the public face, and `python -m zeroslot`.
FACES = ("__init__", "__main__")
CORE = "_core"


def modules() -> list[Path]:
    """All modules of the package but those of the build and the rooms' empty faces."""
    found = (path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)
    return sorted(path for path in found if path.parent == PACKAGE or path.name != "__init__.py" or part(path) in APPS)


def part(path: Path) -> str:
    """The name by which the order knows a module: `errors`, `memory.segment`; `cli` for all of that application."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts) if parts[0] in ROOMS else parts[0]


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
    """The same as (line, name in the order): `zeroslot` itself, or a name of its face, is "__init__"."""
    for line, module, name in imports(path, source):
        below = module.split(".")[1:]
        folder = PACKAGE.joinpath(*below)
        if name is not None and ((folder / name).is_dir() or (folder / f"{name}.py").is_file()):
            below.append(name)
        if not below:
            yield line, "__init__"
        elif below[0] in ROOMS:
            yield line, ".".join(below)
        else:
            yield line, below[0]


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
    assert [name for name in ORDER if not PACKAGE.joinpath(*name.split(".")).with_suffix(".py").is_file()] == []


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_has_an_empty_face(room: str) -> None:
    """Importing one module of a room loads no other: a room's `__init__` holds its docstring alone."""
    (statement,) = ast.parse((PACKAGE / room / "__init__.py").read_text("utf-8")).body
    assert isinstance(statement, ast.Expr)


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


PARTS = re.findall(r'^include "(\w+)\.pxi"', (PACKAGE / CORE / "binding.pyx").read_text("utf-8"), re.MULTILINE)
DEFINITION = re.compile(
    r"^(?:cdef class (\w+)"  # an extension type
    r"|(?:cdef|cpdef|def) (?:inline )?(?:[\w.]+ \*?)*?(\w+)\("  # a function
    r"|cdef (?:[\w.]+ )+\*?(\w+)(?:\[\d+\])? ?=)",  # a variable of the module
    re.MULTILINE,
)


def part_of_the_binding(name: str) -> str:
    """The code of a part, without strings, comments and C."""
    text = (PACKAGE / CORE / f"{name}.pxi").read_text("utf-8")
    return re.sub(r'"""(?:.|\n)*?"""|"[^"\n]*"|#[^\n]*', "", text)


def used_too_early(parts: dict[str, str]) -> list[str]:
    """The names that a part uses and a later part defines, as "part uses name of part"."""
    found = []
    names = list(parts)
    for at, name in enumerate(names):
        for later in names[at + 1 :]:
            defined = {next(filter(None, groups)) for groups in DEFINITION.findall(parts[later])}
            used = set(re.findall(r"(?<![\w.])(\w+)\b(?! ?=[^=])", parts[name]))
            found += [f"{name} uses {each} of {later}" for each in sorted(defined & used)]
    return found


def test_a_part_of_the_binding_uses_only_parts_before_it() -> None:
    """The extension module is one, and its parts are layers."""
    parts = {name: part_of_the_binding(name) for name in PARTS}
    assert sorted(PARTS) == sorted(path.stem for path in (PACKAGE / CORE).glob("*.pxi"))
    assert len(DEFINITION.findall("".join(parts.values()))) > 80
    assert used_too_early(parts) == []


@pytest.mark.parametrize(
    "definition",
    [
        "cdef class Hold(Side):\n    pass",
        "cdef inline int hold(int x) except -1:\n    pass",
        "cdef object hold = None",
        "cdef uint32_t *hold(int x) noexcept:\n    pass",
        "def hold():\n    pass",
    ],
)
def test_a_use_before_the_definition_is_seen(definition: str) -> None:
    """This test of tests: each form of definition is known."""
    assert used_too_early({"below": "def f():\n    hold(Hold)", "above": definition}) != []


def test_headers_include_each_other_and_the_system_alone() -> None:
    """The core compiles without Python."""
    headers = {path.name for path in (PACKAGE / CORE).rglob("*.h")}
    include = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
    found = [
        f"{path.name} includes {own or system}"
        for path in sorted((PACKAGE / CORE).rglob("*.h"))
        for own, system in include.findall(path.read_text("utf-8"))
        if (own and own not in headers) or system.lower().startswith(("python", "numpy/"))
    ]
    assert headers
    assert found == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("qos.py", "from zeroslot.errors import ZeroslotError"),
        ("types/layout.py", "from .schema import x"),
        ("types/layout.py", "def f():\n    import zeroslot.endpoints.publisher"),
        ("types/view.py", "from ..memory import flink"),
        ("types/view.py", "import zeroslot.memory"),
        ("memory/liveness.py", "import zeroslot"),
        ("endpoints/publisher.py", "from zeroslot.endpoints import subscriber"),
        (
            "endpoints/publisher.py",
            "if TYPE_CHECKING:\n    from zeroslot.endpoints.subscriber import Subscriber",
        ),
        ("cli/demo.py", "from zeroslot.endpoints.publisher import Publisher"),
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
        ("info.py", "from zeroslot.qos import OnFull"),
        ("types/layout.py", "from .nodes.base import x\nfrom .._core import binding\nimport zeroslot._core.binding"),
        ("endpoints/publisher.py", "from zeroslot.memory import flink\nimport numpy"),
        ("cli/demo.py", "import zeroslot as zs\nfrom zeroslot import Sample"),
        ("cli/demo.py", "from .table import x\nfrom zeroslot.cli import y"),
    ],
)
def test_the_walk_lets_pass_what_is_right(module: str, source: str) -> None:
    assert breaches(PACKAGE / module, source) == []
