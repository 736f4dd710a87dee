"""What dead processes left: found by `clean` and `zeroslot gc`, and removed without touching what is in use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import zeroslot as zs
from tests import shared_memory
from tests.children import Children
from tests.process import actors
from tests.process.samples import Tick as ActorsTick
from tests.unit.memory.locks import drop_lock
from zeroslot.memory import cleanup, flink, liveness, objects
from zeroslot.testing import abandon


class Tick(zs.Sample):
    number: int = 0


class OtherTick(zs.Sample):
    count: int = 0


def gc(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "zeroslot", "gc", *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


def left_by_a_dead_publisher(topic: str) -> tuple[Path, Path]:
    pub = zs.Publisher(topic, Tick)
    pub.publish({"number": 1})
    found, control = pub.flink, Path("/dev/shm" + pub.flink.read_text())
    abandon(pub)
    return found, control


@pytest.mark.row("SEG-13", "SEG-23")
def test_a_dead_publisher_is_removed_and_reported(zeroslot_dir: Path):
    """With its flink, its objects, and the directories that are empty afterwards."""
    found, control = left_by_a_dead_publisher("a/b")
    assert zs.Remains("a dead publisher of a/b", str(found), removed=True) in zs.clean()
    assert not found.exists()
    assert not control.exists()
    assert not Path(f"{control}-p0").exists()
    assert list(zeroslot_dir.iterdir()) == []
    assert zs.clean() == ()


def test_a_dry_run_removes_nothing():
    found, control = left_by_a_dead_publisher("a/b")
    (remains,) = zs.clean(dry_run=True)
    assert (remains.removed, found.exists(), control.exists()) == (False, True, True)
    zs.clean()


@pytest.mark.row("SEG-14")
def test_live_publishers_and_subscribers_are_not_touched():
    """A dead publisher beside them is removed."""
    with zs.Publisher("a/b", Tick) as pub, zs.Subscriber("a/b", Tick) as sub:
        left_by_a_dead_publisher("a/c")
        found = zs.clean()
        assert [remains.what for remains in found] == ["a dead publisher of a/c"]
        pub.publish({"number": 7})
        lease = sub.take()
        assert lease is not None
        assert lease.sample.number == 7


def test_a_segment_without_a_flink_is_found():
    """Its flink was removed, so that nothing names the objects."""
    found, control = left_by_a_dead_publisher("a/b")
    found.unlink()
    assert ("a segment without an owner", "/" + control.name, True) in [
        (remains.what, remains.where, remains.removed) for remains in zs.clean()
    ]
    assert not control.exists()


def test_a_pool_without_a_segment_is_found():
    """Its flink and its control object were removed."""
    found, control = left_by_a_dead_publisher("a/b")
    found.unlink()
    control.unlink()
    assert "a pool without a segment" in [remains.what for remains in zs.clean(everything=True)]
    assert not Path(f"{control}-p0").exists()


@pytest.mark.row("SEG-13", "SEG-14")
@pytest.mark.parametrize("by", ["the next publisher", "clean"])
@pytest.mark.parametrize("begun", ["announced", "half made", "put aside"])
def test_an_unfinished_segment_is_removed_by(zeroslot_dir: Path, begun: str, by: str):
    """A publisher killed before the first object or before its flink, or a cleaner killed after it withdrew the flink,
    leaves a marker that names the rest.
    """
    found, control = left_by_a_dead_publisher("a/b")
    name = f"/{control.name}"
    before = shared_memory.objects() - {control.name, f"{control.name}-p0"}
    flink.withdraw_flink(found, name)
    if begun == "announced":
        objects.unlink_all(name)
    elif begun == "half made":
        os.truncate(control, 0)
        Path(f"{control}-p0").unlink()
    if by == "clean":
        assert "what a killed publisher began or did not end" in [remains.what for remains in zs.clean()]
    else:
        zs.Publisher("a/b", Tick).close()
    assert list(zeroslot_dir.iterdir()) == []
    assert shared_memory.objects() <= before


def test_a_segment_that_is_being_created_is_not_touched(zeroslot_dir: Path):
    """It has a marker, and its owner holds the lock: every cleaner leaves it alone."""
    with zs.Publisher("a/b", Tick) as pub:
        name = pub.flink.read_text()
        flink.create_marker(pub.flink, name)
        with zs.Publisher("a/b", Tick):
            assert zs.clean() == ()
            assert flink.list_markers(pub.flink.parent) == [(pub.flink, name)]
            assert len(zs.inspect("a/b").publishers) == 2
            assert pub.publish({"number": 1}) == 1
        flink.remove_marker(pub.flink, name)


@pytest.mark.row("SEG-14")
def test_a_creator_waits_for_a_cleaner_at_work(monkeypatch: pytest.MonkeyPatch):
    """The cleaner holds the lock while it cleans. A creator waits, and does not take the cleaner for an owner."""
    found, control = left_by_a_dead_publisher("a/b")
    cleaner = objects.open_for_cleaning(f"/{control.name}")
    assert cleaner is not None
    assert liveness.lock_to_clean(cleaner)
    looks = 0

    def ends_at_the_third_look(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            cleaner.close()

    monkeypatch.setattr("zeroslot.memory.liveness.time.sleep", ends_at_the_third_look)
    with zs.Publisher("a/b", Tick) as pub:
        assert looks == 3
        assert not found.exists()
        assert pub.flink.exists()


@pytest.mark.row("SEG-14", "TYP-4")
def test_a_dead_publisher_stays_dead_under_a_stopped_cleaner(tmp_path: Path, zeroslot_dir: Path):
    """The cleaner's lock is no owner's: the publisher is not listed, another type may follow, the flink is free."""
    with zs.Subscriber("a/b", Tick) as sub:
        dead = zs.Publisher("a/b", Tick)
        control = Path("/dev/shm" + dead.flink.read_text())
        assert len(sub.publishers) == 1
        dead.publish({"number": 1})
        abandon(dead)
        path = tmp_path / "slots"
        slots = zs.SlotAllocator.create(path, 4, 64)
        names = [f"/{control.name}", path.read_text()]
        abandon(slots)
        cleaners = [objects.open_for_cleaning(name) for name in names]
        for cleaner in cleaners:
            assert cleaner is not None
            assert liveness.lock_to_clean(cleaner)
        assert zs.topics() == ()
        lease = sub.take()
        assert lease is not None
        assert sub.publishers == ()
        assert ("a dead publisher of a/b", False) in [(remains.what, remains.removed) for remains in zs.clean()]
        with zs.Publisher("a/b", OtherTick) as pub:
            assert list(zeroslot_dir.rglob("*.flink")) == [pub.flink]
            assert control.exists()  # the cleaner will remove the objects
        with zs.SlotAllocator.create(path, 4, 64), zs.SlotReader.attach(path) as reader:
            assert not reader.owner_gone
        for cleaner in cleaners:
            assert cleaner is not None
            cleaner.close()
        # The cleaner has died: the marker names the objects for the next one.
        zs.Publisher("a/b", Tick).close()
        assert not control.exists()
        zs.SlotAllocator.create(path, 4, 64).close()


@pytest.mark.row("SEG-16", "SEG-13")
def test_a_cleaner_tells_readers_that_the_owner_is_dead(tmp_path: Path):
    """The segment is marked dead and the word that readers sleep on changes, so they need not probe."""
    path = tmp_path / "slots"
    dead = zs.SlotAllocator.create(path, 4, 64)
    with zs.SlotReader.attach(path) as reader:
        abandon(dead)
        generation = reader.generation
        assert not reader.owner_gone
        assert cleanup.sweep_flink(path) is False
        assert reader.owner_gone
        assert reader.generation != generation


def test_a_file_that_is_no_flink_is_left_alone_and_reported(zeroslot_dir: Path):
    """It has the name of a flink and other content."""
    with zs.Publisher("a/b", Tick) as pub:
        no_flink = pub.flink.with_name(f"{'0' * 16}.flink")
        no_flink.write_text("/etc/passwd")
        (remains,) = zs.clean()
        assert remains.what.startswith("left alone")
        assert no_flink.exists()
        no_flink.unlink()


@pytest.mark.row("SEG-14", "PEER-8")
def test_concurrent_cleaners_report_identical_results(monkeypatch: pytest.MonkeyPatch):
    """A cleaner whose work another one has done meanwhile reports it as removed."""
    real = liveness.reap

    def overtaken(*arguments: Any) -> int:
        assert real(*arguments) == 1
        return real(*arguments)

    with zs.Publisher("a/b", Tick) as pub:
        with zs.SlotReader.attach(pub.flink) as reader:
            drop_lock(reader)
            monkeypatch.setattr(liveness, "reap", overtaken)
            (remains,) = zs.clean()
            assert remains.what.startswith("a dead subscriber")
            assert remains.removed
            assert pub.allocator.native.segment.indexes_in_use() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_an_object_of_another_user_stops_no_cleaner(zeroslot_dir: Path):
    """Nor does a file that is no flink beside a marker. Both are reported and left alone, the rest is removed."""
    found, _ = left_by_a_dead_publisher("a/b")
    foreign, control = left_by_a_dead_publisher("a/c")
    no_flink = foreign.with_name("0" * 16 + ".flink")
    no_flink.write_text("/etc/passwd")
    flink.create_marker(no_flink, "/zs-" + "0" * 16)
    os.chown(control, 12345, 12345)
    clean = """if True:
        import os, zeroslot as zs
        zs.clean  # import it while its file may still be read
        os.setgroups([]); os.setgid(12346); os.setuid(12346)
        for remains in zs.clean():
            print(remains.removed, remains.what.partition(":")[0], remains.where)
    """
    for path in (zeroslot_dir, *zeroslot_dir.rglob("*"), *Path("/dev/shm").glob(f"zs-{found.stem}*")):
        os.chown(path, 12346, 12346)
    done = subprocess.run([sys.executable, "-c", clean], capture_output=True, text=True, check=True)
    assert set(done.stdout.splitlines()) == {
        f"True a dead publisher of a/b {found}",
        f"False left alone {foreign}",
        f"False left alone {no_flink}",
    }
    os.chown(control, 0, 0)
    for path in zeroslot_dir.rglob("*"):
        os.chown(path, 0, 0)
    no_flink.unlink()
    zs.clean()


@pytest.mark.row("SEG-13", "SEG-23")
def test_gc_reports_each_kind_and_its_status_tells_what_stays(run_child: Children, zeroslot_dir: Path):
    """A dead publisher, a dead subscriber, a segment and a pool without an owner, an invalid flink, an unused bell."""

    def run_gc(*arguments: str) -> tuple[int, list[list[object]], str]:
        command = [sys.executable, "-m", "zeroslot", "gc", *arguments]
        texts = subprocess.run(command, capture_output=True, text=True)
        facts = json.loads(texts.stdout) if "--json" in arguments else []
        assert all(list(one) == ["what", "where", "removed", "owner_uid", "size_bytes"] for one in facts)
        return texts.returncode, sorted(list(one.values())[:3] for one in facts), texts.stdout

    with zs.Publisher("alive", ActorsTick) as pub:
        sub = run_child(actors.SUBSCRIBER, "alive", {"name": "gone"})
        sub.expect("ready")
        sub.kill()
        dead, _ = left_by_a_dead_publisher("dead")
        flink, pooled = left_by_a_dead_publisher("pool")
        flink.unlink()
        pooled.unlink()
        flink, unnamed = left_by_a_dead_publisher("unnamed")
        flink.unlink()
        no_flink = pub.flink.with_name(f"{'0' * 16}.flink")
        no_flink.write_text("/etc/passwd")
        left_alone = f"left alone: {no_flink} is no flink: it does not hold the name of a control object"
        expected = {
            (f"a dead subscriber: gone (pid {sub.pid})", str(pub.flink)),
            ("a dead publisher of dead", str(dead)),
            ("a pool without a segment", f"/{pooled.name}-p0"),
            ("a segment without an owner", f"/{unnamed.name}"),
            (left_alone, str(no_flink)),
        }
        for _ in range(2):  # a dry run changes nothing
            status, facts, _ = run_gc("--all", "--dry-run", "--json")
            assert status == 0
            assert {(what, where) for what, where, _ in facts} >= expected
            assert not any(removed for _, _, removed in facts)
        status, _, text = run_gc("--all")
        assert status == 1
        assert set(text.splitlines()) >= {
            what if what == left_alone else f"removed: {what}: {where}" for what, where in expected
        }
        assert run_gc("--json")[:2] == (1, [[left_alone, str(no_flink), False]])
        assert pub.subscriber_count == 0
        no_flink.unlink()
        assert run_gc("--json")[:2] == (0, [])
    sub = run_child(actors.SUBSCRIBER, "alive", {"domain": "lab"})
    sub.expect("ready")
    sub.kill()
    bell = ["a bell that no process uses", str(zeroslot_dir / "lab" / ".bell"), True]
    (announced,) = (zeroslot_dir / "lab" / "alive").iterdir()
    announcement = ["the announcement of a dead subscriber", str(announced), True]
    assert run_gc("--json")[1] == []
    assert run_gc("--json", "--domain", "lab")[:2] == (0, [bell, announcement])
    assert not (zeroslot_dir / "lab").exists()


def test_the_help_of_gc_tells_its_status_and_the_form_of_its_json():
    """Programs that call it rely on both."""
    text = " ".join(gc("--help").replace("│", " ").split())
    for part in ("status 0", "with 1", '"what"', '"where"', '"removed"', '"not removed"'):
        assert part in text


def test_gc_prints_what_it_found_and_removed():
    """As text, and as JSON."""
    found, _ = left_by_a_dead_publisher("a/b")
    assert f"found: a dead publisher of a/b: {found}" in gc("--dry-run")
    (remains,) = json.loads(gc("--json"))
    assert remains.pop("owner_uid") is None
    assert remains == {"what": "a dead publisher of a/b", "where": str(found), "removed": True, "size_bytes": 0}
    assert "nothing is left" in gc()


# --- two roots


def left_in(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """One of each kind of thing that dead processes leave, made by processes that use this root. By what names it."""
    root.mkdir(mode=0o700, exist_ok=True)
    monkeypatch.setenv("ZEROSLOT_DIR", str(root))
    _, published = left_by_a_dead_publisher("a/b")
    found, unnamed = left_by_a_dead_publisher("a/c")
    found.unlink()
    found, begun = left_by_a_dead_publisher("a/d")
    flink.withdraw_flink(found, f"/{begun.name}")
    os.truncate(begun, 0)
    slots = zs.SlotAllocator.create(root.with_name(f"{root.name}-slots"), 4, 64)
    owned = Path("/dev/shm" + root.with_name(f"{root.name}-slots").read_text())
    abandon(slots)
    found, foreign = left_by_a_dead_publisher("a/e")
    found.rename(found.with_name("0.flink"))  # what names it is no flink of a topic
    return {"a flink": published, "nothing": unnamed, "a marker": begun, "a file": owned, "no flink": foreign}


@pytest.mark.row("SEG-23")
def test_gc_of_one_root_touches_nothing_of_another(zeroslot_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever names the objects that dead processes of the other root left. Each root cleans its own."""
    theirs = left_in(tmp_path / "theirs", monkeypatch)
    own = left_in(tmp_path / "own", monkeypatch)
    before = shared_memory.objects(), shared_memory.files(tmp_path / "theirs")
    assert len(zs.clean(dry_run=True)) >= 5
    assert all(remains.removed for remains in zs.clean())
    assert [name for name, path in own.items() if path.exists()] == []
    assert [name for name, path in theirs.items() if not path.exists()] == []
    assert before[0] - shared_memory.objects() == {
        name for each in own.values() for name in (each.name, f"{each.name}-p0")
    }
    assert shared_memory.files(tmp_path / "theirs") == before[1]
    assert zs.clean() == ()
    monkeypatch.setenv("ZEROSLOT_DIR", str(tmp_path / "theirs"))
    zs.clean()
    assert [name for name, path in theirs.items() if path.exists()] == []


