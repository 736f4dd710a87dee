"""The interpreter may exit at any time: status 0, nothing on stderr, nothing in shared memory."""

from __future__ import annotations

import pytest

from tests.process.actors import Cast

ENDINGS = {
    "live leases": "kept = [sub.take(), sub.take()]",
    "live views": "kept = sub.take().sample",
    "live arrays": "kept = isub.take().sample.accel",
    "slices of arrays": "kept = isub.take().sample.accel[1:]",
    "live loans": "kept = pub.loan(), pub.loan()",
    "writable memoryview": "kept = memoryview(slots.reserve())",
    "views of a committed loan": "loan = ipub.loan(); kept = loan.sample.accel; loan.commit()",
    "nothing closed": "",
    "closed twice": "sub.close(); sub.close(); pub.close(); pub.close()",
    "closed with views alive": "kept = isub.take().sample.accel; isub.close(); ipub.close()",
    "a cycle of handles": "kept = []; kept.append((kept, pub, sub, sub.take())); del pub, sub",
    "a class of the package that refers to them": "zs.Publisher.kept = zs.Subscriber.kept = lambda: (pub, sub, slots)",
    "a module holds them": "import builtins; builtins.kept = pub, sub, isub.take().sample.accel",
    "sys.exit inside with": "import sys\nwith pub, sub, pub.loan() as tick, sub.take() as lease:\n    sys.exit(0)",
    "sys.exit while iterating": "import sys\nfor lease in sub:\n    sys.exit(0)",
    "an atexit of the user": ("atexit.register(lambda: pub.publish(Tick(number=1)) and sub.take().sample)"),
    "an atexit of the user, earlier": "early.append(lambda: (pub.closed, sub.closed, repr(pub), repr(sub)))",
    "a finalizer that looks at them": """
class Last:
    def __init__(self): self.kept = pub, sub, isub.take()
    def __del__(self): repr(self.kept), self.kept[2].sample.accel[0], self.kept[0].close()
last = Last()
""",
    "daemon thread in take": "start(lambda: isub.take(timeout=None))",
    "daemon thread in wait": "start(lambda: isub.wait())",
    "daemon thread iterating": "start(lambda: list(isub))",
    "daemon thread spinning": "spin = zs.Subscriber('i', Imu, spin_us=1e9); start(lambda: spin.take(timeout=None))",
    "daemon thread polling": "start(poll)",
    "daemon thread publishing": "start(publish)",
    "daemon thread in a blocked loan": "full = blocked(); start(lambda: full.loan(timeout=None))",
    "daemon thread waiting for peers": (
        "start(lambda: pub.wait_for_subscribers(9))\nstart(lambda: sub.wait_for_publishers(9))"
    ),
    "daemon thread in wait_for_change": "r = slots.reader(); start(lambda: r.wait_for_change(r.generation))",
}

PROGRAM = """
import atexit
early = []
atexit.register(lambda: [act() for act in early])  # runs after zeroslot's own, which is registered later
import threading, time
import numpy as np
import zeroslot as zs
from tests.process.samples import Imu, Tick

pub = zs.Publisher("t", Tick)
sub = zs.Subscriber("t", Tick)
ipub = zs.Publisher("i", Imu)
isub = zs.Subscriber("i", Imu)
slots = zs.SlotAllocator.in_memory(4, 64)
for number in range(4):
    pub.publish(Tick(number=number))
ipub.publish(Imu(stamp_ns=1, accel=np.ones(3)))

def start(target):
    if isub.wait(timeout=0):
        isub.take().release()
    started = threading.Event()
    def run():
        started.set()
        target()
    threading.Thread(target=run, daemon=True).start()
    started.wait()

def poll():
    while True:
        sub.take()

def publish():
    while True:
        with pub.loan() as tick:
            tick.number = 1

def blocked():
    made = zs.Publisher("full", Tick, depth=1, max_loans=1, spare_slots=0)
    reader = zs.Subscriber("full", Tick)
    made.publish(Tick(number=1))
    made.kept = [reader, reader.take()]
    made.publish(Tick(number=2))
    made.kept.append(reader.take())
    return made

"""


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_interpreter_exits_cleanly_with(cast: Cast, ending: str):
    """Status 0, an empty stderr, and /dev/shm as before."""
    child = cast(PROGRAM + ENDINGS[ending])
    child.finish()
    assert child.stderr == ""


