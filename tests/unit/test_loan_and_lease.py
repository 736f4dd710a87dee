"""What a loan and a lease promise, and everything that Python can do to break it."""

from __future__ import annotations

import copy
import ctypes
import gc
import pickle
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from zeroslot import (
    ClosedError,
    Lease,
    Loan,
    NoFreeSlotError,
    Publisher,
    Sample,
    SlotAllocator,
    Subscriber,
    TooManyLeasesError,
)


class Point(Sample):
    x: zs.I32 = 0
    y: float = 0.0


class Imu(Sample):
    stamp: zs.U64 = 0
    accel: Annotated[NDArray[np.float64], zs.Shape(3)]
    frame: Annotated[str, zs.MaxBytes(16)] = "imu"
    points: Annotated[list[Point], zs.MaxLen(4)] = []  # noqa: RUF012 (pydantic copies it)
    origin: Point = Point()
    maybe: zs.I16 | None = None


class Pair:
    """A publisher and a subscriber of one topic."""

    def __init__(self) -> None:
        self.pub: Publisher[Imu] = Publisher("imu", Imu, depth=2, max_loans=4, spare_slots=4)
        self.sub: Subscriber[Imu] = Subscriber("imu", Imu, max_leases=8)

    def send(self, stamp: int = 1, **fields: Any) -> Lease[Imu]:
        self.pub.publish(Imu(stamp=stamp, accel=np.full(3, float(stamp)), **fields))
        lease = self.sub.take()
        assert lease is not None
        return lease

    @property
    def free(self) -> int:
        return self.pub.allocator.free_count


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.sub.close()
    made.pub.close()


# --- what was received never changes and is never written ---


@pytest.mark.row("BUF-3", "NEW-1", "SEC-7")
def test_no_array_of_a_lease_can_be_made_writable(pair: Pair) -> None:
    """Not it, not a view of it, not its base, by no way that numpy has."""
    lease = pair.send()
    accel = lease.sample.accel
    ways: list[Callable[[], Any]] = [
        lambda: accel.__setitem__(0, 5.0),
        lambda: accel.fill(1),
        accel.sort,
        lambda: np.copyto(accel, 1),
        lambda: np.add(accel, 1, out=accel),
        lambda: accel.setflags(write=True),
        lambda: accel[1:].setflags(write=True),
        lambda: accel.view("u1").setflags(write=True),
        lambda: accel.reshape(3, 1).setflags(write=True),
        lambda: setattr(accel.flags, "writeable", True),
        lambda: accel.put(0, 1),
        lambda: accel.partition(1),
        lambda: accel.byteswap(inplace=True),
        lambda: np.asarray(accel).setflags(write=True),
        lambda: memoryview(accel).__setitem__(0, 1.0),
        lambda: accel.data.cast("B").__setitem__(0, 1),
        lambda: np.frombuffer(accel, "u1").setflags(write=True),
        lambda: accel.real.setflags(write=True),
        lambda: np.lib.stride_tricks.as_strided(accel, writeable=True).__setitem__(0, 1.0),
        lambda: np.lib.stride_tricks.sliding_window_view(accel, 2, writeable=True).__setitem__((0, 0), 1.0),
        lambda: np.from_dlpack(accel).__setitem__(0, 1.0),
        lambda: accel.T.setflags(write=True),
        lambda: np.nditer(accel, op_flags=[["readwrite"]]),
        lambda: np.ndarray(3, "f8", buffer=accel).setflags(write=True),
    ]
    for way in ways:
        with pytest.raises((ValueError, TypeError, BufferError)):
            way()
    assert lease.sample.accel.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.row("BUF-3", "NEW-1")
def test_the_whole_base_chain_of_a_received_array_gives_no_memory(pair: Pair) -> None:
    """Down to the object that keeps the slot, which exports nothing."""
    each: Any = pair.send().sample.accel[1:].view("u1")[::2]
    arrays = 0
    while isinstance(each, np.ndarray):
        assert not each.flags.writeable
        with pytest.raises(ValueError):
            each.flags.writeable = True
        arrays += 1
        each = each.base
    assert arrays >= 2
    for use in (memoryview, bytes, np.frombuffer, lambda it: np.ndarray(3, "u1", buffer=it)):
        with pytest.raises((BufferError, TypeError)):
            use(each)
    with pytest.raises(BufferError):
        (ctypes.c_char * 8).from_buffer(each)


