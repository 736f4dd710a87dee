"""What every test gets: a ZEROSLOT_DIR of its own, a look at what it left in shared memory, and a watchdog."""

from __future__ import annotations

import faulthandler
import gc
import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import shared_memory
from tests.children import Children

pytest_plugins = ["tests.rows", "tests.options"]

# A fifth of the start of each child: pydantic would look for plugins of it in every package that is installed.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
# trio has one for hypothesis, which warns when it is loaded.
os.environ.setdefault("HYPOTHESIS_NO_PLUGINS", "1")

# Children inherit that a signal is ignored, as below `nohup` or in a job of a script's background; tests send these.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

WATCHDOG_SECONDS = 400.0  # some tests compile the binding, which takes minutes on a busy machine
STRESS_WATCHDOG_SECONDS = 3600.0

_passed = pytest.StashKey[bool]()
_terminal = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Keeps a descriptor of the terminal that capturing does not close, so that the watchdog's dump is seen."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        config.stash[_terminal] = os.dup(2)


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_terminal])
    del config.stash[_terminal]


def pytest_collection_finish() -> None:
    """Objects that exist now stay to the end, so the collection after each test skips them."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call":
        item.stash[_passed] = report.passed
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """The watchdog, around test and fixtures: it dumps all stacks and ends the run, also when the GIL is held."""
    mark = item.get_closest_marker("watchdog")
    usual = STRESS_WATCHDOG_SECONDS if item.get_closest_marker("stress") else WATCHDOG_SECONDS
    seconds = item.config.getoption("watchdog") or (mark.args[0] if mark else usual)
    faulthandler.dump_traceback_later(seconds, exit=True, file=item.config.stash[_terminal])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    """All cycles that the tests of a module have left are collected at its end. See `zeroslot_dir`."""
    yield
    gc.unfreeze()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def zeroslot_dir(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The root of discovery for this test and its children; afterwards nothing may be left, there and in /dev/shm.

    Only a test that passed is judged: one that failed still has its handles in the traceback. Directories may stay.
    """
    root = Path("/dev/shm", f"zeroslot-test-{os.getpid()}-{secrets.token_hex(4)}")
    root.mkdir(mode=0o700)
    monkeypatch.setenv("ZEROSLOT_DIR", str(root))
    before = shared_memory.objects()
    try:
        yield root
        gc.collect()
        gc.freeze()  # the collection after the next test looks only at what is new
        excused = request.node.get_closest_marker("leaves_remains")
        left = shared_memory.left_behind(before, looks=1 if excused else shared_memory.LOOKS)
        files = shared_memory.files(root)
        shared_memory.remove(left)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    if (left or files) and request.node.stash.get(_passed, False) and not excused:
        names = [*sorted(left), *sorted(str(file.relative_to(root)) for file in files)]
        pytest.fail(f"left in shared memory: {', '.join(names)}", pytrace=False)


@pytest.fixture
def run_child(tmp_path: Path, zeroslot_dir: Path) -> Iterator[Children]:
    """Starts real processes, see tests/children.py; whatever still runs at the end is killed and reaped."""
    children = Children(tmp_path)
    try:
        yield children
    finally:
        children.reap()
