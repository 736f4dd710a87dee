"""For tests of programs that use zeroslot: death in one process, without killing one."""

from __future__ import annotations

from typing import Any

from zeroslot.endpoints.allocator import SlotAllocator
from zeroslot.endpoints.publisher import Publisher


def abandon(handle: Publisher[Any] | SlotAllocator) -> None:
    """Let a publisher or an allocator go as a killed process goes: its lock falls, and nothing else happens.

    Its flink and its shared memory stay for the next publisher of the topic to remove, as after kill -9. The handle is
    closed.
    """
    if isinstance(handle, Publisher):
        handle._abandon()
    else:
        handle.abandon()
