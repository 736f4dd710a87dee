"""Eight defects that were found in another library's Python binding, and must not exist here."""

from __future__ import annotations

import errno
import signal
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from tests.process.actors import Cast
from tests.process.samples import Frame, Imu, Tick

IMUS = """
import numpy as np
import zeroslot as zs
from tests.process.samples import Imu

pub = zs.Publisher("t", Imu, depth=2)
say("ready")
for first, count in orders():
    for number in range(first, first + count):
        pub.publish(Imu(stamp_ns=number, accel=np.full(3, float(number))))
    say(pub.sequence)
pub.close()
"""


@pytest.mark.row("NEW-1", "BUF-3", "SEC-7", "DEF-17")
def test_writing_to_a_received_sample_is_an_error(cast: Cast):
    """Every way that Python has to write is refused, down the whole chain of bases; the sample is unchanged."""
    pub = cast(IMUS)
    pub.expect("ready")
    with zs.Subscriber("t", Imu) as sub:
        pub.ask([1, 1])
        lease = sub.take(timeout=None)
        assert lease is not None
        sample, array = lease.sample, lease.sample.accel
        with pytest.raises(TypeError):
            sample.stamp_ns = 7
        with pytest.raises(TypeError):
            sample.accel = np.zeros(3)
        with pytest.raises(TypeError):
            sample.frame = "x"
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7
        with pytest.raises(ValueError, match="read-only"):
            array[1:][...] = 7
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            array.flags.writeable = True
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            array[1:].view("u1").setflags(write=True)
        with pytest.raises(TypeError):
            memoryview(array)[0] = 7.0
        with pytest.raises(TypeError):
            memoryview(lease)[0] = 7
        assert memoryview(lease).readonly
        with pytest.raises((TypeError, BufferError, ValueError)):
            np.frombuffer(lease, "u1")[0] = 7
        with pytest.raises((TypeError, BufferError, ValueError)):
            (bytearray().join([b""]), __import__("ctypes").c_char.from_buffer(lease))
        base: object = array
        while base is not None:
            if isinstance(base, np.ndarray):
                assert not base.flags.writeable
            base = getattr(base, "base", None)
        assert (sample.stamp_ns, array.tolist(), sample.frame) == (1, [1.0, 1.0, 1.0], "imu")


@pytest.mark.row("DEF-17", "SEC-7")
def test_the_memory_of_a_received_sample_is_mapped_read_only(cast: Cast):
    """No pool of another process is mapped writable."""
    pub = cast(IMUS)
    pub.expect("ready")
    child = cast(
        """
        import zeroslot as zs
        from tests.process.samples import Imu
        with zs.Subscriber("t", Imu) as sub:
            say(sorted(line.split()[1] for line in open("/proc/self/maps") if "/zs-" in line and "-p0" in line))
            say(sorted(line.split()[1] for line in open("/proc/self/maps") if "/zs-" in line and "-p0" not in line))
        """
    )
    child.expect(["r--s"])
    child.expect(["rw-s"])


@pytest.mark.row("DEF-17", "SEC-7", "BUF-3")
@pytest.mark.parametrize("how", ["write", "allow and write", "allow"])
def test_a_received_sample_cannot_be_made_writable(cast: Cast, how: str):
    """A write through a raw address ends the writer, and the kernel refuses mprotect."""
    pub = cast(IMUS)
    pub.expect("ready")
    child = cast(
        """
        import ctypes, faulthandler, signal, sys, zeroslot as zs
        from tests.process.samples import Imu
        faulthandler.disable()
        libc = ctypes.CDLL(None, use_errno=True)
        with zs.Subscriber("t", Imu) as sub:
            say("here")
            lease = sub.take(timeout=None)
            address = lease.sample.accel.ctypes.data
            if "allow" in args[0]:
                page = address & ~4095
                say([libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(4096), 3), ctypes.get_errno()])
            if "write" in args[0]:
                ctypes.c_double.from_address(address).value = 4711.0
        """,
        how,
    )
    child.expect("here")
    with zs.Subscriber("t", Imu) as sub:
        pub.ask([1, 1])
        lease = sub.take(timeout=None)
        assert lease is not None
        before = lease.sample.accel.tolist()
        if "allow" in how:
            child.expect([-1, errno.EACCES])
        assert child.wait() == (-signal.SIGSEGV if "write" in how else 0)
        assert lease.sample.accel.tolist() == before