def test_handles_in_a_reference_cycle_are_collected(cast: Cast):
    """Garbage that holds a publisher and a subscriber frees them when it is collected, not when the process ends."""
    child = cast(
        """
        import gc, zeroslot as zs
        from tests.process.samples import Tick
        class Node:
            def __init__(self):
                self.pub, self.sub, self.me = zs.Publisher("t", Tick), zs.Subscriber("t", Tick), self
        for _ in range(20):
            Node()
            gc.collect()
            say(len(zs.topics()))
        """
    )
    assert [child.hear() for _ in range(20)] == [0] * 20


# What a daemon thread does with models when the interpreter ends. `plain` is pydantic without this library.
MODELS = """
import enum, os, sys, threading
from typing import Annotated
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
import zeroslot as zs

class Plain(BaseModel):  # flat: pydantic's own metaclass runs Python code for a nested dict
    stamp_ns: int
    frame: str = "imu"

class Mode(enum.IntEnum):
    ON = 1

class Part(zs.Sample):
    x: zs.F32
    y: float = 0.5

class Whole(zs.Sample):
    stamp_ns: zs.U64
    frame: Annotated[str, zs.MaxBytes(16)] = "imu"
    raw: Annotated[bytes, zs.MaxBytes(16)] = b"imu"
    array: Annotated[NDArray[np.float32], zs.Shape(3)]
    part: Part
    parts: Annotated[list[Part], zs.MaxLen(4)]
    numbers: Annotated[list[int], zs.MaxLen(4)] = ()
    mode: Mode = Mode.ON
    maybe: zs.U8 | None = None

array, wide = np.zeros(3, np.float32), np.zeros(3)

def built(array=array, part=None):
    return Whole(stamp_ns=1, frame="a", part=part or Part(x=1), parts=[{"x": 1}], array=array)

def plain():
    Plain(stamp_ns=1, frame="a")

def converted():
    Whole(stamp_ns=np.int64(3), part={"x": 1}, parts=[], array=[1, 2, 3], numbers=np.arange(3))
    built(wide)

def mapping():
    pub.publish({"stamp_ns": 1, "part": {"x": 1}, "parts": [], "array": array})

def published():
    pub.publish(built())

def taken():
    pub.publish(built())
    lease = sub.take()
    if lease is not None:
        lease.copy()
        built(lease.sample.array, lease.sample.part)
        Whole.model_validate(lease.sample)

started = threading.Barrier(3)
def run():
    started.wait()
    while True:
        act()

def main():
    global pub, sub
    pub, sub = zs.Publisher("whole", Whole, max_loans=3), zs.Subscriber("whole", Whole)  # three threads publish
    for _ in range(2):
        threading.Thread(target=run, daemon=True).start()
    started.wait()
    for _ in range(20):
        act()

def exit_in_children(count):
    for _ in range(count):
        if os.fork() == 0:
            return main()
        say(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.parametrize("act", ["plain", "built", "converted", "mapping", "published", "taken"])
def test_a_daemon_thread_that_builds_models_does_not_crash_the_exit(cast: Cast, act: str):
    """As with plain pydantic: the thread ends with the interpreter, and no signal kills the process."""
    exits = 4 if act == "converted" else 15  # numpy's own turns make each of those exits take seconds
    child = cast(MODELS + f"act = {act}\nexit_in_children({exits})\n")
    assert [child.hear() for _ in range(exits)] == [0] * exits
    child.finish()
    assert child.stderr == ""


# What a worker does, and what comes out of it when the program has ended.
WORKERS = {
    "take": ("sub.take(timeout=None)", "ClosedError"),
    "latest": ("sub.latest(timeout=None)", "ClosedError"),
    "wait": ("sub.wait()", "ClosedError"),
    "iteration": ("[lease.sequence for lease in sub]", "[]"),
    "a loop of short takes": ("[None for _ in iter(lambda: sub.take(timeout=0.01), 1)]", "ClosedError"),
    "wait_for_publishers": ("sub.wait_for_publishers(9)", "ClosedError"),
    "wait_for_subscribers": ("pub.wait_for_subscribers(9)", "ClosedError"),
    "flush": ("behind.flush()", "ClosedError"),
    "a blocked loan": ("full.loan(timeout=None)", "ClosedError"),
    "wait_for_change": ("reader.wait_for_change(reader.generation)", "ClosedError"),
    "attach": ("zs.SlotReader.attach('/dev/shm/no.flink', timeout=None)", "ClosedError"),
    "a spin": ("zs.Subscriber('t', Tick, spin_us=float('inf')).take(timeout=None)", "ClosedError"),
}

EXECUTORS = {
    "ThreadPoolExecutor": "from concurrent.futures import ThreadPoolExecutor\nThreadPoolExecutor().submit(work)",
    "asyncio": "import asyncio\nloop = asyncio.new_event_loop()\nloop.run_in_executor(None, work)",
}

WORKER = """
import os
import zeroslot as zs
from tests.process.samples import Tick

