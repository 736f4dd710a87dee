"""Size classes: several pools in one segment, and pools that are added while it is in use."""

from __future__ import annotations

import os
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from zeroslot import PoolInfo, SampleTooLargeError, SlotAllocator, SlotReader
from zeroslot._core.binding import AllocatorEnd, Owner
from zeroslot.qos import Pool, Qos

POOLS = [(4096, 12), (1024, 8)]


class Small(zs.Sample):
    number: zs.U64
    rest: Annotated[NDArray[np.uint8], zs.Shape(100)] = np.zeros(100, np.uint8)


def made(**options: Any) -> SlotAllocator:
    return SlotAllocator.in_memory(**{"pools": POOLS, "depth": 4, "max_loans": 2} | options)


def capacities(slots: list[Any]) -> list[int]:
    return [len(slot) for slot in slots]


@pytest.mark.row("SLOT-15", "VAR-2")
def test_a_sample_gets_the_smallest_slot_that_fits_and_then_a_larger_one():
    with SlotAllocator.in_memory(pools=[(1024, 4), (4096, 4)], depth=2, max_loans=2) as slots:
        first, second = slots.reserve(10), slots.reserve(1024)
        assert [pool.committed for pool in slots.pools] == [0, 0]
        first.commit()
        second.commit()
        assert [pool.committed for pool in slots.pools] == [2, 0]
        large = slots.reserve(1025)
        large.commit()
        assert [pool.committed for pool in slots.pools] == [2, 1]


@pytest.mark.row("SLOT-15")
def test_a_full_class_passes_loans_on_to_a_larger_one_and_never_to_a_smaller_one():
    with SlotAllocator.in_memory(pools=[(1024, 4), (4096, 4)], depth=2) as slots:
        small = [slots.reserve(1000) for _ in range(4)]
        passed_on = slots.reserve(1000)
        passed_on.commit()
        assert [pool.passed_on for pool in slots.pools] == [1, 0]
        for slot in [slots.reserve(2000) for _ in range(3)]:
            slot.discard()
        assert len(small) == 4
        large = [slots.reserve(2000) for _ in range(3)]
        with pytest.raises(zs.NoFreeSlotError, match="none of 4 slots of 1025 bytes or more is free"):
            slots.reserve(1025)
        with pytest.raises(zs.NoFreeSlotError, match="none of 8 slots is free"):
            slots.reserve(1)
        assert [pool.no_free_slot for pool in slots.pools] == [1, 1]
        del large


@pytest.mark.row("SLOT-15", "VAR-7")
def test_a_sample_larger_than_every_class_is_refused_with_the_sizes():
    with made() as slots:
        with pytest.raises(SampleTooLargeError, match=r"4097 bytes.*slots of 1024, 4096 bytes") as raised:
            slots.reserve(4097)
        assert (raised.value.size, raised.value.capacity, raised.value.capacities) == (4097, 4096, (1024, 4096))
        assert raised.value.total_bytes == slots.size.total_bytes
        assert str(slots.size.total_bytes) in str(raised.value)


@pytest.mark.row("SLOT-15")
def test_without_a_size_a_slot_of_the_largest_class_is_reserved():
    with made() as slots:
        assert (len(slots.reserve()), slots.slot_capacity, slots.slot_count) == (4096, 4096, 20)


@pytest.mark.row("SLOT-15")
@pytest.mark.parametrize(
    ("pools", "text"),
    [
        ([(4096, 5)], "the pool of 4096 bytes has 5 slots, and needs at least 6"),
        ([(4096, 64), (1 << 20, 3)], "the pool of 1048576 bytes has 3 slots"),
        ([(4096, 8), (4000, 8)], "two pools with slots of 4096 bytes"),
        ([], "0 pools"),
        ([(128 * n, 6) for n in range(1, 18)], "17 pools"),
        ([(0, 8)], "slot capacity"),
        ([(128, 0)], "slot count"),
        ([(2**41, 8)], "slot capacity"),
    ],
)
def test_pools_that_cannot_be_are_refused(pools, text):
    with pytest.raises(ValueError, match=text):
        SlotAllocator.in_memory(pools=pools, depth=4, max_loans=2)


