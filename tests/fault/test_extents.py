"""Corrupt extents of variable fields: an error, or a value whose bytes are the sample's, and never other memory."""

from __future__ import annotations

import contextlib
import mmap
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.array_utils import byte_bounds
from numpy.typing import NDArray

import zeroslot as zs
from zeroslot import CorruptSegmentError, Publisher, Subscriber, layout_of


class Item(zs.Sample):
    x: zs.F64 = 0.0
    y: zs.U32 = 0


class Inner(zs.Sample):
    weights: NDArray[np.float32]


class Mixed(zs.Sample):
    image: NDArray[np.uint16]
    anything: NDArray[Any]
    text: str
    blob: bytes
    items: list[Item]
    inner: Inner
    maybe: NDArray[np.uint8] | None = None


SAMPLE = Mixed(
    image=np.arange(600, dtype="u2").reshape(20, 30),
    anything=np.arange(7, dtype="f4"),
    text="text é",
    blob=b"blob",
    items=[Item(x=1.0, y=2)] * 3,
    inner=Inner(weights=np.ones(5)),
    maybe=np.full(9, 7, "u1"),
)
OFFSETS = {field.name: field.offset for field in layout_of(Mixed).members}
HEAD = layout_of(Mixed).size


class Spoiled:
    """A lease of SAMPLE, and the bytes of its slot, which a process of the same user can write."""

    def __init__(self, pub: Publisher[Mixed], lease: zs.Lease[Mixed]) -> None:
        self.lease = lease
        self.view: Any = lease.sample
        self.good = bytes(lease)
        self.start = lease.array().__array_interface__["data"][0]
        name = pub.flink.read_text().strip("/")
        with Path(f"/dev/shm/{name}-p0").open("r+b") as pool:
            self.memory = mmap.mmap(pool.fileno(), 0)
        self.at = self.memory.find(self.good)
        assert self.at >= 0

    def write(self, at: int, content: bytes) -> None:
        """Change the sample from the offset `at` on."""
        self.memory[self.at + at : self.at + at + len(content)] = content

    def restore(self) -> None:
        self.write(0, self.good)

    def owns(self, array: NDArray[Any]) -> bool:
        """Whether each byte of the array is one of the sample."""
        if array.size == 0:
            return True
        low, high = byte_bounds(array)
        return bool(self.start <= low and high <= self.start + len(self.good))


@pytest.fixture
def spoiled() -> Iterator[Spoiled]:
    with Publisher("mixed", Mixed, max_bytes=8192) as pub, Subscriber("mixed", Mixed) as sub:
        pub.publish(SAMPLE)
        lease = sub.take()
        assert lease is not None
        made = Spoiled(pub, lease)
        yield made
        made.memory.close()


def u64(number: int) -> bytes:
    return struct.pack("<Q", number % 2**64)


