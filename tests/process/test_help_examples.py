"""Every example in the help of every command, run in a terminal as it stands, beside live publishers and readers."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.children import Child, Children
from tests.terminal import Terminal
from tests.verbs import declared_verbs

# Those that go on until Ctrl-C or `q`, and what the screen shows once they have begun; "": nothing.
ENDLESS = {
    "zeroslot echo robot/imu": "--- # ",
    'zeroslot echo robot/imu --field accel --field "norm(accel)"': "norm",
    'zeroslot echo robot/imu --filter "accel[2] > 9" --csv > imu.csv': "",
    "zeroslot bw camera/left --interval 0.5": "camera/left",
    "zeroslot latency robot/imu --interval 5": "robot/imu",
    "zeroslot metrics --port 9464": "http://127.0.0.1:9464",
    "zeroslot plot robot/imu accel": "━━ accel",
    'zeroslot plot robot/imu "norm(accel)" "accel[2]" --window 30': "━━ accel",
    "zeroslot view camera/front": "▀",
    'zeroslot view camera/front --save "front-{sequence}.png" --json': "saved",
}
NEEDS = {"jq": "jq", "dot": "dot"}
TYPES = """
from typing import Annotated
import numpy as np
from numpy.typing import NDArray
import zeroslot as zs

class Imu(zs.Sample):
    stamp_ns: zs.U64
    accel: Annotated[NDArray[np.float64], zs.Shape(3)]

class Log(zs.Sample):
    text: str
"""


def examples() -> list[str]:
    """The indented lines of all help texts; some stand in the help of several commands."""
    found = {}
    for verb in declared_verbs().values():
        found |= dict.fromkeys(examples_of(verb))
    return sorted(found)


def examples_of(verb: Any) -> list[str]:
    """The indented lines of its help text."""
    return re.findall(r"^ {4,}(\S.*)$", verb.help or "", re.MULTILINE)


@pytest.fixture
def robot(run_child: Children) -> Iterator[Child]:
    """A process that publishes what the examples speak of, and reads it."""

    def run() -> None:
        import threading
        from typing import Annotated

        import numpy as np
        from numpy.typing import NDArray

        import zeroslot as zs

        class Imu(zs.Sample):
            stamp_ns: zs.U64
            accel: Annotated[NDArray[np.float64], zs.Shape(3)]

        done = threading.Event()
        threading.Thread(target=lambda: (hear(), done.set()), daemon=True).start()  # noqa: F821  # in the child
        cameras = [zs.Publisher(f"camera/{side}", np.ndarray, max_bytes=2000) for side in ("front", "left")]
        with zs.Publisher("robot/imu", Imu) as imu, zs.Subscriber("robot/imu", Imu) as reader:
            said = False
            number = 0
            while not done.wait(0.01):
                number += 1
                imu.send(stamp_ns=number, accel=[0.0, 0.1, 9.8])
                for camera in cameras:
                    camera.publish(np.full((20, 30), number % 256, np.uint8))
                while reader.take() is not None:
                    pass
                if not said:
                    say("ready")  # noqa: F821  # the same
                    said = True
        for camera in cameras:
            camera.close()

    child = run_child(run)
    child.expect("ready")
    yield child
    child.finish()


@pytest.mark.parametrize("verb", sorted(declared_verbs()))
def test_each_help_has_an_example_that_fits_a_terminal(verb: str) -> None:
    """A longer one is broken into lines, and cannot be copied."""
    found = examples_of(declared_verbs()[verb])
    assert found
    assert max(map(len, found)) <= 76


def test_the_table_has_no_others() -> None:
    """What is listed as endless is in a help text."""
    assert set(ENDLESS) <= set(examples())


@pytest.mark.parametrize("example", examples())
def test_it_works(example: str, robot: Child, tmp_path: Path) -> None:
    """It ends with status 0, or goes on until Ctrl-C and shows something."""
    for program in re.findall(r"\| (\w+)", example):
        if program in NEEDS and shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    for verb, package in (("zeroslot plot", "plotext"), ("--save", "PIL")):
        if verb in example:
            pytest.importorskip(package, reason="the extras zeroslot[plot,view] are not installed")
    program = tmp_path / "bin" / "zeroslot"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -W error -m zeroslot "$@"\n', "utf-8")
    program.chmod(0o700)
    for name in ("imu", "log"):
        (tmp_path / f"{name}.py").write_text(TYPES, "utf-8")
    (tmp_path / "imu.jsonl").write_text('{"sample": {"stamp_ns": 7, "accel": [0, 0, 9.8]}}\n', "utf-8")
    script = f"set -o pipefail; export PATH={program.parent}:$PATH; cd {tmp_path}; {example}"
    with Terminal(shell=script, columns=100, lines=40, COLORTERM="truecolor") as terminal:
        if example not in ENDLESS:
            assert terminal.end() == 0, terminal.text
            return
        if ENDLESS[example]:
            terminal.wait_for(lambda: ENDLESS[example] in terminal.text)
        else:
            while not any(path.stat().st_size for path in tmp_path.glob("*.csv")):
                assert terminal.process.poll() is None, terminal.text
                os.sched_yield()
        terminal.type("\x03")
        assert terminal.end() == 130, terminal.text
