"""What a publisher says of one sample besides its fields: metadata, and a checksum."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from tests.taking import taken
from zeroslot import ClosedError, CorruptSegmentError, Metadata, Publisher, QosMismatchError, Subscriber, layout_of


class Image(zs.Sample):
    number: zs.U32 = 0
    pixels: Annotated[NDArray[np.uint8], zs.Shape(3)] = np.zeros(3, "u1")


class Large(zs.Sample):
    pixels: Annotated[NDArray[np.uint8], zs.Shape(100_000)]


@pytest.fixture
def pub() -> Iterator[Publisher[Image]]:
    with Publisher("image", Image, metadata=True, depth=2) as made:
        yield made


@pytest.fixture
def sub(pub: Publisher[Image]) -> Iterator[Subscriber[Image]]:
    with Subscriber("image", Image, max_leases=8) as made:
        yield made


# --- metadata ---


@pytest.mark.row("SUB-13", "SUB-21", "BUF-2")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"content_type": "image/jpeg", "producer": "cam0", "user": b"\x00\xff"},
            Metadata("image/jpeg", "cam0", b"\x00\xff"),
        ),
        ({"user": "größe"}, Metadata("", "", "größe")),
        ({}, Metadata("", "", b"")),
        (
            {"content_type": "x" * 32, "producer": "ä" * 16, "user": b"y" * 512},
            Metadata("x" * 32, "ä" * 16, b"y" * 512),
        ),
        ({"user": bytearray(b"abc")}, Metadata("", "", b"abc")),
        ({"user": np.arange(3, dtype="u1")}, Metadata("", "", b"\0\1\2")),
        (Metadata("a", "b", "c"), Metadata("a", "b", "c")),
    ],
)
def test_metadata_arrives_as_it_was_given(
    pub: Publisher[Image], sub: Subscriber[Image], given: Any, expected: Metadata
) -> None:
    """With publish and with a loan; text stays text, bytes stay bytes."""
    pub.publish(Image(number=7), metadata=given)
    loan = pub.loan()
    loan.metadata = given
    assert loan.metadata == expected
    loan.commit()
    first, second = taken(sub), taken(sub)
    assert first.metadata == second.metadata == expected
    assert first.sample.number == 7
    assert pickle.loads(pickle.dumps(first.metadata)) == expected


@pytest.mark.row("SUB-13")
def test_a_sample_without_metadata_has_none(pub: Publisher[Image], sub: Subscriber[Image]) -> None:
    """Also in a slot whose last sample had some, and where it was taken back or its loan discarded."""
    for _ in range(2 * pub.slot_count):
        pub.publish(Image(), metadata={"producer": "cam0"})
    pub.loan().discard()
    discarded = pub.loan()
    discarded.metadata = {"producer": "cam1"}
    discarded.discard()
    for _ in range(2 * pub.slot_count):
        while sub.take() is not None:
            pass
        loan = pub.loan()
        assert loan.metadata is None
        loan.metadata = {"producer": "cam2"}
        loan.metadata = None
        loan.commit()
        assert taken(sub).metadata is None


@pytest.mark.row("SUB-13")
@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"content_type": "x" * 33}, ValueError, "content_type has 33 bytes"),
        ({"producer": "ä" * 17}, ValueError, "producer has 34 bytes"),
        ({"user": b"x" * 513}, ValueError, "user has 513 bytes"),
        ({"producer": b"cam0"}, TypeError, "producer is a str, not bytes"),
        ({"content_type": None}, TypeError, "content_type is a str, not NoneType"),
        ({"user": 7}, TypeError, "user is a str or bytes, not int"),
        ({"frame": "cam0"}, ValueError, "not 'frame'"),
        (7, TypeError, "int"),
    ],
)
def test_what_is_no_metadata_is_refused_and_nothing_published(
    pub: Publisher[Image], sub: Subscriber[Image], given: Any, error: type[Exception], text: str
) -> None:
    """The error names the value, and the slot goes back."""
    with pytest.raises(error, match=text):
        pub.publish(Image(), metadata=given)
    loan = pub.loan()
    with pytest.raises(error, match=text):
        loan.metadata = given
    assert loan.metadata is None
    loan.discard()
    assert (pub.sequence, sub.take()) == (0, None)
    assert pub.allocator.loan_count == 0


@pytest.mark.row("SUB-13")
def test_a_publisher_has_room_for_metadata_only_where_it_was_asked_for() -> None:
    """Without `metadata=True` its slots have the sample's size, and setting it says what to do."""
    with Publisher("plain", Image) as pub, Publisher("more", Image, metadata=True) as more:
        assert pub.allocator.slot_capacity == 128
        assert more.allocator.slot_capacity == 640
        loan = pub.loan()
        assert loan.metadata is None
        with pytest.raises(ValueError, match="Create it with metadata=True"):
            loan.metadata = {}
        with pytest.raises(ValueError, match="Create it with metadata=True"):
            pub.publish(Image(), metadata={})
        assert pub.sequence == 0


