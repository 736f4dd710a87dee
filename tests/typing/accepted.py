"""What a user may write: mypy --strict and pyright accept all of it, and see these types."""

import asyncio
import enum
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, assert_type

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

import zeroslot as zs
import zeroslot.testing
from zeroslot import testing


class Mode(enum.IntEnum):
    """An enum field."""

    OFF = 0
    ON = 1


class Vector(zs.Sample):
    """A nested sample."""

    x: float = 0.0
    y: zs.F32 = 0.0


class Imu(zs.Sample):
    """Every kind of field."""

    stamp_ns: zs.U64
    accel: Annotated[NDArray[np.float64], zs.Shape(3)]
    mode: Mode = Mode.OFF
    narrow: Annotated[Mode, zs.U8] = Mode.ON
    level: Literal[1, 2, 3] = 1
    valid: zs.Bool = False
    frame: Annotated[str, zs.MaxBytes(16)] = "imu"
    blob: Annotated[bytes, zs.MaxBytes(16)] = b""
    offset: Vector = Vector()
    corners: Annotated[list[Vector], zs.Shape(4)]
    points: Annotated[list[Vector], zs.MaxLen(16)] = Field(default_factory=list)
    maybe: zs.F64 | None = None


class Derived(Imu):
    """A sample type of a sample type."""

    extra: zs.I32 = 0


def declarations() -> None:
    """Samples are ordinary models: keywords in the constructor, fields of their own types."""
    imu = Imu(stamp_ns=1, accel=np.zeros(3), corners=[Vector(x=1.0, y=2.0)] * 4)
    assert_type(imu.stamp_ns, int)
    assert_type(imu.accel, NDArray[np.float64])
    assert_type(imu.mode, Mode)
    assert_type(imu.offset.y, float)
    assert_type(imu.points, list[Vector])
    assert_type(imu.maybe, float | None)
    layout = zs.layout_of(Imu)
    assert_type(layout, zs.Layout)
    assert_type(layout.size, int)
    assert_type(layout.to_idl("message"), str)
    assert_type(layout.to_c(), str)


def publishing() -> None:
    """A loan gives the sample's own type."""
    with zs.Publisher("robot/imu", Imu, depth=4, on_full="block", domain="lab", mode=0o660, match="by_name") as pub:
        assert_type(pub, zs.Publisher[Imu])
        with pub.loan() as imu:
            assert_type(imu, Imu)
            imu.stamp_ns = 7
            imu.accel[:] = [0, 0, 9.8]
            imu.points.append(Vector())
            imu.maybe = None
        with pub.loan_uninit(timeout=None) as imu:
            assert_type(imu, Imu)
        loan = pub.loan(timeout=0.5)
        assert_type(loan, zs.Loan[Imu])
        assert_type(loan.sample, Imu)
        assert_type(loan.commit(), int)
        loan.discard()
        assert_type(pub.publish(imu), int)
        pub.publish(imu, timeout=None)
        assert_type(pub.publish(imu, metadata={"producer": "imu"}), int)
        assert_type(pub.send(stamp_ns=1, accel=[0.0, 0.0, 9.8], corners=[]), int)
        pub.publish({"stamp_ns": 1})
        pub.publish(Derived(stamp_ns=1, accel=np.zeros(3), corners=[]))
        pub.publish(np.zeros((), zs.layout_of(Imu).dtype))
        pub.publish(np.zeros(1, zs.layout_of(Imu).dtype)[0])
        assert_type(pub.publish_many(np.zeros(3, zs.layout_of(Imu).dtype)), int)
        pub.publish_many([imu, {"stamp_ns": 1}], timeout=None)
        pub.publish_many(Derived(stamp_ns=n, accel=np.zeros(3), corners=[]) for n in range(3))
        assert_type(pub.loan_many(2), zs.Loans[Imu])
        with pub.loan_many(2, timeout=1) as several:
            assert_type(several, tuple[Imu, ...])
        assert_type(pub.sequence, int)
        assert_type(pub.subscriber_count, int)
        assert_type(pub.stats.published, int)
        assert_type(pub.flink, Path)
        assert_type(pub.publisher_id, str)
        assert_type(pub.sample_type, type[Imu])
        assert_type(pub.wait_for_subscribers(2, timeout=1.0), bool)
        assert_type(pub.flush(timeout=None), bool)
        assert_type(pub.closed, bool)
    pub.close()
    zeroslot.testing.abandon(pub)


