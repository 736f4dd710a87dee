"""The bell: created by the first user of a domain, heard by all, removed by the last."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from zeroslot import Publisher, Sample, Subscriber
from zeroslot._core.binding import Descriptor
from zeroslot.memory.bell import Bell, bells_of


class Tick(Sample):
    n: int = 0


@pytest.fixture
def leaving(zeroslot_dir: Path) -> Descriptor:
    """The descriptor of a process that is stopped while it leaves: it holds the exclusive lock, and the file exists."""
    place = zeroslot_dir / "default"
    place.mkdir(mode=0o700)
    (place / ".bell").write_bytes(bytes(64))
    (place / ".bell").chmod(0o600)
    descriptor = Descriptor.open(str(place / ".bell"), os.O_RDWR)
    assert descriptor.try_lock(0)
    return descriptor


@pytest.mark.row("DIS-1")
def test_the_bell_exists_while_it_has_users(zeroslot_dir: Path) -> None:
    """Created by the first, removed by the last. All handles of a process share one mapping."""
    file = zeroslot_dir / "default" / ".bell"
    sub = Subscriber("a", Tick)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    pub = Publisher("b", Tick)
    assert sub._bell._opened is pub._bell._opened
    sub.close()
    assert file.exists()
    pub.close()
    assert not file.exists()
    assert not file.parent.exists()


@pytest.mark.row("DIS-1")
def test_each_domain_has_its_own_bell(zeroslot_dir: Path) -> None:
    """A publisher in one domain does not ring the bell of another."""
    with Subscriber("a", Tick, domain="one") as one, Subscriber("a", Tick, domain="two") as two:
        before = (one._bell.word.value, two._bell.word.value)
        with Publisher("a", Tick, domain="one"):
            assert one._bell.word.value != before[0]
            assert two._bell.word.value == before[1]


def test_a_bell_that_was_removed_is_created_again(zeroslot_dir: Path) -> None:
    """A new user creates a new bell, and an older user leaves without an error."""
    file = zeroslot_dir / "default" / ".bell"
    old = Bell.join("default")
    file.unlink()
    new = Bell.join("default")
    assert new is not old
    assert file.exists()
    old.leave()
    assert file.exists()
    new.leave()
    assert not file.exists()


@pytest.mark.row("SEC-3")
@pytest.mark.parametrize("wrong", ["symlink", "fifo", "directory", "short", "open"])
def test_a_damaged_bell_is_an_error_or_repaired(zeroslot_dir: Path, wrong: str) -> None:
    """Nothing outside is written, nothing blocks, and a short file does not end in SIGBUS."""
    place, outside = zeroslot_dir / "default", zeroslot_dir / "outside"
    place.mkdir(mode=0o700)
    outside.write_bytes(b"untouched")
    file = place / ".bell"
    match wrong:
        case "symlink":
            file.symlink_to(outside)
        case "fifo":
            os.mkfifo(file, 0o600)
        case "directory":
            file.mkdir()
        case "short":
            file.write_bytes(b"x")
            file.chmod(0o600)
        case _:
            file.write_bytes(bytes(64))
            file.chmod(0o666)
    if wrong == "short":
        with Publisher("a", Tick), Subscriber("a", Tick) as sub:
            assert len(sub.publishers) == 1
        place.mkdir(mode=0o700)
    else:
        with pytest.raises(OSError):
            Publisher("a", Tick)
        file.rmdir() if wrong == "directory" else file.unlink()
    assert outside.read_bytes() == b"untouched"
    outside.unlink()


@pytest.mark.row("DIS-1")
def test_a_bell_that_a_leaving_process_has_locked_is_skipped(leaving: Descriptor, zeroslot_dir: Path) -> None:
    """Processes that join meanwhile use the next number. Each file is removed by its last user."""
    place = zeroslot_dir / "default"
    with Subscriber("a", Tick) as sub, Publisher("a", Tick):
        assert len(sub.publishers) == 1
        assert sorted(path.name for path in bells_of(place)) == [".bell", ".bell.1"]
        assert leaving.fileno() >= 0
    assert bells_of(place) == [place / ".bell"]
    leaving.close()
    Subscriber("a", Tick).close()
    assert list(zeroslot_dir.iterdir()) == []


@pytest.mark.row("DIS-1", "NOT-1")
def test_a_ring_reaches_the_users_of_every_bell(
    leaving: Descriptor, zeroslot_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that joined while `.bell` was locked use another bell than those that joined later."""
    early = Subscriber("a", Tick)
    leaving.close()
    monkeypatch.setattr(Bell, "_open", {})  # as in another process
    late = Subscriber("a", Tick)
    assert {early._bell._opened.path.name, late._bell._opened.path.name} == {".bell.1", ".bell"}
    for end in (early, late):
        monkeypatch.setattr(Bell, "_open", {end._bell.directory: end._bell._opened})
        heard = (early._bell.word.value, late._bell.word.value)
        with Publisher("b", Tick):
            assert early._bell.word.value != heard[0]
            assert late._bell.word.value != heard[1]
    early.close()
    late.close()
