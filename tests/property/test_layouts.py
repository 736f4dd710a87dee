"""Random sample types: one declaration, and ctypes, C, C++, numpy, CDR and JSON all find the same bytes.

A random type is drawn as a description of our own (`Kind`), from which the annotation and the ctypes type are made
side by side. So nothing of the layout code takes part in what it is compared with.
"""

from __future__ import annotations

import ctypes
import enum
import itertools
import json
import math
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import zeroslot as zs
from zeroslot import Sample, layout_of
from zeroslot.types.difference import difference
from zeroslot.types.nodes.scalars import NUMPY_TYPES
from zeroslot.types.nodes.scalars import SCALARS as NUMBERS
from zeroslot.types.schema import from_json_schema, pack_schema, unpack_schema

# Each number's annotation, ctypes' type of what C calls it, and its numpy type.
SCALARS = {
    kind: (getattr(zs, repr(number)), getattr(ctypes, f"c_{number.c.removesuffix('_t')}"), number.dtype.type)
    for kind, number in NUMBERS.items()
}
IN_ARRAYS = [number.kind for number in NUMBERS.values() if number in NUMPY_TYPES.values()]
NAMES = ["a", "B", "b", "default", "new", "pad0", "object", "value_3", "volatile", "x"]
_numbers = itertools.count()


# One a kind: all drawn types go into one C program, in which a name means one type.
MODES = {kind: enum.IntEnum(f"Mode{kind.upper()}", {"IDLE": 0, "RUN": 100}) for kind in ("u8", "i16", "i32", "u64")}


@dataclass
class Kind:
    """One random type: how it is annotated, and what C would have in its place."""

    annotation: Any
    ctype: Any
    optional: bool = False

    @property
    def filled(self) -> Kind:
        """Itself, or a byte in place of a type without bytes, which no list can hold."""
        return self if ctypes.sizeof(self.ctype) > 0 else scalar("u8")


def c_struct(*members: tuple[str, Any]) -> Any:
    return type("C", (ctypes.Structure,), {"_fields_": list(members)})


def scalar(kind: str) -> Kind:
    return Kind(SCALARS[kind][0], SCALARS[kind][1])


def array(kind: str, dims: tuple[int, ...]) -> Kind:
    ctype = SCALARS[kind][1]
    for dim in reversed(dims):
        ctype = ctype * dim
    return Kind(Annotated[NDArray[SCALARS[kind][2]], zs.Shape(*dims)], ctype)


def bounded_array(kind: str, dims: list[int], bounds: list[bool]) -> Kind:
    """At least one dimension has a bound."""
    bounds = [*bounds[: len(dims) - 1], True] if not any(bounds[: len(dims)]) else bounds[: len(dims)]
    shape = [zs.UpTo(dim) if bounded else dim for dim, bounded in zip(dims, bounds, strict=True)]
    ctype = c_struct(("counts", ctypes.c_uint32 * sum(bounds)), ("items", SCALARS[kind][1] * math.prod(dims)))
    return Kind(Annotated[NDArray[SCALARS[kind][2]], zs.Shape(*shape)], ctype)


COMPLEX = {"c64": (np.complex64, ctypes.c_float), "c128": (np.complex128, ctypes.c_double)}


def complex_array(kind: str, length: int) -> Kind:
    number, part = COMPLEX[kind]
    return Kind(Annotated[NDArray[number], zs.Shape(length)], part * 2 * length)


def time_array(name: str, unit: str, length: int) -> Kind:
    annotation = NDArray[np.datetime64] if name == "datetime64" else NDArray[np.timedelta64]
    return Kind(Annotated[annotation, zs.Shape(length, dtype=f"{name}[{unit}]")], ctypes.c_int64 * length)


def enumeration(kind: str) -> Kind:
    return Kind(Annotated[MODES[kind], SCALARS[kind][0]], SCALARS[kind][1])


def text(python_type: type, limit: int) -> Kind:
    ctype = c_struct(("length", ctypes.c_uint32), ("data", ctypes.c_uint8 * limit))
    return Kind(Annotated[python_type, zs.MaxBytes(limit)], ctype)


def fixed_list(item: Kind, length: int) -> Kind:
    return Kind(Annotated[list[item.annotation], zs.Shape(length)], item.ctype * length)


def bounded_list(item: Kind, limit: int) -> Kind:
    ctype = c_struct(("count", ctypes.c_uint32), ("items", item.ctype * limit))
    return Kind(Annotated[list[item.annotation], zs.MaxLen(limit)], ctype)


def optional(item: Kind) -> Kind:
    if item.optional:
        return item  # an optional cannot be optional again
    return Kind(item.annotation | None, c_struct(("present", ctypes.c_uint8), ("value", item.ctype)), optional=True)


