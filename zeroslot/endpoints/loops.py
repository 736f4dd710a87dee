"""Waiting for samples in event loops: asyncio, and trio where the program runs in it.

Why a loop has a turn now and then although there are samples: a task that finds a sample at each look never suspends,
and the other tasks of its loop would not run.

Why neither is imported here: a program without event loops does not wait for the import of asyncio, and one with trio
has imported it.
"""

from __future__ import annotations

import sys
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary, ref

from zeroslot._core.binding import Doorbell, SubscriberEnd, deadline_after, now_ns
from zeroslot.endpoints.waker import NEVER, SubscriberWake, arm, disarm

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

R = TypeVar("R")

TAKES_AT_ONCE = 32  # a turn of a loop takes about 20 us, so a sample waits less than 1 us for it on average


class _LoopBell:
    """The descriptor by which the waker wakes an asyncio loop, one for each loop in which tasks wait.

    Why not `call_soon_threadsafe`: it needs the interpreter's lock, for which the loop would then have to wait.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.doorbell = Doorbell()
        self.waiting: dict[_LoopWake, None] = {}  # keeps them, and so their tasks, as long as the loop is there
        self.rung: deque[_LoopWake] = deque()
        loop.add_reader(self.doorbell.fileno(), self._resume)

    def _resume(self) -> None:
        self.doorbell.silence()
        while self.rung:
            self.rung.popleft().resume()

    def leave(self, loop: asyncio.AbstractEventLoop) -> None:
        """A task waits no more, and was not woken. The last one removes the descriptor."""
        if not self.waiting and not loop.is_closed() and _found(loop) is self:
            del _bells[loop]
            loop.remove_reader(self.doorbell.fileno())


# The loop has the bell as its reader. What is here must not keep it: it keeps the tasks, and these keep the loop.
_bells: WeakKeyDictionary[asyncio.AbstractEventLoop, ref[_LoopBell]] = WeakKeyDictionary()


def _found(loop: asyncio.AbstractEventLoop) -> _LoopBell | None:
    reference = _bells.get(loop)
    return None if reference is None else reference()


def _bell_of(loop: asyncio.AbstractEventLoop) -> _LoopBell:
    bell = _found(loop)
    if bell is None:
        bell = _LoopBell(loop)
        _bells[loop] = ref(bell)
    return bell


class _LoopWake(SubscriberWake):
    """Wakes a task of an asyncio loop. Loops that are closed are forgotten."""

    __slots__ = ("_bell", "_loop", "future")

    def __init__(self, subscriber: SubscriberEnd[Any], loop: asyncio.AbstractEventLoop, bell: _LoopBell) -> None:
        super().__init__(subscriber)
        self._bell = bell
        self._loop = loop
        self.future: asyncio.Future[None] = loop.create_future()

    def ring(self) -> None:
        self._bell.rung.append(self)
        self._bell.doorbell.ring()

    def resume(self) -> None:
        """Let the task run, in a callback of its loop."""
        if not self.future.done():
            self.future.set_result(None)

    def is_over(self) -> bool:
        return self._loop.is_closed()


async def first(
    subscriber: SubscriberEnd[Any], look: Callable[[], R | None], timeout: float | None, *, give_way: bool
) -> R | None:
    """What `look()` gives, as soon as the subscriber has something for it; None after `timeout` seconds (None: for
    ever). `give_way`: let the other tasks run before the first look.

    Nothing is suspended between the look and the return, so a wait that is cancelled has taken nothing.
    """
    deadline = deadline_after(timeout)
    wait, give_turn = (_trio_wait, _trio_turn) if _runs_in_trio() else (_asyncio_wait, _asyncio_turn)
    if give_way:
        await give_turn()
    while True:
        found = look()
        now = now_ns()
        if found is not None or now >= deadline:
            return found
        await wait(subscriber, None if deadline == NEVER else (deadline - now) / 1e9)


async def _asyncio_turn() -> None:
    from asyncio import sleep

    await sleep(0)


async def _asyncio_wait(subscriber: SubscriberEnd[Any], left: float | None) -> None:
    """Suspend the task until the subscriber may have something, at most for `left` seconds."""
    from asyncio import get_running_loop

    loop = get_running_loop()
    bell = _bell_of(loop)
    wake = _LoopWake(subscriber, loop, bell)
    timer = None if left is None else loop.call_later(left, wake.resume)
    try:
        bell.waiting[wake] = None
        arm(wake)
        await wake.future
    finally:
        bell.waiting.pop(wake, None)
        if timer is not None:
            timer.cancel()
        if disarm(wake):
            bell.leave(loop)


def _runs_in_trio() -> bool:
    trio: Any = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_run())


async def _trio_turn() -> None:
    trio: Any = sys.modules["trio"]
    await trio.lowlevel.checkpoint()


async def _trio_wait(subscriber: SubscriberEnd[Any], left: float | None) -> None:
    """The same for trio."""
    trio: Any = sys.modules["trio"]
    token, event = trio.lowlevel.current_trio_token(), trio.Event()

    def ring() -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(event.set)

    wake = SubscriberWake(subscriber, ring)
    try:
        arm(wake)
        with trio.move_on_after(float("inf") if left is None else left):
            await event.wait()
    finally:
        disarm(wake)
