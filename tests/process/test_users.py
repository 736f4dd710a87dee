"""Users: what two of a group share, what a third one gets, and what is refused because another user controls it."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import shared_memory
from tests.children import Child
from tests.process.actors import Cast
from zeroslot.memory import cleanup

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")

FIRST, SECOND, THIRD, GROUP, OTHER_GROUP = 60001, 60002, 60003, 60010, 60011

# A process of one user. Its umask would take every right from group and others.
USER = """
import logging, os
import zeroslot as zs
from tests.process.samples import Tick

uid, groups, umask = args
zs.Publisher, zs.Subscriber, zs.SlotReader, zs.topics  # all is imported while it may be read
os.setgroups(groups)
os.setgid(uid)
os.setuid(uid)
os.umask(umask)
held = {}

def publisher(topic, options):
    held["pub"] = zs.Publisher(topic, Tick, **options)
    return str(held["pub"].flink)

def subscriber(topic, options):
    held["sub"] = zs.Subscriber(topic, Tick, **options)
    return len(held["sub"].publishers)

def attach(path):
    with zs.SlotReader.attach(path):
        return "attached"

def take():
    lease = held["sub"].take(timeout=None)
    return [lease.sample.number, lease.sample.sender]

def hold():
    held["lease"] = held["sub"].take(timeout=None)

def poll():
    lease = held["sub"].take()
    return None if lease is None else lease.sample.number

def opened(path, flags):
    os.close(os.open(path, flags))
    return "opened"

verbs = {
    "publisher": publisher, "subscriber": subscriber, "attach": attach, "take": take, "hold": hold, "opened": opened,
    "show warnings": logging.getLogger("zeroslot").handlers.clear,  # as in any program
    "poll": poll, "lost": lambda: held["sub"].lost,
    "publish": lambda number: held["pub"].publish(Tick(number=number, sender=str(uid))),
    "publishers": lambda: len(held["sub"].publishers),
    "subscribers": lambda: held["pub"].subscriber_count,
    "topics": lambda: [facts.topic for facts in zs.topics()],
    "reap": lambda: held["pub"].reap(),
    "close": lambda: [held.pop(name).close() for name in list(held) if name != "lease"] and None,
    "clean": lambda: [[left.what, left.removed, left.owner_uid, left.size_bytes] for left in zs.clean()],
}
say("ready")
for verb, *rest in orders():
    try:
        say(["ok", verbs[verb](*rest)])
    except OSError as error:
        say([type(error).__name__, str(error)])
