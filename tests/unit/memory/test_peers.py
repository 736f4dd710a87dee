"""The records of publishers and subscribers."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from zeroslot import SlotAllocator, SlotReader
from zeroslot.memory import peers, processes


@pytest.mark.row("PEER-1", "PEER-7")
def test_a_peer_entry_describes_its_process(slots: SlotAllocator, path: Path) -> None:
    """Its pid, start time and name, its options and its counters."""
    with SlotReader.attach(path, name="käfer", max_leases=3) as reader:
        for i in range(5):
            slots.commit(slots.reserve(), struct.pack("<I", i))
        lease = reader.take()
        entry = slots.native.segment.peer(0)
        assert (entry.pid, entry.start_time) == (os.getpid(), processes.start_time_of(os.getpid()))
        assert (entry.name, entry.max_leases, entry.reliable) == ("käfer", 3, False)
        assert (entry.cursor, entry.taken, entry.lost, entry.leases) == (4, 1, 3, 1)
        assert "käfer (pid" in peers.describe(peers.subscriber_info(slots.native.segment, 0))
        assert len(slots.native.segment.held_by(0)) == 1
        lease.release()
        assert slots.native.segment.held_by(0) == []
