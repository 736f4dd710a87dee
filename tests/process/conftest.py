"""The actors are fixtures here."""

from tests.process.actors import cast as cast
