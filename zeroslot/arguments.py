"""Checks of the arguments that programs give: each error says what the argument is, what was given, and what to write.

Why a bool is no number and a number no bool: `depth=True` and `reliable=2` are mistakes, and Python would take both.
"""

from __future__ import annotations

from math import inf
from numbers import Real
from typing import Any


class FileMode(int):
    """The mode of a file, which shows itself as it is written: `0o600`, where an int shows 384."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"0o{int(self):o}"


PRIVATE = FileMode(0o600)


def whole_number(name: str, value: Any, low: int, high: int) -> int:
    """`value`, or ValueError or TypeError naming it."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a whole number, not {shown(value)}{_advice(name, _as_whole(value))}")
    if not low <= value <= high:
        raise ValueError(f"{name} is {shown(value)}, and has to be from {low} to {high}")
    return value


def checked_seconds(name: str, value: Any) -> float | None:
    """A length of time in seconds, above 0 and below 1e9, or None; ValueError or TypeError naming it."""
    return None if value is None else checked_period(name, value, "seconds or None")


def checked_period(name: str, value: Any, unit: str = "seconds") -> float:
    """A length of time in seconds, above 0 and below 1e9; ValueError or TypeError naming it. `unit`: for the text."""
    seconds = real_number(name, unit, value)
    if not 0 < seconds < 1e9:
        raise ValueError(f"{name} is {shown(value)}, and has to be above 0 and below 1e9")
    return seconds


def checked_spin_us(value: Any) -> float:
    """A number of microseconds, 0 or more; infinity is one. ValueError or TypeError for anything else."""
    microseconds = real_number("spin_us", "microseconds", value)
    if not microseconds >= 0:
        raise ValueError(f"spin_us is {shown(value)}, and has to be 0 or more")
    return microseconds


def checked_flag(name: str, value: Any) -> bool:
    """`value`, or TypeError naming it."""
    if not isinstance(value, bool):
        found = bool(value) if isinstance(value, int) and value in (0, 1) else None
        raise TypeError(f"{name} is True or False, not {shown(value)}{_advice(name, found)}")
    return value


def checked_flags(**flags: object) -> None:
    """The same for several, by their names."""
    for name, value in flags.items():
        checked_flag(name, value)


def checked_name(value: Any) -> str | None:
    """The name of a process, or None; ValueError for one that UTF-8 cannot hold, TypeError for anything else."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"name is a str or None, not {shown(value)}{_advice('name', _as_text(value))}")
    return None if value is None else plain_str("name", value)


def plain_str(name: str, value: str) -> str:
    """This text as a str, where a member of a StrEnum is given for example; ValueError where UTF-8 cannot hold it."""
    text = str.__str__(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} is {shown(text)}, which UTF-8 cannot hold") from None
    return text


def checked_choice(name: str, value: Any, *choices: str) -> None:
    """ValueError where `value` is none of these texts."""
    if not isinstance(value, str) or value not in choices:
        *others, last = [f'"{each}"' for each in choices]
        raise ValueError(f"{name} is {shown(value)}, and has to be {', '.join(others)} or {last}")


def checked_mode(value: Any) -> int:
    """The mode of what a publisher creates: the owner reads and writes, others get nothing. ValueError or TypeError."""
    if isinstance(value, bool) or not isinstance(value, int):
        meant = _mode_in(value) if isinstance(value, str) else None
        raise TypeError(
            f"mode is a number such as 0o600, not {shown(value)}{_advice('mode', PRIVATE if meant is None else meant)}"
        )
    if not _is_mode(value):
        meant = _mode_in(shown(value))
        text = f"mode {value:04o}" if value >= 0 else f"mode {shown(value)}"
        if meant is not None:
            raise ValueError(f"mode {value} is {FileMode(value)!r}: write mode={meant!r}")
        raise ValueError(f"{text}: the owner reads and writes, others get nothing; 0o600, or 0o660 for a group")
    return value


def _is_mode(value: int) -> bool:
    return 0 <= value <= 0o666 and value & 0o600 == 0o600 and not value & 0o007


def _mode_in(text: str) -> FileMode | None:
    """The mode that these digits give when they are read as octal; None: they give no mode that is allowed."""
    try:
        mode = FileMode(int(text, 8))
    except ValueError:
        return None
    return mode if _is_mode(mode) else None


def real_number(name: str, unit: str, value: Any) -> float:
    """`value` as a float, also as an infinite one; TypeError for what is no number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        found = None
        if isinstance(value, str):
            try:
                found = float(value)
            except ValueError:
                found = None
        if found is not None and found.is_integer():
            found = int(found)
        raise TypeError(f"{name} is a number of {unit}, not {shown(value)}{_advice(name, found)}")
    try:
        return float(value)
    except OverflowError:  # beyond all floats
        return inf if value == abs(value) else -inf
    except TypeError:  # numpy calls its times numbers
        raise TypeError(f"{name} is a number of {unit}, not {shown(value)}") from None


def _as_whole(value: Any) -> int | None:
    """The whole number that is written in another way; None: it is none."""
    try:
        if isinstance(value, str):
            return int(value, 0)
        if isinstance(value, float):
            return int(value) if value.is_integer() else None
        return None if isinstance(value, bool) else int(value.__index__())
    except (AttributeError, TypeError, ValueError):
        return None


def _as_text(value: Any) -> str | None:
    try:
        return value.decode() if isinstance(value, bytes) else None
    except UnicodeDecodeError:
        return None


def shown(value: object) -> str:
    """A value in an error."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  # an int of too many digits, or what a program has written itself
        return f"<{type(value).__name__} that cannot be shown>"
    return text if len(text) <= 60 else f"{text[:60]}…"


def _advice(name: str, value: object) -> str:
    """What to write. `value` None: that is not known."""
    if value is None:
        return ""
    return f": write {name}={value!r}" if name.isidentifier() else f": write {value!r}"
