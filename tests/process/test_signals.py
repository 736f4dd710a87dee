"""Waiting and signals: Ctrl-C is never swallowed, and handlers may use the handles."""

from __future__ import annotations

import signal

import pytest

from tests.process.actors import Cast

WAITS = {
    "take": "sub.take(timeout=None)",
    "latest": "sub.latest(timeout=None)",
    "wait": "sub.wait()",
    "iteration": "next(iter(sub))",
    "wait_for_publishers": "sub.wait_for_publishers(2)",
    "wait_for_subscribers": "pub.wait_for_subscribers(2)",
    "blocked loan": "full.loan(timeout=None)",
    "blocked send": "stuck.send(number=2)",
    "wait_for_change": "reader.wait_for_change(reader.generation)",
    "flush": "behind.flush()",
    "zs.wait": "zs.wait(sub, empty)",
    "a WaitSet": "waiting.wait()",
    "a WaitSet with a descriptor": "waiting.attach(pair[0]); waiting.wait()",
    "a WaitSet of nothing": "zs.WaitSet().wait()",
}
# Event loops and threads of Python's, which look at signals when they are woken.
WAITS_OF_PYTHON = {
    "take_async": "asyncio.run(sub.take_async())",
    "async for": "asyncio.run(sub.__anext__())",
    "select": "select.select([sub], [], [])",
    "stop of a callback": "stuck_callback.stop()",
}

HANDLES = """
import _thread, asyncio, os, select, signal, socket, threading
import zeroslot as zs
from tests.process.samples import Tick

pub = zs.Publisher("t", Tick)
sub = zs.Subscriber("t", Tick, spin_us=0)
full = zs.Publisher("full", Tick, depth=1, max_loans=1, spare_slots=0)
holder = zs.Subscriber("full", Tick)
held = []
for _ in range(2):
    try:
        full.publish(Tick(number=1))
        held.append(holder.take())
    except zs.NoFreeSlotError:
        pass
behind = zs.Publisher("behind", Tick, on_full="block")
slow = zs.Subscriber("behind", Tick, reliable=True)
behind.publish(Tick(number=1))
stuck = zs.Publisher("stuck", Tick, depth=1, max_loans=1, on_full="block")
waited_for = zs.Subscriber("stuck", Tick, reliable=True)
stuck.send(number=1)
slots = zs.SlotAllocator.in_memory(4, 64)
reader = slots.reader()
pair = socket.socketpair()
empty = zs.Subscriber("empty", Tick)
waiting = zs.WaitSet(sub)
waiting.every(1e6)
waiting.deadline(sub, 1e6)
waiting.event()
called = zs.Publisher("called", Tick)
begun, go_on = threading.Event(), threading.Event()
def hang(lease):
    begun.set()
    go_on.wait()
if "stuck" in args:
    stuck_callback = zs.Subscriber("called", Tick).on_sample(hang)
    called.send(number=1)
    begun.wait()
"""


@pytest.mark.row("NEW-13")
@pytest.mark.parametrize("wait", [*WAITS, *WAITS_OF_PYTHON])
def test_ctrl_c_ends_a_wait(cast: Cast, wait: str):
    """The wait raises KeyboardInterrupt, and the handles work as before."""
    child = cast(
        HANDLES
        + f"""
say("waiting")
try:
    {(WAITS | WAITS_OF_PYTHON)[wait]}
    say("it returned")
except KeyboardInterrupt:
    say("interrupted")
pub.publish(Tick(number=7))
say(sub.take(timeout=None).sample.number)
go_on.set()
""",
        *(["stuck"] if "callback" in wait else []),
    )
    child.expect("waiting")
    child.wait_for_sleep()
    child.signal(signal.SIGINT)
    child.expect("interrupted")
    child.expect(7)


@pytest.mark.row("DEF-13")
@pytest.mark.parametrize("wait", WAITS)
def test_a_signal_just_before_the_sleep_is_not_lost(cast: Cast, wait: str):
    """It has arrived without interrupting a system call: the wait still notices it."""
    child = cast(
        HANDLES
        + f"""
def interrupt():
    with open(f"/proc/self/task/{{os.getpid()}}/stat") as stat:
        while stat.read().rpartition(")")[2].split()[0] != "S":
            stat.seek(0)
    _thread.interrupt_main()  # marks the signal as arrived and wakes no thread

thread = threading.Thread(target=interrupt)
try:
    thread.start()
    {WAITS[wait]}
    say("it returned")
except KeyboardInterrupt:
    say("interrupted")
thread.join()
"""
    )
    child.expect("interrupted")


