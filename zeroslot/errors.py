"""Every exception that zeroslot raises.

Why facts are attributes: a program that reacts to an error must not parse its text. Every class declares the facts it
may carry. A fact that is not known where the error is raised is None (or empty); one that is not declared is a
TypeError.

Why one constructor for all: `SomeError("what, where, what to do", size=9, capacity=8)` is pickled, copied and sent
between processes by the same few lines, also where a builtin base such as OSError has a constructor of its own.

Why each class has a builtin base: code that knows nothing of zeroslot (`except TimeoutError`, `except OSError`) does
what its author meant.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zeroslot.info import SubscriberInfo, WaitingInfo


class ZeroslotError(Exception):
    """Base of all exceptions that zeroslot defines. The text says what, where, and what to do."""

    def __init__(self, message: str = "", /, **facts: Any) -> None:
        super().__init__(message)
        declared = declared_facts(type(self))
        for name, value in facts.items():
            if name not in declared:
                raise TypeError(f"{type(self).__name__} declares no fact {name!r}, only {sorted(declared)}")
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self),), dict(self.__dict__)


def declared_facts(error_type: type[ZeroslotError]) -> set[str]:
    """The names of the facts that an error of this class may carry."""
    kinds = [kind for kind in error_type.__mro__ if issubclass(kind, ZeroslotError)]
    return {name for kind in kinds for name in vars(kind) if not name.startswith("_")}


class DeclarationError(ZeroslotError, TypeError):
    """A sample type that cannot be laid out in memory, found where the class is defined."""

    type_name: str | None = None
    field: str | None = None


class TopicNameError(ZeroslotError, ValueError):
    """A topic or domain name that the file tree cannot carry."""

    topic: str | None = None


class TopicNotFoundError(ZeroslotError, LookupError):
    """This topic has no publisher in this domain."""

    topic: str | None = None
    domain: str | None = None
    flink: str | None = None


class MismatchError(ZeroslotError, ValueError):
    """The two sides do not fit each other. Neither is damaged."""

    topic: str | None = None


class TypeMismatchError(MismatchError):
    """The topic carries another sample type. The segment itself is healthy. `unreadable`: the fields of this side that
    cannot be read by name, such as `pose.x`; `here_module`: where this side declares its type.
    """

    publisher_type: str | None = None
    publisher_hash: bytes | None = None
    publisher_name: str | None = None
    publisher_pid: int | None = None
    publisher_command: str | None = None
    here_type: str | None = None
    here_module: str | None = None
    here_hash: bytes | None = None
    difference: str = ""
    unreadable: tuple[str, ...] = ()


class QosMismatchError(MismatchError):
    """The subscriber requests more than the publisher offers."""

    setting: str | None = None
    requested: Any = None
    offered: Any = None


class FormatError(MismatchError):
    """Bytes or a schema in a format that this version cannot read. `where`: a topic, a flink, or an object's name."""

    where: str | None = None
    found: Any = None
    expected: Any = None


class NoFreeSlotError(ZeroslotError, RuntimeError):
    """Every slot is loaned, leased, or holds one of the newest `depth` samples. `holders`: the subscribers that hold
    slots. `published`: how many samples of a `publish_many` were.
    """

    topic: str | None = None
    slot_count: int | None = None
    loaned: int | None = None
    leased: int | None = None
    holders: tuple[SubscriberInfo, ...] = ()
    timeout: float | None = None
    published: int | None = None


class SampleTooLargeError(ZeroslotError, ValueError):
    """The sample does not fit into a slot, or is larger than the publisher's `max_bytes`.

    `size`: its bytes. `capacity`: the bytes of the slot, of the largest slots, or `max_bytes`. `capacities`: where no
    slot may take it, the bytes of a slot of each size class. `total_bytes`: those of the whole segment, where it
    cannot grow.
    """

    topic: str | None = None
    size: int | None = None
    capacity: int | None = None
    capacities: tuple[int, ...] = ()
    total_bytes: int | None = None


class BackpressureError(ZeroslotError, TimeoutError):
    """A reliable subscriber has not yet taken the samples that the next one would push out. `holders`: that
    subscriber. `waiting`: in its place, those that were there before the publisher and have not joined. `published`:
    how many samples of a `publish_many` were.
    """

    topic: str | None = None
    holders: tuple[SubscriberInfo, ...] = ()
    waiting: tuple[WaitingInfo, ...] = ()
    timeout: float | None = None
    published: int | None = None


class TooManyPeersError(ZeroslotError, RuntimeError):
    """The segment has no room for another subscriber. `peers`: those that it has."""

    topic: str | None = None
    max_subscribers: int | None = None
    peers: tuple[SubscriberInfo, ...] = ()


class TooManyLeasesError(ZeroslotError, RuntimeError):
    """This subscriber already holds `max_leases` samples."""

    topic: str | None = None
    held: int | None = None
    max_leases: int | None = None


class SampleGoneError(ZeroslotError, LookupError):
    """The sample of a ticket can no longer be leased. `newest`: the newest sequence. `owner_gone`: its publisher has
    ended, and its memory is removed.
    """

    topic: str | None = None
    publisher_id: str | None = None
    sequence: int | None = None
    newest: int | None = None
    owner_gone: bool | None = None


class OutOfSharedMemoryError(ZeroslotError, OSError):
    """Shared memory has no room for this segment, at its creation or when it is to grow. All memory of a segment is
    reserved then, so nothing else raises it.
    """

    topic: str | None = None
    needed_bytes: int | None = None
    free_bytes: int | None = None

    def __init__(self, message: str = "", /, **facts: Any) -> None:
        super().__init__(message, **facts)
        # Fills errno and strerror, which the form with one argument leaves None.
        OSError.__init__(self, errno.ENOSPC, message)

    def __str__(self) -> str:
        return str(self.strerror)


class ClosedError(ZeroslotError, ValueError):
    """The handle was closed, committed, discarded or released, and can no longer be used."""

    topic: str | None = None


class EvictedError(ZeroslotError, RuntimeError):
    """The publisher has evicted this subscriber, which stalled for longer than `evict_after`. It may join again."""

    topic: str | None = None


class OwnerGoneError(ZeroslotError, ConnectionError):
    """The process that owned the segment has died or closed it."""

    topic: str | None = None
    owner_pid: int | None = None


class ForkedHandleError(ZeroslotError, RuntimeError):
    """The handle belongs to the parent process; a forked child opens its own."""

    topic: str | None = None
    owner_pid: int | None = None


class CorruptSegmentError(ZeroslotError, RuntimeError):
    """Shared memory holds a value that no correct peer writes. Nothing was read through it. `where`: a topic, a flink,
    or an object's name.
    """

    where: str | None = None
    topic: str | None = None
    flink: str | None = None
    field: str | None = None
    offset: int | None = None
    found: Any = None
    expected: Any = None
