"""Compiles the programs of this directory once in each run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """reader.c and writer.c, compiled as C11 without a warning."""
    compiler = shutil.which("cc") or shutil.which("gcc") or "cc"
    build = tmp_path_factory.mktemp("strangers")
    for name in ("reader", "writer"):
        flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1"]
        subprocess.run([compiler, *flags, HERE / f"{name}.c", "-o", build / name], check=True)
    return build
