"""A source tree without its binding, which Python finds first when it starts there: one line says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources, as after `pip install .`: the binding is elsewhere."""
    tree = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "zeroslot", tree / "zeroslot", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    return tree


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "import zeroslot"],
        ["-c", "from zeroslot import Publisher"],
        ["-c", "import zeroslot.errors"],
        ["-m", "zeroslot", "list"],
        ["script.py"],
    ],
)
def test_the_import_says_where_to_go_and_what_to_compile(tree: Path, arguments: list[str]) -> None:
    """In the last line of the error, with the directory and both ways out."""
    (tree / "script.py").write_text("import zeroslot as zs\n", "utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, *arguments], cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.rstrip().splitlines()[-1]
    assert last.startswith(f"ImportError: zeroslot in {tree} is a source tree without the compiled binding")
    assert "start Python in another directory" in last
    assert "pip install -e ." in last
