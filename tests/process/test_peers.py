"""The peer table from the outside: what an entry goes through, and what owners do about the dead and the stalled."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zeroslot as zs
from tests.process.actors import Cast
from tests.process.samples import Tick
from tests.unit.control_bytes import PEER_SIZE, READERS_AT, SLOT_SIZE, ControlBytes
from zeroslot._core.binding import Descriptor


def publish(pub: zs.Publisher[Tick], count: int) -> None:
    for _ in range(count):
        pub.publish(Tick(number=pub.sequence + 1))


class Outside:
    """An observer with the control object's bytes, which may probe locks and nothing else."""

    def __init__(self, flink: Path) -> None:
        self._bytes = ControlBytes(flink)
        self._probe = Descriptor.open(str(self._bytes.path), os.O_RDONLY)

    def close(self) -> None:
        self._probe.close()

    def held(self, index: int) -> int:
        """How many slots have the bit of this subscriber."""
        first, count = self._bytes.at("slots"), self._bytes.read(56, "I")
        words = (self._bytes.read(first + SLOT_SIZE * slot + READERS_AT, "Q") for slot in range(count))
        return sum(word >> index & 1 for word in words)

    def epoch(self, index: int) -> int:
        return int(self._bytes.read(self._bytes.at("peers") + PEER_SIZE * index, "I"))

    def state(self, index: int) -> str:
        """In the words of the feature table, of what is there: lock, bit in `active`, bits in slots."""
        locked = self._probe.is_locked(64 + index)
        active = bool(self._bytes.read(self._bytes.at("active"), "Q") >> index & 1)
        if not locked:
            return "dead" if active or self.held(index) else "free"
        if active:
            return "attached"
        return "leaving" if self.held(index) else "joining"


@pytest.fixture
def pub() -> Iterator[zs.Publisher[Tick]]:
    with zs.Publisher("t", Tick, depth=2, max_loans=1, spare_slots=8, max_subscribers=4) as made:
        yield made


@pytest.fixture
def outside(pub: zs.Publisher[Tick]) -> Iterator[Outside]:
    made = Outside(pub.flink)
    yield made
    made.close()


@pytest.mark.row("PEER-1", "PEER-13", "PEER-16")
def test_an_entry_is_free_attached_leaving_or_dead(cast: Cast, pub: zs.Publisher[Tick], outside: Outside):
    """As inspection shows it: by the lock, the bit in `active`, and the bits in slots."""
    assert outside.state(0) == "free"
    leaver, victim = cast.subscriber("t", name="leaver"), cast.subscriber("t", name="victim")
    assert [outside.state(index) for index in range(3)] == ["attached", "attached", "free"]
    publish(pub, 2)
    for sub in (leaver, victim):
        sub.ask(["hold", 2])
    (facts,) = zs.inspect("t").publishers
    assert [(one.name, one.pid, one.held) for one in facts.subscribers] == [
        ("leaver", leaver.pid, 2),
        ("victim", victim.pid, 2),
    ]
    leaver.ask(["close"])
    assert outside.state(0) == "leaving"
    victim.stop()
    assert outside.state(1) == "attached"
    assert zs.inspect("t").publishers[0].subscribers[0].stopped
    victim.kill()
    assert outside.state(1) == "dead"
    assert zs.inspect("t").publishers[0].subscribers == ()
    assert pub.reap() == 1
    assert [outside.state(index) for index in range(2)] == ["leaving", "free"]
    leaver.ask(["drop"])
    assert outside.state(0) == "free"
    assert pub.stats.reaped == 1


@pytest.mark.row("PEER-13")
def test_a_closed_subscriber_keeps_its_leases_and_blocks_no_publisher(cast: Cast, pub: zs.Publisher[Tick]):
    """Its samples stay whole, and its last lease frees slot and index without a reaper."""
    sub = cast.subscriber("t")
    publish(pub, 2)
    held = sub.ask(["hold", 2])
    sub.ask(["close"])
    assert pub.subscriber_count == 0
    assert (pub.reap(), pub.allocator.free_count) == (0, pub.slot_count - 2)
    publish(pub, 20)
    assert pub.allocator.free_count == pub.slot_count - 2 - 2
    assert sub.ask(["held"]) == held
    sub.ask(["drop"])
    assert pub.allocator.free_count == pub.slot_count - 2
    with zs.Subscriber("t", Tick):
        assert pub.allocator.subscriber_indexes() == [0]
    assert pub.stats.reaped == 0


@pytest.mark.row("PEER-2", "DEF-7")
def test_the_epoch_tells_two_subscribers_of_one_index_apart(cast: Cast, pub: zs.Publisher[Tick], outside: Outside):
    """An eviction of the first does not evict the second."""
    epochs = []
    for _ in range(3):
        sub = cast.subscriber("t")
        epochs.append(outside.epoch(0))
        publish(pub, 1)
        sub.ask(["hold", 1])
        assert pub.allocator.evict_stale(0.0) == 1
        assert pub.allocator.native.is_evicted(0)
        sub.kill()
    successor = cast.subscriber("t")
    epochs.append(outside.epoch(0))
    assert epochs == list(range(epochs[0], epochs[0] + 4))
    assert not pub.allocator.native.is_evicted(0)
    publish(pub, 1)
    assert successor.ask(["poll"])[0] == pub.sequence
    assert pub.subscriber_count == 1


