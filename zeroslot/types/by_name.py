"""Two versions of a sample type: reading the memory of one as the other, by the names of the fields.

`ByName` compares the layout of a publisher with the one of this side and gives a third: the fields of this side that
the publisher has, at the publisher's offsets. View classes, codecs and dtypes are made of it as of any other layout.

Why only what cannot fail is read: a value that fits today and not tomorrow would end a subscriber in the middle of its
work. So each value that the publisher's declaration allows has to be a value of this side's: a U16 is read as U32, an
enum as one with more enumerators. Everything else is a mismatch when the two meet, before the first sample.

Why samples are compared here and all else by its node (`Node.reading`): which fields may be missing depends on the
defaults of the class, and nodes know no classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from zeroslot.arguments import checked_choice
from zeroslot.types.layout import Layout
from zeroslot.types.model import attribute_names
from zeroslot.types.nodes.base import Field, Node

Match = Literal["exact", "by_name"]


def checked_match(match: Match) -> Match:
    """`match`, or ValueError."""
    checked_choice("match", match, "exact", "by_name")
    return match


def checked_missing(missing: str, match: Match) -> bool:
    """Whether fields that the publisher lacks are left out. ValueError for a choice that makes no sense."""
    checked_choice("missing", missing, "error", "ignore")
    if missing == "ignore" and match == "exact":
        raise ValueError('missing="ignore" is for match="by_name": with match="exact" no field is missing')
    return missing == "ignore"


@dataclass(frozen=True, eq=False, repr=False)
class SharedLayout(Layout):
    """What this side reads of the samples of another version: members in the order of this side, at the offsets of
    `published`, and with its size.
    """

    published: Layout = field(kw_only=True)

    @property
    def size(self) -> int:
        """That of the published samples."""
        return self.published.size

    @property
    def alignment(self) -> int:
        """That of the published samples."""
        return self.published.alignment


class ByName:
    """How samples of the layout `published` are read as samples of `here`.

    `missing`: the fields of `here`, such as `pose.x` or `points[].x`, that the publisher lacks and that have no
    default. `unreadable`: those that cannot be read, because they are missing (unless `ignore_missing`), or because the
    publisher has them in a way that is not safe to read. `layout` is for use only where `readable`.
    `shares_names`: whether any field of one has the name of one of the other; whole arrays and bytes have no fields.
    """

    def __init__(self, published: Layout, here: Layout, *, ignore_missing: bool = False) -> None:
        self.unreadable: list[str] = []
        self.missing: list[str] = []
        names = {each.name for each in published.members} & {each.name for each in here.members}
        self.shares_names = bool(names) and not published.whole and not here.whole
        self._ignore_missing = ignore_missing
        self.layout = self._shared_layout(published, here, "")

    @property
    def readable(self) -> bool:
        """Whether the two share a field, and each other field of this side has a default."""
        return not self.unreadable and bool(self.layout.members)

    def _shared_layout(self, published: Layout, here: Layout, prefix: str) -> SharedLayout:
        same_form = published.whole == here.whole  # else one has no fields that a program can name
        published_fields = {each.name: each for each in published.members if same_form}
        required = _required(here)
        members: list[Field] = []
        for each in here.members:
            path = prefix + each.name
            other = published_fields.get(each.name)
            if other is not None:
                node = self._reading(other.node, each.node, path)
                if node is not None:
                    members.append(Field(each.name, other.offset, node))
            elif each.name in required:
                self.missing.append(path)
                if not self._ignore_missing:
                    self.unreadable.append(path)
        return SharedLayout(here.name, tuple(members), here.sample_type, published=published)

    def _reading(self, published: Node, here: Node, path: str) -> Node | None:
        """The node that reads `published` as `here`. None: there is none, and `unreadable` has it."""
        if published == here:
            return here
        known = len(self.unreadable)
        if isinstance(published, Layout) and isinstance(here, Layout):
            shared = self._shared_layout(published, here, f"{path}.")
            if shared.members:
                return shared
            found = None
        else:
            found = here.reading(published, lambda one, other, suffix="": self._reading(one, other, path + suffix))
        if found is None and len(self.unreadable) == known:
            self.unreadable.append(path)
        return found


def _required(layout: Layout) -> set[str]:
    """The names of the fields without a default: all of them where only the layout is known."""
    if layout.sample_type is None:
        return {each.name for each in layout.members}
    fields = layout.sample_type.__pydantic_fields__
    return {name for name, attribute in attribute_names(layout.sample_type).items() if fields[attribute].is_required()}
