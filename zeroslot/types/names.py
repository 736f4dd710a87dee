"""The names of fields, enumerators and types: which are allowed, and what Python calls those that it cannot say."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterable

NAME_LIMIT = 255  # characters of the name of a field or an enumerator
TYPE_NAME_LIMIT = 1000


def is_name(name: str) -> bool:
    """Whether a field or enumerator may have this name in memory: C and IDL can say it, each escaping its keywords.
    A leading underscore is for padding.
    """
    return name.isascii() and name.isidentifier() and len(name) <= NAME_LIMIT and not name.startswith("_")


def is_identifier(name: str) -> bool:
    """Whether Python can say this name, too."""
    return is_name(name) and not keyword.iskeyword(name)


def is_type_name(name: str) -> bool:
    """Whether a sample type or an enum may be called this. It means nothing in memory."""
    return name.isprintable() and 0 < len(name) <= TYPE_NAME_LIMIT


def python_names(names: Iterable[str], allowed: Callable[[str], bool]) -> dict[str, str]:
    """What Python calls each of these names of a foreign declaration: the same where it is allowed, otherwise with
    underscores appended until the name is allowed and free.
    """
    wanted = list(names)
    taken = {name for name in wanted if allowed(name)}
    found: dict[str, str] = {}
    for name in wanted:
        new = name
        while not allowed(new) or (new != name and new in taken):
            new += "_"
        taken.add(new)
        found[name] = new
    return found
