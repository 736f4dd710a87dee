"""The counted operations, each some thousand times between two marks. tests/gate runs this under callgrind.

    python program.py LIBRARY     LIBRARY: requests.c, compiled

Why an empty loop is counted too: the count of each operation includes its loop, and the empty one is subtracted.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

import zeroslot as zs

ROUNDS = 2000
BATCH = 100  # samples in one call; the count is that of one sample
DEPTH = 2 * ROUNDS


class Tick(zs.Sample):
    number: zs.U64
    accel: Annotated[NDArray[np.float64], zs.Shape(3)]
    frame: Annotated[str, zs.MaxBytes(16)] = "imu"


class Pair(zs.Sample):
    stamp_ns: zs.U64
    value: zs.F64


class Frame(zs.Sample):
    stamp_ns: zs.U64
    image: NDArray[np.uint8]


def nothing() -> Callable[[], Any]:
    def run() -> None:
        for _ in range(ROUNDS):
            pass

    return run


def loan_set_commit(pub: zs.Publisher[Tick]) -> Callable[[], Any]:
    def run() -> None:
        for _ in range(ROUNDS):
            loan = pub.loan()
            loan.sample.number = 7
            loan.commit()

    return run


def loan_uninit_commit(pub: zs.Publisher[Tick]) -> Callable[[], Any]:
    def run() -> None:
        for _ in range(ROUNDS):
            pub.loan_uninit().commit()

    return run


def publish_model(pub: zs.Publisher[Tick]) -> Callable[[], Any]:
    model = Tick(number=7, accel=np.zeros(3))

    def run() -> None:
        for _ in range(ROUNDS):
            pub.publish(model)

    return run


def send(pub: zs.Publisher[Tick]) -> Callable[[], Any]:
    accel = np.zeros(3)

    def run() -> None:
        for _ in range(ROUNDS):
            pub.send(number=7, accel=accel)

    return run


def send_scalars(pub: zs.Publisher[Pair]) -> Callable[[], Any]:
    def run() -> None:
        for _ in range(ROUNDS):
            pub.send(stamp_ns=7, value=0.5)

    return run


def publish_many(pub: zs.Publisher[Pair]) -> Callable[[], Any]:
    batch = np.zeros(BATCH, zs.layout_of(Pair).dtype)

    def run() -> None:
        for _ in range(ROUNDS // BATCH):
            pub.publish_many(batch)

    return run


def take_many(pub: zs.Publisher[Pair], sub: zs.Subscriber[Pair]) -> Callable[[], Any]:
    out = np.zeros(BATCH, zs.layout_of(Pair).dtype)
    while sub.take() is not None:
        pass
    for _ in range(ROUNDS):
        pub.loan_uninit().commit()

    def run() -> None:
        for _ in range(ROUNDS // BATCH):
            sub.take_many(out=out)

    return run


def take_release(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> Callable[[], Any]:
    for _ in range(ROUNDS):
        pub.loan_uninit().commit()

    def run() -> None:
        for _ in range(ROUNDS):
            lease = sub.take()
            lease.release()

    return run


def take_read_release(pub: zs.Publisher[Tick], sub: zs.Subscriber[Tick]) -> Callable[[], Any]:
    for _ in range(ROUNDS):
        pub.loan().commit()

    def run() -> None:
        for _ in range(ROUNDS):
            lease = sub.take()
            lease.sample.number  # noqa: B018  # only the read is counted
            lease.release()

    return run


def empty_take(sub: zs.Subscriber[Tick]) -> Callable[[], Any]:
    while sub.take() is not None:
        pass

    def run() -> None:
        for _ in range(ROUNDS):
            sub.take()

    return run


def sized_loan_commit(pub: zs.Publisher[Frame]) -> Callable[[], Any]:
    def run() -> None:
        for _ in range(ROUNDS):
            pub.loan_uninit(image=(4, 8, 3)).commit()

    return run


def publish_sized_model(pub: zs.Publisher[Frame]) -> Callable[[], Any]:
    model = Frame(stamp_ns=7, image=np.zeros((4, 8, 3), np.uint8))

    def run() -> None:
        for _ in range(ROUNDS):
            pub.publish(model)

    return run


def publish_whole_array(pub: zs.Publisher[NDArray[Any]]) -> Callable[[], Any]:
    array = np.zeros((4, 8, 3), np.uint8)

    def run() -> None:
        for _ in range(ROUNDS):
            pub.publish(array)

    return run


def scalar_get(view: Tick) -> Callable[[], Any]:
    def run() -> None:
        for _ in range(ROUNDS):
            view.number  # noqa: B018  # only the read is counted

    return run


def array_get(view: Tick) -> Callable[[], Any]:
    def run() -> None:
        for _ in range(ROUNDS):
            view.accel  # noqa: B018  # only the read is counted

    return run


def scalar_set(view: Tick) -> Callable[[], Any]:
    def run() -> None:
        for _ in range(ROUNDS):
            view.number = 7

    return run


def array_set(view: Tick) -> Callable[[], Any]:
    accel = np.zeros(3)

    def run() -> None:
        for _ in range(ROUNDS):
            view.accel = accel

    return run


def main(library: str) -> None:
    """Run each operation once as a warm-up, and once between the marks."""
    requests = ctypes.CDLL(library)
    with (
        zs.Publisher("gate", Tick, depth=DEPTH) as pub,
        zs.Subscriber("gate", Tick, spin_us=0) as sub,
        zs.Publisher("pairs", Pair, depth=DEPTH) as pairs,
        zs.Subscriber("pairs", Pair, spin_us=0) as pairs_sub,
        zs.Publisher("frames", Frame, max_bytes=1024) as frames,
        zs.Publisher("arrays", np.ndarray, max_bytes=1024) as arrays,
    ):
        pub.loan().commit()
        kept = sub.take()
        assert kept is not None
        loan = pub.loan()
        makers: dict[str, Callable[[], Callable[[], Any]]] = {
            "nothing": nothing,
            "loan + set + commit": lambda: loan_set_commit(pub),
            "loan_uninit + commit": lambda: loan_uninit_commit(pub),
            "publish(model)": lambda: publish_model(pub),
            "send": lambda: send(pub),
            "send of two numbers": lambda: send_scalars(pairs),
            "publish_many, a sample": lambda: publish_many(pairs),
            "take_many, a sample": lambda: take_many(pairs, pairs_sub),
            "loan of a size + commit": lambda: sized_loan_commit(frames),
            "publish(model) of a size": lambda: publish_sized_model(frames),
            "publish(array)": lambda: publish_whole_array(arrays),
            "take + release": lambda: take_release(pub, sub),
            "take + read + release": lambda: take_read_release(pub, sub),
            "empty take": lambda: empty_take(sub),
            "scalar field get": lambda: scalar_get(kept.sample),
            "array field get": lambda: array_get(kept.sample),
            "scalar field set": lambda: scalar_set(loan.sample),
            "array field set": lambda: array_set(loan.sample),
        }
        gc.disable()
        for name, make in makers.items():
            for counted in (False, True):
                while sub.take() is not None:
                    pass
                run = make()
                if counted:
                    requests.gate_begin()
                run()
                if counted:
                    requests.gate_end(name.encode())
        loan.discard()


if __name__ == "__main__":
    main(sys.argv[1])
