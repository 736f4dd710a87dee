"""`Publisher.send`: the fields of one sample as keywords, written in place and published in one call."""

from __future__ import annotations

import enum
import threading
from collections import UserDict
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import Field

import zeroslot as zs
from zeroslot import (
    BackpressureError,
    ClosedError,
    NoFreeSlotError,
    Publisher,
    Sample,
    SampleTooLargeError,
    Subscriber,
)

calls: list[int] = []  # of the factory of Scan.number


def _count() -> int:
    calls.append(len(calls) + 1)
    return calls[-1]


class Mode(enum.IntEnum):
    OFF = 0
    ON = 7


class Pose(Sample):
    x: zs.F64
    y: zs.F32 = 2.5


class Scan(Sample):
    stamp_ns: zs.U64
    gain: zs.F64 = 1.5
    number: zs.U32 = Field(default_factory=_count)
    small: zs.I8 = -3
    half: zs.F16 = 0.5
    valid: zs.Bool = True
    mode: Mode = Mode.ON
    frame: Annotated[str, zs.MaxBytes(8)] = "lidar"
    raw: Annotated[bytes, zs.MaxBytes(8)] = b"\x01"
    ranges: Annotated[NDArray[np.float32], zs.Shape(3)]
    pose: Pose = Pose(x=1.0)
    limit: zs.U16 | None = None
    points: Annotated[list[Pose], zs.MaxLen(2)] = Field(default=[])
    timeout: zs.U8 = 0  # a name that is an argument elsewhere


class Note(Sample):
    number: zs.U32 = 4
    text: str
    image: NDArray[np.uint8]
    data: bytes = b"abc"


RANGES = np.array([1, 2, 3], np.float32)


@pytest.fixture
def pub() -> Iterator[Publisher[Scan]]:
    with Publisher("scan", Scan, depth=2, spare_slots=4) as publisher:
        yield publisher


@pytest.fixture
def sub(pub: Publisher[Scan]) -> Iterator[Subscriber[Scan]]:
    with Subscriber("scan", Scan, max_leases=4) as subscriber:
        yield subscriber


def taken(sub: Subscriber[Any]) -> Any:
    lease = sub.take()
    assert lease is not None
    return lease.sample


@pytest.mark.row("PUB-1", "TYP-8", "TYP-9")
def test_fields_of_every_kind(pub: Publisher[Scan], sub: Subscriber[Scan]) -> None:
    """Each is written as a model of the same fields is published."""
    fields: dict[str, Any] = {
        "stamp_ns": 2**64 - 1,
        "gain": 3,
        "number": np.uint32(9),
        "small": -128,
        "half": 0.25,
        "valid": np.False_,
        "mode": Mode.OFF,
        "frame": "äß",
        "raw": bytearray(b"12345678"),
        "ranges": RANGES,
        "pose": Pose(x=1.0, y=2.0),
        "limit": 65535,
        "points": [Pose(x=3.0), {"x": 1.0, "y": 2.0}],
        "timeout": 255,
    }
    assert pub.send(**fields) == 1
    sample = taken(sub)
    assert pub.publish(Scan(**fields)) == 2
    assert bytes(sample) == bytes(taken(sub))
    assert (sample.stamp_ns, sample.gain, sample.small, sample.valid) == (2**64 - 1, 3.0, -128, False)
    assert (sample.frame, sample.raw, sample.limit, sample.timeout) == ("äß", b"12345678", 65535, 255)
    assert list(sample.points) == [Pose(x=3.0), Pose(x=1.0, y=2.0)]


def test_the_order_of_keywords_does_not_matter(pub: Publisher[Scan], sub: Subscriber[Scan]) -> None:
    """More orders than are remembered, in turn, and names that are other objects than those of the class."""
    names = ["stamp_ns", "gain", "small", "limit"]
    for turn in range(3):
        for start in range(len(names)):
            for count in range(1, len(names) + 1):
                chosen = {*(names * 2)[start : start + count], "stamp_ns"}
                values = {"".join([*name]): n + turn for n, name in enumerate(sorted(chosen))}
                pub.send(ranges=RANGES, **values)
                sample = taken(sub)
                assert {name: getattr(sample, name) for name in chosen} == values
                assert sample.gain == values.get("gain", 1.5)


