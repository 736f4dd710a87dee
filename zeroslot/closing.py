"""The end of the interpreter: handles that are still open are closed, so that a program that just ends leaves nothing.

Why also through multiprocessing: its children skip atexit.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import weakref
from typing import Any, Protocol

from zeroslot._core import binding
from zeroslot.bell import leave_bells
from zeroslot.errors import ZeroslotError

log = logging.getLogger("zeroslot")


class _Closable(Protocol):
    def close(self) -> None: ...


_handles: weakref.WeakSet[Any] = weakref.WeakSet()
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
    for handle in list(_handles):
        for _ in range(2):  # again where Ctrl-C has interrupted it: all is closed, and then the interruption is raised
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


for _ in range(2):  # the second call finds nothing to do, unless the first was interrupted between two handles
    atexit.register(_close_all)