"""


class User:
    """A process of one user, which does what it is told."""

    def __init__(self, child: Child) -> None:
        self.child = child
        child.expect("ready")

    def does(self, verb: str, *rest: object) -> object:
        kind, result = self.child.ask([verb, *rest])
        assert kind == "ok", result
        return result

    def is_refused(self, verb: str, *rest: object, why: str = "PermissionError") -> str:
        """The text of the PermissionError, or other error, that it gets."""
        kind, text = self.child.ask([verb, *rest])
        assert kind == why, (kind, text)
        return str(text)


@pytest.fixture
def user(cast: Cast) -> Callable[..., User]:
    def start(uid: int, *groups: int, umask: int = 0o077, env: dict[str, str | None] | None = None) -> User:
        return User(cast(USER, uid, list(groups), umask, env=env))

    return start


@pytest.fixture
def shared(zeroslot_dir: Path) -> Path:
    """The root, shared with the group."""
    os.chown(zeroslot_dir, FIRST, GROUP)
    zeroslot_dir.chmod(0o2770)
    return zeroslot_dir


def rights(path: Path) -> tuple[str, int, int]:
    info = path.lstat()
    return oct(stat.S_IMODE(info.st_mode)), info.st_uid, info.st_gid


def everything(root: Path) -> list[Path]:
    return sorted([root, *root.rglob("*"), *(Path("/dev/shm", name) for name in shared_memory.objects())])


SHARED = {"mode": 0o660}


@pytest.mark.row("SEC-1", "SEC-2")
@pytest.mark.parametrize("umask", [0o077, 0o022, 0o777])
def test_two_users_of_a_group_share_a_topic_and_a_third_gets_nothing(
    user: Callable[..., User], shared: Path, umask: int
):
    """Every file has the group and its rights, whatever the umask; the third user can open none of them."""
    first, second = (user(uid, GROUP, umask=umask) for uid in (FIRST, SECOND))
    third = user(THIRD)
    flink = str(first.does("publisher", "a/t", SHARED))
    assert second.does("subscriber", "a/t", {}) == 1
    assert first.does("publish", 7) == 1
    assert second.does("take") == [7, str(FIRST)]
    second.does("publisher", "a/t", SHARED)
    assert first.does("subscriber", "a/t", {}) == 2
    second.does("publish", 8)
    assert first.does("take") == [8, str(SECOND)]
    assert first.does("topics") == second.does("topics") == ["a/t"]

    def expected(path: Path) -> str:
        if path.is_dir():
            return "0o2770"
        return "0o640" if path.suffix == ".flink" or path.name.endswith("-p0") else "0o660"

    found = everything(shared)
    assert len(found) == 1 + 3 + 1 + 2 + 4
    assert {path: rights(path)[::2] for path in found} == {path: (expected(path), GROUP) for path in found}
    for path in found:
        for flags in (os.O_RDONLY, os.O_RDONLY if path.is_dir() else os.O_RDWR):
            third.is_refused("opened", str(path), flags)
    for what in (("publisher", "a/t", SHARED), ("subscriber", "a/t", {}), ("attach", flink)):
        text = third.is_refused(*what)
        assert str(shared) in text
    assert str(shared) in third.is_refused("topics")
    first.does("close")
    second.does("close")
    assert list(shared.iterdir()) == []


@pytest.mark.row("SEC-1", "DEF-10", "PEER-8")
def test_two_users_of_a_group_die_and_start_again_side_by_side(user: Callable[..., User], shared: Path):
    """Each withdraws the flink of the other's dead publisher; the objects stay for its own gc, and are listed."""
    first, second = user(FIRST, GROUP), user(SECOND, GROUP)
    first.does("publisher", "t", SHARED)
    second.does("subscriber", "t", {})
    first.does("publish", 1)
    second.does("hold")
    assert first.does("subscribers") == 1
    second.child.kill()
    assert first.does("reap") == 1
    second = user(SECOND, GROUP)
    assert second.does("subscriber", "t", {"history": 1}) == 1
    assert second.does("take") == [1, str(FIRST)]
    left = shared_memory.objects()
    bytes_left = sum(Path("/dev/shm", name).stat().st_blocks * 512 for name in left)
    first.child.kill()
    assert second.does("publishers") == 0
    flink = str(second.does("publisher", "t", SHARED))
    assert [str(path) for path in shared.rglob("*.flink")] == [flink]
    assert shared_memory.objects() > left
    ((what, *facts),) = second.does("clean")
    assert facts == [False, FIRST, bytes_left]
    assert str(FIRST) in what
    first = user(FIRST, GROUP)
    assert first.does("subscriber", "t", {}) == 1
    second.does("publish", 2)
    assert first.does("take") == [2, str(SECOND)]
    first.does("publisher", "t", SHARED)
    first.does("publish", 3)
    assert sorted([second.does("take"), second.does("take")]) == [[2, str(SECOND)], [3, str(FIRST)]]
    assert [facts for _, *facts in first.does("clean")] == [[True, None, 0]]
    assert not shared_memory.objects() & left
    first.does("close")
    second.does("close")
    assert list(shared.iterdir()) == []


@pytest.mark.row("SEC-1")
def test_root_removes_what_dead_processes_of_other_users_left(user: Callable[..., User], shared: Path):
    """Of a group's members, and of users that it shares nothing with."""
    first = user(FIRST, GROUP)
    first.does("publisher", "t", SHARED)
    private = user(SECOND, env={"ZEROSLOT_DIR": None})
    private.does("publisher", "u", {})
    assert cleanup.clean() == ()
    assert len(shared_memory.objects()) == 4
    first.child.kill()
    private.child.kill()
    found = cleanup.clean(everything=True)
    assert all(left.removed for left in found)
    assert shared_memory.objects() == set()
    second = user(SECOND, env={"ZEROSLOT_DIR": None})
    second.does("publisher", "u", {})
    second.does("close")
    assert not Path(f"/dev/shm/zeroslot-{SECOND}").exists()


