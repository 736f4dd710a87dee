"""np.ndarray and bytes as sample types between processes, and with corrupt bytes: an error, or a right answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from tests.process.actors import Cast
from tests.unit.control_bytes import ControlBytes
from zeroslot import CorruptSegmentError

POINT = np.dtype([("x", "<f4"), ("m", "<i2", (2, 3)), ("n", [("a", "?"), ("t", "<M8[ns]")])])
PUBLISHER = """
import numpy as np
import zeroslot as zs
from tests.fault.test_whole_types import POINT

with zs.Publisher("a", np.ndarray, max_bytes=4096, depth=1) as pub, zs.Publisher("b", bytes, max_bytes=100) as log:
    say([str(pub.flink), str(log.flink)])
    for _ in orders():
        points = np.zeros((3, 2), POINT)
        points["x"] = np.arange(6).reshape(3, 2)
        log.publish(b"line")
        say(pub.publish(points))
"""


@pytest.mark.row("BUF-1", "TYP-11")
def test_arrays_and_bytes_cross_processes_and_corrupt_extents_are_errors(cast: Cast) -> None:
    """Each byte of an extent and of a dtype's description, with two masks: an array within the sample, or an error."""
    publisher = cast(PUBLISHER)
    flinks = publisher.hear()
    with zs.Subscriber("a", np.ndarray) as sub, zs.Subscriber("b", bytes) as lines:
        publisher.ask("go")
        line = lines.take()
        assert line is not None
        assert line.sample == b"line"
        lease = sub.take()
        assert lease is not None
        assert (lease.sample.shape, lease.sample.dtype) == ((3, 2), POINT)
        assert lease.sample["x"].tolist() == [[0, 1], [2, 3], [4, 5]]
        size = lease.size
    refused = 0
    for flink, head, sample_type in ((flinks[0], 420, np.ndarray), (flinks[1], 16, bytes)):
        control, pool = ControlBytes(flink), ControlBytes(flink, pool=0)
        begin = (control.read(control.ring_at(1), "Q") & 0xFFFF) * control.read(control.at("pools"), "Q")
        for at in range(begin, begin + head):
            before = pool.read(at, "B")
            for mask in (0xFF, 0x01):
                pool.write(at, "B", before ^ mask)
                refused += is_refused(sample_type, size)
            pool.write(at, "B", before)
    assert refused > 50


@pytest.mark.row("SEC-4", "BUF-1")
def test_a_changed_description_of_a_dtype_is_an_error() -> None:
    """Also where it still describes a dtype of the same size: the extent has its CRC. A description that this process
    has read before is not read again, so this is one that no other test has.
    """

    class Holder(zs.Sample):
        data: NDArray[Any]

    with zs.Publisher("a", Holder, max_bytes=4096) as pub, zs.Subscriber("a", Holder) as sub:
        pub.send(data=np.ones(3, [("alone", "<f4"), ("here", "<i4")]))
        pool = ControlBytes(pub.flink, pool=0)
        at = pool.path.read_bytes().find(b'["alone","<f4",0]')
        assert at > 0
        pool.write_bytes(at, b'["other","<f4",0]')
        lease = sub.take()
        assert lease is not None
        with pytest.raises(CorruptSegmentError, match="description was changed"):
            lease.sample.data  # noqa: B018  # the access raises


def is_refused(sample_type: Any, size: int) -> bool:
    """Whether the sample is an error; if not, what it gives lies within it."""
    with zs.Subscriber("a" if sample_type is np.ndarray else "b", sample_type, history=1) as sub:
        try:
            lease = sub.take()
        except CorruptSegmentError:
            return True
        assert lease is not None
        found: Any = lease.sample
        assert found.nbytes <= size
        assert len(bytes(found) if sample_type is bytes else found.tobytes()) <= size
    return False
