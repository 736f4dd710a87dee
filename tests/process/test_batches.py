"""Batches between processes: every sample once, in order, counted, whatever happens to the other side."""

from __future__ import annotations

import numpy as np
import pytest

import zeroslot as zs
from tests.children import Children
from tests.process.samples import Imu

PUBLISHER = """
import numpy as np
import zeroslot as zs
from tests.process.samples import Imu

count, batch, options = args
pub = zs.Publisher("imu", Imu, **options)
array = np.zeros(batch, zs.layout_of(Imu).dtype)
say("ready")
hear()
for at in range(0, count, batch):
    array["stamp_ns"] = np.arange(at, at + batch)
    array["accel"] = array["stamp_ns"][:, None]
    pub.publish_many(array)
pub.flush()
say(pub.sequence)
for order in orders():
    pass
"""


@pytest.mark.row("PUB-5", "NEW-12", "SUB-2")
@pytest.mark.parametrize("max_loans", [2, 64])
def test_a_reliable_subscriber_gets_every_sample_of_every_batch(run_child: Children, max_loans: int):
    """200 000 samples, larger batches than the depth: in order, unchanged, none lost."""
    options = {"depth": 256, "max_loans": max_loans, "on_full": "block"}
    pub = run_child(PUBLISHER, 200_000, 1000, options)
    assert pub.hear() == "ready"
    with zs.Subscriber("imu", Imu, reliable=True) as sub:
        pub.tell("go")
        seen = 0
        out = np.zeros(100, zs.layout_of(Imu).dtype)
        while seen < 200_000:
            batch = sub.take_many(out=out, timeout=None)
            assert np.array_equal(batch.samples["stamp_ns"], np.arange(seen, seen + len(batch)))
            assert np.array_equal(batch.sequences, np.arange(seen + 1, seen + 1 + len(batch)))
            assert np.array_equal(batch.samples["accel"][:, 2], batch.samples["stamp_ns"])
            seen += len(batch)
        assert sub.lost == 0
        assert sub.stats.taken == 200_000
    pub.expect(200_000)
    pub.finish()


@pytest.mark.row("SUB-8", "PUB-5")
def test_a_slow_subscriber_knows_what_each_batch_lost(run_child: Children):
    """The publisher does not wait for subscribers: taken + lost is what was published, and no sample is torn."""
    pub = run_child(PUBLISHER, 300_000, 1000, {"depth": 64})
    assert pub.hear() == "ready"
    with zs.Subscriber("imu", Imu) as sub:
        pub.tell("go")
        newest = 0
        while newest < 300_000:
            batch = sub.take_many(timeout=None)
            assert int(batch.sequences[0]) - newest - 1 <= batch.lost
            assert np.array_equal(batch.samples["stamp_ns"] + 1, batch.sequences)
            assert np.array_equal(batch.samples["accel"][:, 0], batch.samples["stamp_ns"])
            newest = int(batch.sequences[-1])
        assert sub.stats.taken + sub.lost == 300_000
        assert sub.stats.leases == 0
    pub.expect(300_000)
    pub.finish()


@pytest.mark.row("PUB-5")
def test_a_publisher_that_is_killed_in_a_batch_leaves_whole_samples(run_child: Children):
    """What is there is taken, in order and unchanged; then the topic goes on with the next publisher."""
    pub = run_child(PUBLISHER, 10**9, 100_000, {"depth": 1000})
    assert pub.hear() == "ready"
    with zs.Subscriber("imu", Imu) as sub:
        pub.tell("go")
        assert len(sub.take_many(timeout=None)) > 0
        assert pub.kill() == -9
        while True:
            batch = sub.take_many(timeout=0.1)
            if not len(batch):
                break
            assert np.array_equal((batch.samples["stamp_ns"] + 1) % 10**9, batch.sequences)
        assert sub.stats.leases == 0
        assert sub.publishers == ()
        with zs.Publisher("imu", Imu) as heir:
            heir.publish(Imu(stamp_ns=7, accel=np.zeros(3)))
            assert sub.take_many(timeout=None).samples["stamp_ns"].tolist() == [7]
