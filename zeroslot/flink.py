"""Where segments are found: flink files in a tree of domains and topics, and the bell that rings as they come and go.

    <root>/<domain>/<topic>/<16 hex>.flink     the control object's name, nothing else
    <root>/<domain>/<topic>/.<flink>.<16 hex>.tmp   the same, while that segment is being made or removed
    <root>/<domain>/.bell                      one futex word, mapped by everyone in the domain

Why a tree of files and no registry process: a name that is there by one system call is never half there, and needs
nobody to stay alive. Why a flink is announced before its segment is made, and kept aside until its segment is removed:
whoever comes after a process that was killed in between finds by it all that there is to clear. Why a bell: a
subscriber notices a new publisher with one load, also while it sleeps, and nobody polls a directory.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path

from zeroslot._core.binding import Descriptor, Region, Word
from zeroslot.errors import TopicNameError
from zeroslot.segment import NO_REGULAR_FILE, reopened, segment_id_of

log = logging.getLogger("zeroslot")

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_TOPIC_LIMIT = 200
_FLINK_NAME = re.compile(r"[0-9a-f]{16}\.flink", re.ASCII)
_CONTROL_NAME = re.compile(rb"/zs-[0-9a-f]{16}")
_ASIDE = re.compile(r"\.(.+)\.([0-9a-f]{16})\.tmp", re.ASCII)
_BELL_SIZE = 64
_TRIES = 100
SHM = Path("/dev/shm")  # noqa: S108 (where POSIX shared memory is)


_roots: set[Path] = set()  # those that this process has used


def root() -> Path:
    """$ZEROSLOT_DIR, else /dev/shm/zeroslot-<uid>: a reboot clears the flinks and what they name together.

    Absolute: what a handle has made is found again after chdir.
    """
    chosen = os.environ.get("ZEROSLOT_DIR")
    top = Path(chosen).absolute() if chosen else _default_root()
    _roots.add(top)
    return top


def _default_root() -> Path:
    return SHM / f"zeroslot-{os.geteuid()}"


def _root_of(path: Path) -> Path | None:
    """The root that a path lies in, or is; also one that ZEROSLOT_DIR named earlier, whose handles are still open."""
    root()
    return next((top for top in (path, *path.parents) if top in _roots), None)


def checked_topic(topic: str) -> str:
    """The topic, or TopicNameError that says what is wrong with it."""
    return _checked("topic", topic)


def checked_domain(domain: str | None) -> str:
    """The domain, `default` (or $ZEROSLOT_DOMAIN) for None, or TopicNameError."""
    if domain is None:
        domain = os.environ.get("ZEROSLOT_DOMAIN") or "default"
    return _checked("domain", domain)


def _checked(what: str, name: object) -> str:
    if not isinstance(name, str):
        raise TopicNameError(f"a {what} is a str, not {type(name).__name__}", topic=repr(name))
    joined = ", parts joined by /" if what == "topic" else ""
    rule = f"letters, digits, _ . - (not . or - first), at most 64 a part{joined}"
    if len(name) > _TOPIC_LIMIT:
        raise TopicNameError(
            f"{what} {name[:40]!r}… has {len(name)} characters, {_TOPIC_LIMIT} are allowed", topic=name
        )
    for part in name.split("/") if what == "topic" else [name]:
        if not _PART.fullmatch(part) or part.endswith((".flink", ".tmp")):
            raise TopicNameError(
                f"{what} {name!r}: {part!r} is no name ({rule}; not ending in .flink or .tmp)", topic=name
            )
    return name


def domain_directory(domain: str) -> Path:
    """The directory of a checked domain."""
    return root() / domain


def topic_directory(domain: str, topic: str) -> Path:
    """The directory of a checked topic."""
    return domain_directory(domain).joinpath(*topic.split("/"))


def _check_ours(path: Path, info: os.stat_result) -> None:
    mode = stat.S_IMODE(info.st_mode)
    if info.st_uid != os.geteuid() and not mode & 0o020:
        raise PermissionError(
            f"{path} belongs to uid {info.st_uid} with mode {mode:04o}, and this process is uid {os.geteuid()}. "
            "Remove it, or choose another place with ZEROSLOT_DIR"
        )
    if mode & 0o002:
        raise PermissionError(f"{path} can be written by everybody (mode {mode:04o}). Remove that right: chmod o-w")


def make_directory(path: Path) -> None:
    """Create a directory of our tree, 0700, with its parents up to the root; check those that are there.

    Raises PermissionError for one that is somebody else's, writable by everybody, or a symbolic link.
    """
    top = _root_of(path)
    if path == top:
        path.parent.mkdir(parents=True, exist_ok=True)
    elif top is not None:
        make_directory(path.parent)
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    info = path.lstat()
    if stat.S_ISLNK(info.st_mode) and path != top:
        raise PermissionError(f"{path} is a symbolic link, which zeroslot does not follow. Remove it")
    if stat.S_ISLNK(info.st_mode):
        raise PermissionError(f"{path} is a symbolic link. Set ZEROSLOT_DIR to the directory itself")
    if not stat.S_ISDIR(info.st_mode):
        raise NotADirectoryError(f"{path} is not a directory. Remove it, or choose another place with ZEROSLOT_DIR")
    _check_ours(path, info)


def _aside(path: Path, control_name: str) -> Path:
    return path.with_name(f".{path.name}.{segment_id_of(control_name)}.tmp")


def announce(path: Path, control_name: str, mode: int = 0o600) -> None:
    """Write what shall be the flink at `path`, beside it. Nobody follows it; `forget` removes it.

    Its directory is made, and made again if one who leaves removes it meanwhile.
    """
    fd = _open_aside(path, control_name)
    try:
        os.fchmod(fd, mode)
        os.write(fd, control_name.encode())
    finally:
        os.close(fd)


def _open_aside(path: Path, control_name: str) -> int:
    ours = _root_of(path) is not None
    for _ in range(_TRIES):
        try:
            if ours:
                make_directory(path.parent)
            return os.open(_aside(path, control_name), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            if not ours:
                raise
    raise OSError(f"{path.parent} vanishes as often as it is created")


def write_flink(path: Path, control_name: str, mode: int = 0o600, *, replace: bool = False) -> None:
    """Let a flink appear, whole, at `path`.

    It need not be announced any more: a cleaner may have taken the announcement for a dead creator's.

    Raises FileExistsError when there is one: of two creators, one gets the name. With `replace` the later one does.
    """
    for left in reversed(range(_TRIES)):
        try:
            if replace:
                os.replace(_aside(path, control_name), path)
            else:
                os.link(_aside(path, control_name), path)  # no rename, which would replace a flink that came meanwhile
            return
        except FileNotFoundError:
            if not left:
                raise
            announce(path, control_name, mode)


def withdraw(path: Path, control_name: str) -> None:
    """Nobody shall find this segment any more: put its flink aside, if it is still its, until `forget`.

    A second call finishes one that was interrupted.
    """
    aside = _aside(path, control_name)
    if read_flink(path) == control_name:
        with suppress(FileNotFoundError):
            os.rename(path, aside)
    named = None
    with suppress(ValueError):  # announced, and not written yet
        named = read_flink(aside)
    with suppress(FileNotFoundError, FileExistsError):
        if named == control_name:
            if aside.samefile(path):  # its creator was killed before it forgot, and rename leaves two names of one file
                path.unlink()
        elif named is not None:  # another segment has taken the name since the look
            os.link(aside, path)


def forget(path: Path, control_name: str) -> None:
    """Remove what announces a flink, or was put aside, and the directories above it that are empty now."""
    with suppress(FileNotFoundError, NotADirectoryError):
        _aside(path, control_name).unlink()
    remove_empty(path.parent)


def read_flink(path: Path) -> str | None:
    """The control object's name, or None: the flink is gone.

    Raises PermissionError for somebody else's flink, ValueError for one that does not hold the name of a control
    object.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if isinstance(error, PermissionError):
            info = path.lstat()
            raise PermissionError(
                f"{path} belongs to uid {info.st_uid} with mode {stat.S_IMODE(info.st_mode):04o}; "
                f"this process is uid {os.geteuid()} and may not read it"
            ) from error
        if error.errno not in NO_REGULAR_FILE:
            raise  # EMFILE and the like say nothing about the file
        raise ValueError(f"{path} is no flink: {error.strerror}") from error
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise ValueError(f"{path} is no flink: not a regular file")
        _check_ours(path, info)
        content = os.read(fd, 64)
    finally:
        os.close(fd)
    if not _CONTROL_NAME.fullmatch(content):
        raise ValueError(f"{path} is no flink: it does not hold the name of a control object")
    return content.decode()


