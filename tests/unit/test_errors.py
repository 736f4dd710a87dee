"""Errors: a builtin base each, facts as attributes, and a way through pickle."""

from __future__ import annotations

import copy
import errno
import inspect
import pickle

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
    "OutOfSharedMemoryError": OSError,
    "ClosedError": ValueError,
    "OwnerGoneError": ConnectionError,
    "ForkedHandleError": RuntimeError,
    "CorruptSegmentError": RuntimeError,
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
def test_facts_that_the_raiser_did_not_know_are_empty(error_type):
    """A handler may look at every declared fact of every error."""
    error = error_type("text")
    for kind in error_type.__mro__:
        for name in inspect.get_annotations(kind):
            assert getattr(error, name) in {None, "", ()}


def test_out_of_shared_memory_is_enospc():
    """Code that looks at errno sees a full device, and the text stays ours."""
    error = pickle.loads(pickle.dumps(OutOfSharedMemoryError("no room", needed_bytes=9, free_bytes=8)))
    assert (error.errno, error.needed_bytes, error.free_bytes) == (errno.ENOSPC, 9, 8)
    assert str(error) == "no room"


def test_facts_are_attributes():
    """A program reads numbers, not text."""
    with pytest.raises(ValueError, match="too large") as caught:
        raise SampleTooLargeError("too large", size=9, capacity=8)
    assert (caught.value.size, caught.value.capacity) == (9, 8)
