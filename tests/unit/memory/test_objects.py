"""Shared-memory objects: what is opened, and what is refused."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from tests.unit.control_bytes import ControlBytes
from zeroslot import (
    CorruptSegmentError,
    SlotAllocator,
)
from zeroslot.memory import objects
from zeroslot.memory.attach import attach_control


@pytest.mark.row("SEC-4")
@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("what", ["directory", "fifo", "symlink", "socket", "device"])
def test_a_file_of_another_kind_is_refused_without_waiting(path: Path, what: str, read_only: bool) -> None:
    """With an error that names the object. A cleaner treats it as missing."""
    name = "/zs-00000000000000ab"
    place = Path(f"/dev/shm{name}")
    with SlotAllocator.create(path, 4, 64):
        if what == "directory":
            place.mkdir()
        elif what == "fifo":
            os.mkfifo(place)
        elif what == "symlink":
            place.symlink_to(ControlBytes(path).path)
        elif what == "device":
            try:
                os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 3))
            except PermissionError:
                pytest.skip("only root makes devices")
        else:
            bound = socket.socket(socket.AF_UNIX)
            bound.bind(str(place))
            bound.close()
        try:
            with pytest.raises((CorruptSegmentError, PermissionError), match=name):
                attach_control(name, "here", read_only=read_only)
            assert objects.open_for_cleaning(name) is None
        finally:
            place.rmdir() if what == "directory" else place.unlink()