def list_flinks(directory: Path) -> list[Path]:
    """The flinks of a topic, sorted."""
    return sorted(directory / name for name in _names(directory) if _FLINK_NAME.fullmatch(name))


def list_announced(directory: Path) -> list[tuple[Path, str]]:
    """The flinks of a topic that are still to come, or put aside, and the control objects that they name."""
    found = filter(None, map(_ASIDE.fullmatch, sorted(_names(directory))))
    return [(directory / match[1], f"/zs-{match[2]}") for match in found]


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def list_topics(domain: str) -> list[str]:
    """The topics of a domain that have a flink, sorted."""
    top = domain_directory(domain)
    found = []
    for directory, _, names in os.walk(top):
        if any(_FLINK_NAME.fullmatch(name) for name in names):
            found.append(str(Path(directory).relative_to(top)))
    return sorted(topic for topic in found if topic != ".")


def remove_empty(directory: Path) -> None:
    """Remove a directory of a tree and those above it, as far as they are empty. $ZEROSLOT_DIR itself stays."""
    top = _root_of(directory)
    if top is None:
        return
    while directory != top or top == _default_root():
        try:
            directory.rmdir()
        except OSError:
            return
        if directory == top:
            return
        directory = directory.parent


class _OpenBell:
    """A bell's file that this process has opened, mapped and locked, once for all its users."""

    def __init__(self, descriptor: Descriptor, region: Region) -> None:
        self.descriptor = descriptor
        self.word = Word(region, 0)
        self.users: weakref.WeakSet[Bell] = weakref.WeakSet()

    def is_current(self, path: Path) -> bool:
        """Whether the file at the path is still this one: a test or a user may have removed it."""
        try:
            return os.path.samestat(os.fstat(self.descriptor.fileno()), path.stat())
        except OSError:
            return False


