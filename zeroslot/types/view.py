"""View classes: a sample type as it lies in a slot.

A view class is made once per sample type and publisher's layout. Its fields are native descriptors over the slot's
memory; `isinstance(view, Imu)` is true, and what the user's class adds (methods, properties) works on it too.

Why a view has no `__dict__` and no cache of its own: there are as many views as samples, and a field read in place
costs less than looking up what was read before.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel

from zeroslot._core import binding
from zeroslot._core.binding import FieldDescriptor, View
from zeroslot.errors import CorruptSegmentError


class _ViewMethods:
    """What every view can do besides its fields. Copied into each view class, which native code makes."""

    __hash__ = None  # type: ignore[assignment]  # equal by value, as the model
    __zs_sample__: ClassVar[type[BaseModel] | None] = None
    __zs_names__: ClassVar[tuple[str, ...]] = ()

    if TYPE_CHECKING:

        def __zs_model__(self) -> BaseModel: ...

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> BaseModel:
        """The sample as an instance of its class, in memory of its own, whatever `deep` says."""
        return self.__zs_model__().model_copy(update=update, deep=deep)

    @property
    def model_fields_set(self) -> set[str]:
        """The fields that the publisher has given."""
        return {name for name in self.__zs_names__ if not isinstance(vars(type(self)).get(name), AbsentField)}

    def __copy__(self) -> BaseModel:
        return self.__zs_model__()

    def __deepcopy__(self, memo: dict[int, Any]) -> BaseModel:
        return self.__zs_model__()

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return ((name, getattr(self, name)) for name in self.__zs_names__)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, View):
            if other.__zs_sample__ is not self.__zs_sample__:
                return NotImplemented
            return bool(self.__zs_model__() == other.__zs_model__())
        return bool(other == self) if type(other) is self.__zs_sample__ else NotImplemented

    def __zs_shown__(self) -> Iterator[str]:
        sample_type = self.__zs_sample__ or BaseModel
        infos: dict[str, Any] = {**sample_type.model_fields, **sample_type.model_computed_fields}
        for name, info in infos.items():
            if info.repr and not isinstance(vars(type(self)).get(name), MissingField):
                yield f"{name}={getattr(self, name)!r}"

    def __str__(self) -> str:
        return " ".join(self.__zs_shown__())

    def __repr__(self) -> str:
        try:
            return f"{type(self).__name__}({', '.join(self.__zs_shown__())})"
        except (CorruptSegmentError, TypeError, AttributeError) as error:
            return f"<{type(self).__name__}: {error}>"

    def __reduce__(self) -> Any:
        raise TypeError("a sample in shared memory cannot be pickled: send lease.copy() instead")


class AbsentField:
    """A field that the publisher's type does not have: its declared default stands in; only with match="by_name"."""

    def __init__(self, name: str, default: Any) -> None:
        self.name = name
        self.default = default

    def value(self) -> Any:
        """The default, as an object of the caller's own."""
        return copy.deepcopy(self.default)

    def __get__(self, instance: object, owner: type) -> Any:
        return self if instance is None else self.value()

    def __set__(self, instance: object, value: object) -> None:
        raise AttributeError(f"{self.name}: the publisher's type has no such field, and what was taken is read-only")


class MissingField:
    """A field that the publisher's type does not have and that has no default; only with missing="ignore"."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:
            return self
        raise AttributeError(
            f"{self.name}: the publisher's type has no such field, and it has no default here. Give it one, or check "
            "with hasattr"
        )

    def __set__(self, instance: object, value: object) -> None:
        self.__get__(instance, type(instance))


class ClassAttribute:
    """What the sample type has, and no sample: its class methods, class variables and nested classes."""

    def __init__(self, sample_type: type[BaseModel], name: str) -> None:
        self.sample_type = sample_type
        self.name = name

    def __get__(self, instance: object, owner: type) -> Any:
        return getattr(self.sample_type, self.name)


class PrivateField:
    """A private attribute, which views do not have."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> Any:
        raise AttributeError(f"{self.name}: shared memory has fields alone. lease.copy() has private attributes")

    def __set__(self, instance: object, value: object) -> None:
        self.__get__(instance, type(instance))


def _of_a_copy(name: str, kind: Any) -> Any:
    """A method or property of the sample's class, used on a copy of the sample."""

    def method(self: Any, *arguments: Any, **options: Any) -> Any:
        return getattr(self.__zs_model__(), name)(*arguments, **options)

    method.__name__ = name
    method.__doc__ = "As pydantic's, of a copy."
    return property(lambda self: getattr(self.__zs_model__(), name)) if isinstance(kind, property) else method


