"""The types of the publishers of a topic: what each has stored, and the error for one that does not fit this side.

Why the text names processes: two programs rarely have the type of one name from one file, and the first question is
which of them is the old one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zeroslot.errors import CorruptSegmentError, TypeMismatchError
from zeroslot.memory.peers import describe_publisher
from zeroslot.memory.processes import command_of
from zeroslot.types import whole
from zeroslot.types.difference import difference
from zeroslot.types.schema import unpack_schema

if TYPE_CHECKING:
    from zeroslot._core.binding import Segment, SegmentInfo
    from zeroslot.types.by_name import ByName
    from zeroslot.types.layout import Layout


def published_layout(segment: Segment, topic: str) -> Layout:
    """The layout of a publisher's samples, from the schema in its segment.

    Raises CorruptSegmentError, also where the schema is not that of the type hash, and FormatError.
    """
    layout = unpack_schema(segment.schema(), topic)
    info = segment.info
    if layout.type_hash != info.type_hash:
        raise CorruptSegmentError(
            f"{topic}: the schema and the type hash contradict each other",
            where=topic,
            topic=topic,
            found=info.type_hash,
            expected=layout.type_hash,
        )
    return layout


def untyped_publisher(topic: str, info: SegmentInfo, here: type[Any] | None, advice: str) -> TypeMismatchError:
    """The error for a publisher of bytes without a type, where samples of `here` (None: of any type) are wanted; the
    caller raises it. `advice`: what to do.
    """
    return TypeMismatchError(
        f"{topic} carries bytes without a type, of {describe_publisher(info)}. {advice}",
        topic=topic,
        publisher_name=info.owner_name,
        publisher_pid=info.owner_pid,
        here_type=None if here is None else here.__name__,
        here_hash=None if here is None else whole.compiled_type(here).layout.type_hash,
    )


def type_mismatch(
    topic: str, info: SegmentInfo, published: Layout, here: Layout, by_name: ByName, advice: str
) -> TypeMismatchError:
    """The error for a publisher whose samples are not those of `here`, a type of this process; the caller raises it.

    `advice`: what to do.
    """
    lines = difference(published, here)
    if published.whole != here.whole:
        lines = "  one of them is a whole array or bytes, the other has fields"
    module = here.sample_type.__module__ if here.sample_type is not None and not here.whole else ""
    summary = f"{module}.{_summary(here)}" if module else _summary(here)
    return TypeMismatchError(
        f"{topic} carries {_summary(published)} of {describe_publisher(info)}, not {summary} of this "
        f"process:\n{lines}\n{advice}",
        topic=topic,
        publisher_type=published.name,
        publisher_hash=published.type_hash,
        publisher_name=info.owner_name,
        publisher_pid=info.owner_pid,
        publisher_command=command_of(info.owner_pid, info.owner_start_time),
        here_type=here.name,
        here_module=module,
        here_hash=here.type_hash,
        difference=lines,
        unreadable=tuple(by_name.unreadable),
    )


def _summary(layout: Layout) -> str:
    count = len(layout.members)
    if layout.whole:
        return f"{layout.name} ({layout.type_hash.hex()[:4]}…)"
    return f"{layout.name} ({count} field{'s' * (count != 1)}, {layout.type_hash.hex()[:4]}…)"
