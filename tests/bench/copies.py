"""The ways to copy a sample and to compute its CRC, in C: what zs_copy.h and zs_crc.h chose from, on this machine.

There are no bars: the figures in zs_copy.h are those of one machine, and say why the limit is where it is.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common import ROOT, Result, main

INCLUDE = ROOT / "zeroslot" / "_core" / "include" / "zeroslot"


def measure(quick: bool) -> Iterator[Result]:
    """One figure a size: how much faster the copy around the caches is, and how fast everything is."""
    with tempfile.TemporaryDirectory() as directory:
        program = str(Path(directory, "copies"))
        source = str(Path(__file__).with_name("copies.c"))
        subprocess.run([os.environ.get("CC", "cc"), "-O2", f"-I{INCLUDE}", "-o", program, source], check=True)
        lines = subprocess.run([program, "15" if quick else "101"], check=True, capture_output=True, text=True)
    for line in lines.stdout.splitlines():
        size, *times = (float(word) for word in line.split())
        copy, read, stream, stream_read, table, crc = (size / ns for ns in times)
        details = (
            f"GB/s: memcpy {copy:.1f}, then read {read:.1f}; around the caches {stream:.1f}, then read "
            f"{stream_read:.1f}; CRC-32C {crc:.1f}, by table {table:.2f}"
        )
        both = (times[0] + times[1]) / (times[2] + times[3])
        found = f"{stream / copy:.2f}, with one reader {both:.2f}"
        yield Result(
            f"copy of {size / 1e6:.0f} MB around the caches: times as fast as memcpy", "", found, None, details
        )


if __name__ == "__main__":
    main(measure)
