"""The verbs of the command line, as it declares them."""

from __future__ import annotations

from typing import Any

import typer.main
from typer.core import TyperGroup

from zeroslot.cli.app import app


def declared_verbs() -> dict[str, Any]:
    """Each verb's command, by its name."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return group.commands
