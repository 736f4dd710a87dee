"""Each verb of the command line works under `python -W error`, its child processes included."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import zeroslot as zs
from tests.verbs import declared_verbs


class Tick(zs.Sample):
    n: zs.U64


VERBS = sorted(declared_verbs())

RUNS = {
    "list": ["list"],
    "info": ["info", "ticks"],
    "hz": ["hz", "ticks", "--once", "-i", "0.1"],
    "bw": ["bw", "ticks", "--once", "-i", "0.1"],
    "latency": ["latency", "ticks"],
    "stat": ["stat"],
    "top": ["top", "--once"],
    "gc": ["gc"],
    "doctor": ["doctor", "ticks"],
    "schema": ["schema", "ticks"],
    "echo": ["echo", "ticks", "--once", "--history", "1"],
    "plot": ["plot", "ticks", "n", "--once", "--json", "--history", "1"],
    "view": ["view", "pictures", "--once"],
    "pub": ["pub", "ticks", '{"n": 1}', "--wait", "0"],
    "graph": ["graph"],
    "metrics": ["metrics", "--once"],
    "demo": ["demo", "--seconds", "0.5"],
    "bench": ["bench", "--quick", "attach"],
}


def run(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "zeroslot", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_each_verb_raises_no_warning(verb: str) -> None:
    """All verbs that there are."""
    run(verb, "--help")


@pytest.mark.parametrize("verb", RUNS)
def test_a_verb_raises_no_warning_beside_a_live_publisher(verb: str) -> None:
    """Its output is all that it prints."""
    with zs.Publisher("ticks", Tick) as publisher, zs.Publisher("pictures", np.ndarray, max_bytes=64) as pictures:
        publisher.publish({"n": 1})
        pictures.publish(np.zeros((8, 8), np.uint8))
        run(*RUNS[verb])