def struct(members: list[tuple[str, Kind]]) -> Kind:
    name = f"Type{next(_numbers)}"
    annotations = {member: kind.annotation for member, kind in members}
    sample_type = type(Sample)(name, (Sample,), {"__annotations__": annotations, "__module__": __name__})
    return Kind(sample_type, c_struct(*((member, kind.ctype) for member, kind in members)))


def structs(kinds: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    names = st.lists(st.sampled_from(NAMES), unique=True, max_size=6)
    members = names.flatmap(lambda drawn: st.tuples(*(st.tuples(st.just(name), kinds) for name in drawn)))
    return members.map(list).map(struct)


LEAVES = st.one_of(
    st.sampled_from(list(SCALARS)).map(scalar),
    st.sampled_from(list(MODES)).map(enumeration),
    st.builds(array, st.sampled_from(IN_ARRAYS), st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)),
    st.builds(
        bounded_array,
        st.sampled_from(IN_ARRAYS),
        st.lists(st.integers(1, 4), min_size=1, max_size=3),
        st.lists(st.booleans(), min_size=3, max_size=3),
    ),
    st.builds(complex_array, st.sampled_from(list(COMPLEX)), st.integers(1, 3)),
    st.builds(time_array, st.sampled_from(["datetime64", "timedelta64"]), st.sampled_from("sD"), st.integers(1, 3)),
    st.builds(text, st.sampled_from([str, bytes]), st.integers(1, 20)),
)


