"""How a mutant finds its place: by the name of a function and by tokens, not by a file and its text."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.places import Sources, StaleError
from tests.mutants.table import Change, Mutant

pytestmark = pytest.mark.sources

PYTHON = '''\
"""A module."""

LIMIT = compute(after=0)


class Table:
    """A class."""

    size: int = 4

    def put(self, key: str) -> bool:
        """A docstring may say: return False."""
        if self.closed and key not in self.known:
            self.refuse(key)
            return False
        for _ in range(2):  # twice
            self.send(
                key,
                self.name,
            )
        self.ring()
        return True

    @property
    def name(self) -> str:
        return "a"

    @name.setter
    def name(self, value: str) -> None:
        self.value = value

    def drop(self) -> None:
        def inner() -> None:
            self.ring()

        inner()


def put() -> None:
    made = create(1, 2)
    if made:
        announce(made)
'''

CYTHON = '''\
cdef extern from "limits.h":
    int LIMIT_OF_C

cdef extern from *:
    """
    static inline int spin(int turns)
    {
        while (turns > 0) turns--;
        return turns;
    }
    """
    int spin(int turns) nogil


cdef class Hold:
    cdef readonly int count

    cdef inline bint alive(self) noexcept nogil:
        return self.count > 0

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        raise BufferError("no")
'''

HEADER = """\
/* A header. */
#ifndef A_H
#define A_H
#define TWICE(x) \\
    { x; x; }
typedef struct pair {
    int a, b;
} pair;

static inline int lock(pair *p)
{
    if (p->a == 0 /* free */ && p->b) {
        bump(p);
        p->a = 1;
    }
    for (int i = 0; i < 3; i++)
        bump(p + i);
    return p->a;
}

static int unlock(pair *p) { return p->a = 0; }
#endif
"""


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """A small package in three languages."""
    for file, text in (("table.py", PYTHON), ("core/hold.pxi", CYTHON), ("core/include/lock.h", HEADER)):
        path = tmp_path / "zeroslot" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "settings.toml").write_text('[names]\nall = ["a", "b"]  # two\n')
    return Sources(tmp_path)


def changed(sources: Sources, place: str, operation: str, code: str, second: str = "") -> str:
    """The new text of the one file that changes."""
    change = Change(place, operation, code, second)
    (text,) = Mutant("x", "", "", (change,), (), hangs=False, argument="").mutated(sources).values()
    return text


@pytest.mark.parametrize(
    ("place", "inside"),
    [
        ("Table.put", "self.refuse(key)"),
        ("table.put", "announce(made)"),
        ("zeroslot.table.put", "announce(made)"),
        ("Table", "self.refuse(key)"),
        ("Table.drop.inner", "self.ring()"),
        ("Table.name", "self.value = value"),
        ("Table.size", "4"),
        ("LIMIT", "after=0"),
        ("table", "compute"),
        ("Hold.alive", "self.count > 0"),
        ("Hold.__getbuffer__", 'raise BufferError("no")'),
        ("spin", "turns--"),
        ("lock.lock", "p->a = 1"),
        ("unlock", "p->a = 0"),
        ("settings.toml", '"b"'),
    ],
)
def test_a_place_is_found_by_its_name_in_any_file(sources: Sources, place: str, inside: str) -> None:
    """Functions, methods, classes, variables, modules; Python, Cython, C, and C within Cython."""
    match = sources.find(place, inside)
    assert match.source.text[match.start : match.end] == inside


@pytest.mark.parametrize(
    ("place", "pattern", "text"),
    [
        (
            "Table.put",
            "self.send(key, self.name)",
            "self.send(\n                key,\n                self.name,\n            )",
        ),
        ("Table.put", "return  False", "return False"),
        ("Table.put", "(self.closed and key) not in self.known", "self.closed and key not in self.known"),
        ("Table.put", "for _ in range(2): self.send", "for _ in range(2):  # twice\n            self.send"),
        ("Table.put", "self.refuse(...)", "self.refuse(key)"),
        (
            "Table.put",
            "self.send(...); self.ring()",
            "self.send(\n                key,\n                self.name,\n            )\n        self.ring()",
        ),
        ("Table.name", "return 'a'", 'return "a"'),
        ("table.put", "made = ...", "made = create(1, 2)"),
        ("lock.lock", "p->a == 0 && p->b", "p->a == 0 /* free */ && p->b"),
        ("lock.lock", "bump(p); p->a", "bump(p);\n        p->a"),
    ],
)
def test_how_code_is_laid_out_does_not_matter(sources: Sources, place: str, pattern: str, text: str) -> None:
    """White space, line breaks, comments, docstrings, grouping parentheses, trailing commas, quotes."""
    match = sources.find(place, pattern)
    assert match.source.text[match.start : match.end] == text


def test_a_function_may_move_to_another_file(sources: Sources, tmp_path: Path) -> None:
    """Its mutants follow it, out of the room where it was and into a class's file of another name."""
    before = sources.find("Table.put", "self.ring()")
    (tmp_path / "zeroslot" / "rooms").mkdir()
    (tmp_path / "zeroslot" / "table.py").rename(tmp_path / "zeroslot" / "rooms" / "shelf.py")
    after = Sources(tmp_path).find("Table.put", "self.ring()")
    assert (before.source.file, after.source.file) == ("zeroslot/table.py", "zeroslot/rooms/shelf.py")


