"""What a sample type declares, as pydantic keeps it: the names of its fields, their annotations and their defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from zeroslot.types.names import is_identifier
from zeroslot.types.nodes.base import reject_declaration


def is_field_name(name: str) -> bool:
    """Whether a field of a model may be called this. pydantic would take a method of the metaclass for its default, and
    read its own attribute instead of the field.
    """
    taken = hasattr(type(BaseModel), name) or (name.startswith("model_") and hasattr(BaseModel, name))
    return is_identifier(name) and not taken


def attribute_names(sample_type: type[BaseModel]) -> dict[str, str]:
    """Name in memory -> attribute, of every field. They differ where a class was made from a schema whose names Python
    cannot say.
    """
    renamed: Mapping[str, str] = getattr(sample_type, "__zs_renamed__", {})
    return {renamed.get(name, name): name for name in sample_type.__pydantic_fields__}


def class_name(sample_type: type[BaseModel]) -> str:
    """Module and name of a class, for error texts."""
    return f"{sample_type.__module__}.{sample_type.__qualname__}"


def annotation_of(field: FieldInfo) -> Any:
    """The annotation as it was written: pydantic keeps the type and what stood around it apart."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def default_values(sample_type: type[BaseModel]) -> tuple[dict[str, Any], dict[str, Callable[[], Any]]]:
    """The declared defaults: values, validated, and factories, which are called for every sample. Fields without
    either are in neither.

    Raises `DeclarationError` for a default that its own field refuses, and for a factory that takes the values of
    other fields.
    """
    values: dict[str, Any] = {}
    factories: dict[str, Callable[[], Any]] = {}
    for name, field in sample_type.__pydantic_fields__.items():
        if field.default_factory is not None:
            _check_factory(sample_type, name)
            factories[name] = field.default_factory  # type: ignore[assignment]  # takes no argument, as just checked
        elif not field.is_required():
            values[name] = default_of(sample_type, name)
    return values, factories


def default_of(sample_type: type[BaseModel], name: str) -> Any:
    """The default of a field, validated; a factory is called.

    Raises `DeclarationError` for one that the field refuses, and for a factory that wants the values of other fields.
    """
    field = sample_type.__pydantic_fields__[name]
    _check_factory(sample_type, name)
    default = field.get_default(call_default_factory=True)
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation_of(field), config=_adapter_config(field))
        return adapter.validate_python(default)
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        reject_declaration(
            f"{sample_type.__name__}.{name}",
            f"its default {default!r} is not a value of it ({problem})",
            "Change the default.",
        )


def _check_factory(sample_type: type[BaseModel], name: str) -> None:
    if sample_type.__pydantic_fields__[name].default_factory_takes_validated_data:
        reject_declaration(
            f"{sample_type.__name__}.{name}",
            "its default factory takes the other fields, which do not exist yet when it is called",
            "Use one without arguments.",
        )


def _adapter_config(field: FieldInfo) -> ConfigDict | None:
    # A type with a configuration of its own must not be given another one.
    annotation = field.annotation
    return (
        None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel)
        else ConfigDict(arbitrary_types_allowed=True)
    )