@pytest.mark.row("BUF-3", "BUF-5")
def test_received_memory_refuses_writable_buffers(pair: Pair) -> None:
    """Of the lease and of the view, whole, sliced and cast."""
    lease = pair.send()
    for source in (lease, lease.sample):
        view = memoryview(source)
        assert view.readonly
        for each in (view, view[8:16], view[8:16].cast("Q"), view.toreadonly()):
            with pytest.raises(TypeError):
                each[0] = 1
        with pytest.raises(TypeError):
            (ctypes.c_char * 8).from_buffer(source)
    assert bytes(lease) == bytes(lease.sample) == bytes(memoryview(lease))


@pytest.mark.row("BUF-3")
def test_fields_of_a_lease_cannot_be_set(pair: Pair) -> None:
    """Of nested samples, lists and list items neither; the text says what to do."""
    sample = pair.send(points=[Point(x=1), Point(x=2)]).sample
    ways: list[Callable[[], Any]] = [
        lambda: setattr(sample, "stamp", 2),
        lambda: setattr(sample, "accel", np.zeros(3)),
        lambda: setattr(sample, "frame", ""),
        lambda: setattr(sample, "points", []),
        lambda: setattr(sample.origin, "x", 1),
        lambda: setattr(sample.points[0], "x", 1),
        lambda: sample.points.append(Point()),
        sample.points.clear,
        lambda: sample.points.__setitem__(0, Point()),
        lambda: setattr(sample, "maybe", 3),
        lambda: setattr(sample, "origin", Point()),
    ]
    for way in ways:
        with pytest.raises(TypeError, match="copy"):
            way()
    with pytest.raises(AttributeError):
        sample.unknown = 1  # type: ignore[attr-defined]  # on purpose
    assert sample == Imu(stamp=1, accel=[1, 1, 1], points=[Point(x=1), Point(x=2)])


@pytest.mark.row("NEW-1", "SUB-5", "BUF-4", "DEF-15")
@pytest.mark.parametrize(
    "keep",
    [
        lambda lease: lease,
        lambda lease: lease.sample,
        lambda lease: lease.sample.accel,
        lambda lease: lease.sample.accel[1:],
        memoryview,
        lambda lease: memoryview(lease.sample)[:8],
        lambda lease: np.frombuffer(lease, "u1"),
        lambda lease: lease.sample.points,
        lambda lease: lease.sample.points[0],
        lambda lease: lease.sample.origin,
        lambda lease: np.asarray(lease.sample.accel).view("u1"),
        lambda lease: np.frombuffer(lease.sample, "u1"),
        lambda lease: np.asarray(memoryview(lease)),
        lambda lease: iter(memoryview(lease.sample)),
        lambda lease: np.ndarray(8, "u1", buffer=memoryview(lease)),
        lambda lease: np.from_dlpack(lease.sample.accel),
        lambda lease: lease.sample.accel.__array_interface__ and lease.sample.accel.T,
    ],
)
def test_everything_read_from_a_lease_keeps_its_slot(pair: Pair, keep: Callable[[Any], Any]) -> None:
    """The bytes stay while the owner goes around all other slots; with the last reference the slot is free again."""
    lease = pair.send(points=[Point(x=1)])
    before = bytes(lease)
    kept = keep(lease)
    address = lease.sample.accel.__array_interface__["data"][0] - 8
    if kept is not lease:
        lease.release()
    del lease
    for i in range(20):
        pair.pub.publish(Imu(stamp=100 + i, accel=np.full(3, 9.0)))
    assert ctypes.string_at(address, len(before)) == before
    assert pair.free == 10 - 2 - 1
    del kept
    gc.collect()
    assert pair.free == 10 - 2


