"""`WaitSet`: one wait for subscribers, descriptors, timers and events of the program.

Why what is ready is the object that was attached, and not an event with a kind: programs compare with `is`, and nothing
has to be looked up.

Why subscribers and descriptors stay ready until they are read: a program may take one sample for each wait, or none,
and misses nothing. Timers and deadlines are ready once for each time that they come.

Why the waker rings for subscribers only where descriptors are attached: a thread can sleep on words or on descriptors.
Without descriptors the calling thread sleeps on the words itself, and no other thread is between.
"""

from __future__ import annotations

import errno
import os
import select
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, TypeVar

from zeroslot._core.binding import Doorbell, Flag, Handle, Members, Several, deadline_after, now_ns, poll_until
from zeroslot.arguments import checked_flags, checked_period
from zeroslot.endpoints.handle import close_at_exit
from zeroslot.endpoints.subscriber import Subscriber
from zeroslot.endpoints.waker import NEVER, SubscriberWake, Wake, arm, disarm
from zeroslot.errors import ClosedError, ForkedHandleError

A = TypeVar("A")


class Trigger(ABC):
    """What becomes ready without a subscriber or descriptor, once each time: base of timers, deadlines and events."""

    @abstractmethod
    def _due_ns(self) -> int:
        """When it is ready if nothing else happens (CLOCK_MONOTONIC), in the past where it is ready; NEVER."""

    @abstractmethod
    def _take(self, now: int) -> bool:
        """Whether it was ready; from now on it is not."""


class Timer(Trigger):
    """Ready each `seconds`, counted from when it was made. `missed`: how often it came while it was ready already."""

    def __init__(self, seconds: float) -> None:
        """Use `WaitSet.every`."""
        self.seconds = seconds
        self.missed = 0
        self._period_ns = max(int(seconds * 1e9), 1)
        self._next_ns = now_ns() + self._period_ns

    def _due_ns(self) -> int:
        return self._next_ns

    def _take(self, now: int) -> bool:
        if now < self._next_ns:
            return False
        periods = (now - self._next_ns) // self._period_ns
        self.missed += periods
        self._next_ns += (periods + 1) * self._period_ns
        return True

    def __repr__(self) -> str:
        return f"<Timer of {self.seconds} s>"


class Deadline(Trigger):
    """Ready when nothing was published to a subscriber's topic for `seconds`, and again after each further `seconds` of
    silence. The first ones are counted from when it was made.
    """

    def __init__(self, subscriber: Subscriber[Any], seconds: float) -> None:
        """Use `WaitSet.deadline`."""
        self.subscriber = subscriber
        self.seconds = seconds
        self._period_ns = max(int(seconds * 1e9), 1)
        self._count = subscriber._activity()[1]
        self._since_ns = now_ns()

    def _due_ns(self) -> int:
        newest_ns, count, left_ns = self.subscriber._activity()
        if newest_ns == 0 and count > self._count:  # by a publisher with another clock
            newest_ns = now_ns()
        self._count = count
        self._since_ns = max(self._since_ns, newest_ns, left_ns)
        return self._since_ns + self._period_ns

    def _take(self, now: int) -> bool:
        due = self._due_ns()
        if now < due:
            return False
        self._since_ns = now - (now - due) % self._period_ns
        return True

    def __repr__(self) -> str:
        return f"<Deadline of {self.seconds} s for {self.subscriber.topic}>"


class UserEvent(Trigger):
    """Ready from `set` to `clear`, as in threading; after `notify` once, however often that was called before."""

    def __init__(self, owner: WaitSet) -> None:
        """Use `WaitSet.event`."""
        self._owner = owner
        self._is_set = False
        self._is_notified = False

    def set(self) -> None:
        """Make it ready until `clear`. Any thread and any signal handler may call it; it takes no lock."""
        self._owner._check_process()
        self._is_set = True
        self._owner._wake()

    def notify(self) -> None:
        """Make it ready for one wait, as `set` does."""
        self._owner._check_process()
        self._is_notified = True
        self._owner._wake()

    def clear(self) -> None:
        """Take back a `set`, and a `notify` that no wait has returned."""
        self._is_set = self._is_notified = False

    def is_set(self) -> bool:
        """Whether it is ready."""
        return self._is_set or self._is_notified

    def _due_ns(self) -> int:
        return 0 if self.is_set() else NEVER

    def _take(self, now: int) -> bool:  # noqa: ARG002  # as of the others
        notified, self._is_notified = self._is_notified, False
        return notified or self._is_set

    def __repr__(self) -> str:
        return f"<UserEvent, {'set' if self.is_set() else 'not set'}>"


