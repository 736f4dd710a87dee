"""The Markdown files: each relative link leads to a file that exists, and to a heading in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.sources

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("idl", "zeroslot", "tests", "examples")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])


def without_code(text: str) -> str:
    """The text without fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """The anchors that a renderer gives the headings: lower case, punctuation dropped, `-` for each space."""
    headings = re.findall(r"^#+ (.*)$", without_code(document.read_text("utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> list[str]:
    """Links of the document that lead nowhere."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text("utf-8"))):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_link_of_a_document_leads_somewhere(document: Path) -> None:
    """Files by relative path, so that the links work in a checkout and in a browser."""
    assert broken_links(document) == []


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
    """A missing file, a missing heading, and a heading of the document itself."""
    document = tmp_path / "page.md"
    document.write_text(
        "# One heading\n[a](#one-heading) [b](#other) [c](missing.md) [d](page.md#one-heading)\n", "utf-8"
    )
    assert broken_links(document) == ["#other", "missing.md"]
