"""Clocks that jump, numbers near their edges, tables that are full, limits that are low."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import pytest

import zeroslot as zs
from tests.process.actors import Cast, start_to
from tests.process.samples import Tick

PACKAGE = Path(zs.__file__).parent


@pytest.mark.row("DEF-8")
@pytest.mark.parametrize("first", [2**32 - 3, 2**48 - 3, 2**62 - 100])
def test_sequences_near_an_edge_are_like_others(tmp_path: Path, first: int):
    """The ring keeps 48 bits of them, counters of 32 there are none: 40 samples across, none lost, none twice."""
    with zs.SlotAllocator.create(tmp_path / "s", 8, 64, depth=4, first_sequence=first) as slots:
        with zs.SlotReader.attach(tmp_path / "s") as reader, zs.SlotReader.attach(tmp_path / "s") as lazy:
            for number in range(40):
                slot = slots.reserve()
                memoryview(slot)[:8] = number.to_bytes(8, "little")
                assert slots.commit(slot, 8) == first + number
                lease = reader.take()
                assert (lease.sequence, bytes(lease)) == (first + number, number.to_bytes(8, "little"))
                del lease
            assert reader.take() is None
            assert [lease.sequence for lease in iter(lazy.take, None)] == list(range(first + 36, first + 40))
            assert (reader.lost, lazy.lost) == (0, 36)


@pytest.mark.row("DEF-11", "PEER-3")
def test_64_subscribers_are_there_and_the_65th_is_told_who(cast: Cast):
    """By name and pid; one leaves, and there is room."""
    with zs.Publisher("t", Tick) as pub:
        subs = [zs.Subscriber("t", Tick, name=f"sub{number}") for number in range(63)]
        other = cast.subscriber("t", name="other")
        with pytest.raises(zs.TooManyPeersError) as caught:
            zs.Subscriber("t", Tick)
        assert caught.value.max_subscribers == 64
        assert len(caught.value.peers) == 64
        for name in ("sub0", "sub62", f"other (pid {other.pid}"):
            assert name in str(caught.value)
        pub.publish(Tick(number=1))
        assert all(sub.take() is not None for sub in subs)
        subs.pop().close()
        subs.append(zs.Subscriber("t", Tick))
        assert pub.subscriber_count == 64
        for sub in subs:
            sub.close()


@pytest.mark.row("PEER-3", "DEF-11")
def test_1024_subscribers_of_one_publisher(tmp_path: Path):
    """Sixteen words of bits for each slot; every reader takes every sample, each bit is its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("this process may not open 4096 files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    try:
        with zs.SlotAllocator.create(tmp_path / "s", 4, 64, max_subscribers=1024) as slots:
            readers = [zs.SlotReader.attach(tmp_path / "s", max_leases=1) for _ in range(1024)]
            with pytest.raises(zs.TooManyPeersError):
                zs.SlotReader.attach(tmp_path / "s")
            slot = slots.reserve()
            memoryview(slot)[:1] = b"x"
            slots.commit(slot, 1)
            leases = [reader.take() for reader in readers]
            assert {bytes(lease) for lease in leases} == {b"x"}
            assert all(len(slots.owner.segment.held_by(index)) == 1 for index in range(1024))
            leases.clear()
            assert not any(slots.owner.segment.held_by(index) for index in range(0, 1024, 31))
            for reader in readers:
                reader.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_realtime_clock_that_jumps_changes_nothing(cast: Cast, monkeypatch: pytest.MonkeyPatch):
    """Set back by a year and on by ten while a subscriber sleeps and a publisher waits with a limit."""
    sub = cast.subscriber("t", spin_us=0, reliable=True)
    for jump in (-365 * 86400, 3650 * 86400):
        real = __import__("time").time_ns()
        monkeypatch.setattr("time.time_ns", lambda at=real + jump * 10**9: at)
        monkeypatch.setattr("time.time", lambda at=real / 1e9 + jump: at)
        with zs.Publisher("t", Tick, depth=2, max_loans=1, on_full="block") as pub:
            start_to(sub, "take", 1)
            assert pub.wait_for_subscribers(1)
            pub.publish(Tick(number=1))
            assert sub.hear() == [[1, 1, ""]]
            pub.publish(Tick(number=2))
            pub.publish(Tick(number=3))
            with pytest.raises(zs.BackpressureError):
                pub.publish(Tick(number=4), timeout=0.01)
            assert [sub.ask(["poll"])[0] for _ in range(2)] == [2, 3]
    assert sub.ask(["stats"])["lost"] == 0


def test_only_the_monotonic_clock_is_waited_by():
    """Wall time is read where it is data: the creation time in the header, and the age of a half-written file."""
    clock = re.compile(r"\btime\.time(?:_ns)?\(|CLOCK_REALTIME|\bgettimeofday\b|datetime\.now")
    core = [path for path in (PACKAGE / "_core").iterdir() if path.suffix in {".h", ".pxi", ".pyx"}]
    sources = [*core, *PACKAGE.glob("*.py")]
    found = {path.name: len(clock.findall(path.read_text("utf-8"))) for path in sources}
    assert {name: count for name, count in found.items() if count} == {"segment.py": 1, "cleaning.py": 1}
