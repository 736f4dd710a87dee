"""What dead processes left: found by `clean` and `zeroslot gc`, and removed without touching what lives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import zeroslot as zs
from zeroslot.testing import abandon


class Tick(zs.Sample):
    number: int = 0


def gc(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "zeroslot", "gc", *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


def left_by_a_dead_publisher(topic: str) -> tuple[Path, Path]:
    pub = zs.Publisher(topic, Tick)
    pub.publish({"number": 1})
    flink, control = pub.flink, Path("/dev/shm" + pub.flink.read_text())
    abandon(pub)
    return flink, control


@pytest.mark.row("SEG-13", "SEG-23")
def test_a_dead_publisher_is_removed_and_told_of(zeroslot_dir: Path):
    """Flink, objects, and the directories that are empty then."""
    flink, control = left_by_a_dead_publisher("a/b")
    assert zs.Remains("a dead publisher of a/b", str(flink), removed=True) in zs.clean()
    assert not flink.exists()
    assert not control.exists()
    assert not Path(f"{control}-p0").exists()
    assert list(zeroslot_dir.iterdir()) == []
    assert zs.clean() == ()


def test_a_dry_run_removes_nothing():
    flink, control = left_by_a_dead_publisher("a/b")
    (remains,) = zs.clean(dry_run=True)
    assert (remains.removed, flink.exists(), control.exists()) == (False, True, True)
    zs.clean()


@pytest.mark.row("SEG-14")
def test_what_lives_is_not_touched():
    """Neither a publisher nor its subscribers, though a dead one lies beside them."""
    with zs.Publisher("a/b", Tick) as pub, zs.Subscriber("a/b", Tick) as sub:
        left_by_a_dead_publisher("a/c")
        found = zs.clean()
        assert [remains.what for remains in found] == ["a dead publisher of a/c"]
        pub.publish({"number": 7})
        lease = sub.take()
        assert lease is not None
        assert lease.sample.number == 7


def test_a_segment_without_a_flink_is_found():
    """A creator that died before its flink was there left objects that nothing leads to."""
    flink, control = left_by_a_dead_publisher("a/b")
    flink.unlink()
    assert ("a segment that nobody owns", "/" + control.name, True) in [
        (remains.what, remains.where, remains.removed) for remains in zs.clean()
    ]
    assert not control.exists()


def test_a_pool_without_a_segment_is_found():
    """A cleaner that died in between left it."""
    flink, control = left_by_a_dead_publisher("a/b")
    flink.unlink()
    control.unlink()
    assert "a pool without a segment" in [remains.what for remains in zs.clean()]
    assert not Path(f"{control}-p0").exists()


def test_a_flink_that_was_never_finished_goes_when_it_is_old(zeroslot_dir: Path):
    """A young one may still be written."""
    with zs.Publisher("a/b", Tick) as pub:
        half = pub.flink.with_name(f".{'0' * 16}.flink.{'1' * 8}.tmp")
        half.touch()
        assert zs.clean() == ()
        os.utime(half, (1, 1))
        assert [remains.what for remains in zs.clean()] == ["a flink that was never finished"]
        assert not half.exists()


def test_somebody_elses_file_is_left_alone_and_told_of(zeroslot_dir: Path):
    """A file with a flink's name and other content."""
    with zs.Publisher("a/b", Tick) as pub:
        odd = pub.flink.with_name(f"{'0' * 16}.flink")
        odd.write_text("/etc/passwd")
        (remains,) = zs.clean()
        assert remains.what.startswith("left alone")
        assert odd.exists()
        odd.unlink()


def test_the_command_says_what_it_found_and_did():
    """`zeroslot gc`, for people and for programs."""
    flink, _ = left_by_a_dead_publisher("a/b")
    assert f"found: a dead publisher of a/b: {flink}" in gc("--dry-run")
    (remains,) = json.loads(gc("--json"))
    assert remains == {"what": "a dead publisher of a/b", "where": str(flink), "removed": True}
    assert "nothing is left" in gc()