@pytest.mark.row("NEW-1", "SUB-20")
@pytest.mark.parametrize("first", ["pub", "sub"])
def test_leases_survive_the_close_of_both_ends(pair: Pair, first: str) -> None:
    """Memory stays mapped while anything refers to it."""
    lease = pair.send(stamp=7, frame="kept")
    accel, view = lease.sample.accel, memoryview(lease)
    for end in sorted(("pub", "sub"), key=lambda each: each != first):
        getattr(pair, end).close()
        delattr(pair, end)
    gc.collect()
    assert lease.sample.frame == "kept"
    assert (accel.tolist(), len(view), lease.sample.stamp) == ([7.0] * 3, len(bytes(lease.sample)), 7)
    assert lease.copy() == Imu(stamp=7, accel=[7, 7, 7], frame="kept")
    lease.release()
    assert accel.tolist() == [7.0] * 3
    pair.__init__()  # type: ignore[misc]  # for the fixture to close


@pytest.mark.row("NEW-1")
def test_exports_that_numpy_would_not_keep_are_refused(pair: Pair) -> None:
    """np.ndarray(buffer=lease) keeps the handle alone, whose release would leave the array without its slot."""
    lease = pair.send()
    loan = pair.pub.loan()
    for source in (lease, loan, loan.sample):
        with pytest.raises(BufferError, match="asarray"):
            np.ndarray(8, "u1", buffer=source)
    assert np.ndarray(8, "u1", buffer=lease.sample).tobytes() == bytes(lease)[:8]
    loan.discard()


# --- the handles ---


@pytest.mark.row("SUB-5", "BUF-4", "DEF-7", "DEF-15")
def test_a_released_lease_is_closed(pair: Pair) -> None:
    """Every use is a ClosedError; what was taken before stays; a second release does nothing."""
    lease = pair.send()
    sample = lease.sample
    lease.release()
    uses: list[Callable[[], Any]] = [
        lambda: lease.sample,
        lease.copy,
        lambda: lease.published_ns,
        lambda: lease.size,
        lambda: memoryview(lease),
        lambda: len(lease),
        lease.array,
        lambda: bytes(lease),
    ]
    for use in uses:
        with pytest.raises(ClosedError):
            use()
    lease.release()
    assert "released" in repr(lease)
    assert (lease.sequence, sample.stamp) == (1, 1)


@pytest.mark.row("SUB-5", "BUF-4")
def test_leaving_the_block_of_a_lease_releases_it(pair: Pair) -> None:
    """Also by an exception."""
    with pair.send() as lease:
        assert pair.sub.stats.leases == 1
    with pytest.raises(ClosedError):
        bytes(lease)
    with pytest.raises(KeyError), pair.send() as second:
        raise KeyError
    with pytest.raises(ClosedError):
        bytes(second)
    assert pair.sub.stats.leases == 0
    for _ in range(2):
        pair.pub.publish(Imu(accel=[0, 0, 0]))
    assert pair.free == 8


@pytest.mark.row("SUB-6")
def test_a_copy_is_a_model_of_its_own(pair: Pair) -> None:
    """Equal, writable, and it holds no slot."""
    lease = pair.send(stamp=3, frame="ä", points=[Point(x=5)], maybe=-2)
    model = lease.copy()
    assert type(model) is Imu
    assert model == lease.sample
    assert lease.sample == model
    model.accel[0] = 99
    model.points[0].x = 6
    assert (lease.sample.accel[0], lease.sample.points[0].x) == (3.0, 5)
    assert copy.deepcopy(lease.sample) == copy.copy(lease.sample) == lease.sample.model_copy() == lease.copy()
    lease.release()
    for _ in range(2):
        pair.pub.publish(Imu(accel=[0, 0, 0]))
    assert pair.free == 8
    assert pickle.loads(pickle.dumps(model)) == model


