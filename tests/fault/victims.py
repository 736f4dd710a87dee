"""Victims: a server forks them; each prepares an operation and is killed in it, or is stopped there and continued.

A victim is a scenario's name and its arguments. A scenario prepares before its `yield`, and yields the operation. The
server has imported everything and holds no handle, so a victim costs one fork.

    start ID ROOT SCENARIO ARGS OPTIONS
                a victim prepares, with this ZEROSLOT_DIR; the answer is "prepared", or what went wrong, and its pid
    go ID HOW   run the operation. HOW is a number: it is killed before that access to shared memory, and the answer
                comes when it is dead; "traced": between two SIGUSR1 of its own, for the stepper; or "free"
    stop ID HOW the same, but the process is stopped before that access (a number), or held by the stepper ("traced"),
                and stays alive afterwards. The answer is "stopped" or "finished"; of a traced one, None
    on ID       continue the stopped one, and wait until it has completed the operation: what it raised
    wait ID     until it is dead: whether it completed the operation, after how many accesses, and what it raised

Every victim dies by SIGKILL, also one that has completed its operation.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from pathlib import Path
from typing import Any

BINDING = "zeroslot._core.binding"
NEVER = 2**62


class Stepped:
    """Finds the stepped binding where the package asks for its own."""

    def __init__(self, path: str) -> None:
        self.path = path

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        if name != BINDING:
            return None
        return importlib.util.spec_from_file_location(name, loader=ExtensionFileLoader(name, self.path))


def use_stepped(path: str) -> None:
    """From now on `import zeroslot` gets the binding at `path`."""
    assert BINDING not in sys.modules
    sys.meta_path.insert(0, Stepped(path))


# --- scenarios

Scenario = Callable[..., Iterator[Callable[[], object]]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


def load() -> None:
    """Imports the package, and defines the scenarios with it."""
    import numpy as np

    import zeroslot as zs
    from tests.fault.parcels import Parcel, fill, parcels, whole
    from zeroslot.endpoints.publisher import Publisher
    from zeroslot.endpoints.subscriber import Subscriber

    def publisher(topic: str, published: int, **options: Any) -> Publisher[Parcel]:
        options = {"depth": 4, "spare_slots": 4, "max_subscribers": 4, **options}
        pub = zs.Publisher(topic, Parcel, **options)
        publish_parcels(pub, published)
        return pub

    def publish_parcels(pub: Publisher[Parcel], count: int) -> None:
        for _ in range(count):
            with pub.loan() as parcel:
                fill(parcel, pub.sequence + 1)

    def subscriber(topic: str, hold: int = 0, **options: Any) -> tuple[Subscriber[Parcel], list[Any]]:
        sub = zs.Subscriber(topic, Parcel, **{"spin_us": 0, **options})
        return sub, [sub.take(timeout=None) for _ in range(hold)]

    # Publishers. Subscribers must get `published` samples whatever happens, and at most one more.

    @scenario
    def create(topic: str, published: int, **options: Any) -> Iterator[Callable[[], object]]:
        yield lambda: publisher(topic, published, **options)

    @scenario
    def loan(topic: str, published: int, **options: Any) -> Iterator[Callable[[], object]]:
        pub = publisher(topic, published, **options)
        yield lambda: (pub, pub.loan())

    @scenario
    def loan_retired(topic: str, published: int, **options: Any) -> Iterator[Callable[[], object]]:
        """No slot is free, but some are retired."""
        pub = publisher(topic, published, **options)
        for loan in [pub.loan() for _ in range(pub.allocator.free_count)]:
            loan.discard()
        del loan
        yield lambda: (pub, pub.loan())

    @scenario
    def commit(topic: str, published: int, **options: Any) -> Iterator[Callable[[], object]]:
        pub = publisher(topic, published, **options)
        borrowed = pub.loan()
        fill(borrowed.sample, published + 1)
        yield lambda: (pub, borrowed.commit())

    @scenario
    def grow(topic: str, published: int, **options: Any) -> Iterator[Callable[[], object]]:
        """A pool is added to the segment."""
        pub = publisher(topic, published, grow=True, **options)
        yield lambda: (pub, pub.allocator.add_pool(2 * pub.allocator.slot_capacity))

    @scenario
    def let_go(topic: str, published: int, **options: Any) -> Iterator[Callable[[], object]]:
        """The last view of a committed loan goes."""
        pub = publisher(topic, published - 1, **options)
        borrowed = [pub.loan()]
        fill(borrowed[0].sample, published)
        borrowed[0].commit()
        yield lambda: (borrowed.clear(), pub)

    @scenario
    def discard(topic: str, published: int, **options: Any) -> Iterator[Callable[[], object]]:
        pub = publisher(topic, published, **options)
        borrowed = pub.loan()
        fill(borrowed.sample, 4711)
        yield lambda: (pub, borrowed.discard())

    @scenario
    def publish(topic: str, published: int, **options: Any) -> Iterator[Callable[[], object]]:
        """A model, copied."""
        pub = publisher(topic, published, **options)
        model = Parcel(number=0)
        fill(model, published + 1)
        yield lambda: (pub, pub.publish(model))

    @scenario
    def send(topic: str, published: int, **options: Any) -> Iterator[Callable[[], object]]:
        pub = publisher(topic, published, **options)
        model = Parcel(number=0)
        fill(model, published + 1)
        fields = dict(model)
        yield lambda: (pub, pub.send(**fields))

    @scenario
    def publish_many(topic: str, published: int, count: int, **options: Any) -> Iterator[Callable[[], object]]:
        """Copies of an array. A reliable subscriber may have no room for all of them."""
        pub = publisher(topic, published, **options)
        array = parcels(published + 1, count)
        yield lambda: (pub, pub.publish_many(array, timeout=0.004))

    @scenario
    def loan_many(topic: str, published: int, count: int, **options: Any) -> Iterator[Callable[[], object]]:
        pub = publisher(topic, published, **options)
        yield lambda: (pub, pub.loan_many(count))

    @scenario
    def commit_many(topic: str, published: int, count: int, **options: Any) -> Iterator[Callable[[], object]]:
        pub = publisher(topic, published, **options)
        loans = pub.loan_many(count)
        for i, parcel in enumerate(loans.samples):
            fill(parcel, published + 1 + i)
        del parcel
        yield lambda: (pub, loans.commit())

    @scenario
    def discard_many(topic: str, published: int, count: int, **options: Any) -> Iterator[Callable[[], object]]:
        pub = publisher(topic, published, **options)
        loans = pub.loan_many(count)
        for parcel in loans.samples:
            fill(parcel, 4711)
        del parcel
        yield lambda: (pub, loans.discard())

    @scenario
    def blocked(topic: str, published: int, **options: Any) -> Iterator[Callable[[], object]]:
        """A reliable subscriber has not taken what the second loan would retire. It has joined before, since one that
        joins late starts where no loan has to wait for it at once.
        """
        pub = publisher(topic, 1, **options)
        pub.wait_for_subscribers()
        publish_parcels(pub, published - 1)
        yield lambda: (pub, pub.loan(), pub.loan(timeout=0.004))

    @scenario
    def wait_for_announced(topic: str, published: int, **options: Any) -> Iterator[Callable[[], object]]:
        """Reliable subscriptions were announced before it, and have not joined."""
        pub = publisher(topic, published, **options)
        yield lambda: (pub, pub.loan(timeout=0.004))

    @scenario
    def count_announced(topic: str, published: int, **options: Any) -> Iterator[Callable[[], object]]:
        pub = publisher(topic, published, **options)
        yield lambda: (pub, pub.wait_for_subscribers(9, timeout=0, announced=True))

    @scenario
    def evict_announced(topic: str, published: int, **options: Any) -> Iterator[Callable[[], object]]:
        pub = publisher(topic, published, **options)
        yield lambda: (pub, pub.allocator.evict_stale(0.0))

    @scenario
    def flush(topic: str, published: int, **options: Any) -> Iterator[Callable[[], object]]:
        pub = publisher(topic, published, **options)
        yield lambda: (pub, pub.flush(timeout=0.002))

    @scenario
    def relieve(topic: str, published: int, **options: Any) -> Iterator[Callable[[], object]]:
        """No slot is free but one that a dead subscriber holds."""
        pub = publisher(topic, published, **options)
        seized = [pub.loan() for _ in range(pub.allocator.free_count)]
        fill(seized[0].sample, published + 1)
        yield lambda: (seized[0].commit(), pub.loan(), pub, seized)

    @scenario
    def close(topic: str, published: int, **options: Any) -> Iterator[Callable[[], object]]:
        pub = publisher(topic, published, **options)
        yield pub.close

    @scenario
    def close_with_loan(topic: str, published: int, **options: Any) -> Iterator[Callable[[], object]]:
        pub = publisher(topic, published, **options)
        borrowed = pub.loan()
        fill(borrowed.sample, 4711)
        yield lambda: (pub.close(), borrowed)

    @scenario
    def create_untyped(flink: str, **options: Any) -> Iterator[Callable[[], object]]:
        yield lambda: zs.SlotAllocator.create(flink, 8, 64, **options)

    @scenario
    def close_untyped(flink: str, **options: Any) -> Iterator[Callable[[], object]]:
        slots = zs.SlotAllocator.create(flink, 8, 64, **options)
        yield slots.close

    # Subscribers.

    @scenario
    def join(topic: str, **options: Any) -> Iterator[Callable[[], object]]:
        yield lambda: zs.Subscriber(topic, Parcel, **options)

    @scenario
    def join_and_take(topic: str, last: int, **options: Any) -> Iterator[Callable[[], object]]:
        """What it takes is a sample of 1 to `last`; others are another segment's."""

        def operation() -> None:
            with zs.Subscriber(topic, Parcel, **options) as sub:
                for lease in iter(sub.take, None):
                    number = int(lease.sample.number)
                    if number != lease.sequence or number > last or not whole(lease.sample, number):
                        raise AssertionError(f"sample {lease.sequence} is {number}")

        yield operation

    @scenario
    def join_and_take_all(topic: str, **options: Any) -> Iterator[Callable[[], object]]:
        """It stays. The publisher's table tells how many it took."""

        def operation() -> Subscriber[Parcel]:
            sub = zs.Subscriber(topic, Parcel, spin_us=0, **options)
            for lease in iter(sub.take, None):
                if not whole(lease.sample, lease.sequence):
                    raise AssertionError(f"sample {lease.sequence} is not whole")
            return sub

        yield operation

    @scenario
    def join_untyped(flink: str, **options: Any) -> Iterator[Callable[[], object]]:
        yield lambda: zs.SlotReader.attach(flink, **options)

    @scenario
    def take(topic: str, hold: int, **options: Any) -> Iterator[Callable[[], object]]:
        sub, held = subscriber(topic, hold, **options)
        yield lambda: (held, sub, sub.take())

    @scenario
    def take_many(topic: str, hold: int, **options: Any) -> Iterator[Callable[[], object]]:
        """Copies of all that is there."""
        sub, held = subscriber(topic, hold, **options)

        def operation() -> None:
            batch = sub.take_many()
            samples = batch.samples.view(np.recarray)
            if not all(whole(sample, number) for sample, number in zip(samples, batch.sequences, strict=True)):
                raise AssertionError(f"wrong payload in {batch.sequences}, beside {held}")

        yield operation

    @scenario
    def latest(topic: str, hold: int, **options: Any) -> Iterator[Callable[[], object]]:
        sub, held = subscriber(topic, hold, **options)
        yield lambda: (held, sub, sub.latest())

    @scenario
    def release(topic: str, hold: int, **options: Any) -> Iterator[Callable[[], object]]:
        sub, held = subscriber(topic, hold, **options)
        yield lambda: (sub, held.pop().release())

    @scenario
    def release_after_close(topic: str, hold: int, **options: Any) -> Iterator[Callable[[], object]]:
        """The lock falls with the last lease."""
        sub, held = subscriber(topic, hold, **options)
        sub.close()
        yield held.clear

    @scenario
    def park(topic: str, hold: int, **options: Any) -> Iterator[Callable[[], object]]:
        sub, held = subscriber(topic, hold, **options)
        yield lambda: (held, sub.take(timeout=0.001))

    @scenario
    def park_for_change(flink: str, **options: Any) -> Iterator[Callable[[], object]]:
        reader = zs.SlotReader.attach(flink, **options)
        yield lambda: reader.wait_for_change(reader.generation, 0.001)

    @scenario
    def leave(topic: str, hold: int, **options: Any) -> Iterator[Callable[[], object]]:
        sub, held = subscriber(topic, hold, **options)
        yield lambda: (held, sub.close())

    # Tickets.

    @scenario
    def make_ticket(topic: str, hold: int, **options: Any) -> Iterator[Callable[[], object]]:
        sub, held = subscriber(topic, hold, **options)
        yield lambda: (sub, held[0].ticket())

    @scenario
    def redeem(topic: str, hold: int, **options: Any) -> Iterator[Callable[[], object]]:
        """The first ticket of this process: it attaches."""
        sub, held = subscriber(topic, hold, **options)
        ticket = held[0].ticket()
        yield lambda: (sub, held, zs.redeem(ticket, Parcel))

    @scenario
    def redeem_again(topic: str, hold: int, **options: Any) -> Iterator[Callable[[], object]]:
        sub, held = subscriber(topic, hold, **options)
        ticket = held[0].ticket()
        zs.redeem(ticket, Parcel).release()
        yield lambda: (sub, held, zs.redeem(ticket, Parcel), zs.redeem(ticket, Parcel))

    @scenario
    def redeem_too_late(topic: str, hold: int, **options: Any) -> Iterator[Callable[[], object]]:
        sub, held = subscriber(topic, hold, **options)
        zs.redeem(held[0].ticket(), Parcel).release()
        late = zs.Ticket(*(*held[0].ticket().__reduce__()[1][:2], 4711, *held[0].ticket().__reduce__()[1][3:]))
        yield lambda: (sub, held, zs.redeem(late, Parcel))

    @scenario
    def release_redeemed(topic: str, hold: int, **options: Any) -> Iterator[Callable[[], object]]:
        """The last of two leases that share a bit, after the lease that made the ticket."""
        sub, held = subscriber(topic, hold, **options)
        ticket = held[0].ticket()
        again = [zs.redeem(ticket, Parcel), zs.redeem(ticket, Parcel)]
        held.clear()
        yield lambda: (sub, again.pop().release(), again.pop().release())

    @scenario
    def loan_ticketed(topic: str, published: int, **options: Any) -> Iterator[Callable[[], object]]:
        """Only one slot is free, and a ticket was made of its sample, which all have released: the loan closes its
        reference.
        """
        pub = publisher(topic, 1, **options)
        pub.wait_for_subscribers()
        with zs.Subscriber(topic, Parcel, history=1) as sub:
            lease = sub.take(timeout=None)
            assert lease is not None
            lease.ticket()
            del lease
        while [(info.taken, info.held) for info in zs.inspect(topic).publishers[0].subscribers] != [(1, 0)]:
            time.sleep(0.001)
        publish_parcels(pub, published - 1)
        seized = [pub.loan() for _ in range(pub.allocator.free_count - 1)]
        yield lambda: (pub, seized, pub.loan())

    @scenario
    def look(topic: str, hold: int, **options: Any) -> Iterator[Callable[[], object]]:
        """Reads `publishers`: marks dead ones, and follows the topic."""
        sub, held = subscriber(topic, hold, **options)
        yield lambda: (held, sub.publishers)

    # Any process.

    # Random load until they are killed. `seed` decides what they do.

    @scenario
    def storm_publisher(topic: str, seed: int, **options: Any) -> Iterator[Callable[[], object]]:
        """Publishes, discards, closes and comes again."""
        draw = random.Random(seed)
        pub = publisher(topic, 1, **options)

        def storm() -> None:
            nonlocal pub
            model = Parcel(number=0)
            while True:
                for _ in range(draw.randrange(1, 500)):
                    what = draw.random()
                    if what < 0.1:
                        fill(model, pub.sequence + 1)
                        pub.publish(model)
                    else:
                        borrowed = pub.loan()
                        fill(borrowed.sample, pub.sequence + 1 if what > 0.2 else 4711)
                        borrowed.commit() if what > 0.2 else borrowed.discard()
                    if what > 0.6:
                        time.sleep(draw.random() / 500)
                pub.close()
                pub = publisher(topic, 1, **options)

        yield storm

    @scenario
    def storm_subscriber(topic: str, seed: int, max_leases: int) -> Iterator[Callable[[], object]]:
        """Takes, holds, sleeps, leaves and comes again; whatever it holds stays whole."""
        draw = random.Random(seed)
        held: list[Any] = []

        def check(lease: Any) -> None:
            if not whole(lease.sample, lease.sequence):
                raise AssertionError(f"wrong payload in sample {lease.sequence} of {lease.publisher_id}")

        def came() -> Subscriber[Parcel]:
            sub = zs.Subscriber(topic, Parcel, history=1, max_leases=max_leases, spin_us=draw.choice([0, 20]))
            held.append(sub.take(timeout=None))
            check(held[-1])
            return sub

        sub = came()

        def storm() -> None:
            nonlocal sub
            while True:
                for _ in range(draw.randrange(1, 300)):
                    look = sub.latest if draw.random() < 0.2 else sub.take
                    lease = look(timeout=draw.choice([0, 0.01]))
                    if lease is not None:
                        check(lease)
                        held.append(lease)
                    del lease
                    while len(held) >= max_leases or (held and draw.random() < 0.5):
                        check(held.pop(draw.randrange(len(held))))
                sub.close()
                sub = came()
                while len(held) > 1:
                    check(held.pop(0))  # of the one that is closed

        yield storm

    @scenario
    def nothing() -> Iterator[Callable[[], object]]:
        yield lambda: ()

    @scenario
    def clean(**options: Any) -> Iterator[Callable[[], object]]:
        yield lambda: zs.clean(**options)

    @scenario
    def inspect(topic: str, **options: Any) -> Iterator[Callable[[], object]]:
        yield lambda: (zs.inspect(topic, **options), zs.topics())


