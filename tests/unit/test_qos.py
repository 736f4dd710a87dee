"""Counts of a segment: what may be asked for, and what is chosen where nothing is."""

from __future__ import annotations

from typing import Any

import pytest

from zeroslot.arguments import whole_number
from zeroslot.qos import LEAST_SPARE, SPARE_BYTES, Qos, default_spare


def qos(**changes: Any) -> Qos:
    given: dict[str, Any] = {"depth": 8, "max_loans": 2, "spare_slots": 4, "max_subscribers": 64, "on_full": "evict"}
    return Qos(**(given | changes))


@pytest.mark.row("SEG-1")
def test_slot_count_is_the_sum_of_what_is_kept_written_and_read() -> None:
    """Depth + max_loans + spare_slots."""
    assert qos(depth=3, max_loans=2, spare_slots=7).slot_count == 12


@pytest.mark.row("SEG-1")
@pytest.mark.parametrize("name", ["depth", "max_loans", "max_subscribers"])
@pytest.mark.parametrize("value", [0, -1, 2**40])
def test_counts_out_of_range_are_refused_by_name(name: str, value: int) -> None:
    """Zero, negative and huge counts are ValueErrors that say which."""
    with pytest.raises(ValueError, match=name):
        qos(**{name: value})


@pytest.mark.parametrize("value", [1.0, "3", None, True, b"1", [1]])
@pytest.mark.parametrize("name", ["depth", "max_loans", "spare_slots", "max_subscribers"])
def test_counts_that_are_no_whole_numbers_are_type_errors(name: str, value: Any) -> None:
    """A bool is no count either."""
    with pytest.raises(TypeError, match=name):
        qos(**{name: value})


@pytest.mark.row("SEG-1")
def test_more_slots_than_the_format_has_are_refused() -> None:
    """Each count may be in range and the sum not."""
    assert qos(depth=32767, max_loans=1, spare_slots=32767).slot_count == 65535
    with pytest.raises(ValueError, match="spare_slots"):
        qos(depth=32767, max_loans=2, spare_slots=32767)


def test_no_spare_slots_are_a_choice() -> None:
    """spare_slots=0 is allowed: subscribers then hold no more than the depth."""
    assert qos(spare_slots=0).slot_count == 10


@pytest.mark.parametrize("on_full", ["drop", "", None, 3, "EVICT"])
def test_an_unknown_policy_is_refused(on_full: Any) -> None:
    """The text lists the known ones."""
    with pytest.raises(ValueError, match=r"evict.*block.*raise"):
        qos(on_full=on_full)


@pytest.mark.parametrize("on_full", ["block", "raise"])
def test_reliable_policies_need_a_depth_of_the_loans(on_full: str) -> None:
    """Loans that are out would push out what a reliable subscriber still needs."""
    assert qos(depth=2, max_loans=2, on_full=on_full).depth == 2
    with pytest.raises(ValueError, match="max_loans"):
        qos(depth=1, max_loans=2, on_full=on_full)
    assert qos(depth=1, max_loans=2).depth == 1


def test_policies_have_the_numbers_of_the_format() -> None:
    """0 evict, 1 block, 2 raise."""
    assert [qos(on_full=each).config().policy for each in ("evict", "block", "raise")] == [0, 1, 2]


def test_default_spare_shrinks_with_the_sample() -> None:
    """32, fewer so that they fit 16 MiB, at least 4."""
    assert default_spare(0) == default_spare(1) == default_spare(SPARE_BYTES // 32) == 32
    assert default_spare(SPARE_BYTES // 10) == 10
    assert default_spare(SPARE_BYTES) == default_spare(2**40) == LEAST_SPARE


def test_whole_number_gives_back_what_it_accepts() -> None:
    """Both ends of the range belong to it."""
    assert whole_number("n", 1, 1, 3) == 1
    assert whole_number("n", 3, 1, 3) == 3
    with pytest.raises(ValueError, match="n is 4"):
        whole_number("n", 4, 1, 3)
