"""The programs in C: floors.c of this folder, and the ping-pong of tests/core."""

from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from tests.bench.harness import ROOT

CORE = ROOT / "tests" / "core"
INCLUDE = ROOT / "zeroslot" / "_core" / "include" / "zeroslot"


@cache
def pingpong_program() -> str:
    """The C core and a bare futex, back and forth; its path."""
    subprocess.run(["make", "-s", "-C", str(CORE), "build/pingpong"], check=True, stdout=subprocess.DEVNULL)
    return str(CORE / "build" / "pingpong")


@cache
def program(name: str, folder: str) -> str:
    """Compile `name`.c of this folder into `folder`; its path."""
    path = str(Path(folder, name))
    source = str(Path(__file__).with_name(f"{name}.c"))
    command = [os.environ.get("CC", "cc"), "-std=c11", "-D_GNU_SOURCE", "-O2", f"-I{CORE}", f"-I{INCLUDE}"]
    subprocess.run([*command, "-o", path, source], check=True)
    return path


def run(*arguments: object) -> dict[str, Any]:
    """The JSON object that floors.c prints."""
    command = [program("floors", os.environ["ZEROSLOT_BENCH_DIR"]), *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def pingpong(choice: str, rounds: int) -> dict[str, float]:
    """One way of the C core (--ring) or of a bare futex (--futex): p50 and p99."""
    command = [pingpong_program(), choice, "--json", "--rounds", str(rounds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    return {"p50": found["p50_ns"], "p99": found["p99_ns"]}
