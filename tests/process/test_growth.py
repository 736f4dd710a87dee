"""Segments that grow while other processes read: no sample is missed, none is taken twice, none is torn."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from tests.children import Children
from tests.unit.control_bytes import ControlBytes

PARTS = """
import numpy as np
from numpy.typing import NDArray
import zeroslot as zs

class Cloud(zs.Sample):
    number: zs.U64
    points: NDArray[np.uint32]
"""

PUBLISHER = (
    PARTS
    + """
options, sizes = args
pub = zs.Publisher("cloud", Cloud, **options)
say("ready")
hear()
number = 0
for size, count in sizes:
    for _ in range(count):
        with pub.loan(timeout=None, points=size) as cloud:
            cloud.number = number
            cloud.points[:] = number
        number += 1
pub.flush()
say([number, [pool.slot_capacity for pool in pub.stats.pools]])
for order in orders():
    pass
"""
)

READER = (
    PARTS
    + """
total, reliable = args
sub = zs.Subscriber("cloud", Cloud, reliable=reliable)
sub.wait_for_publishers()
say("ready")
seen, kept = [], []
while len(seen) + sub.lost < total:
    lease = sub.take(timeout=None)
    cloud = lease.sample
    seen.append(int(cloud.number))
    assert lease.sequence == cloud.number + 1
    points = cloud.points
    assert len(points) and points.min() == points.max() == cloud.number
    kept = [*kept[-1:], (int(cloud.number), points)]
    for number, array in kept:
        assert array[0] == array[-1] == number  # what is held stays where it is
    del lease, cloud, points, array
assert sub.take() is None
say([len(seen), len(set(seen)), seen == sorted(seen), sub.lost, sub.skipped])
"""
)

# (items of a sample, samples): the segment grows at each larger size, while the readers are busy.
SIZES = [(10, 100), (3000, 50), (10, 50), (20_000, 50), (500, 50), (200_000, 20), (10, 50)]


@pytest.mark.row("SLOT-16", "VAR-3", "VAR-8", "SEG-9")
def test_growth_under_load_loses_and_repeats_no_sample(run_child: Children) -> None:
    """Two reliable subscribers take every sample of a publisher that grows three times, in order, each once."""
    total = sum(count for _, count in SIZES)
    options = {"grow": True, "max_bytes": 1 << 20, "depth": 4, "max_loans": 1, "spare_slots": 8, "on_full": "block"}
    pub = run_child(PUBLISHER, options, SIZES)
    assert pub.hear() == "ready"
    readers = [run_child(READER, total, True) for _ in range(2)]
    for reader in readers:
        assert reader.hear() == "ready"
    pub.tell("go")
    for reader in readers:
        reader.expect([total, total, True, 0, 0])
        reader.finish()
    number, capacities = pub.hear()
    assert number == total
    assert capacities == [4096, 16384, 131072, 1 << 20]
    pub.finish()


@pytest.mark.row("VAR-8")
def test_a_slow_subscriber_counts_what_it_missed_of_a_growing_publisher(run_child: Children) -> None:
    """Without reliability: taken + lost is what was published, whatever pools the samples lay in."""
    total = sum(count for _, count in SIZES)
    pub = run_child(PUBLISHER, {"grow": True, "max_bytes": 1 << 20, "depth": 4}, SIZES)
    assert pub.hear() == "ready"
    reader = run_child(READER, total, False)
    assert reader.hear() == "ready"
    pub.tell("go")
    taken, distinct, in_order, lost, skipped = reader.hear()
    assert (taken + lost, distinct, in_order, skipped) == (total, taken, True, 0)
    reader.finish()
    pub.hear()
    pub.finish()


class Cloud(zs.Sample):
    number: zs.U64
    points: NDArray[np.uint32]


@pytest.mark.row("VAR-8")
def test_a_subscriber_without_descriptors_gets_the_error_and_then_the_sample() -> None:
    """EMFILE while a new pool is mapped: nothing is lost and nothing is skipped; the next call maps it."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (
        zs.Publisher("cloud", Cloud, grow=True, max_bytes=1 << 20) as pub,
        zs.Subscriber("cloud", Cloud) as sub,
    ):
        pub.publish(Cloud(number=1, points=np.zeros(1, np.uint32)))
        pub.publish(Cloud(number=2, points=np.zeros(5000, np.uint32)))
        assert sub.take().sample.number == 1
        for again in (sub.take, sub.latest, lambda: sub.take(timeout=1)):
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
            try:
                with pytest.raises(OSError, match="Too many open files"):
                    again()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert (sub.lost, sub.skipped) == (0, 0)
        assert sub.take().sample.number == 2
        assert (sub.lost, sub.skipped) == (0, 0)


