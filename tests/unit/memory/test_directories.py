"""Topics, domains and the directories in which they lie: what is created, what is refused, what is removed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from zeroslot import Publisher, Sample, Subscriber, TopicNameError
from zeroslot.memory import directories


class Tick(Sample):
    n: int = 0


@pytest.mark.row("DIS-2", "SEC-5")
@pytest.mark.parametrize(
    "topic",
    [
        "a",
        "robot/imu",
        "_x",
        "9",
        "A.b-c_d",
        "a" * 64,
        "/".join(["a" * 39] * 5),
        "a/b/c/d/e/f",
        "x.flinks",
        "x.tmp2",
        "flink",
    ],
)
def test_valid_topics_are_accepted(topic: str) -> None:
    """Parts of letters, digits, _ . - joined by /."""
    assert directories.checked_topic(topic) == topic
    with Publisher(topic, Tick) as pub, Subscriber(topic, Tick) as sub:
        pub.publish(Tick(n=1))
        assert sub.take() is not None


@pytest.mark.row("DIS-2", "SEC-5")
@pytest.mark.parametrize(
    "topic",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "../up",
        ".hidden",
        "-a",
        "a b",
        "a\n",
        "a\0b",
        "ä",
        "a" * 65,
        "a/" * 100 + "a",
        "x.flink",
        "x.tmp",
        "a.flink/b",
        "a:b",
        "a*",
        "~",
        "a\\b",
        "٣",
    ],
)
def test_invalid_topics_are_refused(zeroslot_dir: Path, topic: str) -> None:
    """TopicNameError, a ValueError, with the topic; nothing is created."""
    for use in (directories.checked_topic, lambda topic: Publisher(topic, Tick), lambda topic: Subscriber(topic, Tick)):
        with pytest.raises(TopicNameError) as caught:
            use(topic)
        assert isinstance(caught.value, ValueError)
        assert caught.value.topic == topic
    assert list(zeroslot_dir.iterdir()) == []


@pytest.mark.parametrize("topic", [None, 5, b"bytes", ["a"], object(), Path("a")])
def test_a_topic_must_be_a_str(topic: Any) -> None:
    """TopicNameError names the type that was given."""
    for use in (directories.checked_topic, lambda topic: Publisher(topic, Tick), lambda topic: Subscriber(topic, Tick)):
        with pytest.raises(TopicNameError, match=type(topic).__name__):
            use(topic)


@pytest.mark.row("DIS-11")
@pytest.mark.parametrize("domain", ["a/b", "", "..", ".bell", "a" * 65, "x.tmp", 5, b"d"])
def test_a_domain_is_one_part(domain: Any) -> None:
    """As strict as a topic's parts, and without a slash."""
    with pytest.raises(TopicNameError):
        directories.checked_domain(domain)


@pytest.mark.row("DIS-11")
def test_the_root_and_the_domain_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them: a directory of the user in /dev/shm, and `default`."""
    monkeypatch.setenv("ZEROSLOT_DIR", str(tmp_path))
    monkeypatch.setenv("ZEROSLOT_DOMAIN", "lab")
    assert directories.root() == tmp_path
    assert directories.checked_domain(None) == "lab"
    assert directories.checked_domain("x") == "x"
    assert directories.topic_directory("lab", "a/b") == tmp_path / "lab" / "a" / "b"
    monkeypatch.delenv("ZEROSLOT_DIR")
    monkeypatch.delenv("ZEROSLOT_DOMAIN")
    assert directories.root() == Path(f"/dev/shm/zeroslot-{os.getuid()}")
    assert directories.checked_domain(None) == "default"


@pytest.mark.row("DIS-11")
def test_a_relative_root_is_resolved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bell, flinks and directories are removed after a change of directory."""
    (tmp_path / "root").mkdir(mode=0o700)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZEROSLOT_DIR", "root")
    pub, sub = Publisher("a/b", Tick), Subscriber("a/b", Tick)
    assert pub.flink.is_absolute()
    monkeypatch.chdir(tmp_path / "elsewhere")
    pub.close()
    sub.close()
    assert list((tmp_path / "root").iterdir()) == []
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_handles_keep_the_root_in_which_they_were_created(zeroslot_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of ZEROSLOT_DIR concerns new handles only."""
    pub, sub = Publisher("a/b", Tick), Subscriber("a/b", Tick)
    other = zeroslot_dir / "other"
    other.mkdir(mode=0o700)
    monkeypatch.setenv("ZEROSLOT_DIR", str(other))
    with Publisher("a/b", Tick) as second:
        assert second.flink.is_relative_to(other)
        assert [info.publisher_id for info in sub.publishers] == [pub.publisher_id]
    pub.close()
    sub.close()
    assert list(zeroslot_dir.iterdir()) == [other]
    assert list(other.iterdir()) == []


@pytest.mark.row("SEC-3", "SEC-2", "SEG-20", "DEF-18")
@pytest.mark.parametrize("wrong", ["symlink", "file", "open", "foreign"])
def test_directories_that_others_control_are_refused(zeroslot_dir: Path, wrong: str) -> None:
    """A symbolic link, a file, a directory that others may write or that belongs to another user: PermissionError, or
    NotADirectoryError.
    """
    place, elsewhere = zeroslot_dir / "default", zeroslot_dir / "elsewhere"
    elsewhere.mkdir()
    match wrong:
        case "symlink":
            place.symlink_to(elsewhere)
        case "file":
            place.write_text("x")
        case "open":
            place.mkdir()
            place.chmod(0o777)
        case _:
            if os.geteuid() != 0:
                pytest.skip("only root can give files away")
            place.mkdir(mode=0o700)
            os.chown(place, 12345, -1)
    for make in (Publisher, Subscriber):
        with pytest.raises(NotADirectoryError if wrong == "file" else PermissionError, match="default"):
            make("a/b", Tick)
    assert list(elsewhere.iterdir()) == []
    place.rmdir() if place.is_dir() and not place.is_symlink() else place.unlink()


@pytest.mark.row("SEC-3", "DEF-18")
def test_a_root_that_is_a_symbolic_link_is_refused(
    zeroslot_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says to set ZEROSLOT_DIR to the directory itself."""
    link = tmp_path / "link"
    link.symlink_to(zeroslot_dir)
    monkeypatch.setenv("ZEROSLOT_DIR", str(link))
    with pytest.raises(PermissionError, match="ZEROSLOT_DIR"):
        Publisher("a", Tick)
