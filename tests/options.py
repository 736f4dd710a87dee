"""Options of single tests, and the shares of the suite.

Here, because pytest asks only the outermost conftest.py for options in time.
"""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# Folders whose tests `make test` runs side by side; the share `rest` has all other folders. Each takes about as long.
SHARES = {"process": {"process"}, "fault": {"fault", "compat"}}


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
    parser.addoption(
        "--share", choices=[*SHARES, "rest"], help="only the tests of some folders: SHARES in tests/options.py"
    )


def is_in_share(path: Path, share: str | None) -> bool:
    """Whether a file or folder may have tests of the share; without one, always."""
    parts = path.relative_to(TESTS).parts if path.is_relative_to(TESTS) else ()
    if share is None or not parts:
        return True
    return share == next((name for name, folders in SHARES.items() if parts[0] in folders), "rest")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves out whole folders. A file that is named on the command line comes nevertheless, and is left out below."""
    return None if is_in_share(collection_path, config.option.share) else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if not is_in_share(item.path, config.option.share)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