@pytest.mark.row("SLOT-5", "SLOT-13", "PUB-1", "DEF-7")
@pytest.mark.parametrize("ending", ["commit", "discard", "with", "failed with"])
def test_a_loan_is_committed_or_discarded_once(pair: Pair, ending: str) -> None:
    """Afterwards every use is a ClosedError and nothing more is published."""
    loan = pair.pub.loan()
    if ending in ("commit", "discard"):
        getattr(loan, ending)()
    elif ending == "with":
        with loan:
            pass
    else:
        with pytest.raises(KeyError), loan:
            raise KeyError
    sequence = pair.pub.sequence
    assert sequence == (ending in ("commit", "with"))
    for use in (lambda: loan.sample, loan.commit, lambda: memoryview(loan), loan.__enter__):
        with pytest.raises(ClosedError):
            use()
    loan.discard()
    loan.__exit__(None, None, None)
    assert (pair.pub.sequence, pair.pub.allocator.loan_count) == (sequence, 0)


@pytest.mark.row("SLOT-4")
def test_a_loan_that_ended_inside_its_block_is_not_ended_again(pair: Pair) -> None:
    """Leaving the block does nothing more."""
    loan = pair.pub.loan()
    with loan as imu:
        imu.stamp = 5
        loan.commit()
    second = pair.pub.loan()
    second.__enter__()
    second.commit()
    second.__exit__(KeyError, KeyError(), None)
    loan = pair.pub.loan()
    with loan:
        loan.discard()
    assert pair.pub.sequence == 2


@pytest.mark.row("SLOT-4", "SLOT-3")
@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_in_the_block_publishes_nothing(pair: Pair, error: type[BaseException]) -> None:
    """Of any kind."""

    def fail() -> None:
        with pair.pub.loan() as imu:
            imu.stamp = 5
            raise error

    with pytest.raises(error):
        fail()
    assert pair.sub.take() is None
    assert (pair.pub.sequence, pair.pub.allocator.loan_count) == (0, 0)


# --- the publisher's own views after the commit ---


@pytest.mark.row("NEW-1", "SLOT-3")
def test_the_publishers_views_are_harmless_after_the_commit(pair: Pair) -> None:
    """Setters raise, arrays are read-only and stay so; they can still be read."""
    loan = pair.pub.loan()
    imu = loan.sample
    accel, origin, points = imu.accel, imu.origin, imu.points
    points.append(Point(x=1))
    item = points[0]
    accel[:] = [1, 2, 3]
    loan.commit()
    ways: list[Callable[[], Any]] = [
        lambda: setattr(imu, "stamp", 9),
        lambda: setattr(origin, "x", 9),
        lambda: setattr(item, "x", 9),
        lambda: points.append(Point()),
        points.clear,
        lambda: points.__setitem__(0, Point()),
        lambda: accel.__setitem__(0, 9),
        lambda: accel.setflags(write=True),
        lambda: accel.base.__class__ and imu.accel.__setitem__(0, 9),
        lambda: memoryview(imu).__setitem__(0, 9),
        lambda: np.frombuffer(imu, "u1").__setitem__(0, 9),
        lambda: setattr(imu, "accel", np.zeros(3)),
        lambda: (ctypes.c_char * 8).from_buffer(imu),
        lambda: np.copyto(accel, 0),
    ]
    for way in ways:
        with pytest.raises((ClosedError, ValueError, TypeError, BufferError)):
            way()
    lease = pair.sub.take()
    assert lease is not None
    assert lease.sample == Imu(accel=[1, 2, 3], points=[Point(x=1)])
    assert imu == lease.sample
    assert accel.tolist() == [1, 2, 3]


@pytest.mark.row("NEW-1", "SLOT-3")
@pytest.mark.parametrize(
    "keep",
    [
        memoryview,
        lambda view: memoryview(view)[8:],
        lambda view: memoryview(view).cast("B"),
        lambda view: np.frombuffer(view, "u1"),
        lambda view: np.asarray(memoryview(view)),
        (ctypes.c_char * 8).from_buffer,
    ],
)
@pytest.mark.parametrize("of", ["loan", "sample"])
def test_a_writable_memoryview_prevents_the_commit(pair: Pair, keep: Callable[[Any], Any], of: str) -> None:
    """BufferError, and the loan is still good: released, it is committed."""
    loan = pair.pub.loan()
    kept = keep(loan if of == "loan" else loan.sample)
    with pytest.raises(BufferError, match="memoryview"):
        loan.commit()
    with pytest.raises(BufferError), loan:
        pass
    assert pair.sub.take() is None
    del kept
    gc.collect()
    assert loan.commit() == 1


