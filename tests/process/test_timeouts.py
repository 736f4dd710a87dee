"""Every public timeout takes every number, and signals and closing end a wait of any length, asleep or spinning."""

from __future__ import annotations

import inspect
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import zeroslot as zs
from tests.process.actors import Cast

# Calls that cannot end by themselves, by class and name. `handle` is what ends them when it is closed.
CALLS = {
    ("Publisher", "loan"): "full.loan(timeout)",
    ("Publisher", "loan_uninit"): "full.loan_uninit(timeout)",
    ("Publisher", "publish"): "full.publish(Tick(number=1), timeout)",
    ("Publisher", "loan_many"): "full.loan_many(1, timeout)",
    ("Publisher", "publish_many"): "full.publish_many([Tick(number=1)], timeout)",
    ("Publisher", "flush"): "behind.flush(timeout)",
    ("Publisher", "wait_for_subscribers"): "pub.wait_for_subscribers(9, timeout)",
    ("Subscriber", "take"): "sub.take(timeout)",
    ("Subscriber", "latest"): "sub.latest(timeout)",
    ("Subscriber", "take_many"): "sub.take_many(None, None, timeout).samples.size or None",
    ("Subscriber", "take_async"): "asyncio.run(sub.take_async(timeout))",
    ("Subscriber", "latest_async"): "asyncio.run(sub.latest_async(timeout))",
    ("Subscriber", "wait"): "sub.wait(timeout)",
    ("Subscriber", "wait_for_publishers"): "sub.wait_for_publishers(9, timeout)",
    ("WaitSet", "wait"): "bool(zs.WaitSet(sub).wait(timeout)) or None",
    ("SlotAllocator", "reserve"): "slots.reserve(timeout=timeout)",
    ("SlotAllocator", "reserve_uninit"): "slots.reserve_uninit(timeout=timeout)",
    ("SlotReader", "wait_for_change"): "reader.wait_for_change(reader.generation, timeout)",
    ("SlotReader", "attach"): "zs.SlotReader.attach(missing, timeout=timeout)",
}

HANDLES = """
import asyncio, os, threading
from decimal import Decimal
from fractions import Fraction
import numpy as np
import zeroslot as zs
from tests.process.samples import Tick

pub = zs.Publisher("t", Tick)
sub = zs.Subscriber("t", Tick, spin_us=0)
full = zs.Publisher("full", Tick, depth=1, max_loans=1, spare_slots=0)
slots = zs.SlotAllocator.in_memory(4, 64, max_loans=1)
held = []
def hold():
    held.append(full.loan())
    held.append(slots.reserve())
thread = threading.Thread(target=hold)
thread.start()
thread.join()
behind = zs.Publisher("behind", Tick, on_full="block")
slow = zs.Subscriber("behind", Tick, reliable=True)
behind.publish(Tick(number=1))
reader = slots.reader()
missing = os.path.join(os.environ["ZEROSLOT_DIR"], "missing.flink")
def close():
    for handle in (pub, sub, full, slots, behind, slow, reader):
        handle.close()
"""

SHORT = [0, -1, -0.0, -(10**400), 1e-9, False, Decimal("0.0001"), Fraction(1, 10**6), -float("inf"), 1e-300]
SHORT += [np.float32(1e-6), np.float64(1e-6), np.int8(0), np.bool_(False), Decimal("-1e999")]
LONG = [
    None,
    float("inf"),
    10**400,
    1e300,
    2**64,
    Decimal("1e9"),
    Fraction(10**400),
    np.float64("inf"),
    np.uint64(2**63),
]
LONG += [Decimal("Infinity"), np.float32(1e30)]
NO_TIMEOUT = [float("nan"), np.float32("nan"), Decimal("nan"), "1", b"1", [1], 1j, object()]


def test_every_timeout_of_the_public_classes_is_tested() -> None:
    """The calls here are those of the public classes that have a parameter of that name."""
    public = [getattr(zs, name) for name in zs.__all__ if isinstance(getattr(zs, name), type)]
    found = {
        (owner.__name__, name)
        for owner in public
        for name, value in inspect.getmembers(owner, callable)
        if not name.startswith("_") and "timeout" in _parameters(value)
    }
    found.remove(("SampleCallback", "stop"))  # it waits for a function of the program, which no signal ends
    assert found == set(CALLS)


def _parameters(value: object) -> str:
    try:
        return str(inspect.signature(value))  # type: ignore[arg-type]  # it is callable
    except (TypeError, ValueError):
        return (getattr(value, "__doc__", "") or "").split("\n")[0]


