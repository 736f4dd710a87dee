"""Samples from JSON, for `pub`: what `echo --json` prints of a sample, and what a person types.

A sample is an object of its fields. An enumerator may be its number or its name. Bytes are base64; a sample of bytes
may be the text alone. A sample of np.ndarray is nested lists, or an object with "data" and "dtype", which is a name
such as "uint8", or for records a list of name and dtype of each field.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import VERSION, ValidationError

import zeroslot as zs
from zeroslot.cli import CommandError
from zeroslot.cli.expression import WHOLE

Schema = Mapping[str, Any]
UNKNOWN = "extra_forbidden"  # what pydantic calls a field that the type does not have
TELLS_OF_UNKNOWN_FIELDS = tuple(map(int, VERSION.split(".")[:2])) >= (2, 12)


class SampleError(CommandError):
    """What is given is no sample of the type; the text says where and what to give."""


class Encoder:
    """Makes samples of one type from JSON. `fill`: fields that are not given are zero or empty."""

    def __init__(self, sample_type: type[Any], *, fill: bool = False) -> None:
        self.sample_type = sample_type
        self._fill = fill
        self._is_whole = sample_type in (np.ndarray, bytes)
        self._schema: Schema = {} if self._is_whole else zs.layout_of(sample_type).to_json_schema()

    @property
    def type_name(self) -> str:
        """What the type is called."""
        return self.sample_type.__name__

    def sample(self, given: Any) -> Any:
        """A sample from parsed JSON. Raises SampleError."""
        if self._is_whole:
            return array_of(given) if self.sample_type is np.ndarray else _bytes_of(given)
        if not isinstance(given, dict):
            raise SampleError(f"a sample of {self.type_name} is an object of its fields, such as\n{self.template()}")
        value = _with_numbers(given, self._schema, "")
        if self._fill:
            value = _filled(value, self._schema)
        try:
            return self._validated(json.dumps(value))
        except RecursionError as error:
            raise SampleError(f"this is no sample of {self.type_name}: {error}") from None
        except ValidationError as error:
            problems = "\n".join(f"  {_place(each['loc'])}: {_reason(each)}" for each in error.errors())
            text = f"this is no sample of {self.type_name}:\n{problems}"
            kinds = {each["type"] for each in error.errors()}
            if kinds & {"missing", UNKNOWN}:
                advice = "Give all fields, or --fill for zeros. " if "missing" in kinds else ""
                text += f"\n{advice}A whole sample:\n{self.template()}"
            raise SampleError(text) from None

    def _validated(self, text: str) -> Any:
        """A misspelt field would be ignored, and a default published in its place; a class may allow them."""
        if not TELLS_OF_UNKNOWN_FIELDS or self.sample_type.model_config.get("extra") is not None:
            return self.sample_type.model_validate_json(text)
        return self.sample_type.model_validate_json(text, extra="forbid")

    def template(self) -> str:
        """A sample of zeros, as JSON."""
        return json.dumps(zero_of(self._schema), ensure_ascii=False)


def zero_of(schema: Schema) -> Any:
    """The least value that a JSON schema with the facts of zeroslot allows: zeros, empty texts and lists, null."""
    if "anyOf" in schema:
        return None
    if "enum" in schema:
        return 0 if 0 in schema["enum"] else schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: zero_of(each) for name, each in schema["properties"].items()}
        case "array":
            return [zero_of(schema["items"]) for _ in range(schema.get("minItems", 0))] if "items" in schema else []
        case "string":
            return ""
        case "boolean":
            return False
    return 0


def _filled(given: Any, schema: Schema) -> Any:
    if isinstance(given, dict) and schema.get("type") == "object":
        properties = schema["properties"]
        filled = {name: _filled(each, properties.get(name, {})) for name, each in given.items()}
        return {name: zero_of(each) for name, each in properties.items() if name not in given} | filled
    if "anyOf" in schema:
        return _filled(given, schema["anyOf"][0])
    if isinstance(given, list) and "items" in schema:
        return [_filled(each, schema["items"]) for each in given]
    return given


def _with_numbers(given: Any, schema: Schema, where: str) -> Any:
    """The same with the numbers of enumerators in place of their names."""
    if "anyOf" in schema:
        return _with_numbers(given, schema["anyOf"][0], where)
    if isinstance(given, str) and "enum" in schema:
        members = dict(schema["x-zeroslot"]["members"])
        if given not in members:
            raise SampleError(f"{where} has no enumerator {given!r}. There are {', '.join(members)}")
        return members[given]
    if isinstance(given, dict):
        properties = schema.get("properties", {})
        return {
            name: _with_numbers(each, properties.get(name, {}), f"{where}.{name}".lstrip("."))
            for name, each in given.items()
        }
    if isinstance(given, list) and "items" in schema:
        return [_with_numbers(each, schema["items"], f"{where}[{at}]") for at, each in enumerate(given)]
    return given


def _reason(problem: Mapping[str, Any]) -> str:
    return "there is no such field" if problem["type"] == UNKNOWN else str(problem["msg"])


def _place(location: tuple[str | int, ...]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return text.lstrip(".") or "the whole"


# --- samples that are one array, or bytes


def array_of(given: Any) -> np.ndarray[Any, Any]:
    """An array from nested lists, or from an object with "data" and "dtype". Raises SampleError."""
    stated = given if isinstance(given, dict) else {WHOLE: given}
    if WHOLE not in stated or not stated.keys() <= {WHOLE, "dtype"}:
        raise SampleError('an array is nested lists, or {"dtype": "uint8", "data": nested lists}')
    try:
        dtype = _dtype_of(stated["dtype"]) if "dtype" in stated else None
        if dtype is not None and dtype.kind == "c":
            pairs = np.array(stated[WHOLE], np.float64)
            return (pairs[..., 0] + 1j * pairs[..., 1]).astype(dtype)
        if dtype is not None and dtype.kind in "mM":
            return np.array(stated[WHOLE], np.int64).view(dtype)
        if dtype is not None and (dtype.names is not None or dtype.kind in "SV"):
            return np.array(_items_of(stated[WHOLE], dtype), dtype)
        array = np.array(stated[WHOLE], dtype)
    except (TypeError, ValueError, KeyError, IndexError, OverflowError, SyntaxError) as error:
        raise SampleError(f"this is no array: {error}") from None
    if array.dtype.kind not in ("biufc" if dtype is None else "biufcU"):
        raise SampleError("this is no array of numbers")
    return array


def _dtype_of(stated: Any) -> np.dtype[Any]:
    return np.dtype(stated if isinstance(stated, str) else _descr_of(stated))


def _descr_of(stated: Any) -> Any:
    """What JSON made lists of as numpy wants it: tuples of name, dtype and shape."""
    return [
        tuple(
            _descr_of(part) if at == 1 and isinstance(part, list) else tuple(part) if isinstance(part, list) else part
            for at, part in enumerate(field)
        )
        for field in stated
    ]


def _items_of(given: Any, dtype: np.dtype[Any]) -> Any:
    """What JSON has of records and bytes as numpy wants it: tuples, complex numbers, and the bytes."""
    if isinstance(given, list):
        if dtype.kind == "c" and len(given) == 2 and not any(isinstance(part, list) for part in given):
            return complex(*map(float, given))
        return [_items_of(each, dtype) for each in given]
    if dtype.names is not None:
        return tuple(_items_of(given[name], dtype[name].base) for name in dtype.names)
    return _from_base64(given) if dtype.kind in "SV" else given


def _bytes_of(given: Any) -> bytes:
    text = given.get(WHOLE) if isinstance(given, dict) else given
    try:
        return _from_base64(text)
    except TypeError:
        raise SampleError('bytes are a text in base64, or {"data": the text}') from None
    except binascii.Error as error:
        raise SampleError(f"this is no base64: {error}") from None


def _from_base64(text: Any) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"bytes are a text in base64, not {text!r}")
    return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
