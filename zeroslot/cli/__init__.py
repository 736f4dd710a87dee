"""The `zeroslot` command. Its code is in every installation; the packages that it needs come with the extra `cli`."""

from __future__ import annotations

import sys
from importlib import import_module

NEEDS = ("typer", "rich")


def main() -> int:
    """Run the command line on `sys.argv`: its exit status.

    Without typer or rich it exits with 1, and stderr says what to install.
    """
    try:
        for name in NEEDS:
            import_module(name)
        from zeroslot.cli.app import run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in NEEDS:
            raise
        print(f"The command line needs {missing}, which is not installed: pip install 'zeroslot[cli]'", file=sys.stderr)
        sys.exit(1)
    return run()