@pytest.mark.row("DEF-15", "NEW-1", "SUB-5")
def test_a_view_keeps_its_own_slot_and_no_other(cast: Cast):
    """One array of one sample among many: every other slot is reused."""
    with zs.Publisher("t", Imu, depth=2, max_loans=1, spare_slots=4) as pub, zs.Subscriber("t", Imu) as sub:
        pub.publish(Imu(stamp_ns=1, accel=np.arange(3.0)))
        lease = sub.take()
        assert lease is not None
        address = lease.sample.accel.ctypes.data
        view = lease.sample.accel[1:]
        lease.release()
        del lease
        segment = pub.allocator.native.segment
        used = set()
        for number in range(2, 40):
            with pub.loan() as imu:
                used.add(imu.accel.ctypes.data)
                imu.stamp_ns = number
            assert len(segment.held_by(0)) == 1
            taken = sub.take()
            assert taken is not None
            del taken
        assert view.tolist() == [1.0, 2.0]
        assert pub.allocator.free_count == pub.slot_count - 2 - 1
        assert len(used) == pub.slot_count - 1
        assert view.ctypes.data == address + 8  # in place: the subscriber's own mapping, and no copy
        assert "-p0" in next(line for line in Path("/proc/self/maps").read_text().splitlines() if _holds(line, address))
        del view
        assert pub.allocator.free_count == pub.slot_count - 2


def _holds(line: str, address: int) -> bool:
    first, _, last = line.split(maxsplit=1)[0].partition("-")
    return int(first, 16) <= address < int(last, 16)


@pytest.mark.row("BUF-4", "DEF-15")
def test_a_released_lease_raises_closed_error(cast: Cast):
    """The text says that what was taken from it before stays valid; and it does."""
    pub = cast(IMUS)
    pub.expect("ready")
    with zs.Subscriber("t", Imu) as sub:
        pub.ask([1, 1])
        lease = sub.take(timeout=None)
        assert lease is not None
        kept = lease.sample
        lease.release()
        lease.release()
        for touch in (
            lambda: lease.sample,
            lease.copy,
            lambda: lease.published_ns,
            lambda: memoryview(lease)[0],
            lease.__len__,
            lease.array,
        ):
            with pytest.raises(zs.ClosedError):
                touch()
        assert repr(lease)
        assert lease.sequence == 1
        assert kept.stamp_ns == 1


@pytest.mark.row("NEW-1", "BUF-5", "SUB-5", "DEF-15")
def test_a_kept_view_still_reads_its_own_sample_after_ten_more(cast: Cast):
    """The lease is gone and the array is kept: it reads the same after ten samples and after the publisher's end."""
    pub = cast(IMUS)
    pub.expect("ready")
    sub = zs.Subscriber("t", Imu)
    pub.ask([1, 1])
    lease = sub.take(timeout=None)
    assert lease is not None
    array, part = lease.sample.accel, lease.sample.accel[1:]
    raw = memoryview(lease)
    before = bytes(raw)
    lease.release()
    del lease
    assert pub.ask([2, 10]) == 11
    taken = [newer.sample.stamp_ns for newer in iter(sub.take, None)]
    assert taken == [10, 11]
    assert array.tolist() == [1.0, 1.0, 1.0]
    assert bytes(raw) == before
    sub.close()
    pub.ask([12, 10])
    pub.finish()
    assert part.tolist() == [1.0, 1.0]
    assert bytes(raw) == before


def test_an_array_field_is_a_numeric_array_in_place(cast: Cast):
    """The declared dtype and shape; the whole sample as bytes; never an object array of shape ()."""
    pub = cast(IMUS)
    pub.expect("ready")
    with zs.Subscriber("t", Imu) as sub:
        pub.ask([3, 1])
        lease = sub.take(timeout=None)
        assert lease is not None
        array = np.asarray(lease.sample.accel)
        assert (array.dtype, array.shape, array.tolist()) == (np.dtype("f8"), (3,), [3.0, 3.0, 3.0])
        assert np.shares_memory(array, lease.sample.accel)
        whole = np.asarray(lease)
        assert (whole.dtype, whole.shape) == (np.dtype("u1"), (zs.layout_of(Imu).size,))
        record = np.frombuffer(lease, zs.layout_of(Imu).dtype)[0]
        assert (record["stamp_ns"], record["accel"].tolist()) == (3, [3.0, 3.0, 3.0])