def subscribing() -> None:
    """So does a lease."""
    with zs.Subscriber("robot/imu", Imu, history=2, reliable=True, match="by_name", spin_us=0) as sub:
        assert_type(sub, zs.Subscriber[Imu])
        for lease in sub:
            assert_type(lease, zs.Lease[Imu])
            assert_type(lease.sample, Imu)
            assert_type(lease.sample.accel, NDArray[np.float64])
            assert_type(lease.copy(), Imu)
            assert_type(lease.sequence, int)
            assert_type(lease.published_ns, int)
            assert_type(lease.publisher_id, str)
            lease.release()
        assert_type(sub.take(), zs.Lease[Imu] | None)
        assert_type(sub.latest(timeout=1), zs.Lease[Imu] | None)
        if (found := sub.take(timeout=None)) is not None:
            with found as held:
                assert_type(held, zs.Lease[Imu])
        assert_type(sub.wait(timeout=0.5), bool)
        batch = sub.take_many(100, timeout=1)
        assert_type(batch, zs.Batch)
        assert_type(batch.sequences, NDArray[np.uint64])
        assert_type(batch.published_ns, NDArray[np.uint64])
        assert_type(batch.publisher_ids[int(batch.publisher_index[0])], str)
        assert_type(sub.take_many(out=batch.samples).lost, int)
        assert_type(sub.wait_for_publishers(), bool)
        assert_type(sub.lost + sub.skipped + sub.stats.taken, int)
        assert_type([publisher.pid for publisher in sub.publishers], list[int])
        assert_type(iter(sub), zs.Subscriber[Imu])
        assert_type(next(sub).sample.stamp_ns, int)
        assert_type(sub.differences, dict[str, str])
    sub.close()
    zs.Subscriber("robot/imu", match="by_name", missing="ignore").close()


def subscribing_without_a_type() -> None:
    """The schema in the segment tells the fields, so a checker does not."""
    sub = zs.Subscriber("robot/imu", history=1)
    assert_type(sub, zs.Subscriber[Any])
    for lease in sub:
        print(lease.sample.accel.mean(), lease.sample.whatever)
    exact: zs.Subscriber[Imu] = zs.Subscriber("robot/imu")
    assert_type(exact.take(), zs.Lease[Imu] | None)


def subscribing_with_or_without(sample_type: type[Imu] | None) -> None:
    """A type that may be None."""
    sub = zs.Subscriber("robot/imu", sample_type)
    for lease in sub:
        print(lease.sample.accel)


class Driver:
    """Handles as attributes, their types spelled out."""

    def __init__(self) -> None:
        self.out: zs.Publisher[Imu] = zs.Publisher("robot/imu", Imu)
        self.last: zs.Lease[Imu] | None = None
        self.open: list[zs.Loan[Imu]] = []

    def step(self, imu: Imu) -> int:
        """A view is an Imu."""
        return self.out.publish(imu)


def newest_of(sub: zs.Subscriber[zs.Sample]) -> Iterator[zs.Sample]:
    """Takes a subscriber of any type."""
    if (lease := sub.latest()) is not None:
        yield lease.sample


def forwarded(lease: zs.Lease[zs.Sample]) -> dict[str, Any]:
    """Takes a lease of any type."""
    return lease.sample.model_dump()


def covariance(sub: zs.Subscriber[Imu], lease: zs.Lease[Imu]) -> None:
    """What reads an Imu reads a Sample."""
    newest_of(sub)
    forwarded(lease)


