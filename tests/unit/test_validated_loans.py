"""`loan(validate=True)`: pydantic validates the sample at the commit, as it validates a model of the class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

import zeroslot as zs


class Point(zs.Sample):
    x: Annotated[zs.F64, Field(ge=0)] = 0.0


class Reading(zs.Sample):
    model_config = ConfigDict(validate_by_name=False, validate_by_alias=True)

    level: Annotated[zs.U64, Field(ge=5, alias="niveau")] = 7
    low: zs.F64 = 0.0
    high: zs.F64 = 1.0
    point: Point = Point()
    points: Annotated[list[Point], zs.MaxLen(3)] = Field(default=[])
    values: Annotated[NDArray[np.float64], zs.Shape(3)]

    @field_validator("values")
    @classmethod
    def _is_finite(cls, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if not np.isfinite(values).all():
            raise ValueError("not finite")
        return values

    @model_validator(mode="after")
    def _is_ordered(self) -> Reading:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


class Growing(zs.Sample):
    text: Annotated[str, Field(pattern="^[a-z]*$")]
    levels: list[zs.U8]


@pytest.fixture
def pub() -> Iterator[zs.Publisher[Reading]]:
    with zs.Publisher("readings", Reading, max_loans=4) as publisher:
        yield publisher


def low_level(reading: Any) -> None:
    reading.level = 4


def crossed(reading: Any) -> None:
    reading.low = 2.0


def negative_point(reading: Any) -> None:
    reading.point.x = -1


def negative_item(reading: Any) -> None:
    zs.resize(reading, points=2)
    reading.points[1].x = -1


def not_finite(reading: Any) -> None:
    reading.values[1] = np.nan


WRONG = [
    (low_level, ("level",)),
    (crossed, ()),
    (negative_point, ("point", "x")),
    (negative_item, ("points", 1, "x")),
    (not_finite, ("values",)),
]


@pytest.mark.parametrize(("write", "where"), WRONG)
def test_a_failure_discards_the_sample_and_names_the_field(
    pub: zs.Publisher[Reading], write: Any, where: tuple[str | int, ...]
) -> None:
    """Whether the block ends or the program commits; the next loan is as before."""
    with zs.Subscriber("readings", Reading) as sub:
        with pytest.raises(ValidationError) as caught, pub.loan(validate=True) as reading:  # noqa: PT012  # its end raises
            reading.values[:] = 0
            write(reading)
        assert caught.value.title == "Reading"
        assert [each["loc"] for each in caught.value.errors()] == [where]
        loan = pub.loan_uninit(validate=True)
        loan.sample.values[:] = 0
        loan.sample.level, loan.sample.point.x, loan.sample.high, loan.sample.low = 7, 0, 1, 0
        write(loan.sample)
        with pytest.raises(ValidationError):
            loan.commit()
        with pytest.raises(zs.ClosedError):
            loan.commit()
        assert (pub.sequence, pub.stats.discarded, pub.allocator.native.loans_out) == (0, 2, 0)
        with pub.loan(validate=True) as reading:
            reading.values[:] = 1
        lease = sub.take()
        assert lease is not None
        assert lease.sample.level == 7


def test_without_it_nothing_is_validated_in_place(pub: zs.Publisher[Reading]) -> None:
    """The default costs nothing, and checks kinds, ranges and bounds of memory alone."""
    for options in ({}, {"validate": False}):
        for write, _ in WRONG:
            with pub.loan(**options) as reading:
                write(reading)
    assert pub.sequence == 2 * len(WRONG)


def test_what_a_validator_returns_is_not_written(pub: zs.Publisher[Reading]) -> None:
    """The sample is checked, and stays as the program wrote it."""

    class Rounded(zs.Sample):
        n: zs.F64

        @field_validator("n")
        @classmethod
        def _round(cls, n: float) -> float:
            return round(n)

    with zs.Publisher("rounded", Rounded) as rounded, zs.Subscriber("rounded", Rounded) as sub:
        with rounded.loan(validate=True) as sample:
            sample.n = 1.5
        lease = sub.take()
        assert lease is not None
        assert lease.sample.n == 1.5


def test_a_batch_is_validated_as_a_whole(pub: zs.Publisher[Reading]) -> None:
    """One sample that fails discards all of them."""
    with pytest.raises(ValidationError), pub.loan_many(3, validate=True) as readings:  # noqa: PT012  # its end raises
        for reading in readings:
            reading.values[:] = 0
        readings[1].level = 1
    assert (pub.sequence, pub.allocator.native.loans_out) == (0, 0)
    with pub.loan_many(3, validate=True) as readings:
        for reading in readings:
            reading.values[:] = 0
    assert pub.sequence == 3


def test_variable_fields_are_validated_too() -> None:
    """Samples of whole types have no validators."""
    with zs.Publisher("growing", Growing, max_bytes=1000) as growing:
        with pytest.raises(ValidationError) as caught, growing.loan(text=3, levels=2, validate=True) as sample:
            sample.text = "A"
        assert caught.value.errors()[0]["loc"] == ("text",)
        with growing.loan(text=3, levels=2, validate=True) as sample:
            sample.text = "a"
        with pytest.raises(TypeError, match="validate is True or False, not 2"):
            growing.loan(validate=2)  # type: ignore[call-overload]  # what is refused
    with zs.Publisher("blobs", bytes, max_bytes=1000) as blobs, pytest.raises(TypeError, match="validate"):
        blobs.loan(10, validate=True)  # type: ignore[call-overload]  # what is refused


def test_what_a_validator_raises_itself_discards_the_sample() -> None:
    """An exception that pydantic passes on leaves no loan behind."""

    class Odd(zs.Sample):
        n: zs.U8 = 0

        @field_validator("n")
        @classmethod
        def _fail(cls, n: int) -> int:
            if n == 1:
                raise LookupError("as it is")
            return n

    with zs.Publisher("odd", Odd) as odd:
        with pytest.raises(LookupError), odd.loan(validate=True) as sample:
            sample.n = 1
        assert (odd.sequence, odd.allocator.native.loans_out) == (0, 0)