@pytest.mark.row("SEG-23")
def test_a_default_root_and_a_chosen_one_are_two_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also when the default root was removed meanwhile and is another directory: each user has one default root."""
    chosen = left_in(tmp_path / "chosen", monkeypatch)
    default = tmp_path / "default"
    monkeypatch.setattr("zeroslot.memory.directories._default_root", lambda: default)
    usual = left_in(default, monkeypatch)
    monkeypatch.delenv("ZEROSLOT_DIR")
    default.rename(tmp_path / "moved")
    default.mkdir(mode=0o700)
    zs.clean()
    # What a marker or a flink named in the directory that is gone was complete, but for the one that was truncated.
    assert [name for name, path in usual.items() if path.exists()] == ["a marker"]
    assert [name for name, path in chosen.items() if not path.exists()] == []
    zs.clean(everything=True)
    assert [path for path in (*usual.values(), *chosen.values()) if path.exists()] == []


def test_everything_is_all_domains_of_the_root_and_what_no_root_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also an object that its creator did not complete, and a pool whose control object was removed."""
    foreign = left_in(tmp_path / "foreign", monkeypatch)
    foreign["nothing"].unlink()
    pool = Path(f"{foreign['nothing']}-p0")
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    monkeypatch.setenv("ZEROSLOT_DIR", str(own))
    for domain in ("one", "two"):
        abandon(zs.Publisher("a/b", Tick, domain=domain))
    assert zs.clean() == ()  # nothing in the domain `default`
    assert pool.exists()
    found = [remains.what for remains in zs.clean(everything=True)]
    assert found.count("a dead publisher of a/b") == 2
    assert "a pool without a segment" in found
    assert found.count("a segment without an owner") == 4
    assert not pool.exists()
    assert [path for path in foreign.values() if path.exists()] == []
    with pytest.raises(ValueError, match="give no domain"):
        zs.clean("one", everything=True)


def test_a_root_that_is_missing_owns_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Segments of processes whose root did not exist are found by `everything` alone."""
    monkeypatch.setenv("ZEROSLOT_DIR", str(tmp_path / "missing"))
    slots = zs.SlotAllocator.create(tmp_path / "slots", 4, 64)
    control = Path("/dev/shm" + (tmp_path / "slots").read_text())
    abandon(slots)
    assert zs.clean() == ()
    assert control.exists()
    assert [remains.what for remains in zs.clean(everything=True)] == ["a segment without an owner"]
    assert not control.exists()