class Frame(zs.Sample):
    """Fields of variable size."""

    image: NDArray[np.uint8]
    anything: NDArray[Any] | None = None
    name: str = "camera"
    jpeg: bytes = b""
    points: list[Vector] = Field(default_factory=list)


def variable_sizes() -> None:
    """Their types are those of the values; sizes are given by name or in a mapping."""
    pub = zs.Publisher("camera", Frame, max_bytes=8_000_000)
    assert_type(pub.loan(image=(1080, 1920, 3), name=16), zs.Loan[Frame])
    assert_type(pub.loan(1.0, sizes={"image": 5, "points": 2}), zs.Loan[Frame])
    with pub.loan_uninit(image=(480, 640), anything=((3,), np.float32)) as frame:
        assert_type(frame.image, NDArray[np.uint8])
        assert_type(frame.points, list[Vector])
        frame.image[:] = 0
        frame.name, frame.jpeg = "left", b"jpeg"
        zs.resize(frame, image=(100, 640), name=2)
    pub.publish(Frame(image=np.zeros((2, 3), np.uint8)))


def untyped_slots(flink: Path) -> None:
    """Slots and their leases are buffers."""
    with zs.SlotAllocator.in_memory(slot_count=8, slot_capacity=1024) as slots:
        assert_type(slots, zs.SlotAllocator)
        slot = slots.reserve(100, timeout=None)
        assert_type(slot, zs.Slot)
        memoryview(slot)[:5] = b"hello"
        assert_type(slot.array(np.float32, (2, 3)), NDArray[np.float32])
        assert_type(slot.array(np.dtype(np.uint16)), NDArray[np.uint16])
        assert_type(slot.array("f8", 3), NDArray[Any])
        assert_type(slot.write(b"hello"), int)
        assert_type(slots.commit(slot, 5), int)
        slots.commit(slots.reserve(), b"hello")
        slots.commit(slots.reserve(), np.zeros(3, np.uint8))
        slots.reserve().write(memoryview(b"hello"))
        with slots.reserve() as other:
            assert_type(other, zs.Slot)
            other.commit()
        reader = slots.reader(history=1)
        assert_type(reader, zs.SlotReader)
        seen = reader.generation
        while (lease := reader.take()) is None:
            assert_type(reader.wait_for_change(seen, timeout=1.0), bool)
            seen = reader.generation
        with lease:
            assert_type(bytes(lease), bytes)
            assert_type(len(lease) + lease.size + lease.sequence, int)
            assert_type(lease.array(), NDArray[np.uint8])
            print(memoryview(lease)[0], lease.array(np.float64)[0], np.frombuffer(memoryview(lease), np.uint8))
            if sys.version_info >= (3, 12):  # numpy's stubs take any buffer from there on
                print(np.frombuffer(lease, np.uint8))
        assert_type(slots.size.total_bytes, int)
    zs.SlotAllocator.create(flink, 8, 1024, depth=4, mode=0o660).close()
    zs.SlotReader.attach(str(flink), max_leases=2).close()


def errors() -> None:
    """Errors carry their facts, and are what they derive from."""
    try:
        untyped_slots(Path("a"))
    except zs.NoFreeSlotError as error:
        assert_type(error.holders, tuple[zs.SubscriberInfo, ...])
        print(error.slot_count, [described(holder) for holder in error.holders])
    except zs.TooManyPeersError as error:
        assert_type(error.peers, tuple[zs.SubscriberInfo, ...])
    except zs.TypeMismatchError as error:
        print(error.topic)
    except zs.BackpressureError as error:
        raise TimeoutError from error
    except zs.ZeroslotError:
        raise


def described(peer: zs.SubscriberInfo) -> str:
    """A record of a subscriber, from an error, a callback or a listing."""
    stalled = f" for {peer.stalled_s:.3f} s" if peer.stalled_s is not None else ""
    return f"{peer.name} ({peer.pid}) holds {peer.held}, {peer.slots}, is {peer.behind} behind{stalled}"