@pytest.mark.parametrize("pools", [4096, [4096], [(4096, 8, 1)], [("4096", 8)], [(4096, True)]])
def test_pools_of_other_types_are_refused(pools):
    with pytest.raises((TypeError, ValueError)):
        SlotAllocator.in_memory(pools=pools, depth=4, max_loans=2)


def test_pools_stand_in_place_of_count_and_capacity():
    with pytest.raises(TypeError, match="or pools in their place"):
        SlotAllocator.in_memory(8, 128, pools=[(128, 8)])
    with pytest.raises(TypeError, match="slot_capacity is missing"):
        SlotAllocator.in_memory(8)


@pytest.mark.row("SLOT-15")
def test_the_promise_of_loan_holds_for_each_class():
    """All kept samples, all loans and all leases may be of one class."""
    sizes = [(1024, 6), (4096, 6)]
    with zs.Publisher("pools/small", Small, pools=sizes, depth=4, max_loans=2, spare_slots=3) as pub:
        assert [(pool.slot_capacity, pool.slot_count) for pool in pub.stats.pools] == [(1024, 9), (4096, 9)]
    for size, _ in sizes:
        with SlotAllocator.in_memory(pools=[(1024, 9), (4096, 9)], depth=4, max_loans=2) as slots:
            reader = slots.reader(max_leases=3)
            held = []
            for _ in range(3):
                slots.reserve(size).commit()
                held.append(reader.take())
            for _ in range(20):
                loans = [slots.reserve(size) for _ in range(2)]
                for loan in loans:
                    loan.commit()
            assert sum(pool.passed_on + pool.no_free_slot for pool in slots.pools) == 0
            reader.close()


def test_the_counts_of_pools_are_exact_unless_spare_slots_or_a_reserve_are_asked_for():
    options = {"pools": [(1024, 16), (4096, 6)], "depth": 4, "max_loans": 2}
    for more, counts, spare in [
        ({}, [16, 6], 0),
        ({"spare_slots": 2}, [18, 8], 2),
        ({"evict_after": 1.0}, [20, 10], 0),
    ]:
        with zs.Publisher("pools/small", Small, **options, **more) as pub:
            assert [pool.slot_count for pool in pub.stats.pools] == counts
            assert pub.slot_count == sum(counts)
            assert pub.allocator.native.segment.info.spare_slots == spare


def test_a_class_that_is_too_small_for_the_type_is_refused():
    with pytest.raises(ValueError, match="the pool of 64 bytes is too small: each sample has at least 112"):
        zs.Publisher("pools/small", Small, pools=[(64, 64), (4096, 16)])


@pytest.mark.row("SLOT-15", "SLOT-18", "OBS-3")
def test_inspect_and_stats_show_each_pool():
    with zs.Publisher("pools/small", Small, pools=[(1024, 10), (4096, 10)]) as pub:
        pub.publish(Small(number=1))
        pub.loan().discard()
        expected = (PoolInfo(1024, 10, committed=1, discarded=1), PoolInfo(4096, 10))
        assert pub.stats.pools == expected
        facts = zs.inspect("pools/small").publishers[0]
        assert facts.pools == expected
        assert (facts.slot_count, facts.slot_capacity, expected[0].loans) == (20, 4096, 2)
        assert (expected[0].size_bytes, pub.stats.memory_bytes) == (10240, pub.allocator.size.total_bytes)


@pytest.mark.row("SLOT-15", "SEG-22")
def test_the_size_of_pools_is_known_without_creating_them():
    size = SlotAllocator.size_of(pools=POOLS, depth=4)
    assert size.pools == (PoolInfo(1024, 8), PoolInfo(4096, 12))
    assert (size.pool_bytes, size.slot_capacity) == (1024 * 8 + 4096 * 12, 4096)
    with made() as slots:
        assert slots.size == size


@pytest.mark.row("SLOT-15")
def test_an_evicted_reader_s_slots_are_replaced_within_their_class():
    qos = Qos(2, 1, 1, 4, "evict", evict_after=10.0, pools=(Pool(1024, 4), Pool(4096, 4)))
    assert [pool.slot_count for pool in qos.pools_of(1)] == [8, 8]
    with SlotAllocator.in_memory(pools=[(1024, 8), (4096, 8)], depth=2, max_loans=2) as slots:
        owner = Owner(slots.native.segment, None, 1, 4)
        end = AllocatorEnd(owner)
        reader = slots.reader()
        assert owner.withheld == 8
        held = []
        for _ in range(3):
            end.reserve(4096).commit()
            held.append(reader.take())
        owner.evict(0)
        assert owner.withheld == 5
        for _ in range(20):
            end.reserve(4096).commit()
        del held
        end.reserve(10).discard()
        assert owner.withheld == 8
        reader.close()


