"""Fixtures: the actors of tests/process, and the victims of survivors.py."""

from tests.fault.survivors import servers, stepping, tracing
from tests.process.actors import cast

__all__ = ["cast", "servers", "stepping", "tracing"]
