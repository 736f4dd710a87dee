"""Arrays of every kind between processes: written by one from numpy, read in place by another."""

from __future__ import annotations

import numpy as np
import pytest

import zeroslot as zs
from tests.process.actors import Cast
from tests.process.samples import Cloud, Scan

READER = """
import numpy as np
import zeroslot as zs
from tests.process.samples import Cloud, Scan

sub = zs.Subscriber("cloud", Cloud)
say("ready")
for _ in orders():
    lease = sub.take(timeout=None)
    points = np.asarray(lease.sample.points)
    inside = np.shares_memory(points, np.frombuffer(lease, "u1"))
    lease.release()
    say([str(points.dtype.names), points.shape, float(points["x"].sum()), points.flags.writeable, bool(inside)])
"""


@pytest.mark.row("TYP-9", "BUF-3", "BUF-5")
def test_a_list_of_samples_is_an_array_in_another_process(cast: Cast) -> None:
    """Assigned from a structured array here, and an array over the publisher's memory there."""
    reader = cast(READER)
    reader.expect("ready")
    points = np.zeros(1000, zs.layout_of(Cloud).dtype["points"]["items"].base)
    points["x"] = 0.5
    with zs.Publisher("cloud", Cloud) as pub:
        for count in (1000, 0, 3):
            with pub.loan() as cloud:
                cloud.points = points[:count]
            assert reader.ask("take") == ["('x', 'y')", [count], count / 2, False, count > 0]


WRITER = """
import numpy as np
import zeroslot as zs
from tests.process.samples import Scan

with zs.Publisher("scan", Scan) as pub:
    say("ready")
    for count in orders():
        with pub.loan() as scan:
            zs.resize(scan, cloud=(count, 3))
            scan.cloud[:] = count
            scan.times = np.array(["2024-01-01"] * (count % 4), "M8[D]")
            scan.points = [{"x": count, "y": 0}]
        say(pub.sequence)
"""


@pytest.mark.row("TYP-8", "TYP-9", "BUF-3", "BUF-5")
def test_arrays_with_a_bound_are_trimmed_in_another_process(cast: Cast) -> None:
    """Each sample has the length that its publisher gave it, and keeps it while the array is alive."""
    writer = cast(WRITER)
    writer.expect("ready")
    kept = []
    with zs.Subscriber("scan", Scan, max_leases=8) as sub:
        sub.wait_for_publishers()
        for count in (1000, 0, 3, 1):
            writer.ask(count)
            lease = sub.take(timeout=None)
            assert lease is not None
            cloud = lease.sample.cloud
            assert (cloud.shape, cloud.flags.writeable) == ((count, 3), False)
            assert lease.sample.times.tolist() == [1704067200000000000] * (count % 4)
            assert lease.sample.points["x"].tolist() == [count]
            kept.append((count, cloud))
        for count in range(50):
            writer.ask(count)
        assert all((cloud == count).all() for count, cloud in kept)
