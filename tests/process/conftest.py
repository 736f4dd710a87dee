"""Fixtures: the actors."""

from tests.process.actors import cast

__all__ = ["cast"]