class Bell:
    """One handle's use of the bell of its domain. `word` moves whenever a publisher of the domain comes or goes.

    Why one object for each handle: what is interrupted between the joining and the storing is left by its `__del__`,
    and a second `leave` changes nothing.
    """

    _open: dict[Path, _OpenBell] = {}  # noqa: RUF012 (all bells of the process)
    # Reentrant: a signal handler, or the collector, may close a handle in the middle of `join` and `leave`.
    _guard = threading.RLock()

    def __init__(self, path: Path) -> None:
        """Use `join`."""
        self.path = path
        self._pid = os.getpid()
        self._opened: _OpenBell | None = None
        self._left = False

    @classmethod
    def join(cls, domain: str) -> Bell:
        """Use the bell of a checked domain; `leave` when done. Creates the domain's directory and the bell's file."""
        bell = cls(domain_directory(domain) / ".bell")
        try:
            with cls._guard:
                bell._join()
        except PermissionError:
            bell._left = True  # what is there belongs to another user
            raise
        except BaseException:
            bell.leave()
            raise
        return bell

    def _join(self) -> None:
        opened = self._opened = self._open.get(self.path)
        if opened is not None:
            opened.users.add(self)  # first, since whatever runs meanwhile may leave it
            if opened.is_current(self.path):
                self.word = opened.word
                return
            self._drop()
        opened = self._opened = self._open[self.path] = _open_bell(self.path)
        opened.users.add(self)
        self.word = opened.word

    def ring(self) -> None:
        """A publisher has come or gone: everybody in the domain looks."""
        self.word.bump()

    def leave(self) -> None:
        """Use it no more. The last user in the last process removes the file, and the domain's directory if empty.

        One that was interrupted is finished by the next call. After that a call does nothing, and nor does one in a
        forked child.
        """
        if self._left or self._pid != os.getpid():
            return
        with self._guard:
            self._drop()
            if self.path not in self._open:
                _remove_unused_bell(self.path)
        remove_empty(self.path.parent)
        self._left = True

    def _drop(self) -> None:
        """End this use; the last of the process unlocks the file."""
        opened = self._opened
        if opened is not None:
            opened.users.discard(self)
            if not opened.users:
                if self._open.get(self.path) is opened:
                    del self._open[self.path]
                opened.descriptor.close()

    def __del__(self) -> None:
        if hasattr(self, "_left"):
            self.leave()