def _pydantic_methods(sample_type: type[BaseModel]) -> dict[str, Any]:
    """What every model offers: methods and properties of a copy; the rest is the class's."""
    return {
        name: _of_a_copy(name, value)
        if inspect.isfunction(value) or type(value) is property
        else ClassAttribute(sample_type, name)
        for name, value in _MODEL_ATTRIBUTES.items()
    }


_MODEL_ATTRIBUTES = {
    name: inspect.getattr_static(BaseModel, name) for name in dir(BaseModel) if not name.startswith("_")
}


_OF_ANY_CLASS = {"__dict__", "__weakref__", "__module__", "__doc__", "__annotations__", "__qualname__"}


def make_view_class(
    sample_type: type[BaseModel],
    names: Iterable[str],
    size: int,
    fields: Iterable[FieldDescriptor],
    absent: Mapping[str, AbsentField | MissingField],
) -> type[View]:
    """A view class of samples of `size` bytes, with these `fields`, and those that are `absent` in memory; `names` are
    all of them in the order of declaration.
    """
    members = {field.name: field for field in fields}
    values = {name: field.value for name, field in absent.items() if isinstance(field, AbsentField)}
    namespace: dict[str, Any] = {
        **_pydantic_methods(sample_type),
        **{name: value for name, value in vars(_ViewMethods).items() if name not in _OF_ANY_CLASS},
        "__doc__": f"A {sample_type.__name__} in shared memory.",
        "__zs_sample__": sample_type,
        "__zs_names__": tuple(name for name in names if name in members or name in values),
        **_additions_of(sample_type),
        **absent,
        **members,
    }
    made: type[View] = binding.make_view_class(f"{sample_type.__module__}.{sample_type.__name__}", namespace)
    made.__zs_codec__ = binding.StructCodec(made, size, tuple(members.values()), values)
    return made


def buffer(sample: Any, name: str) -> memoryview:
    """A memoryview of a text, bytes, array or list field, in place: `buffer(lease.sample, "jpeg")` copies nothing.

    It keeps the sample, and is read-only at a subscriber. That of a loan can be written, and a commit raises
    BufferError while it, or an array or tensor made of it, is alive. It is as long as the field is now; text is UTF-8.
    Of a model it is the field's own memory, read-only.

    Raises TypeError for a field of another kind, ValueError for an optional that is None, AttributeError for a name
    that the sample does not have.
    """
    field = vars(type(sample)).get(name) if isinstance(sample, View) else None
    if isinstance(field, FieldDescriptor):
        return field.buffer(sample)
    value = getattr(sample, name)
    return memoryview(value.encode() if isinstance(value, str) else value).toreadonly()


def resize(sample: Any, /, **sizes: Any) -> None:
    """Give fields of a loan other sizes before it is committed: `resize(frame, image=(1000, 1920, 3), name=4)`.

    A variable field can have any size that the loan has room for, and a field with a bound (UpTo, MaxLen, MaxBytes) any
    size up to that. Sizes are shapes, numbers of items and numbers of bytes, and dicts of these for nested samples. The
    first bytes of a field stay; those of an array are in C order, so the first rows stay where only the first dimension
    changes. What a field holds beyond its size before is not said: write it. Arrays and lists that were read from the
    sample before keep their size.

    Raises ValueError for a size that there is no room for, TypeError for a field that keeps its size and for what is no
    sample in place, ClosedError after the commit.
    """
    if not isinstance(sample, View):
        raise TypeError(f"a sample of a loan, not {type(sample).__name__}")
    binding.resize_fields(sample, sizes)


# Special methods that a class may define for its views as well, beside those that no model has.
_SPECIAL = {"__str__", "__repr__", "__format__", "__lt__", "__le__", "__gt__", "__ge__"}
_OF_MODELS_ALONE = {*dir(BaseModel), "__del__", "__getattr__"} - _SPECIAL


def _additions_of(sample_type: type[BaseModel]) -> dict[str, Any]:
    """What the user's classes add, which works on views too: methods, properties, special methods, class attributes.

    A cached_property is computed at each use: a view has no memory of its own.
    """
    found: dict[str, Any] = {}
    for base in reversed(sample_type.__mro__[: sample_type.__mro__.index(BaseModel)]):
        for name, declared in vars(base).items():
            value = getattr(declared, "wrapped", declared)
            if name in sample_type.model_fields or name.startswith(("_abc", "model_", "__pydantic", "__zs")):
                continue
            if name.startswith("__") and (name in _OF_MODELS_ALONE or not inspect.isfunction(value)):
                continue
            if isinstance(value, cached_property):
                found[name] = property(value.func)
            elif isinstance(value, (classmethod, type)) or not hasattr(value, "__get__"):
                found[name] = ClassAttribute(sample_type, name)
            else:
                found[name] = value
    return found | {name: PrivateField(name) for name in sample_type.__private_attributes__}
