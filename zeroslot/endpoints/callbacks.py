"""`Subscriber.on_sample`: a thread that calls a function with each sample.

Why a thread of its own for each function: a function that is slow delays no other one, and may wait itself.

Why errors go to `threading.excepthook`: it prints the traceback, also where logging is not set up. The next sample is
taken as if nothing had happened, since the process goes on in any case and would miss it silently.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from zeroslot._core.binding import Flag, Lease, Members, deadline_after, now_ns, wait_for_any
from zeroslot.endpoints.following import Following
from zeroslot.errors import ClosedError, ForkedHandleError

if TYPE_CHECKING:
    from types import TracebackType

_RETRY_NS = 50_000_000  # the time to the next try, where a sample cannot be taken
_EXIT_NS = 1_000_000_000  # how long functions that run may take at the end of the interpreter

_running: Members[SampleCallback] = Members()


class SampleCallback:
    """A function that is called with each sample of a subscriber, by a thread of its own. A context manager: the end of
    the block stops it.
    """

    def __init__(self, subscriber: Following[Any], function: Callable[[Lease[Any]], object], latest: bool) -> None:
        """Use `Subscriber.on_sample`."""
        self._subscriber = subscriber
        self._function = function
        self._take = subscriber.latest if latest else subscriber.take
        self._stop = Flag()
        self._thread = threading.Thread(target=self._run, name=f"zeroslot-on-sample-{subscriber.topic}", daemon=True)
        _running.add(self)
        try:
            self._thread.start()
        except BaseException:
            self._stop.bump()  # it may have started
            raise

    @property
    def running(self) -> bool:
        """Whether samples are still taken for the function. False after `stop`, and once the subscriber is closed."""
        return self._thread.is_alive()

    def stop(self, timeout: float | None = None) -> bool:
        """Call the function no more. Waits up to `timeout` seconds (None: for ever) for a call that runs, unless that
        is the call from which this is called. Whether none runs any more.
        """
        deadline = deadline_after(timeout)
        self._stop.bump()
        if self._thread is threading.current_thread():
            return False
        if self._thread.is_alive():
            self._thread.join(None if timeout is None or timeout > 1e9 else max(deadline - now_ns(), 0) / 1e9)
        return not self._thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        reported: type[BaseException] | None = None
        ends = [self._subscriber]
        while self._stop.value == 0:
            try:
                lease = None
                if wait_for_any(ends, self._stop, 0, deadline_after(None)) and self._stop.value == 0:
                    lease = self._take()
                reported = None
            except (ClosedError, ForkedHandleError):
                return
            except Exception as error:  # noqa: BLE001  # reported, and tried again
                if type(error) is not reported:
                    self._report(error)
                reported = type(error)
                wait_for_any([], self._stop, 0, now_ns() + _RETRY_NS)
            else:
                if lease is not None:
                    self._call(lease)
                    del lease

    def _call(self, lease: Lease[Any]) -> None:
        try:
            self._function(lease)
        except Exception as error:  # noqa: BLE001  # the next sample is taken all the same
            self._report(error)

    def _report(self, error: BaseException) -> None:
        threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, self._thread)))

    def __repr__(self) -> str:
        return f"<SampleCallback of {self._subscriber.topic}, {'running' if self.running else 'stopped'}>"


def _stop_all() -> None:
    for each in list(_running):
        each._stop.bump()
    until = now_ns() + _EXIT_NS
    for each in list(_running):
        each.stop(max(until - now_ns(), 0) / 1e9)


# When the main thread has ended, and before functions that programs have registered with atexit.
with suppress(RuntimeError):  # the interpreter is ending already
    threading._register_atexit(_stop_all)  # type: ignore[attr-defined]  # as concurrent.futures does it