def _open_bell(path: Path) -> _OpenBell:
    for left in reversed(range(_TRIES)):
        with suppress(FileNotFoundError):  # one who leaves may remove it at once, and then there is nothing to open
            make_directory(path.parent)
        try:
            descriptor = Descriptor.open(str(path), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
        except FileNotFoundError:
            if not left:
                raise
            continue
        except PermissionError:
            info = path.lstat()
            raise PermissionError(
                f"{path} belongs to uid {info.st_uid} with mode {stat.S_IMODE(info.st_mode):04o}; "
                f"this process is uid {os.geteuid()} and may not use it. Remove it, or choose another place with "
                "ZEROSLOT_DIR"
            ) from None
        try:
            info = os.fstat(descriptor.fileno())
            _check_ours(path, info)
            # Locked before looked at: the last user unlinks the file under the exclusive lock.
            if not descriptor.try_lock(0, shared=True):
                descriptor.close()
                time.sleep(0.001)  # a process is between lock and unlink, and may not be running now
                continue
            if not os.fstat(descriptor.fileno()).st_nlink:
                descriptor.close()
                continue
            if info.st_size < _BELL_SIZE:
                os.posix_fallocate(descriptor.fileno(), 0, _BELL_SIZE)
            return _OpenBell(descriptor, Region(reopened(descriptor.fileno(), os.O_RDWR), _BELL_SIZE, True))
        except BaseException:
            descriptor.close()
            raise
    raise OSError(f"{path} vanishes as often as it is created")


def _remove_unused_bell(path: Path) -> None:
    """Remove a bell's file unless a process uses it, which the exclusive lock tells. Of two processes that leave at
    once, the later one gets that lock.
    """
    with suppress(OSError):
        descriptor = Descriptor.open(str(path), os.O_RDWR | os.O_NOFOLLOW)
        try:
            info = os.fstat(descriptor.fileno())
            if stat.S_ISREG(info.st_mode) and descriptor.try_lock(0) and os.path.samestat(info, path.stat()):
                path.unlink()
        finally:
            descriptor.close()


def leave_bells() -> None:
    """Leave every bell of this process, whatever uses it: the interpreter ends."""
    for path, opened in list(Bell._open.items()):
        for user in list(opened.users):
            user.leave()
        if Bell._open.pop(path, None) is not None:
            opened.descriptor.close()
            _remove_unused_bell(path)
            remove_empty(path.parent)


def bell_is_idle(domain: str) -> bool:
    """Whether a checked domain has a bell that nobody uses: its users were killed."""
    try:
        probe = Descriptor.open(str(domain_directory(domain) / ".bell"), os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return not probe.is_locked(0)
    finally:
        probe.close()


def _forget_bells() -> None:
    # A forked child shares no bell with its parent; its lock descriptors are closed already.
    Bell._open = {}
    Bell._guard = threading.RLock()


os.register_at_fork(after_in_child=_forget_bells)
