"""Resources that the system refuses: memory, descriptors, rights. Each is an error with advice, and nothing is left."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import zeroslot as zs
from tests import shared_memory
from tests.process.actors import Cast
from tests.process.samples import Tick

OTHER_USER = 65534

# A mount namespace of its own, with a small /dev/shm in it.
SMALL_SHM = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def checked(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
checked(libc.unshare(0x00020000))  # CLONE_NEWNS
checked(libc.mount(b"none", b"/", None, 16384 | 262144, None))  # MS_REC | MS_PRIVATE
checked(libc.mount(b"none", b"/dev/shm", b"tmpfs", 0, args[0].encode()))
os.environ.pop("ZEROSLOT_DIR")
"""


@pytest.fixture
def small_shm():
    """Skips where a process may not mount a /dev/shm of its own."""
    probe = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x00020000) != 0)"
    if os.geteuid() != 0 or subprocess.run(["python3", "-c", probe], capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small /dev/shm")


@pytest.mark.row("NEW-9")
@pytest.mark.parametrize("mounted", ["size=10m", "size=10m,huge=advise", "size=16m,huge=always"])
def test_huge_pages_in_a_small_dev_shm(cast: Cast, small_shm: None, mounted: str):
    """However it is mounted: samples arrive, readers too map huge pages; a full one is the same error as with small
    pages, and leaves nothing.
    """
    child = cast(
        SMALL_SHM
        + """
from typing import Annotated
import numpy as np, zeroslot as zs
from numpy.typing import NDArray
from zeroslot.memory.hugepages import huge_bytes

class Large(zs.Sample):
    data: Annotated[NDArray[np.uint8], zs.Shape(1 << 20)]


try:
    zs.Publisher("t", Large, hugepages=True)
    say("created")
except zs.OutOfSharedMemoryError as error:
    say(error.free_bytes < error.needed_bytes)
say([name for name in os.listdir("/dev/shm") if name.startswith("zs-")])
options = {"depth": 1, "max_loans": 1, "spare_slots": 4}
with zs.Publisher("t", Large, hugepages=True, **options) as pub, zs.Subscriber("t", Large) as sub:
    for number in range(20):
        pub.publish(Large(data=np.full(1 << 20, number, "u1")))
        lease = sub.take()
        assert (lease.sample.data == number).all()
        lease.release()
    reader = next(iter(sub._table.attached().values())).source.reader
    say([pub.stats.huge_bytes, huge_bytes(reader.segment.pool_regions), pub.stats.memory_bytes])
    del lease
    try:
        zs.Publisher("u", Large, hugepages=True, **options)
    except zs.OutOfSharedMemoryError as error:
        say(error.free_bytes < error.needed_bytes)
say(sorted(os.listdir("/dev/shm")))
""",
        mounted,
    )
    assert child.hear() is True
    assert child.hear() == []
    owners, readers, memory = child.hear()
    assert owners == readers
    assert owners in range(0, memory, 2 << 20)
    if "always" in mounted:
        assert owners > 0
    assert child.hear() is True
    assert child.hear() == []


@pytest.mark.row("NEW-9")
def test_a_full_dev_shm_is_an_error_with_numbers_and_no_sigbus(cast: Cast, small_shm: None):
    """Needed and free bytes in the error; nothing of the attempt is left; a smaller one works and is used in full."""
    child = cast(
        SMALL_SHM
        + """
from typing import Annotated
import numpy as np, zeroslot as zs
from numpy.typing import NDArray

class Large(zs.Sample):
    data: Annotated[NDArray[np.uint8], zs.Shape(1 << 20)]

try:
    zs.Publisher("t", Large)
    say("created")
except zs.OutOfSharedMemoryError as error:
    say([error.needed_bytes, error.free_bytes, str(error), isinstance(error, OSError), error.errno])
say([name for name in os.listdir("/dev/shm") if name.startswith("zs-")])
with zs.Publisher("t", Large, depth=1, max_loans=1, spare_slots=4) as pub, zs.Subscriber("t", Large) as sub:
    for number in range(20):
        with pub.loan_uninit() as large:
            large.data[:] = number
        lease = sub.take()
        assert (lease.sample.data == number).all()
        lease.release()
    del lease, large
    # What is left is too little for a second one.
    try:
        zs.Publisher("u", Large, depth=1, max_loans=1, spare_slots=4)
    except zs.OutOfSharedMemoryError as error:
        say(error.free_bytes < error.needed_bytes)
    say(sub.wait_for_publishers())
say(sorted(os.listdir("/dev/shm")))
""",
        "size=8m",
    )
    needed, free, text, is_os_error, number = child.hear()
    assert needed > 26 << 20
    assert 0 < free <= 8 << 20
    assert str(needed) in text
    assert str(free) in text
    assert (is_os_error, number) == (True, 28)
    child.expect([])
    child.expect(True)
    child.expect(True)
    child.expect([])


@pytest.mark.row("NEW-9")
def test_memory_that_runs_out_during_the_creation_is_the_same_error(cast: Cast, small_shm: None):
    """The check of the free memory passed a moment ago: the reservation itself fails, and all is given back."""
    child = cast(
        SMALL_SHM
        + """
import zeroslot as zs
from zeroslot.memory import create
create._check_room = lambda *_: None
try:
    zs.SlotAllocator.create("/dev/shm/flink", 64, 1 << 20)
except zs.OutOfSharedMemoryError as error:
    say([error.needed_bytes > 64 << 20, error.free_bytes < 40 << 20])
say(os.listdir("/dev/shm"))
""",
        "size=40m",
    )
    child.expect([True, True])
    child.expect([])


def test_a_dev_shm_without_room_for_the_bell_is_an_error(cast: Cast, small_shm: None):
    """Not even a page is left: OSError from both ends, and no crash."""
    child = cast(
        SMALL_SHM
        + """
import zeroslot as zs
from tests.process.samples import Tick
open("/dev/shm/filler", "wb").write(bytes(1 << 20)[: 1 << 20])
for make in (lambda: zs.Publisher("t", Tick), lambda: zs.Subscriber("t", Tick)):
    try:
        make()
        say("made")
    except OSError as error:
        say(error.errno)
""",
        "size=1m",
    )
    child.expect(28)
    child.expect(28)


def test_a_sample_larger_than_any_memory_is_the_same_error(zeroslot_dir: object):
    """Also with the /dev/shm of the machine."""
    with pytest.raises(zs.OutOfSharedMemoryError) as caught:
        zs.SlotAllocator.create("/dev/shm/zeroslot-never", 1000, 1 << 38)
    assert caught.value.needed_bytes is not None
    assert caught.value.needed_bytes > 1000 << 38
    assert not Path("/dev/shm/zeroslot-never").exists()


def test_running_out_of_descriptors_is_an_error_and_leaves_nothing(cast: Cast):
    """EMFILE at every open of a publisher's and a subscriber's start, and in a wait: OSError, no leak, no crash."""
    child = cast(
        """
        import errno, gc, os, resource
        import zeroslot as zs
        from tests.process.samples import Tick

        def used():
            gc.collect()
            return len(os.listdir("/proc/self/fd"))

        def limited(act, spare):
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)
            highest = max(int(fd) for fd in os.listdir("/proc/self/fd"))
            fillers = []
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 40, limit[1]))
                while True:
                    fillers.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                pass
            for _ in range(spare):
                os.close(fillers.pop())
            try:
                return act()
            except OSError as error:
                assert error.errno == errno.EMFILE, error
                return None
            finally:
                for fd in fillers:
                    os.close(fd)
                resource.setrlimit(resource.RLIMIT_NOFILE, limit)

        pub = zs.Publisher("t", Tick)
        before = used()
        for what, make in (("pub", lambda: zs.Publisher("u", Tick)), ("sub", lambda: zs.Subscriber("t", Tick))):
            failed = 0
            for spare in range(30):
                made = limited(make, spare)
                if made is not None:
                    made.close()
                    break
                failed += 1
                del made
                assert used() == before, (what, spare)
                assert pub.subscriber_count == 0
            else:
                say("never made")
            made = None
            say([what, failed > 0, used() == before])
        with zs.Subscriber("t", Tick) as sub:
            pub.publish(Tick(number=1))
            assert limited(lambda: sub.take(timeout=None), 0).sample.number == 1
            limited(lambda: sub.take(timeout=0.2), 0)
            pub.publish(Tick(number=2))
            say(sub.take(timeout=None).sample.number)
        pub.close()
        mapped = open("/proc/self/maps").read()
        say([name for name in os.listdir("/dev/shm") if name.startswith("zs-") and name in mapped])
        """
    )
    child.expect(["pub", True, True])
    child.expect(["sub", True, True])
    child.expect(2)
    child.expect([])


AS_NOBODY = f"""
import os
import zeroslot as zs
from tests.process.samples import Tick
zs.Publisher, zs.Subscriber, zs.SlotReader  # all is imported while it may be read
os.setgroups([])
os.setgid({OTHER_USER})
os.setuid({OTHER_USER})
def refused(make):
    try:
        make()
    except PermissionError as error:
        return str(error)
    return "made"
"""


@pytest.fixture
def root():
    """Skips where a process cannot change its user."""
    if os.geteuid() != 0:
        pytest.skip("needs two users, so root")


@pytest.mark.row("SEC-1", "SEC-2", "DEF-18")
def test_another_user_is_refused_with_file_owner_and_mode(cast: Cast, zeroslot_dir: Path, root: None):
    """A private directory, then an open one, then the objects themselves: each error names the file."""
    pub = cast.publisher("t")
    child = cast(
        AS_NOBODY
        + """
for order in orders():
    say([refused(lambda: zs.Publisher("t", Tick)), refused(lambda: zs.Subscriber("t", Tick)),
         refused(lambda: zs.SlotReader.attach(args[0]))])
""",
        str(next(zeroslot_dir.rglob("*.flink"))),
    )
    publisher, subscriber, attach = child.ask("private")
    for text in (publisher, subscriber):
        assert str(zeroslot_dir) in text
        assert "uid 0" in text
        assert "0700" in text
    assert str(zeroslot_dir) in attach
    # Opened to the world by hand, which is no way to share: refused for that.
    for path in (zeroslot_dir, *(path for path in zeroslot_dir.rglob("*") if path.is_dir())):
        path.chmod(0o755)
    publisher, subscriber, attach = child.ask("readable")
    for text in (publisher, subscriber):
        assert "uid 0" in text
        assert "0755" in text
    assert "0600" in attach
    assert "uid 0" in attach
    assert pub.ask(["publish", 1]) == 1


@pytest.mark.row("SEC-1", "DEF-18")
def test_every_file_and_object_is_private(zeroslot_dir: Path):
    """0600 and 0700, whatever the umask says."""
    old = os.umask(0)
    try:
        with zs.Publisher("a/b", Tick) as pub:
            control = pub.flink.read_text()
            paths = [pub.flink, *zeroslot_dir.rglob("*"), *Path("/dev/shm").glob(f"{control[1:]}*")]
            modes = {(path.is_dir(), path.stat().st_mode & 0o7777) for path in paths}
            assert len(paths) >= 7
            assert modes == {(True, 0o700), (False, 0o600)}
    finally:
        os.umask(old)


@pytest.mark.row("SEC-2")
def test_files_of_root_are_refused_by_name(cast: Cast, zeroslot_dir: Path, root: None):
    """A program that was once started as root leaves files that its user cannot use: the error names the owner."""
    os.chown(zeroslot_dir, OTHER_USER, OTHER_USER)
    (zeroslot_dir / "default").mkdir(mode=0o700)
    child = cast(
        AS_NOBODY
        + """
for order in orders():
    say([refused(lambda: zs.Publisher("t", Tick)), refused(lambda: zs.Subscriber("t", Tick))])
"""
    )
    for text in child.ask("a directory of root's"):
        assert str(zeroslot_dir / "default") in text
        assert "uid 0" in text
    os.chown(zeroslot_dir / "default", OTHER_USER, OTHER_USER)
    (zeroslot_dir / "default" / ".bell").touch(mode=0o600)
    for text in child.ask("a bell of root's"):
        assert ".bell" in text
        assert "uid 0" in text
        assert "0600" in text
    (zeroslot_dir / "default" / ".bell").unlink()
    (zeroslot_dir / "default" / "t").mkdir()
    os.chown(zeroslot_dir / "default" / "t", OTHER_USER, OTHER_USER)
    flink = zeroslot_dir / "default" / "t" / "0123456789abcdef.flink"
    flink.write_text("/zs-0123456789abcdef")
    flink.chmod(0o600)
    publisher, subscriber = child.ask("a flink of root's")
    assert str(flink) in publisher
    assert "uid 0" in publisher
    assert subscriber == "made"  # it is left out, and logged: others may publish there
    flink.unlink()
    assert child.ask("nothing of root's") == ["made", "made"]


@pytest.mark.row("SEC-3", "DEF-18")
def test_symbolic_links_are_not_followed(zeroslot_dir: Path, tmp_path: Path):
    """Neither a domain nor a flink nor the bell may be one."""
    (zeroslot_dir / "default").symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="symbolic link"):
        zs.Publisher("t", Tick)
    (zeroslot_dir / "default").unlink()
    (zeroslot_dir / "default").mkdir(mode=0o700)
    (zeroslot_dir / "default" / ".bell").symlink_to(tmp_path / "bell")
    with pytest.raises(OSError, match="bell"):
        zs.Publisher("t", Tick)
    (zeroslot_dir / "default" / ".bell").unlink()
    assert list(tmp_path.iterdir()) == []


