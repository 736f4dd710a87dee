"""For tests of programs that use zeroslot.

- `isolated_domain`: topics that no other program sees, also for processes that the test starts. pytest has it as the
  fixture `zeroslot_domain` as soon as zeroslot is installed.
- `MemoryTopic`: publishers and subscribers for code that is given them, without files and without /dev/shm.
- `lease_of` and `view_of`: a sample in place, for code that is given a lease or a sample.
- `stopped_clock`: samples published at times that the test chooses.
- `abandon`: the death of a publisher.
"""

from __future__ import annotations

import gc
import os
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from zeroslot._core.binding import Lease, stop_sample_clock
from zeroslot.arguments import real_number, shown, whole_number
from zeroslot.endpoints.allocator import SlotAllocator
from zeroslot.endpoints.in_memory import MemoryTopic
from zeroslot.endpoints.publisher import Publisher, S
from zeroslot.memory.cleanup import clean
from zeroslot.memory.objects import SHM
from zeroslot.observe.introspection import domains, topics
from zeroslot.types import whole

__all__ = ["Clock", "MemoryTopic", "abandon", "isolated_domain", "lease_of", "stopped_clock", "view_of"]


def abandon(handle: Publisher[Any] | SlotAllocator) -> None:
    """Drop the lock of a publisher or an allocator and do nothing else, as the kernel does after kill -9.

    Its flink and its shared memory stay until the next publisher of the topic removes them. The handle is closed.
    """
    if isinstance(handle, Publisher):
        handle._abandon()
    elif isinstance(handle, SlotAllocator):
        handle.abandon()
    else:
        raise TypeError(f"abandon() takes a Publisher or a SlotAllocator, not {type(handle).__name__}")


def lease_of(sample: S, *, sequence: int = 1) -> Lease[S]:
    """A lease of this sample (a model, an array, or bytes), as if a subscriber had taken it as sample `sequence`.

    It is a copy in memory of this process alone, and behaves as every lease: read-only, with views and arrays in place.

    >>> with lease_of(Imu(stamp_ns=7)) as lease:
    ...     assert lease.sample.stamp_ns == 7
    """
    if isinstance(sample, type):
        raise TypeError(f"lease_of() takes a sample, such as {sample.__name__}(), and not its class")
    sequence = whole_number("sequence", sequence, 1, 2**62 - 1)
    sample_type = np.ndarray if isinstance(sample, np.ndarray) else bytes if isinstance(sample, bytes) else type(sample)
    grows = whole.compiled_type(sample_type).layout.variable
    with MemoryTopic(sample_type, "lease_of") as topic:
        publisher = topic.publisher(depth=1, max_loans=1, spare_slots=1, first_sequence=sequence, grow=grows)
        subscriber = topic.subscriber(history=1, max_leases=1)
        publisher.publish(sample)
        return cast("Lease[S]", subscriber.take())  # there is one


def view_of(sample: S, *, sequence: int = 1) -> S:
    """The sample of `lease_of(sample)`, which it keeps: what subscribers get, in place of a model."""
    return lease_of(sample, sequence=sequence).sample


class Clock:
    """The clock of samples, which a test moves: use `stopped_clock`."""

    def __init__(self, start_ns: int) -> None:
        self._now_ns = start_ns

    @property
    def now_ns(self) -> int:
        """The time, in nanoseconds."""
        return self._now_ns

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass. Raises ValueError for a negative number: the clock never goes back."""
        passed = real_number("seconds", "seconds", seconds)
        if not 0 <= passed < 1e9:
            raise ValueError(f"seconds is {shown(seconds)}, and has to be 0 or more and below 1e9")
        self._now_ns = whole_number("the time", self._now_ns + round(passed * 1e9), 1, 2**63)
        stop_sample_clock(self._now_ns)


@contextmanager
def stopped_clock(start_ns: int = 1_000_000_000) -> Iterator[Clock]:
    """A clock of samples that stands still until the test moves it, in this process.

    It decides the `published_ns` of what is published, the ages in latency histograms, and whether a publisher with a
    `max_period` is overdue. Waits and timeouts go by the real clock. At the end samples get the real time again.

    >>> with stopped_clock() as clock, MemoryTopic(Imu) as topic:
    ...     pub, sub = topic.publisher(), topic.subscriber()
    ...     pub.publish(Imu(stamp_ns=1))
    ...     clock.advance(0.5)
    ...     assert clock.now_ns - sub.take().published_ns == 500_000_000
    """
    clock = Clock(whole_number("start_ns", start_ns, 1, 2**62))
    stop_sample_clock(clock.now_ns)
    try:
        yield clock
    finally:
        stop_sample_clock(0)


@contextmanager
def isolated_domain() -> Iterator[str]:
    """A domain that no other program uses, as this process's default: gives its name.

    Inside, publishers and subscribers of this process and of processes that it starts meet each other and nothing else,
    whatever topics and domains they name: $ZEROSLOT_DIR is a new directory, and $ZEROSLOT_DOMAIN the domain. At the end
    both are as before, and what killed processes left is removed. Publishers that are still open then keep working
    until they are closed, but no subscriber finds them any more; a RuntimeWarning names them.

    It changes the environment of the process: not for several threads at once. A forked child that leaves the block
    removes nothing: the domain is its parent's.

    >>> with isolated_domain():
    ...     with Publisher("robot/imu", Imu) as pub, Subscriber("robot/imu", Imu) as sub:
    ...         pub.publish(Imu(stamp_ns=7))
    ...         assert sub.take().sample.stamp_ns == 7
    """
    directory = Path(tempfile.mkdtemp(prefix="zeroslot-test-", dir=SHM))
    domain = f"test-{secrets.token_hex(4)}"
    pid = os.getpid()
    try:
        with _environment(ZEROSLOT_DIR=str(directory), ZEROSLOT_DOMAIN=domain):
            try:
                yield domain
                if os.getpid() == pid:
                    gc.collect()  # closes the handles in reference cycles
                    _warn_of_open_publishers()
            finally:
                for each in domains() if os.getpid() == pid else ():
                    clean(each)
    finally:
        if os.getpid() == pid:
            shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _warn_of_open_publishers() -> None:
    for topic in (topic for domain in domains() for topic in topics(domain)):
        for publisher in topic.publishers:
            warnings.warn(
                f"the publisher {publisher.name} (pid {publisher.pid}) of {topic.topic} is still open at the end of "
                "its test: close it, or use it as a context manager",
                RuntimeWarning,  # and no ResourceWarning, which Python and pytest do not show by default
                stacklevel=4,
            )
