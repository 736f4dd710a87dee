"""Access rights: the owners of directories, flinks, bells and objects, and the group that shares them.

A tree of files is private or shared. In a private one everything belongs to this process's user, and no other user may
write. A directory that is shared with a group has mode 2770, and so have all directories below it; they and every
shared file have the group of the root. The members of the group trust each other: each can remove the others' files.

Why the setgid bit: it says that the sharing is meant. A umask of 002 gives every directory a group-write bit, and the
group may be one that half of the machine is in.

Why an access control list is refused: with one, the group bits of a mode are only its mask, and users that the mode
does not show may have rights.

Why an object is compared with the flink that names it: names of objects are visible in /dev/shm, and any user may make
an object under a name that has just become free.

Root counts as a member of every group. In the private tree of another user it is refused like any other user, since it
would map what that user wrote. `clean(everything=True)` as root removes what dead processes of every user left.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

PRIVATE_DIRECTORY, SHARED_DIRECTORY = 0o700, 0o2770
_SHARES = stat.S_ISGID | stat.S_IWGRP


@dataclass(frozen=True, slots=True)
class Owner:
    """The user and the group of a file. `gid` counts where the mode gives the group a right."""

    uid: int
    gid: int


def is_member(group: int) -> bool:
    """Whether this process is in the group; root is in every one."""
    return os.geteuid() == 0 or group == os.getegid() or group in os.getgroups()


def is_shared(info: os.stat_result) -> bool:
    """Whether the mode of a directory says that it is shared with its group."""
    return info.st_mode & _SHARES == _SHARES


def permission_error(path: str | Path, info: os.stat_result, reason: str) -> PermissionError:
    """PermissionError with the file, its owner and its mode. `reason` says what is wrong, and what to do."""
    return PermissionError(
        f"{path} belongs to uid {info.st_uid} and gid {info.st_gid} with mode {stat.S_IMODE(info.st_mode):04o}, and "
        f"this process is uid {os.geteuid()}: {reason}"
    )


def has_acl(fd: int) -> bool:
    """Whether a file has a POSIX access control list, or a directory gives one to new files."""
    try:
        names = os.listxattr(fd)
    except OSError:
        return False  # the file system has none
    return any(name.startswith("system.posix_acl_") for name in names)


class naming_file:  # noqa: N801  # used as a function
    """Add the file to an OSError of a system call on a descriptor, and the limit to raise to an EFBIG.

    Why not contextlib.contextmanager: an exception that passes through that refers to itself by the frames of its
    traceback, which keep descriptors until the collector runs.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not isinstance(error, OSError):
            return
        reason = error.strerror
        if error.errno == errno.EFBIG:
            reason = "the file would be larger than this process may make files. Raise that limit (ulimit -f)"
        named = OSError(error.errno, reason, str(self._path))
        try:
            raise named from None
        finally:
            del named, error


def check_root(fd: int, path: Path, *, shareable: bool) -> int | None:
    """The group that the root of a tree is shared with, or None for a private one.

    Raises PermissionError for one that is neither. `shareable`: a group may share it.
    """
    info = os.fstat(fd)
    _check_no_acl(fd, path, info)
    if shareable and is_shared(info):
        _check_shared(path, info)
        if not is_member(info.st_gid):
            raise permission_error(path, info, "this process is not in its group. Join the group, or set ZEROSLOT_DIR")
        return info.st_gid
    _check_private(path, info, 0o022 if shareable else 0o077)
    return None


def check_below(fd: int, path: Path, group: int | None) -> None:
    """Raise PermissionError for a directory of a tree that is not private, or not shared with the tree's group."""
    info = os.fstat(fd)
    _check_no_acl(fd, path, info)
    if group is None:
        _check_private(path, info, 0o022)
    elif info.st_gid != group:
        raise permission_error(path, info, f"the tree that it is in is shared with gid {group}. Remove it")
    else:
        _check_shared(path, info)


def _check_no_acl(fd: int, path: Path, info: os.stat_result) -> None:
    if has_acl(fd):
        raise permission_error(
            path, info, "it has an access control list, which may give rights to other users. Remove it: setfacl -b"
        )


def _check_shared(path: Path, info: os.stat_result) -> None:
    if info.st_mode & 0o2077 != SHARED_DIRECTORY & 0o2077:
        raise permission_error(path, info, "a directory that a group shares has mode 2770. Set it: chmod 2770")


def _check_private(path: Path, info: os.stat_result, forbidden: int) -> None:
    if info.st_uid != os.geteuid():
        raise permission_error(
            path,
            info,
            "it belongs to another user. Remove it, choose another place with ZEROSLOT_DIR, or share it with a group",
        )
    if info.st_mode & forbidden:
        raise permission_error(
            path,
            info,
            "other users have rights in it. Take them away (chmod go-rwx), or share it with a group (chmod 2770)",
        )


def check_file(path: Path, info: os.stat_result, group: int | None) -> None:
    """Raise PermissionError for a flink or a bell that a user outside of the group may have written.

    `group`: the one that the directory is shared with. Raises FileExistsError for what is no regular file.
    """
    if not stat.S_ISREG(info.st_mode):
        raise FileExistsError(f"{path} is no regular file. Remove it")
    shared = group is not None and info.st_gid == group
    if info.st_mode & stat.S_IWOTH or (info.st_mode & stat.S_IWGRP and not shared):
        raise permission_error(path, info, "other users may write it. Remove it")
    if info.st_uid != os.geteuid() and not shared:
        raise permission_error(
            path, info, "it belongs to another user. Remove it, or choose another place with ZEROSLOT_DIR"
        )


def check_object(name: str, info: os.stat_result, owner: Owner) -> None:
    """Raise PermissionError for an object whose user or group is not the one of the file that names it."""
    if info.st_uid != owner.uid:
        raise permission_error(name, info, f"the file that names it belongs to uid {owner.uid}. Remove that file")
    if info.st_mode & 0o007:
        raise permission_error(name, info, "it is open to every user. Start its publisher again")
    if info.st_mode & 0o070 and info.st_gid != owner.gid:
        raise permission_error(name, info, f"the file that names it is shared with gid {owner.gid}. Remove that file")


def set_rights(fd: int, info: os.stat_result, mode: int, group: int | None) -> None:
    """Give a file of this user its mode and its group, where they differ: the umask may have changed the mode."""
    if group is not None and info.st_gid != group:
        os.fchown(fd, -1, group)
    if stat.S_IMODE(info.st_mode) != mode:
        os.fchmod(fd, mode)