def test_a_slower_cleaner_leaves_the_new_owner_of_a_flink_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It has read the dead owner's name, and another process has cleaned and created in the meantime."""
    from zeroslot import testing
    from zeroslot.endpoints import allocator
    from zeroslot.memory import objects

    path = tmp_path / "slots"
    dead = zs.SlotAllocator.create(path, 4, 64)
    testing.abandon(dead)
    opened = objects.open_for_cleaning
    made: list[zs.SlotAllocator] = []

    def slow(control_name: str):
        result = opened(control_name)
        if not made:
            monkeypatch.undo()
            made.append(zs.SlotAllocator.create(path, 4, 64))
        return result

    monkeypatch.setattr(objects, "open_for_cleaning", slow)
    assert allocator.sweep_flink(path) is False
    assert path.exists()
    with made[0] as slots, zs.SlotReader.attach(path) as reader:
        slots.commit(slots.reserve(), b"alive")
        lease = reader.take()
        assert lease is not None
        assert bytes(lease) == b"alive"


def test_nothing_is_left_when_the_flink_cannot_be_written(tmp_path: Path):
    """The segment exists by then, and is removed."""
    before = shared_memory.objects()
    with pytest.raises(OSError, match="missing"):
        zs.SlotAllocator.create(tmp_path / "missing" / "slots", 4, 64)
    assert shared_memory.objects() == before
