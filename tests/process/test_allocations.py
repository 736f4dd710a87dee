"""Publishing and taking reach malloc in no steady state: counted by a library that stands before the C library's."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from tests.children import Children

SOURCE = Path(__file__).parents[1] / "gate" / "allocations.c"
BATCHES = 2000 // 64
HOT_PATH = """
import ctypes, gc
from typing import Annotated
import numpy as np
from numpy.typing import NDArray
import zeroslot as zs

class Imu(zs.Sample):
    stamp_ns: zs.U64
    accel: Annotated[NDArray[np.float64], zs.Shape(3)]
    frame: Annotated[str, zs.MaxBytes(16)] = "imu"

library = ctypes.CDLL(args[0])
library.allocations_end.restype = ctypes.c_ulong
ROUNDS = 2000

def count(operation):
    "Allocations of so many rounds, after as many that fill the caches."
    operation(ROUNDS)
    gc.collect()
    gc.disable()
    library.allocations_begin()
    operation(ROUNDS)
    found = library.allocations_end()
    gc.enable()
    return found

def operations(pub, sub):
    model, values = Imu(stamp_ns=1, accel=np.zeros(3)), np.zeros(3)
    batch, out = np.zeros(64, zs.layout_of(Imu).dtype), np.zeros(64, zs.layout_of(Imu).dtype)

    def nothing(rounds):
        for turn in range(rounds):
            pass

    def something(rounds):
        for turn in range(rounds):
            bytes(5000)

    def loan(rounds):
        for turn in range(rounds):
            loan = pub.loan()
            loan.sample.stamp_ns = turn
            loan.sample.accel[:] = values
            loan.commit()

    def with_loan_uninit(rounds):
        for turn in range(rounds):
            with pub.loan_uninit() as imu:
                imu.stamp_ns = turn
                imu.accel = values

    def discard(rounds):
        for turn in range(rounds):
            pub.loan().discard()

    def send(rounds):
        for turn in range(rounds):
            pub.send(stamp_ns=turn, accel=values)

    def publish(rounds):
        for turn in range(rounds):
            pub.publish(model)

    def publish_many(rounds):
        for turn in range(rounds // 64):
            pub.publish_many(batch)

    def take(rounds):
        for turn in range(rounds):
            pub.send(stamp_ns=turn, accel=values)
            lease = sub.take(None)
            lease.sample.stamp_ns
            lease.sample.accel
            lease.release()

    def take_nothing(rounds):
        for turn in range(rounds):
            sub.take()

    def latest(rounds):
        for turn in range(rounds):
            pub.send(stamp_ns=turn, accel=values)
            with sub.latest() as lease:
                lease.sample.frame

    def take_many(rounds):
        for turn in range(rounds // 64):
            pub.publish_many(batch)
            sub.take_many(out=out)

    return [nothing, something, loan, with_loan_uninit, discard, send, publish, publish_many, take_nothing, latest,
            take, take_many]

with zs.Publisher("t", Imu, depth=256) as pub, zs.Subscriber("t", Imu) as sub:
    found = {}
    for operation in operations(pub, sub):
        while sub.take() is not None:
            pass
        found[operation.__name__] = count(operation)
    say(found)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("the counting library needs glibc")
    path = tmp_path_factory.mktemp("library") / "allocations.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(path), str(SOURCE)], check=True)
    return str(path)


@pytest.mark.row("OBS-11", "DEF-12")
def test_no_publish_and_no_take_reaches_malloc(run_child: Children, library: str):
    """2000 of each way to publish and to take call malloc as often as a loop that does nothing.

    A batch allocates for itself, and not for its samples. A large object is seen, so the library counts.
    """
    child = run_child(HOT_PATH, library, env={"LD_PRELOAD": library})
    found = child.hear()
    child.finish()
    assert found.pop("something") >= 2000
    idle = found.pop("nothing")
    assert idle < 10
    batches = {name: found.pop(name) for name in ("publish_many", "take_many")}
    assert {name: count for name, count in found.items() if count > idle} == {}
    assert batches["publish_many"] <= idle + BATCHES
    assert batches["take_many"] <= idle + 2 * BATCHES