def test_fields_that_are_not_given_start_as_in_a_loan(pub: Publisher[Scan], sub: Subscriber[Scan]) -> None:
    """Whatever the slot held before. A factory is called once, and not for a field that is given."""
    before = len(calls)
    for _ in range(12):
        pub.publish(Scan(stamp_ns=1, ranges=RANGES, number=1, limit=3, frame="12345678", points=[Pose(x=1.0)] * 2))
        taken(sub)
        pub.send(stamp_ns=7, ranges=RANGES, number=5)
        sample = taken(sub)
        with pub.loan() as loaned:
            loaned.stamp_ns, loaned.ranges, loaned.number = 7, RANGES, 5
        assert bytes(sample) == bytes(taken(sub))
        assert (sample.gain, sample.mode, sample.frame, sample.pose, sample.limit) == (
            1.5, Mode.ON, "lidar", Pose(x=1.0), None,
        )  # fmt: skip  # a case on each line
    assert len(calls) - before == 12  # the loans'
    pub.send(stamp_ns=7, ranges=RANGES)
    assert taken(sub).number == len(calls) == before + 13


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "out of range": ({"small": 128}, ValueError, r"^small: 128 is out of range for i8 \(-128 to 127\)$"),
    "negative": ({"stamp_ns": -1}, ValueError, r"^stamp_ns: -1 is out of range for u64"),
    "not a number": ({"gain": "3"}, TypeError, "^gain: must be real number, not str$"),
    "a float for an int": ({"stamp_ns": 1.0}, TypeError, "^stamp_ns: 'float' object cannot be interpreted"),
    "beyond f16": ({"half": 1e6}, ValueError, "^half: 1000000.0 is beyond the range of f16$"),
    "no bool": ({"valid": 2}, TypeError, "^valid: a bool, not int$"),
    "no enumerator": ({"mode": 3}, ValueError, "^mode: 3 is no value of Mode$"),
    "text too long": ({"frame": "123456789"}, ValueError, "^frame: 9 bytes, and the field holds 8$"),
    "bytes for text": ({"frame": b"x"}, TypeError, "^frame: a str, not bytes$"),
    "another shape": ({"ranges": np.zeros(4, np.float32)}, ValueError, r"^ranges: shape \(4,\) is not \(3,\)$"),
    "nested": ({"pose": {"x": 1.0, "y": 1e300}}, ValueError, "^pose: y: 1e"),
    "nested, incomplete": ({"pose": {"x": 1.0}}, ValueError, "^pose: a value for y is missing$"),
    "no sample": ({"pose": 3}, TypeError, "^pose: a Pose, not int$"),
    "too many items": ({"points": [Pose(x=1.0)] * 3}, ValueError, "^points: 3 items, and the field holds at most 2$"),
    "unknown": (
        {"gian": 3.0, "x": 1},
        TypeError,
        r"^send\(\) got gian, x, and the fields of Scan are stamp_ns, gain, ",
    ),
}


@pytest.mark.row("SLOT-4", "TYP-8")
@pytest.mark.parametrize("case", WRONG)
def test_after_an_error_nothing_is_published(pub: Publisher[Scan], sub: Subscriber[Scan], case: str) -> None:
    """The error names the field, and the slot is given back each time."""
    fields, kind, text = WRONG[case]
    for _ in range(20):  # more than there are slots
        with pytest.raises(kind, match=text):
            pub.send(**{"stamp_ns": 1, "ranges": RANGES} | fields)
    assert sub.take() is None
    assert pub.sequence == 0
    pub.send(stamp_ns=1, ranges=RANGES)
    assert taken(sub).stamp_ns == 1


def test_errors_are_those_of_publish(pub: Publisher[Scan]) -> None:
    """The same class and the same text as for a model with the same wrong value."""
    right = Scan(stamp_ns=1, ranges=RANGES).__dict__
    for case, (fields, kind, _) in WRONG.items():
        if case != "unknown":
            with pytest.raises(kind) as sent:
                pub.send(**right | fields)
            with pytest.raises(kind) as published:
                pub.publish(Scan.model_construct(**right | fields))
            assert str(sent.value) == str(published.value)