@pytest.mark.row("DEF-13")
def test_a_signal_handler_runs_during_a_wait_and_the_wait_continues(cast: Cast):
    """A handler that returns ends nothing; later samples are delivered."""
    pub = cast.publisher("t")
    child = cast(
        """
        import signal, zeroslot as zs
        from tests.process.samples import Tick
        signal.signal(signal.SIGUSR2, lambda *_: say("handled"))
        with zs.Subscriber("t", Tick, spin_us=0) as sub:
            say("waiting")
            say(sub.take(timeout=None).sequence)
        """
    )
    child.expect("waiting")
    for _ in range(3):
        child.wait_for_sleep()
        child.signal(signal.SIGUSR2)
        child.expect("handled")
    pub.ask(["publish", 1])
    child.expect(1)


def test_signal_handlers_may_use_the_handles_of_the_thread_that_they_interrupt(cast: Cast):
    """They publish, take, join, leave and reap while the interrupted code does the same, thousands of times."""
    child = cast(
        """
        import signal, threading, time, zeroslot as zs
        from tests.process.samples import Tick

        pub = zs.Publisher("t", Tick, depth=2, spare_slots=8)
        sub = zs.Subscriber("t", Tick)
        handled = nested = 0

        def arm():
            if handled < 1500:
                signal.setitimer(signal.ITIMER_REAL, 0.0005)

        def handler(*_):
            global handled, nested
            handled += 1
            nested += 1
            if nested < 3:  # a handler interrupts another, but not without end where the processor is slow
                arm()
            try:
                pub.publish({"number": 1})
            except zs.NoFreeSlotError:
                pass
            sub.take()
            sub.latest()
            if handled % 4 == 0:
                with zs.Subscriber("t", Tick, history=1) as other:
                    other.take()
            if handled % 16 == 0:
                with zs.Publisher("t", Tick, depth=1):
                    pass
            sub.lost, pub.subscriber_count, sub.publishers
            nested -= 1
            arm()

        signal.signal(signal.SIGALRM, handler)
        arm()
        while handled < 1500:
            with zs.Subscriber("t", Tick, history=1) as other:
                with pub.loan() as tick:
                    tick.number = handled
                other.take(timeout=None)
                sub.take()
                sub.wait(timeout=0)
            if handled % 8 == 0:
                with zs.Publisher("t", Tick, depth=1):
                    pass
        signal.setitimer(signal.ITIMER_REAL, 0)
        sub.close()
        pub.close()
        say("done")
        """
    )
    child.expect("done")


@pytest.mark.parametrize("closing", ["sub.close()", "pub.close()"])
def test_a_signal_handler_may_close_what_its_thread_waits_on(cast: Cast, closing: str):
    """The wait ends with ClosedError, or waits for the next publisher."""
    child = cast(
        f"""
        import signal, zeroslot as zs
        from tests.process.samples import Tick
        pub = zs.Publisher("t", Tick)
        sub = zs.Subscriber("t", Tick, spin_us=0)
        def handler(*_):
            {closing}
            say("closed")
        signal.signal(signal.SIGUSR2, handler)
        say("waiting")
        try:
            say(sub.take(timeout=None).sequence)
        except zs.ClosedError:
            say("over")
        sub.close()
        """
    )
    child.expect("waiting")
    child.wait_for_sleep()
    child.signal(signal.SIGUSR2)
    child.expect("closed")
    if closing == "pub.close()":
        cast.publisher("t").ask(["publish", 1])
        child.expect(1)
    else:
        child.expect("over")


def test_a_wait_raises_the_exception_of_a_signal_handler(cast: Cast):
    """Whatever exception it is."""
    child = cast(
        """
        import signal, zeroslot as zs
        from tests.process.samples import Tick
        class Enough(Exception):
            pass
        def handler(*_):
            raise Enough
        signal.signal(signal.SIGUSR2, handler)
        with zs.Subscriber("t", Tick, spin_us=0) as sub:
            say("waiting")
            try:
                sub.take(timeout=None)
            except Enough:
                say("enough")
        """
    )
    child.expect("waiting")
    child.wait_for_sleep()
    child.signal(signal.SIGUSR2)
    child.expect("enough")


def test_ctrl_c_while_a_publisher_appears_does_not_lose_the_publisher(cast: Cast):
    """It interrupts the following of the topic; the next take follows it again."""
    child = cast(
        """
        import zeroslot as zs
        from zeroslot.memory import flink
        from tests.process.samples import Tick
        sub = zs.Subscriber("t", Tick)
        pub = zs.Publisher("t", Tick)
        pub.publish(Tick(number=1))
        listed = flink.list_flinks
        def interrupted(directory):
            flink.list_flinks = listed
            raise KeyboardInterrupt
        flink.list_flinks = interrupted
        try:
            sub.take()
            say("swallowed")
        except KeyboardInterrupt:
            say("interrupted")
        lease = sub.take()
        say(lease and lease.sequence)
        """
    )
    child.expect("interrupted")
    child.expect(1)
