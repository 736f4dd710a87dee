"""Locks of the processes of a segment, for tests."""

from __future__ import annotations

import os
from pathlib import Path

from tests.unit.control_bytes import ControlBytes
from zeroslot import SlotReader
from zeroslot._core.binding import Descriptor


def open_probe(path: Path) -> Descriptor:
    """A description of the control object that holds no lock. `path`: the flink."""
    return Descriptor.open(str(ControlBytes(path).path), os.O_RDWR)


def drop_lock(reader: SlotReader) -> None:
    """Do what the kernel does when a reader is killed: its lock falls, and nothing else happens."""
    reader._attached.descriptor.close()
