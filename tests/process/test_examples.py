"""The examples and the README do what they say: every command in them is run, and its output compared.

A ```console block is one terminal: a line `$ python …`, and then what it prints. All terminals of a README run at once.
A ```python block of the README at the top, or of a recipe, is a file whose name stands in its first line, `# name.py`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path for path in (ROOT / "examples").iterdir() if path.is_dir() and path.name[0].isdigit())
RECIPES = sorted(path for path in (ROOT / "examples" / "recipes").glob("*.md") if path.name != "README.md")

# Becomes the program, which then dies with the thread that started it.
LAUNCHER = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9, 0, 0, 0); os.execv(sys.executable, sys.argv[1:])"

PATIENCE_S = 200.0  # for the next program to end: half of the watchdog's, which ends the whole run


@dataclass
class Terminal:
    """A command, and what it shall print."""

    command: list[str]
    output: str


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def terminals(text: str) -> list[Terminal]:
    found = []
    for block in blocks(text, "console"):
        command, _, output = block.partition("\n")
        assert command.startswith("$ python "), f"a console block begins with `$ python …`, not with {command!r}"
        assert "\n$ " not in f"\n{output}", f"one terminal, one command: {command!r}"
        found.append(Terminal(shlex.split(command)[2:], output))
    return found


def as_they_end(running: list[subprocess.Popen[bytes]]) -> Iterator[int]:
    """The numbers of processes in the order in which they end, so that one that fails is seen where others wait for it
    for ever.
    """
    pending = {os.pidfd_open(process.pid): number for number, process in enumerate(running)}
    try:
        while pending:
            ended, _, _ = select.select(list(pending), [], [], PATIENCE_S)
            assert ended, f"still running: {[running[number].args for number in pending.values()]}"
            for descriptor in ended:
                number = pending.pop(descriptor)
                os.close(descriptor)
                yield number
    finally:
        for descriptor in pending:
            os.close(descriptor)


def run_all(wanted: list[Terminal], directory: Path, logs: Path) -> None:
    """Runs the commands at once, each in a process group of its own, and compares what each of them prints."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "IPYTHONDIR": str(logs)}  # else IPython writes into the home
    running: list[subprocess.Popen[bytes]] = []
    outputs = [(logs / f"{number}.out", logs / f"{number}.err") for number in range(len(wanted))]
    try:
        for terminal, (out, err) in zip(wanted, outputs, strict=True):
            with out.open("wb") as stdout, err.open("wb") as stderr:
                running.append(
                    subprocess.Popen(
                        [sys.executable, "-c", LAUNCHER, sys.executable, *terminal.command],
                        cwd=directory,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=stdout,
                        stderr=stderr,
                        start_new_session=True,
                    )
                )
        for number in as_they_end(running):
            (out, err), what = outputs[number], f"python {shlex.join(wanted[number].command)}"
            assert (running[number].wait(), err.read_text("utf-8")) == (0, ""), what
            assert out.read_text("utf-8") == wanted[number].output, what
    finally:
        for process in running:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):  # it ends just now
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda path: path.name)
def test_an_example_prints_what_its_readme_shows(folder: Path, tmp_path: Path) -> None:
    """Each program is in the README, and each output is real."""
    readme = folder / "README.md"
    assert readme.is_file(), f"{folder.name} has no README.md that tells how to run it and what it prints"
    text = readme.read_text("utf-8")
    wanted = terminals(text)
    assert wanted, f"{readme.relative_to(ROOT)} shows no command: a console block with `$ python …`"
    programs = sorted(path.relative_to(ROOT) for path in folder.rglob("*.py"))
    assert [str(path) for path in programs if path.name not in text] == [], "not in the README"

    run_all(wanted, ROOT, tmp_path)


def missing_for(text: str) -> str:
    """What the machine lacks for a recipe; empty: nothing."""
    packages = re.findall(r"^Needs `pip install ([^`]+)`", text, flags=re.MULTILINE)
    missing = [name for line in packages for name in line.split() if not is_installed(name)]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if re.search(r"\broot:$", text, flags=re.MULTILINE) and os.geteuid() != 0:
        return "only root can run it"
    if "unshare" in text and not can_unshare():
        return "this system gives no namespaces"
    return ""


def is_installed(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def can_unshare() -> bool:
    command = ["unshare", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.row("OBS-7")  # logging.md
@pytest.mark.parametrize(
    "document",
    [pytest.param(path, id=path.stem) for path in (ROOT / "README.md", *RECIPES)],
)
def test_the_files_in_a_document_run_as_they_stand(document: Path, tmp_path: Path) -> None:
    """The files that the README or a recipe shows, run by the commands that it shows."""
    text = document.read_text("utf-8")
    sources = blocks(text, "python")
    names = [re.match(r"# (\w+\.py)\n", source) for source in sources]
    assert sources, "no Python is shown"
    assert None not in names, "a python block begins with the name of its file: `# name.py`"
    for name, source in zip(names, sources, strict=True):
        assert name is not None
        compile(source, name[1], "exec")
        (tmp_path / name[1]).write_text(source, "utf-8")
    wanted = terminals(text)
    assert wanted, "no command is shown that runs them"
    if lacking := missing_for(text):
        pytest.skip(lacking)
    logs = tmp_path / "logs"
    logs.mkdir()
    run_all(wanted, tmp_path, logs)


def test_the_list_of_recipes_is_complete() -> None:
    """Each is linked from the README at the top and from that of the recipes."""
    for readme, prefix in (
        (ROOT / "README.md", "examples/recipes/"),
        (ROOT / "examples" / "recipes" / "README.md", ""),
    ):
        text = readme.read_text("utf-8")
        assert [path.name for path in RECIPES if f"]({prefix}{path.name})" not in text] == []
