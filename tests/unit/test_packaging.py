"""What a user gets from pip: an sdist that builds, and a wheel that holds everything and imports away from the tree."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.watchdog(900.0),  # the first test compiles the binding: minutes, on a busy machine
    pytest.mark.sources,
]

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
BINDING = f"zeroslot/_core/binding{sysconfig.get_config_var('EXT_SUFFIX')}"


@dataclass
class Built:
    """Names in the sdist and in the wheel that was built from it, and the wheel unpacked."""

    sdist: set[str]
    wheel: set[str]
    unpacked: Path
    metadata: dict[str, list[str]]


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Runs a program to its end; what it printed. One that fails is shown whole."""
    done = subprocess.run(command, cwd=cwd, env=os.environ | env, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}\n{done.stderr}", pytrace=False)
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Builds the sdist from a clean copy of the tree, and the wheel from that sdist alone, with the tools here."""
    missing = [name for name in ("build", "setuptools", "Cython", "numpy") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"no wheel can be built without {', '.join(missing)}")
    directory = tmp_path_factory.mktemp("packaging")
    tree, dist, unpacked = directory / "tree", directory / "dist", directory / "unpacked"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    made = shutil.ignore_patterns("__pycache__", "*.so", "*.c")
    shutil.copytree(ROOT / "zeroslot", tree / "zeroslot", ignore=made)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, tree, cwd=directory, CFLAGS="-O0")
    (sdist,) = dist.glob("*.tar.gz")
    (wheel,) = dist.glob("*.whl")
    with tarfile.open(sdist) as archive:
        sdist_names = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        wheel_names = set(archive.namelist())
        archive.extractall(unpacked)
    (metadata,) = unpacked.glob("*.dist-info/METADATA")
    headers = HeaderParser().parsestr(metadata.read_text("utf-8"))
    return Built(sdist_names, wheel_names, unpacked, {key: headers.get_all(key, []) for key in headers})


def sources(*patterns: str) -> set[str]:
    """Files of the package in the tree."""
    found = {path for pattern in patterns for path in (ROOT / "zeroslot").rglob(pattern)}
    return {path.relative_to(ROOT).as_posix() for path in found if "__pycache__" not in path.parts}


def test_wheel_holds_all_of_the_package(built: Built) -> None:
    """Every module, the command line's too, the compiled binding, types and headers; and nothing from elsewhere."""
    wanted = sources("*.py", "*.pyi", "*.h", "py.typed") - {"zeroslot/_core/build_backend.py"}
    pinned = (
        "py.typed",
        "_core/binding.pyi",
        "_core/include/zeroslot/zeroslot.h",
        "_core/include/zeroslot/zs_atomic.h",
        "cli/__init__.py",
    )
    assert wanted >= {f"zeroslot/{name}" for name in pinned}
    assert sorted((wanted | {BINDING}) - built.wheel) == []
    assert {name.split("/")[0].partition("-")[0] for name in built.wheel} == {"zeroslot"}
    assert [name for name in built.wheel if name.endswith((".c", "build_backend.py"))] == []


def test_sdist_holds_what_a_build_needs(built: Built) -> None:
    """The wheel of these tests came from the sdist alone; the backend and the licence are among its files."""
    wanted = sources("*.py", "*.pyi", "*.pyx", "*.pxd", "*.h", "py.typed") | {"pyproject.toml", "README.md", "LICENSE"}
    assert sorted(wanted - built.sdist) == []
    assert [name for name in built.sdist if name.endswith(".so")] == []


def test_metadata_is_that_of_the_project(built: Built) -> None:
    """Version, Python, requirements and extras reach the user as pyproject.toml has them."""
    assert built.metadata["Version"] == [PROJECT["project"]["version"]]
    assert built.metadata["Requires-Python"] == [PROJECT["project"]["requires-python"]]
    assert built.metadata["License-Expression"] == ["Apache-2.0"]
    assert set(built.metadata["Provides-Extra"]) == set(PROJECT["project"]["optional-dependencies"])
    plain = [entry for entry in built.metadata["Requires-Dist"] if "extra ==" not in entry]
    assert sorted(entry.partition("<")[0].partition(">")[0] for entry in plain) == ["numpy", "posix_ipc", "pydantic"]


def test_wheel_imports_away_from_the_tree(built: Built, tmp_path: Path) -> None:
    """Unpacked elsewhere, every public name is there, from there, with the version of the wheel."""
    program = f"""
import sys
sys.path.insert(0, {str(built.unpacked)!r})
import zeroslot
import zeroslot._core.binding as binding
for name in zeroslot.__all__:
    getattr(zeroslot, name)
print(*[module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "zeroslot"], sep="\\n")
print(zeroslot.__version__)
"""
    *files, version = run(sys.executable, "-W", "error", "-c", program, cwd=tmp_path).split()
    assert [file for file in files if not Path(file).is_relative_to(built.unpacked)] == []
    assert str(built.unpacked / BINDING) in files
    assert version == PROJECT["project"]["version"]


def test_command_line_without_its_extra_says_what_is_missing(built: Built, tmp_path: Path) -> None:
    """The command is in the wheel; without typer and rich a verb that needs them names the extra, with no traceback."""
    program = f"""
import sys
sys.path.insert(0, {str(built.unpacked)!r})
sys.modules["typer"] = sys.modules["rich"] = None
from zeroslot.cli import main
sys.argv = ["zeroslot", "demo"]
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "zeroslot[cli]" in done.stderr
    assert "Traceback" not in done.stderr


def test_binding_exports_its_init_function_alone(built: Built) -> None:
    """No symbol of the core can meet one of another library in the same process."""
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm is not installed")
    listed = run(nm, "-D", "--defined-only", built.unpacked / BINDING, cwd=built.unpacked).splitlines()
    # The linker's own names, where it gives any, begin with an underscore.
    assert [line.split()[-1] for line in listed if not line.split()[-1].startswith("_")] == ["PyInit_binding"]


@pytest.mark.parametrize(("compiler", "standard", "suffix"), [("cc", "c11", ".c"), ("c++", "c++17", ".cc")])
def test_headers_of_the_wheel_compile(built: Built, tmp_path: Path, compiler: str, standard: str, suffix: str) -> None:
    """A C or C++ program that includes them needs the wheel's folder and nothing else."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    include = built.unpacked / "zeroslot" / "_core" / "include"
    program = tmp_path / f"program{suffix}"
    program.write_text('#include "zeroslot/zeroslot.h"\nint main(void) { return 0; }\n', "utf-8")
    warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    run(compiler, f"-std={standard}", *warnings, "-I", include, "-fsyntax-only", program, cwd=tmp_path)