def test_fields_without_a_default_have_to_be_given(pub: Publisher[Scan]) -> None:
    """TypeError names all that are missing; so it does where no field is given."""
    with pytest.raises(TypeError, match=r"^send\(\) is missing stamp_ns, ranges: fields of Scan without a default$"):
        pub.send()
    with pytest.raises(TypeError, match=r"^send\(\) is missing ranges: "):
        pub.send(stamp_ns=1, gain=2.0)
    with pytest.raises(TypeError, match=r"^send\(\) takes fields by name, and 2 arguments .*publish\(sample\)$"):
        pub.send(1, 2)  # type: ignore[call-arg]  # what a caller gets who does it all the same
    assert pub.sequence == 0


def test_a_mapping_and_a_view_for_a_nested_sample(pub: Publisher[Scan], sub: Subscriber[Scan]) -> None:
    """Any mapping of all its fields, and a sample in place."""
    pub.send(stamp_ns=1, ranges=RANGES, pose=UserDict(x=3.0, y=4.0))
    pose = taken(sub).pose
    pub.send(stamp_ns=1, ranges=RANGES, pose=pose)
    assert taken(sub).pose == pose == Pose(x=3.0, y=4.0)


@pytest.mark.row("TYP-12")
def test_a_type_whose_fields_all_have_defaults() -> None:
    """`send()` publishes them; a type without fields has nothing else."""

    class Beat(Sample):
        count: zs.U8 = 7

    class Nothing(Sample):
        pass

    with Publisher("beat", Beat) as pub, Subscriber("beat", Beat) as sub:
        assert (pub.send(), taken(sub).count) == (1, 7)
    with Publisher("nothing", Nothing) as nothing, Subscriber("nothing", Nothing) as other:
        assert nothing.send() == 1
        assert other.take() is not None


@pytest.mark.row("PUB-1")
def test_variable_fields_are_as_large_as_their_values() -> None:
    """Those that are not given are as large as their defaults, and an error gives the slot back."""
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    with Publisher("note", Note, max_bytes=1000) as pub, Subscriber("note", Note, max_leases=8) as sub:
        for text in ("", "x" * 100):
            pub.send(text=text, image=image)
            sample = taken(sub)
            pub.publish(Note(text=text, image=image))
            assert bytes(sample) == bytes(taken(sub))
            assert (sample.number, sample.text, sample.data, sample.image.tolist()) == (4, text, b"abc", image.tolist())
        for _ in range(100):
            with pytest.raises(TypeError, match=r"^text: a str, not int$"):
                pub.send(text=3, image=image)
            with pytest.raises(ValueError, match=r"^number: -1 is out of range for u32"):
                pub.send(text="x", image=image, number=-1)
            with pytest.raises(SampleTooLargeError):
                pub.send(text="x" * 2000, image=image)
        with pytest.raises(TypeError, match="is missing image"):
            pub.send(text="x")
        assert pub.sequence == 4


@pytest.mark.parametrize("kind", [bytes, np.ndarray])
def test_whole_types_have_no_fields(kind: Any) -> None:
    """TypeError, with what to call instead."""
    with (
        Publisher("whole", kind, max_bytes=64) as pub,
        pytest.raises(TypeError, match=r"^samples of \w+ have no fields: use publish\(sample\)$"),
    ):
        pub.send(data=b"x")


@pytest.mark.row("PUB-2", "PUB-6")
def test_it_waits_as_long_as_the_publisher() -> None:
    """For ever where the publisher blocks, and not at all otherwise."""
    with Publisher("pose", Pose, depth=2, on_full="block") as pub, Subscriber("pose", Pose, reliable=True) as sub:
        pub.send(x=1.0)
        pub.send(x=2.0)
        sent: list[int] = []
        thread = threading.Thread(target=lambda: sent.append(pub.send(x=3.0)))
        thread.start()
        assert [lease.sample.x for _, lease in zip(range(3), sub, strict=False)] == [1.0, 2.0, 3.0]
        thread.join()
        assert sent == [3]
    with (
        Publisher("pose", Pose, depth=2, on_full="raise") as pub,
        Subscriber("pose", Pose, reliable=True),
    ):
        assert (pub.send(x=1.0), pub.send(x=1.0)) == (1, 2)
        with pytest.raises(BackpressureError):
            pub.send(x=1.0)
    with Publisher("pose", Pose, max_loans=1) as pub:
        with pub.loan(), pytest.raises(NoFreeSlotError):
            pub.send(x=1.0)
        assert pub.send(x=1.0) == 2


