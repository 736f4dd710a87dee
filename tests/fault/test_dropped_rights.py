"""A process that attaches with rights and then drops them, as daemons do, continues."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import zeroslot as zs
from tests.process.actors import Cast
from tests.process.samples import Tick

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

DAEMON = """
import os, tempfile
import zeroslot as zs
from zeroslot.testing import abandon
from tests.process.samples import Tick

pub = zs.Publisher("mine", Tick, depth=2, max_loans=1, spare_slots=2, on_full="block")
own = zs.Subscriber("mine", Tick, reliable=True)
sub = zs.Subscriber("foreign", Tick)
if args[0] == "chroot":
    os.chroot(tempfile.mkdtemp())
    os.chdir("/")
os.setgroups([])
os.setgid(65534)
os.setuid(65534)

def publish(count):
    for _ in range(count):
        with pub.loan(timeout=None) as tick:
            tick.number = pub.sequence + 1
        own.take().release()

def close():
    try:
        pub.close()
    except PermissionError as error:
        return str(pub.flink) in str(error)

verbs = {
    "close": close, "publish": publish, "subscriber_count": lambda: pub.subscriber_count, "reap": pub.reap,
    "reaped": lambda: pub.stats.reaped, "flush": lambda: pub.flush(timeout=None),
    "wait_for_subscribers": lambda: pub.wait_for_subscribers(timeout=None),
    "publishers": lambda: len(sub.publishers), "wait_for_publishers": lambda: sub.wait_for_publishers(timeout=0),
    "take": lambda: sub.take(timeout=None).sample.number, "poll": lambda: sub.take() is None,
    "wait": lambda: sub.wait(timeout=0), "stats": lambda: sub.stats.taken,
}
say("ready")
for verb, *rest in orders():
    say(verbs[verb](*rest))
"""


@pytest.mark.leaves_remains
@pytest.mark.parametrize("how", ["setuid", "chroot"])
def test_handles_work_after_their_process_has_dropped_its_rights(cast: Cast, zeroslot_dir: Path, how: str):
    """Publishing, waiting, probing, reaping a dead subscriber, marking a dead publisher. Closing seals."""
    publisher = cast.publisher("foreign")
    daemon = cast(DAEMON, how)
    daemon.expect("ready")
    with zs.Subscriber("mine", Tick, max_leases=2) as here:
        assert daemon.ask(["subscriber_count"]) == 2
        assert daemon.ask(["wait_for_subscribers"])
        holder = cast.subscriber("mine", max_leases=4)
        assert daemon.ask(["subscriber_count"]) == 3
        assert daemon.ask(["publish", 1]) is None
        holder.ask(["poll"])
        holder.kill()
        assert daemon.ask(["subscriber_count"]) == 2
        assert daemon.ask(["publish", 5]) is None
        assert daemon.ask(["flush"])
        assert daemon.ask(["reap"]) + daemon.ask(["reaped"]) > 0
        assert [here.take() is not None for _ in range(2)] == [True, True]
    assert daemon.ask(["publishers"]) == 1
    publisher.ask(["publish", 3])
    assert [daemon.ask(["take"]) for _ in range(3)] == [1, 2, 3]
    other = cast.publisher("foreign")  # which it may not find any more, and the bell rings
    assert daemon.ask(["poll"])
    assert daemon.ask(["publishers"]) == 1
    other.finish()
    publisher.kill()
    assert daemon.ask(["publishers"]) == 0
    assert daemon.ask(["poll"])
    assert not daemon.ask(["wait"])
    assert not daemon.ask(["wait_for_publishers"])
    assert daemon.ask(["stats"]) == 3
    with zs.Subscriber("mine", Tick) as here:
        assert here.wait_for_publishers()
        assert daemon.ask(["close"])
        assert here.publishers == ()
    assert daemon.ask(["close"]) is None
    daemon.finish()
    zs.clean()
