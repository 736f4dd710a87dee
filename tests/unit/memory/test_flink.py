"""Flinks and their markers: how they are published, read, withdrawn and listed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from zeroslot import Publisher, Sample, SlotAllocator, SlotReader, Subscriber
from zeroslot.memory import flink

NAME = "/zs-0123456789abcdef"


class Tick(Sample):
    n: int = 0


OTHER = "/zs-fedcba9876543210"


@pytest.mark.row("DIS-11", "SEG-1")
def test_a_relative_flink_is_resolved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its creator and by a reader that waits for it; it is removed after a change of directory."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    slots = SlotAllocator.create("slots", 4, 64)
    reader = SlotReader.attach("slots")
    assert slots.flink == tmp_path / "slots"
    monkeypatch.chdir(tmp_path / "elsewhere")
    reader.close()
    slots.close()
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


@pytest.mark.row("DIS-1", "SEG-20", "SEC-1", "DEF-1")
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_flink_is_published_with_its_directories(zeroslot_dir: Path, umask: int) -> None:
    """They have mode 0700 whatever the umask is, and its marker is removed."""
    path = zeroslot_dir / "d" / "a" / "b" / "0123456789abcdef.flink"
    before = os.umask(umask)
    try:
        flink.publish_flink(path, NAME)
    finally:
        os.umask(before)
    assert path.read_text() == NAME == flink.read_flink(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for directory in (path.parent, path.parent.parent, path.parent.parent.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    flink.remove_marker(path, NAME)
    assert os.listdir(path.parent) == [path.name]
    flink.withdraw_flink(path, NAME)
    flink.remove_marker(path, NAME)
    assert list(zeroslot_dir.iterdir()) == []


@pytest.mark.row("DIS-1")
def test_a_missing_flink_is_read_as_none(zeroslot_dir: Path) -> None:
    """Also without its directory, and below a file, which is an error where a directory is listed."""
    (zeroslot_dir / "file").write_text("x")
    for path in (zeroslot_dir / "a", zeroslot_dir / "a" / "b", zeroslot_dir / "file" / "a"):
        assert flink.read_flink(path) is None
        flink.withdraw_flink(path, NAME)
        flink.remove_marker(path, NAME)
    assert flink.list_flinks(zeroslot_dir / "a" / "b") == []
    with pytest.raises(NotADirectoryError, match=r"file is not a directory\. Remove it"):
        flink.list_flinks(zeroslot_dir / "file" / "a")
    (zeroslot_dir / "file").unlink()


@pytest.mark.row("SEC-3", "SEC-5", "DIS-1")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        NAME.encode() + b"\n",
        NAME.encode() * 2,
        b"/zs-0123456789ABCDEF",
        b"zs-0123456789abcdef",
        b"\xff" * 20,
        b"/zs-../../../passwd",
        b"x" * 10**6,
    ],
)
def test_only_the_name_of_a_control_object_is_a_flink(zeroslot_dir: Path, content: bytes) -> None:
    """Nothing before or after it, however long the file is."""
    path = zeroslot_dir / "x.flink"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ValueError, match="no flink"):
        flink.read_flink(path)
    path.unlink()


@pytest.mark.row("SEC-3", "DEF-18")
@pytest.mark.parametrize("kind", ["symlink", "dangling", "loop", "fifo", "directory"])
def test_a_file_of_another_kind_is_no_flink(zeroslot_dir: Path, kind: str) -> None:
    """A fifo does not block."""
    path, real = zeroslot_dir / "x.flink", zeroslot_dir / "real"
    real.write_text(NAME)
    real.chmod(0o600)
    match kind:
        case "symlink":
            path.symlink_to(real)
        case "dangling":
            path.symlink_to(zeroslot_dir / "nothing")
        case "loop":
            path.symlink_to(path)
        case "fifo":
            os.mkfifo(path, 0o600)
        case _:
            path.mkdir()
    with pytest.raises(ValueError, match="no flink"):
        flink.read_flink(path)
    real.unlink()
    path.rmdir() if kind == "directory" else path.unlink()


@pytest.mark.row("SEC-2", "SEC-1")
def test_a_flink_that_other_users_may_write_is_refused(zeroslot_dir: Path) -> None:
    """PermissionError with the file, its owner and its mode."""
    path = zeroslot_dir / "x.flink"
    path.write_text(NAME)
    path.chmod(0o602)
    with pytest.raises(PermissionError, match="0602"):
        flink.read_flink(path)
    path.unlink()


@pytest.mark.row("SEC-2", "DEF-18")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_flink_of_another_user_is_refused(zeroslot_dir: Path) -> None:
    """Also by root, which would map what another user wrote."""
    path = zeroslot_dir / "x.flink"
    path.write_text(NAME)
    path.chmod(0o600)
    os.chown(path, 12345, -1)
    with pytest.raises(PermissionError, match="12345"):
        flink.read_flink(path)
    path.unlink()


@pytest.mark.row("SEG-20", "DIS-1")
def test_a_directory_that_another_process_removes_is_created_again(
    zeroslot_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its creation and the opening of a file in it."""
    path = zeroslot_dir / "d" / "a" / "0123456789abcdef.flink"
    real, count = flink.open_directory, 0

    def removed_after(directory: Path) -> Any:
        nonlocal count
        opened = real(directory)
        count += 1
        if count <= 3:
            path.parent.rmdir()
        return opened

    monkeypatch.setattr(flink, "open_directory", removed_after)
    flink.publish_flink(path, NAME)
    monkeypatch.undo()
    assert count == 4
    assert path.read_text() == NAME
    path.unlink()
    flink.remove_marker(path, NAME)


