"""Waits for several things and in event loops, across processes: signals, forks and the end of the interpreter."""

from __future__ import annotations

import signal

import pytest

from tests.process.actors import Cast

HANDLES = """
import asyncio, gc, os, select, signal, socket, sys, threading
import zeroslot as zs
from tests.process.samples import Tick

sub = zs.Subscriber("t", Tick)
other = zs.Subscriber("other", Tick)
here, there = socket.socketpair()

def refused(act):
    try:
        act()
    except zs.ForkedHandleError:
        return True
    return False
"""

WAITS = {
    "zs.wait": "zs.wait(sub, other)",
    "a WaitSet": "zs.WaitSet(sub, other).wait()",
    "a WaitSet with a descriptor": "zs.WaitSet(sub, other, here).wait()",
    "a WaitSet of a descriptor": "waiting = zs.WaitSet(here); event = waiting.event(); waiting.wait()",
}


@pytest.mark.row("NEW-13")
@pytest.mark.parametrize("wait", [wait for wait in WAITS if wait != "a WaitSet of a descriptor"])
def test_ctrl_c_ends_a_spin(cast: Cast, wait: str) -> None:
    """At once, however long it spins."""
    child = cast(
        HANDLES
        + f"""
sub = zs.Subscriber("t", Tick, spin_us=1e12)
other = zs.Subscriber("other", Tick, spin_us=float("inf"))
try:
    say("waiting")
    {WAITS[wait]}
except KeyboardInterrupt:
    say("interrupted")
"""
    )
    child.expect("waiting")
    child.signal(signal.SIGINT)
    child.expect("interrupted")


@pytest.mark.row("NEW-13", "DEF-13")
@pytest.mark.parametrize("wait", WAITS)
def test_an_exception_of_a_signal_handler_ends_the_wait(cast: Cast, wait: str) -> None:
    """Handlers that return do not; each is run at once."""
    child = cast(
        HANDLES
        + f"""
class Enough(Exception):
    pass

count = 0
def handler(*_):
    global count
    count += 1
    say(count)
    if count == 3:
        raise Enough

signal.signal(signal.SIGUSR2, handler)
say("waiting")
try:
    {WAITS[wait]}
except Enough:
    say("enough")
"""
    )
    child.expect("waiting")
    for number in (1, 2, 3):
        child.wait_for_sleep()
        child.signal(signal.SIGUSR2)
        child.expect(number)
    child.expect("enough")


@pytest.mark.row("DEF-13")
@pytest.mark.parametrize("wait", ["first.take(timeout=None)", "zs.wait(first)", "zs.WaitSet(first).wait()"])
def test_an_exception_of_a_signal_handler_is_raised_by_the_wait_that_it_interrupts(cast: Cast, wait: str) -> None:
    """Also while that follows the topic of another subscriber, whose next call raises nothing."""
    child = cast(
        HANDLES
        + f"""
from zeroslot.endpoints.following import Following

class Enough(Exception):
    pass

def handler(*_):
    raise Enough

signal.signal(signal.SIGUSR2, handler)
first = zs.Subscriber("first", Tick, spin_us=0)
original = Following._list_flinks

def list_flinks(self, **options):
    if self.topic == "t" and not interrupted and threading.current_thread() is threading.main_thread():
        interrupted.append(True)
        os.kill(os.getpid(), signal.SIGUSR2)
    return original(self, **options)

interrupted = []
Following._list_flinks = list_flinks
with zs.Publisher("t", Tick) as pub:
    try:
        {wait}
    except Enough:
        say("enough")
    say(interrupted)
    pub.send(number=7)
    say(sub.take(timeout=None).sample.number)
""",
    )
    child.expect("enough")
    child.expect([True])
    child.expect(7)


@pytest.mark.row("NEW-13")
@pytest.mark.parametrize("wait", WAITS)
def test_a_fork_in_a_signal_handler_ends_the_wait_in_the_child_alone(cast: Cast, wait: str) -> None:
    """There it raises ForkedHandleError; in the parent it goes on."""
    child = cast(
        HANDLES
        + f"""
parent = os.getpid()
def handler(*_):
    child = os.fork()
    if child:
        os.waitpid(child, 0)

signal.signal(signal.SIGUSR2, handler)
say("waiting")
try:
    {WAITS[wait]}
except zs.ForkedHandleError:
    say("forked" if os.getpid() != parent else "wrong")
    os._exit(0)
say("ready" if os.getpid() == parent else "wrong")
"""
    )
    child.expect("waiting")
    child.wait_for_sleep()
    child.signal(signal.SIGUSR2)
    child.expect("forked")
    child.wait_for_sleep()
    child.signal(signal.SIGINT)
    child.wait()


