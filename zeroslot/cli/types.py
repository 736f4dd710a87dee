"""The sample type of `pub`: a class in a file, a stored schema, or what a live publisher of the topic publishes."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import zeroslot as zs
from zeroslot.cli import CommandError

WHOLE_TYPES = {"ndarray": np.ndarray, "bytes": bytes}


class TypeArgumentError(CommandError):
    """What --type says is no sample type, or there is nothing to take the type from."""


def named_type(text: str) -> type[Any]:
    """The type that FILE:Class, module:Class, FILE.json, `ndarray` or `bytes` means. Runs the file.

    Raises TypeArgumentError, also for what the file raises.
    """
    if text in WHOLE_TYPES:
        return WHOLE_TYPES[text]
    if text.endswith(".json"):
        return zs.type_from_schema(_schema_in(Path(text)))
    place, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier():
        raise TypeArgumentError(
            f"{text!r} is no type. Write FILE:Class, such as robot.py:Imu, or module:Class, the file of a schema "
            "(FILE.json), ndarray or bytes"
        )
    found = getattr(_module_of(place), name, None)
    if not isinstance(found, type) or not issubclass(found, zs.Sample) or found is zs.Sample:
        raise TypeArgumentError(f"{place} has no class {name} that derives from zeroslot.Sample")
    return found


def _schema_in(path: Path) -> Any:
    """A schema as `zeroslot schema --as json` prints it."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise TypeArgumentError(f"{path} is no JSON: {error}") from None


def _module_of(place: str) -> ModuleType:
    path = Path(place)
    if not place.endswith(".py"):
        sys.path.insert(0, "")
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            raise TypeArgumentError(f"there is no module {error.name}. A file ends in .py") from None
    if not path.is_file():
        raise TypeArgumentError(f"there is no file {place}")
    sys.path.insert(0, str(path.resolve().parent))  # what the file imports stands beside it
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise TypeArgumentError(f"{place} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where pydantic looks for names in annotations
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the file does
        raise TypeArgumentError(f"{place}: {type(error).__name__}: {error}") from error
    return module


def published_type(topic: str, domain: str | None) -> type[Any]:
    """The type of the topic's live publisher. Raises TypeArgumentError where there is none that can be read."""
    try:
        return zs.type_from_schema(zs.schema_of(topic, domain))
    except zs.TopicNotFoundError as error:
        reasons = "".join(f"\n  {problem.kind}: {problem.text}" for problem in _problems(topic, domain))
        raise TypeArgumentError(
            f"{error}, so the type is not known. Give it: --type FILE:Class, such as --type robot.py:Imu, or the file "
            f"of a schema (FILE.json), ndarray or bytes{reasons}"
        ) from None


def _problems(topic: str, domain: str | None) -> tuple[zs.Problem, ...]:
    """What is there and cannot be read."""
    try:
        return zs.inspect(topic, domain).problems
    except zs.TopicNotFoundError:
        return ()
