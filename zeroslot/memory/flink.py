"""Where segments are found: flink files in a tree of domains and topics.

    <root>/<domain>/<topic>/<16 hex>.flink     the control object's name, nothing else
    <root>/<domain>/<topic>/.<flink>.<16 hex>.tmp   the same, while that segment is being made or removed

Why a tree of files and no registry process: a name that is there by one system call is never half there, and needs
nobody to stay alive. Why a flink is announced before its segment is made, and kept aside until its segment is removed:
whoever comes after a process that was killed in between finds by it all that there is to clear.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from zeroslot._core.binding import Descriptor
from zeroslot.errors import FormatError, TopicNameError
from zeroslot.memory import access
from zeroslot.memory.access import Owner
from zeroslot.memory.segment import NO_REGULAR_FILE, attach_control, segment_id_of

if TYPE_CHECKING:
    from zeroslot.memory.segment import AttachedControl

log = logging.getLogger("zeroslot")

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_TOPIC_LIMIT = 200
_FLINK_NAME = re.compile(r"[0-9a-f]{16}\.flink", re.ASCII)
_CONTROL_NAME = re.compile(rb"/zs-[0-9a-f]{16}")
_ASIDE = re.compile(r"\.(.+)\.([0-9a-f]{16})\.tmp", re.ASCII)
_TRIES = 100
_IS_THERE = (errno.ENOTEMPTY, errno.EEXIST, errno.EPERM, errno.EACCES)  # what a rename says of a directory
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


def open_directory(path: Path) -> tuple[Descriptor, int | None]:
    """A directory of the tree, opened, and the group that the tree is shared with, or None.

    It is made, with its parents up to the root. Each of them is checked through the descriptor by which the next one is
    opened. Raises FileNotFoundError when a process that leaves removes one meanwhile, PermissionError for one that
    another user controls.
    """
    top = _root_of(path) or path
    here, group = _open_root(top)
    at = top
    for part in path.relative_to(top).parts:
        at /= part
        here = _open_below(here, at, group)
    return here, group


def sharing_group(directory: Path) -> int | None:
    """The group that a directory, which has to be there, is shared with: that of its tree, or its own. None: with none.

    Raises PermissionError when it is neither private nor shared.
    """
    if _root_of(directory) is None:
        here = _open_place(directory, None)
        return access.check_root(here.fileno(), directory, shareable=True)
    return open_directory(directory)[1]


def group_to_share_with(directory: Path, mode: int) -> int | None:
    """The group that flinks and objects of this mode get in a directory; None where the mode gives a group no right.

    Raises PermissionError where the directory is not shared.
    """
    if not mode & 0o070:
        return None
    top = _root_of(directory) or directory
    group = sharing_group(top)
    if group is None:
        raise access.refusal(
            top,
            top.stat(),
            f"mode {mode:04o} shares with the group of this directory, which is private. Make it the group's (chgrp, "
            "chmod 2770), or set ZEROSLOT_DIR to a directory that is",
        )
    return group


def _open_root(top: Path) -> tuple[Descriptor, int | None]:
    if not top.exists():
        top.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            top.mkdir(mode=access.PRIVATE_DIRECTORY)
    ours = top == _default_root()
    here = _open_place(top, None, repair=ours)
    return here, access.check_root(here.fileno(), top, shareable=not ours)


def _open_below(parent: Descriptor, path: Path, group: int | None) -> Descriptor:
    try:
        here = _open_place(path, parent, repair=group is None)
    except FileNotFoundError:
        with access.naming(path):
            _make_below(parent.fileno(), path.name, group)
        here = _open_place(path, parent, repair=group is None)
    access.check_below(here.fileno(), path, group)
    return here


def _open_place(path: Path, parent: Descriptor | None, *, repair: bool = False) -> Descriptor:
    """Open a directory, itself and not through a link. `repair`: give its owner the rights that a umask took away."""
    name = path if parent is None else Path(f"/proc/self/fd/{parent.fileno()}", path.name)
    with access.naming(path):
        info = os.stat(name, follow_symlinks=False)
    if stat.S_ISLNK(info.st_mode):
        raise PermissionError(
            f"{path} is a symbolic link, which zeroslot does not follow. Remove it, or set ZEROSLOT_DIR to the "
            "directory itself"
        )
    if not stat.S_ISDIR(info.st_mode):
        raise NotADirectoryError(f"{path} is not a directory. Remove it, or choose another place with ZEROSLOT_DIR")
    if repair and info.st_uid == os.geteuid() and info.st_mode & 0o700 != 0o700:
        _set_rights(name, access.PRIVATE_DIRECTORY, None)
    try:
        with access.naming(path):
            return Descriptor.open(str(name), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except PermissionError:
        reason = "this process may not use it. Choose another place with ZEROSLOT_DIR"
        raise access.refusal(path, info, reason) from None


def _make_below(parent: int, name: str, group: int | None) -> None:
    if group is None:
        with suppress(FileExistsError):
            os.mkdir(name, access.PRIVATE_DIRECTORY, dir_fd=parent)
        return
    # It appears with all its rights: another user cannot repair what a process that is stopped in between has made.
    fresh = f".new-{os.urandom(8).hex()}"
    try:
        os.mkdir(fresh, access.PRIVATE_DIRECTORY, dir_fd=parent)
        _set_rights(Path(f"/proc/self/fd/{parent}", fresh), access.SHARED_DIRECTORY, group)
        os.rename(fresh, name, src_dir_fd=parent, dst_dir_fd=parent)  # takes the place of an empty directory, if any
    except BaseException as error:
        with suppress(FileNotFoundError):
            os.rmdir(fresh, dir_fd=parent)
        if not isinstance(error, OSError) or error.errno not in _IS_THERE:
            raise


def _set_rights(path: Path, mode: int, group: int | None) -> None:
    """Set mode and group of a directory, itself and not through a link."""
    here = Descriptor.open(str(path), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    name = f"/proc/self/fd/{here.fileno()}"
    if group is not None and os.fstat(here.fileno()).st_gid != group:
        os.chown(name, -1, group)
    os.chmod(name, mode)


def _aside(path: Path, control_name: str) -> Path:
    return path.with_name(f".{path.name}.{segment_id_of(control_name)}.tmp")


def announce(path: Path, control_name: str, mode: int = 0o600, group: int | None = None) -> None:
    """Write what shall be the flink at `path`, beside it. Nobody follows it; `forget` removes it.

    Its directory is made, and made again if a process that leaves removes it meanwhile.
    """
    aside = _aside(path, control_name)
    file = _open_aside(path, aside)
    fd = file.fileno()
    with access.naming(aside):
        if group is not None:
            os.fchown(fd, -1, group)
        os.fchmod(fd, mode)
        os.write(fd, control_name.encode())
    file.close()


def _open_aside(path: Path, aside: Path) -> Descriptor:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
    if _root_of(path) is None:
        return Descriptor.open(str(aside), flags)
    for left in reversed(range(_TRIES)):
        try:
            here, _ = open_directory(path.parent)
            with access.naming(aside):
                return Descriptor.open(f"/proc/self/fd/{here.fileno()}/{aside.name}", flags)
        except FileNotFoundError:
            if not left:
                raise
    raise AssertionError


def write_flink(
    path: Path, control_name: str, mode: int = 0o600, group: int | None = None, *, replace: bool = False
) -> None:
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
            announce(path, control_name, mode, group)


def withdraw(path: Path, control_name: str) -> None:
    """Nobody shall find this segment any more: put its flink aside, if it is still its, until `forget`.

    A second call finishes one that was interrupted. Raises PermissionError when the directory does not allow it.
    """
    aside = _aside(path, control_name)
    if path.stem == segment_id_of(control_name):
        # The name of a topic's flink is the segment's own: nothing has to be read, also where descriptors have run out.
        with suppress(FileNotFoundError, NotADirectoryError):
            _rename(path, aside)
            path.unlink()  # its creator was killed before it forgot, and rename leaves two names of one file
        return
    if read_flink(path) == control_name:
        with suppress(FileNotFoundError):
            _rename(path, aside)
    named = None
    with suppress(ValueError):  # announced, and not written yet
        named = read_flink(aside)
    with suppress(FileNotFoundError, FileExistsError):
        if named == control_name:
            if aside.samefile(path):  # its creator was killed before it forgot, and rename leaves two names of one file
                path.unlink()
        elif named is not None:  # another segment has taken the name since the look
            os.link(aside, path)


def _rename(path: Path, aside: Path) -> None:
    try:
        os.rename(path, aside)
    except PermissionError:
        raise access.refusal(
            path, path.lstat(), "its publisher is dead, and only its owner can remove it. Run zeroslot gc as that user"
        ) from None


def forget(path: Path, control_name: str) -> None:
    """Remove what announces a flink, or was put aside, and the directories above it that are empty now."""
    with suppress(FileNotFoundError, NotADirectoryError):
        _aside(path, control_name).unlink()
    remove_empty(path.parent)


def read_flink(path: Path) -> str | None:
    """The control object's name, or None: the flink is gone.

    Raises PermissionError for a flink of another user that no group shares, ValueError for one that does not hold the
    name of a control object.
    """
    found = _read(path)
    return found[0] if found is not None else None


def attach(path: Path, where: str, *, read_only: bool = False) -> AttachedControl | None:
    """Map the control object that a flink names and check it. None: flink or object are gone, or never were finished.

    The objects have to belong to the flink's owner. Raises FormatError for a file that is no flink, and what
    `read_flink` and `segment.attach_control` raise.
    """
    try:
        found = _read(path)
    except ValueError as error:
        raise FormatError(str(error), where=where) from None
    if found is None:
        return None
    control_name, owner = found
    return attach_control(control_name, where, owner, read_only=read_only)


def _read(path: Path) -> tuple[str, Owner] | None:
    """What a flink says, and its owner."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if isinstance(error, PermissionError):
            raise _unreadable(path) from error
        if error.errno not in NO_REGULAR_FILE:
            raise  # EMFILE and the like say nothing about the file
        raise ValueError(f"{path} is no flink: {error.strerror}") from error
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise ValueError(f"{path} is no flink: not a regular file")
        foreign = info.st_uid != os.geteuid()
        access.check_file(path, info, sharing_group(path.parent) if foreign or info.st_mode & stat.S_IWGRP else None)
        content = os.read(fd, 64)
    finally:
        os.close(fd)
    if not _CONTROL_NAME.fullmatch(content):
        raise ValueError(f"{path} is no flink: it does not hold the name of a control object")
    return content.decode(), Owner(info.st_uid, info.st_gid)


def _unreadable(path: Path) -> PermissionError:
    try:
        info = path.lstat()
    except OSError:
        return PermissionError(f"{path} may not be read by uid {os.geteuid()}: its directory is another user's")
    return access.refusal(path, info, "this process may not read it. Its owner shares it with mode=0o660")


def list_flinks(directory: Path) -> list[Path]:
    """The flinks of a topic, sorted."""
    return sorted(directory / name for name in names_in(directory) if _FLINK_NAME.fullmatch(name))


def list_announced(directory: Path) -> list[tuple[Path, str]]:
    """The flinks of a topic that are still to come, or put aside, and the control objects that they name."""
    found = filter(None, map(_ASIDE.fullmatch, sorted(names_in(directory))))
    return [(directory / match[1], f"/zs-{match[2]}") for match in found]


def names_in(directory: Path) -> list[str]:
    """What is in a directory; nothing where there is none."""
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
        except FileNotFoundError:
            pass  # another process has removed it, or it was not made
        except OSError:
            return
        if directory == top:
            return
        directory = directory.parent
