"""The actors are fixtures here."""

from tests.process.actors import cast

__all__ = ["cast"]
