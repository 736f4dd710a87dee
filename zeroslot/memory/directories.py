"""The tree of domains and topics, in which segments are found.

    <root>/<domain>/<topic>/     the flinks of a topic, see zeroslot.memory.flink
    <root>/<domain>/.bell        see zeroslot.memory.bell

Why a tree of files and no registry process: a name appears and disappears by one system call, and no process has to
stay alive for it.

Directories are created when they are needed and removed when they are empty, so a process may find that another one has
just removed its directory. Every creation in the tree is therefore retried.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from zeroslot._core.binding import Descriptor
from zeroslot.errors import TopicNameError
from zeroslot.memory import access
from zeroslot.memory.objects import SHM

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_TOPIC_LIMIT = 200
_TRIES = 100
_EXISTS = (errno.ENOTEMPTY, errno.EEXIST, errno.EPERM, errno.EACCES)  # how rename fails where a directory exists

ROOT_UNKNOWN = (0, 1)  # no file system has the device 0

_roots: set[Path] = set()  # those that this process has used


def root() -> Path:
    """$ZEROSLOT_DIR, else /dev/shm/zeroslot-<uid>: a reboot clears the flinks and what they name together.

    Absolute, so that a handle finds its files again after chdir.
    """
    chosen = os.environ.get("ZEROSLOT_DIR")
    top = _path_of(chosen).absolute() if chosen else _default_root()
    _roots.add(top)
    return top


@lru_cache(maxsize=8)
def _path_of(text: str) -> Path:
    # Cached: each handle asks for the root several times, and a Path takes longer to make than a file to open.
    return Path(text)


def _default_root() -> Path:
    return _path_of(f"{SHM}/zeroslot-{os.geteuid()}")


def root_of(path: Path) -> Path | None:
    """The root that a path lies in, or is; also one that ZEROSLOT_DIR named earlier, whose handles are still open."""
    root()
    return next((top for top in (path, *path.parents) if top in _roots), None)


def root_identity() -> tuple[int, int]:
    """The device and the inode of the root, as a segment's header names them: (0, 0) for the default root,
    ROOT_UNKNOWN for one that does not exist.

    Why not its path: containers that share /dev/shm may have different directories at one path, and one directory at
    different paths.
    """
    top = root()
    if top == _default_root():
        return 0, 0  # it is removed when it is empty, so its inode changes
    try:
        info = top.stat()
    except OSError:
        return ROOT_UNKNOWN
    return info.st_dev, info.st_ino


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
        found = os.fsdecode(name) if isinstance(name, (bytes, os.PathLike)) else ""
        advice = f": write {found!r}" if _is_name(what, found) else ""
        shown = f"the class {name.__name__}" if isinstance(name, type) else type(name).__name__
        raise TopicNameError(f"a {what} is a str, not {shown}{advice}", topic=repr(name))
    joined = ", parts joined by /" if what == "topic" else ""
    rule = f"letters, digits, _ . - (not . or - first), at most 64 a part{joined}"
    if len(name) > _TOPIC_LIMIT:
        raise TopicNameError(
            f"{what} {name[:40]!r}… has {len(name)} characters, {_TOPIC_LIMIT} are allowed", topic=name
        )
    for part in _parts(what, name):
        if not is_part(part):
            advice = _advice(what, name)
            wrong = f"{part!r} is no name" if part else "a part is empty" if name else "it is empty"
            raise TopicNameError(f"{what} {name!r}: {advice}{wrong} ({rule}; not ending in .flink or .tmp)", topic=name)
    return str.__str__(name)  # of a StrEnum too


def _parts(what: str, name: str) -> list[str]:
    return name.split("/") if what == "topic" else [name]


def is_part(part: str) -> bool:
    """Whether a part of a topic may have this name."""
    return _PART.fullmatch(part) is not None and not part.endswith((".flink", ".tmp"))


def is_domain(name: str) -> bool:
    """Whether a domain may have this name."""
    return _is_name("domain", name)


def _is_name(what: str, name: str) -> bool:
    return len(name) <= _TOPIC_LIMIT and all(map(is_part, _parts(what, name)))


def _advice(what: str, name: str) -> str:
    """The name to write in place of one with slashes too many, or with characters that no name has."""
    parts = [re.sub(r"[^A-Za-z0-9_.-]+", "_", part.strip()).lstrip(".-") for part in name.split("/")]
    found = ("/" if what == "topic" else "_").join(filter(None, parts))
    return f"write {found}; " if re.search("[A-Za-z0-9]", found) and _is_name(what, found) else ""


def domain_directory(domain: str) -> Path:
    """The directory of a checked domain."""
    return root() / domain


def topic_directory(domain: str, topic: str) -> Path:
    """The directory of a checked topic."""
    return root().joinpath(domain, *topic.split("/"))


def retry(create: Callable[[], T]) -> T:
    """Create something in a directory of the tree, again whenever another process has just removed the directory."""
    for _ in range(_TRIES - 1):
        with suppress(FileNotFoundError):
            return create()
    return create()


def open_directory(path: Path) -> tuple[Descriptor, int | None]:
    """Open a directory of the tree, which is created if it is missing; the group that the tree is shared with, or None.

    Its parents up to the root are created as well. Each is checked through the descriptor by which the next one is
    opened. Raises FileNotFoundError when another process removes one meanwhile, PermissionError for one that another
    user controls.
    """
    top = root_of(path) or path
    here, group = _open_root(top)
    at = top
    for part in path.relative_to(top).parts:
        at /= part
        here = _open_below(here, at, group)
    return here, group


def sharing_group(directory: Path) -> int | None:
    """The group that an existing directory is shared with: that of its tree, or its own. None: it is private.

    Raises PermissionError when it is neither private nor shared.
    """
    if root_of(directory) is None:
        here = _open_existing(directory, None)
        return access.check_root(here.fileno(), directory, shareable=True)
    return open_directory(directory)[1]


def group_to_share_with(directory: Path, mode: int) -> int | None:
    """The group that flinks and objects of this mode get in a directory; None where the mode gives a group no right.

    Raises PermissionError where the directory is not shared.
    """
    if not mode & 0o070:
        return None
    top = root_of(directory) or directory
    group = sharing_group(top)
    if group is None:
        raise access.permission_error(
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
    is_default = top == _default_root()
    here = _open_existing(top, None, repair=is_default)
    return here, access.check_root(here.fileno(), top, shareable=not is_default)


def _open_below(parent: Descriptor, path: Path, group: int | None) -> Descriptor:
    try:
        here = _open_existing(path, parent, repair=group is None)
    except FileNotFoundError:
        with access.naming_file(path):
            _make_below(parent.fileno(), path.name, group)
        here = _open_existing(path, parent, repair=group is None)
    access.check_below(here.fileno(), path, group)
    return here


def _open_existing(path: Path, parent: Descriptor | None, *, repair: bool = False) -> Descriptor:
    """Open a directory, but not through a link. `repair`: restore the owner's rights that a umask removed."""
    name = path if parent is None else Path(f"/proc/self/fd/{parent.fileno()}", path.name)
    with access.naming_file(path):
        info = os.stat(name, follow_symlinks=False)
    if stat.S_ISLNK(info.st_mode):
        raise PermissionError(
            f"{path} is a symbolic link, which zeroslot does not follow. Remove it, or set ZEROSLOT_DIR to the "
            "directory itself"
        )
    if not stat.S_ISDIR(info.st_mode):
        raise NotADirectoryError(_not_a_directory(path))
    if repair and info.st_uid == os.geteuid() and info.st_mode & 0o700 != 0o700:
        _set_rights(name, access.PRIVATE_DIRECTORY, None)
    try:
        with access.naming_file(path):
            return Descriptor.open(str(name), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except PermissionError:
        reason = "this process may not use it. Choose another place with ZEROSLOT_DIR"
        raise access.permission_error(path, info, reason) from None


def _not_a_directory(path: Path) -> str:
    return f"{path} is not a directory. Remove it, or choose another place with ZEROSLOT_DIR"


def _make_below(parent: int, name: str, group: int | None) -> None:
    if group is None:
        with suppress(FileExistsError):
            os.mkdir(name, access.PRIVATE_DIRECTORY, dir_fd=parent)
        return
    # It appears with all its rights: another user could not repair a directory whose creator was stopped in between.
    fresh = f".new-{os.urandom(8).hex()}"
    try:
        os.mkdir(fresh, access.PRIVATE_DIRECTORY, dir_fd=parent)
        _set_rights(Path(f"/proc/self/fd/{parent}", fresh), access.SHARED_DIRECTORY, group)
        os.rename(fresh, name, src_dir_fd=parent, dst_dir_fd=parent)  # replaces an empty directory, if there is one
    except BaseException as error:
        with suppress(FileNotFoundError):
            os.rmdir(fresh, dir_fd=parent)
        if not isinstance(error, OSError) or error.errno not in _EXISTS:
            raise


def _set_rights(path: Path, mode: int, group: int | None) -> None:
    """Set mode and group of a directory, but not through a link."""
    here = Descriptor.open(str(path), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    name = f"/proc/self/fd/{here.fileno()}"
    if group is not None and os.fstat(here.fileno()).st_gid != group:
        os.chown(name, -1, group)
    os.chmod(name, mode)


def names_in(directory: Path) -> list[str]:
    """The names in a directory; none where it does not exist.

    Raises PermissionError where it may not be read, NotADirectoryError where a file is in its place.
    """
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
    except (PermissionError, NotADirectoryError) as error:
        raise unreadable_directory(directory, error) from None


def unreadable_directory(path: Path, error: OSError) -> OSError:
    """The error for a directory that cannot be read, with what is in the way: itself, or one above it."""
    if isinstance(error, NotADirectoryError):
        file = next((each for each in (*reversed(path.parents), path) if os.path.isfile(each)), path)
        return NotADirectoryError(_not_a_directory(file))
    for each in (path, *path.parents):
        with suppress(OSError):
            reason = "this process may not read the directory. Run as its owner, or share it with a group (chmod 2770)"
            return access.permission_error(each, each.lstat(), reason)
    return error


def remove_empty(directory: Path) -> None:
    """Remove a directory of the tree and those above it, as far as they are empty. $ZEROSLOT_DIR itself stays."""
    top = root_of(directory)
    if top is None:
        return
    while directory != top or top == _default_root():
        try:
            directory.rmdir()
        except FileNotFoundError:
            pass  # another process has removed it, or it was not created
        except OSError:
            return
        if directory == top:
            return
        directory = directory.parent
