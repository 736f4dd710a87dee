"""What watching costs: `hz` beside publishers that are fast, `list` and `top` with 200 topics."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

import zeroslot as zs
from tests.bench.harness import Effort, Row, turn_about
from zeroslot.cli.figures import median

COMMAND = [sys.executable, "-m", "zeroslot"]
RATES = (1_000, 200_000)
TOPICS = 200

PUBLISHER = """
import sys, threading, time
import zeroslot as zs

class Tick(zs.Sample):
    number: zs.U64

hz, ended = float(sys.argv[1]), []
threading.Thread(target=lambda: ended.append(sys.stdin.read()), daemon=True).start()
with zs.Publisher("ticks", Tick) as publisher:
    began = now = time.perf_counter_ns()
    due, number, costs = began, 0, []
    while not ended:
        before = time.perf_counter_ns()
        publisher.send(number=number)
        costs.append(time.perf_counter_ns() - before)
        number += 1
        due = began + int(number * 1e9 / hz)
        while (now := time.perf_counter_ns()) < due:
            if due - now > 200_000:
                time.sleep((due - now - 100_000) / 1e9)  # the rate of the publisher
    costs.sort()
    print(costs[len(costs) // 2])
"""


def publisher(hz: int) -> subprocess.Popen[str]:
    """A process that publishes at a rate until its stdin ends, and prints the median nanoseconds of a publish."""
    command = [sys.executable, "-c", PUBLISHER, str(hz)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def measure(effort: Effort) -> Iterator[Row]:
    """All of it."""
    for rate in RATES:
        yield hz(rate, effort)
    yield from many(effort)


def hz(rate: int, effort: Effort) -> Row:
    """Its figure against the publisher's own counter and clock; and what a publish costs with and without it.

    Beside these, what a publish costs while `hz` watches another topic: a process that works on the other processor and
    reads nothing of this publisher.
    """
    errors: list[float] = []
    costs: dict[str, list[float]] = {"with": [], "without": [], "beside": []}
    report_s = max(0.1, min(1.0, effort.budget_s * 10))
    for run in range(effort.runs):
        for side in turn_about(run, list(costs)):
            with publisher(rate) as process, zs.Monitor("ticks") as monitor:
                while not monitor.snapshot().publishers:
                    time.sleep(0.01)  # between looks, before anything is measured
                if side == "with":
                    errors.append(error_of(monitor, report_s))
                elif side == "beside":
                    with zs.Publisher("another", np.ndarray, max_bytes=64):
                        subprocess.run(hz_command("another", report_s), stdout=subprocess.DEVNULL, check=True)
                else:
                    time.sleep(2 * report_s)  # as long as the side with a monitor takes
                costs[side].append(float(process.communicate()[0]))

    def ratio_to(side: str) -> float:
        return median([one / other for one, other in zip(costs["with"], costs[side], strict=True)])

    figures = {
        "off_percent": 100 * median(errors),
        "most_off_percent": 100 * max(errors),
        "publish": median(costs["with"]),
        "publish_without": median(costs["without"]),
        "ratio": ratio_to("without"),
        "ratio_to_hz_of_another_topic": ratio_to("beside"),
    }
    return Row("watching", f"hz at {rate:,} Hz", "zeroslot", figures, runs=costs["with"])


def hz_command(topic: str, report_s: float) -> list[str]:
    """Two reports of so many seconds each."""
    return [*COMMAND, "hz", topic, "--times", "2", "--interval", str(report_s), "--json"]


def error_of(monitor: zs.Monitor, report_s: float) -> float:
    """By how much a report differs from the count of all samples in the time that it covers, of the same clock."""
    with subprocess.Popen(hz_command("ticks", report_s), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # for the type checker
        process.stdout.readline()
        (before,) = monitor.snapshot().publishers
        (shown,) = json.loads(process.stdout.readline())["publishers"]
        (after,) = monitor.snapshot().publishers
    true = (after.sequence - before.sequence) * 1e9 / (after.newest_ns - before.newest_ns)
    return abs(shown["rate_hz"] / true - 1)


@contextmanager
def many_topics() -> Iterator[None]:
    """200 topics with a subscriber each, at about 20 Hz, from another thread."""

    class Tick(zs.Sample):
        number: zs.U64

    done = threading.Event()
    publishers = [zs.Publisher(f"robot/t{number:03d}", Tick) for number in range(TOPICS)]
    subscribers = [zs.Subscriber(each.topic, Tick) for each in publishers]

    def run() -> None:
        while not done.wait(0.05):
            for each in publishers:
                each.send(number=1)
            for each in subscribers:
                each.take_many()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        for end in (*subscribers, *publishers):
            end.close()


def many(effort: Effort) -> Iterator[Row]:
    """The time of `list` above that of an interpreter that does nothing, and the part of a core that `top` needs."""
    with many_topics():
        above = [
            seconds_of([*COMMAND, "list"]) - seconds_of([sys.executable, "-c", ""]) for _ in range(effort.of(15, 1))
        ]
        name = f"of {TOPICS} topics"
        figures = {"seconds": median(above), "low": min(above), "high": max(above)}
        yield Row("watching", f"list {name}, above an interpreter", "zeroslot", figures, unit="s")
        part = core_of_top(min(10.0, max(1.0, effort.budget_s * 100)))
        yield Row("watching", f"top {name} at 2 Hz", "zeroslot", {"percent_of_a_core": 100 * part}, unit="%")


def seconds_of(command: list[str]) -> float:
    """How long a process takes."""
    before = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - before


def core_of_top(seconds: float) -> float:
    """The part of a core that `top` needs in a terminal of 50 lines, once it has started."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm-256color"}
        os.execv(sys.executable, [*COMMAND, "top"])
    termios_size(terminal)
    reader = threading.Thread(target=drain, args=(terminal,), daemon=True)
    reader.start()
    time.sleep(3)  # the start of the interpreter does not count
    before, began = processor_s(pid), time.monotonic()
    time.sleep(seconds)  # how long is measured
    used, took = processor_s(pid) - before, time.monotonic() - began
    os.write(terminal, b"q")
    os.waitpid(pid, 0)
    return used / took


def termios_size(terminal: int) -> None:
    """50 lines of 160 columns."""
    import fcntl
    import struct
    import termios

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))


def drain(terminal: int) -> None:
    """Read what is drawn, as a terminal does."""
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        return


def processor_s(pid: int) -> float:
    """Seconds of a core that a process has used (proc(5))."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