class Number:
    """A number, to read which runs code."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act

    def __float__(self) -> float:
        self.act()
        return 1.0


def test_values_may_run_any_code(pub: Publisher[Scan], sub: Subscriber[Scan]) -> None:
    """It may send, too, may be interrupted, and may close the publisher."""
    assert pub.send(stamp_ns=2, ranges=RANGES, gain=Number(lambda: pub.send(stamp_ns=1, ranges=RANGES))) == 2
    assert [taken(sub).stamp_ns for _ in range(2)] == [1, 2]

    def interrupt() -> None:
        raise KeyboardInterrupt

    for _ in range(20):
        with pytest.raises(KeyboardInterrupt):
            pub.send(stamp_ns=3, ranges=RANGES, gain=Number(interrupt))
    with pytest.raises(NoFreeSlotError):
        pub.send(stamp_ns=3, gain=Number(lambda: [pub.loan(), pub.loan()]), ranges=RANGES)
    assert pub.send(stamp_ns=4, ranges=RANGES) == 3
    with pytest.raises(ClosedError):
        pub.send(stamp_ns=5, ranges=RANGES, gain=Number(pub.close))
    assert taken(sub).stamp_ns == 4
    assert sub.take() is None
    with pytest.raises(ClosedError):
        pub.send(stamp_ns=6, ranges=RANGES)


def test_values_may_change_the_model_that_is_published() -> None:
    """Each field is what the model has when its turn comes; a field that is gone is an error."""

    class Two(Sample):
        first: zs.F64
        second: zs.F64
        third: Annotated[str, zs.MaxBytes(8)]

    with Publisher("two", Two) as pub, Subscriber("two", Two) as sub:
        model = Two.model_construct(third="x")
        values = model.__dict__
        for act in (lambda: values.update(second=7.0), lambda: values.update({str(n): n for n in range(100)})):
            values.update(first=Number(act), second=5.0)
            pub.publish(model)
            assert (taken(sub).second, taken(sub) if sub.wait(0) else None) in [(7.0, None), (5.0, None)]
        values.update(first=Number(lambda: values.pop("second")))
        for _ in range(50):
            values["second"] = 1.0
            with pytest.raises(ValueError, match=r"^a value for second is missing$"):
                pub.publish(model)
        values.clear()
        with pytest.raises(ValueError, match=r"^a value for first is missing$"):
            pub.publish(model)
        assert sub.take() is None


def test_a_sample_gets_its_crc_and_keeps_no_metadata() -> None:
    """As with publish; the metadata of an earlier sample in the slot is gone."""
    with (
        Publisher("pose", Pose, depth=1, max_loans=1, spare_slots=4, crc=True, metadata=True) as pub,
        Subscriber("pose", Pose, verify=True) as sub,
    ):
        for n in range(20):
            pub.publish(Pose(x=1.0), metadata={"producer": "test"})
            lease = sub.take()
            assert lease is not None
            assert lease.metadata is not None
            lease.release()
            pub.send(x=float(n))
            lease = sub.take()
            assert lease is not None
            assert (lease.sample.x, lease.verify(), lease.metadata) == (float(n), True, None)
            lease.release()


@pytest.mark.row("PUB-1")
def test_threads_send_whole_samples() -> None:
    """Each gets a sequence of its own, and no sample mixes the fields of two."""
    count, threads = 300, 4

    class Pair(Sample):
        one: zs.U64
        other: zs.U64

    with Publisher("pair", Pair, depth=count * threads, max_loans=threads) as pub, Subscriber("pair", Pair) as sub:
        found: list[list[int]] = [[] for _ in range(threads)]
        start = threading.Barrier(threads)

        def run(which: int) -> None:
            start.wait()
            for n in range(count):
                value = which * count + n
                found[which].append(pub.send(one=value, other=SimpleIndex(value) if n % 2 else value))

        workers = [threading.Thread(target=run, args=(which,)) for which in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert sorted(sequence for each in found for sequence in each) == list(range(1, count * threads + 1))
        sent = {sequence: which * count + n for which in range(threads) for n, sequence in enumerate(found[which])}
        for lease in iter(sub.take, None):
            assert lease.sample.one == lease.sample.other == sent[lease.sequence]


class SimpleIndex(SimpleNamespace):
    """An integer that is no int."""

    def __init__(self, value: int) -> None:
        super().__init__(value=value)

    def __index__(self) -> int:
        return int(self.value)
