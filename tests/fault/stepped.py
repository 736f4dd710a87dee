"""A second build of the binding, with a hook before every access to shared memory; the stepper and the clock library.
None of them is shipped.

Why a second build: the shipped one is compiled without the hook, and test_steps.py checks that its object code is the
same as without the places for it. The sources are the same files; `steps.h` comes before them by a flag of the
compiler.

Why it is kept in build/, by the hash of its sources: the build takes longer than all of its tests.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CORE = ROOT / "zeroslot" / "_core"
PLACE = ROOT / "build" / "fault"
BUILD = "import setuptools; setuptools.setup()"


def compiler() -> list[str]:
    """The C compiler."""
    return (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()


def stepped_binding() -> Path:
    """The extension module with the hook; compiled when its sources have changed."""
    sources = [path for kind in ("*.h", "*.pyx", "*.pxi", "build_backend.py") for path in sorted(CORE.rglob(kind))]
    sources.append(HERE / "steps.h")
    return _made("binding", sources, _build_binding)


def stepper() -> Path:
    """The program of stepper.c."""
    return _made("stepper", [HERE / "stepper.c"], _build_stepper)


def clock() -> Path:
    """The library of clock.c, to be preloaded."""
    return _made("clock", [HERE / "clock.c"], _build_clock)


def core_object(work: Path, *, without_places: bool = False, flags: tuple[str, ...] = ()) -> bytes:
    """The whole core as an object file. `without_places`: from headers that have no place for a hook."""
    work.mkdir()
    for header in CORE.rglob("*.h"):
        text = header.read_text()
        if without_places:
            text = re.sub(r"#ifndef ZS_STEP\n.*?#endif\n", "", text, flags=re.DOTALL)
            text = text.replace("(ZS_STEP(), ", "(").replace("ZS_STEP();", "")
            assert "ZS_STEP" not in text, f"{header.name} has a hook of another form"
        (work / header.name).write_text(text)
    (work / "core.c").write_text('#include "zeroslot.h"\n')
    # A function that is marked as used stays, whether it is called or not.
    kept = ["-std=c11", "-O2", "-fno-plt", "-Dinline=__attribute__((used))", *flags]
    _run([*compiler(), *kept, "-c", "core.c", "-o", "core.o"], cwd=work)
    return (work / "core.o").read_bytes()


def _made(name: str, sources: list[Path], build: Callable[[Path], Path]) -> Path:
    digest = hashlib.sha256(repr((sys.implementation.cache_tag, sysconfig.get_platform())).encode())
    for source in sources:
        digest.update(source.read_bytes())
    PLACE.mkdir(parents=True, exist_ok=True)
    made = PLACE / f"{name}-{digest.hexdigest()[:16]}"
    with (PLACE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs of the tests build once
        if not made.exists():
            for old in PLACE.glob(f"{name}-*"):
                _remove(old)
            work = PLACE / f"{name}.work"
            _remove(work)
            work.mkdir()
            build(work).rename(made)
            _remove(work)
    return made


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _build_binding(work: Path) -> Path:
    # Not optimised: that is most of the time, and steps are the same.
    env = os.environ | {"CFLAGS": f"-O0 -w -include {HERE / 'steps.h'}"}
    places = ["--build-lib", str(work / "lib"), "--build-temp", str(work / "temp")]
    _run([sys.executable, "-W", "ignore", "-c", BUILD, "-q", "build_ext", *places], env=env)
    (module,) = (work / "lib").rglob("binding*.so")
    return module


def _build_stepper(work: Path) -> Path:
    program = work / "stepper"
    strict = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    _run([*compiler(), *strict, "-O2", str(HERE / "stepper.c"), "-o", str(program)])
    return program


def _build_clock(work: Path) -> Path:
    library = work / "clock.so"
    strict = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    _run([*compiler(), *strict, "-O2", "-fPIC", "-shared", str(HERE / "clock.c"), "-o", str(library)])
    return library


def _run(command: list[str], env: dict[str, str] | None = None, cwd: Path = ROOT) -> None:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