@pytest.mark.row("SLOT-5")
def test_a_slice_that_outlives_the_commit_reaches_its_own_sample_only(pair: Pair) -> None:
    """While anything refers to the loan's memory, its slot holds no other sample, however many follow."""
    loan = pair.pub.loan()
    loan.sample.accel[:] = 1
    slice_ = loan.sample.accel[:2]
    first = loan.sample.accel.__array_interface__["data"][0]
    loan.commit()
    del loan
    seen = set()
    for i in range(30):
        with pair.pub.loan() as imu:
            imu.accel[:] = i
            seen.add(imu.accel.__array_interface__["data"][0])
    assert first not in seen
    assert slice_.tolist() == [1, 1]
    del imu
    assert pair.free == 7
    del slice_
    assert pair.free == 8


@pytest.mark.row("SLOT-5", "NEW-1")
@pytest.mark.parametrize("ending", ["commit", "discard"])
def test_a_slot_with_live_views_is_not_loaned_again(ending: str) -> None:
    """With every other slot taken, NoFreeSlotError; when the slice goes, this very slot is the one."""
    with Publisher("few", Imu, depth=1, max_loans=8, spare_slots=0) as pub:
        loan = pub.loan()
        slice_ = loan.sample.accel[:2]
        first = loan.sample.accel.__array_interface__["data"][0]
        getattr(loan, ending)()
        del loan
        pub.publish(Imu(accel=[0, 0, 0]))
        loans = [pub.loan() for _ in range(7)]
        assert first not in {each.sample.accel.__array_interface__["data"][0] for each in loans}
        with pytest.raises(NoFreeSlotError):
            pub.loan()
        del slice_
        assert pub.loan().sample.accel.__array_interface__["data"][0] == first


def test_a_loan_forgets_arrays_that_are_gone(pair: Pair) -> None:
    """A loop over a field costs no memory; those that are kept turn read-only at the commit, however many there
    were.
    """
    loan = pair.pub.loan()
    imu = loan.sample
    kept = []
    for i in range(1000):
        array = imu.accel
        if i % 100 == 0:
            kept.append(array)
    before = sys.getrefcount(kept[0].base)
    assert before < 200
    loan.commit()
    assert not any(array.flags.writeable for array in kept)


# --- code that runs in between ---


class CommitsWhenRead:
    """A value whose conversion ends the loan that it is written to."""

    def __init__(self, end: Callable[[], Any]) -> None:
        self.end = end

    def __index__(self) -> int:
        self.end()
        return 7

    def __float__(self) -> float:
        self.end()
        return 7.0

    def __iter__(self) -> Iterator[Any]:
        self.end()
        return iter([])

    def __array__(self, *_: Any, **__: Any) -> NDArray[Any]:
        self.end()
        return np.full(3, 7.0)


@pytest.mark.row("SLOT-5", "NEW-1", "DEF-7")
@pytest.mark.parametrize("field", ["stamp", "accel", "points", "maybe", "origin.x", "origin.y", "points[0]", "append"])
def test_nothing_is_written_after_a_commit(pair: Pair, field: str) -> None:
    """A value that commits the loan while it is read is refused; what subscribers see was there before."""
    loan = pair.pub.loan()
    imu = loan.sample
    imu.points.append(Point(x=1))
    evil: Any = CommitsWhenRead(loan.commit)
    ways: dict[str, Callable[[], Any]] = {
        "origin.x": lambda: setattr(imu.origin, "x", evil),
        "origin.y": lambda: setattr(imu.origin, "y", evil),
        "points[0]": lambda: imu.points.__setitem__(0, {"x": evil, "y": 0.0}),
        "append": lambda: imu.points.append({"x": evil, "y": 0.0}),
    }
    with pytest.raises(BufferError, match="being written"):
        ways.get(field, lambda: setattr(imu, field, evil))()
    assert pair.sub.take() is None
    assert loan.commit() == 1


