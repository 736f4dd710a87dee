"""Every type that a public name takes, gives or carries is a public name itself."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import zeroslot as zs

ROOT = Path(zs.__file__).resolve().parent
PUBLIC_MAGIC = {"__init__", "__enter__", "__iter__", "__next__", "__call__", "__getitem__"}
# Members that no program uses: how the types are described inside, and constructors of what `create` and `attach` make.
# What modules of the package ask a layout of in its part of a node (zeroslot.types.nodes.base), and the native parts.
NODE = ("annotation", "codec", "declare", "from_annotation", "from_schema", "reading", "with_gaps")
INTERNAL = {
    "Field.node",
    "SampleCallback.__init__",
    "SlotAllocator.__init__",
    "SlotAllocator.native",
    "SlotReader.__init__",
    "SlotReader.native",
    *(f"Layout.{name}" for name in NODE),
}


def source_of(module: str) -> Path:
    """A module's file; for the binding its stub, which has the annotations."""
    path = ROOT.joinpath(*module.split(".")[1:])
    return path.with_suffix(".pyi") if path.with_suffix(".pyi").is_file() else path.with_suffix(".py")


class Module:
    """The definitions of one module, and where its names come from."""

    def __init__(self, name: str) -> None:
        self.name = name
        tree = ast.parse(source_of(name).read_text("utf-8"))
        self.definitions: dict[str, ast.stmt] = {}
        self.origins: dict[str, tuple[str, str]] = {}  # imported from this package: (module, name)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("zeroslot"):
                self.origins |= {alias.asname or alias.name: (str(node.module), alias.name) for alias in node.names}
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                self.definitions.setdefault(node.name, node)
            elif isinstance(node, ast.Assign):
                self.definitions |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                self.definitions[node.target.id] = node

    def find(self, name: str) -> tuple[Module, ast.stmt] | None:
        """Where a name of this package is defined. None: it is of another package, or a builtin."""
        if name in self.definitions:
            return self, self.definitions[name]
        if name in self.origins:
            module, original = self.origins[name]
            return Module(module).find(original)
        return None


def annotations(module: Module, node: ast.stmt, where: str) -> Iterator[tuple[str, Module, ast.expr]]:
    """Every annotation of a function, or of a class's public members, those of its bases in this package included."""
    if isinstance(node, ast.FunctionDef):
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        # That of `self` says for which handles an overload is, and is written by no program.
        found = [each.annotation for each in every if each is not None and each.arg != "self"] + [node.returns]
        yield from ((where, module, each) for each in found if each is not None)
    elif isinstance(node, ast.ClassDef):
        for member, owner, each in members(module, node):
            if isinstance(each, ast.FunctionDef):
                yield from annotations(owner, each, f"{where}.{member}")
            else:
                yield f"{where}.{member}", owner, each.annotation


def members(module: Module, node: ast.ClassDef) -> Iterator[tuple[str, Module, ast.FunctionDef | ast.AnnAssign]]:
    """The public members of a class, and those of its bases in this package that it does not override."""
    own: set[str] = set()
    for each in node.body:
        if isinstance(each, ast.FunctionDef):
            name = each.name
        elif isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            name = each.target.id
        else:
            continue
        own.add(name)
        if name[0] != "_" or name in PUBLIC_MAGIC:
            yield name, module, each
    for base in node.bases:
        expression = base.value if isinstance(base, ast.Subscript) else base
        defined = module.find(expression.id) if isinstance(expression, ast.Name) else None
        if defined is not None and isinstance(defined[1], ast.ClassDef):
            for name, owner, member in members(defined[0], defined[1]):
                if name not in own:
                    yield name, owner, member


def names_in(annotation: ast.expr) -> set[str]:
    """The names that an annotation consists of, those in strings included."""
    found = set()
    for node in ast.walk(annotation):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            found.add(node.value)
    return found


def is_type_variable(node: ast.stmt) -> bool:
    value = getattr(node, "value", None)
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "TypeVar"


def missing_from(name: str) -> set[str]:
    """The types in the annotations of one public name that are no public names."""
    home = Module(zs._MODULE_OF[name])
    defined = home.find(name)
    assert defined is not None
    found = set()
    for where, module, annotation in annotations(*defined, name):
        for used in names_in(annotation):
            definition = module.find(used)
            if definition is None or is_type_variable(definition[1]) or where in INTERNAL:
                continue
            if used[0] == "_" and isinstance(definition[1], ast.AnnAssign):  # a private alias, spelt out below
                assert definition[1].value is not None
                assert not any(definition[0].find(each) for each in names_in(definition[1].value))
                continue
            if used not in zs.__all__ or getattr(zs, used) is not getattr(
                importlib.import_module(definition[0].name), used
            ):
                found.add(f"{where}: {used}")
    return found


@pytest.mark.parametrize("name", zs.__all__)
def test_what_a_public_name_takes_and_gives_can_be_named(name: str) -> None:
    """A program can annotate what it gets from any public function, method or attribute."""
    assert missing_from(name) == set()


def test_a_type_without_a_public_name_is_noticed() -> None:
    """The walk sees members of bases, of the binding's stub, and the types of attributes."""
    seen = {where for where, _, _ in annotations(*Module("zeroslot.endpoints.subscriber").find("Subscriber"), "S")}
    assert {"S.take", "S.publishers", "S.__init__", "S.wait", "S.sample_type"} <= seen
    INTERNAL.discard("Field.node")
    try:
        assert missing_from("Field") == {"Field.node: Node"}
    finally:
        INTERNAL.add("Field.node")


def test_type_checkers_see_the_names_that_programs_see() -> None:
    """The imports for type checkers and the table of what is imported at first use agree."""
    assert Module("zeroslot.__init__").origins == {name: (module, name) for name, module in zs._MODULE_OF.items()}


def test_dir_shows_public_names_alone() -> None:
    """And the three that every module has; also after names have been used."""
    assert zs.layout_of is not None
    assert [name for name in dir(zs) if name not in zs.__all__] == ["__version__"]
