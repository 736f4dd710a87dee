"""Zero-copy publish/subscribe between processes on one host, over shared memory.

Declare, publish, subscribe:

    import zeroslot as zs

    class Imu(zs.Sample):
        stamp_ns: zs.U64
        accel: Annotated[NDArray[np.float64], zs.Shape(3)]

    with zs.Publisher("robot/imu", Imu) as pub, pub.loan() as imu:
        imu.stamp_ns = time.monotonic_ns()

    with zs.Subscriber("robot/imu", Imu) as sub:
        for lease in sub:
            print(lease.sequence, lease.sample.accel)

Why names are imported at their first use: a program that needs only the version, or one of the classes, does not wait
for the rest. pydantic does the same.

Why the names stand here twice: type checkers need import statements, and cannot read a table. A test compares the two.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401  # registers fork hooks, which must not happen inside the hook below
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import zeroslot._core  # noqa: F401  # raises where the binding is not there, at the import and not at the first use

if TYPE_CHECKING:
    from zeroslot._core.binding import Batch as Batch
    from zeroslot._core.binding import Lease as Lease
    from zeroslot._core.binding import Loan as Loan
    from zeroslot._core.binding import Loans as Loans
    from zeroslot._core.binding import Metadata as Metadata
    from zeroslot._core.binding import Slot as Slot
    from zeroslot._core.binding import SlotLease as SlotLease
    from zeroslot._core.binding import Ticket as Ticket
    from zeroslot._core.binding import View as View
    from zeroslot.endpoints.allocator import SegmentSize as SegmentSize
    from zeroslot.endpoints.allocator import SlotAllocator as SlotAllocator
    from zeroslot.endpoints.callbacks import SampleCallback as SampleCallback
    from zeroslot.endpoints.publisher import Publisher as Publisher
    from zeroslot.endpoints.publisher import PublisherStats as PublisherStats
    from zeroslot.endpoints.reader import SlotReader as SlotReader
    from zeroslot.endpoints.redeeming import redeem as redeem
    from zeroslot.endpoints.subscriber import Subscriber as Subscriber
    from zeroslot.endpoints.subscriber import SubscriberStats as SubscriberStats
    from zeroslot.endpoints.waiting import wait as wait
    from zeroslot.endpoints.waitset import Deadline as Deadline
    from zeroslot.endpoints.waitset import Timer as Timer
    from zeroslot.endpoints.waitset import UserEvent as UserEvent
    from zeroslot.endpoints.waitset import WaitSet as WaitSet
    from zeroslot.errors import BackpressureError as BackpressureError
    from zeroslot.errors import ClosedError as ClosedError
    from zeroslot.errors import CorruptSegmentError as CorruptSegmentError
    from zeroslot.errors import DeclarationError as DeclarationError
    from zeroslot.errors import EvictedError as EvictedError
    from zeroslot.errors import ForkedHandleError as ForkedHandleError
    from zeroslot.errors import FormatError as FormatError
    from zeroslot.errors import MismatchError as MismatchError
    from zeroslot.errors import NoFreeSlotError as NoFreeSlotError
    from zeroslot.errors import OutOfSharedMemoryError as OutOfSharedMemoryError
    from zeroslot.errors import OwnerGoneError as OwnerGoneError
    from zeroslot.errors import QosMismatchError as QosMismatchError
    from zeroslot.errors import SampleGoneError as SampleGoneError
    from zeroslot.errors import SampleTooLargeError as SampleTooLargeError
    from zeroslot.errors import TooManyLeasesError as TooManyLeasesError
    from zeroslot.errors import TooManyPeersError as TooManyPeersError
    from zeroslot.errors import TopicNameError as TopicNameError
    from zeroslot.errors import TopicNotFoundError as TopicNotFoundError
    from zeroslot.errors import TypeMismatchError as TypeMismatchError
    from zeroslot.errors import ZeroslotError as ZeroslotError
    from zeroslot.info import Finding as Finding
    from zeroslot.info import PoolInfo as PoolInfo
    from zeroslot.info import Problem as Problem
    from zeroslot.info import ProblemKind as ProblemKind
    from zeroslot.info import PublisherInfo as PublisherInfo
    from zeroslot.info import Refusal as Refusal
    from zeroslot.info import RefusedInfo as RefusedInfo
    from zeroslot.info import SampleFacts as SampleFacts
    from zeroslot.info import SubscriberInfo as SubscriberInfo
    from zeroslot.info import TopicInfo as TopicInfo
    from zeroslot.info import Verdict as Verdict
    from zeroslot.info import WaitingInfo as WaitingInfo
    from zeroslot.memory.cleanup import Remains as Remains
    from zeroslot.memory.cleanup import clean as clean
    from zeroslot.observe.doctor import diagnose as diagnose
    from zeroslot.observe.histogram import LatencyHistogram as LatencyHistogram
    from zeroslot.observe.introspection import domains as domains
    from zeroslot.observe.introspection import inspect as inspect
    from zeroslot.observe.introspection import schema_of as schema_of
    from zeroslot.observe.introspection import topics as topics
    from zeroslot.observe.introspection import waiting_subscribers as waiting_subscribers
    from zeroslot.observe.metrics import MetricsCollector as MetricsCollector
    from zeroslot.observe.monitor import Monitor as Monitor
    from zeroslot.observe.monitor import PublisherSnapshot as PublisherSnapshot
    from zeroslot.observe.monitor import Snapshot as Snapshot
    from zeroslot.observe.monitor import SubscriberSnapshot as SubscriberSnapshot
    from zeroslot.qos import OnFull as OnFull
    from zeroslot.types.by_name import Match as Match
    from zeroslot.types.layout import Layout as Layout
    from zeroslot.types.nodes.arrays import Shape as Shape
    from zeroslot.types.nodes.arrays import UpTo as UpTo
    from zeroslot.types.nodes.base import Field as Field
    from zeroslot.types.nodes.lists import MaxLen as MaxLen
    from zeroslot.types.nodes.scalars import F16 as F16
    from zeroslot.types.nodes.scalars import F32 as F32
    from zeroslot.types.nodes.scalars import F64 as F64
    from zeroslot.types.nodes.scalars import I8 as I8
    from zeroslot.types.nodes.scalars import I16 as I16
    from zeroslot.types.nodes.scalars import I32 as I32
    from zeroslot.types.nodes.scalars import I64 as I64
    from zeroslot.types.nodes.scalars import U8 as U8
    from zeroslot.types.nodes.scalars import U16 as U16
    from zeroslot.types.nodes.scalars import U32 as U32
    from zeroslot.types.nodes.scalars import U64 as U64
    from zeroslot.types.nodes.scalars import Bool as Bool
    from zeroslot.types.nodes.text import MaxBytes as MaxBytes
    from zeroslot.types.sample import Sample as Sample
    from zeroslot.types.sample import layout_of as layout_of
    from zeroslot.types.view import buffer as buffer
    from zeroslot.types.view import resize as resize
    from zeroslot.types.whole import type_from_schema as type_from_schema

_HOME = {
    "errors": (
        "BackpressureError ClosedError CorruptSegmentError DeclarationError EvictedError ForkedHandleError "
        "FormatError MismatchError NoFreeSlotError OutOfSharedMemoryError OwnerGoneError QosMismatchError "
        "SampleGoneError SampleTooLargeError TooManyLeasesError TooManyPeersError TopicNameError TopicNotFoundError "
        "TypeMismatchError ZeroslotError"
    ),
    "qos": "OnFull",
    "info": (
        "Finding PoolInfo Problem ProblemKind PublisherInfo Refusal RefusedInfo SampleFacts SubscriberInfo TopicInfo "
        "Verdict WaitingInfo"
    ),
    "_core.binding": "Batch Lease Loan Loans Metadata Slot SlotLease Ticket View",
    "types.nodes.base": "Field",
    "types.nodes.scalars": "F16 F32 F64 I8 I16 I32 I64 U8 U16 U32 U64 Bool",
    "types.nodes.arrays": "Shape UpTo",
    "types.nodes.text": "MaxBytes",
    "types.nodes.lists": "MaxLen",
    "types.layout": "Layout",
    "types.by_name": "Match",
    "types.sample": "Sample layout_of",
    "types.view": "buffer resize",
    "types.whole": "type_from_schema",
    "memory.cleanup": "Remains clean",
    "endpoints.allocator": "SegmentSize SlotAllocator",
    "endpoints.reader": "SlotReader",
    "endpoints.publisher": "Publisher PublisherStats",
    "endpoints.redeeming": "redeem",
    "endpoints.callbacks": "SampleCallback",
    "endpoints.subscriber": "Subscriber SubscriberStats",
    "observe.doctor": "diagnose",
    "observe.histogram": "LatencyHistogram",
    "observe.introspection": "domains inspect schema_of topics waiting_subscribers",
    "observe.metrics": "MetricsCollector",
    "observe.monitor": "Monitor PublisherSnapshot Snapshot SubscriberSnapshot",
    "endpoints.waiting": "wait",
    "endpoints.waitset": "Deadline Timer UserEvent WaitSet",
}
_MODULE_OF = {name: f"zeroslot.{module}" for module, names in _HOME.items() for name in names.split()}
__all__ = sorted(_MODULE_OF)  # noqa: PLE0605  # from the table; checkers see the imports


def _finish_loading() -> None:
    """Before a fork: finish all imports of the package. A thread in the middle of one holds a lock, and the child would
    wait for that lock for ever.
    """
    if any(module in sys.modules for module in _MODULE_OF.values()):
        for module in set(_MODULE_OF.values()):
            import_module(module)


os.register_at_fork(before=_finish_loading)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("zeroslot")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'zeroslot' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
