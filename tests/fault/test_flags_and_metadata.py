"""Corrupt flags, sizes, metadata and payloads of samples: an error of the package, or a right answer."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from tests.process.actors import Cast
from tests.unit.control_bytes import ControlBytes
from zeroslot import CorruptSegmentError, Metadata

METADATA_SIZE = 584
SIZE_AT, FLAGS_AT, CRC_AT = 16, 32, 36
GIVEN = Metadata("image/jpeg", "cam0", "größe")


class Image(zs.Sample):
    number: zs.U32 = 0
    pixels: Annotated[NDArray[np.uint8], zs.Shape(30)] = np.zeros(30, "u1")


PUBLISHER = """
import zeroslot as zs
from tests.fault.test_flags_and_metadata import GIVEN, Image

pub = zs.Publisher("t", Image, metadata=True, crc=True, depth=args[0], spare_slots=1, max_loans=1)
say(str(pub.flink))
for count in orders():
    for number in range(count):
        pub.publish(Image(number=number), metadata=GIVEN)
    say(pub.sequence)
"""


def start(cast: Cast, depth: int) -> tuple[ControlBytes, ControlBytes, zs.Subscriber[Image]]:
    """A publisher in another process with one sample, and a subscriber here that has not taken it."""
    publisher = cast(PUBLISHER, depth)
    flink = publisher.hear()
    sub = zs.Subscriber("t", Image)
    publisher.ask(1)
    return ControlBytes(flink), ControlBytes(flink, pool=0), sub


@pytest.mark.row("SUB-13", "BUF-2")
def test_metadata_crosses_processes_and_survives_every_flipped_byte(cast: Cast) -> None:
    """Each byte of it, with several masks: another Metadata within the limits, or CorruptSegmentError."""
    control, pool, sub = start(cast, 1)
    with sub:
        lease = sub.take()
        assert lease is not None
        assert lease.metadata == GIVEN
        slot = control.read(control.ring_at(1), "Q") & 0xFFFF
        begin = slot * control.read(control.at("pools"), "Q") + 40  # 34 bytes of payload, rounded up
        refused = 0
        for at in range(begin, begin + METADATA_SIZE):
            before = pool.read(at, "B")
            for mask in (0xFF, 0x01, 0x80):
                pool.write(at, "B", before ^ mask)
                try:
                    found = lease.metadata
                except CorruptSegmentError:
                    refused += 1
                else:
                    assert found is not None
                    assert len(found.content_type.encode()) <= 32
                    assert len(found.producer.encode()) <= 32
                    assert len(found.user if isinstance(found.user, bytes) else found.user.encode()) <= 512
            pool.write(at, "B", before)
        assert refused > 20
        assert lease.metadata == GIVEN


@pytest.mark.row("SUB-13", "SUB-22")
@pytest.mark.parametrize("flags", [1, 2, 4, 0x80000002, 0xFFFFFFFF])
def test_a_flag_that_cannot_be_gives_no_bytes_from_elsewhere(cast: Cast, flags: int) -> None:
    """Flags of samples that have neither: no metadata, zeros of the slot, or CorruptSegmentError."""
    with zs.Publisher("plain", Image) as pub, zs.Subscriber("plain", Image) as sub:
        pub.publish(Image(number=1))
        control = ControlBytes(pub.flink)
        control.write(control.slot_of(1) + FLAGS_AT, "I", flags)
        lease = sub.take()
        assert lease is not None
        if flags & 2:
            with pytest.raises(CorruptSegmentError, match="no room for metadata"):
                lease.metadata  # noqa: B018  # the property raises
        else:
            assert lease.metadata is None
        if flags & 1:
            with pytest.raises(CorruptSegmentError, match="sample 1 has CRC"):
                lease.verify()
        else:
            assert lease.verify() is False


@pytest.mark.row("SUB-13")
def test_a_size_that_leaves_no_room_for_metadata_is_an_error(cast: Cast) -> None:
    """Any size that the slot allows: the block never begins where it would leave the slot."""
    control, _, sub = start(cast, 4)
    capacity = control.read(control.at("pools"), "Q")
    with sub:
        entry = control.slot_of(1)
        for size in (capacity, capacity - METADATA_SIZE + 1):
            control.write(entry + SIZE_AT, "Q", size)
            with zs.Subscriber("t", Image, history=1) as other:
                lease = other.take()
                assert lease is not None
                with pytest.raises(CorruptSegmentError, match="no room for metadata"):
                    lease.metadata  # noqa: B018  # the property raises
        control.write(entry + SIZE_AT, "Q", capacity - METADATA_SIZE)
        with zs.Subscriber("t", Image, history=1) as other:
            lease = other.take()
            assert lease is not None
            with pytest.raises(CorruptSegmentError, match="sizes that cannot be"):
                lease.metadata  # noqa: B018  # it begins in the middle of a text


@pytest.mark.row("SUB-22")
def test_every_flipped_byte_of_a_payload_is_found(cast: Cast) -> None:
    """A subscriber with verify=True never gives such a sample out, and a good one always."""
    control, pool, sub = start(cast, 1)
    slot = control.read(control.ring_at(1), "Q") & 0xFFFF
    begin = slot * control.read(control.at("pools"), "Q")
    entry = control.slot_of(1)
    places = [(pool, begin + at) for at in range(34)] + [(control, entry + CRC_AT + at) for at in range(4)]
    sub.close()
    for file, at in [*places, (control, entry + FLAGS_AT)]:
        before = file.read(at, "B")
        file.write(at, "B", before ^ 0x01)
        with zs.Subscriber("t", Image, history=1, verify=True) as other:
            with pytest.raises(CorruptSegmentError, match="t: sample 1 has"):
                other.take()
            assert other.take() is None
            assert (other.stats.taken, other.stats.corrupt, other.stats.leases) == (1, 1, 0)
        file.write(at, "B", before)
        with zs.Subscriber("t", Image, history=1, verify=True) as other:
            assert other.take() is not None
