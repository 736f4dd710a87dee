"""`zeroslot doctor`: the findings of `diagnose`, one line each, with what to do about them."""

from __future__ import annotations

from dataclasses import asdict

import zeroslot as zs
from zeroslot.cli.figures import as_json
from zeroslot.cli.table import BOLD, DIM, RED, printable, styled

STYLES = {"ok": DIM, "note": BOLD, "wrong": RED}


def examine(topic: str | None, domain: str | None, *, json_output: bool) -> int:
    """Print every finding. 1: something is wrong."""
    found = zs.diagnose(topic, domain)
    wrong = sum(finding.verdict == "wrong" for finding in found)
    if json_output:
        print(as_json([asdict(finding) for finding in found]))
        return int(wrong > 0)
    width = max(len(finding.check) for finding in found)
    for finding in found:
        print(
            f"{styled(f'{finding.verdict:<5}', STYLES[finding.verdict])}  {finding.check:<{width}}  "
            f"{printable(finding.what)}"
        )
        if finding.advice:
            print(f"{'':<5}  {'':<{width}}  -> {finding.advice}")
    notes = sum(finding.verdict == "note" for finding in found)
    print(f"\n{wrong} wrong, {notes} to note, {len(found) - wrong - notes} ok")
    return int(wrong > 0)
