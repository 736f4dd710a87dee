"""Options of single tests. Here, because pytest asks only the outermost conftest.py for options in time."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--watchdog", type=float, help="seconds that a test may take, in place of the usual; for tests/mutants"
    )
    parser.addoption("--kills", type=int, default=10_000, help="deaths in the storm of tests/stress/test_kills.py")
    parser.addoption(
        "--every-instruction",
        action="store_true",
        help="tests/fault/test_single_step.py kills at every instruction, not at some of each operation; "
        "tests/fault/test_cut_and_replaced.py stops at every system call",
    )
    parser.addoption(
        "--step-the-clock",
        action="store_true",
        help="tests/fault/test_clock.py also sets this machine's realtime clock an hour on and back, for moments",
    )
