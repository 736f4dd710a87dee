"""Arrays of every kind between processes: written by one from numpy, read in place by another."""

from __future__ import annotations

import numpy as np
import pytest

import zeroslot as zs
from tests.process.actors import Cast
from tests.process.samples import Cloud

READER = """
import numpy as np
import zeroslot as zs
from tests.process.samples import Cloud

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