def test_create_or_attach_compares_the_pools(tmp_path):
    path = tmp_path / "x.flink"
    with SlotAllocator.create_or_attach(path, pools=POOLS, depth=4, max_loans=2) as slots:
        assert slots.is_owner
        reader = SlotAllocator.create_or_attach(path, pools=POOLS, depth=4, max_loans=2)
        assert isinstance(reader, SlotReader)
        assert [(pool.slot_capacity, pool.slot_count) for pool in reader.pools] == [(1024, 8), (4096, 12)]
        reader.close()
        with pytest.raises(zs.MismatchError, match="8 slots of 1024 bytes, 12 slots of 4096 bytes, not 20 slots"):
            SlotAllocator.create_or_attach(path, 20, 4096)
        assert repr(slots) == f"<SlotAllocator {path}: 8 slots of 1024 bytes, 12 slots of 4096 bytes>"


# --- growth ---


@pytest.mark.row("SLOT-16", "VAR-8", "SEG-9")
def test_a_pool_is_added_while_readers_are_attached_and_views_stay_where_they_are(tmp_path):
    with SlotAllocator.create(tmp_path / "x.flink", 8, 128, depth=4, max_loans=2, grow=True) as slots:
        reader = SlotReader.attach(tmp_path / "x.flink")
        slots.commit(slots.reserve(4), b"old!")
        old = reader.take()
        kept, address = memoryview(old), old.array().ctypes.data
        slots.add_pool(5000, 6)
        assert [(pool.slot_capacity, pool.slot_count) for pool in slots.pools] == [(128, 8), (5120, 6)]
        assert reader.slot_count == 8  # it maps the pool when it needs it
        slots.commit(slots.reserve(5000), b"n" * 5000)
        slots.commit(slots.reserve(4), b"last")
        assert [bytes(reader.take()) for _ in range(2)] == [b"n" * 5000, b"last"]
        assert (reader.take(), reader.lost, reader.slot_count, reader.slot_capacity) == (None, 0, 14, 5120)
        assert (bytes(kept), old.array().ctypes.data) == (b"old!", address)
        later = SlotReader.attach(tmp_path / "x.flink", history=2)
        assert bytes(later.take()) == b"n" * 5000
        reader.close()
        later.close()


@pytest.mark.row("SLOT-16", "VAR-3", "VAR-8")
def test_a_segment_grows_for_a_sample_that_fits_no_slot():
    with SlotAllocator.in_memory(8, 128, depth=4, grow=True, max_bytes=100_000) as slots:
        reader = slots.reader()
        for size in (100, 1000, 3000, 100_000):
            slots.commit(slots.reserve(size), bytes([size % 251]) * size)
        assert [pool.slot_capacity for pool in slots.pools] == [128, 1024, 4096, 100_096]
        assert {pool.slot_count for pool in slots.pools} == {8}
        assert [reader.take().size for _ in range(4)] == [100, 1000, 3000, 100_000]
        with pytest.raises(SampleTooLargeError, match="max_bytes=100000") as raised:
            slots.reserve(100_097)
        assert raised.value.total_bytes == slots.size.total_bytes
        reader.close()


@pytest.mark.row("VAR-8")
def test_the_last_pool_of_the_table_has_slots_for_the_largest_sample():
    with SlotAllocator.in_memory(8, 128, depth=4, grow=True, max_bytes=1 << 20) as slots:
        for _ in range(14):
            slots.add_pool(256, 1 if slots.slot_capacity == 256 else 8)
        slots.reserve(300).discard()
        assert (len(slots.pools), slots.slot_capacity) == (16, 1 << 20)