def _expression(value: object) -> str:
    if isinstance(value, float):
        return f"float('{value}')"
    if isinstance(value, np.generic):
        return f"np.dtype('{value.dtype}').type('{value}')"
    return "object()" if type(value) is object else repr(value)


@pytest.mark.parametrize("call", CALLS)
def test_a_timeout_may_be_any_number(cast: Cast, call: tuple[str, str]) -> None:
    """Short ones end at once, NaN is a ValueError, and anything but a number is a TypeError."""
    child = cast(
        HANDLES
        + f"""
def outcome(timeout):
    try:
        return repr({CALLS[call]})
    except Exception as error:
        return type(error).__name__

say([outcome(timeout) for timeout in [{", ".join(map(_expression, SHORT))}]])
say([outcome(timeout) for timeout in [{", ".join(map(_expression, NO_TIMEOUT))}]])
held.clear()
close()
"""
    )
    assert set(child.hear()) <= {"None", "False", "NoFreeSlotError", "TopicNotFoundError"}
    kinds = ["ValueError"] * 3 + ["TypeError"] * 5
    assert child.hear() == kinds
    child.finish()


@pytest.mark.parametrize("call", [call for call in CALLS if call[1] != "attach"])
def test_closing_ends_a_wait_of_any_length(cast: Cast, call: tuple[str, str]) -> None:
    """Infinity and numbers beyond all clocks wait like None, until another thread closes the handle."""
    child = cast(
        HANDLES
        + f"""
outcomes = []
def wait(timeout):
    try:
        outcomes.append({CALLS[call]})
    except Exception as error:
        outcomes.append(type(error).__name__)

threads = [threading.Thread(target=wait, args=[timeout]) for timeout in [{", ".join(map(_expression, LONG))}]]
for thread in threads:
    thread.start()
say("waiting")
hear()
close()
for thread in threads:
    thread.join()
say([thread.is_alive() for thread in threads] + sorted(set(map(str, outcomes))))
held.clear()
"""
    )
    child.expect("waiting")
    child.wait_for_sleep()
    answer = child.ask("close")
    assert answer[: len(LONG)] == [False] * len(LONG)
    assert set(answer[len(LONG) :]) <= {"ClosedError", "True"}
    child.finish()


SPINS = {"take": "sub.take(timeout=None)", "wait": "sub.wait()", "iteration": "next(iter(sub))"}


@pytest.mark.parametrize("spin_us", ["3e9", "float('inf')", "10**400"])
@pytest.mark.parametrize("wait", SPINS)
def test_a_signal_ends_a_spin(cast: Cast, wait: str, spin_us: str) -> None:
    """However long it would last."""
    child = cast(
        f"""
        import signal
        import zeroslot as zs
        from tests.process.samples import Tick
        def interrupt(*_):
            raise KeyboardInterrupt
        with zs.Subscriber("t", Tick, spin_us={spin_us}) as sub:
            signal.signal(signal.SIGVTALRM, interrupt)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.05)  # processor time, which only the spin uses
            try:
                {SPINS[wait]}
            except KeyboardInterrupt:
                say("interrupted")
        """
    )
    child.expect("interrupted")
    child.finish()


@pytest.mark.parametrize("wait", SPINS)
def test_closing_ends_the_spin_of_another_thread(cast: Cast, wait: str) -> None:
    """At once, and not at the end of the spin."""
    child = cast(
        f"""
        import threading
        import zeroslot as zs
        from tests.process.samples import Tick
        sub = zs.Subscriber("t", Tick, spin_us=float("inf"))
        started = threading.Event()
        def spin():
            started.set()
            try:
                {SPINS[wait]}
            except (zs.ClosedError, StopIteration) as error:
                say(type(error).__name__)
        thread = threading.Thread(target=spin)
        thread.start()
        started.wait()
        hear()
        sub.close()
        thread.join()
        """
    )
    child.tell("close")
    child.expect("StopIteration" if wait == "iteration" else "ClosedError")
    child.finish()


@pytest.mark.leaves_remains
def test_a_spinning_subscriber_notices_that_its_publisher_has_died(cast: Cast) -> None:
    """It probes the owners as a sleeping one does."""
    pub = cast.publisher("t")
    pub.ask(["publish", 1])
    child = cast(
        """
        import threading
        import zeroslot as zs
        from tests.process.samples import Tick
        with zs.Subscriber("t", Tick, spin_us=float("inf")) as sub:
            thread = threading.Thread(target=lambda: sub.take(timeout=None), daemon=True)
            thread.start()
            say(sub.stats.publishers)
            while sub.stats.publishers:
                pass
            say(sub.stats.publishers)
        """
    )
    child.expect(1)
    pub.kill()
    child.expect(0)
    child.finish()