@pytest.mark.row("SEC-1")
def test_a_private_publisher_in_a_shared_directory_is_read_by_its_user_alone(user: Callable[..., User], shared: Path):
    """mode=0o600: another member of the group gets an error that names the owner, and may not publish."""
    first, second = user(FIRST, GROUP), user(SECOND, GROUP)
    flink = str(first.does("publisher", "t", {}))
    assert rights(Path(flink))[0] == "0o600"
    assert first.does("subscriber", "t", {}) == 1
    assert second.does("subscriber", "t", {}) == 0  # logged
    for text in (second.is_refused("publisher", "t", SHARED), second.is_refused("attach", flink)):
        assert flink in text
        assert str(FIRST) in text
        assert "0600" in text
    assert second.does("publisher", "u", SHARED)
    first.does("close")
    second.does("close")


@pytest.mark.row("SEC-1", "SEC-2")
def test_a_dead_publisher_of_another_user_that_cannot_be_removed_is_an_error(user: Callable[..., User], shared: Path):
    """In a sticky directory: file, owner and mode, and nothing is put aside."""
    first, second = user(FIRST, GROUP), user(SECOND, GROUP)
    flink = Path(str(first.does("publisher", "t", SHARED)))
    flink.parent.chmod(0o3770)
    first.child.kill()
    for _ in range(2):
        text = second.is_refused("publisher", "t", SHARED)
        assert str(flink) in text
        assert f"uid {FIRST}" in text
        assert "0640" in text
        assert os.listdir(flink.parent) == [flink.name]
    first = user(FIRST, GROUP)
    first.does("publisher", "t", SHARED)
    assert second.does("publisher", "t", SHARED)
    first.does("close")
    second.does("close")


