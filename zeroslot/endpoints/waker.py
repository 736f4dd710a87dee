"""The waker: a thread that wakes event loops, selectors and WaitSets with descriptors.

Subscribers are woken by words in shared memory, and an event loop sleeps on descriptors. So one thread of the process
sleeps on the words for all of them. It starts with the first `arm`, ends a second after the last one is gone, and ends
at the exit of the interpreter.

Why it only wakes, and takes nothing: what is woken takes for itself when it runs. A wait that was cancelled before has
taken nothing, so it loses nothing.

Why no wake-up is missed: the waker looks at a subscriber after it was armed and before it sleeps. What comes between
two looks moves a word on which it sleeps.

Why it refers to what is armed weakly: an interruption may come between any two steps of a wait, also where it disarms.
What the wait has armed ends with it in any case.

Why there is no lock: signal handlers may arm while the code that they interrupt is arming. Each change of the table of
the armed is one operation of a dict, and a thread that is no longer the one in `_thread` ends by itself.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any
from weakref import ref

from zeroslot._core.binding import Doorbell, Flag, SubscriberEnd, deadline_after, now_ns, wait_for_any
from zeroslot.endpoints.handle import close_at_exit

if TYPE_CHECKING:
    from collections.abc import Callable

NEVER = deadline_after(None)  # the deadline of what has no timeout
_ROUND_NS = 1_000_000_000  # the longest time in which the waker keeps a subscriber that was dropped
_UNARMED = object()


class Wake:
    """What the waker calls for one wait: once it is armed, `ring` is called a single time, when its subscriber has
    something. This base has no subscriber, and its `ring` is never called.

    While any is armed the waker follows the topics of the process, as every wait does. `ring` runs in the waker's
    thread, must not block, and may be called once more after `disarm`. A wake that is dropped is disarmed.
    """

    __slots__ = ("__weakref__",)

    def ring(self) -> None:
        """Wake what waits."""

    def subscriber(self) -> SubscriberEnd[Any] | None:
        """What is waited for; None: it is gone."""
        return None

    def is_over(self) -> bool:
        """Whether nothing waits for it any more."""
        return False

    def fire(self) -> None:
        """Ring, where it is armed; from now on it is not."""
        if _waker.armed.pop(ref(self), _UNARMED) is None:
            self.ring()


class SubscriberWake(Wake):
    """A wake for a subscriber, which it keeps, with a function to call."""

    __slots__ = ("_ring", "_subscriber")

    def __init__(self, subscriber: SubscriberEnd[Any], ring: Callable[[], object] | None = None) -> None:
        self._subscriber = subscriber
        self._ring = ring

    def ring(self) -> None:  # noqa: D102  # that of the base
        if self._ring is not None:
            self._ring()

    def subscriber(self) -> SubscriberEnd[Any] | None:  # noqa: D102  # that of the base
        return self._subscriber


class DoorbellWake(Wake):
    """The doorbell of a subscriber, which it does not keep: a subscriber that is dropped is closed."""

    __slots__ = ("_subscriber", "doorbell", "is_new")

    def __init__(self, subscriber: SubscriberEnd[Any]) -> None:
        self.doorbell = Doorbell()
        self.is_new = True  # it was never armed
        self._subscriber = ref(subscriber)

    def ring(self) -> None:  # noqa: D102  # that of the base
        self.doorbell.ring()

    def subscriber(self) -> SubscriberEnd[Any] | None:  # noqa: D102  # that of the base
        return self._subscriber()

    def is_over(self) -> bool:  # noqa: D102  # that of the base
        return self._subscriber() is None

    def fire(self) -> None:  # noqa: D102  # that of the base
        if ref(self) in _waker.armed:
            self.ring()  # first: see `rearm`
            _waker.armed.pop(ref(self), None)

    def rearm(self) -> None:
        """The subscriber has nothing more: make its doorbell unreadable, until it has something again.

        While it is armed there is nothing to do. The waker rings first and disarms then, so the doorbell of what is not
        armed has been rung.
        """
        if ref(self) not in _waker.armed:
            self.doorbell.silence()
            arm(self)

    def begin(self) -> None:
        """Arm it for the first time; ring it where there is something already."""
        subscriber = self._subscriber()
        if self.is_new and subscriber is not None:
            if subscriber._has_something():
                self.doorbell.ring()
            else:
                arm(self)
            self.is_new = False


class _Waker:
    """The waker of this process."""

    closes_first = True  # at exit, before the subscribers that its thread waits for

    def __init__(self) -> None:
        self.armed: dict[ref[Wake], None] = {}
        self.flag = Flag()  # moves with the table of the armed
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Have a thread that looks at the table of the armed from now on."""
        self.flag.bump()
        thread = self._thread
        if thread is None or not thread.is_alive():
            # Here, and not in the fork handler: multiprocessing forgets what a child has registered before it runs.
            close_at_exit(self)
            thread = threading.Thread(target=self._run, name="zeroslot-waker", daemon=True)
            self._thread = thread
            try:
                thread.start()
            except BaseException:
                if self._thread is thread and not thread.is_alive():
                    self._thread = None
                raise

    def add(self, wake: Wake) -> None:
        """Arm it. Raises RuntimeError where no thread can be started."""
        self.armed[ref(wake, self.remove)] = None
        try:
            self.start()
        except BaseException:
            self.armed.pop(ref(wake), None)
            raise

    def remove(self, reference: ref[Wake]) -> bool:
        """Disarm it, and clear what the thread has parked for it. False: it is not armed."""
        if self.armed.pop(reference, _UNARMED) is not None:
            return False
        self.flag.bump()
        return True

    def close(self) -> None:
        """End the thread, and wait for its end. At exit."""
        thread, self._thread = self._thread, None
        self.flag.bump()
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        own = threading.current_thread()
        idle_since = now_ns()
        while self._thread is own:
            self._round()
            if self.armed:
                idle_since = now_ns()
            elif now_ns() - idle_since >= _ROUND_NS:
                self._thread = None
                if self.armed and self._thread is None:  # since the look
                    self._thread = own
                else:
                    return

    def _round(self) -> None:
        """One wait for all that are armed."""
        seen = self.flag.value
        if not self.armed:
            self.flag.sleep(seen, now_ns() + _ROUND_NS)
            return
        wakes = self._by_subscriber()
        try:
            ready = wait_for_any(list(wakes), self.flag, seen, now_ns() + _ROUND_NS, spin=False)
        except Exception:  # noqa: BLE001  # the calls that are woken raise it
            ready = list(wakes)
        for subscriber in ready:
            for reference in wakes[subscriber]:
                wake = reference()
                if wake is not None:
                    wake.fire()

    def _by_subscriber(self) -> dict[SubscriberEnd[Any], list[ref[Wake]]]:
        found: dict[SubscriberEnd[Any], list[ref[Wake]]] = {}
        for reference in list(self.armed):
            wake = reference()
            if wake is None or wake.is_over():
                self.armed.pop(reference, None)
            elif (subscriber := wake.subscriber()) is not None:
                found.setdefault(subscriber, []).append(reference)
        return found


_waker = _Waker()


def arm(wake: Wake) -> None:
    """Call `wake.ring()` once, from another thread and soon, when its subscriber has something. Raises RuntimeError
    where no thread can be started.
    """
    _waker.add(wake)


def disarm(wake: Wake) -> bool:
    """Take back an `arm`. False: `ring` was called already, or the wake was not armed."""
    return _waker.remove(ref(wake))


def _forget() -> None:
    """A forked child has no waker, and nothing in it is armed."""
    global _waker  # noqa: PLW0603  # one of the process
    _waker = _Waker()


os.register_at_fork(after_in_child=_forget)