@pytest.mark.row("VAR-8")
def test_the_limits_of_growth_are_errors_with_the_bytes_in_total():
    with SlotAllocator.in_memory(8, 128, depth=4, grow=True) as slots:
        for _ in range(15):
            slots.add_pool(128, 1)
        total = str(slots.size.total_bytes)
        with pytest.raises(ValueError, match=f"16 of 16 pools.*{total} bytes in total"):
            slots.add_pool(256)
        with pytest.raises(SampleTooLargeError, match=f"{total} bytes in total.*as many pools or slots as it can have"):
            slots.reserve(129)
    with SlotAllocator.in_memory(8, 128, depth=4, grow=True) as slots:
        left = slots.native.segment.info.slot_limit - 8
        with pytest.raises(ValueError, match=f"no room for another pool of {left + 1} slots"):
            slots.add_pool(256, left + 1)
        slots.add_pool(256, left)
        with pytest.raises(SampleTooLargeError, match="as many pools or slots"):
            slots.reserve(257)


def test_a_segment_without_grow_gets_no_pool():
    with SlotAllocator.in_memory(8, 128) as slots:
        with pytest.raises(ValueError, match="grow=True"):
            slots.add_pool(256)
        with pytest.raises(SampleTooLargeError, match="Create the segment with larger slots"):
            slots.reserve(129)
    with pytest.raises(ValueError, match="grow=True too"):
        SlotAllocator.in_memory(8, 128, max_bytes=1000)


def test_a_new_class_needs_as_many_slots_as_any_other():
    with SlotAllocator.in_memory(8, 128, depth=4, max_loans=2, grow=True) as slots:
        with pytest.raises(ValueError, match="needs at least 6"):
            slots.add_pool(256, 5)
        slots.add_pool(128, 1)  # more slots of a class that is there
        assert slots.slot_count == 9


@pytest.mark.row("VAR-8")
def test_growth_that_finds_no_memory_tries_the_size_itself_and_leaves_nothing(tmp_path, monkeypatch):
    from zeroslot.memory import create

    with SlotAllocator.create(tmp_path / "x.flink", 8, 128, depth=4, grow=True) as slots:
        before = sorted(os.listdir("/dev/shm"))
        free = 9000 * 8
        monkeypatch.setattr(create, "_free_bytes", lambda fd: free)
        with pytest.raises(zs.OutOfSharedMemoryError) as raised:
            slots.reserve(10_000)
        assert raised.value.needed_bytes == slots.size.total_bytes + 10112 * 8  # 10 000 bytes, rounded up to 128
        assert sorted(os.listdir("/dev/shm")) == before
        assert slots.slot_count == 8
        slots.reserve(8900).discard()  # 16 384 bytes do not fit, 8960 do
        assert slots.slot_capacity == 8960


def test_an_interrupted_growth_leaves_no_object_or_a_whole_pool(tmp_path, monkeypatch):
    from zeroslot.memory import create

    for name in ("_allocate", "_describe"):
        real = getattr(create, name)
        for late in (False, True):
            with SlotAllocator.create(tmp_path / f"{name}{late}.flink", 8, 128, depth=4, grow=True) as slots:
                reader = SlotReader.attach(tmp_path / f"{name}{late}.flink")

                def interrupted(*arguments: Any, real=real, late=late, **named: Any) -> Any:
                    if late:
                        real(*arguments, **named)
                    raise KeyboardInterrupt

                monkeypatch.setattr(create, name, interrupted)
                with pytest.raises(KeyboardInterrupt):
                    slots.reserve(1000)
                monkeypatch.undo()
                own = [path for path in os.listdir("/dev/shm") if path.startswith(str(slots._owned.control_name)[1:])]
                assert len(own) == 1 + len(slots.pools)
                slots.commit(slots.reserve(1000), b"x" * 1000)
                assert (bytes(reader.take()), len(slots.pools)) == (b"x" * 1000, 2)
                reader.close()


def test_a_segment_without_names_any_more_does_not_grow(tmp_path):
    with SlotAllocator.create(tmp_path / "x.flink", 8, 128, grow=True) as slots:
        slots.unlink()
        with pytest.raises(zs.ClosedError, match="names have been removed"):
            slots.add_pool(256)


def test_an_allocator_that_adds_no_pool_raises_and_does_not_crash():
    """Python code that overrides a hook of the core cannot make it use a slot that is too small."""

    class Lazy(SlotAllocator):
        def _add_pool_for(self, size: int) -> None:
            pass

    with Lazy.in_memory(8, 128, grow=True) as slots:
        with pytest.raises(SampleTooLargeError):
            slots.reserve(129)
        with pytest.raises(SampleTooLargeError):
            slots.reserve_uninit(2**62)