def acl(*entries: tuple[int, int, int]) -> bytes:
    """An access control list: (tag, rights, id)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, right, id_) for tag, right, id_ in entries)


# Owner, a named user, group, mask, others.
FOR_THE_THIRD = acl((1, 7, 2**32 - 1), (2, 7, THIRD), (4, 7, 2**32 - 1), (16, 7, 2**32 - 1), (32, 0, 2**32 - 1))


@pytest.fixture
def default_root() -> Iterator[Path]:
    """Of the first user, before it has made anything."""
    path = Path(f"/dev/shm/zeroslot-{FIRST}")
    path.mkdir(mode=0o700)
    os.chown(path, FIRST, FIRST)
    yield path
    os.removexattr(path, "system.posix_acl_access") if "system.posix_acl_access" in os.listxattr(path) else None
    os.removexattr(path, "system.posix_acl_default") if "system.posix_acl_default" in os.listxattr(path) else None
    path.rmdir()


WRONG_ROOTS: dict[str, Callable[[Path], object]] = {
    "another user's": lambda path: os.chown(path, THIRD, THIRD),
    "another user's, with the group": lambda path: (os.chown(path, THIRD, GROUP), path.chmod(0o2770)),
    "another user's, with this user's group": lambda path: (os.chown(path, THIRD, FIRST), path.chmod(0o770)),
    "shared": lambda path: (os.chown(path, FIRST, GROUP), path.chmod(0o2770)),
    "readable": lambda path: path.chmod(0o755),
    "with an access control list": lambda path: os.setxattr(path, "system.posix_acl_access", FOR_THE_THIRD),
    "with a default one": lambda path: os.setxattr(path, "system.posix_acl_default", FOR_THE_THIRD),
}


@pytest.mark.row("SEC-2", "DEF-18")
@pytest.mark.parametrize("wrong", WRONG_ROOTS)
def test_a_default_root_that_other_users_control_is_refused(user: Callable[..., User], default_root: Path, wrong: str):
    """It belongs to this user, 0700, without an access control list; nothing is made in any other."""
    WRONG_ROOTS[wrong](default_root)
    first = user(FIRST, GROUP, env={"ZEROSLOT_DIR": None})
    for end in ("publisher", "subscriber"):
        text = first.is_refused(end, "t", {})
        assert str(default_root) in text
        assert "uid" in text
    assert list(default_root.iterdir()) == []


WRONG_SHARED: dict[str, Callable[[Path], object]] = {
    "another group's": lambda path: (os.chown(path, SECOND, OTHER_GROUP), path.chmod(0o2770)),
    "open to all": lambda path: (os.chown(path, SECOND, GROUP), path.chmod(0o2775)),
    "not meant": lambda path: (os.chown(path, SECOND, GROUP), path.chmod(0o770)),
    "with an access control list": lambda path: os.setxattr(path, "system.posix_acl_access", FOR_THE_THIRD),
    "with a default one": lambda path: os.setxattr(path, "system.posix_acl_default", FOR_THE_THIRD),
}


@pytest.mark.row("SEC-2", "DEF-18")
@pytest.mark.parametrize("wrong", WRONG_SHARED)
@pytest.mark.parametrize("where", ["the root", "below it"])
def test_a_shared_directory_that_other_users_control_is_refused(
    user: Callable[..., User], shared: Path, wrong: str, where: str
):
    """2770, with a group of this process, which is that of the root, and without an access control list."""
    place = shared
    if where == "below it":
        place = shared / "default"
        place.mkdir()
        os.chown(place, SECOND, GROUP)
        place.chmod(0o2770)
    WRONG_SHARED[wrong](place)
    # Below the root it is wrong also for a member of the other group.
    first = user(FIRST, *([GROUP] if where == "the root" else [GROUP, OTHER_GROUP]))
    for end in ("publisher", "subscriber"):
        assert str(place) in first.is_refused(end, "t", {})
    assert not (shared / "default").exists() or list((shared / "default").iterdir()) == []


@pytest.mark.row("SEC-1")
def test_a_shared_mode_needs_a_shared_directory(user: Callable[..., User], zeroslot_dir: Path):
    """mode=0o660 under a private root would share nothing: the error says what to do, and nothing is left."""
    os.chown(zeroslot_dir, FIRST, FIRST)
    text = user(FIRST, GROUP).is_refused("publisher", "t", SHARED)
    assert str(zeroslot_dir) in text
    assert "2770" in text
    assert list(zeroslot_dir.iterdir()) == []


@pytest.mark.row("SEC-2", "SEC-4")
@pytest.mark.parametrize("which", ["control", "pool"])
@pytest.mark.parametrize("wrong", ["owner", "group", "open"])
def test_an_object_that_another_user_planted_is_refused(
    user: Callable[..., User], shared: Path, which: str, wrong: str
):
    """Its owner and its group are not those of the flink that names it."""
    first, second = user(FIRST, GROUP), user(SECOND, GROUP)
    flink = Path(str(first.does("publisher", "t", SHARED)))
    path = Path("/dev/shm" + flink.read_text() + ("-p0" if which == "pool" else ""))
    if wrong == "open":
        path.chmod(0o666)
    else:
        os.chown(path, *((THIRD, GROUP) if wrong == "owner" else (FIRST, OTHER_GROUP)))
        path.chmod(0o666 if wrong == "group" else path.stat().st_mode & 0o777)
    text = second.is_refused("attach", str(flink))
    assert path.name in text
    assert f"uid {THIRD if wrong == 'owner' else FIRST}" in text
    assert second.does("subscriber", "t", {}) == 0
    os.chown(path, FIRST, GROUP)
    path.chmod(0o640 if which == "pool" else 0o660)
    assert second.does("attach", str(flink)) == "attached"
    first.does("close")
    second.does("close")


NARROW = {"on_full": "raise", "depth": 1, "max_loans": 1}


def announcements(root: Path) -> list[Path]:
    return sorted(root.rglob(".*.sub"))


@pytest.mark.row("NOT-12", "SEC-1")
def test_a_publisher_waits_for_the_announced_subscriber_of_another_user(user: Callable[..., User], shared: Path):
    """In a directory that both share: it reads the announcement, waits, goes on when the other has joined, and removes
    the announcement when the other has been killed.
    """
    first, second = user(FIRST, GROUP), user(SECOND, GROUP)
    assert second.does("subscriber", "a/t", {"reliable": True, "name": "second"}) == 0
    (announced,) = announcements(shared)
    assert rights(announced) == ("0o660", SECOND, GROUP)
    first.does("publisher", "a/t", SHARED | NARROW)
    assert first.does("publish", 1) == 1
    text = first.is_refused("publish", 2, why="BackpressureError")
    assert f"second (pid {second.child.pid}" in text
    assert second.does("poll") == 1
    assert first.does("publish", 2) == 2
    second.child.kill()
    assert first.does("publish", 3) == 3
    assert announcements(shared) == [announced]
    first.does("close")
    assert list(shared.iterdir()) == []


@pytest.mark.row("NOT-12", "SEC-1")
@pytest.mark.parametrize("remover", ["publisher", "clean"])
@pytest.mark.parametrize("sticky", [False, True])
def test_the_announcement_of_another_user_that_died_is_removed(
    user: Callable[..., User], shared: Path, remover: str, *, sticky: bool
):
    """By the next publisher or by clean, where the directory permits it; where it is sticky, only by its own user. It
    delays no publisher in either case.
    """
    first, second = user(FIRST, GROUP), user(SECOND, GROUP)
    second.does("subscriber", "t", {"reliable": True})
    (announced,) = announcements(shared)
    if sticky:
        announced.parent.chmod(0o3770)
    second.child.kill()
    if remover == "clean":
        found = {str(what): removed for what, removed, *_ in first.does("clean")}
        assert found["the announcement of a dead subscriber"] is not sticky
    first.does("publisher", "t", SHARED | NARROW)
    assert announcements(shared) == ([announced] if sticky else [])
    assert [first.does("publish", number) for number in (1, 2, 3)] == [1, 2, 3]
    first.does("close")
    second = user(SECOND, GROUP)
    second.does("clean")
    second.does("publisher", "t", SHARED)
    second.does("close")
    assert list(shared.iterdir()) == []


@pytest.mark.row("NOT-12", "SEC-2")
@pytest.mark.parametrize("wrong", ["of another group", "open to all", "of a user outside"])
def test_an_announcement_that_others_may_have_written_is_not_waited_for(
    user: Callable[..., User], shared: Path, wrong: str
):
    """Its process lives, but the file is not one that only the group can write."""
    first, second = user(FIRST, GROUP), user(SECOND, GROUP)
    second.does("subscriber", "t", {"reliable": True})
    (announced,) = announcements(shared)
    if wrong == "open to all":
        announced.chmod(0o666)
    else:
        os.chown(announced, *((SECOND, OTHER_GROUP) if wrong == "of another group" else (THIRD, THIRD)))
        announced.chmod(0o660 if wrong == "of another group" else 0o600)
    first.does("publisher", "t", SHARED | NARROW)
    assert [first.does("publish", number) for number in (1, 2, 3)] == [1, 2, 3]
    assert announcements(shared) == [announced]
    os.chown(announced, SECOND, GROUP)
    assert second.does("poll") == 3
    assert second.does("lost") == 2
    second.does("close")
    first.does("close")
    assert list(shared.iterdir()) == []


@pytest.mark.row("NOT-12", "SEC-1")
def test_a_subscriber_that_may_not_announce_itself_says_so_once(user: Callable[..., User], zeroslot_dir: Path):
    """It may read the directory and not write to it: it reads the publishers that are there as ever, and one that
    starts later does not wait for it. What that one published too early is counted.
    """
    os.chown(zeroslot_dir, FIRST, FIRST)
    first = user(FIRST)
    topic = Path(str(first.does("publisher", "t", NARROW))).parent
    topic.chmod(0o500)
    sub = user(FIRST)
    sub.does("show warnings")
    assert sub.does("subscriber", "t", {"reliable": True}) == 1
    assert announcements(zeroslot_dir) == []
    assert first.does("publish", 1) == 1
    first.is_refused("publish", 2, why="BackpressureError")
    assert sub.does("poll") == 1
    topic.chmod(0o700)
    first.does("close")
    topic.mkdir(mode=0o500)
    os.chown(topic, FIRST, FIRST)
    (topic / "note").touch()  # or it would be removed, being empty
    assert [sub.does("poll") for _ in range(3)] == [None] * 3
    assert sub.child.stderr.count("cannot be announced") == 1
    assert f"{topic} belongs to uid {FIRST} and gid {FIRST} with mode 0500" in sub.child.stderr
    topic.chmod(0o700)
    (topic / "note").unlink()
    other = user(FIRST)
    other.does("publisher", "t", NARROW)
    assert [other.does("publish", number) for number in (1, 2, 3)] == [1, 2, 3]
    assert sub.does("poll") is None  # it joins where no loan has to wait for it at once
    assert sub.does("lost") == 3
    assert other.does("publish", 4) == 4
    assert sub.does("poll") == 4
    sub.does("close")
    sub.child.finish()
    other.does("close")
    assert list(zeroslot_dir.iterdir()) == []
