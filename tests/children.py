"""Real processes for tests: started, spoken to in JSON lines, stopped, killed, always reaped.

    def test_lease_survives_publisher_death(run_child):
        child = run_child('''
            import zeroslot as zs
            pub = zs.Publisher(args[0], Imu)
            say("ready")
            for order in orders():
                say(pub.publish(Imu(stamp_ns=order["stamp_ns"])))
        ''', "robot/imu")
        child.expect("ready")
        assert child.ask({"stamp_ns": 7}) == 1
        child.kill()

A child is a script, or a function that needs nothing from around it (it is taken as source, called with the arguments).
It has `args`, `say(value)`, `hear()` (None when the parent has closed its side) and `orders()`, which hears until then.
What it prints itself goes to stderr, so stdout carries nothing but what it says.

Why JSON lines and not multiprocessing: a child here is an interpreter of its own that imports like a user's program,
inherits nothing by fork, and whose death is seen as end of file at once.

Why no waiting has a limit here: a limit is either too short on a busy machine or too long to be of use. A child that
dies ends every wait by end of file; one that hangs meets the watchdog of the test, which dumps stacks and ends the run;
and a child dies with the thread that started it, so the run leaves none behind.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PRELUDE = """\
import ctypes as _ctypes, json as _json, os as _os, sys as _sys
_ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGKILL
_sys.path[:0] = {path!r}
_out = _os.fdopen(_os.dup(1), "w", encoding="utf-8")
_os.dup2(2, 1)
import faulthandler as _faulthandler, logging as _logging, warnings as _warnings
_logging.getLogger("zeroslot").addHandler(_logging.NullHandler())  # else warnings go to stderr, as in any program
_faulthandler.enable()
_warnings.filterwarnings("ignore", ".* multi-threaded, use of fork", DeprecationWarning)  # what tests of fork are about
_faulthandler.register(10, all_threads=True)  # SIGUSR1: where is it?
args = _json.loads({args!r})

def say(value):
    _out.write(_json.dumps(value) + "\\n")
    _out.flush()

def hear():
    line = _sys.stdin.readline()
    return _json.loads(line) if line else None

def orders():
    while (order := hear()) is not None:
        yield order
"""


class ChildError(AssertionError):
    """A child ended, or said something else than the test expects; the text has its stderr."""


class Child:
    """One process, started by the constructor. Made by the `run_child` fixture, which also reaps it."""

    def __init__(self, script: Path, command: list[str], stderr: Path, env: dict[str, str]) -> None:
        self.script = script
        self._stderr_path = stderr
        with stderr.open("wb") as err:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                env=env,
                text=True,
                encoding="utf-8",
            )

    def __repr__(self) -> str:
        return f"<child {self.script.stem} pid {self.pid} exit status {self._process.returncode}>"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stderr(self) -> str:
        """All that it has printed, tracebacks included, up to now."""
        return self._stderr_path.read_text("utf-8", errors="replace")

    # --- speaking

    def hear(self) -> Any:
        """The next thing that it says; waits for it. A child that ends instead is a ChildError."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            status = self._process.wait()
            raise ChildError(f"{self!r} ended instead of saying something, exit status {status}\n{self.stderr}")
        return json.loads(line)

    def expect(self, value: Any) -> None:
        """Waits for the next thing that it says, which must be this."""
        heard = self.hear()
        if heard != value:
            raise ChildError(f"{self!r} said {heard!r}, not {value!r}\n{self.stderr}")

    def tell(self, order: Any) -> None:
        """Sends an order. A ChildError if the child is dead."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            # What could not be sent must not be sent again by the file's own close.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            raise ChildError(f"{self!r} was gone when told {order!r}\n{self.stderr}") from None

    def ask(self, order: Any) -> Any:
        """Sends an order and waits for the answer."""
        self.tell(order)
        return self.hear()

    # --- life and death

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: int) -> None:
        """Sends a signal to this process and to no other: a pid that was reaped is never signalled."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """SIGSTOP; returns when the kernel reports it stopped."""
        self.signal(signal.SIGSTOP)
        self._wait_for_state("T")

    def cont(self) -> None:
        """SIGCONT; returns when it is no longer stopped."""
        self.signal(signal.SIGCONT)
        self._wait_for_state("RSDI")

    def kill(self) -> int:
        """SIGKILL, also when it is stopped; reaps it. Returns the exit status (-9)."""
        self.signal(signal.SIGKILL)
        return self.wait()

    def wait(self) -> int:
        """Waits for its end and reaps it; the exit status, negative for a signal."""
        return self._process.wait()

    def finish(self, status: int = 0) -> None:
        """Closes its stdin, which ends `orders()`, and waits for its end, which must be with this status."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        ended_with = self.wait()
        if ended_with != status:
            raise ChildError(f"{self!r} ended with {ended_with}, not {status}\n{self.stderr}")

    def wait_for_sleep(self) -> None:
        """Returns when every thread of it sleeps in the kernel, such as in a futex wait."""
        self._wait_for_state("S")

    def reap(self) -> None:
        """Ends it whatever it is doing, and closes the pipes. For the fixture's end."""
        if self.alive:
            self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _wait_for_state(self, letters: str) -> None:
        """Poll until it is so: waitpid would report a stop, but subprocess calls it; no call reports a sleep."""
        while self.alive:
            states = set(self._thread_states())
            if states and states <= set(letters):
                return
            time.sleep(0.001)
        raise ChildError(f"{self!r} ended\n{self.stderr}")

    def _thread_states(self) -> Iterator[str]:
        for task in Path(f"/proc/{self.pid}/task").glob("*/stat"):
            with contextlib.suppress(OSError):  # the thread has just ended
                yield task.read_text().rpartition(")")[2].split()[0]


class Children:
    """What `run_child` is: call it to start one; it knows all of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count(1)
        self._children: list[Child] = []

    def __call__(
        self,
        source: str | Callable[..., object],
        *args: Any,
        env: dict[str, str | None] | None = None,
        flags: tuple[str, ...] = (),
        name: str = "child",
    ) -> Child:
        """Starts `source` with `args` (any JSON). `env` is added to this process's own, None removes a variable;
        `flags` are the interpreter's.
        """
        text = source if isinstance(source, str) else inspect.getsource(source)
        prelude = PRELUDE.format(path=[entry for entry in sys.path if entry], args=json.dumps(args))
        body = textwrap.dedent(text)
        if not isinstance(source, str):
            body += f"\n{source.__name__}(*args)\n"
        script = self._directory / f"{name}_{next(self._numbers)}.py"
        script.write_text(f"{prelude}\n{body}", "utf-8")
        return self._start(script, [sys.executable, *flags, str(script)], env)

    def program(self, program: Path, *args: str, env: dict[str, str | None] | None = None) -> Child:
        """Starts a program with the same protocol, which must end by itself when this thread ends."""
        return self._start(program, [str(program), *args], env)

    def _start(self, script: Path, command: list[str], env: dict[str, str | None] | None) -> Child:
        changed = os.environ | (env or {})
        child = Child(
            script,
            command,
            self._directory / f"{script.stem}_{len(self._children)}.stderr",
            {key: value for key, value in changed.items() if value is not None},
        )
        self._children.append(child)
        return child

    def reap(self) -> None:
        """Ends all that still run."""
        for child in self._children:
            child.reap()
