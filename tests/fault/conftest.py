"""The actors, and those who die and are watched, are fixtures here."""

from tests.fault.survivors import servers, stepping, tracing
from tests.process.actors import cast

__all__ = ["cast", "servers", "stepping", "tracing"]
