"""What a type checker must refuse. Each wrong line is marked with mypy's code; pyright has to refuse the same lines."""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

import zeroslot as zs
from zeroslot import testing


class Imu(zs.Sample):
    """A sample."""

    stamp_ns: zs.U64
    accel: Annotated[NDArray[np.float64], zs.Shape(3)]
    frame: Annotated[str, zs.MaxBytes(16)] = "imu"


class Other(zs.Sample):
    """Another one."""

    stamp_ns: zs.U64


def declarations() -> None:
    """Fields have types, and no others exist."""
    Imu(stamp_ns="7", accel=np.zeros(3))  # error: arg-type
    Imu(accel=np.zeros(3))  # error: call-arg
    Imu(stamp_ns=7, accel=np.zeros(3), acel=1)  # error: call-arg
    imu = Imu(stamp_ns=7, accel=np.zeros(3))
    imu.stamp_ns = "7"  # error: assignment
    imu.acell = np.zeros(3)  # error: attr-defined
    zs.layout_of(imu)  # error: arg-type
    zs.layout_of(int)  # error: arg-type
    zs.Shape("3")  # error: arg-type
    zs.layout_of(Imu).to_idl("both")  # error: arg-type


def publishing() -> None:
    """A publisher publishes its type."""
    zs.Publisher("robot/imu")  # error: call-arg
    zs.Publisher("robot/imu", int)  # error: type-var
    zs.Publisher("robot/imu", Imu, 4)  # error: call-arg
    zs.Publisher("robot/imu", Imu, on_full="wait")  # error: arg-type
    zs.Publisher(b"robot/imu", Imu)  # error: arg-type
    pub = zs.Publisher("robot/imu", Imu)
    pub.publish(Other(stamp_ns=1))  # error: arg-type
    pub.publish(7)  # error: arg-type
    pub.publish_many([Other(stamp_ns=1)])  # error: list-item
    pub.loan_many("2")  # error: arg-type
    pub.publish({1: 2})  # error: dict-item
    pub.send(7)  # error: call-arg
    pub.publish(Imu(stamp_ns=1, accel=np.zeros(3)), timeout="1")  # error: arg-type
    pub.loan("soon")  # error: arg-type
    pub.loan(sizes=3)  # error: arg-type
    zs.Publisher("robot/imu", Imu, max_bytes="1")  # error: arg-type
    pub.sequence = 1  # error: misc
    with pub.loan() as imu:
        imu.gyro[0] = 1  # error: attr-defined
        imu.frame = 3  # error: assignment
    print(pub.loan().stamp_ns)  # error: attr-defined
    pub.loan().commit(8)  # error: call-arg
    other: zs.Publisher[Other] = pub  # error: assignment
    anything: zs.Publisher[zs.Sample] = pub  # error: assignment
    print(other, anything)


def subscribing() -> None:
    """A lease may be absent, and is read-only."""
    zs.Subscriber("robot/imu", "Imu")  # error: call-overload
    zs.Subscriber("robot/imu", Imu, match="name")  # error: call-overload
    zs.Subscriber("robot/imu", Imu, match="by_name", missing="all")  # error: call-overload
    zs.Publisher("robot/imu", Imu, match="name")  # error: arg-type
    zs.Subscriber("robot/imu", Imu, depth=3)  # error: call-overload
    sub = zs.Subscriber("robot/imu", Imu)
    print(sub.take().sample)  # error: union-attr
    for lease in sub:
        print(lease.stamp_ns)  # error: attr-defined
        print(lease.sample.gyro)  # error: attr-defined
        lease.sample = Imu(stamp_ns=1, accel=np.zeros(3))  # error: misc
        lease.sequence = 3  # error: misc
    wrong: zs.Lease[Other] | None = sub.take()  # error: assignment
    print(wrong)


def passing_on(lease: zs.Lease[Imu]) -> None:
    """A ticket is what a lease makes, and cannot be changed."""
    zs.redeem("ticket")  # error: call-overload
    zs.redeem(lease)  # error: call-overload
    wrong: zs.Lease[Other] = zs.redeem(lease.ticket(), Imu)  # error: arg-type
    lease.ticket().sequence = 3  # error: misc
    print(wrong)


def untyped_slots() -> None:
    """Slots are of their allocator; what they hold is bytes."""
    slots = zs.SlotAllocator.in_memory(8, 1024)
    slots.commit(b"hello")  # error: arg-type
    slots.commit(slots.reserve(), "hello")  # error: arg-type
    slots.reserve().write("hello")  # error: arg-type
    print(slots.reader().take().size)  # error: union-attr
    mapping: Mapping[str, int] = slots.reserve()  # error: assignment
    print(mapping)


def waits_and_watchers(sub: zs.Subscriber[Imu]) -> None:
    """A set waits for numbers of seconds, and a function takes a lease."""
    zs.WaitSet().every("1")  # error: arg-type
    zs.WaitSet().deadline("robot/imu", 1.0)  # error: arg-type
    sub.on_sample(print, newest=True)  # error: call-arg
    wrong: zs.Lease[Other] | None = testing.lease_of(Imu(stamp_ns=1, accel=np.zeros(3)))  # error: arg-type
    zs.Monitor(3)  # error: arg-type
    print(zs.waiting_subscribers(waiting=True), wrong)  # error: call-arg
