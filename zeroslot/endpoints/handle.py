"""Closing at exit: handles that are still open are closed, so that a program that ends without closing leaves nothing.

Why also through multiprocessing: its children skip atexit.

Why the waits of executors' workers end before that: the interpreter joins the workers, and a program would hang at its
end in the `take(timeout=None)` of one. Their waits raise ClosedError, their iterations end, and the handles stay open.
Threads that the program started itself go on for as long as they like, as everywhere in Python. The hooks that end
executors run in reverse order of registration, so concurrent.futures.thread is imported first.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from concurrent.futures import thread as executors
from contextlib import suppress
from typing import Any, Protocol

from zeroslot._core import binding
from zeroslot.errors import ZeroslotError
from zeroslot.memory.bell import leave_bells

log = logging.getLogger("zeroslot")


class _Closable(Protocol):
    def close(self) -> None: ...


_handles: binding.Members[Any] = binding.Members()
_watched_pid = 0


def close_at_exit(handle: _Closable) -> None:
    """Close the handle when the interpreter ends, also in children of multiprocessing, which skip atexit."""
    global _watched_pid  # noqa: PLW0603 (once a process)
    _handles.add(handle)
    util = sys.modules.get("multiprocessing.util")
    if util is not None and _watched_pid != os.getpid():
        _watched_pid = os.getpid()
        util.Finalize(None, _close_all, exitpriority=100)


def _close_all() -> None:
    binding.begin_exit()
    interrupted: BaseException | None = None
    # The waker first: from here on a thread that finds its subscriber closed sleeps for ever, and the waker is joined.
    for handle in sorted(_handles, key=lambda each: not hasattr(each, "closes_first")):
        for _ in range(2):  # again if Ctrl-C interrupted it; the interruption is raised once all handles are closed
            try:
                handle.close()
                break
            except (ZeroslotError, OSError):
                log.debug("closing %r at exit", handle, exc_info=True)
                break
            except BaseException as error:  # noqa: BLE001 (raised below)
                interrupted = error
    leave_bells()
    if interrupted is not None:
        raise interrupted


def _end_waits_of_workers() -> None:
    binding.end_waits_of_workers(_is_worker)
    for handle in list(_handles):
        if isinstance(handle, binding.SubscriberEnd):
            handle._nudge()


def _is_worker() -> bool:
    return threading.current_thread() in executors._threads_queues


with suppress(RuntimeError):  # the interpreter is ending already
    threading._register_atexit(_end_waits_of_workers)  # type: ignore[attr-defined]  # as concurrent.futures does it

for _ in range(2):  # the second call finds nothing to do, unless the first was interrupted between two handles
    atexit.register(_close_all)
