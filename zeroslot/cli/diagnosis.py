"""`zeroslot doctor`: the findings of `diagnose`, one line each, with what to do about them."""

from __future__ import annotations

import textwrap
from dataclasses import asdict

import zeroslot as zs
from zeroslot.cli.figures import as_json
from zeroslot.cli.table import BOLD, DIM, GREEN, RED, YELLOW, printable, styled, terminal_width

STYLES = {"ok": GREEN, "note": YELLOW, "wrong": RED}
LEAST_TEXT = 30  # columns, below which the text stands on lines of its own


def examine(topic: str | None, domain: str | None, *, json_output: bool) -> int:
    """Print every finding. 1: something is wrong."""
    found = zs.diagnose(topic, domain)
    wrong = sum(finding.verdict == "wrong" for finding in found)
    if json_output:
        print(as_json([asdict(finding) for finding in found]))
        return int(wrong > 0)
    width = max(len(finding.check) for finding in found)
    for finding in found:
        _print_finding(finding, width)
    notes = sum(finding.verdict == "note" for finding in found)
    print(f"\n{wrong} wrong, {notes} to note, {len(found) - wrong - notes} ok")
    return int(wrong > 0)


def _print_finding(finding: zs.Finding, width: int) -> None:
    """A line, and where it is longer than the terminal, more of them below its text."""
    columns = terminal_width()
    indent = 5 + 2 + width + 2
    before = f"{styled(f'{finding.verdict:<5}', STYLES[finding.verdict])}  {finding.check:<{width}}  "
    if columns is not None and columns - indent < LEAST_TEXT:
        print(before.rstrip())
        before, indent = " " * 7, 7
    texts = [(printable(finding.what), "")]
    if finding.advice:
        texts.append((f"-> {printable(finding.advice)}", BOLD if finding.verdict == "wrong" else DIM))
    for text, style in texts:
        room = max((columns or 0) - indent, LEAST_TEXT)
        lines = [text] if columns is None else textwrap.wrap(text, room, break_on_hyphens=False) or [""]
        for line in lines:
            print(before + styled(line, style))
            before = " " * indent
