"""`python -m tests.gate`: instruction counts of the hot path against the baseline; status 1 above its tolerance.

    python -m tests.gate             count, and compare with baseline.json
    python -m tests.gate --write     count, and write baseline.json; in a commit that says why the counts change

Why instructions and not time: they repeat to a few in a thousand on a busy machine, and a change that costs nothing is
seen to cost nothing. They say nothing of caches, which is what tests/bench is for.

Why the baseline belongs to one CPython version: the interpreter's own instructions are most of each count. On another
version, or without valgrind, the gate prints what it has counted, or why it has not, and compares nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.gate.program import ROUNDS

HERE = Path(__file__).parent
BASELINE = HERE / "baseline.json"
TOLERANCE = 0.02
SLACK = 2  # instructions: the counts of the shortest operations are not finer than that


def count() -> dict[str, float]:
    """Instructions of each operation, the loop around it taken off."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "requests.so")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, HERE / "requests.c"], check=True)
        command = [
            "valgrind",
            "--tool=callgrind",
            "--instr-atstart=no",
            "--combine-dumps=yes",
            f"--callgrind-out-file={folder}/counts",
            sys.executable,
            str(HERE / "program.py"),
            str(library),
        ]
        environment = {
            **os.environ,
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": str(HERE.parents[1]),
            "ZEROSLOT_DIR": str(Path(folder, "root")),
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"the counted program failed:\n{done.stderr}")
        text = Path(folder, "counts").read_text()
    totals = dict(
        re.findall(
            r"^desc: Trigger: Client Request: (.+?)$.*?^(?:summary|totals): (\d+)", text, re.MULTILINE | re.DOTALL
        )
    )
    empty = int(totals.pop("nothing"))
    return {name: round((int(total) - empty) / ROUNDS, 1) for name, total in totals.items()}


def table(counts: dict[str, float], baseline: dict[str, float]) -> list[str]:
    """Print the counts beside the baseline; the names of those above the tolerance."""
    worse = []
    for name, found in counts.items():
        known = baseline.get(name)
        change = "" if known is None else f"{(found - known) / known:+8.1%}"
        if known is not None and found > known * (1 + TOLERANCE) + SLACK:
            worse.append(name)
            change += "  more than the baseline allows"
        print(f"{name:24}{found:10.1f}{'' if known is None else f'{known:10.1f}'}{change}")
    return worse


def main() -> int:
    """Count, compare or write; the exit status."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--write", action="store_true", help="write the baseline")
    given = options.parse_args()
    if shutil.which("valgrind") is None:
        print("instruction counts: valgrind is not installed, nothing is counted")
        return 0
    version = ".".join(platform.python_version_tuple()[:2])
    known = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    counts = count()
    if given.write:
        BASELINE.write_text(json.dumps({**known, version: counts}, indent=2, sort_keys=True) + "\n")
    elif version not in known:
        print(f"instruction counts: the baseline has none for CPython {version}, nothing is compared")
    worse = table(counts, known.get(version, {}))
    missing = sorted(known.get(version, {}).keys() - counts.keys())
    if (worse or missing) and not given.write:
        print(
            f"instruction counts: {', '.join(worse + missing)}: more than {TOLERANCE:.0%} above the baseline, or gone"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
