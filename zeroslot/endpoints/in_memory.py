"""`MemoryTopic`: a topic whose publishers and subscribers are in one process, for tests and examples.

They are the ones that programs use, with the same memory, rules and errors. What differs is how they find each other:
by the topic object, and not by files. So nothing appears in /dev/shm, and no other process sees them.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self

from zeroslot._core.binding import Region, Word
from zeroslot.endpoints.allocator import SlotAllocator
from zeroslot.endpoints.following import S_co
from zeroslot.endpoints.publisher import Publisher, S
from zeroslot.endpoints.subscriber import Subscriber
from zeroslot.memory import create
from zeroslot.memory.attach import AttachedControl, attach_own
from zeroslot.memory.bell import Bell
from zeroslot.memory.directories import checked_topic
from zeroslot.memory.objects import replace_descriptor

if TYPE_CHECKING:
    from zeroslot.endpoints.publisher import SegmentRequest
    from zeroslot.memory.create import OwnedSegment
    from zeroslot.types.by_name import Match
    from zeroslot.types.layout import Layout

WORD_BYTES = 4


class MemoryTopic(Generic[S]):
    """A topic of this process alone. A context manager; the end of the block closes all that it has made.

    `sample_type` is that of its publishers and subscribers, and `topic` the name that they show.

    >>> with MemoryTopic(Imu) as topic:
    ...     pub, sub = topic.publisher(), topic.subscriber()
    ...     pub.publish(Imu(stamp_ns=7))
    ...     assert sub.take().sample.stamp_ns == 7
    """

    def __init__(self, sample_type: type[S], topic: str = "memory") -> None:
        self.sample_type = sample_type
        self.topic = checked_topic(topic)
        self._bell = _MemoryBell(Path(topic))
        self._segments: dict[str, OwnedSegment] = {}
        self._handles: list[Publisher[S] | Subscriber[S]] = []

    def publisher(self, *, first_sequence: int = 1, **options: Any) -> Publisher[S]:
        """A publisher with the options of `Publisher`, whose samples are counted from `first_sequence`. Options that
        tell where it is (domain, mode) have no effect.
        """
        made = _MemoryPublisher(self, first_sequence, options)
        self._handles.append(made)
        return made

    def subscriber(self, **options: Any) -> Subscriber[S]:
        """A subscriber with the options of `Subscriber`. It follows all publishers of this object."""
        made = _MemorySubscriber(self, options)
        self._handles.append(made)
        return made

    def close(self) -> None:
        """Close all publishers and subscribers. Leases stay good."""
        while self._handles:
            self._handles.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<MemoryTopic {self.topic} of {self.sample_type.__name__}, {len(self._segments)} publishers>"


class _MemoryBell(Bell):
    """A bell without a file."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        descriptor = replace_descriptor(os.memfd_create("zeroslot-bell"))
        os.ftruncate(descriptor.fileno(), WORD_BYTES)
        self.word = Word(Region(descriptor, WORD_BYTES, True), 0)

    def ring(self) -> None:
        self.word.bump()

    def leave(self) -> None:
        """There is no file to remove."""


class _MemoryPublisher(Publisher[S]):
    def __init__(self, topic: MemoryTopic[S], first_sequence: int, options: dict[str, Any]) -> None:
        self._memory = topic
        self._first_sequence = first_sequence
        self._id = ""
        super().__init__(topic.topic, topic.sample_type, **options)

    def _join_bell(self) -> Bell:
        return self._memory._bell

    def _create(
        self,
        layout: Layout,  # noqa: ARG002  # all publishers of the topic have it
        match: Match,  # noqa: ARG002  # as layout
        request: SegmentRequest,
    ) -> SlotAllocator:
        contents = replace(request.contents, first_sequence=self._first_sequence)
        owned = create.create_in_memory(request.qos, request.slot_capacity, contents)
        self._id = f"{owned.segment.info.segment_id:016x}"
        self._memory._segments[self._id] = owned
        return SlotAllocator(owned, request.qos, request.max_loans, None, self.topic)

    def _meet_topic(self, layout: Layout, match: Match) -> None:
        """All publishers of the topic have its type, and its subscribers are not announced."""

    @property
    def publisher_id(self) -> str:
        return self._id

    def _end(self) -> None:
        self._memory._segments.pop(self._id, None)
        super()._end()

    def _abandon(self) -> None:
        self._memory._segments.pop(self._id, None)
        super()._abandon()


class _MemorySubscriber(Subscriber[S_co]):
    def __init__(self, topic: MemoryTopic[S_co], options: dict[str, Any]) -> None:
        self._memory = topic
        super().__init__(topic.topic, topic.sample_type, **options)

    def _join_bell(self) -> Bell:
        return self._memory._bell

    def _announce(self) -> None:
        """It has no directory, and its publishers need not be told."""

    def _flinks(self) -> dict[str, Path]:
        return {publisher_id: Path(publisher_id) for publisher_id in self._memory._segments}

    def _map(self, path: Path) -> AttachedControl | None:
        owned = self._memory._segments.get(path.name)
        return attach_own(owned) if owned is not None else None
