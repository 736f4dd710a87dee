"""`python -m tests.gate` compares instruction counts of the hot path with the baseline; status 1 above the tolerance.

    python -m tests.gate             count, and compare with baseline.json
    python -m tests.gate --write     count, and write baseline.json, in a commit that says why the counts change

Why instructions and not time: on a busy machine they repeat within a few in a thousand, so a small change shows. They
do not show the cost of caches; tests/bench measures time.

Why the baseline is for one CPython version: most instructions of each count are the interpreter's. For another version
the gate prints the counts and compares nothing; without valgrind it counts nothing.
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

from tests.gate.program import BATCH, ROUNDS

HERE = Path(__file__).parent
BASELINE = HERE / "baseline.json"
TOLERANCE = 0.02
SLACK = 2  # instructions: the counts of the shortest operations vary by as much


def count() -> dict[str, float]:
    """Instructions of each operation, without those of the loop around it."""
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
    turns = {name: BATCH if name.endswith(", a sample") else 1 for name in totals}
    return {name: round((int(total) - empty / turns[name]) / ROUNDS, 1) for name, total in totals.items()}


def table(counts: dict[str, float], baseline: dict[str, float]) -> list[str]:
    """Print the counts and the baseline; return the names of the operations above the tolerance."""
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
