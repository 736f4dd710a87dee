"""The two processes that are measured. The harness starts this program for each pair; it forks the second process at
once, before either has imported or opened anything, and then does what it is told.

Why a fork and not two programs: what multiprocessing offers has to be inherited. All pairs are made in the same way.

Orders and answers are lines of JSON. The second process gets the same orders through a socket pair.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from tests.bench.peers import PEERS
from tests.bench.ways import TYPED, End, Opened, Peer, burst, loop

clock = time.perf_counter_ns
PR_SET_PDEATHSIG = 1


class Side:
    """One of the two processes: it opens its end, and runs the loops."""

    def __init__(self, peer: Peer, *, first: bool, wait: str, name: str, shared: Any) -> None:
        self.peer, self.first, self.wait, self.name, self.shared = peer, first, wait, name, shared
        self.opened: Opened | None = None
        self.opened_as: End | None = None
        self.count = 0
        self.before = usage()

    def open(self, payload: str, size: int, window: int) -> dict[str, Any]:
        """Open this end, and tell how long that took, and what the process has gained since it started."""
        self.count += 1
        began = clock()
        if self.peer.module:
            importlib.import_module(self.peer.module)
        imported = clock()
        after_import = usage()
        self.opened_as = End(self.first, f"{self.name}-{self.count}", payload, size, self.wait, window, self.shared)
        self.opened = self.peer.open(self.opened_as)
        opened = clock()
        return {
            "statements": f"{self.opened.send}\n---\n{self.opened.receive}",
            "import_ns": imported - began,
            "open_ns": opened - imported,
            "import_rss": after_import["rss"] - self.before["rss"],
            "open_rss": usage()["rss"] - after_import["rss"],
            "fds": usage()["fds"] - self.before["fds"],
            "threads": usage()["threads"] - self.before["threads"],
        }

    def turns(self, count: int, window: int) -> list[int]:
        """Round trips; with a window above 1, bursts with one answer each. Nanoseconds of each."""
        opened, end = self.opened, self.opened_as
        assert opened is not None
        assert end is not None
        times = [0] * count
        gc.collect()
        if window == 1:
            seen = loop(opened, self.first)(count, times, clock)
            expected: Any = count - 1
        else:
            seen = burst(opened, self.first)(count, times, clock, window)
            expected = count - 1
        if end.payload != TYPED:
            expected = (1, 1)
        if count and tuple_of(seen) != tuple_of(expected):
            raise RuntimeError(f"{self.peer.name}: read {seen} where {expected} was sent")
        return times

    def follow(self, count: int, hertz: float) -> dict[str, float]:
        """The first end sends `count` messages at this rate, the second one receives them; the CPU time of each.

        At rate 0 one message is sent after one second, so that the receiver sleeps for it.
        """
        opened = self.opened
        assert opened is not None
        names: dict[str, Any] = dict(opened.names)
        text = opened.send if self.first else opened.receive
        code = compile(text, "<statements of a peer>", "exec")
        began, cpu = time.monotonic(), cpu_time()
        period = 1 / hertz if hertz else 1.0
        for turn in range(count):
            names["turn"] = turn
            if self.first:
                time.sleep(max(0.0, began + (turn + 1) * period - time.monotonic()))  # the period of the messages
            exec(code, names)
        return {"cpu": cpu_time() - cpu, "wall": time.monotonic() - began}

    def close(self) -> None:
        """Close this end."""
        if self.opened is not None:
            self.opened.close()
            self.opened = None

    def end(self) -> None:
        """Close, and drop what the peer has kept."""
        self.close()
        self.peer.forget()


def reap(child: int) -> None:
    """Wait for the end of the second process; one that waits for a message does not end by itself."""
    deadline = time.monotonic() + 1
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return
        time.sleep(0.005)  # between looks at the processes


def tuple_of(value: Any) -> tuple[int, ...]:
    """What was read, comparable whatever it was read from."""
    return tuple(int(item) for item in value) if isinstance(value, tuple) else (int(value),)


def usage() -> dict[str, int]:
    """Memory, descriptors and threads of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "rss": pages * resource.getpagesize(),
        "fds": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }


def cpu_time() -> float:
    """Seconds of all threads of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def shared_memory() -> dict[str, int]:
    """Bytes and files in /dev/shm."""
    sizes = []
    for path in Path("/dev/shm").rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                sizes.append(path.stat().st_blocks * 512)
    return {"bytes": sum(sizes), "files": len(sizes)}


def carry_out(side: Side, order: list[Any]) -> Any:
    """Do what an order says."""
    verb, *arguments = order
    return getattr(side, verb)(*arguments)


def second(side: Side, orders: socket.socket) -> None:
    """The forked process: the same orders, and one line as the answer to each."""
    with orders.makefile("rw") as lines:
        for line in lines:
            try:
                answer = {"done": carry_out(side, json.loads(line))}
            except Exception as error:  # noqa: BLE001  # whatever a peer raises, the first process tells it
                answer = {"error": f"{type(error).__name__}: {error}"}
            lines.write(json.dumps(answer) + "\n")
            lines.flush()


def first(side: Side, orders: socket.socket, answers: TextIO) -> None:
    """The process that the harness started."""
    with orders.makefile("rw") as lines:
        for line in sys.stdin:
            order = json.loads(line)
            shm = shared_memory() if order[0] == "open" else {}
            lines.write(line)
            lines.flush()
            answer: dict[str, Any] = {}
            try:
                answer["first"] = carry_out(side, order)
            except Exception as error:  # noqa: BLE001  # whatever a peer raises, the harness tells it
                answer["error"] = f"{type(error).__name__}: {error}"
            if "error" not in answer:
                other = json.loads(lines.readline() or '{"error": "the second process has ended"}')
                answer["second"], error_text = other.get("done"), other.get("error")
                if error_text:
                    answer["error"] = error_text
            if shm:
                now = shared_memory()
                answer["shm"] = {key: now[key] - shm[key] for key in now}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


def main() -> None:
    """Fork, pin, obey."""
    given = json.loads(sys.argv[1])
    peer = PEERS[given["peer"]]
    answers = os.fdopen(os.dup(1), "w")  # some peers print
    os.dup2(2, 1)
    ours, theirs = socket.socketpair()
    shared = peer.share() if peer.share is not None else None
    child = os.fork()
    is_first = child != 0
    core = given["cores"][0 if is_first else 1]
    if peer.pinned and core is not None:
        os.sched_setaffinity(0, {core})
    if not peer.pinned or core is None:  # at a real-time priority its threads, or the other side, might not run
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    (theirs if is_first else ours).close()
    side = Side(peer, first=is_first, wait=given["wait"], name=given["prefix"], shared=shared)
    if is_first:
        try:
            first(side, ours, answers)
        finally:
            side.end()
            ours.close()
            reap(child)
    else:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        second(side, theirs)
        side.end()
    sys.stdout.flush()
    os._exit(0)  # some peers' threads keep an interpreter from ending


if __name__ == "__main__":
    main()