# --- the server


class Victim:
    """One, in the server."""

    def __init__(self, root: str, name: str, args: list[Any], options: dict[str, Any], hook: Hook) -> None:
        orders, answers = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                die_with_parent()
                os.environ["ZEROSLOT_DIR"] = root
                perform(name, args, options, hook, orders[0], answers[1])
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        os.close(orders[0])
        os.close(answers[1])
        self.tell, self.hear = orders[1], answers[0]
        self.prepared = self.read()

    def read(self) -> str:
        """Up to the end of a line or of its life."""
        text = b""
        while not text.endswith(b"\n"):
            more = os.read(self.hear, 4096)
            if not more:
                break
            text += more
        return text.decode().strip()

    def go(self, how: str) -> None:
        os.write(self.tell, f"{how}\n".encode())

    def stop(self, how: str) -> str | None:
        """Until it is stopped before that access, or has completed the operation."""
        self.go(f"stop {how}")
        if how == "traced":
            return None
        while os.waitpid(self.pid, os.WUNTRACED | os.WNOHANG)[0] == 0:
            if select.select([self.hear], [], [], 0.001)[0]:
                return "finished"
        return "stopped"

    def on(self) -> str:
        """Until it has completed the operation: what it raised."""
        os.kill(self.pid, signal.SIGCONT)
        finished, _, rest = self.read().partition(" ")
        return rest.partition(" ")[2] if finished == "finished" else f"ended: {finished} {rest}"

    def wait(self) -> list[Any]:
        said = self.read()
        _, status = os.waitpid(self.pid, 0)
        os.close(self.tell)
        os.close(self.hear)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            said = f"ended with status {status}: {said}"
        finished, _, rest = said.partition(" ")
        if finished == "finished":
            steps, _, raised = rest.partition(" ")
            return [True, int(steps), raised]
        return [False, 0, said]


