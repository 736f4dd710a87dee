"""Break the rules of tests/core/mutants.toml one at a time, in copies of the headers, and see a program notice it.

    python -m tests.mutants.core [name]...

First every program has to pass with the unbroken headers. A mutant is caught when one of its programs does not compile,
fails, or does not end in time.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.places import Sources, StaleError
from tests.mutants.table import ROOT, Change, mutated, read_changes

PROGRAMS = ROOT / "tests" / "core"
HEADERS = ROOT / "zeroslot" / "_core" / "include" / "zeroslot"
TABLE = PROGRAMS / "mutants.toml"
TIMEOUT = 40
USUAL = ("-std=c11", "-D_GNU_SOURCE", "-w", "-g", "-O1", "-pthread")
SAID = re.compile(r"check failed|sleeps forever| is |data race|^ended")


@dataclass(frozen=True)
class CoreMutant:
    """One rule of the headers left out, by changes or by weaker orders."""

    name: str
    changes: tuple[Change, ...]
    define: tuple[str, ...]
    noticed_by: tuple[str, ...]

    def headers(self, sources: Sources) -> dict[str, str]:
        """The new texts of the headers that it changes, by their file names."""
        return {Path(file).name: text for file, text in mutated(self.name, self.changes, sources).items()}


def read_core_table(path: Path = TABLE) -> list[CoreMutant]:
    """All mutants of the headers, in the order of the table."""
    found = []
    for name, row in tomllib.loads(path.read_text("utf-8")).items():
        define, noticed_by = tuple(row.pop("define", ())), tuple(row.pop("noticed_by"))
        found.append(CoreMutant(name, () if define else read_changes(name, row), define, noticed_by))
    return found


def failure(program: str, changed: dict[str, str], define: tuple[str, ...] = ()) -> str | None:
    """What the program says when it fails with these headers; None when it passes."""
    source, options, arguments = f"test_{program}.c", [], []
    if program == "tsan":
        source, options, arguments = "stress.c", ["-fsanitize=thread"], ["--threads", "--samples", "20000"]
    with tempfile.TemporaryDirectory() as work:
        for header in HEADERS.glob("*.h"):
            Path(work, header.name).write_text(changed.get(header.name, header.read_text("utf-8")), "utf-8")
        built = Path(work, "program")
        command = [os.environ.get("CC", "cc"), *USUAL, *options, *(f"-D{order}" for order in define), f"-I{work}"]
        compiled = subprocess.run([*command, source, "-o", built], cwd=PROGRAMS, capture_output=True, text=True)
        if compiled.returncode != 0:
            return f"does not compile: {compiled.stderr.strip().partition(chr(10))[0]}"
        try:
            done = subprocess.run([built, *arguments], capture_output=True, text=True, timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            return "ended by the time limit"
    if done.returncode == 0:
        return None
    return next((line for line in done.stderr.splitlines() if SAID.search(line)), f"ended with {done.returncode}")


def main(wanted: list[str]) -> int:
    """Runs the mutants of these names, or all. 1 when one survived, or when the table is wrong."""
    table = read_core_table()
    unknown = sorted(set(wanted) - {mutant.name for mutant in table})
    if unknown:
        print("mutants: there is no", ", ".join(unknown))
        return 1
    mutants = [mutant for mutant in table if not wanted or mutant.name in wanted]
    sources = Sources(ROOT)
    try:
        headers = {mutant.name: mutant.headers(sources) for mutant in mutants}
    except StaleError as error:
        print(f"mutants: {error}")
        return 1
    for program in sorted({program for mutant in mutants for program in mutant.noticed_by}):
        said = failure(program, {})
        if said is not None:
            print(f"mutants: {program} fails without any change: {said}")
            return 1
    print("unbroken, all pass", flush=True)
    survived = 0
    for mutant in mutants:
        says = ((program, failure(program, headers[mutant.name], mutant.define)) for program in mutant.noticed_by)
        caught = next((f"{program}: {said}" for program, said in says if said is not None), None)
        survived += caught is None
        print(f"caught    {mutant.name}: {caught}"[:150] if caught else f"SURVIVED  {mutant.name}", flush=True)
    print(f"mutants: {len(mutants) - survived} of {len(mutants)} caught")
    return int(survived != 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