def test_metadata_is_read_and_set_while_the_handle_is_open(pub: Publisher[Image], sub: Subscriber[Image]) -> None:
    """After the commit, the discard and the release it is a ClosedError."""
    loan = pub.loan()
    loan.commit()
    with pytest.raises(ClosedError):
        loan.metadata = {}
    with pytest.raises(ClosedError):
        loan.metadata  # noqa: B018  # the property raises
    lease = taken(sub)
    lease.release()
    with pytest.raises(ClosedError):
        lease.metadata  # noqa: B018  # the property raises
    with pytest.raises(ClosedError):
        lease.verify()
    with pytest.raises(AttributeError):
        lease.metadata = {}  # type: ignore[misc]  # it cannot be set


def test_the_metadata_of_one_loan_is_not_that_of_another(sub: Subscriber[Image], pub: Publisher[Image]) -> None:
    """Each loan that is out has its own."""
    first, second = pub.loan(), pub.loan()
    first.metadata = {"producer": "first"}
    second.metadata = {"producer": "second"}
    second.commit()
    first.commit()
    assert [taken(sub).metadata, taken(sub).metadata] == [Metadata("", "second", b""), Metadata("", "first", b"")]


# --- CRC ---


@pytest.mark.row("SUB-22")
@pytest.mark.parametrize("sample_type", [Image, Large])
def test_samples_with_a_crc_are_verified(sample_type: type[Any]) -> None:
    """The publisher computes it at each commit, and a subscriber with verify=True takes what has it."""
    size = layout_of(sample_type).dtype["pixels"].shape
    with (
        Publisher("crc", sample_type, crc=True) as pub,
        Subscriber("crc", sample_type, verify=True) as sub,
        Subscriber("crc", sample_type) as other,
    ):
        for number in range(3):
            pub.publish(sample_type(pixels=np.full(size, number, "u1")))
            lease = taken(sub)
            assert lease.verify() is True
            assert lease.sample.pixels[-1] == number
            assert taken(other).verify() is True
        assert sub.stats.corrupt == 0


@pytest.mark.row("SUB-22", "OBS-3")
@pytest.mark.parametrize("sample_type", [Image, Large])
def test_a_sample_that_changed_after_its_commit_is_passed_over(sample_type: type[Any]) -> None:
    """CorruptSegmentError with topic and sequence; it counts as taken and as corrupt, and the next one is taken."""
    size = layout_of(sample_type).dtype["pixels"].shape
    with (
        Publisher("crc", sample_type, crc=True) as pub,
        Subscriber("crc", sample_type, verify=True, max_leases=1) as sub,
        Subscriber("crc", sample_type) as other,
    ):
        for number in range(3):
            loan = pub.loan()
            late = loan.sample.pixels[:]  # a slice that outlives the commit
            late[:] = np.full(size, 1, "u1")
            loan.commit()
            late[-1] += number == 1
        assert taken(sub).verify()
        with pytest.raises(CorruptSegmentError, match="crc: sample 2 has CRC") as caught:
            sub.take()
        assert caught.value.topic == "crc"
        assert caught.value.found != caught.value.expected
        del caught
        assert taken(sub).sequence == 3
        assert (sub.stats.taken, sub.stats.lost, sub.stats.corrupt) == (3, 0, 1)
        assert taken(other).verify()
        lease = taken(other)
        with pytest.raises(CorruptSegmentError, match="sample 2"):
            lease.verify()
        assert lease.sample.pixels[-1] == 2  # it did not ask for the check


@pytest.mark.row("SUB-22")
def test_a_publisher_without_crc_cannot_be_verified() -> None:
    """A subscriber with verify=True refuses it; `verify` of a lease says that there is none."""
    with Publisher("none", Image) as pub, Subscriber("none", Image) as sub:
        with pytest.raises(QosMismatchError, match="Create the publisher with crc=True") as caught:
            Subscriber("none", Image, verify=True)
        assert (caught.value.setting, caught.value.requested, caught.value.offered) == ("verify", True, False)
        pub.publish(Image())
        assert taken(sub).verify() is False


@pytest.mark.row("SUB-22", "SUB-13")
def test_a_crc_covers_the_payload_and_not_the_metadata() -> None:
    """Both at once; the sizes of stats and leases are those of the payload."""
    with (
        Publisher("both", Image, crc=True, metadata=True) as pub,
        Subscriber("both", Image, verify=True, max_leases=2) as sub,
    ):
        pub.publish(Image(), metadata={"user": b"1"})
        pub.publish(Image(), metadata={"user": b"2"})
        leases = [taken(sub), taken(sub)]
        assert [lease.metadata.user for lease in leases if lease.metadata is not None] == [b"1", b"2"]
        assert {lease.size for lease in leases} == {layout_of(Image).size}
        assert pub.stats.bytes == 2 * layout_of(Image).size