pub = zs.Publisher("t", Tick)
sub = zs.Subscriber("t", Tick, spin_us=0)
behind = zs.Publisher("behind", Tick, on_full="block")
slow = zs.Subscriber("behind", Tick, reliable=True)
behind.publish(Tick(number=1))
full = zs.Publisher("full", Tick, max_loans=1)
held = full.loan()
slots = zs.SlotAllocator.in_memory(4, 64)
reader = slots.reader()
started = []
def work():
    started.append(1)
    try:
        outcome = repr(ACT)
    except BaseException as error:
        outcome = type(error).__name__
    say([outcome, pub.closed or sub.closed])
EXECUTOR
while not started:
    pass
"""


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("act", WORKERS)
def test_a_waiting_worker_of_an_executor_does_not_keep_the_program_from_ending(cast: Cast, act: str, executor: str):
    """Its wait raises ClosedError, its iteration ends, and the handles are still open for the other threads."""
    code, expected = WORKERS[act]
    child = cast(WORKER.replace("ACT", code).replace("EXECUTOR", EXECUTORS[executor]))
    assert child.hear() == [expected, False]
    child.finish()


def test_a_waiting_worker_does_not_keep_a_child_of_multiprocessing_from_ending(cast: Cast):
    """There the handles are closed first."""
    child = cast(
        """
        import multiprocessing, sys
        from concurrent.futures import ThreadPoolExecutor
        import zeroslot as zs
        from tests.process.samples import Tick

        def run():
            sub = zs.Subscriber("t", Tick)
            ThreadPoolExecutor().submit(sub.take, None)

        process = multiprocessing.get_context("fork").Process(target=run)
        process.start()
        process.join()
        say(process.exitcode)
        """
    )
    child.expect(0)
    child.finish()


def test_a_thread_that_the_program_started_continues_after_the_last_line(cast: Cast):
    """As everywhere in Python: the interpreter waits for it, and it gets its samples."""
    pub = cast.publisher("t")
    child = cast(
        """
        import threading
        import zeroslot as zs
        from tests.process.samples import Tick
        sub = zs.Subscriber("t", Tick)
        threading.Thread(target=lambda: say(sub.take(timeout=None).sample.number)).start()
        say("at the end")
        """
    )
    child.expect("at the end")
    child.wait_for_sleep()
    pub.ask(["publish", 1])
    child.expect(1)
    child.finish()


def test_the_exit_closes_the_waker_before_the_subscribers_that_it_waits_for(cast: Cast):
    """Else its thread may find one closed and sleep for ever, as daemon threads do then, while the exit joins it."""
    child = cast(
        """
        import os
        import zeroslot as zs
        from tests.process.samples import Tick
        from zeroslot.endpoints import handle, waker
        closed = []
        def noted(kind):
            original = kind.close
            def close(self):
                closed.append(kind.__name__)
                original(self)
            kind.close = close
        sub = zs.Subscriber("t", Tick)
        sub.fileno()
        noted(zs.Subscriber), noted(waker._Waker)
        handle._close_all()
        say(closed)
        os._exit(0)
        """
    )
    child.expect(["_Waker", "Subscriber"])
    assert child.wait() == 0
