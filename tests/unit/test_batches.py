"""Batches: `publish_many` and `take_many` are as many single calls, in one."""

from __future__ import annotations

import itertools
import pickle
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from tests.unit.control_bytes import ControlBytes
from zeroslot.testing import abandon


class Point(zs.Sample):
    n: zs.U64
    xyz: Annotated[NDArray[np.float32], zs.Shape(3)]


class Padded(zs.Sample):
    kind: zs.U8
    n: zs.U64


class Named(zs.Sample):
    n: zs.U32
    name: Annotated[str, zs.MaxBytes(12)] = ""


class Large(zs.Sample):
    n: zs.U64
    data: Annotated[NDArray[np.uint8], zs.Shape(100_000)]


POINT = zs.layout_of(Point).dtype


def points(first: int, count: int) -> NDArray[Any]:
    """Points with the numbers from `first` on."""
    made = np.zeros(count, POINT)
    made["n"] = np.arange(first, first + count)
    made["xyz"] = made["n"][:, None] + np.arange(3)
    return made


@pytest.fixture
def pub() -> Iterator[zs.Publisher[Point]]:
    with zs.Publisher("points", Point, depth=200, max_loans=4) as made:
        yield made


@pytest.fixture
def sub(pub: zs.Publisher[Point]) -> Iterator[zs.Subscriber[Point]]:
    with zs.Subscriber("points", Point) as made:
        yield made


def numbers(batch: zs.Batch) -> list[int]:
    return [int(n) for n in batch.samples["n"]]


def publish_for_ever(pub: zs.Publisher[Point], array: NDArray[Any]) -> None:
    while True:
        pub.publish_many(array)


@pytest.mark.row("PUB-5", "NEW-12")
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 63, 64, 65, 128, 200])
def test_a_batch_is_the_samples_of_the_array_in_order(pub, sub, count: int) -> None:
    """What is taken one by one is what was published at once, and the other way round."""
    assert pub.publish_many(points(1, count)) == count
    for n in range(1, count + 1):
        lease = sub.take()
        assert (lease.sequence, lease.sample.n, lease.sample.xyz[2]) == (n, n, n + 2)
    assert sub.take() is None
    for n in range(count):
        pub.publish(Point(n=n, xyz=np.full(3, n)))
    batch = sub.take_many()
    assert len(batch) == count
    assert numbers(batch) == list(range(count))
    assert batch.sequences.tolist() == list(range(count + 1, 2 * count + 1))
    assert batch.samples["xyz"].tolist() == [[n] * 3 for n in range(count)]


@pytest.mark.row("PUB-5")
def test_a_batch_says_where_each_sample_came_from(pub, sub) -> None:
    """Sequence, time and publisher of each sample; one clock read for all of a batch."""
    before = zs._core.binding.now_ns()
    pub.publish_many(points(0, 100))
    batch = sub.take_many()
    assert batch.samples.dtype == POINT
    assert batch.samples.flags.owndata
    assert batch.samples.flags.writeable
    assert batch.sequences.dtype == np.uint64
    assert batch.published_ns.dtype == np.uint64
    assert len(set(batch.published_ns.tolist())) == 1
    assert before <= batch.published_ns[0] <= zs._core.binding.now_ns()
    assert batch.publisher_ids == (pub.publisher_id,)
    assert batch.publisher_index.tolist() == [0] * 100
    assert repr(batch) == "<Batch of 100 samples, 0 lost>"


@pytest.mark.parametrize("view", [slice(None, None, 2), slice(None, None, -1), slice(5, 25, 3), slice(0, 0)])
def test_strided_arrays_are_published_as_they_are(pub, sub, view: slice) -> None:
    """Every second item, backwards, or a part: what the array shows is what is published."""
    pub.publish_many(points(0, 60)[view])
    assert numbers(sub.take_many()) == list(range(60))[view]


