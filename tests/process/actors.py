"""Child processes that follow orders of the test: a publisher and a subscriber of ticks.

An order is a list: a verb and its arguments. Before a verb that sleeps the child says "waiting", so that a test can
wait for that sleep (`child.wait_for_sleep()`).
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.children import Child, ChildError, Children

PUBLISHER = """
from dataclasses import asdict
import zeroslot as zs
from tests.process.samples import Tick

topic, options = args
pub = zs.Publisher(topic, Tick, **options)
loans = []

def publish(count):
    for _ in range(count):
        with pub.loan() as tick:
            tick.number = pub.sequence + 1
            tick.sender = options.get("name") or ""
    return pub.sequence

def loan(count):
    for _ in range(count):
        loans.append(pub.loan())
        loans[-1].sample.number = 4711
    return count

def refusal():
    try:
        publish(1)
    except zs.ZeroslotError as error:
        return [type(error).__name__, str(error), [asdict(holder) for holder in error.holders]]

def wait_for_subscribers(count):
    say("waiting")
    return pub.wait_for_subscribers(count)

verbs = {
    "publish": publish, "loan": loan, "refusal": refusal, "wait_for_subscribers": wait_for_subscribers,
    "subscribers": lambda: pub.subscriber_count, "close": pub.close, "id": lambda: pub.publisher_id,
    "stats": lambda: asdict(pub.stats),
}
say("ready")
for verb, *rest in orders():
    say(verbs[verb](*rest))
"""

SUBSCRIBER = """
import zeroslot as zs
from tests.process.samples import Tick

topic, options = args
sub = zs.Subscriber(topic, Tick, **options)
held = []

def told(lease):
    return None if lease is None else [lease.sequence, lease.sample.number, lease.sample.sender]

def take(count):
    say("waiting")
    taken = []
    for _ in range(count):
        lease = sub.take(timeout=None)
        taken.append(told(lease))
        lease.release()
    return taken

def hold(count):
    held.extend(sub.take(timeout=None) for _ in range(count))
    return [told(lease) for lease in held]

def wait_for_publishers(count):
    say("waiting")
    return sub.wait_for_publishers(count)

verbs = {
    "take": take, "hold": hold, "wait_for_publishers": wait_for_publishers,
    "poll": lambda: told(sub.take()), "latest": lambda: told(sub.latest()), "drop": held.clear,
    "held": lambda: [told(lease) for lease in held],
    "stats": lambda: {name: getattr(sub.stats, name) for name in sub.stats.__slots__},
    "publishers": lambda: sorted(publisher.name for publisher in sub.publishers),
    "close": sub.close,
}
say("ready")
for verb, *rest in orders():
    say(verbs[verb](*rest))
"""

# The child runs itself once more under strace; what it does between two marks is then in the log.
TRACED = """
import os, sys
if "ZEROSLOT_TEST_TRACE" not in os.environ:
    os.environ["ZEROSLOT_TEST_TRACE"] = args[0]
    os.dup2(_out.fileno(), 1)
    os.execvp("strace", ["strace", "-f", "-qq", "-o", args[0], sys.executable, sys.argv[0]])

def mark(name):
    try:
        os.stat("/zeroslot-mark-" + name)
    except FileNotFoundError:
        pass
"""


class Cast:
    """Starts actors, and other children that end with their orders. All must end with status 0."""

    def __init__(self, run_child: Children) -> None:
        self._run_child = run_child
        self._children: list[Child] = []

    def __call__(self, source: Any, *args: Any, **options: Any) -> Child:
        """Any child that ends with `orders()`, or by itself."""
        child = self._run_child(source, *args, **options)
        self._children.append(child)
        return child

    def publisher(self, topic: str, **options: Any) -> Child:
        """A publisher process, which is there when this returns."""
        child = self(PUBLISHER, topic, options, name="publisher")
        child.expect("ready")
        return child

    def subscriber(self, topic: str, **options: Any) -> Child:
        """A subscriber process, which has joined when this returns."""
        child = self(SUBSCRIBER, topic, options, name="subscriber")
        child.expect("ready")
        return child

    def finish(self) -> None:
        """Ends all that still run, and looks how they end."""
        for child in reversed(self._children):
            if child.alive:
                child.finish()
                assert child.stderr == "", f"{child!r} complains:\n{child.stderr}"


@pytest.fixture
def cast(request: pytest.FixtureRequest, run_child: Children) -> Iterator[Cast]:
    """See `Cast`. After a test that failed, its children may be anywhere, and are killed by run_child."""
    made = Cast(run_child)
    failed = request.session.testsfailed
    yield made
    if request.session.testsfailed == failed:
        made.finish()


def start_to(child: Child, verb: str, *rest: Any) -> None:
    """Tells a child to do what sleeps, and returns when it sleeps. What it says in the end is still to be heard."""
    child.tell([verb, *rest])
    child.expect("waiting")
    child.wait_for_sleep()


def need_strace() -> None:
    """Skips the test where strace is missing or may not trace."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    if subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], capture_output=True).returncode != 0:
        pytest.skip("strace may not trace here")


def wait_for_traced_futex(tracer: Child) -> None:
    """Returns when the process that a child traces sleeps in a futex call."""
    numbers = {"x86_64": {"202", "449"}, "aarch64": {"98", "449"}}[platform.machine()]
    while tracer.alive:
        for child in Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read_text().split():
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
            if state == "S" and Path(f"/proc/{child}/syscall").read_text().split()[0] in numbers:
                return
        time.sleep(0.001)
    raise ChildError(f"{tracer!r} ended\n{tracer.stderr}")


def traced_calls(log: Path, begin: str, end: str) -> list[str]:
    """The system calls of the log between two marks, of all threads."""
    lines = log.read_text().splitlines()
    at = [next(i for i, line in enumerate(lines) if f'"/zeroslot-mark-{name}"' in line) for name in (begin, end)]
    return [line.split(maxsplit=1)[1] for line in lines[at[0] + 1 : at[1]]]