@pytest.mark.row("SLOT-16")
@pytest.mark.parametrize("subscribers", [1, 64, 577, 1024])
@pytest.mark.parametrize(("slots", "grow"), [(2, False), (42, False), (42, True), (65535, False), (3000, True)])
def test_the_control_object_stays_within_its_bound(slots, grow, subscribers):
    """64 KiB, 256 bytes for each slot that the segment can have and 768 for each subscriber, without the schema."""
    size = SlotAllocator.size_of(slots, 128, max_subscribers=subscribers, grow=grow)
    limit = min(slots * (16 if grow else 1), 65535)
    assert size.control_bytes <= 65536 + 256 * limit + 768 * subscribers


# --- publishers of types with variable fields ---


class Cloud(zs.Sample):
    stamp_ns: zs.U64
    points: NDArray[np.float32]


def cloud(count: int) -> Cloud:
    return Cloud(stamp_ns=count, points=np.arange(count, dtype=np.float32))


@pytest.mark.row("SLOT-15", "VAR-2")
def test_a_publisher_puts_each_sample_into_the_smallest_slot_that_fits():
    sizes = [(4096, 10), (1 << 20, 10)]
    with zs.Publisher("pools/cloud", Cloud, pools=sizes) as pub, zs.Subscriber("pools/cloud", Cloud) as sub:
        for count in (10, 100_000, 20):
            pub.publish(cloud(count))
        assert [len(sub.take(0).sample.points) for _ in range(3)] == [10, 100_000, 20]
        assert [pool.committed for pool in pub.stats.pools] == [2, 1]
        with pytest.raises(SampleTooLargeError, match=r"pools/cloud: .* slots of 4096, 1048576 bytes"):
            pub.publish(cloud(1 << 20))


@pytest.mark.row("SLOT-16", "VAR-3", "VAR-8", "SEG-9")
def test_a_publisher_grows_for_larger_samples_and_its_subscriber_misses_none():
    with (
        zs.Publisher("pools/cloud", Cloud, grow=True, max_bytes=1 << 20) as pub,
        zs.Subscriber("pools/cloud", Cloud) as sub,
    ):
        kept = []
        for count in (1, 5000, 200_000, 2, 100_000):
            pub.publish(cloud(count))
            lease = sub.take(0)
            assert (lease.sample.stamp_ns, len(lease.sample.points)) == (count, count)
            kept.append(lease.sample.points)
            kept = kept[-3:]
        for points in kept:
            assert points.tolist() == list(range(len(points)))
        assert [pool.slot_capacity for pool in pub.stats.pools] == [4096, 32768, 1 << 20]
        assert (sub.lost, sub.skipped) == (0, 0)
        with pytest.raises(SampleTooLargeError, match="max_bytes=1048576"):
            pub.loan(points=300_000)
        assert zs.inspect("pools/cloud").publishers[0].pools == pub.stats.pools
        pub.publish_many([cloud(3), cloud(4)])
        assert [len(sub.take(0).sample.points) for _ in range(2)] == [3, 4]


def test_metadata_has_its_place_behind_the_largest_sample_of_each_class():
    with (
        zs.Publisher("pools/cloud", Cloud, grow=True, max_bytes=30_000, metadata=True, crc=True) as pub,
        zs.Subscriber("pools/cloud", Cloud, verify=True) as sub,
    ):
        for size in (4096, 30_000):
            count = (size - zs.layout_of(Cloud).size - 64) // 4
            pub.publish(cloud(count), metadata={"user": b"u" * 512})
            lease = sub.take(0)
            assert (len(lease.sample.points), lease.metadata.user) == (count, b"u" * 512)
        assert len(pub.stats.pools) == 2


def test_max_bytes_and_pools_have_to_agree():
    with pytest.raises(ValueError, match="the largest slots in pools have 4096 bytes"):
        zs.Publisher("pools/cloud", Cloud, pools=[(4096, 10)], max_bytes=5000)
    with pytest.raises(ValueError, match="or pools, or grow=True"):
        zs.Publisher("pools/cloud", Cloud)
    with zs.Publisher("pools/cloud", Cloud, pools=[(4096, 10)], max_bytes=5000, grow=True) as pub:
        pub.loan(points=1200).discard()
        assert [pool.slot_capacity for pool in pub.stats.pools] == [4096, 5120]