def inspecting(sub: zs.Subscriber[Imu], pub: zs.Publisher[Imu], match: zs.Match, on_full: zs.OnFull) -> None:
    """Records of live segments have names, and are the same wherever they come from."""
    found: tuple[zs.TopicInfo, ...] = zs.topics()
    for topic in found:
        assert_type(zs.inspect(topic.topic, topic.domain), zs.TopicInfo)
        assert_type(topic.publishers, tuple[zs.PublisherInfo, ...])
        assert_type(topic.publishers[0].counters, dict[str, int])
        assert_type(topic.publishers[0].subscribers[0], zs.SubscriberInfo)
    assert_type(sub.publishers, tuple[zs.PublisherInfo, ...])
    assert_type(sub.stats, zs.SubscriberStats)
    assert_type(pub.stats, zs.PublisherStats)
    assert_type(zs.layout_of(Imu).fields, tuple[zs.Field, ...])
    pub.on_subscriber_death(lambda peer: print(described(peer)))
    zs.Subscriber("robot/imu", Imu, match=match).close()
    zs.Publisher("robot/imu", Imu, match=match).close()
    zs.Publisher("robot/imu", Imu, on_full=on_full).close()


def passing_on(lease: zs.Lease[Imu], raw: zs.SlotLease) -> zs.Lease[Imu]:
    """A redeemed lease has the type that was asked for."""
    ticket = lease.ticket()
    assert_type(ticket, zs.Ticket)
    assert_type((ticket.publisher_id, ticket.slot, ticket.sequence), tuple[str, int, int])
    assert_type(ticket.topic, str | None)
    assert_type(zs.redeem(ticket), zs.Lease[Any])
    assert_type(zs.SlotReader.redeem(raw.ticket()), zs.SlotLease)
    kept = {ticket: lease}
    print(kept, zs.redeem(ticket, Imu, match="by_name", missing="ignore", max_leases=8).sample.accel)
    try:
        return zs.redeem(ticket, Imu)
    except zs.SampleGoneError as error:
        assert_type(error.sequence, int | None)
        raise


async def off_the_loop(sub: zs.Subscriber[Imu]) -> Imu | None:
    """A blocking take in a thread keeps its type."""
    lease = await asyncio.to_thread(sub.take, 1.0)
    return lease.copy() if lease is not None else None


class Scan(zs.Sample):
    """Arrays with bounds, of times and of records."""

    cloud: Annotated[NDArray[np.float32], zs.Shape(zs.UpTo(1000), 3)]
    times: Annotated[NDArray[np.datetime64], zs.Shape(4, dtype="datetime64[ns]")]
    points: Annotated[NDArray[np.void], zs.Shape(zs.UpTo(4), dtype=Vector)]
    vectors: Annotated[list[Vector], zs.MaxLen(4)]
    jpeg: Annotated[bytes, zs.MaxBytes(100)] = b""


def arrays(pub: zs.Publisher[Scan], sub: zs.Subscriber[Scan]) -> None:
    """Arrays in place, buffers, and other sizes."""
    with pub.loan() as scan:
        zs.resize(scan, cloud=(10, 3), jpeg=4)
        scan.cloud[:] = 1
        assert_type(zs.buffer(scan, "jpeg"), memoryview)
        np.asarray(scan.vectors)[:] = 0
    pub.publish({"cloud": np.zeros((1, 3)), "vectors": np.zeros(1, zs.layout_of(Vector).dtype)})
    lease = sub.take()
    if lease is not None:
        assert_type(lease.sample.cloud, NDArray[np.float32])
        print(np.asarray(lease.sample.vectors).dtype, np.from_dlpack(lease.sample.cloud))


