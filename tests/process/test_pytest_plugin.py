"""The fixture `zeroslot_domain`, in a run of pytest as a user would start it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from tests import shared_memory

SET_UP = """
    import os, subprocess, sys
    import pytest
    import zeroslot as zs

    class Tick(zs.Sample):
        n: int = 0
"""


def run_pytest(directory: Path, tests: str, *options: str) -> subprocess.CompletedProcess[str]:
    path = directory / "test_of_a_user.py"
    path.write_text(textwrap.dedent(SET_UP) + textwrap.dedent(tests))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, path.name]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def test_tests_with_the_fixture_meet_only_their_own_processes(tmp_path: Path) -> None:
    """Two tests use one topic, and neither sees the other's samples; a child process is in its test's domain."""
    result = run_pytest(
        tmp_path,
        """
        @pytest.mark.parametrize("n", [1, 2])
        def test_topic(zeroslot_domain, n):
            assert zs.topics() == ()
            assert os.environ["ZEROSLOT_DOMAIN"] == zeroslot_domain
            with zs.Publisher("t", Tick) as pub, zs.Subscriber("t", Tick) as sub:
                pub.publish(Tick(n=n))
                assert sub.take().sample.n == n
                listed = subprocess.run([sys.executable, "-m", "zeroslot", "list", "--json"], capture_output=True)
                assert b'"t"' in listed.stdout
                assert zs.topics("default") == ()

        def test_the_environment_is_as_before():
            assert not os.environ.get("ZEROSLOT_DOMAIN")
        """,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 passed" in result.stdout


def test_what_a_test_leaves_is_removed(tmp_path: Path) -> None:
    """A publisher's process that was killed leaves nothing after the test."""
    before = shared_memory.objects()
    result = run_pytest(
        tmp_path,
        """
        def test_killed(zeroslot_domain):
            code = (
                "import os, zeroslot as zs\\n"
                "class Tick(zs.Sample):\\n    n: int = 0\\n"
                "pub = zs.Publisher('t', Tick)\\n"
                "os.kill(os.getpid(), 9)"
            )
            assert subprocess.run([sys.executable, "-c", code]).returncode == -9
        """,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert shared_memory.objects() == before


def test_a_publisher_that_a_test_leaves_open_is_named(tmp_path: Path) -> None:
    """A warning, which fails the test where warnings are errors."""
    tests = """
        kept = []

        def test_open(zeroslot_domain):
            kept.append(zs.Publisher("robot/imu", Tick, name="camera-3"))
    """
    result = run_pytest(tmp_path, tests)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "camera-3" in result.stdout
    assert "robot/imu is still open" in result.stdout
    assert run_pytest(tmp_path, tests, "-W", "error").returncode == 1


def test_the_plugin_loads_nothing_but_itself(tmp_path: Path) -> None:
    """Runs of pytest that do not use zeroslot do not wait for numpy and pydantic."""
    path = tmp_path / "test_of_a_user.py"
    path.write_text(
        "import sys\n\ndef test_modules(pytestconfig):\n"
        "    assert pytestconfig.pluginmanager.has_plugin('zeroslot')\n"
        "    assert not {'numpy', 'pydantic', 'zeroslot.testing'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", path.name]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