def containers(kinds: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    # Every draw is used. Filtering out what does not fit discards too many of the draws of some seeds.
    full = kinds.map(lambda kind: kind.filled)
    return st.one_of(
        st.builds(fixed_list, full, st.integers(1, 3)),
        st.builds(bounded_list, full, st.integers(1, 3)),
        kinds.map(optional),
        structs(kinds),
    )


SAMPLE_TYPES = structs(st.recursive(LEAVES, containers, max_leaves=8))
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.row("TYP-1")
@pytest.mark.row("TYP-9")
@pytest.mark.row("SEG-22")
@given(SAMPLE_TYPES)
@example(struct([]))
@FEW
def test_layout_equals_ctypes(kind):
    """Size, alignment and every offset are those of the C struct, and the fields with their padding fill it."""
    layout = layout_of(kind.annotation)
    assert (layout.size, layout.alignment) == (ctypes.sizeof(kind.ctype), ctypes.alignment(kind.ctype))
    for field in layout.members:
        of_c = getattr(kind.ctype, field.name)
        assert (field.offset, field.size) == (of_c.offset, of_c.size)
    end = 0
    for field in layout.fields:
        assert field.offset == end
        end += field.size
    assert end == layout.size


@pytest.mark.row("TYP-8")
@pytest.mark.row("NEW-2")
@given(SAMPLE_TYPES)
@FEW
def test_dtype_equals_layout(kind):
    """The numpy dtype has the same size and offsets, and an array of it can be made and read."""
    layout = layout_of(kind.annotation)
    assert layout.dtype.itemsize == layout.size
    assert (layout.dtype.names or ()) == tuple(field.name for field in layout.members)
    image = np.zeros(2, layout.dtype)
    for field in layout.members:
        inner, offset = layout.dtype.fields[field.name][:2]
        assert (inner.itemsize, offset) == (field.size, field.offset)
        assert image[field.name].shape[0] == 2


@pytest.mark.row("TYP-3")
@pytest.mark.row("TYP-6")
@given(SAMPLE_TYPES)
@FEW
def test_schema_round_trip_keeps_the_hash(kind):
    """The JSON in a segment gives back the very layout."""
    layout = layout_of(kind.annotation)
    again = from_json_schema(json.dumps(layout.to_json_schema()))
    assert (again, again.fields, again.canonical) == (layout, layout.fields, layout.canonical)
    assert unpack_schema(pack_schema(layout)) == layout


@pytest.mark.row("NEW-3")
@given(SAMPLE_TYPES, SAMPLE_TYPES)
@FEW
def test_difference_is_empty_exactly_where_the_hashes_are_equal(one, other):
    """No two types of different hash look alike to the reader of the error."""
    a, b = layout_of(one.annotation), layout_of(other.annotation)
    assert (difference(a, b) == "") == (a.type_hash == b.type_hash)
    assert difference(a, a) == ""


# --- CDR, read from the IDL text alone ---

PRIMITIVES = {
    "octet": 1, "int8": 1, "boolean": 1, "short": 2, "unsigned short": 2, "long": 4, "unsigned long": 4,
    "long long": 8, "unsigned long long": 8, "float": 4, "double": 8,
}  # fmt: skip  # a table
_BLOCK = re.compile(r"struct (\w+) \{\n(.*?)\};|enum (\w+) \{.*?\};|typedef ([\w ]+) (\w+);", re.DOTALL)
_MEMBER = re.compile(r"(?:@\w+(?:\(.*?\))? )?(.+) (\w+?)((?:\[\d+\])*);")


def cdr_members(idl: str) -> tuple[int, list[tuple[int, int]]]:
    """(size, (offset, size) of every member) of the last struct in plain CDR (XCDR1), by its rules alone."""
    types: dict[str, Any] = dict(PRIMITIVES)
    last = ""
    for struct_name, members, enum_name, original, alias in _BLOCK.findall(idl):
        if struct_name:
            types[struct_name] = [_MEMBER.fullmatch(line.strip()).groups() for line in members.splitlines()]
            last = struct_name
        elif enum_name:
            types[enum_name] = 4
        else:
            types[alias] = types[original]

    def put(at: int, type_name: str, dims: str) -> int:
        for _ in range(int(np.prod([int(dim) for dim in re.findall(r"\d+", dims)] or [1]))):
            known = types[type_name]
            if isinstance(known, int):
                at = -(-at // known) * known + known
            else:
                for inner_type, _, inner_dims in known:
                    at = put(at, inner_type, inner_dims)
        return at

    at, found = 0, []
    for type_name, _, dims in types[last]:
        start, at = at, put(at, type_name, dims)
        found.append((start, at - start))
    return at, found


@pytest.mark.row("TYP-10")
@pytest.mark.row("NEW-2")
@pytest.mark.row("NEW-11")
@given(SAMPLE_TYPES)
@FEW
def test_image_is_plain_cdr_of_its_idl(kind):
    """Encoding the image form's IDL as XCDR1 puts every member, padding included, where memory has it."""
    layout = layout_of(kind.annotation)
    size, members = cdr_members(layout.to_idl())
    assert size == layout.size
    assert members == [(field.offset, field.size) for field in layout.fields]


@given(SAMPLE_TYPES)
@FEW
def test_plain_means_that_both_forms_of_idl_say_the_same(kind):
    """A plain type has no strings, sequences or optionals in its message form, and only such a type is plain."""
    layout = layout_of(kind.annotation)
    message = layout.to_idl("message")
    assert layout.plain == (re.search(r"string<|sequence<|@optional", message) is None)


# --- C and C++ ---


def c_program(layouts: list[zs.Layout]) -> str:
    """Prints the size of each struct, then the offset and size of each of its members. Unit types have no struct."""
    prints = []
    for layout in layouts:
        prints.append(f'printf("%zu\\n", sizeof({layout.name}));')
        declared = re.search(rf"typedef struct {layout.name} \{{\n(.*?)\}}", layout.to_c(), re.DOTALL)[1]
        names = [_MEMBER.fullmatch(line.strip())[2] for line in declared.splitlines()]
        for name in names:
            facts = f"offsetof({layout.name}, {name}), sizeof((({layout.name} *)0)->{name})"
            prints.append(f'printf("%zu %zu\\n", {facts});')
    body = "\n    ".join(prints)
    headers = "".join(layout.to_c() for layout in layouts)
    return f"#include <stdio.h>\n{headers}\nint main(void) {{\n    {body}\n    return 0;\n}}\n"


@pytest.mark.row("TYP-1")
@pytest.mark.row("NEW-2")
@pytest.mark.parametrize(("compiler", "standard", "language"), [("gcc", "c11", "c"), ("g++", "c++17", "c++")])
@given(kinds=st.lists(SAMPLE_TYPES, min_size=10, max_size=20))
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
def test_compiler_finds_the_same_offsets(compiler, standard, language, kinds, tmp_path_factory):
    """A C program of many random types, compiled without a warning, prints the sizes and offsets of the layouts."""
    tool = shutil.which(compiler)
    if tool is None:
        pytest.skip(f"{compiler} is not installed")
    layouts = [layout for kind in kinds if (layout := layout_of(kind.annotation)).size > 0]
    folder = tmp_path_factory.mktemp("layouts")
    (folder / "program.txt").write_text(c_program(layouts))
    warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    command = [tool, f"-std={standard}", *warnings, "-x", language, "program.txt", "-o", "program"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed = subprocess.run([folder / "program"], capture_output=True, text=True, check=True).stdout.splitlines()
    expected = []
    for layout in layouts:
        expected.append(str(layout.size))
        expected += [f"{field.offset} {field.size}" for field in layout.fields if field.size]
    assert printed == expected
