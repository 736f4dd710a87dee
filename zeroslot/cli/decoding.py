"""Samples as people and programs read them: plain values for JSON, lines of text, and the columns of CSV.

Why JSON is made here and not by `model_dump_json`: what is left out (`--no-arr`) or cut (`--truncate-length`) must not
be converted first, as a frame of 6 MB is a list of six million numbers. Without these options both give the same.
"""

from __future__ import annotations

import base64
import enum
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import zeroslot as zs
from zeroslot.cli.expression import WHOLE
from zeroslot.cli.table import CYAN, DIM, printable, styled

CUT = "…"
FLAT_ARRAY = 32  # elements of an array of fixed shape that get a column each


@dataclass(frozen=True, slots=True)
class Form:
    """How much of a value is shown. `arrays`: the items of arrays and lists, or only what they are. `limit`: the most
    items of an array or list, and the most characters or bytes; None: all.
    """

    arrays: bool = True
    limit: int | None = None


# --- plain values


def plain(value: Any, form: Form) -> Any:
    """A value as JSON can say it, and as `pub` reads it."""
    if isinstance(value, enum.Enum):
        return value.value
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, (float, np.generic)) and not isinstance(value, np.void):
        return _plain_number(value)
    if isinstance(value, str):
        return _cut_text(value, form.limit)
    if isinstance(value, (bytes, memoryview)):
        data = bytes(value[: form.limit])
        return _base64(data) + (CUT if len(data) < len(value) else "")
    if isinstance(value, np.ndarray):
        return _plain_array(value, form)
    if isinstance(value, Mapping):
        return {name: plain(each, form) for name, each in value.items()}
    if isinstance(value, (zs.View, zs.Sample)):
        return {name: plain(each, form) for name, each in fields_of(value)}
    if isinstance(value, np.void):
        return _plain_array(np.asarray(value), form)
    if not form.arrays:
        return description_of(value)
    items = [plain(each, form) for each in value[: form.limit]]
    return [*items, CUT] if len(items) < len(value) else items


def fields_of(value: Any) -> Iterator[tuple[str, Any]]:
    """The fields of a sample, or of one that is nested in it."""
    yield from value


def whole_sample(sample: Any) -> Any:
    """A sample of np.ndarray or bytes as the fields that JSON has of it."""
    if isinstance(sample, np.ndarray):
        return {"dtype": dtype_text(sample.dtype), WHOLE: sample}
    return {WHOLE: sample} if isinstance(sample, (bytes, memoryview)) else sample


def dtype_text(dtype: np.dtype[Any]) -> Any:
    """A dtype as JSON: its name, or a list of name, dtype and shape of each field, without the padding."""
    if dtype.names is None:
        return dtype.str.lstrip("|")
    fields = [(name, dtype[name]) for name in dtype.names]
    return [[name, dtype_text(of.base), *([list(of.shape)] if of.shape else [])] for name, of in fields]


def description_of(value: Any) -> str:
    """What an array or a list is, without its items: <uint8[480, 640, 3]>."""
    if isinstance(value, np.ndarray):
        return f"<{_dtype_name(value.dtype)}{list(value.shape)}>"
    return f"<list[{len(value)}]>"


def _dtype_name(dtype: np.dtype[Any]) -> str:
    return f"({', '.join(dtype.names)})" if dtype.names is not None else dtype.name


def _plain_number(value: Any) -> Any:
    number = value.item() if isinstance(value, np.generic) else value
    if isinstance(number, np.generic):  # a longdouble or clongdouble, for which Python has no number
        number = complex(number) if isinstance(number, np.complexfloating) else float(number)
    if isinstance(number, bytes):
        return _base64(number)
    if isinstance(number, complex):
        return [_plain_number(number.real), _plain_number(number.imag)]
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return int(value.view("i8"))
    if isinstance(number, float) and not math.isfinite(number):
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    return number


def _plain_array(array: np.ndarray[Any, Any], form: Form) -> Any:
    if not form.arrays and array.ndim:
        return description_of(array)
    if form.limit is not None and array.size > form.limit:
        shown = array.reshape(-1)[: form.limit] if array.flags.c_contiguous else array.ravel()[: form.limit]
        return [*_plain_array(shown, Form()), CUT]
    if array.dtype.names is not None:
        columns = {name: _plain_array(array[name], form) for name in array.dtype.names}
        return _records(columns, array.shape)
    if array.dtype.kind in "SV" or array.dtype.char in "gG":
        return _named(array.tolist())
    if array.dtype.kind == "c":
        pairs = np.ascontiguousarray(array).view(array.real.dtype).reshape(*array.shape, 2)
        return _plain_array(pairs, form)
    if array.dtype.kind in "mM":
        return np.asarray(array).view("i8").tolist()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return _named(array.tolist())
    return array.tolist()


