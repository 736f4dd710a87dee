"""`zeroslot schema`: what the samples of a topic are, from the segments of its live publishers."""

from __future__ import annotations

import json
import sys
from typing import Any, Literal

import numpy as np

import zeroslot as zs
from zeroslot.cli.declaration import source_of
from zeroslot.cli.figures import as_json
from zeroslot.cli.topics import print_problems

Language = Literal["idl", "c", "dtype", "json", "python"]


def print_schema(topic: str, domain: str | None, language: Language, *, json_output: bool) -> int:
    """Print the type of a topic's publishers; where they differ, that of the first, and stderr names the others.

    1: none of them can be read. Raises TopicNotFoundError.
    """
    facts = zs.inspect(topic, domain)
    found: dict[str, tuple[zs.PublisherInfo, zs.Layout]] = {}  # type hash -> the first publisher of it
    problems = [f"{problem.kind}: {problem.where}: {problem.text}" for problem in facts.problems]
    for publisher in facts.publishers:
        if publisher.type_hash in found:
            continue
        try:
            found[publisher.type_hash] = publisher, zs.schema_of(topic, domain, publisher_id=publisher.publisher_id)
        except (zs.ZeroslotError, OSError) as error:
            if not problems:
                problems.append(str(error))
    if json_output:
        types = [_as_object(publisher, layout, language) for publisher, layout in found.values()]
        print(as_json({"topic": topic, "domain": facts.domain, "types": types, "problems": problems}))
        return int(not found)
    print_problems(facts.problems, file=sys.stderr)
    if not found:
        reason = "publisher that can be read" if facts.problems else "publisher of typed samples"
        print(f"zeroslot: {topic} has no {reason}", file=sys.stderr)
        return 1
    ((first, layout), *others) = found.values()
    print(text_of(layout, language).rstrip("\n"))
    for publisher, other in others:
        print(
            f"zeroslot: this is the type of {first.name} (pid {first.pid}). {publisher.name} (pid {publisher.pid}) "
            f"publishes another {other.name}, {publisher.type_hash[:8]}; --json has them all",
            file=sys.stderr,
        )
    return 0


def text_of(layout: zs.Layout, language: Language) -> str:
    """A type in a language. Of "python" and "dtype" it can be run."""
    match language:
        case "idl":
            return layout.to_idl()
        case "c":
            return layout.to_c()
        case "json":
            return as_json(layout.to_json_schema())
        case "dtype":
            return dtype_source(layout.dtype)
        case "python":
            return source_of(zs.type_from_schema(layout))


def _as_object(publisher: zs.PublisherInfo, layout: zs.Layout, language: Language) -> dict[str, Any]:
    text = text_of(layout, language)
    return {
        "name": layout.name,
        "type_hash": publisher.type_hash,
        "size_bytes": layout.size,
        "publisher_id": publisher.publisher_id,
        "as": language,
        "schema": json.loads(text) if language == "json" else text,
    }


def dtype_source(dtype: np.dtype[Any], indent: str = "") -> str:
    """A dtype as an expression of Python, with the offset and size of each field."""
    if dtype.names is None:
        if dtype.subdtype is None:
            return repr(dtype.str.lstrip("|"))
        base, shape = dtype.subdtype
        return f"({dtype_source(base, indent)}, {shape})"
    inner = indent + "    "
    fields: list[Any] = [field for name, field in (dtype.fields or {}).items() if name in dtype.names]
    formats = ",\n".join(f"{inner}    {dtype_source(field[0], inner + '    ')}" for field in fields)
    lines = [
        "np.dtype({" if not indent else "{",
        f'{inner}"names": {list(dtype.names)},',
        f'{inner}"formats": [\n{formats},\n{inner}],' if fields else f'{inner}"formats": [],',
        f'{inner}"offsets": {[field[1] for field in fields]},',
        f'{inner}"itemsize": {dtype.itemsize},',
        indent + ("})" if not indent else "}"),
    ]
    return "\n".join(lines)
