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
        assert sub.wait(timeout=None)  # there are more, which the kill leaves
        assert pub.kill() == -9
        left = 0
        while True:
            batch = sub.take_many(timeout=0.1)
            if not len(batch):
                break
            assert np.array_equal((batch.samples["stamp_ns"] + 1) % 10**9, batch.sequences)
            left += len(batch)
        assert left > 0
        assert sub.stats.leases == 0
        assert sub.publishers == ()
        with zs.Publisher("imu", Imu) as heir:
            heir.publish(Imu(stamp_ns=7, accel=np.zeros(3)))
            assert sub.take_many(timeout=None).samples["stamp_ns"].tolist() == [7]


FORKING = """
import os, signal
import numpy as np
import zeroslot as zs
from tests.process.samples import Imu

pub = zs.Publisher("imu", Imu, depth=64, max_loans=4)
sub = zs.Subscriber("imu", Imu)
DTYPE = zs.layout_of(Imu).dtype
children = []

def fork(*_):
    pid = os.fork()
    if pid:
        children.append(pid)
    return pid

def child_says(check):
    # What the forked child finds: its exit status says it to the parent.
    try:
        os._exit(0 if check() else 3)
    finally:
        os._exit(4)

def refused(call):
    try:
        call()
    except zs.ForkedHandleError as error:
        return error
    return None

def statuses():
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]

def records(count):
    array = np.zeros(count, DTYPE)
    array["stamp_ns"] = np.arange(count)
    return array
"""


@pytest.mark.row("PUB-5")
def test_a_child_forked_in_the_middle_of_an_iterable_publishes_nothing(run_child: Children):
    """Its next sample is a ForkedHandleError that tells how many its parent had published; the parent goes on."""
    child = run_child(
        FORKING
        + """
def samples():
    for number in range(5):
        if number == 2 and fork() == 0:
            global is_child
            is_child = True
        yield {"stamp_ns": number, "accel": [0, 0, 0]}

is_child = False
error = refused(lambda: pub.publish_many(samples()))
if is_child:
    child_says(lambda: error is not None and error.published == 2)
say(statuses())
say([pub.sequence, sub.take_many().samples["stamp_ns"].tolist(), pub.allocator.loan_count])
"""
    )
    child.expect([0])
    child.expect([5, [0, 1, 2, 3, 4], 0])
    child.finish()


@pytest.mark.row("PUB-5")
def test_a_child_forked_by_a_signal_handler_inside_a_batch_goes_no_further(run_child: Children):
    """In publish_many and take_many of an array: ForkedHandleError in the child, and the parent completes the batch."""
    child = run_child(
        FORKING
        + """
def interrupted(call):
    # Call until the handler has run inside of it; the result. Timers do not last past a fork.
    inside = None
    def handler(signum, frame):
        nonlocal inside
        if inside is None and frame.f_code.co_name in ("publish_many", "take_many"):
            inside = fork()
    signal.signal(signal.SIGALRM, handler)
    while True:
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
        result, error = None, None
        try:
            result = call()
        except zs.ForkedHandleError as found:
            error = found
        signal.setitimer(signal.ITIMER_REAL, 0)
        if inside == 0:
            child_says(lambda: error is not None)
        if inside is not None:
            return result

array = records(200_000)
before = pub.sequence
interrupted(lambda: pub.publish_many(array))
say(statuses())
say([(pub.sequence - before) % 200_000, pub.allocator.loan_count])
children.clear()
with zs.Publisher("large", Imu, depth=60_000, max_loans=2) as large, zs.Subscriber("large", Imu) as reader:
    out = np.zeros(60_000, DTYPE)
    def take_all():
        large.publish_many(array[:60_000])
        return reader.take_many(out=out)
    batch = interrupted(take_all)
    say(statuses())
    say([batch.samples["stamp_ns"].tolist() == list(range(60_000)), reader.lost, reader.stats.leases])
"""
    )
    child.expect([0])
    child.expect([0, 0])
    child.expect([0])
    child.expect([True, 0, 0])
    child.finish()


@pytest.mark.row("PUB-5")
def test_a_forked_child_neither_commits_nor_discards_loans_of_its_parent(run_child: Children):
    """Whatever it does with them, and however it ends."""
    child = run_child(
        FORKING
        + """
loans = pub.loan_many(3)
for number, sample in enumerate(loans.samples):
    sample.stamp_ns = number
del sample
if fork() == 0:
    child_says(lambda: refused(loans.commit) and refused(lambda: pub.loan_many(1)))
if fork() == 0:
    loans.discard()
    child_says(lambda: True)
if fork() == 0:
    del loans
    child_says(lambda: True)
say(statuses())
say([pub.allocator.loan_count, loans.commit(), sub.take_many().samples["stamp_ns"].tolist()])
"""
    )
    child.expect([0, 0, 0])
    child.expect([3, 3, [0, 1, 2]])
    child.finish()
