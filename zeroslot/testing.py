"""For tests of programs that use zeroslot: how they meet the death of a publisher, without killing a process."""

from __future__ import annotations

from typing import Any

from zeroslot.endpoints.allocator import SlotAllocator
from zeroslot.endpoints.publisher import Publisher


def abandon(handle: Publisher[Any] | SlotAllocator) -> None:
    """Drop the lock of a publisher or an allocator and do nothing else, as the kernel does after kill -9.

    Its flink and its shared memory stay until the next publisher of the topic removes them. The handle is closed.
    """
    if isinstance(handle, Publisher):
        handle._abandon()
    else:
        handle.abandon()