@pytest.mark.row("TYP-4", "TYP-6", "NEW-3", "DEF-16")
def test_two_swapped_fields_do_not_connect(cast: Cast):
    """One name, one size, two fields exchanged: TypeMismatchError with both offsets, whichever side starts first."""
    pub = cast(IMUS)
    pub.expect("ready")

    class Swapped(zs.Sample):
        accel: Annotated[NDArray[np.float64], zs.Shape(3)]
        stamp_ns: zs.U64
        frame: Annotated[str, zs.MaxBytes(16)] = "imu"

    Swapped.__name__ = "Imu"
    assert zs.layout_of(Swapped).size == zs.layout_of(Imu).size
    with pytest.raises(zs.TypeMismatchError) as caught:
        zs.Subscriber("t", Swapped)
    assert "stamp_ns" in caught.value.difference
    assert "accel" in caught.value.difference
    with pytest.raises(zs.TypeMismatchError):
        zs.Publisher("t", Swapped)
    with zs.Subscriber("u", Swapped) as early, zs.Publisher("u", Imu) as late:
        late.publish(Imu(stamp_ns=1, accel=np.zeros(3)))
        with pytest.raises(zs.TypeMismatchError):
            early.take()
        assert early.take() is None


@pytest.mark.parametrize("moment", ["during", "after"])
def test_ctrl_c_ends_a_wait_and_a_loop_of_takes(cast: Cast, moment: str):
    """During a wait it ends the wait; while samples arrive it ends the loop that takes them."""
    child = cast(
        """
        import zeroslot as zs
        from tests.process.samples import Tick
        pub = zs.Publisher("t", Tick)
        sub = zs.Subscriber("t", Tick, spin_us=0)
        try:
            say("waiting")
            while True:
                if args[0] == "after":
                    pub.publish(Tick(number=1))
                sub.take(timeout=None)
        except KeyboardInterrupt:
            say("interrupted")
        sub.close()
        pub.close()
        """,
        moment,
    )
    child.expect("waiting")
    if moment == "during":
        child.wait_for_sleep()
    child.signal(signal.SIGINT)
    child.expect("interrupted")


@pytest.mark.row("SEG-11", "SEG-13", "PEER-11")
def test_a_successor_removes_the_files_of_a_killed_publisher(cast: Cast, zeroslot_dir):
    """Objects, flink and bell of the dead one are gone, and after the successor's close its own too."""
    first = cast(IMUS)
    first.expect("ready")
    first.ask([1, 3])
    first.kill()
    dead = {path.name for path in zeroslot_dir.rglob("*.flink")}
    assert len(dead) == 1
    second = cast(IMUS)
    second.expect("ready")
    alive = {path.name for path in zeroslot_dir.rglob("*.flink")}
    assert len(alive) == 1
    assert not alive & dead
    second.finish()
    assert [path for path in zeroslot_dir.rglob("*") if path.is_file()] == []


@pytest.mark.row("SUB-10")
def test_history_is_delivered_without_another_publish(cast: Cast):
    """A late subscriber on a quiet topic has it when its constructor returns."""
    pub = cast(IMUS)
    pub.expect("ready")
    pub.ask([1, 5])
    with zs.Subscriber("t", Imu, history=2) as sub:
        assert [lease.sample.stamp_ns for lease in iter(sub.take, None)] == [4, 5]


@pytest.mark.row("SEG-22")
def test_the_default_spare_slots_of_large_samples_are_bounded(zeroslot_dir: object):
    """A publisher of 64 KiB frames takes the memory of its slots and little more; spare ones at most 16 MiB."""
    layout = zs.layout_of(Frame)
    with zs.Publisher("t", Frame) as pub:
        size = pub.allocator.size
        assert pub.slot_count == 8 + 2 + 32
        assert size.total_bytes < pub.slot_count * (layout.size + 64) + 128 * 1024

    class Large(zs.Sample):
        data: Annotated[NDArray[np.uint8], zs.Shape(1 << 20)]

    with zs.Publisher("t", Large) as pub:
        assert pub.slot_count == 8 + 2 + 16
        # The other library reserves 34 slots, 35.6 MB, for the same.
        assert pub.allocator.size.total_bytes < 28 << 20


def test_log_records_go_to_the_logging_module(cast: Cast, caplog: pytest.LogCaptureFixture):
    """Nothing is printed: a subscription that the spare slots do not cover is a warning."""
    with zs.Publisher("t", Tick, spare_slots=2), caplog.at_level("WARNING", "zeroslot"), zs.Subscriber("t", Tick):
        pass
    assert any("spare_slots" in record.getMessage() for record in caplog.records)