def _records(columns: dict[str, Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return columns
    return [_records({name: column[i] for name, column in columns.items()}, shape[1:]) for i in range(shape[0])]


def _named(value: Any) -> Any:
    return [_named(each) for each in value] if isinstance(value, list) else _plain_number(value)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


def _cut_text(text: str, limit: int | None) -> str:
    return text if limit is None or len(text) <= limit else text[:limit] + CUT


# --- text


def lines_of_value(name: str, value: Any, form: Form, indent: str = "") -> Iterator[str]:
    """A field as lines of text. Almost YAML: names, colons, indented fields of nested samples."""
    head = indent + styled(f"{printable(name)}:", CYAN)
    if isinstance(value, (zs.View, zs.Sample)):
        yield head
        for inner, each in fields_of(value):
            yield from lines_of_value(inner, each, form, indent + "  ")
    elif _is_list_of_samples(value) and form.arrays:
        yield head if len(value) else f"{head} []"
        for each in value[: form.limit]:
            yield from _lines_of_item(each, form, indent + "  ")
        if form.limit is not None and len(value) > form.limit:
            yield indent + "  " + styled(f"{CUT} {len(value)} in all", DIM)
    else:
        yield f"{head} {text_of(value, form)}"


def _lines_of_item(value: Any, form: Form, indent: str) -> Iterator[str]:
    first = True
    for name, each in fields_of(value):
        for line in lines_of_value(name, each, form, indent + "  "):
            yield f"{indent}- {line[len(indent) + 2 :]}" if first else line
            first = False


def _is_list_of_samples(value: Any) -> bool:
    if isinstance(value, (np.ndarray, str, bytes, memoryview)) or not hasattr(value, "__len__"):
        return False
    return len(value) == 0 or isinstance(value[0], (zs.View, zs.Sample))


def text_of(value: Any, form: Form) -> str:
    """A value on one line."""
    if isinstance(value, enum.Enum):
        return f"{printable(value.name)} ({value.value})"
    if value is None:
        return styled("none", DIM)
    if isinstance(value, str):
        return printable(json.dumps(_cut_text(value, form.limit), ensure_ascii=False))
    if isinstance(value, (bytes, memoryview)):
        data = bytes(value[: form.limit])
        more = styled(f" {CUT} {len(value)} bytes", DIM) if len(data) < len(value) else ""
        return f"{data!r}{more}"
    if isinstance(value, np.ndarray) and value.ndim:
        return _text_of_array(value, form)
    if isinstance(value, (bool, int, float, np.generic, np.ndarray)):
        return number_text(value)
    if isinstance(value, (zs.View, zs.Sample)):
        return "{" + ", ".join(f"{name}: {text_of(each, form)}" for name, each in fields_of(value)) + "}"
    if not form.arrays:
        return description_of(value)
    items = [text_of(each, form) for each in value[: form.limit]]
    more = styled(f"{CUT} {len(value)} in all", DIM)
    return "[" + ", ".join([*items, more] if len(items) < len(value) else items) + "]"


def number_text(value: Any) -> str:
    """A number as short as it can be said; one that a float32 holds exactly as that says it."""
    if isinstance(value, float) and math.isfinite(value) and abs(value) < 3e38 and float(np.float32(value)) == value:
        return str(np.float32(value))
    return str(value)


def _text_of_array(array: np.ndarray[Any, Any], form: Form) -> str:
    if not form.arrays:
        return description_of(array)
    whole = form.limit is None or array.size <= form.limit
    shown = array if whole else array.ravel()[: form.limit] if array.ndim == 1 else array.reshape(-1)[: form.limit]
    items = _nested_text(shown)
    facts = f" {description_of(array)[1:-1]}"
    return items + styled(facts, DIM) if whole else f"{items[:-1]}, {CUT}]{styled(facts, DIM)}"


def _nested_text(array: Any) -> str:
    if array.ndim == 0:
        return number_text(array[()])
    return "[" + ", ".join(map(_nested_text, map(np.asarray, array))) + "]"


# --- columns


def columns_of(sample: Any, schema: Mapping[str, Any]) -> list[tuple[str, tuple[str | tuple[int, ...], ...]]]:
    """The columns of CSV of a sample with this JSON schema: a title, and the way to the value. A nested sample has
    those of its fields, an array of fixed shape one for each element where these are few, and the rest one each.
    """
    found: list[tuple[str, tuple[str | tuple[int, ...], ...]]] = []
    for (attribute, value), (name, property_) in zip(fields_of(sample), schema["properties"].items(), strict=True):
        facts = property_["x-zeroslot"]
        shape = facts.get("shape", [])
        fixed = facts["kind"] != "list" and all(isinstance(dim, int) for dim in shape)
        if "properties" in property_:
            found += [(f"{name}.{title}", (attribute, *way)) for title, way in columns_of(value, property_)]
        elif shape and fixed and math.prod(shape) <= FLAT_ARRAY:
            for index in np.ndindex(*shape):
                found.append((f"{name}[{','.join(map(str, index))}]", (attribute, index)))
        else:
            found.append((name, (attribute,)))
    return found


def value_at(sample: Any, way: tuple[str | tuple[int, ...], ...]) -> Any:
    """The value of a column."""
    value = sample
    for step in way:
        value = getattr(value, step) if isinstance(step, str) else value[step]
    return value


def cell(value: Any, form: Form) -> str:
    """A value in a cell of CSV: numbers and texts as they are, everything else as JSON."""
    said = plain(value, form)
    return "" if said is None else said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