class Hook:
    """The hook of the stepped binding, by name. Without the stepped binding nothing is counted."""

    def __init__(self, path: str | None) -> None:
        self._limit = self._steps = self._signal = ctypes.c_long()
        if path is not None:
            library = ctypes.CDLL(path)
            self._limit = ctypes.c_long.in_dll(library, "zs_test_kill_at")
            self._steps = ctypes.c_long.in_dll(library, "zs_test_steps")
            self._signal = ctypes.c_long.in_dll(library, "zs_test_signal")

    def arm(self, limit: int, number: int = signal.SIGKILL) -> None:
        self._signal.value = number
        self._limit.value = limit

    def disarm(self) -> int:
        self._limit.value = -1
        return self._steps.value


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # PR_SET_PTRACER, any: for the stepper


def perform(name: str, args: list[Any], options: dict[str, Any], hook: Hook, hear: int, tell: int) -> None:
    """What a victim runs."""
    import zeroslot as zs

    told = ""
    try:
        running = SCENARIOS[name](*args, **options)
        operation = next(running)
        os.write(tell, b"prepared\n")
        how = os.read(hear, 64).decode().strip()
        stops = how.startswith("stop ")
        how = how.removeprefix("stop ")
        mine = os.getpid()
        kept: object = None
        if how == "traced":
            mark, number = signal.raise_signal, int(signal.SIGUSR1)
            if stops:
                signal.signal(number, signal.SIG_IGN)  # a tracer sees it all the same; the second one may meet none
            mark(number)
            try:
                kept = operation()
            except zs.ZeroslotError as error:
                told = type(error).__name__
            mark(number)
        elif how == "free":
            operation()
        else:
            hook.arm(int(how), signal.SIGSTOP if stops else signal.SIGKILL)
            try:
                kept = operation()
            except zs.ZeroslotError as error:
                told = type(error).__name__
        os.write(tell, f"finished {hook.disarm()} {told}\n".encode())
        if stops:
            os.read(hear, 1)  # alive, until it is killed
        os.kill(mine, signal.SIGKILL)
        del kept, running
    except BaseException as error:  # noqa: BLE001 (whatever it is, the test shall read it)
        os.write(tell, f"{type(error).__name__}: {error}\n".replace("\n", " ").encode() + b"\n")


def serve(binding: str | None, say: Callable[[Any], None], orders: Callable[[], Iterator[Any]]) -> None:
    """Until stdin is closed. `binding`: the stepped one, or None for the shipped one."""
    if binding is not None:
        use_stepped(binding)
    load()
    assert binding in {None, sys.modules[BINDING].__file__}
    hook = Hook(binding)
    gc.collect()
    gc.freeze()
    gc.disable()
    victims: dict[str, Victim] = {}
    say("ready")
    for verb, one, *rest in orders():
        if verb == "start":
            victims[one] = Victim(*rest, hook)
            say([victims[one].prepared, victims[one].pid])
        elif verb == "go":
            victims[one].go(str(rest[0]))
            say(None if rest[0] in {"traced", "free"} else victims.pop(one).wait())
        elif verb == "stop":
            say(victims[one].stop(str(rest[0])))
        elif verb == "on":
            say(victims[one].on())
        elif verb == "wait":
            say(victims.pop(one).wait())


SERVER = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent.parent.parent)!r})
from tests.fault.victims import serve
serve(args[0], say, orders)
"""