FORK = (
    PARTS
    + """
import os
import threading
with zs.Publisher("cloud", Cloud, grow=True, max_bytes=1 << 20) as pub, zs.Subscriber("cloud", Cloud) as sub:
    pub.loan(points=1).discard()
    loan = pub.loan(points=100_000)  # in a pool that was added
    points = loan.sample.points
    points[:] = 7
    done = os.pipe()
    if os.fork() == 0:
        try:
            points[:] = 9  # the child's own memory
            try:
                pub.loan(points=200_000)  # would grow
            except zs.ForkedHandleError:
                os.write(done[1], b"x")
        finally:
            os._exit(0)
    os.wait()
    assert os.read(done[0], 1) == b"x"
    loan.commit()
    assert set(sub.take().sample.points.tolist()) == {7}
    pub.loan(points=200_000).discard()
    say([pool.slot_capacity for pool in pub.stats.pools])
"""
)


def test_a_forked_child_reaches_no_pool_that_was_added(run_child: Children) -> None:
    """The remap in the fork handler holds for pools that were added after the start, and the child adds none."""
    child = run_child(FORK)
    child.expect([4096, 524288, 1 << 20])
    child.finish()


def test_the_pools_of_a_killed_owner_are_removed_also_one_without_an_entry(
    run_child: Children, zeroslot_dir: Path
) -> None:
    """A growth that a kill interrupts before the entry leaves an object: clean() and the next owner remove it."""
    pub = run_child(PUBLISHER, {"grow": True, "max_bytes": 1 << 20}, [(10, 1), (5000, 1)])
    assert pub.hear() == "ready"
    pub.tell("go")
    assert pub.hear() == [2, [4096, 32768]]
    (flink,) = zeroslot_dir.rglob("*.flink")
    name = flink.read_text()
    half_done = Path(f"/dev/shm{name}-p2")
    half_done.write_bytes(bytes(4096))
    half_done.chmod(0o600)
    pub.kill()
    zs.clean()
    assert [path for path in os.listdir("/dev/shm") if path.startswith(name[1:])] == []


def look(sub: zs.Subscriber[Cloud], how: str) -> None:
    """A look that finds no sample."""
    if how == "take_many":
        assert len(sub.take_many(1).samples) == 0
    elif how == "wait":
        assert not sub.wait(timeout=0)
    else:
        assert getattr(sub, how)() is None


@pytest.mark.row("SLOT-16", "VAR-8")
@pytest.mark.parametrize("how", ["take", "latest", "wait"])
def test_a_pool_that_a_subscriber_has_looked_for_can_be_read_after_the_close(how: str) -> None:
    """A look that finds no sample maps the pools that were added; their names are gone once the publisher closes."""
    with zs.Subscriber("cloud", Cloud) as sub, zs.Publisher("cloud", Cloud, grow=True, max_bytes=1 << 20) as pub:
        look(sub, how)
        pub.loan(points=5000).discard()
        look(sub, how)
        for number in range(3):
            pub.publish(Cloud(number=number, points=np.full(5000, number, np.uint32)))
        pub.close()
        for number in range(3):
            assert set(sub.take().sample.points.tolist()) == {number}
        assert sub.take() is None
        assert sub.lost == 0


@pytest.mark.row("SLOT-16", "VAR-8")
def test_a_sleeping_subscriber_is_woken_to_map_a_new_pool() -> None:
    """The pool is mapped while the subscriber still waits for a sample; what is then published in it survives the
    close.
    """
    with zs.Subscriber("cloud", Cloud) as sub, zs.Publisher("cloud", Cloud, grow=True, max_bytes=1 << 20) as pub:
        sub.wait_for_publishers()
        taken: list[set[int]] = []
        thread = threading.Thread(target=lambda: taken.append(set(sub.take(timeout=None).sample.points.tolist())))
        thread.start()
        ControlBytes(pub.flink).wait_until_parked()
        generation = pub.allocator.generation
        pub.loan(points=5000).discard()
        assert pub.allocator.generation != generation  # what a sleeping thread waits for
        (record,) = sub._table.attached().values()
        while record.source.reader.segment.pool_count == 1:
            os.sched_yield()
        assert taken == []
        pub.publish(Cloud(number=1, points=np.full(5000, 7, np.uint32)))
        pub.close()
        thread.join()
        assert taken == [{7}]
        assert sub.lost == 0


@pytest.mark.row("VAR-8")
def test_samples_of_a_pool_that_nobody_looked_for_are_counted_as_lost() -> None:
    """A subscriber that makes no call between the growth and the close has the older samples, and counts the others."""
    with zs.Subscriber("cloud", Cloud) as sub, zs.Publisher("cloud", Cloud, grow=True, max_bytes=1 << 20) as pub:
        sub.wait_for_publishers()
        pub.publish(Cloud(number=0, points=np.zeros(1, np.uint32)))
        for number in (1, 2):
            pub.publish(Cloud(number=number, points=np.zeros(5000, np.uint32)))
        pub.close()
        assert sub.take().sample.number == 0
        assert sub.take() is None
        assert sub.lost == 2
