"""The ways to copy a sample and to compute its CRC, in C: what zs_copy.h and zs_crc.h chose from, on this machine.

The figures in zs_copy.h are those of one machine, and say why the limit is where it is.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

from tests.bench import floors
from tests.bench.harness import Effort, Row
from zeroslot.cli.figures import as_bytes

WAYS = (
    "memcpy",
    "memcpy, then read",
    "around the caches",
    "around the caches, then read",
    "CRC-32C by table",
    "CRC-32C",
)


def measure(effort: Effort) -> Iterator[Row]:
    """GB a second of each way."""
    program = floors.program("copies", os.environ["ZEROSLOT_BENCH_DIR"])
    done = subprocess.run([program, str(effort.of(41, 5) | 1)], check=True, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        size, *times = (float(word) for word in line.split())
        figures = {way: size / time for way, time in zip(WAYS, times, strict=True)}
        yield Row("copies", as_bytes(size), "in C", figures, unit="GB/s")