@pytest.mark.row("SLOT-5")
def test_a_value_that_discards_its_loan_is_not_written(pair: Pair) -> None:
    """The slot is not reused while the view lives."""
    loan = pair.pub.loan()
    imu = loan.sample
    imu.stamp = CommitsWhenRead(loan.discard)  # type: ignore[assignment]  # on purpose
    with pytest.raises(ClosedError):
        imu.stamp = 1
    assert pair.send(stamp=3).sample.stamp == 3


class Node:
    """An object that the collector tracks."""

    other: Any = None
    held: Any = None
    last: Any = None


@pytest.mark.row("BUF-4", "SLOT-4")
@pytest.mark.parametrize("what", ["lease", "sample", "array", "memoryview", "loan", "loan sample", "loan array"])
def test_a_cycle_that_holds_a_slot_is_collected(pair: Pair, what: str) -> None:
    """After gc.collect() no slot is lost."""
    for _ in range(20):
        one, two = Node(), Node()
        one.other, two.other = two, one
        if what.startswith("loan"):
            loan = pair.pub.loan()
            one.held = {"loan": loan, "loan sample": loan.sample, "loan array": loan.sample.accel}[what]
            del loan
        else:
            lease = pair.send()
            one.held = {
                "lease": lease,
                "sample": lease.sample,
                "array": lease.sample.accel,
                "memoryview": memoryview(lease),
            }[what]
            del lease
        del one, two
        gc.collect()
    pair.pub.publish(Imu(accel=[0, 0, 0]))
    pair.pub.publish(Imu(accel=[0, 0, 0]))
    assert (pair.free, pair.pub.allocator.loan_count) == (8, 0)


def test_finalizers_may_use_the_library(pair: Pair) -> None:
    """An object that publishes, takes and releases while it is collected in the middle of a take."""
    done: list[int] = []

    class Last:
        def __del__(self) -> None:
            lease = pair.send(stamp=50)
            done.append(lease.sample.stamp)

    for _ in range(5):
        node = Node()
        node.other, node.last = node, Last()
        del node
        gc.collect()
    assert done == [50] * 5
    pair.send()


# --- made by force ---


@pytest.mark.parametrize("kind", [Loan, Lease])
def test_handles_cannot_be_constructed_directly(kind: type) -> None:
    """Called, the class says where they come from; from __new__ they are closed; every use is an exception."""
    with pytest.raises(TypeError, match="come from"):
        kind()
    empty = kind.__new__(kind)
    for name in (
        "sample",
        "commit",
        "copy",
        "publisher_id",
        "published_ns",
        "size",
        "capacity",
        "__enter__",
        "__len__",
        "array",
    ):
        if hasattr(kind, name) and not (kind is Lease and name == "__enter__"):
            with pytest.raises((ClosedError, AttributeError)):
                getattr(empty, name)()
    for use in (memoryview, bytes, np.asarray if kind is Loan else bytes):
        if use is not np.asarray:
            with pytest.raises(ClosedError):
                use(empty)
    assert "released" in repr(empty) or "given back" in repr(empty)
    empty.discard() if kind is Loan else empty.release()


def test_an_ended_handle_is_of_its_class_and_has_no_sample(pair: Pair) -> None:
    """Also one that nothing but `__new__` made."""
    lease, loan = pair.send(), pair.pub.loan()
    loan.discard()
    lease.release()
    for handle, kind in ((loan, Loan), (lease, Lease)):
        assert isinstance(handle, kind)
        assert type(handle).__name__ == kind.__name__
        assert type(handle).__module__ == kind.__module__
        for empty in (handle, kind.__new__(kind)):
            assert "loan" not in repr(empty) or "given back" in repr(empty)
            with pytest.raises(ClosedError):
                empty.sample  # noqa: B018  # reading it is what raises
            with pytest.raises(AttributeError):
                empty.sample = None  # type: ignore[misc]  # it cannot be set
    live = pair.pub.loan()
    with pytest.raises(AttributeError):
        live.sample = None  # type: ignore[misc, assignment]  # nor here
    with pytest.raises((AttributeError, TypeError)):
        del live.sample
    assert type(live) is Loan  # in place of the object that has ended
    live.discard()


