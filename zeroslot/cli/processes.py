"""Child processes of a command. They run modules of this package, exchange JSON lines with it, and are always reaped.

Why a child ends when its stdin ends: no child outlives its parent, however the parent ends. A child that ends by itself
also closes its segments, which a child that is killed leaves behind.

Why each child has a process group of its own: Ctrl-C is sent to the whole foreground group. It has to reach the parent
alone, which ends the children in its own order.
"""

from __future__ import annotations

import _thread
import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

END_TIMEOUT_S = 5.0  # for a child to end by itself


class ChildError(RuntimeError):
    """A child ended before its stdin did. The text has what it wrote to stderr."""


class Child:
    """One process. `Children.start` makes it; leaving `Children` reaps it."""

    def __init__(self, module: str, arguments: dict[str, Any], name: str) -> None:
        self.name = name
        self.ended = False
        self._buffer = b""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # read when the child fails, closed with it
        # -P: import from the current directory only if this process does.
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        self._process = subprocess.Popen(  # noqa: S603  # this interpreter, and a module of this package
            [sys.executable, "-P", "-m", module, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=os.environ | {"PYTHONPATH": path},
            process_group=0,
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def send(self, order: object) -> None:
        """Send an order. It is dropped if the child has ended."""
        try:
            _write_all(_pipe(self._process.stdin), json.dumps(order).encode() + b"\n")
        except BrokenPipeError:
            self.ended = True

    def fileno(self) -> int:
        """A descriptor that is readable when the child has sent something, or has ended."""
        return _pipe(self._process.stdout)

    def messages(self) -> Iterator[Any]:
        """What it has sent since the last call. Blocks unless `fileno` is readable."""
        chunk = os.read(self.fileno(), 65536)
        if not chunk:
            self.ended = True
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        for line in lines:
            yield json.loads(line)

    def failure(self) -> ChildError:
        """The error for a child that has ended too early."""
        status = self._process.wait()
        self._stderr.seek(0)
        text = self._stderr.read().decode(errors="replace").strip()
        return ChildError(f"{self.name} (pid {self.pid}) ended with status {status}" + (f":\n{text}" if text else ""))

    def close_stdin(self) -> None:
        """Send it the order to end."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()

    def reap(self, deadline: float) -> None:
        """Wait for its end until the deadline, then interrupt it, then kill it."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(deadline - time.monotonic(), 0))
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._stderr.close()


class Children:
    """The children of one command. A context manager: leaving it ends and reaps them all."""

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._selector = selectors.DefaultSelector()
        self._received: dict[int, list[Any]] = {}

    def start(self, module: str, name: str, **arguments: Any) -> Child:
        """Start `python -m module` with these arguments; it calls `serve`. `name` is for error texts."""
        child = Child(module, arguments, name)
        self._children.append(child)
        self._selector.register(child, selectors.EVENT_READ)
        self._received[child.pid] = []
        return child

    def events(self, timeout: float | None) -> Iterator[tuple[Child, Any]]:
        """What the children send within `timeout` seconds, up to the first pause. Raises ChildError when one ends."""
        for key, _ in self._selector.select(timeout):
            child = key.fileobj
            if not isinstance(child, Child):
                continue
            for value in child.messages():
                yield child, value
            if child.ended:
                self._selector.unregister(child)
                raise child.failure()

    def receive(self, child: Child) -> Any:
        """The next message of this child. Raises ChildError when it or another one ends meanwhile."""
        while not self._received[child.pid]:
            for other, value in self.events(None):
                self._received[other.pid].append(value)
        return self._received[child.pid].pop(0)

    def request(self, child: Child, order: object) -> Any:
        """Send an order and wait for the answer."""
        child.send(order)
        return self.receive(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.close_stdin()
        deadline = time.monotonic() + END_TIMEOUT_S
        for child in self._children:
            child.reap(deadline)
        self._selector.close()


class Parent:
    """The connection of a child to its parent. If the child does not end after the parent did, it is interrupted."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._done = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with open(0, "rb", buffering=0, closefd=False) as orders:
            for line in orders:
                self._orders.put(json.loads(line))
        self._orders.put(None)
        if not self._done.wait(END_TIMEOUT_S):
            _thread.interrupt_main()

    def send(self, value: object) -> None:
        """Send a message to the parent. Returns when it is in the pipe."""
        _write_all(1, json.dumps(value).encode() + b"\n")

    def receive(self) -> Any:
        """The next order; None after the last."""
        return self._orders.get()

    @property
    def has_order(self) -> bool:
        """Whether `receive` would return at once."""
        return not self._orders.empty()

    def finish(self) -> None:
        """The child is about to end: do not interrupt it."""
        self._done.set()


def serve(tasks: dict[str, Callable[..., None]]) -> int:
    """The main function of a child: run `tasks[task](parent, **rest)` with the arguments of `start`. Returns its exit
    status.
    """
    arguments = json.loads(sys.argv[1])
    parent = Parent()
    try:
        tasks[arguments.pop("task")](parent, **arguments)
    except (KeyboardInterrupt, BrokenPipeError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child ends: of two interruptions the later one is dropped
        return 130
    finally:
        parent.finish()
    return 0


def _pipe(pipe: Any) -> int:
    number: int = pipe.fileno()
    return number


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