SIZE, NDIM, DTYPE, SHAPE, STRIDES = 8, 16, 24, 40, 104
BAD: dict[str, tuple[str, int, bytes]] = {
    "offset beyond the sample": ("text", 0, u64(1 << 40)),
    "offset at the end of all": ("blob", 0, u64(2**64 - 1)),
    "offset of the fixed part": ("items", 0, u64(0)),
    "offset in the fixed part": ("inner", 0, u64(64)),
    "offset and size that overflow": ("blob", 0, u64(2**64 - 64) + u64(128)),
    "offset of the next slot": ("image", 0, u64(8192)),
    "offset that is not aligned": ("image", 0, u64((HEAD + 63) // 64 * 64 + 8)),
    "size beyond the sample": ("blob", SIZE, u64(8192)),
    "size of everything": ("text", SIZE, u64(2**64 - 1)),
    "size that is no items": ("items", SIZE, u64(17)),
    "size below the shape": ("image", SIZE, u64(64)),
    "nine dimensions": ("image", NDIM, struct.pack("<I", 9)),
    "all dimensions": ("anything", NDIM, struct.pack("<I", 2**32 - 1)),
    "another dtype": ("image", DTYPE, b"<i2"),
    "a dtype of objects": ("anything", DTYPE, b"|O\0"),
    "a dtype of objects with a size": ("anything", DTYPE, b"|O8"),
    "a dtype of records": ("anything", DTYPE, b"<f2,<f2"),
    "a dtype without a size": ("anything", DTYPE, b"|V0"),
    "a dtype of a large item": ("anything", DTYPE, b"|V2000"),
    "a dtype of too large an item": ("anything", DTYPE, b"|V999999999999"),
    "a dtype that is no text": ("anything", DTYPE, b"\xff\xfe\xfd"),
    "a dtype of a wrong unit": ("anything", DTYPE, b"<M8[eons]"),
    "a larger shape": ("image", SHAPE, u64(21)),
    "a shape that overflows": ("image", SHAPE, u64(2**63) + u64(2)),
    "a shape whose product overflows": ("image", SHAPE, u64(2**32) + u64(2**32)),
    "a shape without items that numpy cannot have": ("image", SHAPE, u64(0) + u64(2**62)),
    "more items than bytes, by a stride of zero": ("image", SHAPE, u64(400) + u64(30) + bytes(48) + u64(0) + u64(2)),
    "a negative stride": ("image", STRIDES, u64(-60)),
    "a stride beyond the data": ("image", STRIDES, u64(64)),
    "a stride that overflows": ("image", STRIDES, u64(2**62)),
    "a stride at the edge of all": ("image", STRIDES, u64(2**63 - 1)),
}


@pytest.mark.row("SEC-4", "VAR-9", "BUF-1")
@pytest.mark.parametrize("case", sorted(BAD))
def test_a_corrupt_extent_is_an_error(spoiled: Spoiled, case: str) -> None:
    """Of the package, at each access to that field; the other fields are read as usual."""
    name, at, content = BAD[case]
    spoiled.write(OFFSETS[name] + at, content)

    def read(view: Any) -> Any:
        return view.inner.weights if name == "inner" else getattr(view, name)

    with pytest.raises(CorruptSegmentError, match="extent of a variable field"):
        read(spoiled.view)
    with pytest.raises(CorruptSegmentError):
        zs.buffer(spoiled.view.inner if name == "inner" else spoiled.view, "weights" if name == "inner" else name)
    with pytest.raises(CorruptSegmentError):
        spoiled.lease.copy()
    assert "extent" in repr(spoiled.view)
    for other in {"image", "text", "items"} - {name}:
        assert str(getattr(spoiled.view, other)) == str(getattr(SAMPLE, other))
    spoiled.restore()
    assert spoiled.view == SAMPLE


@pytest.mark.row("SEC-4")
def test_a_text_that_is_not_utf_8_is_an_error(spoiled: Spoiled) -> None:
    """Its bytes can still be had as such."""
    at = spoiled.good.find("text é".encode())
    spoiled.write(at, b"\xff")
    with pytest.raises(CorruptSegmentError, match="UTF-8"):
        spoiled.view.text  # noqa: B018  # the access raises
    assert zs.buffer(spoiled.view, "text")[0] == 0xFF


def read_all(spoiled: Spoiled) -> int:
    """Read each field; how many were an error."""
    refused = 0
    view = spoiled.view
    reads: list[Callable[[], Any]] = [
        lambda: view.image, lambda: view.anything, lambda: view.inner.weights, lambda: view.maybe,
        lambda: np.asarray(view.items), lambda: np.asarray(zs.buffer(view, "text")),
        lambda: np.asarray(zs.buffer(view, "blob")), lambda: np.asarray(zs.buffer(view, "image")),
    ]  # fmt: skip  # one read a line hides the table
    for read in reads:
        try:
            array = read()
        except CorruptSegmentError:
            refused += 1
            continue
        if array is not None:
            assert spoiled.owns(array)
            assert len(array.tobytes()) <= len(spoiled.good)
            assert array.size == 0 or not array.flags.writeable
    for read in (lambda: view.text, lambda: view.blob, lambda: list(view.items), spoiled.lease.copy, view.model_dump):
        with contextlib.suppress(CorruptSegmentError):
            read()
    assert isinstance(repr(view), str)
    return refused


@pytest.mark.row("SEC-4", "VAR-9")
@pytest.mark.parametrize("mask", [0xFF, 0x01, 0x80])
def test_every_flipped_byte_of_the_fixed_part_gives_an_error_or_bytes_of_the_sample(
    spoiled: Spoiled, mask: int
) -> None:
    """Whatever the extents say, no array reaches beyond its sample."""
    refused = 0
    for at in range(HEAD):
        spoiled.write(at, bytes([spoiled.good[at] ^ mask]))
        refused += read_all(spoiled)
        spoiled.write(at, spoiled.good[at : at + 1])
    assert refused > 100
    assert read_all(spoiled) == 0


@pytest.mark.row("SEC-4", "VAR-9")
def test_random_extents_give_an_error_or_bytes_of_the_sample(spoiled: Spoiled) -> None:
    """Whole words, with the numbers that come close to limits."""
    random = np.random.default_rng(4)
    edges = [0, 1, 8, 63, 64, HEAD, HEAD + 64, len(spoiled.good), len(spoiled.good) - 1, 2**31, 2**63 - 1, 2**63]
    numbers = [edge + near for edge in edges for near in (-64, -1, 0, 1, 64)]
    refused = 0
    for _ in range(1000):
        for _ in range(int(random.integers(1, 5))):
            at = int(random.integers(0, HEAD // 8)) * 8
            spoiled.write(at, u64(numbers[int(random.integers(len(numbers)))]))
        refused += read_all(spoiled)
        spoiled.write(0, spoiled.good[:HEAD])
    assert refused > 500


@pytest.mark.row("SEC-4")
def test_a_loan_writes_where_its_own_memory_says(zeroslot_dir: Path) -> None:
    """Not where the extents in the sample say, which another process can change: they are written anew."""
    with Publisher("mixed", Mixed, max_bytes=8192) as pub, Subscriber("mixed", Mixed) as sub:
        with pub.loan(image=(20, 30), blob=4, items=3, maybe=9) as view:
            fixed = memoryview(view)
            fixed[OFFSETS["image"] :] = b"\xff" * (HEAD - OFFSETS["image"])
            fixed.release()
            with pytest.raises(CorruptSegmentError):
                view.image  # noqa: B018  # the access raises
            view.image, view.blob, view.items = SAMPLE.image, SAMPLE.blob, SAMPLE.items
            zs.resize(view, items=2)
            view.maybe, view.text, view.anything = SAMPLE.maybe, "", np.zeros(0)
            view.inner = Inner(weights=[])
        lease = sub.take()
        assert lease is not None
        assert lease.sample == SAMPLE.model_copy(
            update={"text": "", "anything": np.zeros(0), "inner": Inner(weights=[]), "items": SAMPLE.items[:2]}
        )
