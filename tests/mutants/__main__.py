"""Break the rules of `table.toml` one at a time, in a copy of the checkout, and see the named tests fail.

    python -m tests.mutants [name]...

First all named tests have to pass in the unbroken copy; how long each takes there sets the watchdog of the others. A
mutant is noticed when a test fails: not when it cannot be collected, and by a hang only where the table says so. A
mutant that no test notices is named and fails the run, as does one whose place is not found exactly once.

Why a copy: no other program may import what is broken, and the binding is built for a mutant without touching that of
the checkout. It is compiled without optimisation, which is faster, and kept in build/ by the hash of its
sources.

Why a /dev/shm of its own, where the system allows it: broken code leaves things behind.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.mutants.places import Sources, StaleError
from tests.mutants.table import ROOT, Mutant, missing_tests, read_table

COPIED = ("zeroslot", "tests", "idl", "examples", ".ci")
BUILD = "import setuptools; setuptools.setup()"
SOURCES = {".h", ".pyx", ".pxi"}
LEAST_SECONDS = 20  # of the watchdog
CACHE = ROOT / "build" / "mutants"
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")

Outcome = tuple[int, str, dict[str, str]]  # status, output, result of each test


def copy_checkout(to: Path) -> None:
    """What the tests need, without what a build made."""
    made = shutil.ignore_patterns("__pycache__", "*.so", "build", "mutants")
    for name in COPIED:
        shutil.copytree(ROOT / name, to / name, ignore=made)
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":
            shutil.copy(path, to)


def binding_of(root: Path, changed: dict[str, str]) -> Path:
    """The binding for the copy with these texts; built unless it has been."""
    core = root / "zeroslot" / "_core"
    texts = {
        path.relative_to(root).as_posix(): path.read_text("utf-8")
        for path in [*core.rglob("*"), root / "pyproject.toml"]
        if path.suffix in SOURCES or path.name in ("build_backend.py", "pyproject.toml")
    }
    texts |= {file: text for file, text in changed.items() if Path(file).suffix in SOURCES}
    digest = hashlib.sha256(repr((sys.version, sorted(texts.items()))).encode()).hexdigest()[:24]
    made = CACHE / f"binding-{digest}.so"
    if not made.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as work:
            tree = Path(work, "tree")
            shutil.copytree(root / "zeroslot", tree / "zeroslot", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
            for name in ("pyproject.toml", "README.md", "LICENSE"):
                shutil.copy(root / name, tree)
            for file, text in texts.items():
                (tree / file).write_text(text, "utf-8")
            backend = tree / "zeroslot" / "_core" / "build_backend.py"
            backend.write_text(backend.read_text("utf-8").replace('"-O3"', '"-O0"'), "utf-8")
            places = ["--build-lib", str(Path(work, "lib")), "--build-temp", str(Path(work, "temp"))]
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", BUILD, "-q", "build_ext", *places],
                cwd=tree, env=os.environ | {"CFLAGS": "-w -g0"}, capture_output=True, text=True,
            )  # fmt: skip  # how it runs on one line
            if done.returncode != 0:
                raise StaleError(f"the binding cannot be built:\n{(done.stdout + done.stderr)[-2000:]}")
            (module,) = Path(work, "lib").rglob("binding*.so")
            module.rename(made)
    os.utime(made)
    return made


@contextmanager
def broken(root: Path, changed: dict[str, str], binding: Path) -> Iterator[None]:
    """The copy with these texts and this binding, for a while."""
    before = {file: (root / file).read_text("utf-8") for file in changed}
    here = root / "zeroslot" / "_core" / f"binding{SUFFIX}"
    try:
        for file, text in changed.items():
            (root / file).write_text(text, "utf-8")
        here.unlink(missing_ok=True)
        shutil.copy(binding, here)
        yield
    finally:
        for file, text in before.items():
            (root / file).write_text(text, "utf-8")


def run_tests(root: Path, tests: list[str], *options: str) -> Outcome:
    """pytest in a fresh process over the copy; whatever it started ends with it."""
    results = root / "results.xml"
    results.unlink(missing_ok=True)
    # Bytecode is not kept: a change within one second and of one length would not be seen.
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(root)}
    command = [
        "sh", str(root / "tests" / "own_shm.sh"), sys.executable, "-m", "pytest", "-q", "--tb=line",
        "-p", "no:cacheprovider", f"--junitxml={results}", *options, *tests,
    ]  # fmt: skip  # the command on two lines
    with subprocess.Popen(
        command, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            output = process.communicate()[0]
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output, _results(results)


def _results(path: Path) -> dict[str, str]:
    """What each test did, and how long that took: "failed 0.3"."""
    found = {}
    for case in ET.parse(path).iter("testcase") if path.exists() else ():
        kinds = {child.tag for child in case}
        name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        result = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        found[name] = f"{result} {case.get('time')}"
    return found


def judge(mutant: Mutant, outcome: Outcome) -> tuple[bool, str]:
    """Whether the mutant was noticed, and by what."""
    status, output, results = outcome
    hung = re.search(r"Timeout \(\d+:\d\d:\d\d", output) is not None
    failed = [name for name, result in results.items() if result.startswith("failed")]
    if hung:
        return mutant.hangs, "the watchdog" if mutant.hangs else "a hang, which the table does not speak of"
    if status == 1 and failed:
        return True, failed[0]
    if status < 0 or status > 128:
        number = -status if status < 0 else status - 128
        return True, f"its end by {signal.Signals(number).name}"
    if status == 0:
        return False, "no test: all pass"
    return False, f"no test that ran (pytest ended with {status}):\n{output[-2000:]}"


def main(wanted: list[str]) -> int:
    """Runs the mutants of these names, or all. 1 when one survived, or when the table is wrong."""
    table = read_table()
    mutants = [mutant for mutant in table if not wanted or mutant.name in wanted]
    unknown = sorted(set(wanted) - {mutant.name for mutant in table})
    wrong = [f"{name} is no mutant" for name in unknown] + missing_tests(mutants)
    if wrong:
        print("mutants:", *wrong, sep="\n  ")
        return 1
    began = time.time()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell has its background jobs ignore
    with tempfile.TemporaryDirectory() as place:
        root, pristine = Path(place, "broken"), Path(place, "pristine")
        for tree in (root, pristine):
            tree.mkdir()
            copy_checkout(tree)
        builder = ThreadPoolExecutor(1)
        try:
            survived = _run_all([mutant for mutant in mutants if not mutant.argument], root, pristine, builder)
        finally:
            builder.shutdown(cancel_futures=True)
    if not wanted:
        _forget_before(began)
    return int(survived != 0)


def _forget_before(began: float) -> None:
    """Remove the kept bindings that a run of all mutants did not use."""
    for kept in CACHE.glob("binding-*.so"):
        if kept.stat().st_mtime < began:
            kept.unlink()


def _run_all(mutants: list[Mutant], root: Path, pristine: Path, builder: ThreadPoolExecutor) -> int:
    began = time.time()
    sources = Sources(root)
    texts = {mutant.name: mutant.mutated(sources) for mutant in mutants}
    unbroken = builder.submit(binding_of, pristine, {}).result()
    # Ahead of the tests, in another thread: a build takes as long as the tests of one.
    builds = {
        name: builder.submit(binding_of, pristine, changed)
        for name, changed in texts.items()
        if any(Path(file).suffix in SOURCES for file in changed)
    }
    with broken(root, {}, unbroken):
        status, output, results = run_tests(
            root, list(dict.fromkeys(test for each in mutants for test in each.noticed_by))
        )
    if status != 0:
        print(f"mutants: the tests do not pass in the unbroken copy\n{output[-4000:]}")
        return -1
    print(f"unbroken, {len(results)} tests pass", flush=True)
    survived = 0
    for mutant in mutants:
        ran = [result.split() for name, result in results.items() if _is_of(name, mutant)]
        if ran and all(result == "skipped" for result, _ in ran):
            print(f"skipped   {mutant.name}: its tests do not run here", flush=True)
            continue
        seconds = max(LEAST_SECONDS, 4 * max((float(took) for _, took in ran), default=0.0))
        try:
            binding = builds[mutant.name].result() if mutant.name in builds else unbroken
            with broken(root, texts[mutant.name], binding):
                outcome = run_tests(root, list(mutant.noticed_by), "-x", f"--watchdog={seconds:.0f}")
            noticed, reason = judge(mutant, outcome)
        except StaleError as error:
            noticed, reason = False, str(error)
        survived += not noticed
        print(f"{'noticed ' if noticed else 'SURVIVED'}  {mutant.name}: {reason}", flush=True)
    minutes = (time.time() - began) / 60
    print(f"mutants: {len(mutants) - survived} of {len(mutants)} noticed or skipped, in {minutes:.0f} minutes")
    return survived


def _is_of(name: str, mutant: Mutant) -> bool:
    return any(name == test or name.startswith((f"{test}[", f"{test}::")) for test in mutant.noticed_by)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
