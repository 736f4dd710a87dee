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

Why the names below are looked up when they are used: as in pydantic itself, a program that only wants the version, or
one tool of many, does not wait for the rest.
"""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zeroslot._core.binding import Lease, Loan, Slot, SlotLease
    from zeroslot.endpoints.allocator import SegmentSize, SlotAllocator
    from zeroslot.endpoints.publisher import Publisher
    from zeroslot.endpoints.reader import SlotReader
    from zeroslot.endpoints.subscriber import Subscriber
    from zeroslot.errors import (
        BackpressureError,
        ClosedError,
        CorruptSegmentError,
        DeclarationError,
        EvictedError,
        ForkedHandleError,
        FormatError,
        MismatchError,
        NoFreeSlotError,
        OutOfSharedMemoryError,
        OwnerGoneError,
        QosMismatchError,
        SampleTooLargeError,
        TooManyLeasesError,
        TooManyPeersError,
        TopicNameError,
        TopicNotFoundError,
        TypeMismatchError,
        ZeroslotError,
    )
    from zeroslot.memory.cleanup import Remains, clean
    from zeroslot.observe.introspection import inspect, topics
    from zeroslot.types.fields import F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, Bool, MaxBytes, MaxLen, Shape
    from zeroslot.types.sample import Layout, Sample, layout_of

__all__ = [
    "F16",
    "F32",
    "F64",
    "I8",
    "I16",
    "I32",
    "I64",
    "U8",
    "U16",
    "U32",
    "U64",
    "BackpressureError",
    "Bool",
    "ClosedError",
    "CorruptSegmentError",
    "DeclarationError",
    "EvictedError",
    "ForkedHandleError",
    "FormatError",
    "Layout",
    "Lease",
    "Loan",
    "MaxBytes",
    "MaxLen",
    "MismatchError",
    "NoFreeSlotError",
    "OutOfSharedMemoryError",
    "OwnerGoneError",
    "Publisher",
    "QosMismatchError",
    "Remains",
    "Sample",
    "SampleTooLargeError",
    "SegmentSize",
    "Shape",
    "Slot",
    "SlotAllocator",
    "SlotLease",
    "SlotReader",
    "Subscriber",
    "TooManyLeasesError",
    "TooManyPeersError",
    "TopicNameError",
    "TopicNotFoundError",
    "TypeMismatchError",
    "ZeroslotError",
    "clean",
    "inspect",
    "layout_of",
    "topics",
]

_HOME = {
    "_core.binding": "Lease Loan Slot SlotLease",
    "endpoints.allocator": "SegmentSize SlotAllocator",
    "memory.cleanup": "Remains clean",
    "errors": (
        "BackpressureError ClosedError CorruptSegmentError DeclarationError EvictedError ForkedHandleError "
        "FormatError MismatchError NoFreeSlotError OutOfSharedMemoryError OwnerGoneError QosMismatchError "
        "SampleTooLargeError TooManyLeasesError TooManyPeersError TopicNameError TopicNotFoundError "
        "TypeMismatchError ZeroslotError"
    ),
    "types.fields": "F16 F32 F64 I8 I16 I32 I64 U8 U16 U32 U64 Bool MaxBytes MaxLen Shape",
    "observe.introspection": "inspect topics",
    "endpoints.publisher": "Publisher",
    "endpoints.reader": "SlotReader",
    "types.sample": "Layout Sample layout_of",
    "endpoints.subscriber": "Subscriber",
}
_MODULE_OF = {name: f"zeroslot.{module}" for module, names in _HOME.items() for name in names.split()}

logging.getLogger("zeroslot").addHandler(logging.NullHandler())


def _finish_loading() -> None:
    """Before a fork: a thread in the middle of an import of ours holds a lock that the child would wait on for ever."""
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
    return sorted({*globals(), *__all__})
