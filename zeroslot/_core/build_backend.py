"""The build backend: setuptools' own, and how `binding.pyx` becomes `zeroslot._core.binding`.

Why it is here and not a setup.py: the top level of the repository stays a list of what the project is, and the flags
stand beside the headers that they are for. `pyproject.toml` names this module as backend (`backend-path`) and its two
classes as commands; nothing at run time imports it, so wheels do without it.
"""

import os
from pathlib import Path
from typing import Any

from setuptools.build_meta import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

__all__ = [
    "BuildExt",
    "BuildPy",
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

CORE = Path("zeroslot", "_core")
INCLUDE = CORE / "include"

# -std=c11 is what the headers promise to compile as. Hidden visibility leaves the init function as the only symbol.
# -O3 and not -O2: functions of the headers that single samples, batches and tickets share are compiled in place, which
# takes 5 % off the instructions of a loan and its commit. An -O in $CFLAGS is used instead: tests that count no
# instructions compile with -O0, in a fifth of the time.
COMPILE_ARGS = ["-std=c11", "-fno-plt", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter"]
if " -O" not in f" {os.environ.get('CFLAGS', '')}":
    COMPILE_ARGS.append("-O3")

# Bounds and wrap-around are checked where a number comes in from outside, once, by the code; `binding` off gives
# built-in functions, which are called faster; the clinic signature keeps them readable to inspect and stubtest.
DIRECTIVES: dict[str, Any] = {
    "language_level": 3,
    "freethreading_compatible": True,
    "binding": False,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "nonecheck": True,  # SomeHandle.__new__(SomeHandle) has none of its parts
    "cdivision": True,
    "embedsignature": True,
    "embedsignature.format": "clinic",
    "autotestdict": False,
}


class BuildExt(build_ext):
    """Compiles the binding against numpy; an edited header, or this file, compiles it again."""

    def finalize_options(self) -> None:
        super().finalize_options()
        # Also what brings these files into an sdist.
        depends = sorted(map(str, (*INCLUDE.glob("zeroslot/*.h"), *CORE.glob("*.pxi"), CORE / "build_backend.py")))
        for extension in self.extensions:
            extension.depends = depends

    def build_extensions(self) -> None:
        import numpy as np
        from Cython.Build import cythonize

        for extension in self.extensions:
            extension.include_dirs += [str(INCLUDE), np.get_include()]
            extension.define_macros += [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")]
            extension.extra_compile_args += COMPILE_ARGS
        # The C goes to the build directory: the source tree holds what people write.
        made = cythonize(self.extensions, build_dir=self.build_temp, compiler_directives=DIRECTIVES, quiet=True)
        # cythonize gives new objects; the ones that setuptools prepared carry the file names, so only the sources move.
        for extension, cythonized in zip(self.extensions, made, strict=True):
            extension.sources = cythonized.sources
        super().build_extensions()


class BuildPy(build_py):
    """Leaves the backend itself out of wheels."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        found: list[tuple[str, str, str]] = super().find_package_modules(package, package_dir)
        return [entry for entry in found if entry[:2] != ("zeroslot._core", "build_backend")]
