"""Errors: a builtin base each, facts as attributes, and a way through pickle."""

from __future__ import annotations

import ast
import copy
import errno
import inspect
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from zeroslot import errors
from zeroslot.errors import OutOfSharedMemoryError, SampleTooLargeError, ZeroslotError

BUILTIN_BASES = {
    "DeclarationError": TypeError,
    "TopicNameError": ValueError,
    "TopicNotFoundError": LookupError,
    "MismatchError": ValueError,
    "TypeMismatchError": ValueError,
    "QosMismatchError": ValueError,
    "FormatError": ValueError,
    "NoFreeSlotError": RuntimeError,
    "SampleTooLargeError": ValueError,
    "BackpressureError": TimeoutError,
    "EvictedError": RuntimeError,
    "TooManyPeersError": RuntimeError,
    "TooManyLeasesError": RuntimeError,
    "SampleGoneError": LookupError,
    "OutOfSharedMemoryError": OSError,
    "ClosedError": ValueError,
    "OwnerGoneError": ConnectionError,
    "ForkedHandleError": RuntimeError,
    "CorruptSegmentError": RuntimeError,
}
PACKAGE = Path(errors.__file__).parent
# What every raise of these has to tell. The native handles know no topic.
REQUIRED = {
    "TopicNameError": {"topic"},
    "MismatchError": {"topic"},
    "TypeMismatchError": {"topic", "here_type"},
    "QosMismatchError": {"topic", "setting", "requested", "offered"},
    "FormatError": {"where"},
    "NoFreeSlotError": {"topic", "slot_count", "loaned"},
    "SampleTooLargeError": {"size", "capacity"},
    "BackpressureError": {"topic"},
    "TooManyPeersError": {"topic", "max_subscribers", "peers"},
    "TooManyLeasesError": {"held", "max_leases"},
    "SampleGoneError": {"publisher_id", "sequence"},
    "OutOfSharedMemoryError": {"needed_bytes", "free_bytes"},
    "OwnerGoneError": {"topic"},
}
EITHER = {
    "TopicNotFoundError": {"topic", "flink"},
    "BackpressureError": {"holders", "waiting"},
    "CorruptSegmentError": {"where", "field", "found"},
}
EVERY_ERROR = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, ZeroslotError)]


def test_every_error_has_its_builtin_base():
    """`except TimeoutError` and its kin catch what their author expects, and no error is without such a base."""
    found = {each.__name__ for each in EVERY_ERROR} - {"ZeroslotError"}
    assert found == BUILTIN_BASES.keys()
    for name, base in BUILTIN_BASES.items():
        assert issubclass(getattr(errors, name), base)


@pytest.mark.parametrize("error_type", EVERY_ERROR)
def test_pickle_keeps_type_text_and_facts(error_type):
    """An error that crosses a process boundary says the same on the other side."""
    facts = {name: f"fact {name}" for kind in error_type.__mro__ for name in inspect.get_annotations(kind)}
    error = error_type("what, where, what to do", **facts)
    error.add_note("seen in passing")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is error_type
        assert str(again) == "what, where, what to do"
        assert {name: getattr(again, name) for name in facts} == facts
        assert again.__notes__ == ["seen in passing"]


@pytest.mark.parametrize("error_type", EVERY_ERROR)
def test_unknown_facts_are_none_or_empty(error_type):
    """A handler may look at every declared fact of every error."""
    error = error_type("text")
    for kind in error_type.__mro__:
        for name in inspect.get_annotations(kind):
            assert getattr(error, name) in {None, "", ()}


def test_out_of_shared_memory_is_enospc():
    """Code that looks at errno sees a full device, and the text is that of the package."""
    error = pickle.loads(pickle.dumps(OutOfSharedMemoryError("no room", needed_bytes=9, free_bytes=8)))
    assert (error.errno, error.needed_bytes, error.free_bytes) == (errno.ENOSPC, 9, 8)
    assert str(error) == "no room"


def test_facts_are_attributes():
    """A program reads numbers, not text."""
    with pytest.raises(ValueError, match="too large") as caught:
        raise SampleTooLargeError("too large", size=9, capacity=8)
    assert (caught.value.size, caught.value.capacity) == (9, 8)


def test_an_undeclared_fact_is_a_type_error():
    """A fact with a wrong name would never be found."""
    with pytest.raises(TypeError, match="'got'"):
        errors.FormatError("text", got=3, expected=4)
    with pytest.raises(TypeError, match="'args'"):
        ZeroslotError("text", args=())


def made_in_python() -> Iterator[tuple[str, str, set[str]]]:
    """Where an error is made, of which class, with which facts."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                called = node.func
                name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
                if name in BUILTIN_BASES:
                    yield f"{path.name}:{node.lineno}", name, {str(each.arg) for each in node.keywords}


def made_in_cython() -> Iterator[tuple[str, str, set[str]]]:
    """The same of the binding: the names before `=` outside of brackets and strings."""
    for path in sorted([*(PACKAGE / "_core").glob("*.pyx"), *(PACKAGE / "_core").glob("*.pxi")]):
        source = path.read_text("utf-8")
        for match in re.finditer(r"errors\.(\w+Error)\(", source):
            text = re.sub(r'f?"(?:[^"\\\n]|\\.)*"', "", source[match.end() :])
            depth, end = 1, 0
            while depth:
                depth += {"(": 1, ")": -1}.get(text[end], 0)
                end += 1
            line = source[: match.start()].count("\n") + 1
            yield f"{path.name}:{line}", match[1], set(re.findall(r"(?:^|[\s,(])(\w+)\s?=(?!=)", text[: end - 1]))


MADE = [*made_in_python(), *made_in_cython()]


@pytest.mark.parametrize(("where", "name", "facts"), MADE, ids=[f"{where}-{name}" for where, name, _ in MADE])
def test_every_raise_gives_declared_facts(where, name, facts):
    """None but the declared, and those that each of its class has to tell."""
    assert facts <= errors.declared_facts(getattr(errors, name))
    assert REQUIRED.get(name, set()) <= facts
    assert not EITHER.get(name) or EITHER[name] & facts


def test_the_raises_are_found():
    """The test above does not look at nothing."""
    assert len(MADE) > 60
    assert {name for _, name, _ in MADE} == BUILTIN_BASES.keys()
    assert ("FormatError", {"where", "found", "expected"}) in [each[1:] for each in made_in_cython()]
