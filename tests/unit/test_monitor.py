"""The monitor: counters of live publishers and subscribers, without taking part."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import zeroslot as zs
from tests.unit.control_bytes import SECTIONS, ControlBytes
from zeroslot.testing import abandon


class Tick(zs.Sample):
    n: zs.U32 = 0


@pytest.mark.row("OBS-1", "NEW-8")
def test_a_snapshot_has_the_counters_of_publishers_and_subscribers() -> None:
    """All of them, also what a subscriber has lost and holds."""
    with (
        zs.Publisher("t", Tick, depth=4, name="source") as pub,
        zs.Subscriber("t", Tick, name="sink", max_leases=2) as sub,
        zs.Monitor() as monitor,
    ):
        assert sub.wait_for_publishers(1)
        for n in range(7):
            pub.publish(Tick(n=n))
        lease = sub.take()
        assert lease is not None
        snapshot = monitor.snapshot()
        (seen,) = snapshot.publishers
        assert (seen.topic, seen.name, seen.pid, seen.type_name) == ("t", "source", os.getpid(), "Tick")
        assert (seen.publisher_id, seen.flink, seen.depth) == (pub.publisher_id, pub.flink, 4)
        assert (seen.published, seen.bytes, seen.sequence, seen.sample_bytes) == (7, 28, pub.sequence, 4)
        assert seen.counters["published"] == 7
        assert sum(pool.committed for pool in seen.pools) == 7
        assert 0 < seen.newest_ns <= snapshot.read_ns
        assert seen.age_s is not None
        (peer,) = seen.subscribers
        assert (peer.name, peer.pid, peer.reliable, peer.max_leases) == ("sink", os.getpid(), False, 2)
        assert (peer.taken, peer.lost, peer.skipped, peer.held, peer.behind) == (1, 3, 0, 1, 3)
        assert peer.lag_s is not None
        assert peer.lag_s > 0
        lease.release()


@pytest.mark.row("NEW-8")
def test_a_monitor_takes_no_entry() -> None:
    """No subscriber is counted, no index is taken, and nothing of the control object changes."""
    with zs.Publisher("t", Tick, max_subscribers=1) as pub, zs.Monitor() as monitor:
        pub.publish(Tick())
        control = ControlBytes(pub.flink)
        before = control.path.read_bytes()
        for _ in range(3):
            monitor.snapshot()
            monitor.samples_after(pub.publisher_id)
        assert control.path.read_bytes() == before
        assert pub.subscriber_count == 0
        with zs.Subscriber("t", Tick) as sub:
            assert sub.wait_for_publishers(1)


@pytest.mark.row("NEW-8")
def test_publishers_come_and_go() -> None:
    """Each snapshot has those that live: neither the ended nor the dead."""
    with zs.Monitor() as monitor:
        assert monitor.snapshot().publishers == ()
        with zs.Publisher("b/x", Tick) as one, zs.Publisher("a", Tick) as two:
            assert [each.topic for each in monitor.snapshot().publishers] == ["a", "b/x"]
            abandon(two)
            assert [each.publisher_id for each in monitor.snapshot().publishers] == [one.publisher_id]
            with zs.Publisher("a", Tick) as three:
                assert {each.publisher_id for each in monitor.snapshot().publishers} == {
                    one.publisher_id,
                    three.publisher_id,
                }
        assert monitor.snapshot().publishers == ()


def test_a_monitor_of_a_topic_sees_no_other() -> None:
    """The topic may start later."""
    with zs.Monitor("t") as monitor, zs.Publisher("t/below", Tick):
        assert monitor.snapshot().publishers == ()
        with zs.Publisher("t", Tick):
            assert [each.topic for each in monitor.snapshot().publishers] == ["t"]


@pytest.mark.row("NEW-8", "OBS-2")
def test_samples_show_when_they_were_published() -> None:
    """Those that can still be taken, oldest first, with the times that leases have."""
    with zs.Publisher("t", Tick, depth=4) as pub, zs.Subscriber("t", Tick, history=0) as sub, zs.Monitor() as monitor:
        assert sub.wait_for_publishers(1)
        monitor.snapshot()
        assert monitor.samples_after(pub.publisher_id) == []
        sequences = [pub.publish(Tick(n=n)) for n in range(6)]
        seen = monitor.samples_after(pub.publisher_id)
        assert [each.sequence for each in seen] == sequences[2:]
        assert {each.size_bytes for each in seen} == {4}
        assert monitor.samples_after(pub.publisher_id, sequences[4]) == seen[3:]
        assert monitor.samples_after(pub.publisher_id, limit=2) == seen[2:]
        assert monitor.samples_after(pub.publisher_id, sequences[5]) == []
        assert monitor.samples_after("0" * 16) == []
        taken = [sub.take() for _ in range(4)]
        assert [(each.sequence, each.published_ns) for each in taken if each] == [each[:2] for each in seen]


def test_a_lag_is_the_age_of_the_oldest_sample_that_waits() -> None:
    """Not of one that is lost already; 0 for a subscriber that has taken all."""
    with zs.Publisher("t", Tick, depth=2) as pub, zs.Subscriber("t", Tick) as sub, zs.Monitor() as monitor:
        assert sub.wait_for_publishers(1)
        for n in range(5):
            pub.publish(Tick(n=n))
        snapshot = monitor.snapshot()
        (peer,) = snapshot.publishers[0].subscribers
        (oldest, _) = monitor.samples_after(pub.publisher_id)
        assert peer.lag_s is not None
        assert 0 <= peer.lag_s - (snapshot.read_ns - oldest.published_ns) / 1e9 < peer.lag_s
        while (lease := sub.take()) is not None:
            lease.release()
        (peer,) = monitor.snapshot().publishers[0].subscribers
        assert (peer.behind, peer.lag_s) == (0, 0.0)


@pytest.mark.row("OBS-9", "OBS-2")
def test_latencies_are_those_that_the_subscriber_has_counted() -> None:
    """One take in 64."""
    with zs.Publisher("t", Tick) as pub, zs.Subscriber("t", Tick) as sub, zs.Monitor() as monitor:
        assert sub.wait_for_publishers(1)
        for n in range(256):
            pub.publish(Tick(n=n))
            lease = sub.take()
            assert lease is not None
            lease.release()
        (peer,) = monitor.snapshot().publishers[0].subscribers
        assert peer.latency.count == 4
        p50 = peer.latency.percentile(0.5)
        assert p50 is not None
        assert 0 < p50 <= peer.latency.max_ns


@pytest.mark.row("SEG-23")
def test_what_cannot_be_read_is_a_fact() -> None:
    """Another format, a broken header, a file that is no flink: each with its path; the others are still seen."""
    with (
        zs.Publisher("t", Tick) as good,
        zs.Publisher("t", Tick) as foreign,
        zs.Publisher("t", Tick) as broken,
        zs.Monitor() as monitor,
    ):
        ControlBytes(foreign.flink).write(8, "I", 77)
        ControlBytes(broken.flink).write_bytes(12, b"\xff" * 90)
        no_flink = good.flink.with_name("00000000000000ff.flink")
        no_flink.write_text("/etc/passwd")
        no_flink.chmod(0o600)
        snapshot = monitor.snapshot()
        no_flink.unlink()
        assert [each.publisher_id for each in snapshot.publishers] == [good.publisher_id]
        assert {(each.kind, each.where) for each in snapshot.problems} == {
            ("foreign", foreign.flink),
            ("corrupt", broken.flink),
            ("foreign", no_flink),
        }
        assert any("77" in each.text for each in snapshot.problems)


@pytest.mark.row("SEC-4")
@pytest.mark.parametrize("section", [each for each in SECTIONS if each != "schema"])
@pytest.mark.parametrize("byte", [0xFF, 0x7F])
def test_garbage_in_a_segment_raises_nothing(section: str, byte: int) -> None:
    """Whatever lies there is shown, or is a problem."""
    with zs.Publisher("t", Tick) as pub, zs.Subscriber("t", Tick) as sub, zs.Monitor() as monitor:
        assert sub.wait_for_publishers(1)
        pub.publish(Tick(n=1))
        monitor.snapshot()
        control = ControlBytes(pub.flink)
        begin, end = control.at(section), control.at(SECTIONS[SECTIONS.index(section) + 1])
        control.write_bytes(begin, bytes([byte]) * (end - begin))
        snapshot = monitor.snapshot()
        assert len(snapshot.publishers) == 1
        assert isinstance(repr(snapshot), str)
        assert isinstance(monitor.samples_after(pub.publisher_id), list)
        if section == "active":
            control.write(begin, "Q", 0)


def test_a_segment_that_is_cut_short_is_a_problem() -> None:
    """And no SIGBUS."""
    with zs.Publisher("t", Tick) as pub, zs.Monitor() as monitor:
        monitor.snapshot()
        control = ControlBytes(pub.flink)
        size = control.path.stat().st_size
        os.truncate(control.path, 4096)
        snapshot = monitor.snapshot()
        os.truncate(control.path, size)
        assert [each.kind for each in snapshot.problems] == ["corrupt"]
        abandon(pub)
    zs.clean()


def test_a_closed_monitor_says_so() -> None:
    """And lets go of its descriptors."""
    with zs.Publisher("t", Tick) as pub:
        monitor = zs.Monitor()
        before = len(os.listdir("/proc/self/fd"))
        monitor.snapshot()
        assert len(os.listdir("/proc/self/fd")) == before + 1
        monitor.close()
        monitor.close()
        assert len(os.listdir("/proc/self/fd")) == before
        for ask in (monitor.snapshot, lambda: monitor.samples_after(pub.publisher_id)):
            with pytest.raises(zs.ClosedError):
                ask()


def test_names_are_checked() -> None:
    """As everywhere."""
    with pytest.raises(zs.TopicNameError):
        zs.Monitor("/t")
    with pytest.raises(zs.TopicNameError):
        zs.Monitor(domain="a/b")


# --- histograms


def histogram(**counts: int) -> zs.LatencyHistogram:
    found = [0] * 128
    for name, count in counts.items():
        found[int(name[1:])] = count
    bounds = zs.LatencyHistogram((0,) * 128).bounds_ns
    highest = max((bucket for bucket, count in enumerate(found) if count), default=0)
    return zs.LatencyHistogram(tuple(found), bounds[highest])


def test_the_bounds_are_those_of_the_format() -> None:
    """Four buckets an octave from 16 ns on."""
    bounds = histogram().bounds_ns
    assert bounds[:10] == (0, 16, 20, 24, 28, 32, 40, 48, 56, 64)
    assert len(bounds) == 128
    assert histogram().every == 64
    assert bounds[-1] == pytest.approx(51.5e9, rel=0.01)


@pytest.mark.row("OBS-9")
def test_percentiles_lie_in_their_buckets() -> None:
    """The nearest rank; nothing of an empty one."""
    counted = histogram(b10=90, b20=9, b30=1)
    bounds = counted.bounds_ns
    assert counted.count == 100
    assert counted.bucket_at(0.5) == (bounds[10], bounds[11])
    assert counted.bucket_at(0.9) == (bounds[10], bounds[11])
    assert counted.bucket_at(0.91) == (bounds[20], bounds[21])
    assert counted.bucket_at(1.0) == (bounds[30], bounds[30])
    assert (histogram().bucket_at(0.5), histogram().percentile(0.5)) == (None, None)


def test_the_difference_of_two_histograms_counts_what_came_between() -> None:
    """Also when a count has wrapped; the longest age is that of the time between."""
    earlier = histogram(b10=5, b40=1)
    later = zs.LatencyHistogram(histogram(b10=7, b12=1, b40=1).counts, earlier.max_ns)
    between = later.since(earlier)
    assert (between.count, between.counts[10], between.counts[12]) == (3, 2, 1)
    assert between.max_ns == between.bounds_ns[13]
    wrapped = later.since(zs.LatencyHistogram((*later.counts[:10], 2**32 - 1, *later.counts[11:]), later.max_ns))
    assert wrapped.counts[10] == 8
    assert later.since(later).percentile(0.5) is None


def test_a_monitor_sees_an_unreadable_directory(zeroslot_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A topic that may not be looked into is a problem of that topic, and the others are listed."""
    import zeroslot.memory.flink as module

    real = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("/secret"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    with zs.Publisher("t", Tick), zs.Publisher("secret", Tick) as hidden:
        monkeypatch.setattr(module.os, "scandir", refuse)
        for problems in (
            zs.Monitor().snapshot().problems,
            tuple(problem for topic in zs.topics() for problem in topic.problems),
        ):
            ((kind, where),) = ((each.kind, each.where) for each in problems)
            assert (kind, where) == ("unreadable", hidden.flink.parent)
        assert [(each.topic, len(each.publishers)) for each in zs.topics()] == [("secret", 0), ("t", 1)]