@pytest.mark.row("NEW-13", "NOT-6")
def test_a_forked_child_has_nothing_of_the_waker(cast: Cast) -> None:
    """No descriptor and no thread; its copies of handles refuse, handles of its own work, and its end harms nothing."""
    child = cast(
        HANDLES
        + """
sub.fileno()
waiting = zs.WaitSet(sub, here)
event = waiting.event()
waker = threading.Thread(target=lambda: asyncio.run(other.take_async()), daemon=True)
waker.start()
waits = threading.Thread(target=lambda: say([type(each).__name__ for each in waiting.wait()]), daemon=True)
waits.start()
callback = zs.Subscriber("called", Tick).on_sample(print)

def doorbells():
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            pass
    return sum("eventfd" in each for each in found)

while not waiting._polling:
    pass
say(doorbells() >= 2)
child = os.fork()
if child == 0:
    say(doorbells())
    say(threading.active_count())
    say([refused(act) for act in (
        sub.fileno, sub.take, lambda: zs.wait(sub, other), waiting.wait, waiting.event, event.set, event.notify,
        lambda: waiting.attach(there), lambda: waiting.every(1), lambda: waiting.detach(sub),
        lambda: sub.on_sample(print),
        lambda: asyncio.run(sub.take_async()), lambda: asyncio.run(sub.__anext__()),
    )])
    callback.stop()
    waiting.close()
    with zs.Publisher("new", Tick) as pub, zs.Subscriber("new", Tick) as own, zs.WaitSet(own, there) as both:
        async def main():
            asyncio.get_running_loop().call_later(0.01, lambda: pub.send(number=7))
            return (await own.take_async()).sample.number
        say(asyncio.run(main()))
        threading.Timer(0.01, lambda: pub.send(number=8)).start()
        say(both.wait() == [own])
        say(select.select([own], [], [], 0)[0] == [own])
    sys.exit(0)
say(os.waitpid(child, 0)[1])
event.set()
waits.join()
with zs.Publisher("t", Tick) as pub:
    pub.send(number=9)
    say(select.select([sub], [], [])[0] == [sub])
    say(sub.take().sample.number)
"""
    )
    child.expect(True)
    child.expect(0)
    child.expect(1)
    child.expect([True] * 13)
    child.expect(7)
    child.expect(True)
    child.expect(True)
    child.expect(0)
    child.expect(["UserEvent"])
    child.expect(True)
    child.expect(9)


ENDS = {
    "a callback that waits": "sub.on_sample(print)",
    "a callback that works": (
        "sub.on_sample(lambda lease: say(lease.sequence)); say('publish'); other.take(timeout=0.05)"
    ),
    "a callback in a call": "sub.on_sample(lambda lease: other.take(timeout=None)); say('publish')",
    "a callback that was stopped": "sub.on_sample(print).stop()",
    "a task of a daemon thread": "threading.Thread(target=lambda: asyncio.run(sub.take_async()), daemon=True).start()",
    "a descriptor": "sub.fileno()",
    "a WaitSet of a daemon thread": "threading.Thread(target=zs.WaitSet(sub, here).wait, daemon=True).start()",
    "a cancelled task": "asyncio.run(asyncio.wait_for(sub.take_async(), 0.01))",
    "a loop that was left": "loop = asyncio.new_event_loop(); loop.call_soon(sub.fileno); loop.close()",
}


@pytest.mark.row("NOT-10", "NEW-13", "NOT-13")
@pytest.mark.parametrize("end", ENDS)
def test_a_program_ends(cast: Cast, end: str) -> None:
    """Whatever waits in the background, with status 0 and without a word."""
    publisher = cast.publisher("t")
    program = f"""
try:
    {ENDS[end]}
except TimeoutError:
    pass
"""
    child = cast(HANDLES + program)
    if "publish" in ENDS[end]:
        child.expect("publish")
        publisher.ask(["publish", 1])
        if "works" in end:
            child.expect(1)
    assert child.wait() == 0
    assert child.stderr == ""


@pytest.mark.row("NOT-9")
@pytest.mark.leaves_remains
def test_a_task_takes_the_samples_of_another_process(cast: Cast) -> None:
    """In order, whether it sleeps or not, and follows to the next publisher after kill -9."""
    child = cast(
        HANDLES
        + """
async def main():
    async for lease in sub:
        say(lease.sample.number)

say("ready")
asyncio.run(main())
"""
    )
    child.expect("ready")
    for _ in range(2):
        publisher = cast.publisher("t", depth=64)
        assert publisher.ask(["wait_for_subscribers", 1]) == "waiting"
        assert publisher.hear() is True
        publisher.ask(["publish", 1])
        child.expect(1)
        child.wait_for_sleep()
        publisher.ask(["publish", 40])
        for number in range(2, 42):
            child.expect(number)
        publisher.kill()
    child.signal(signal.SIGINT)
    child.wait()
