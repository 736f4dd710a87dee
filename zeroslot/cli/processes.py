"""Child processes of a command: started as modules of this package, spoken to in JSON lines, always reaped.

Why stdin is the leash: a child whose stdin ends, ends. So none survives its parent, however the parent goes, and a
child that ends by itself closes what it has in shared memory, which one that is killed leaves behind.

Why a process group of their own: Ctrl-C reaches the whole foreground group at once. Here it shall reach the parent
alone, which ends the others in the order that it wants.
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

PATIENCE_S = 5.0  # for a child to end by itself


class ChildError(RuntimeError):
    """A child ended when nobody asked it to. The text has what it left on stderr."""


class Child:
    """One process. Made by `Family.start`, which also reaps it."""

    def __init__(self, module: str, arguments: dict[str, Any], name: str) -> None:
        self.name = name
        self.ended = False
        self._buffer = b""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # read when the child fails, closed with it
        # -P: the current directory is no place to import from, unless it is one for this process.
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        self._process = subprocess.Popen(  # noqa: S603  # this interpreter, a module that imports from where we do
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

    def tell(self, order: object) -> None:
        """Send an order. One that has ended already does not hear it."""
        try:
            _write_all(_pipe(self._process.stdin), json.dumps(order).encode() + b"\n")
        except BrokenPipeError:
            self.ended = True

    def fileno(self) -> int:
        """Readable when the child has said something, or has ended."""
        return _pipe(self._process.stdout)

    def heard(self) -> Iterator[Any]:
        """What it has said since the last call; waits for it unless `fileno` is readable."""
        chunk = os.read(self.fileno(), 65536)
        if not chunk:
            self.ended = True
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        for line in lines:
            yield json.loads(line)

    def failure(self) -> ChildError:
        """What to raise when it has ended and should not have."""
        status = self._process.wait()
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip()
        return ChildError(f"{self.name} (pid {self.pid}) ended with status {status}" + (f":\n{said}" if said else ""))

    def let_go(self) -> None:
        """Close its stdin: it ends."""
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


class Family:
    """The children of one command. A context manager: leaving it ends and reaps them all."""

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._selector = selectors.DefaultSelector()
        self._said: dict[int, list[Any]] = {}

    def start(self, module: str, name: str, **arguments: Any) -> Child:
        """Start `python -m module` with these arguments; it calls `serve`. `name` is how errors call it."""
        child = Child(module, arguments, name)
        self._children.append(child)
        self._selector.register(child, selectors.EVENT_READ)
        self._said[child.pid] = []
        return child

    def events(self, timeout: float | None) -> Iterator[tuple[Child, Any]]:
        """What the children say within `timeout` seconds, until the first pause. One that ends is a ChildError."""
        for key, _ in self._selector.select(timeout):
            child = key.fileobj
            if not isinstance(child, Child):
                continue
            for value in child.heard():
                yield child, value
            if child.ended:
                self._selector.unregister(child)
                raise child.failure()

    def hear(self, child: Child) -> Any:
        """The next thing that this child says. Another one that ends meanwhile is a ChildError too."""
        while not self._said[child.pid]:
            for other, value in self.events(None):
                self._said[other.pid].append(value)
        return self._said[child.pid].pop(0)

    def ask(self, child: Child, order: object) -> Any:
        """Send an order and wait for the answer."""
        child.tell(order)
        return self.hear(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.let_go()
        deadline = time.monotonic() + PATIENCE_S
        for child in self._children:
            child.reap(deadline)
        self._selector.close()


class Parent:
    """The other end, in the child. When it is gone and the child does not notice, the child is interrupted."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._done = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with open(0, "rb", buffering=0, closefd=False) as orders:
            for line in orders:
                self._orders.put(json.loads(line))
        self._orders.put(None)
        if not self._done.wait(PATIENCE_S):
            _thread.interrupt_main()

    def say(self, value: object) -> None:
        """Tell the parent. Returns when the pipe has it."""
        _write_all(1, json.dumps(value).encode() + b"\n")

    def hear(self) -> Any:
        """The next order; None when there will be none."""
        return self._orders.get()

    @property
    def has_spoken(self) -> bool:
        """Whether `hear` would return at once."""
        return not self._orders.empty()

    def finish(self) -> None:
        """From here on the child ends by itself."""
        self._done.set()


def serve(tasks: dict[str, Callable[..., None]]) -> int:
    """The child's main: run `tasks[task](parent, **rest)` with the arguments that `start` passed. Its exit status."""
    arguments = json.loads(sys.argv[1])
    parent = Parent()
    try:
        tasks[arguments.pop("task")](parent, **arguments)
    except (KeyboardInterrupt, BrokenPipeError):
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