def test_what_one_loan_was_asked_for_does_not_concern_the_next(pair: Pair) -> None:
    """Handles are made of spare objects: nothing of the one before is left in them."""
    for _ in range(40):
        loans = [pair.pub.loan(validate=True), pair.pub.loan()]
        keep = loans[0].sample.accel
        loans.pop().commit()
        loans.pop().discard()
        del keep
        taken = pair.sub.latest()
        assert taken is not None
        del taken
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pair.pub.loan().commit()
        with pytest.warns(ResourceWarning, match="a loan"):
            pair.pub.loan()
    with SlotAllocator.in_memory(3, 64, depth=1) as slots:
        slots.commit(slots.reserve(), b"x" * 64)
        for _ in range(8):
            blank = slots.reserve(8)
            assert (bytes(blank), len(blank)) == (bytes(8), 8)
            blank.discard()
            uninit = slots.reserve_uninit()
            assert len(uninit) == 128
            uninit.write(b"y" * 128)
            uninit.discard()


def test_a_hold_only_keeps_its_slot(pair: Pair) -> None:
    """Hold: reached as `.base`. It exports nothing, and another one made of its class keeps no slot."""
    lease = pair.send()
    hold = lease.sample.accel.base
    kind = type(hold)
    other = kind.__new__(kind)
    for each in (hold, other):
        with pytest.raises((BufferError, TypeError)):
            memoryview(each)
        for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                duplicate(each)
        with pytest.raises(AttributeError):
            each.anything = 1
    del each, other
    assert (pair.free, pair.sub.stats.leases) == (9, 1)
    assert lease.sample.stamp == 1


def test_handles_take_no_weak_references_and_no_attributes(pair: Pair) -> None:
    """They are small, and nothing can be attached to them."""
    lease, loan = pair.send(), pair.pub.loan()
    for each in (lease, loan, lease.sample, loan.sample, lease.sample.points):
        with pytest.raises(TypeError):
            weakref.ref(each)
        with pytest.raises(AttributeError):
            each.anything = 1  # type: ignore[union-attr]  # on purpose
    assert weakref.ref(pair.pub)() is pair.pub
    assert weakref.ref(pair.sub)() is pair.sub


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_handles_cannot_be_pickled_or_copied(pair: Pair, duplicate: Callable[[Any], Any]) -> None:
    """TypeErrors that say what to send instead."""
    lease, loan = pair.send(points=[Point()]), pair.pub.loan()
    for each in (lease, loan, pair.pub, pair.sub, lease.sample.points, lease.sample.accel.base):
        with pytest.raises(TypeError, match="pickled"):
            duplicate(each)
    if duplicate is pickle.dumps:
        for view in (lease.sample, loan.sample, lease.sample.origin):
            with pytest.raises(TypeError, match="copy"):
                duplicate(view)


def test_subclasses_of_handles_are_not_made() -> None:
    """Their memory is counted on."""
    for kind in (Loan, Lease):
        with pytest.raises(TypeError):
            type("Mine", (kind,), {})


# --- threads ---


