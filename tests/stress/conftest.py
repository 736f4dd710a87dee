"""How much: `pytest -m stress --samples 10000000`."""

from __future__ import annotations

import pytest

from tests.fault.survivors import servers, tracing
from tests.process.actors import cast

__all__ = ["cast", "servers", "tracing"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Seen by a run that names this folder; any other runs with the defaults."""
    parser.addoption("--samples", type=int, default=10_000_000, help="samples of the stress test (ten million)")