@pytest.mark.row("PEER-9", "DEF-10")
def test_a_lease_of_a_dead_publisher_keeps_its_bytes_and_the_last_one_unmaps_the_pool(cast: Cast, zeroslot_dir: Path):
    """The dead publisher's loans are never seen."""
    pub = cast.publisher("t", max_loans=4)
    with zs.Subscriber("t", Tick) as sub:
        pub.ask(["publish", 3])
        leases = [sub.take() for _ in range(2)]
        pub.ask(["loan", 4])
        control = Path(next(zeroslot_dir.rglob("*.flink")).read_text()).name
        pub.kill()
        assert [lease.sequence for lease in iter(sub.take, None)] == [3]
        assert sub.publishers == ()
        with zs.Publisher("t", Tick) as successor:
            assert not Path("/dev/shm", control).exists()
            assert not Path("/dev/shm", f"{control}-p0").exists()
            successor.publish(Tick(number=9))
            following = sub.take(timeout=None)
            assert following is not None
            assert (following.sample.number, sub.lost) == (9, 0)
            assert [lease.sample.number for lease in leases if lease is not None] == [1, 2]
            assert f"{control}-p0" in Path("/proc/self/maps").read_text()
            leases.clear()
            assert control not in Path("/proc/self/maps").read_text()


@pytest.mark.row("PEER-12", "SLOT-11")
def test_evict_stale_evicts_the_subscribers_that_have_stalled_that_long(cast: Cast, tmp_path: Path):
    """It returns their number; a subscriber that has taken everything is not evicted; `reap` clears the dead."""
    with zs.SlotAllocator.create(tmp_path / "s", 12, 64, depth=4) as slots:
        readers = [zs.SlotReader.attach(tmp_path / "s", name=name) for name in ("holder", "idle")]
        slots.commit(slots.reserve(), b"x")
        held = readers[0].take()
        assert held is not None
        assert (slots.evict_stale(3600.0), slots.stats["evicted"]) == (0, 0)
        assert (slots.evict_stale(0.0), slots.stats["evicted"]) == (1, 1)
        assert slots.evict_stale(0.0) == 0  # once each
        with pytest.raises(zs.EvictedError):
            readers[0].take()
        idle = readers[1].take()
        assert idle is not None
        assert bytes(idle) == bytes(held) == b"x"
        for number in range(40):
            slots.commit(slots.reserve(), bytes([number]))
        assert bytes(held) == b"x"
        assert slots.reap() == 0
        del held, idle
        for reader in readers:
            reader.close()
        assert slots.free_count == 12 - 4


@pytest.mark.row("PEER-14", "PEER-8", "NOT-4")
def test_a_blocked_publisher_is_told_of_the_death_that_frees_its_slot(cast: Cast):
    """In the waiting thread, with the subscriber's facts; then it continues."""
    told: list[Any] = []
    with zs.Publisher("t", Tick, depth=2, max_loans=1, on_full="block") as pub:
        pub.on_subscriber_death(lambda peer: told.append((peer, threading.get_ident())))
        sub = cast.subscriber("t", name="gone", reliable=True)
        publish(pub, 2)
        sub.ask(["hold", 1])
        publish(pub, 1)
        done: list[int] = []
        thread = threading.Thread(target=lambda: done.append(pub.publish(Tick(number=4), timeout=None)))
        thread.start()
        ControlBytes(pub.flink).wait_until_blocked()
        sub.kill()
        thread.join()
        ((peer, where),) = told
        assert (peer.name, peer.pid, peer.slots, peer.behind) == ("gone", sub.pid, 1, 2)
        assert (done, where) == ([4], thread.ident)
        pub.on_subscriber_death(None)
        cast.subscriber("t").kill()
        assert (pub.reap(), len(told)) == (1, 1)


@pytest.mark.row("SUB-19")
def test_flush_waits_for_a_stopped_subscriber_and_not_for_an_evicted_one(cast: Cast):
    """False after the timeout; True as soon as no subscriber is left that has to take."""
    with zs.Publisher("t", Tick, depth=4, on_full="block") as pub:
        sub = cast.subscriber("t", reliable=True)
        assert pub.flush(0)
        publish(pub, 2)
        sub.stop()
        assert not pub.flush(0.01)
        assert pub.allocator.evict_stale(0.0) == 1
        assert pub.flush(None)
        sub.cont()
        with zs.Subscriber("t", Tick, reliable=True) as other:
            publish(pub, 1)
            assert not pub.flush(0)
            lease = other.take()
            assert lease is not None
            assert pub.flush(None)  # taken, though not given back


@pytest.mark.row("SUB-16")
def test_a_publisher_is_overdue_while_it_misses_its_period(cast: Cast):
    """One that is stopped, one that has never published; not one that is in time."""
    period = 0.2

    def overdue() -> dict[str, bool]:
        return {info.name: info.overdue for info in sub.publishers}

    with zs.Subscriber("t", Tick) as sub:
        stopped = cast.publisher("t", name="stopped", max_period=period)
        cast.publisher("t", name="never", max_period=period)
        prompt = cast.publisher("t", name="prompt", max_period=3600.0)
        for pub in (stopped, prompt):
            pub.ask(["publish", 1])
        stopped.stop()
        while not (overdue()["stopped"] and overdue()["never"]):  # as one waits for it: there is no call for that
            sub.wait(timeout=0.01)
            for _lease in iter(sub.take, None):
                pass
        assert not overdue()["prompt"]
        assert sub.wait_for_publishers(3, timeout=0)  # overdue is not gone
        stopped.cont()
        while overdue()["stopped"]:
            stopped.ask(["publish", 1])