@pytest.mark.row("SLOT-5")
def test_threads_that_race_for_one_loan_end_it_once(pair: Pair) -> None:
    """Commit or discard, one of them wins, and the counters agree."""
    committed = 0
    for _ in range(200):
        loan = pair.pub.loan()
        gate = threading.Barrier(2)
        results: list[bool] = []

        def commit(loan: Any = loan, gate: Any = gate, results: Any = results) -> None:
            gate.wait()
            try:
                loan.commit()
                results.append(True)
            except ClosedError:
                pass

        def discard(loan: Any = loan, gate: Any = gate) -> None:
            gate.wait()
            loan.discard()

        threads = [threading.Thread(target=commit), threading.Thread(target=discard)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        committed += len(results)
        assert pair.pub.sequence == committed
        assert pair.pub.allocator.loan_count == 0


@pytest.mark.row("NEW-1", "SUB-5")
def test_reading_while_another_thread_releases_is_whole_or_closed(pair: Pair) -> None:
    """Never another sample's bytes, and never a crash."""
    wrong: list[Any] = []
    for i in range(1, 200):
        lease = pair.send(stamp=i)
        gate = threading.Barrier(2)

        def read(lease: Any = lease, gate: Any = gate, i: int = i) -> None:
            gate.wait()
            try:
                for _ in range(20):
                    sample = lease.sample
                    if sample.stamp != i or sample.accel.tolist() != [float(i)] * 3:
                        wrong.append((i, sample.stamp))
            except ClosedError:
                pass

        thread = threading.Thread(target=read)
        thread.start()
        gate.wait()
        lease.release()
        for _ in range(4):
            pair.pub.publish(Imu(stamp=10**6, accel=np.zeros(3)))
        thread.join()
        while pair.sub.take() is not None:
            pass
    assert wrong == []


# --- limits ---


@pytest.mark.row("SUB-5")
def test_max_leases_counts_slots_and_not_handles(pair: Pair) -> None:
    """A released handle whose array lives still counts; the error says how many; a free one is enough to go on."""
    with Subscriber("imu", Imu, max_leases=2, history=0) as sub:
        arrays = []
        for i in range(2):
            pair.pub.publish(Imu(stamp=i, accel=[i, i, i]))
            with sub.take() as lease:
                arrays.append(lease.sample.accel)
        pair.pub.publish(Imu(stamp=2, accel=[2, 2, 2]))
        with pytest.raises(TooManyLeasesError, match="max_leases"):
            sub.take()
        with pytest.raises(TooManyLeasesError):
            sub.latest()
        assert sub.wait(0)
        arrays.pop()
        assert sub.take().sample.stamp == 2
        assert sub.lost == 0


@pytest.mark.row("BUF-5")
def test_untyped_leases_give_arrays_that_keep_them() -> None:
    """With a dtype and a shape, read-only, over the memory itself."""
    with SlotAllocator.in_memory(4, 64) as slots, slots.reader() as reader:
        slots.commit(slots.reserve(), np.arange(6, dtype="<u2").tobytes())
        lease = reader.take()
        array = lease.array("<u2", (2, 3))
        assert array.tolist() == [[0, 1, 2], [3, 4, 5]]
        assert not array.flags.writeable
        assert lease.array("<u2").base is array.base
        with pytest.raises(ValueError):
            lease.array("<u2", 7)
        lease.release()
        assert array.tolist() == [[0, 1, 2], [3, 4, 5]]
        assert slots.free_count == 3


def leased() -> Any:
    with zs.Publisher("t", Imu) as pub, zs.Subscriber("t", Imu) as sub:
        pub.publish(Imu(stamp=1, accel=[1, 2, 3]))
        return sub.take()


def loaned() -> Any:
    with zs.Publisher("t", Imu) as pub:
        return pub.loan()


def leased_slot() -> Any:
    with SlotAllocator.in_memory(4, 64) as slots, slots.reader() as reader:
        slots.commit(slots.reserve(), b"x")
        return reader.take()


@pytest.mark.parametrize(
    "make",
    [
        leased,
        lambda: leased().sample,
        lambda: leased().sample.accel,
        loaned,
        lambda: loaned().sample,
        leased_slot,
        lambda: memoryview(leased_slot()),
        lambda: SlotAllocator.in_memory(4, 64),
        lambda: SlotAllocator.in_memory(4, 64).reader(),
        lambda: SlotAllocator.in_memory(4, 64).reserve(),
        lambda: zs.Publisher("t", Imu),
        lambda: zs.Publisher("t", Imu).loan_many(2),
        lambda: zs.Subscriber("t", Imu),
        lambda: zs.WaitSet(zs.Subscriber("t", Imu)),
        zs.Monitor,
    ],
    ids=range(15),
)
def test_memory_and_handles_may_end_while_an_exception_is_raised(make: Callable[[], Any]) -> None:
    """The last reference goes when the interpreter has set the AttributeError already; it is what is raised."""
    with pytest.raises(AttributeError, match="missing"):
        make().missing  # noqa: B018  # reading it raises
