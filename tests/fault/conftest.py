"""Fixtures: the actors of tests/process, and the victims of survivors.py."""

from tests.fault.survivors import launcher, servers, stepping, tracing
from tests.process.actors import cast

__all__ = ["cast", "launcher", "servers", "stepping", "tracing"]