def test_an_array_of_something_else_is_refused(pub) -> None:
    """Another dtype, or other dimensions: an error with both, and nothing is published."""
    with pytest.raises(TypeError, match="records with the fields n, xyz, not an array of float64"):
        pub.publish_many(np.zeros(3))
    with pytest.raises(ValueError, match=r"2 dimensions .*reshape"):
        pub.publish_many(points(0, 4).reshape(2, 2))
    with pytest.raises(TypeError, match="an iterable of samples, not int"):
        pub.publish_many(5)
    assert pub.sequence == 0


class Beat(zs.Sample):
    """It says that something happened."""


class Beating(zs.Sample):
    beat: Beat
    kind: zs.U8


@pytest.mark.parametrize("kind", [Beat, Beating])
def test_samples_without_fields_are_published_as_a_batch(kind: type[zs.Sample]) -> None:
    """They take no bytes, alone or in others."""
    array = np.zeros(70, zs.layout_of(kind).dtype)
    with zs.Publisher("beats", kind, depth=80) as pub, zs.Subscriber("beats", kind) as sub:
        assert pub.publish_many(array) == 70
        assert len(sub.take_many()) == 70


@pytest.mark.parametrize("one", [Point(n=1, xyz=np.zeros(3)), {}, points(0, 1)[0]], ids=["model", "mapping", "record"])
def test_a_single_sample_is_no_batch(pub, one: Any) -> None:
    """It would be iterated over as well: the error says what to call."""
    with pytest.raises(TypeError, match=r"this is one \(\w+\): use publish\(\)"):
        pub.publish_many(one)
    assert pub.sequence == 0


def refuse_everything() -> Iterator[Any]:
    yield points(0, 1)[0]
    raise FrozenError(1)


@dataclass(frozen=True)
class FrozenError(Exception):
    code: int


@pytest.mark.parametrize(
    ("samples", "published"),
    [
        (np.zeros(3), 0),
        (np.zeros(3, POINT).reshape(3, 1), 0),
        (np.zeros(3, [("n", "u8")]), 0),
        (5, 0),
        ([points(0, 1)[0], 5], 1),
    ],
)
def test_whatever_a_batch_raises_tells_how_many_were_published(pub, samples: Any, published: int) -> None:
    """Also where nothing was looked at yet."""
    with pytest.raises((TypeError, ValueError)) as error:
        pub.publish_many(samples)
    assert error.value.published == published == pub.sequence
    pub.close()
    with pytest.raises(zs.ClosedError) as closed:
        pub.publish_many(points(0, 3))
    assert closed.value.published == 0


def test_an_exception_without_room_for_the_count_stays_what_it_is(pub) -> None:
    """One that an iterable raises, and that is frozen."""
    with pytest.raises(FrozenError):
        pub.publish_many(refuse_everything())
    assert pub.sequence == 1

    class Unready:
        def __iter__(self):
            raise FrozenError(1)

    with pytest.raises(FrozenError):
        pub.publish_many(Unready())
    assert pub.sequence == 1


def test_any_iterable_of_samples_is_published(pub, sub) -> None:
    """Models, mappings and records, from a list or a generator."""
    assert pub.publish_many([Point(n=1, xyz=np.zeros(3)), {"n": 2, "xyz": [1, 2, 3]}, points(3, 1)[0]]) == 3
    assert pub.publish_many(Point(n=n, xyz=np.zeros(3)) for n in (4, 5)) == 5
    assert pub.publish_many([]) == 5
    assert numbers(sub.take_many()) == [1, 2, 3, 4, 5]


def test_padding_is_zeros_and_not_what_was_in_memory(pub) -> None:
    """The gap between two fields shows nothing of the process."""
    with zs.Publisher("padded", Padded) as padded, zs.Subscriber("padded", Padded) as sub:
        made = np.frombuffer(b"\xff" * 64, zs.layout_of(Padded).dtype).copy()
        padded.publish_many(made)
        lease = sub.take()
        assert bytes(lease) == b"\xff" + bytes(7) + b"\xff" * 8


