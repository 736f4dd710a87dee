"""Numbers near their edges, full tables, low limits. Clock steps: test_clock.py."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import pytest

import zeroslot as zs
from tests.process.actors import Cast
from tests.process.samples import Tick

PACKAGE = Path(zs.__file__).parent


@pytest.mark.row("DEF-8")
@pytest.mark.parametrize("first", [2**32 - 3, 2**48 - 3, 2**62 - 3])
def test_sequences_near_an_edge_are_like_others(tmp_path: Path, first: int):
    """The ring keeps 48 bits of them and no counter has 32: 40 samples across an edge, none lost, none twice."""
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


@pytest.mark.row("DEF-8")
def test_no_sequence_number_has_another_meaning(tmp_path: Path):
    """0 means none and is no sequence: what slot and ring hold for "nothing" is never a sample's number."""
    for wrong in (0, -1, 2**62, 2**64):
        with pytest.raises(ValueError, match="first_sequence"):
            zs.SlotAllocator.create(tmp_path / "s", 8, 64, first_sequence=wrong)
    # The lowest one there is; one whose 48 bits in the ring are 0; one whose lower half is; the highest to begin with.
    for first in (1, 2**48, 2**32, 2**62 - 1):
        with zs.SlotAllocator.create(tmp_path / "s", 8, 64, depth=4, first_sequence=first) as slots:
            with zs.SlotReader.attach(tmp_path / "s") as reader:
                assert (slots.sequence, reader.take(), reader.latest()) == (first - 1, None, None)
                assert slots.commit(slots.reserve(), b"x") == first
                with zs.SlotReader.attach(tmp_path / "s", history=1) as late:
                    for each in (reader, late):
                        lease = each.take()
                        assert lease is not None
                        assert (lease.sequence, bytes(lease), each.take()) == (first, b"x", None)
                        del lease
                assert (reader.lost, reader.skipped) == (0, 0)


@pytest.mark.row("DEF-11", "PEER-3")
def test_the_65th_subscriber_is_refused_with_the_names_of_the_other_64(cast: Cast):
    """By name and pid. When one leaves, there is room."""
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
def test_1024_subscribers_read_one_publisher(tmp_path: Path):
    """Sixteen words of bits for each slot; every subscriber takes every sample by a bit of its own."""
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
            assert all(len(slots.native.segment.held_by(index)) == 1 for index in range(1024))
            leases.clear()
            assert not any(slots.native.segment.held_by(index) for index in range(0, 1024, 31))
            for reader in readers:
                reader.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_waits_use_the_monotonic_clock_only():
    """Wall time is read where it is data: the creation time in the header, and the times that `zeroslot echo` shows."""
    clock = re.compile(r"\btime\.time(?:_ns)?\(|CLOCK_REALTIME|\bgettimeofday\b|datetime\.now")
    core = [path for path in (PACKAGE / "_core").rglob("*") if path.suffix in {".h", ".pxi", ".pyx"}]
    sources = [*core, *PACKAGE.rglob("*.py")]
    found = {path.name: len(clock.findall(path.read_text("utf-8"))) for path in sources}
    assert {name: count for name, count in found.items() if count} == {"create.py": 1, "reading.py": 1}
