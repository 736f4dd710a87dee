"""`zeroslot gc`: what `clean` finds and removes, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict

import zeroslot as zs
from zeroslot.cli.figures import as_json
from zeroslot.cli.table import paragraph, printable


def clean_domain(domain: str | None, *, everything: bool, dry_run: bool, json_output: bool) -> int:
    """Remove what dead processes left, and print what it was. 1: something stays that this could not remove."""
    found = zs.clean(domain, everything=everything, dry_run=dry_run)
    status = int(not dry_run and not all(remains.removed for remains in found))
    if json_output:
        print(as_json([asdict(remains) for remains in found]))
        return status
    for remains in found:
        print(paragraph(printable(_line(remains, dry_run))))
    if not found:
        print("nothing is left of dead processes")
    return status


def _line(remains: zs.Remains, dry_run: bool) -> str:
    if remains.left_alone:
        return remains.what if remains.where in remains.what else f"{remains.what}: {remains.where}"
    done = "removed" if remains.removed else "found" if dry_run else "not removed"
    return f"{done}: {remains.what}: {remains.where}"
