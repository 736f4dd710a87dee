"""What the figures were measured on, and which processors the two sides run on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import zeroslot as zs


def facts() -> dict[str, Any]:
    """CPU, kernel, versions, and how busy the machine was."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "pinned_to": pair_of_cores(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "kernel": platform.release(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {"zeroslot": zs.__version__, "numpy": version("numpy"), "pydantic": version("pydantic")},
    }


def pair_of_cores() -> tuple[int, int] | None:
    """Two processors that share no core, where the system knows; None where there is one only."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        return None
    first = usable[0]
    siblings = _siblings(first)
    others = [core for core in usable[1:] if core not in siblings]
    return first, (others or usable[1:])[0]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"model name", "Model"}:
            return value.strip()
    return platform.processor() or "unknown"


def _siblings(core: int) -> set[int]:
    found = {core}
    try:
        text = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").read_text("utf-8")
    except OSError:
        return found
    for part in text.strip().split(","):
        low, _, high = part.partition("-")
        if low.isdigit():
            found |= set(range(int(low), int(high or low) + 1))
    return found