class _Polling:
    """A wait that sleeps in poll. Its doorbell is its own: a wait of another thread would silence it."""

    def __init__(self) -> None:
        self.doorbell = Doorbell()


class _Table:
    """What is attached, in this order; never changed. By kind, since a wait looks at each kind in another way."""

    def __init__(self, attached: dict[object, tuple[Any, int, int]], flag: Flag) -> None:
        self.attached = attached  # by key: the object, its descriptor or -1, and the events to poll for
        self.objects = [each for each, _, _ in attached.values()]
        self.subscribers: list[Subscriber[Any]] = [each for each in self.objects if isinstance(each, Subscriber)]
        self.triggers = [each for each in self.objects if isinstance(each, Trigger)]
        self.polled = [(each, fd, events) for each, fd, events in attached.values() if fd >= 0]
        self.several = Several(self.subscribers, flag)


class WaitSet(Handle):
    """One wait for any number of subscribers, descriptors, timers and events. A context manager.

    Subscribers, and objects with a `fileno()` or descriptors as numbers, are given here or attached later. `wait`
    returns those that are ready, as the very objects that were attached, in the order of attaching. A subscriber is
    ready while its `take` would not wait; also when it would raise, because it was evicted or closed for example. A
    descriptor is ready while it can be read, or has an error.

    Without descriptors the calling thread sleeps on shared memory itself, and one wake-up takes as long as that of a
    single subscriber. With descriptors it sleeps in poll, and the thread of the process that serves event loops wakes
    it. A futex wait takes 128 words: with more than about 125 publishers the wait looks every millisecond instead.

    Threads may attach, detach and wait at any time; a set does not own what is attached to it.

    >>> with zs.WaitSet(camera, lidar, server_socket) as waiting:
    ...     second = waiting.every(1.0)
    ...     silent = waiting.deadline(camera, 0.5)
    ...     while True:
    ...         for ready in waiting.wait():
    ...             if ready is camera:
    ...                 show(camera.take())
    ...             elif ready is silent:
    ...                 print("no frame for half a second")
    """

    _released = True  # until the constructor has ended

    def __init__(self, *attached: object) -> None:
        self._flag = Flag()  # moves when an event is set, and when something is attached or detached
        self._table = _Table({}, self._flag)
        self._changing = threading.RLock()  # a signal handler may attach as well
        self._polling: Members[_Polling] = Members()
        self._released = False
        close_at_exit(self)
        for each in attached:
            self.attach(each)

    def attach(self, what: A, *, read: bool = True, write: bool = False) -> A:
        """Wait for a subscriber, or for a descriptor to be readable (`read`), writable (`write`) or either. Returns
        what was given.

        Raises TypeError for anything else, ValueError for what is attached already, OSError for a descriptor that is
        not open.
        """
        checked_flags(read=read, write=write)
        self._check()
        if isinstance(what, Subscriber):
            if write or not read:
                raise ValueError("read and write are for descriptors: a subscriber is only read")
            what._check()
            return self._add(what)
        if not read and not write:
            raise ValueError("a descriptor is waited for to be read, to be written, or both")
        events = (select.POLLIN if read else 0) | (select.POLLOUT if write else 0)
        return self._add(what, _descriptor_of(what), events)

    def every(self, seconds: float) -> Timer:
        """Attach a timer that is ready every `seconds`."""
        self._check()
        return self._add(Timer(checked_period("seconds", seconds)))

    def deadline(self, subscriber: Subscriber[Any], seconds: float) -> Deadline:
        """Attach a deadline: ready when nothing was published to the subscriber's topic for `seconds`. The subscriber
        itself is not attached by this.
        """
        self._check()
        if not isinstance(subscriber, Subscriber):
            raise TypeError(f"a deadline is for a subscriber, not {type(subscriber).__name__}")
        subscriber._check()
        return self._add(Deadline(subscriber, checked_period("seconds", seconds)))

    def event(self) -> UserEvent:
        """Attach an event of the program, which is ready after its `set` or `notify` was called, in any thread."""
        self._check()
        return self._add(UserEvent(self))

    def detach(self, what: object) -> None:
        """Wait for it no more. Raises ValueError for what is not attached."""
        self._check()
        key = _key_of(what)
        while True:
            before = self._table
            if key not in before.attached:
                raise ValueError(f"{what!r} is not attached")
            after = {each: value for each, value in before.attached.items() if each != key}
            if self._exchange(before, after):
                return

    def wait(self, timeout: float | None = None) -> list[Any]:
        """Sleep until something is ready: what is, in the order of attaching; an empty list after `timeout` seconds
        (None: for ever).

        Raises ClosedError, also when the set is closed meanwhile; ForkedHandleError.
        """
        deadline_ns = deadline_after(timeout)
        while True:
            self._check()
            seen = self._flag.value
            table = self._table
            until_ns = min([deadline_ns, *[each._due_ns() for each in table.triggers]])
            if table.polled:
                ready = self._poll(table, seen, until_ns)
            else:
                ready = table.several.wait(seen, until_ns)
            now = now_ns()
            if table.triggers:
                ready += [each for each in table.triggers if each._take(now)]
            if len(ready) > 1 and len(table.subscribers) < len(table.objects):
                ids = {id(each) for each in ready}
                ready = [each for each in table.objects if id(each) in ids]
            if ready or now >= deadline_ns:
                return ready

    def _poll(self, table: _Table, seen: int, until_ns: int) -> list[Any]:
        """The subscribers and descriptors that are ready. Sleeps in poll; the waker rings a doorbell."""
        ready: list[Any] = list(table.several.wait(seen, 0))
        if ready or now_ns() >= until_ns:
            return ready + _polled(table, 0)
        polling = _Polling()
        doorbell = polling.doorbell
        wakes: list[Wake] = [SubscriberWake(each, doorbell.ring) for each in table.subscribers]
        wakes = wakes or [Wake()]  # the waker follows the topics of the process in any case
        try:
            self._polling.add(polling)
            for wake in wakes:
                arm(wake)
            found = _polled(table, until_ns if self._flag.value == seen else 0, doorbell)
        finally:
            self._polling.discard(polling)
            for wake in wakes:
                disarm(wake)
        return list(table.several.wait(seen, 0)) + found

    def _add(self, what: A, descriptor: int = -1, events: int = 0) -> A:
        key = _key_of(what)
        while True:
            before = self._table
            if key in before.attached:
                raise ValueError(f"{what!r} is attached already")
            if self._exchange(before, before.attached | {key: (what, descriptor, events)}):
                return what

    def _exchange(self, seen: _Table, attached: dict[object, tuple[Any, int, int]]) -> bool:
        """Replace the table that was seen. False: another one is there by now."""
        table = _Table(attached, self._flag)
        with self._changing:
            if self._table is not seen:
                return False
            self._table = table
        self._wake()
        return True

    def _wake(self) -> None:
        self._flag.bump()
        for polling in list(self._polling):
            polling.doorbell.ring()

    def _check_process(self) -> None:
        if self._inherited:
            raise ForkedHandleError("this WaitSet belongs to the parent process. Create a new one in the child")

    def _check(self) -> None:
        self._check_process()
        if self._released:
            raise ClosedError("this WaitSet is closed")

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._released

    def close(self) -> None:
        """Detach everything, and end the waits of other threads. What was attached stays as it is."""
        if not self._inherited and not self._released:
            self._released = True
            self._table = _Table({}, self._flag)
            self._wake()

    def __len__(self) -> int:
        return len(self._table.objects)

    def __contains__(self, what: object) -> bool:
        return _key_of(what) in self._table.attached

    def __iter__(self) -> Iterator[Any]:
        """What is attached, in the order of attaching."""
        return iter(list(self._table.objects))

    def __repr__(self) -> str:
        return f"<WaitSet, {'closed' if self._released else f'{len(self)} attached'}>"


def _key_of(what: object) -> object:
    """By which an object is found again: a descriptor by its number, anything else by its identity."""
    return what if isinstance(what, int) else (id(what),)


def _descriptor_of(what: object) -> int:
    """The descriptor of an object, or what it is itself. Raises TypeError, OSError."""
    fileno = getattr(what, "fileno", None)
    descriptor = fileno() if callable(fileno) else what
    if isinstance(descriptor, bool) or not isinstance(descriptor, int):
        raise TypeError(
            f"a WaitSet waits for subscribers, descriptors and objects with a fileno(), not {type(what).__name__}"
        )
    try:
        os.fstat(descriptor)
    except OverflowError:  # no descriptor is as large
        raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None
    return descriptor


def _polled(table: _Table, until_ns: int, doorbell: Doorbell | None = None) -> list[Any]:
    """The descriptors that are ready, or none once the doorbell was rung."""
    watched = [(descriptor, events) for _, descriptor, events in table.polled]
    if doorbell is not None:
        watched.append((doorbell.fileno(), select.POLLIN))
    found = poll_until(watched, until_ns)
    return [each for (each, _, _), events in zip(table.polled, found, strict=False) if events]
