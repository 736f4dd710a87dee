"""A sample type as the source of a Python module, for `schema --as python`.

The module declares the class and those that it is made of; its type hash is that of the type. What a schema does not
say is not in it: defaults, constraints, and the names of classes that are no identifiers.
"""

from __future__ import annotations

import enum
import keyword
import re
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np

import zeroslot as zs

NUMBERS = {"U8", "U16", "U32", "U64", "I8", "I16", "I32", "I64", "F16", "F32", "F64", "Bool"}


def source_of(sample_type: type[Any]) -> str:
    """The text of a module, which ends with the class."""
    writer = _Writer()
    if sample_type in (np.ndarray, bytes):
        name = "bytes" if sample_type is bytes else "np.ndarray"
        return f"# Samples are {name}: zs.Publisher(topic, {name}, max_bytes=...), zs.Subscriber(topic, {name})\n"
    writer.name_of(sample_type)
    body = "\n\n\n".join(writer.classes)
    return f"{_imports(body)}\n\n\n{body}\n"


def _imports(body: str) -> str:
    standard = ["import enum"] if "enum.IntEnum" in body else []
    names = [name for name in ("Annotated", "Any", "Literal") if re.search(rf"\b{name}\b", body)]
    standard += [f"from typing import {', '.join(names)}"] if names else []
    third = ["import numpy as np"] if "np." in body else []
    third += ["from numpy.typing import NDArray"] if "NDArray" in body else []
    third += ["from pydantic import Field"] if "= Field(" in body else []
    return "\n\n".join("\n".join(block) for block in (standard, third, ["import zeroslot as zs"]) if block)


class _Writer:
    """Writes classes in the order in which they need each other."""

    def __init__(self) -> None:
        self.classes: list[str] = []
        self._names: dict[Any, str] = {}  # what a class means -> its name

    def name_of(self, made: type[Any]) -> str:
        """The name of a class, which is written first if it is not yet."""
        key = _meaning(made)
        if key not in self._names:
            lines = list(self._enum_lines(made) if issubclass(made, enum.Enum) else self._sample_lines(made))
            name = self._free_name(made.__name__)
            self._names[key] = name
            base = "enum.IntEnum" if issubclass(made, enum.Enum) else "zs.Sample"
            self.classes.append("\n".join([f"class {name}({base}):", *(lines or ["    pass"])]))
        return self._names[key]

    def _free_name(self, wanted: str) -> str:
        name = re.sub(r"\W", "_", wanted, flags=re.ASCII).strip("_") or "Type"
        if not name.isidentifier() or keyword.iskeyword(name):
            name = f"Type_{name}"
        taken = {*self._names.values(), "Annotated", "Any", "Literal", "NDArray", "Field", "enum", "np", "zs"}
        while name in taken:
            name += "_"
        return name

    def _enum_lines(self, made: type[enum.Enum]) -> Iterator[str]:
        renamed = getattr(made, "__zs_renamed__", {})
        if renamed:
            yield f"    __zs_renamed__ = {renamed!r}  # what the schema calls them"
        for name, member in made.__members__.items():
            yield f"    {name} = {member.value}"

    def _sample_lines(self, made: type[Any]) -> Iterator[str]:
        renamed = getattr(made, "__zs_renamed__", {})
        if renamed:
            yield f"    __zs_renamed__ = {renamed!r}  # what the schema calls them"
        for name, field in made.model_fields.items():
            annotation = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
            yield f"    {name}: {self.annotation(annotation)}"

    def annotation(self, meant: Any) -> str:
        """The text of an annotation."""
        origin, arguments = get_origin(meant), get_args(meant)
        if hasattr(origin, "__value__"):  # a type alias, as NDArray is from numpy 2.5 on
            return self.annotation(origin.__value__[arguments])
        if origin is Annotated:
            return self._annotated(arguments[0], [each for each in arguments[1:] if _is_written(each)])
        if origin in (Union, UnionType):
            return " | ".join("None" if each is NoneType else self.annotation(each) for each in arguments)
        if origin is Literal:
            return f"Literal[{', '.join(map(repr, arguments))}]"
        if origin is list:
            return f"list[{self.annotation(arguments[0])}]"
        if origin is np.ndarray:
            return f"NDArray[{_element(arguments[1])}]"
        if isinstance(meant, type) and issubclass(meant, (zs.Sample, enum.Enum)):
            return self.name_of(meant)
        return str(meant.__name__)

    def _annotated(self, meant: Any, bounds: list[Any]) -> str:
        if meant in (int, float, bool) and len(bounds) == 1:
            return f"zs.{bounds[0]!r}"
        bounds = [bound for bound in bounds if repr(bound) != "I32"]  # the default of an enum
        text = self.annotation(meant)
        written = [self._bound(each) for each in bounds]
        return f"Annotated[{text}, {', '.join(written)}]" if written else text

    def _bound(self, bound: Any) -> str:
        if isinstance(bound, zs.Shape):
            return self._shape(bound)
        return f"zs.{bound!r}"

    def _shape(self, bound: zs.Shape) -> str:
        dims = [f"zs.{dim!r}" if isinstance(dim, zs.UpTo) else str(dim) for dim in bound.dims]
        dims = dims or ["..."]
        dtype = bound.dtype
        if dtype is not None:
            dims.append(f"dtype={self.name_of(dtype) if isinstance(dtype, type) else repr(str(dtype))}")
        return f"zs.Shape({', '.join(dims)})"


def _meaning(made: type[Any]) -> Any:
    """Two classes of one meaning are written once."""
    if issubclass(made, enum.Enum):
        return made.__name__, tuple((name, member.value) for name, member in made.__members__.items())
    return made.__name__, zs.layout_of(made).type_hash


def _is_written(bound: Any) -> bool:
    """Whether a declaration has it, and pydantic did not add it. An array of any shape needs none."""
    if isinstance(bound, zs.Shape) and bound.is_open and bound.dtype is None:
        return False
    return isinstance(bound, (zs.Shape, zs.MaxBytes, zs.MaxLen)) or repr(bound) in NUMBERS


def _element(dtype: Any) -> str:
    """np.dtype[np.float32] as np.float32."""
    (element,) = get_args(dtype)
    return "Any" if element is Any else "np.bool_" if element is np.bool_ else f"np.{element.__name__}"