@pytest.mark.parametrize(
    ("place", "pattern", "says"),
    [
        ("Table.puts", "self.ring()", r"there is no Table\.puts\. Near names: .*Table\.put"),
        ("Shelf.put", "self.ring()", r"there is no Shelf\.put\. Near names: Table\.put"),
        ("lock", "p->a", r"lock may be one of: .*include\.lock\b.*include\.lock\.lock"),
        ("Table.put", "self.wring()", "Table.put has this 0 times"),
        ("Table.put", "self.value = value", r"0 times(?s:.*)It stands in: zeroslot\.table\.Table\.name$"),
        ("Table.put", "key", "Table.put has this 4 times"),
        ("Table", "self.ring()", "Table has this 2 times"),
        ("Table.put", "self.closed and ... self.refuse", "0 times"),
        ("none.toml", "x", "there is no none.toml"),
    ],
)
def test_a_place_that_is_gone_or_not_the_only_one_is_an_error(
    sources: Sources, place: str, pattern: str, says: str
) -> None:
    """The error names the place, and what may be meant now. A `...` stays within its statement."""
    with pytest.raises(StaleError, match=says):
        sources.find(place, pattern)


@pytest.mark.parametrize(
    ("place", "operation", "code", "second", "there", "not_there"),
    [
        ("Table.put", "skip", "self.ring()", "", "        pass\n        return True", None),
        ("Table.put", "skip", "if self.closed", "", "        pass\n        for _", "self.refuse"),
        ("Table.put", "skip", "self.send", "", "twice\n            pass\n        self.ring", None),
        ("Table.put", "never", "key not in self.known", "", "if self.closed and False:", None),
        ("Table.put", "always", "self.closed", "", "if True and key not in", None),
        ("Table.put", "code", "range(2)", "range(1)", "in range(1):", None),
        (
            "Table.put",
            "code",
            "self.ring()",
            "\nif key:\n    self.ring()",
            "        if key:\n            self.ring()\n        ret",
            None,
        ),
        ("Table.put", "code", "self.send(...)", "print(...)", "print(key,\n                self.name)", "self.send"),
        (
            "table.put",
            "move",
            "announce",
            "made = ",
            "    announce(made)\n    made = create(1, 2)\n    if made:\n        pass",
            None,
        ),
        ("LIMIT", "code", "after=0", "after=None", "LIMIT = compute(after=None)", None),
        ("lock.lock", "skip", "p->a = 1", "", "bump(p);\n        ;\n", "p->a = 1"),
        ("lock.lock", "skip", "if (p->a", "", "{\n    ;\n    for (int", "p->a = 1"),
        ("lock.lock", "skip", "for", "", "}\n    ;\n    return", "p + i"),
        ("lock.lock", "never", "p->b", "", "if (p->a == 0 /* free */ && 0)", None),
        ("spin", "always", "turns > 0", "", "while (1) turns--;", None),
        ("settings.toml", "code", ', "b"', "", 'all = ["a"]  # two', None),
    ],
)
def test_an_operation_changes_its_place_and_nothing_else(
    sources: Sources, place: str, operation: str, code: str, second: str, there: str, not_there: str | None
) -> None:
    """Each of the operations, in each language."""
    text = changed(sources, place, operation, code, second)
    assert there in text
    assert not_there is None or not_there not in text
    found = sources.find(place, second if operation == "move" else code)
    assert text.startswith(found.source.text[: found.start])
    if operation in ("code", "never", "always"):
        assert text.endswith(found.source.text[found.end :])


@pytest.mark.parametrize(
    ("place", "operation", "code", "second", "says"),
    [
        ("Table.put", "code", "self.ring()", "self.ring()", "changes nothing"),
        ("Table.put", "skip", "range(2)", "", "no statement begins here"),
        ("table.put", "code", "made = ...", "... = ... = ...", "more ... than the pattern has"),
    ],
)
def test_a_change_that_cannot_be_made_is_an_error(
    sources: Sources, place: str, operation: str, code: str, second: str, says: str
) -> None:
    """What changes nothing, and what cuts through a statement."""
    with pytest.raises(StaleError, match=says):
        changed(sources, place, operation, code, second)


def test_a_statement_with_another_branch_is_not_skipped(tmp_path: Path) -> None:
    """Its `else` would belong to nothing, or to another statement."""
    (tmp_path / "zeroslot").mkdir()
    (tmp_path / "zeroslot" / "a.py").write_text(
        "def f():\n    if x:\n        if y:\n            g()\n    else:\n        h()\n"
    )
    with pytest.raises(StaleError, match="another branch"):
        changed(Sources(tmp_path), "f", "skip", "if x")
    assert "        pass\n    else" in changed(Sources(tmp_path), "f", "skip", "if y")


def test_a_replacement_keeps_the_parentheses_in_pairs(tmp_path: Path) -> None:
    """Those that only group are taken along at the ends, or the place is refused."""
    (tmp_path / "zeroslot").mkdir()
    (tmp_path / "zeroslot" / "a.py").write_text(
        "def f():\n    return (\n        a or b\n    )\n\ndef g():\n    return (a or b) and c\n"
    )
    sources = Sources(tmp_path)
    assert "return x\n\n" in changed(sources, "f", "code", "return a or b", "return x")
    assert "return (\n        x\n    )" in changed(sources, "f", "code", "a or b", "x")
    with pytest.raises(StaleError, match="cuts through parentheses"):
        changed(sources, "g", "code", "b and c", "x")


def test_two_changes_of_one_place_are_an_error(sources: Sources) -> None:
    """The second one would change what the first has made."""
    changes = tuple(Change("Table.put", "code", code, "x") for code in ("self.closed and key", "key not in"))
    with pytest.raises(StaleError, match="twice"):
        Mutant("x", "", "", changes, (), hangs=False, argument="").mutated(sources)
