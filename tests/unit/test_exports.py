"""Fields as memoryviews and as DLPack: in place, and noticed by the commit."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from zeroslot import CorruptSegmentError, Lease, Publisher, Sample, SlotAllocator, Subscriber, layout_of
from zeroslot._core import binding
from zeroslot.types.compiled import compiled

NUMPY = tuple(map(int, np.__version__.split(".")[:2]))
needs_readonly_dlpack = pytest.mark.skipif(
    NUMPY < (2, 1), reason="numpy exports read-only arrays from 2.1 on, as versioned capsules"
)


class Point(Sample):
    x: zs.F32 = 0.0
    y: zs.F32 = 0.0


class Frame(Sample):
    image: Annotated[NDArray[np.float32], zs.Shape(8, 8)]
    jpeg: Annotated[bytes, zs.MaxBytes(100)] = b""
    text: Annotated[str, zs.MaxBytes(100)] = ""
    numbers: Annotated[list[zs.U32], zs.MaxLen(8)] = []  # noqa: RUF012  # pydantic copies it
    points: Annotated[list[Point], zs.MaxLen(8)] = []  # noqa: RUF012  # pydantic copies it
    words: Annotated[list[Annotated[str, zs.MaxBytes(8)]], zs.MaxLen(4)] = []  # noqa: RUF012  # pydantic copies it
    maybe: Annotated[bytes, zs.MaxBytes(8)] | None = None
    count: zs.U8 = 0


FIELDS = {
    "image": np.arange(64, dtype="f4").reshape(8, 8),
    "jpeg": b"abc",
    "text": "hä",
    "numbers": [1, 2, 3],
    "points": [Point(x=1)],
    "maybe": b"x",
}


@pytest.fixture
def pub() -> Iterator[Publisher[Frame]]:
    with Publisher("exports", Frame) as publisher:
        yield publisher


@pytest.fixture
def sub(pub: Publisher[Frame]) -> Iterator[Subscriber[Frame]]:
    with Subscriber("exports", Frame) as subscriber:
        yield subscriber


def taken(pub: Publisher[Frame], sub: Subscriber[Frame]) -> Lease[Frame]:
    pub.publish(FIELDS)
    lease = sub.take()
    assert lease is not None
    return lease


@pytest.mark.row("BUF-5")
def test_fields_are_memoryviews_in_place(pub: Publisher[Frame], sub: Subscriber[Frame]) -> None:
    """Of the bytes that are there, read-only, with the format and the shape of arrays."""
    lease = taken(pub, sub)
    sample, whole = lease.sample, np.frombuffer(lease, "u1")
    for name, code, shape, content in (
        ("image", "f", (8, 8), FIELDS["image"].tobytes()),  # type: ignore[attr-defined]  # an array
        ("jpeg", "B", (3,), b"abc"),
        ("text", "B", (3,), "hä".encode()),
        ("numbers", "I", (3,), np.array([1, 2, 3], "u4").tobytes()),
        ("points", "T{f:x:f:y:}", (1,), np.array([1, 0], "f4").tobytes()),
        ("maybe", "B", (1,), b"x"),
    ):
        buffer = zs.buffer(sample, name)
        assert (buffer.format, buffer.shape, buffer.readonly, bytes(buffer)) == (code, shape, True, content), name
        assert np.shares_memory(np.asarray(buffer), whole)
    assert zs.buffer(sample, "jpeg") == b"abc"


@pytest.mark.row("BUF-5")
def test_a_memoryview_keeps_its_sample(pub: Publisher[Frame], sub: Subscriber[Frame]) -> None:
    """The slot is not used again while it is alive."""
    jpeg = zs.buffer(taken(pub, sub).sample, "jpeg")
    for _ in range(50):
        pub.publish({**FIELDS, "jpeg": b"new"})
    assert jpeg == b"abc"


@pytest.mark.row("BUF-3", "BUF-4")
@pytest.mark.parametrize("name", ["image", "jpeg", "text", "numbers", "points", "maybe"])
def test_a_memoryview_of_a_loan_holds_off_the_commit(pub: Publisher[Frame], name: str) -> None:
    """It can be written, and commit raises BufferError while it, or what was made of it, is alive."""
    loan = pub.loan()
    for field, value in FIELDS.items():
        setattr(loan.sample, field, value)
    buffer: Any = zs.buffer(loan.sample, name)
    assert not buffer.readonly
    array: Any = np.asarray(buffer)
    del buffer
    with pytest.raises(BufferError, match="writable memoryview"):
        loan.commit()
    array[...] = np.zeros_like(array)
    del array
    loan.commit()


@pytest.mark.row("BUF-5")
def test_what_is_no_buffer_says_so(pub: Publisher[Frame], sub: Subscriber[Frame]) -> None:
    """Numbers, samples, lists of texts, optionals that are None, and names that are not there."""
    sample = pub.loan().sample
    for name, error in (("count", TypeError), ("words", TypeError), ("maybe", ValueError), ("other", AttributeError)):
        with pytest.raises(error, match=name):
            zs.buffer(sample, name)
    kind: Any = compiled(Frame).view_class
    with pytest.raises(TypeError, match="empty"):
        zs.buffer(kind.__new__(kind), "jpeg")
    with pytest.raises(TypeError):
        vars(kind)["jpeg"].buffer(Frame.model_validate(FIELDS))
    empty: Any = binding.Export.__new__(binding.Export)
    with pytest.raises(TypeError, match="empty"):
        memoryview(empty)


@pytest.mark.row("BUF-5")
def test_the_buffer_of_a_model_is_read_only() -> None:
    """So code for views works on models too."""
    frame = Frame.model_validate(FIELDS)
    assert zs.buffer(frame, "jpeg") == b"abc"
    assert zs.buffer(frame, "text") == "hä".encode()
    assert zs.buffer(frame, "image").readonly


@pytest.mark.row("BUF-5")
def test_a_corrupt_length_is_an_error_for_the_buffer_too(pub: Publisher[Frame], sub: Subscriber[Frame]) -> None:
    """As for the value."""
    with pub.loan() as frame:
        record = np.frombuffer(frame, layout_of(Frame).dtype)  # type: ignore[call-overload]  # a view is bytes-like
        record["jpeg"]["length"], record["numbers"]["count"] = 101, 9
        del record
    sample = sub.take().sample  # type: ignore[union-attr]  # one was published
    for name in ("jpeg", "numbers"):
        with pytest.raises(CorruptSegmentError):
            zs.buffer(sample, name)


# --- DLPack ---


@needs_readonly_dlpack
@pytest.mark.row("BUF-9")
def test_leases_views_lists_and_arrays_are_dlpack_in_place(pub: Publisher[Frame], sub: Subscriber[Frame]) -> None:
    """Read-only, and each keeps the sample."""
    lease = taken(pub, sub)
    whole = np.frombuffer(lease, "u1")
    for source, dtype, shape in (
        (lease, "u1", whole.shape),
        (lease.sample, "u1", whole.shape),
        (lease.sample.numbers, "u4", (3,)),
        (lease.sample.image, "f4", (8, 8)),
    ):
        tensor = np.from_dlpack(source)  # type: ignore[arg-type]  # a view or a list
        assert (tensor.dtype, tensor.shape, tensor.flags.writeable) == (np.dtype(dtype), shape, False)
        assert np.shares_memory(tensor, whole)
        with pytest.raises(ValueError):
            tensor[...] = 0
        assert source.__dlpack_device__() == (1, 0)  # type: ignore[attr-defined]  # as above
    kept = np.from_dlpack(lease.sample.numbers)  # type: ignore[arg-type]  # a list in place
    del lease, whole, tensor, source
    for _ in range(50):
        pub.publish({**FIELDS, "numbers": [9, 9, 9]})
    assert kept.tolist() == [1, 2, 3]


@needs_readonly_dlpack
@pytest.mark.row("BUF-9")
def test_a_lease_or_a_loan_of_an_array_is_that_array() -> None:
    """With its dtype and shape, in place; bytes are their bytes. What a loan gives holds off its commit."""
    with zs.Publisher("a", np.ndarray, max_bytes=1000) as pub, Subscriber("a", np.ndarray) as sub:
        loan = pub.loan((2, 3), np.float32)
        tensor = np.from_dlpack(loan)  # type: ignore[arg-type]  # a loan
        assert np.shares_memory(tensor, loan.sample)
        tensor[:] = [[1, 2, 3], [4, 5, 6]]
        with pytest.raises(BufferError):
            loan.commit()
        del tensor
        loan.commit()
        lease = sub.take()
        assert lease is not None
        tensor = np.from_dlpack(lease)  # type: ignore[arg-type]  # a lease
        assert (tensor.dtype, tensor.tolist()) == (np.float32, [[1, 2, 3], [4, 5, 6]])
        assert np.shares_memory(tensor, lease.sample)
        assert not tensor.flags.writeable
    with zs.Publisher("b", bytes, max_bytes=1000) as text, Subscriber("b", bytes) as reader:
        text.publish(b"some bytes")
        taken_text = reader.take()
        assert taken_text is not None
        assert np.from_dlpack(taken_text).tobytes() == b"some bytes"  # type: ignore[arg-type]  # a lease


@pytest.mark.row("BUF-9")
def test_what_is_read_only_is_exported_as_a_versioned_capsule_alone(
    pub: Publisher[Frame], sub: Subscriber[Frame]
) -> None:
    """A consumer that does not know them could write: it gets BufferError."""
    lease = taken(pub, sub)
    for source in (lease, lease.sample, lease.sample.numbers, lease.sample.image):
        with pytest.raises(BufferError):
            source.__dlpack__()  # type: ignore[attr-defined]  # a view or a list
    with pytest.raises(BufferError):
        lease.sample.points.__dlpack__(max_version=(1, 0))  # type: ignore[attr-defined]  # it has no records
    with pytest.raises(TypeError):
        lease.sample.words.__dlpack__(max_version=(1, 0))  # type: ignore[attr-defined]  # a list in place


@pytest.mark.row("BUF-9")
def test_a_tensor_of_a_loan_holds_off_the_commit(pub: Publisher[Frame]) -> None:
    """It counts as a writable memoryview."""
    loan = pub.loan()
    loan.sample.numbers = [1, 2]
    for make in (
        lambda: np.from_dlpack(loan),  # type: ignore[arg-type]  # a loan
        lambda: np.from_dlpack(loan.sample),  # type: ignore[arg-type]  # a view
        lambda: np.from_dlpack(loan.sample.numbers),  # type: ignore[arg-type]  # a list
        lambda: np.from_dlpack(np.asarray(zs.buffer(loan.sample, "image"))),
        loan.sample.numbers.__dlpack__,  # type: ignore[attr-defined]  # a capsule that is not used
    ):
        tensor: Any = make()
        with pytest.raises(BufferError):
            loan.commit()
        del tensor
    loan.commit()


@pytest.mark.row("BUF-9")
def test_untyped_slots_are_dlpack() -> None:
    """Bytes, with the same rules."""
    with SlotAllocator.in_memory(4, 64) as allocator:
        slot, reader = allocator.reserve(), allocator.reader()
        tensor = np.from_dlpack(slot)  # type: ignore[arg-type]  # a slot
        tensor[:] = 7
        with pytest.raises(BufferError):
            slot.commit()
        del tensor
        slot.commit()
        lease = reader.take()
        assert lease is not None
        assert bytes(lease) == b"\7" * len(lease)
        with pytest.raises(BufferError):
            lease.__dlpack__()
        lease.release()
        with pytest.raises(zs.ClosedError):
            lease.__dlpack__()
        reader.close()


class _Managed(ctypes.Structure):
    """DLManagedTensor of dlpack.h, up to the deleter."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("dtype", ctypes.c_uint8 * 4),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    )


@pytest.mark.row("BUF-9")
def test_a_tensor_is_deleted_in_a_thread_without_the_gil(pub: Publisher[Frame]) -> None:
    """A consumer written in C calls the deleter wherever it is done."""
    loan = pub.loan()
    loan.sample.numbers = [1, 2]
    capsule = loan.sample.numbers.__dlpack__()  # type: ignore[attr-defined]  # a list in place
    pointer, rename = ctypes.pythonapi.PyCapsule_GetPointer, ctypes.pythonapi.PyCapsule_SetName
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    rename.argtypes = [ctypes.py_object, ctypes.c_char_p]
    managed = _Managed.from_address(pointer(capsule, b"dltensor"))
    rename(capsule, used := b"used_dltensor")  # what a consumer does
    del capsule
    with pytest.raises(BufferError):
        loan.commit()
    address = ctypes.addressof(managed)
    # A function of ctypes that is no PyDLL function is called without the GIL.
    thread = threading.Thread(target=managed.deleter, args=(address,))
    thread.start()
    thread.join()
    gc.collect()
    loan.commit()
    assert used
