"""`python -m tests.results FOLDER`: the last line of `make test`, the sum of the JUnit files of its runs of pytest."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path


def main(folder: str) -> int:
    """Print the sum, in the form of pytest's own last line. The status is 0 where tests passed, and none failed."""
    suites = [suite for file in sorted(Path(folder).glob("*.xml")) for suite in ET.parse(file).iter("testsuite")]
    number = {
        name: sum(int(suite.attrib[name]) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
    }
    passed = number["tests"] - number["failures"] - number["errors"] - number["skipped"]
    counts = {"failed": number["failures"], "passed": passed, "skipped": number["skipped"], "errors": number["errors"]}
    text = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "no tests ran"
    seconds = sum(float(suite.attrib["time"]) for suite in suites)
    print(f"{text} in {seconds:.2f}s ({len(suites)} runs of pytest)")
    return 0 if passed and not number["failures"] and not number["errors"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
