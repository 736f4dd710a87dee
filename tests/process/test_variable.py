"""Samples of variable size between processes: whole, read in place, also when the publisher is killed."""

from __future__ import annotations

import signal

import numpy as np
import pytest

import zeroslot as zs
from tests.children import Children
from tests.process.samples import Message

PUBLISHER = """
import numpy as np
import zeroslot as zs
from tests.process.samples import Message

count, options = args
pub = zs.Publisher("messages", Message, max_bytes=1 << 16, **options)
say("ready")
hear()
for n in range(1, count + 1):
    sizes = {"text": n % 50, "values": (n % 70, 3), "points": n % 40}
    with pub.loan(None, sizes=sizes) as message:
        message.number = n
        message.text = "t" * (n % 50)
        message.values[:] = n
        np.asarray(message.points)["x"] = n
        if n % 5 == 0:
            zs.resize(message, values=(n % 70 // 2, 3), points=0)
pub.flush()
loan = pub.loan(values=7)
loan.sample.values[:] = -1
say(pub.sequence)
for order in orders():
    pass
"""


def expect_whole(message: Message) -> None:
    n = message.number
    is_shrunk = n % 5 == 0
    assert message.text == "t" * (n % 50)
    assert message.values.shape == (n % 70 // 2 if is_shrunk else n % 70, 3)
    assert (message.values == n).all()
    assert not message.values.flags.writeable
    points = np.asarray(message.points)
    assert len(points) == (0 if is_shrunk else n % 40)
    assert (points["x"] == n).all()


@pytest.mark.row("VAR-1", "VAR-9", "BUF-1", "TYP-9")
def test_samples_of_all_sizes_arrive_whole_and_in_order(run_child: Children) -> None:
    """Two thousand samples to a reliable subscriber with the class, and to one without; those that are kept stay."""
    pub = run_child(PUBLISHER, 2000, {"on_full": "block"})
    assert pub.hear() == "ready"
    with (
        zs.Subscriber("messages", Message, reliable=True) as sub,
        zs.Subscriber("messages", reliable=True) as any_type,
    ):
        pub.tell("go")
        kept = sub.take(timeout=None)
        assert kept is not None
        expect_whole(kept.sample)
        array = kept.sample.values
        first = any_type.take(timeout=None)
        assert first is not None
        assert str(first.sample.model_dump()) == str(kept.sample.model_dump())
        first.release()
        for n in range(2, 2001):
            lease, other = sub.take(timeout=None), any_type.take(timeout=None)
            assert lease is not None
            assert other is not None
            with lease, other:
                assert lease.sequence == n
                expect_whole(lease.sample)
                assert (other.sample.values == n).all()
        assert sub.lost == 0
        expect_whole(kept.sample)
        assert (array == 1).all()
    pub.expect(2000)
    pub.finish()


@pytest.mark.row("VAR-9")
def test_samples_of_a_killed_publisher_are_whole(run_child: Children) -> None:
    """Killed with a sized loan out: the newest samples can be taken, and the next publisher starts as usual."""
    pub = run_child(PUBLISHER, 100, {"depth": 8})
    assert pub.hear() == "ready"
    with zs.Subscriber("messages", Message, max_leases=16) as sub:
        pub.tell("go")
        pub.expect(100)
        pub.signal(signal.SIGKILL)
        pub.wait()
        taken = list(iter(sub.take, None))
        assert [lease.sequence for lease in taken] == list(range(93, 101))
        assert sub.lost == 92
        for lease in taken:
            expect_whole(lease.sample)
        with zs.Publisher("messages", Message, max_bytes=1000) as other:
            other.publish(Message(number=1, text="new", values=np.zeros(0), points=[]))
            lease_of_other = sub.take(timeout=None)
            assert lease_of_other is not None
            assert lease_of_other.sample.text == "new"