def test_records_that_are_no_samples_end_the_batch(pub) -> None:
    """Text that is no UTF-8: what was before it is published, and the error says how many."""
    with zs.Publisher("named", Named) as named, zs.Subscriber("named", Named) as sub:
        made = np.zeros(5, zs.layout_of(Named).dtype)
        made["n"] = range(5)
        made["name"]["length"] = 1
        made["name"]["data"][3, 0] = 0xFF
        with pytest.raises(ValueError, match=r"samples\[3\]: .*UTF-8") as error:
            named.publish_many(made)
        assert error.value.published == 3
        assert [lease.sample.n for lease in iter(sub.take, None)] == [0, 1, 2]
        made["name"]["data"][3, 0] = ord("x")
        assert named.publish_many(made) == 8
        batch = sub.take_many()
        assert batch.samples["n"].tolist() == [0, 1, 2, 3, 4]
        assert batch.samples["name"]["data"][3, 0] == ord("x")


def test_max_and_out_bound_a_batch(pub, sub) -> None:
    """What does not fit stays for the next one."""
    pub.publish_many(points(0, 30))
    out = np.zeros(12, POINT)
    batch = sub.take_many(5, out)
    assert numbers(batch) == [0, 1, 2, 3, 4]
    assert batch.samples.base is out
    assert out["n"][4] == 4
    assert out["n"][5] == 0
    assert numbers(sub.take_many(out=out)) == list(range(5, 17)) == out["n"].tolist()
    assert numbers(sub.take_many(3)) == [17, 18, 19]
    strided = np.zeros((8, 2), POINT)[:, 1]
    assert numbers(sub.take_many(100, strided)) == list(range(20, 28)) == strided["n"].tolist()
    assert len(sub.take_many()) == 2
    assert len(sub.take_many()) == 0


def test_an_out_that_cannot_be_filled_is_refused(pub, sub) -> None:
    """Another dtype, other dimensions, read-only, no room, no array: nothing is taken."""
    pub.publish_many(points(0, 3))
    for out, error, text in (
        (np.zeros(3), TypeError, "out has the dtype float64, and the samples have"),
        (np.zeros((3, 1), POINT), TypeError, "one dimension"),
        (np.zeros(0, POINT), ValueError, "at least one"),
        (np.broadcast_to(points(0, 1), 3), ValueError, "read-only"),
        ([1, 2], TypeError, "out is an array"),
    ):
        with pytest.raises(error, match=text):
            sub.take_many(out=out)
    with pytest.raises(ValueError, match="at least one"):
        sub.take_many(0)
    with pytest.raises(ValueError, match="not negative"):
        sub.take_many(-1)
    assert numbers(sub.take_many()) == [0, 1, 2]


def test_an_empty_batch_has_the_dtype_of_the_samples(sub) -> None:
    """Nothing to take is no error."""
    batch = sub.take_many(timeout=0.001)
    assert len(batch) == 0
    assert not batch
    assert batch.samples.dtype == POINT
    assert batch.publisher_ids == ()
    with zs.Subscriber("silent") as unknown:
        assert len(unknown.take_many()) == 0


class Several(zs.Sample):
    points: Annotated[list[Point], zs.Shape(8)]


def test_a_batch_is_not_written_into_a_sample_that_was_committed_meanwhile(pub, sub) -> None:
    """`out` may lie in a loan, which a signal handler or another thread can commit while take_many waits."""
    with zs.Publisher("several", Several) as outer, zs.Subscriber("several", Several) as reader:
        loan = outer.loan()
        out = np.asarray(loan.sample.points)
        out["n"] = 7

        def commit(_signum: int, _frame: Any) -> None:
            loan.commit()
            pub.publish_many(points(0, 3))

        with pytest.raises(ValueError, match="out is read-only"):
            take_during(signal_handler=commit, sub=sub, out=out)
        assert [item.n for item in reader.take().sample.points] == [7] * 8
        assert numbers(sub.take_many()) == [0, 1, 2]


