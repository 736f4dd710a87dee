"""What zeroslot and its peers cost on this machine. These are measurements: nothing fails, whatever they show.

    python -m tests.bench all --json out.json      everything, about 15 minutes; --quick: less, about 2
    python -m tests.bench latency hop              some parts; `--help` lists them
    python -m tests.bench report out.json          the tables as Markdown, on stdout
    python -m tests.bench report out.json --write  report/README.md and its plots, and the section of the README

Peers that are not installed are left out, and the tables say so: `pip install -e '.[bench]'` has them all.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from tests.bench import reporting
from tests.bench.harness import FULL, QUICK, TINY, Row
from tests.bench.peers import PEERS
from tests.bench.suite import NOT_QUICK, PARTS, run


def show(row: Row) -> None:
    """A line on stderr for each row, as it comes."""
    figures = "  ".join(f"{name} {reporting.number(value)}" for name, value in row.figures.items())
    print(f"{row.part:11}{row.what:44}{row.peer:26}{figures}{row.why}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Measure, or report."""
    options = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("what", nargs="+", help=f"all, report FILE, or parts: {', '.join(PARTS)}")
    options.add_argument("--quick", action="store_true", help="two short runs of each")
    options.add_argument(
        "--runs", type=int, help=f"alternating runs; {FULL.runs}, and {QUICK.runs} where it shall be quick"
    )
    options.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)  # for the tests of this program
    options.add_argument("--peers", default="", help="only these, divided by semicolons")
    options.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    options.add_argument("--write", action="store_true", help="report: write the files of the report and of the README")
    given = options.parse_args(arguments)
    if given.what[0] == "report":
        if len(given.what) != 2:  # the word and the file
            options.error("report needs one FILE")
        found = json.loads(Path(given.what[1]).read_text("utf-8"))
        if given.write:
            reporting.write(found)
        else:
            print(reporting.markdown(found))
        return 0
    quick_parts = [name for name in PARTS if name not in NOT_QUICK]
    names = given.what if given.what != ["all"] else quick_parts if given.quick else [*PARTS]
    if unknown := [name for name in names if name not in PARTS]:
        options.error(f"there is no part {', '.join(unknown)}; all parts: {', '.join(PARTS)}")
    effort = TINY if given.tiny else QUICK if given.quick else FULL
    peers = tuple(filter(None, given.peers.split(";")))
    if unknown := [name for name in peers if name not in PEERS]:
        options.error(f"there is no peer {', '.join(unknown)}; all peers: {'; '.join(PEERS)}")
    found = run(names, replace(effort, peers=peers, runs=given.runs or effort.runs), show)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    else:
        print(reporting.markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