def whole_types() -> None:
    """np.ndarray and bytes are sample types; bytes in place are a memoryview."""
    frames = zs.Publisher("cam/rgb", np.ndarray, max_bytes=1 << 20)
    frames.publish(np.zeros((480, 640), np.uint8))
    with frames.loan((480, 640), np.uint8) as frame:
        frame[:] = 0
    lease = zs.Subscriber("cam/rgb", np.ndarray).take()
    assert lease is not None
    print(lease.sample.shape, lease.copy().shape)
    log: zs.Publisher[bytes] = zs.Publisher("log", bytes, max_bytes=1000)
    log.publish(b"line")
    loan = log.loan(100)
    assert_type(loan.sample, memoryview)
    loan.resize(10)
    with log.loan(100) as buffer:
        assert_type(buffer, memoryview)
    lines: zs.Subscriber[bytes] = zs.Subscriber("log", bytes)
    line = lines.take()
    assert line is not None
    print(line.sample[:4], len(line.sample))
    assert_type(line.copy(), bytes)


async def event_loops(sub: zs.Subscriber[Imu]) -> None:
    """Coroutines and iteration give leases of the type."""
    assert_type(await sub.take_async(1.0), zs.Lease[Imu] | None)
    assert_type(await sub.latest_async(timeout=None), zs.Lease[Imu] | None)
    async for lease in sub:
        assert_type(lease, zs.Lease[Imu])
    assert_type(sub.fileno(), int)
    assert_type(sub.peek(), zs.SampleFacts | None)
    assert_type(sub.refused, tuple[zs.RefusedInfo, ...])


def waiting(sub: zs.Subscriber[Imu], other: zs.Subscriber[Vector]) -> None:
    """What is attached is given back with its type."""
    with zs.WaitSet(sub, 0) as waits:
        assert_type(waits.attach(other), zs.Subscriber[Vector])
        assert_type(waits.attach(1, read=False, write=True), int)
        assert_type(waits.every(1.0), zs.Timer)
        assert_type(waits.deadline(sub, 0.5), zs.Deadline)
        assert_type(waits.event(), zs.UserEvent)
        waits.detach(other)
        for ready in waits.wait(timeout=0):
            print(ready is sub)
    with sub.on_sample(lambda lease: print(lease.sample.stamp_ns), latest=True) as callback:
        assert_type(callback, zs.SampleCallback)
        assert_type(callback.stop(1.0), bool)


def watching() -> None:
    """Records of what is there."""
    assert_type(zs.domains(), tuple[str, ...])
    assert_type(zs.topics(waiting=True), tuple[zs.TopicInfo, ...])
    assert_type(zs.waiting_subscribers(), dict[str, tuple[zs.WaitingInfo, ...]])
    assert_type(zs.schema_of("robot/imu"), zs.Layout)
    print(zs.type_from_schema(zs.schema_of("robot/imu")).model_fields)
    assert_type(zs.diagnose("robot/imu"), tuple[zs.Finding, ...])
    assert_type(zs.clean(dry_run=True), tuple[zs.Remains, ...])
    with zs.Monitor("robot/imu", domain="lab") as monitor:
        seen = monitor.snapshot(waiting=True)
        assert_type(seen, zs.Snapshot)
        assert_type(seen.problems, tuple[zs.Problem, ...])
        assert_type(monitor.samples_after(seen.publishers[0].publisher_id), list[zs.SampleFacts])
        assert_type(seen.publishers[0].subscribers[0].latency, zs.LatencyHistogram)
    for metric in zs.MetricsCollector(domain="lab").collect():
        print(metric.name)


def own_tests() -> None:
    """`zeroslot.testing`."""
    assert_type(testing.lease_of(Vector(x=1.0)), zs.Lease[Vector])
    assert_type(testing.view_of(Vector(x=1.0)), Vector)
    with testing.isolated_domain() as domain, testing.stopped_clock() as clock:
        assert_type(domain, str)
        assert_type(clock, testing.Clock)
    with testing.MemoryTopic(Vector, "t") as topic:
        topic.publisher().publish(Vector())
        print(topic.subscriber(history=1).take())
