"""Finds places in the sources by names and tokens: in `Hold.freeze`, the call `PyArray_CLEARFLAGS(...)`.

Why not by exact text: functions move between files, and lines are wrapped and commented anew, without a change of what
they do. A place is therefore the qualified name of a function, class, variable or module, in whichever file of the
package it stands, in Python, Cython and C alike. Where two modules define that name, the module's stands in front.

A pattern is compared with the tokens in that place. White space, comments, docstrings, parentheses that only group,
trailing commas and the semicolons of Python do not matter. `...` stands for any tokens within one statement, as few as
possible.
"""

from __future__ import annotations

import difflib
import keyword
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SUFFIXES = (".py", ".pyx", ".pxi", ".h")
NEAR_NAMES = 5

_STRING = (
    r"""[rRbBuUfF]{0,2}(?:\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
)
_COMMENT = {"python": r"\#[^\n]*", "c": r"/\*.*?\*/|//[^\n]*"}
_DIRECTIVE = {"python": r"(?!)", "c": r"\#(?:\\\n|/\*.*?\*/|[^\n])*"}
_OPERATOR = {
    "python": r"\.\.\.|\*\*=?|//=?|>>=?|<<=?|->|:=|[-+*/%@&|^=!<>]=",
    "c": r"\.\.\.|>>=?|<<=?|->|\+\+|--|&&|\|\||[-+*/%&|^=!<>]=",
}
_LEXER = {
    language: re.compile(
        rf"(?P<space>(?:[ \t\f]|\\\n)+)|(?P<newline>\n)|(?P<comment>{_COMMENT[language]})"
        rf"|(?P<directive>{_DIRECTIVE[language]})|(?P<string>{_STRING})|(?P<word>\w+)|(?P<operator>{_OPERATOR[language]}|.)",
        re.DOTALL,
    )
    for language in ("python", "c")
}
_VERBATIM = re.compile(r'^cdef extern from [^\n]*:\n\s+"{3}(.*?)"{3}', re.DOTALL | re.MULTILINE)
_KEYWORDS = frozenset(keyword.kwlist) | {"case", "match"}
_OPEN, _CLOSE = {"(": ")", "[": "]", "{": "}"}, {")", "]", "}"}


class StaleError(Exception):
    """The sources have moved on, and the table has to follow."""


@dataclass(frozen=True)
class Token:
    """A piece of source. `line` counts logical lines in Python and statements in C; a `hidden` one is not compared."""

    text: str
    kind: str
    start: int
    end: int
    line: int
    hidden: bool = False


@dataclass(frozen=True)
class Symbol:
    """What has a name: a function, a class, a variable outside of functions, a module; and where in the file."""

    module: str
    name: str
    source: Source
    start: int
    end: int

    @property
    def full_name(self) -> str:
        """With the module."""
        return f"{self.module}.{self.name}"

    def is_called(self, name: str) -> bool:
        """By its name, or with as much of the module in front as tells it from another one."""
        return name.endswith(self.name) and f".{self.full_name}".endswith(f".{name}")


@dataclass(frozen=True, eq=False)
class Source:
    """A file, or the C code from `start` to `end` of a Cython file. Offsets count in the file."""

    file: str
    text: str
    language: str
    start: int
    end: int

    @classmethod
    def read(cls, root: Path, file: str) -> list[Source]:
        """The file, and the C code in it."""
        text = (root / file).read_text("utf-8")
        whole = cls(file, text, "c" if file.endswith(".h") else "python", 0, len(text))
        within = _VERBATIM.finditer(text) if Path(file).suffix in (".pyx", ".pxi") else ()
        return [whole, *(cls(file, text, "c", match.start(1), match.end(1)) for match in within)]

    @cached_property
    def tokens(self) -> list[Token]:
        """All but white space and comments."""
        return tokens_of(self.text, self.language, self.start, self.end)

    @cached_property
    def symbols(self) -> list[Symbol]:
        """All that is defined here, such as `Hold.freeze` in the module `zeroslot._core.segment`, and the module."""
        names = _c_names(self.tokens) if self.language == "c" else _python_names(self.text, self.tokens)
        *packages, module = *Path(self.file).parent.parts, Path(self.file).stem
        package = ".".join(packages)
        defined = [Symbol(f"{package}.{module}", name, self, start, end) for name, start, end in names]
        return [*defined, Symbol(package, module, self, 0, len(self.text))] if self.start == 0 else defined

    def find(self, pattern: str, start: int = 0, end: int | None = None) -> list[Match]:
        """Every place of the pattern between two offsets."""
        first = bisect_left(self.tokens, start, key=lambda token: token.start)
        last = bisect_left(self.tokens, self.end if end is None else end, key=lambda token: token.start)
        pieces = tokens_of(pattern, self.language, 0, len(pattern))
        wanted = [token.text for token in pieces if not token.hidden]
        shown = [index for index in range(first, last) if not self.tokens[index].hidden]
        found = []
        for at in range(len(shown)):
            matched = self._match(wanted, shown, at)
            if matched is not None:
                found.append(self._balanced(*matched))
        return found

    def _match(
        self, wanted: list[str], shown: list[int], at: int
    ) -> tuple[int, int, tuple[tuple[int, int], ...]] | None:
        """First and last token of a match that begins at `shown[at]`, and what each `...` stands for."""
        first, gaps, position = at, [], 0
        while position < len(wanted):
            if wanted[position] == "...":
                follows = wanted[position + 1 : position + 2]
                end = self._gap(shown, at, follows)
                if end is None:
                    return None
                gaps.append((shown[at], shown[end - 1] + 1) if end > at else (shown[at], shown[at]))
                at = end
            elif at < len(shown) and _spelled(self.tokens[shown[at]].text) == _spelled(wanted[position]):
                at += 1
            else:
                return None
            position += 1
        return (shown[first], shown[at - 1], tuple(gaps)) if at > first else None

    def _gap(self, shown: list[int], at: int, follows: list[str]) -> int | None:
        """Where a `...` from `shown[at]` on ends: before `follows`, outside of brackets, in the same statement."""
        depth, line = 0, self.tokens[shown[at]].line if at < len(shown) else -1
        for here in range(at, len(shown)):
            token = self.tokens[shown[here]]
            if token.line != line:
                return here if not follows else None
            if depth == 0 and follows and _spelled(token.text) == _spelled(follows[0]):
                return here
            depth += (token.text in _OPEN) - (token.text in _CLOSE)
            if depth < 0:
                return here if not follows else None
        return len(shown) if not follows else None

    def _balanced(self, first: int, last: int, gaps: tuple[tuple[int, int], ...]) -> Match:
        """The match with the grouping parentheses at its ends that it cuts."""
        depth = lowest = 0
        for token in self.tokens[first : last + 1]:
            if token.hidden:
                depth += (token.text in _OPEN) - (token.text in _CLOSE)
                lowest = min(lowest, depth)
        opened = depth - lowest
        while lowest < 0 and first > 0 and self.tokens[first - 1].hidden and self.tokens[first - 1].text == "(":
            first, lowest = first - 1, lowest + 1
        while (
            opened > 0
            and last + 1 < len(self.tokens)
            and self.tokens[last + 1].hidden
            and self.tokens[last + 1].text in "),"
        ):
            last += 1
            opened += (self.tokens[last].text == "(") - (self.tokens[last].text == ")")
        texts = [self.text[self.tokens[a].start : self.tokens[b - 1].end] if b > a else "" for a, b in gaps]
        return Match(self, first, last, tuple(texts), balanced=lowest == 0 and opened == 0)


@dataclass(frozen=True)
class Match:
    """The tokens `first` to `last` of a source, and the texts that `...` stands for."""

    source: Source
    first: int
    last: int
    gaps: tuple[str, ...]
    balanced: bool

    @property
    def start(self) -> int:
        """The offset of its first character."""
        return self.source.tokens[self.first].start

    @property
    def end(self) -> int:
        """The offset behind its last character."""
        return self.source.tokens[self.last].end

    @property
    def indent(self) -> str:
        """The white space before the line that it begins in."""
        line = self.source.text[self.source.text.rfind("\n", 0, self.start) + 1 :]
        return line[: len(line) - len(line.lstrip(" \t"))]

    def statement(self) -> Match:
        """The whole statement that begins with this, blocks included. StaleError where none begins here."""
        return _c_statement(self) if self.source.language == "c" else _python_statement(self)


class Sources:
    """Every source file of the package, and the files beside it that are named by their path."""

    def __init__(self, root: Path, package: str = "zeroslot") -> None:
        self.root = root
        files = sorted(path for path in (root / package).rglob("*") if path.suffix in SUFFIXES)
        self._sources = [source for path in files for source in Source.read(root, path.relative_to(root).as_posix())]
        self.symbols = [symbol for source in self._sources for symbol in source.symbols]

    def find(self, place: str, pattern: str) -> Match:
        """The one place of the pattern in the symbol, or in the file, of that name. StaleError says what is near."""
        parts = self._parts(place)
        matches = [match for part in parts for match in part.source.find(pattern, part.start, part.end)]
        if len(matches) != 1:
            elsewhere = "" if matches else self._elsewhere(pattern)
            raise StaleError(f"{place} has this {len(matches)} times, and not once:\n{pattern}{elsewhere}")
        return matches[0]

    def _parts(self, place: str) -> list[Symbol]:
        """The symbol; several ones where one name is defined several times, as a property and its setter are."""
        if (self.root / place).is_file():
            source = Source.read(self.root, place)[0]
            return [Symbol("", place, source, 0, source.end)]
        found = [symbol for symbol in self.symbols if symbol.is_called(place)]
        names = sorted({symbol.full_name for symbol in found})
        if len(names) > 1:
            raise StaleError(f"{place} may be one of: {', '.join(names)}")
        if not found:
            raise StaleError(f"there is no {place}. {self._near(place)}")
        return found

    def _near(self, place: str) -> str:
        names = sorted({symbol.name for symbol in self.symbols})
        last = place.rpartition(".")[2]
        same = [name for name in names if name.rpartition(".")[2] == last]
        near = list(dict.fromkeys([*same, *difflib.get_close_matches(place, names, NEAR_NAMES, 0.5)]))[:NEAR_NAMES]
        return f"Near names: {', '.join(near)}" if near else "No name is near"

    def _elsewhere(self, pattern: str) -> str:
        """Where the pattern stands instead: in the innermost symbol around it."""
        names = set()
        for source in self._sources:
            for match in source.find(pattern):
                around = [s for s in source.symbols if s.start <= match.start and match.end <= s.end]
                names.add(min(around, key=lambda s: s.end - s.start).full_name)
        return f"\nIt stands in: {', '.join(sorted(names))}" if names else ""


def tokens_of(text: str, language: str, start: int, end: int) -> list[Token]:
    """The tokens of a stretch of text, those that a comparison leaves out marked as hidden."""
    made: list[Token] = []
    hidden_ends: list[bool] = []
    line, depth, began = 0, 0, 0  # `began`: the first token of this line
    for match in _LEXER[language].finditer(text, start, end):
        kind = str(match.lastgroup)
        if kind == "newline" and depth == 0 and language == "python" and len(made) > began:
            if len(made) == began + 1 and made[began].kind == "string":  # a docstring
                made[began] = _hide(made[began])
            line, began = line + 1, len(made)
        if kind in ("space", "newline", "comment"):
            continue
        piece, hidden = match.group(), False
        if piece in _OPEN:
            hidden = piece == "(" and _groups(made)
            hidden_ends.append(hidden)
            depth += 1
        elif piece in _CLOSE:
            hidden = hidden_ends.pop() if hidden_ends else False
            depth = max(0, depth - 1)
            if made and made[-1].text == "," and language == "python":
                made[-1] = _hide(made[-1])
        made.append(
            Token(piece, kind, match.start(), match.end(), line, hidden or (piece, language) == (";", "python"))
        )
        if language == "c" and piece in (";", "{", "}"):
            line += 1
    return made


def _groups(before: list[Token]) -> bool:
    """Whether a parenthesis after these tokens only groups, and calls nothing."""
    if not before:
        return True
    last = before[-1]
    return (last.kind not in ("word", "string") or last.text in _KEYWORDS) and last.text not in _CLOSE


def _hide(token: Token) -> Token:
    return Token(token.text, token.kind, token.start, token.end, token.line, hidden=True)


def _spelled(text: str) -> str:
    """A string with the usual quotes."""
    if text.endswith("'") and not text.endswith("'''") and '"' not in text:
        return text.replace("'", '"')
    return text


def _lines(tokens: list[Token]) -> Iterator[list[Token]]:
    """The logical lines of Python."""
    begin = 0
    for index in range(1, len(tokens) + 1):
        if index == len(tokens) or tokens[index].line != tokens[begin].line:
            yield tokens[begin:index]
            begin = index


def _column(text: str, at: int) -> int:
    return at - text.rfind("\n", 0, at) - 1


def _python_names(text: str, tokens: list[Token]) -> list[tuple[str, int, int]]:
    """Functions and classes, and the variables outside of functions, of Python or Cython."""
    found: list[tuple[str, int, int]] = []
    blocks: list[tuple[int, str, int, bool]] = []  # column, name, start, whether it is a function
    end = 0
    for line in _lines(tokens):
        column = _column(text, line[0].start)
        while blocks and column <= blocks[-1][0]:
            _, name, start, _ = blocks.pop()
            found.append((name, start, end))
        end = line[-1].end
        defined = _defined(line)
        if defined is None:
            continue
        name, kind = defined
        name = f"{blocks[-1][1]}.{name}" if blocks else name
        if kind != "variable":
            blocks.append((column, name, line[0].start, kind == "function"))
        elif not any(is_function for _, _, _, is_function in blocks):
            found.append((name, line[0].start, end))
    found += [(name, start, end) for _, name, start, _ in blocks]
    return found


def _defined(line: list[Token]) -> tuple[str, str] | None:
    """The name that a logical line defines, and what it is."""
    words = [token.text for token in line]
    native = words[0] in ("cdef", "cpdef")
    head = words[1:] if native or words[0] == "async" else words
    if "extern" in head[:1]:
        return None
    if head[:1] == ["class"] and len(head) > 1:
        return head[1], "class"
    if words[-1] == ":" and (head[:1] == ["def"] or native):
        called = [index for index, word in enumerate(head) if word == "("]
        names = [head[index - 1] for index in called if index > 0 and head[index - 1].isidentifier()]
        return (names[0], "function") if names else None
    if len(words) > 1 and line[0].kind == "word" and words[0].isidentifier() and words[1] in ("=", ":") and not native:
        return (words[0], "variable") if words[0] not in ("else", "try", "finally", "except") else None
    if native and "=" in head and head[head.index("=") - 1].isidentifier():
        return head[head.index("=") - 1], "variable"
    return None


def _c_names(tokens: list[Token]) -> list[tuple[str, int, int]]:
    """The functions that a C file defines, and its macros are none."""
    found: list[tuple[str, int, int]] = []
    begin = index = 0
    while index < len(tokens):
        text = tokens[index].text
        if text == "{":
            end = _closing(tokens, index)
            name = _c_function(tokens[begin:index])
            if name is not None:
                found.append((name, tokens[begin].start, tokens[end].end))
            linkage = tokens[index - 1].kind == "string" if index else False  # extern "C" {
            index = index if linkage else end
            begin = index + 1
        elif text in (";", "}") or tokens[index].kind == "directive":
            begin = index + 1
        index += 1
    return found


def _c_function(head: list[Token]) -> str | None:
    """The name of the function whose definition these tokens begin."""
    for index in range(len(head) - 1, 0, -1):
        if head[index].text == "(" and _closing(head, index) == len(head) - 1 and head[index - 1].kind == "word":
            return head[index - 1].text
    return None


def _closing(tokens: list[Token], index: int) -> int:
    """The bracket that closes the one at `index`."""
    depth = 0
    for here in range(index, len(tokens)):
        depth += (tokens[here].text in _OPEN) - (tokens[here].text in _CLOSE)
        if depth == 0:
            return here
    return len(tokens) - 1


def _python_statement(match: Match) -> Match:
    tokens, first = match.source.tokens, match.first
    line = tokens[first].line
    if first > 0 and tokens[first - 1].line == line:
        raise StaleError(f"no statement begins here: {match.source.text[match.start : match.end]}")
    last = first
    while last + 1 < len(tokens) and tokens[last + 1].line == line:
        last += 1
    if tokens[last].text == ":":
        column = _column(match.source.text, match.start)
        while last + 1 < len(tokens):
            following = tokens[last + 1]
            begins = following.line != tokens[last].line
            if begins and _column(match.source.text, following.start) <= column:
                branches = following.text in ("elif", "else", "except", "finally")
                if branches and _column(match.source.text, following.start) == column:
                    raise StaleError(f"the statement has another branch: {match.source.text[match.start : match.end]}")
                break
            last += 1
    return Match(match.source, first, last, match.gaps, balanced=True)


def _c_statement(match: Match) -> Match:
    tokens, first = match.source.tokens, match.first
    last = first
    while last + 1 < len(tokens) and tokens[last].text not in (";", "{"):
        last = _closing(tokens, last) if tokens[last].text in ("(", "[") else last
        last += 1
    if tokens[last].text == "{":
        last = _closing(tokens, last)
        if last + 1 < len(tokens) and tokens[last + 1].text == "else":
            raise StaleError(f"the statement has another branch: {match.source.text[match.start : match.end]}")
    return Match(match.source, first, last, match.gaps, balanced=True)