def test_a_batch_stays_within_an_array_that_gets_another_shape_meanwhile(pub, sub) -> None:
    """Its memory is the same, and the steps between its items are others."""
    out = np.zeros(6, POINT)

    def reshape(_signum: int, _frame: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # newer numpy advises against it
            out.shape = (2, 3)
        pub.publish_many(points(0, 3))

    with pytest.raises(TypeError, match="one dimension"):
        take_during(signal_handler=reshape, sub=sub, out=out)
    assert not out["n"].any()
    assert numbers(sub.take_many()) == [0, 1, 2]


def take_during(signal_handler: Any, sub: zs.Subscriber[Point], out: NDArray[Any]) -> None:
    """Wait for a batch, with a signal in between."""
    before = signal.signal(signal.SIGALRM, signal_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        sub.take_many(out=out, timeout=None)
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.row("SUB-8", "PUB-5")
def test_what_a_batch_overwrites_is_counted_as_lost(pub, sub) -> None:
    """A batch larger than the depth pushes out its own first samples, as single samples do."""
    pub.publish_many(points(0, 1000))
    batch = sub.take_many(150)
    assert numbers(batch) == list(range(800, 950))
    assert batch.lost == 800
    assert sub.take_many().lost == 0
    assert sub.stats.taken == 200
    assert sub.lost == 800


def test_batches_and_single_calls_mix(pub, sub) -> None:
    """A loan that is out, a lease that is held: neither is touched, and counters are those of all of them."""
    loan = pub.loan()
    pub.publish_many(points(1, 10))
    held = sub.take()
    assert numbers(sub.take_many(4)) == [2, 3, 4, 5]
    with loan as point:
        point.n = 11
    assert sub.latest().sample.n == 11
    pub.publish_many(points(12, 150))
    assert held.sample.n == 1
    assert numbers(sub.take_many())[-1] == 161
    stats = sub.stats
    assert (stats.taken, stats.lost, stats.skipped, stats.leases) == (156, 0, 5, 1)
    assert (pub.stats.published, pub.stats.bytes) == (161, 161 * POINT.itemsize)


def test_copies_need_one_free_lease(pub) -> None:
    """A batch of any size with max_leases=1; none while that one is held."""
    with zs.Subscriber("points", Point, max_leases=1) as sub:
        pub.publish_many(points(0, 150))
        assert len(sub.take_many()) == 150
        pub.publish_many(points(0, 2))
        held = sub.take()
        with pytest.raises(zs.TooManyLeasesError):
            sub.take_many()
        del held
        assert numbers(sub.take_many()) == [1]


@pytest.mark.row("PUB-5", "PUB-2")
@pytest.mark.parametrize("max_loans", [1, 2, 3, 64])
def test_a_batch_waits_for_a_reliable_subscriber(max_loans: int) -> None:
    """on_full="block": the publisher of 2000 samples never overtakes a subscriber that takes some at a time."""
    with (
        zs.Publisher("points", Point, depth=64, max_loans=max_loans, on_full="block") as pub,
        zs.Subscriber("points", Point, reliable=True) as sub,
    ):
        thread = threading.Thread(target=pub.publish_many, args=(points(0, 2000),))
        thread.start()
        found: list[int] = []
        while len(found) < 2000:
            found += numbers(sub.take_many(50, timeout=None))
        thread.join()
        assert found == list(range(2000))
        assert sub.lost == 0
        assert pub.stats.published == 2000


@pytest.mark.parametrize("on_full", ["block", "raise"])
def test_a_full_window_ends_a_batch_with_an_error_that_counts(on_full: zs.OnFull) -> None:
    """The samples that fitted are published and announced, and the error says how many they are."""
    with (
        zs.Publisher("points", Point, depth=10, max_loans=3, on_full=on_full) as pub,
        zs.Subscriber("points", Point, reliable=True) as sub,
    ):
        with pytest.raises(zs.BackpressureError) as error:
            pub.publish_many(points(0, 100), timeout=0.01)
        assert error.value.published == 10 == pub.sequence
        assert numbers(sub.take_many(4)) == [0, 1, 2, 3]
        with pytest.raises(zs.BackpressureError) as error:
            pub.publish_many((Point(n=n, xyz=np.zeros(3)) for n in range(10)), timeout=0)
        assert error.value.published == 4
        assert len(sub.take_many()) == 10


@pytest.mark.parametrize("is_array", [True, False])
def test_the_timeout_of_a_batch_is_that_of_all_its_samples(is_array: bool) -> None:
    """A subscriber that takes a sample each quarter of it does not keep the batch going."""
    with (
        zs.Publisher("points", Point, depth=2, on_full="block") as pub,
        zs.Subscriber("points", Point, reliable=True) as sub,
    ):
        pub.publish_many(points(0, 2))
        done = threading.Event()

        def take_slowly() -> None:
            while not done.wait(0.05):
                sub.take()

        thread = threading.Thread(target=take_slowly)
        thread.start()
        try:
            with pytest.raises(zs.BackpressureError) as error:
                pub.publish_many(points(0, 1000) if is_array else list(points(0, 1000)), timeout=0.2)
        finally:
            done.set()
            thread.join()
        assert error.value.published == pub.sequence - 2 < 1000


def test_held_slots_end_a_batch_with_an_error_that_counts() -> None:
    """No slot is free after the first ones."""
    with (
        zs.Publisher("points", Point, depth=4, max_loans=1, spare_slots=2) as pub,
        zs.Subscriber("points", Point, max_leases=8) as sub,
    ):
        pub.publish_many(points(0, 4))
        held = [sub.take() for _ in range(4)]
        with pytest.raises(zs.NoFreeSlotError) as error:
            pub.publish_many(points(4, 100))
        assert error.value.published == 3
        assert len(error.value.holders) == 1
        assert [lease.sample.n for lease in held] == [0, 1, 2, 3]
        held.clear()
        assert numbers(sub.take_many()) == [4, 5, 6]
        pub.publish_many(points(7, 100))


def test_a_signal_handler_runs_between_two_parts_of_a_batch(pub) -> None:
    """Ctrl-C ends a long batch, and the exception says how many were published."""
    array = points(0, 3_000_000)
    threading.Timer(0.01, signal.raise_signal, (signal.SIGINT,)).start()
    with pytest.raises(KeyboardInterrupt) as error:
        publish_for_ever(pub, array)
    published = getattr(error.value, "published", 0)
    assert pub.sequence % 3_000_000 == published


def publish_until_signal(pub: zs.Publisher[Point], sample: Any, after: float) -> None:
    signal.setitimer(signal.ITIMER_REAL, after)
    pub.publish_many(itertools.repeat(sample))


@pytest.mark.parametrize("form", ["model", "mapping", "record"])
def test_an_interrupted_batch_counts_the_sample_that_was_published_last(pub, form: str) -> None:
    """A signal during the publication of a sample is handled before the batch has counted it, or after both."""
    forms = {"model": Point(n=1, xyz=np.zeros(3)), "mapping": {"n": 1, "xyz": [0, 0, 0]}, "record": points(0, 1)[0]}

    def interrupt(_signum: int, _frame: Any) -> None:
        raise InterruptedError

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        for turn in range(60):
            before = pub.sequence
            with pytest.raises(InterruptedError) as error:
                publish_until_signal(pub, forms[form], after=0.002 + turn * 7e-6)
            assert getattr(error.value, "published", 0) == pub.sequence - before
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_other_threads_run_while_models_are_published(pub) -> None:
    """A batch of models without an end keeps the interpreter for itself no longer than other code."""
    thread = threading.Timer(0.01, pub.close)
    thread.start()
    with pytest.raises(zs.ClosedError) as error:
        pub.publish_many(itertools.repeat(Point(n=1, xyz=np.zeros(3))))
    thread.join()
    assert error.value.published > 0


def test_a_signal_handler_may_publish_and_close(pub, sub) -> None:
    """It finds the publisher between two samples; a batch whose publisher is closed ends with ClosedError."""

    def handle(_signum: int, _frame: Any) -> None:
        pub.publish(Point(n=4711, xyz=np.zeros(3)))
        pub.close()

    array = points(0, 100_000)
    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(zs.ClosedError) as error:
            publish_for_ever(pub, array)
    finally:
        signal.signal(signal.SIGALRM, before)
    batch = sub.take_many()
    assert numbers(batch)[-1] == 4711
    assert getattr(error.value, "published", 0) == (batch.sequences[-1] - 1) % 100_000


def test_threads_share_both_ends(pub) -> None:
    """Two threads publish, two take: every sample once, and those of a batch in order."""
    with zs.Publisher("points", Point, depth=6000, max_loans=4) as wide, zs.Subscriber("points", Point) as sub:
        start = threading.Barrier(4)
        found: list[zs.Batch] = []

        def publish(first: int) -> None:
            start.wait()
            for at in range(0, 2000, 100):
                wide.publish_many(points(first + at, 100))

        def take() -> None:
            start.wait()
            while sub.stats.taken < 4000:
                found.append(sub.take_many(64, timeout=0.01))

        threads = [
            *(threading.Thread(target=publish, args=(first,)) for first in (0, 10_000)),
            *(threading.Thread(target=take) for _ in range(2)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        by_sequence = {s: n for batch in found for s, n in zip(batch.sequences.tolist(), numbers(batch), strict=True)}
        assert sorted(by_sequence) == list(range(1, 4001))
        assert sum(map(len, found)) == 4000
        order = [by_sequence[s] for s in sorted(by_sequence)]
        assert [n for n in order if n < 10_000] == list(range(2000))
        assert [n for n in order if n >= 10_000] == list(range(10_000, 12_000))
        assert sub.stats.leases == 0
        assert sub.lost == 0


@pytest.mark.row("SUB-2")
def test_publishers_take_turns_in_a_batch(pub, sub) -> None:
    """Sample by sample while both have some, each in its own order."""
    with zs.Publisher("points", Point, depth=200) as other:
        assert sub.wait_for_publishers(2, timeout=10)
        pub.publish_many(points(0, 6))
        other.publish_many(points(100, 3))
        batch = sub.take_many()
        assert set(batch.publisher_ids) == {pub.publisher_id, other.publisher_id}
        senders = [batch.publisher_ids[i] for i in batch.publisher_index]
        first = batch.publisher_ids.index(senders[0])
        assert batch.publisher_index[:6].tolist() == [first, 1 - first] * 3
        by_sender = {
            name: [n for n, sender in zip(numbers(batch), senders, strict=True) if sender == name]
            for name in batch.publisher_ids
        }
        assert by_sender == {pub.publisher_id: [0, 1, 2, 3, 4, 5], other.publisher_id: [100, 101, 102]}
        pub.publish_many(points(6, 2))
        other.publish_many(points(103, 2))
        turns = [sub.take_many(1) for _ in range(4)]
        assert [turn.publisher_ids[turn.publisher_index[0]] for turn in turns[:2]] == [
            turn.publisher_ids[turn.publisher_index[0]] for turn in turns[2:]
        ]
        assert sorted(numbers(turns[0]) + numbers(turns[1])) == [6, 103]


@pytest.mark.parametrize("count", [1, 3])
def test_large_samples_are_copied_one_by_one(count: int) -> None:
    """100 kB each: the same, without the GIL."""
    dtype = zs.layout_of(Large).dtype
    with (
        zs.Publisher("large", Large, depth=4, on_full="block") as pub,
        zs.Subscriber("large", Large, reliable=True) as sub,
    ):
        made = np.zeros(count, dtype)
        made["n"] = range(count)
        made["data"] = np.arange(100_000) % 251
        assert pub.publish_many(made) == count
        batch = sub.take_many(timeout=None)
        assert batch.samples.tobytes() == made.tobytes()
        assert batch.sequences.tolist() == list(range(1, count + 1))
        assert batch.lost == 0
        assert sub.stats.leases == 0


def test_samples_of_a_dead_publisher_are_taken_as_a_batch(sub, pub) -> None:
    """Then the topic is followed to the next publisher."""
    pub.publish_many(points(0, 50))
    abandon(pub)
    assert len(sub.take_many()) == 50
    with zs.Publisher("points", Point) as heir:
        heir.publish_many(points(7, 3))
        assert numbers(sub.take_many(timeout=None)) == [7, 8, 9]


def test_a_wrong_crc_ends_the_batch() -> None:
    """crc=True and verify=True: the samples before the changed one come first, then the error, then those after it."""
    with (
        zs.Publisher("points", Point, crc=True) as pub,
        zs.Subscriber("points", Point, verify=True) as sub,
    ):
        pub.publish_many(points(0, 6))
        control = ControlBytes(pub.flink)
        slot = control.read(control.ring_at(4), "Q") & 0xFFFF
        ControlBytes(pub.flink, 0).write(slot * 128, "Q", 4711)
        assert numbers(sub.take_many()) == [0, 1, 2]
        with pytest.raises(zs.CorruptSegmentError, match="sample 4"):
            sub.take_many()
        assert numbers(sub.take_many()) == [4, 5]
        assert sub.stats.corrupt == 1


def test_a_sample_of_a_wrong_size_ends_the_batch(pub, sub) -> None:
    """The samples before it come first, then CorruptSegmentError, then those after it."""
    pub.publish_many(points(0, 6))
    control = ControlBytes(pub.flink)
    control.write(control.slot_of(4) + 16, "Q", 3)
    assert numbers(sub.take_many()) == [0, 1, 2]
    with pytest.raises(zs.CorruptSegmentError, match="sample 4"):
        sub.take_many()
    assert numbers(sub.take_many()) == [4, 5]


def test_closed_ends_raise(pub, sub) -> None:
    """As single calls do."""
    sub.close()
    with pytest.raises(zs.ClosedError):
        sub.take_many()
    pub.close()
    with pytest.raises(zs.ClosedError) as error:
        pub.publish_many(points(0, 1))
    assert isinstance(error.value, zs.ClosedError)


def test_one_of_64_samples_enters_the_latency_histogram(pub, sub) -> None:
    """As with single takes, however the samples are divided into batches."""
    for most in (1, 3, 64, 200):
        pub.publish_many(points(0, 160))
        while len(sub.take_many(most)) > 0:
            pass
    segment = pub.allocator.native.segment
    assert sum(segment.peer(segment.active_indexes()[0]).latency) == 4 * 160 // 64


def test_batches_cannot_be_made(sub) -> None:
    """They come from take_many."""
    with pytest.raises(TypeError, match="take_many"):
        zs.Batch()


# --- samples in place ---


@pytest.mark.row("PUB-5", "SLOT-14")
def test_loans_are_written_in_place_and_committed_together(pub, sub) -> None:
    """Nothing is seen before the end; then all are, in order, with one time and one wake-up."""
    segment = pub.allocator.native.segment
    before = segment.generation
    with pub.loan_many(3) as samples:
        for i, point in enumerate(samples):
            point.n = i
            point.xyz[:] = i
        assert sub.take() is None
    assert segment.generation == before + 1
    batch = sub.take_many()
    assert numbers(batch) == [0, 1, 2]
    assert batch.samples["xyz"].tolist() == [[i] * 3 for i in range(3)]
    assert len(set(batch.published_ns.tolist())) == 1
    loans = pub.loan_many(4)
    assert len(loans) == 4
    assert repr(loans) == "<Loans of 4 samples>"
    assert loans.commit() == 7 == pub.sequence
    assert repr(loans) == "<Loans given back>"


def test_loans_are_discarded_together(pub, sub) -> None:
    """By an exception, by hand, and when they are dropped: no sample, and all slots come back."""
    free = pub.allocator.free_count
    with suppress(KeyError), pub.loan_many(2) as samples:
        samples[0].n = 4711
        raise KeyError
    loans = pub.loan_many(4)
    loans.discard()
    loans.discard()
    pub.loan_many(3)
    del samples
    assert pub.stats.discarded == 9
    assert (pub.allocator.loan_count, pub.allocator.free_count) == (0, free)
    assert sub.take() is None


def test_loans_that_were_given_back_are_closed(pub) -> None:
    """What was written stays readable, and is no longer written."""
    loans = pub.loan_many(2)
    points = loans.samples
    points[1].n = 7
    loans.commit()
    with pytest.raises(zs.ClosedError):
        loans.commit()
    with pytest.raises(zs.ClosedError):
        loans.samples  # noqa: B018  # it raises
    with pytest.raises(zs.ClosedError):
        points[1].n = 8
    assert points[1].n == 7


def test_an_exported_memoryview_holds_off_the_commit_of_all(pub, sub) -> None:
    """BufferError before anything is published; then the commit succeeds."""
    loans = pub.loan_many(3)
    view = memoryview(loans.samples[2])
    with pytest.raises(BufferError):
        loans.commit()
    assert pub.sequence == 0
    view.release()
    assert loans.commit() == 3
    assert len(sub.take_many()) == 3


def test_more_loans_than_max_loans_are_refused(pub) -> None:
    """At once, with both numbers; and with those that are out, when the time is over."""
    for count in (0, 5):
        with pytest.raises(ValueError, match=f"{count} samples at once, and max_loans allows 1 to 4"):
            pub.loan_many(count)
    held = pub.loan()
    with pytest.raises(
        zs.NoFreeSlotError, match=r"1 loans are out, and max_loans allows 4: .* room for 4 more"
    ) as error:
        pub.loan_many(4, timeout=None)  # in vain: this thread has all loans
    assert error.value.loaned == 1
    with pub.loan_many(3) as samples:
        assert len(samples) == 3
    held.discard()


def test_loans_wait_for_other_threads(pub) -> None:
    """All or none: two threads that borrow three of four each do not wait for each other."""

    def publish() -> None:
        for _ in range(200):
            with pub.loan_many(3, timeout=None) as samples:
                samples[0].n = 1

    threads = [threading.Thread(target=publish) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pub.sequence == 1200
    assert pub.stats.no_free_slot == 0


@pytest.mark.row("PUB-2")
def test_loans_fit_the_window_of_a_reliable_subscriber() -> None:
    """All of them are promised at once, and none is lost."""
    with (
        zs.Publisher("points", Point, depth=6, max_loans=4, on_full="raise") as pub,
        zs.Subscriber("points", Point, reliable=True) as sub,
    ):
        pub.publish_many(points(0, 3))
        with pytest.raises(zs.BackpressureError):
            pub.loan_many(4)
        assert pub.allocator.loan_count == 0
        assert len(sub.take_many(1)) == 1
        with pub.loan_many(4) as samples:
            for i, point in enumerate(samples):
                point.n = 3 + i
        assert numbers(sub.take_many()) == [1, 2, 3, 4, 5, 6]
        assert sub.lost == 0


def test_loans_without_a_free_slot_name_the_holders() -> None:
    """Some slots are free, and not as many as are asked for."""
    with (
        zs.Publisher("points", Point, depth=4, max_loans=4, spare_slots=0) as pub,
        zs.Subscriber("points", Point, max_leases=4) as sub,
    ):
        pub.publish_many(points(0, 4))
        held = [sub.take() for _ in range(4)]
        pub.publish_many(points(4, 2))
        with pytest.raises(zs.NoFreeSlotError, match="fewer than 4 of 8 slots are free") as error:
            pub.loan_many(4)
        assert len(error.value.holders) == 1
        assert pub.allocator.loan_count == 0
        with pub.loan_many(2):
            pass
        assert [lease.sample.n for lease in held] == [0, 1, 2, 3]


def test_loans_cannot_be_made_or_pickled(pub) -> None:
    """They come from loan_many."""
    with pytest.raises(TypeError, match="loan_many"):
        zs.Loans()
    loans = pub.loan_many(1)
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(loans)
