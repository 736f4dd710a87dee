"""The parts by name in the order of a full run, and the run itself."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.bench.harness import ChildError, Effort, NoAnswerError, Part, Row, workspace
from tests.bench.parts import (
    batches,
    calls,
    copies,
    cost,
    fanout,
    filled,
    frames,
    growth,
    hop,
    latency,
    startup,
    throughput,
    waiting,
    watching,
)
from tests.bench.peers import PEERS
from zeroslot.cli.bench import machine

PARTS: dict[str, Part] = {
    "latency": latency.measure,
    "throughput": throughput.measure,
    "fanout": fanout.measure,
    "publishers": fanout.measure_publishers,
    "calls": calls.measure,
    "batches": batches.measure,
    "hop": hop.measure,
    "waiting": waiting.measure,
    "startup": startup.measure,
    "footprint": cost.measure_footprint,
    "idle": cost.measure_idle,
    "frames": frames.measure,
    "filled": filled.measure,
    "copies": copies.measure,
    "growth": growth.measure,
    "watching": watching.measure,
}

# Those that a quick look at everything leaves out: they compare nothing with peers.
NOT_QUICK = {"footprint", "filled", "copies", "growth", "watching"}


def run(names: list[str], effort: Effort, show: Callable[[Row], None]) -> dict[str, Any]:
    """Measure these parts, and give all of it: what the report is made from."""
    began = time.monotonic()
    facts = machine_facts()
    rows: list[dict[str, Any]] = []
    seconds: dict[str, float] = {}
    with workspace():
        for name in names:
            since = time.monotonic()
            for row in rows_of(name, effort):
                rows.append(row.as_dict())
                show(row)
            seconds[name] = round(time.monotonic() - since, 1)
    facts["load_average_after"] = [round(load, 2) for load in os.getloadavg()]
    return {
        "machine": facts,
        "runs": effort.runs,
        "seconds": round(time.monotonic() - began, 1),
        "seconds_of_parts": seconds,
        "peers": peer_facts(),
        "rows": rows,
    }


def rows_of(name: str, effort: Effort) -> Iterator[Row]:
    """The rows of a part. One that fails ends with a row that says why, so the other parts are not lost."""
    try:
        yield from PARTS[name](effort)
    except (ChildError, NoAnswerError, OSError, RuntimeError, subprocess.CalledProcessError) as error:
        yield Row(name, "the rest", why=str(error).strip().splitlines()[-1])


def machine_facts() -> dict[str, Any]:
    """What the figures depend on, beside the program."""
    facts = machine.facts()
    facts["hypervisor"] = flag_of_cpu("hypervisor")
    facts["scheduler"] = {os.SCHED_OTHER: "normal", os.SCHED_FIFO: "real-time (FIFO)"}.get(
        os.sched_getscheduler(0), "other"
    )
    facts["governor"] = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    facts["caches"] = {
        f"L{read(f'{place}/level')}{read(f'{place}/type')[:1].lower()}": read(f"{place}/size")
        for place in map(str, sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")))
    }
    facts["memory_kB"] = int(read("/proc/meminfo").split()[1])
    facts["commit"] = commit()
    facts["compiler"] = platform.python_compiler()
    facts["free_threaded"] = not getattr(sys, "_is_gil_enabled", lambda: True)()
    facts["date"] = time.strftime("%Y-%m-%d", time.gmtime())
    for name in ("matplotlib", "Cython"):
        try:
            facts["versions"][name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return facts


def flag_of_cpu(name: str) -> bool:
    """Whether the processor says that it has this."""
    return f" {name} " in read("/proc/cpuinfo").replace("\n", " ")


def read(path: str) -> str:
    """A file of the system; nothing if it is not there."""
    try:
        return Path(path).read_text("utf-8").strip()
    except OSError:
        return ""


def commit() -> str:
    """Of the checkout that was measured; `+` if it has changes."""
    command = ["git", "-C", str(Path(__file__).parents[2]), "describe", "--always", "--dirty=+"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def peer_facts() -> dict[str, dict[str, str]]:
    """Version and settings of each peer."""
    return {
        peer.name: {
            "version": peer.version(),
            "settings": peer.settings,
            "missing": peer.missing() or "",
            "placed": "pinned" if peer.pinned else "placed by the system, since it has threads of its own",
        }
        for peer in PEERS.values()
    }
