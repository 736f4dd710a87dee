"""Start-up: importing in a fresh interpreter; opening two ends until both have found each other; attaching."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

from tests.bench.harness import (
    ROOT,
    Effort,
    NoAnswerError,
    Pair,
    Row,
    Table,
    missing,
    pairs,
    present,
    summary,
    turn_about,
)
from tests.bench.peers import PEERS
from tests.bench.ways import BLOCK, SPIN, TYPED
from zeroslot.cli.bench.measurements import Numbers, attach
from zeroslot.cli.processes import ChildError

STATEMENTS = {
    "nothing": "pass",
    "numpy and pydantic": "import numpy, pydantic",
    "zeroslot": "import zeroslot",
    "zeroslot, all of it in use": "import zeroslot as zs; from zeroslot.cli.bench.samples import Typed; "
    "p = zs.Publisher('x', Typed, domain=f'bench-{__import__(\"os\").getpid()}'); p.close()",
    "iceoryx2": "import iceoryx2",
    "pyzmq": "import zmq",
    "pynng": "import pynng",
    "zenoh": "import zenoh",
    "Cyclone DDS": "import cyclonedds.pub, cyclonedds.sub, cyclonedds.domain, cyclonedds.topic, cyclonedds.idl",
    "eCAL": "import ecal.nanobind_core",
    "multiprocessing.shared_memory, by hand": "from multiprocessing import shared_memory",
}


def measure(effort: Effort) -> Iterator[Row]:
    """Import, open, attach."""
    yield from importing(effort)
    yield from opening(effort)
    for row in attach(Numbers(quick=True)):
        figures = {name: ns / 1e6 for name, ns in row.figures.items() if name in {"p50", "p99", "max"}}
        yield Row("startup", f"attach to {row.what}", "zeroslot", figures, unit="ms")


def importing(effort: Effort) -> Iterator[Row]:
    """From the import statement to the next one."""
    table = Table()
    absent = {name for name in STATEMENTS if name in PEERS} - {*present(effort)}
    path = os.pathsep.join([str(ROOT), *(entry for entry in sys.path if entry)])
    for run in range(effort.few + 1):
        for name, statement in turn_about(run, [*STATEMENTS.items()]):
            if name in absent:
                continue
            program = f"from time import perf_counter_ns as now; t = now(); {statement}; print(now() - t)"
            done = subprocess.run(
                [sys.executable, "-P", "-c", program],
                env=os.environ | {"PYTHONPATH": path},
                capture_output=True,
                check=True,
            )
            if run > 0:  # the first one fills the file cache
                table.add(name, [float(done.stdout)])
    for name, runs, _ in table:
        yield milliseconds("import", name, runs)


def opening(effort: Effort) -> Iterator[Row]:
    """From the first call to the moment when both ends are ready, without the import."""
    yield from missing("startup", effort)
    table = Table()
    for run in range(min(effort.few, 3)):
        for name, wait in turn_about(run, pairs(effort, (SPIN, BLOCK))):
            if wait == SPIN and BLOCK in PEERS[name].waits:
                continue
            try:
                with Pair(name, wait, effort.patience_s) as pair:
                    table.add(name, [pair.ask("open", TYPED, 64, 1)["first"]["open_ns"]])
            except (NoAnswerError, ChildError) as error:
                table.fail(name, str(error).strip().splitlines()[-1])
    for name, runs, why in table:
        if runs:
            yield milliseconds("open both ends", name, runs)
        else:
            yield Row("startup", "open both ends", name, why=why)


def milliseconds(what: str, name: str, runs: list[list[float]]) -> Row:
    """A row of one time a run."""
    figures, middles = summary([[time / 1e6 for time in run] for run in runs])
    shown = {figure: figures[figure] for figure in ("p50", "low", "high")}
    return Row("startup", what, name, shown, unit="ms", runs=middles)
