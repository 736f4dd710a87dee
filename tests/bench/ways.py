"""What a peer says about itself: how its two ends are opened, and the statements that send and receive.

Why statements as text and one loop for all: a call for each send would be a third of what is measured for the fastest
peers, and a loop written out for each peer, payload and wait could not be compared by reading. The text is what a user
of that peer would write, and the report prints it.

In these statements `turn` is the number of the message, and `seen` gets what was read of the received one: the number
of a typed payload, the first and the last byte of others. The loop checks the last `seen`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from zeroslot.cli.figures import as_bytes

TYPED, COPIED, FILLED = "typed", "copied", "filled"
SPIN, BLOCK = "spin", "block"
FRAME = 1080 * 1920 * 3
SIZES = (64, 4096, 65536, 1 << 20, FRAME, 8 << 20)


def size_name(size: int) -> str:
    """A size as the tables call it."""
    return "6.2 MB" if size == FRAME else as_bytes(size)


@dataclass(frozen=True)
class End:
    """One of the two ends of a pair that a peer opens."""

    first: bool
    name: str  # of the pair, not used before
    payload: str  # TYPED: 64 bytes with fields. COPIED: from an array. FILLED: written in place, both ends of it
    size: int
    wait: str
    window: int = 1  # so many messages may be on their way
    shared: Any = None  # what `Peer.share` made before the fork

    @property
    def outgoing(self) -> str:
        """The name of the direction in which this end sends."""
        return f"{self.name}-{'there' if self.first else 'back'}"

    @property
    def incoming(self) -> str:
        """The name of the other direction."""
        return f"{self.name}-{'back' if self.first else 'there'}"


@dataclass(frozen=True)
class Opened:
    """An end that is ready: what its statements use, the statements, and how it is closed."""

    names: dict[str, Any]
    send: str
    receive: str
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Peer:
    """Something that carries messages between two processes."""

    name: str
    open: Callable[[End], Opened]
    settings: str  # what was chosen, for the reader of the report
    module: str | None = None  # what it needs, and the distribution of that
    distribution: str | None = None
    payloads: tuple[str, ...] = (TYPED, COPIED)
    waits: tuple[str, ...] = (BLOCK,)
    sizes: tuple[int, ...] = SIZES
    pinned: bool = True  # False: it has threads of its own, and was faster where the system places them
    queue: int = 64  # so many messages can be on their way
    share: Callable[[], Any] | None = None  # before the fork: what both processes inherit
    forget: Callable[[], Any] = lambda: None  # drop what was kept while the sizes changed

    def missing(self) -> str | None:
        """Why it cannot run here; None if it can."""
        if self.module is not None and importlib.util.find_spec(self.module.partition(".")[0]) is None:
            return f"{self.distribution} is not installed"
        return None

    def version(self) -> str:
        """The installed version, or nothing."""
        if self.distribution is None or self.missing():
            return ""
        return importlib.metadata.version(self.distribution)


@contextmanager
def closing(*handles: Any) -> Iterator[None]:
    """Close handles at the end, the last one first."""
    try:
        yield
    finally:
        for handle in reversed(handles):
            handle.close()


def loop(opened: Opened, first: bool) -> Callable[[int, list[int], Callable[[], int]], Any]:
    """A function of (count, times, clock) that sends and receives so often, and stores the time of each round trip.

    The first end sends before it receives, the second one receives before it sends and measures nothing.
    """
    body = [*opened.send.splitlines(), *opened.receive.splitlines()]
    if first:
        body += ["now = clock()", "times[turn] = now - before", "before = now"]
    else:
        body = [*opened.receive.splitlines(), *opened.send.splitlines()]
    return _function(opened, body)


def burst(opened: Opened, first: bool) -> Callable[..., Any]:
    """As `loop`, for (count, times, clock, window): the first end sends `window` messages and receives one answer."""
    many, one = (opened.send, opened.receive) if first else (opened.receive, opened.send)
    body = ["for part in range(window):", *(f"    {line}" for line in many.splitlines()), *one.splitlines()]
    if first:
        body += ["now = clock()", "times[turn] = now - before", "before = now"]
    return _function(opened, body, ", window")


def _function(opened: Opened, body: list[str], more: str = "") -> Callable[..., Any]:
    lines = [f"def turns(count, times, clock{more}):"]
    lines += [f"    {name} = names[{name!r}]" for name in opened.names]
    lines += ["    seen = None", "    before = clock()", "    for turn in range(count):"]
    lines += [f"        {line}" for line in body]
    lines += ["    return seen"]
    space: dict[str, Any] = {"names": opened.names}
    exec(compile("\n".join(lines), "<statements of a peer>", "exec"), space)  # the text is in tests/bench/peers
    function: Callable[..., Any] = space["turns"]
    return function


def own_directory() -> str:
    """Where sockets and fifos of this run are; the harness makes it and removes it."""
    return os.environ["ZEROSLOT_BENCH_DIR"]