@pytest.mark.row("SEC-3")
def test_a_marker_is_not_written_through_a_symbolic_link(zeroslot_dir: Path, tmp_path: Path) -> None:
    """Which another user may have put there."""
    path, elsewhere = tmp_path / "slots", tmp_path / "elsewhere"
    flink.marker_of(path, NAME).symlink_to(elsewhere)
    with pytest.raises(OSError, match="slots"):
        flink.create_marker(path, NAME)
    assert not elsewhere.exists()


def test_a_marker_is_listed_and_is_no_flink(zeroslot_dir: Path) -> None:
    """Its name alone holds the flink and the segment: its creator may die before it writes the content."""
    path = zeroslot_dir / "0123456789abcdef.flink"
    flink.create_marker(path, NAME)
    assert flink.read_flink(path) is None
    assert flink.list_flinks(zeroslot_dir) == []
    assert flink.list_markers(zeroslot_dir) == [(path, NAME)]
    (file,) = zeroslot_dir.iterdir()
    file.write_bytes(b"")
    assert flink.list_markers(zeroslot_dir) == [(path, NAME)]
    flink.publish_flink(path, NAME)
    flink.remove_marker(path, NAME)
    assert flink.list_markers(zeroslot_dir) == []
    path.unlink()


def test_a_withdrawn_flink_is_a_marker_until_that_is_removed(zeroslot_dir: Path) -> None:
    """Also where its creator died before it removed the marker: flink and marker are then two names of one file."""
    path = zeroslot_dir / "0123456789abcdef.flink"
    for forgotten in (True, False):
        flink.publish_flink(path, NAME)
        if forgotten:
            flink.remove_marker(path, NAME)
        flink.withdraw_flink(path, NAME)
        assert not path.exists()
        assert flink.list_markers(zeroslot_dir) == [(path, NAME)]
        flink.remove_marker(path, NAME)
        assert list(zeroslot_dir.iterdir()) == []


@pytest.mark.row("SEG-21")
def test_only_a_segments_own_flink_is_withdrawn(zeroslot_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flink that another owner took with force stays, also where it was taken between the check and the rename."""
    path = zeroslot_dir / "slots.flink"
    flink.publish_flink(path, OTHER)
    flink.remove_marker(path, OTHER)
    flink.withdraw_flink(path, NAME)
    assert path.read_text() == OTHER
    flink.publish_flink(path, NAME, replace=True)
    real = os.rename

    def overtaken(*names: Any) -> None:
        flink.publish_flink(path, OTHER, replace=True)
        real(*names)

    monkeypatch.setattr(os, "rename", overtaken)
    flink.withdraw_flink(path, NAME)
    monkeypatch.undo()
    flink.remove_marker(path, NAME)
    assert path.read_text() == OTHER
    assert os.listdir(zeroslot_dir) == [path.name]
    path.unlink()


@pytest.mark.row("SEG-14", "SEG-1", "SEG-3")
def test_of_two_creators_at_once_one_gets_the_flink(zeroslot_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one fails when it publishes, removes its segment, and may attach instead."""
    path = zeroslot_dir / "slots.flink"
    real = flink.publish_flink
    first: list[SlotAllocator] = []

    def overtaken(*arguments: Any, **named: Any) -> None:
        monkeypatch.setattr(flink, "publish_flink", real)
        first.append(SlotAllocator.create(path, 4, 64))
        real(*arguments, **named)

    monkeypatch.setattr(flink, "publish_flink", overtaken)
    with pytest.raises(FileExistsError):
        SlotAllocator.create(path, 4, 64)
    content = path.read_bytes()
    assert os.listdir(zeroslot_dir) == [path.name]
    reader = SlotAllocator.create_or_attach(path, 4, 64)
    assert not reader.is_owner
    assert path.read_bytes() == content
    reader.close()
    first[0].close()


@pytest.mark.row("DIS-9")
def test_topics_are_listed_by_their_flinks(zeroslot_dir: Path) -> None:
    """Sorted. A directory without a flink is no topic."""
    with Publisher("b/c", Tick), Publisher("a", Tick), Publisher("b", Tick), Subscriber("alone", Tick):
        (zeroslot_dir / "default" / "a" / "note.txt").write_text("x")
        (zeroslot_dir / "default" / "empty").mkdir()
        assert flink.list_topics("default") == ["a", "b", "b/c"]
        assert flink.list_topics("elsewhere") == []
        (zeroslot_dir / "default" / "a" / "note.txt").unlink()
