"""Flinks: files that name the control object of a segment. Subscribers find publishers by them.

    <root>/<domain>/<topic>/<16 hex>.flink          the control object's name, nothing else
    <root>/<domain>/<topic>/.<flink>.<16 hex>.tmp   its marker: the segment is being created or removed

Why markers: a process may be killed while it creates or removes a segment. The marker is written before the first
object is created and removed after the last one, so the next publisher of the topic, or `clean`, finds by it all that
there is to remove. Its name holds the flink's and the segment's, so it may be empty.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from zeroslot._core.binding import Descriptor
from zeroslot.errors import FormatError
from zeroslot.memory import access
from zeroslot.memory.access import Owner
from zeroslot.memory.announcement import is_announcement
from zeroslot.memory.attach import attach_control
from zeroslot.memory.directories import (
    domain_directory,
    is_domain,
    is_part,
    names_in,
    open_directory,
    remove_empty,
    retry,
    root,
    root_of,
    sharing_group,
    unreadable_directory,
)
from zeroslot.memory.objects import NOT_REGULAR, segment_id_of

if TYPE_CHECKING:
    from zeroslot.memory.attach import AttachedControl

_FLINK_NAME = re.compile(r"[0-9a-f]{16}\.flink", re.ASCII)
_CONTROL_NAME = re.compile(rb"/zs-[0-9a-f]{16}")
_MARKER_NAME = re.compile(r"\.(.+)\.([0-9a-f]{16})\.tmp", re.ASCII)


def marker_of(path: Path, control_name: str) -> Path:
    """The marker of the segment whose flink is at `path`, or shall be."""
    return path.with_name(f".{path.name}.{segment_id_of(control_name)}.tmp")


def create_marker(path: Path, control_name: str, mode: int = 0o600, group: int | None = None) -> None:
    """Write the marker of a segment that is to be created. It has the content and the rights that the flink gets.

    Its directory is created, and created again if another process removes it meanwhile.
    """
    marker = marker_of(path, control_name)
    file = _open_marker(path, marker)
    fd = file.fileno()
    with access.naming_file(marker):
        if group is not None:
            os.fchown(fd, -1, group)
        os.fchmod(fd, mode)
        os.write(fd, control_name.encode())
    file.close()


def _open_marker(path: Path, marker: Path) -> Descriptor:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
    if root_of(path) is None:
        return Descriptor.open(str(marker), flags)

    def create() -> Descriptor:
        here, _ = open_directory(path.parent)
        with access.naming_file(marker):
            return Descriptor.open(f"/proc/self/fd/{here.fileno()}/{marker.name}", flags)

    return retry(create)


def publish_flink(
    path: Path, control_name: str, mode: int = 0o600, group: int | None = None, *, replace: bool = False
) -> None:
    """Atomically publish the flink of a segment.

    Raises FileExistsError when the name is taken: of two creators, one gets it. With `replace` the later one does.
    """

    def publish() -> None:
        marker = marker_of(path, control_name)
        if not marker.exists():  # first use, or a cleaner has taken it for a dead creator's
            create_marker(path, control_name, mode, group)
        if replace:
            os.replace(marker, path)
        else:
            os.link(marker, path)  # rename would replace a flink that was published meanwhile

    retry(publish)


def withdraw_flink(path: Path, control_name: str) -> None:
    """Turn the flink of a segment, if it still names that segment, back into its marker.

    A second call finishes one that was interrupted. Raises PermissionError when the directory does not allow it.
    """
    marker = marker_of(path, control_name)
    if path.stem == segment_id_of(control_name):
        # A topic's flink has the segment's own name: it need not be read, which works without free descriptors too.
        with suppress(FileNotFoundError, NotADirectoryError):
            _rename(path, marker)
            path.unlink()  # where the marker was not removed yet: rename leaves two names of one file
        return
    if read_flink(path) == control_name:
        with suppress(FileNotFoundError):
            _rename(path, marker)
    named = None
    with suppress(ValueError):  # the marker is empty
        named = read_flink(marker)
    with suppress(FileNotFoundError, FileExistsError):
        if named == control_name:
            if marker.samefile(path):  # where the marker was not removed yet: rename leaves two names of one file
                path.unlink()
        elif named is not None:  # another segment has taken the flink since it was read: give it back
            os.link(marker, path)


def _rename(path: Path, marker: Path) -> None:
    try:
        os.rename(path, marker)
    except PermissionError:
        raise access.permission_error(
            path, path.lstat(), "its publisher is dead, and only its owner can remove it. Run zeroslot gc as that user"
        ) from None


def remove_marker(path: Path, control_name: str) -> None:
    """Remove the marker of a segment, and the directories above it that are empty then."""
    with suppress(FileNotFoundError, NotADirectoryError):
        marker_of(path, control_name).unlink()
    remove_empty(path.parent)


def read_flink(path: Path) -> str | None:
    """The control object's name, or None: the flink does not exist.

    Raises PermissionError for a flink of another user that no group shares, ValueError for one that does not hold the
    name of a control object.
    """
    found = _read(path)
    return found[0] if found is not None else None


def checked_path(path: str | os.PathLike[str]) -> Path:
    """The absolute path of a flink; ValueError for what no file can be called."""
    found = Path(path).absolute()
    try:
        named = os.fsencode(found)
    except UnicodeEncodeError:
        named = b"\0"
    if b"\0" in named:
        raise ValueError(f"{os.fspath(path)!r} cannot be the path of a file")
    return found


def attach(path: Path, where: str, *, read_only: bool = False) -> AttachedControl | None:
    """Map the control object that a flink names and check it. None: flink or object do not exist, or were never
    completed.

    The objects must belong to the flink's owner. Raises FormatError for a file that is no flink, and what `read_flink`
    and `attach_control` raise.
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
    """The content of a flink, and its owner."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if isinstance(error, PermissionError):
            raise _unreadable(path) from error
        if error.errno not in NOT_REGULAR:
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
        return PermissionError(f"{path} may not be read by uid {os.geteuid()}: its directory belongs to another user")
    return access.permission_error(path, info, "this process may not read it. Its owner shares it with mode=0o660")


def list_flinks(directory: Path) -> list[Path]:
    """The flinks of a topic, sorted."""
    return sorted(directory / name for name in names_in(directory) if _FLINK_NAME.fullmatch(name))


def list_markers(directory: Path) -> list[tuple[Path, str]]:
    """The markers of a topic, each as the path of its flink and the name of its control object."""
    found = filter(None, map(_MARKER_NAME.fullmatch, sorted(names_in(directory))))
    return [(directory / match[1], f"/zs-{match[2]}") for match in found]


def list_topics(domain: str) -> list[str]:
    """The topics of a domain that have a flink, sorted. Directories that cannot be read are left out."""
    return sorted(list_domain(domain)[0])


def list_domain(domain: str, *, waiting: bool = False) -> tuple[dict[str, list[Path]], dict[str, OSError]]:
    """The flinks of each topic of a domain, both sorted; and the topics whose directories may not be read. `waiting`:
    also the topics that have only announcements, without flinks.

    Raises PermissionError where the domain's own directory may not be read, NotADirectoryError where it is a file.
    """
    found: dict[str, list[Path]] = {}
    unreadable: dict[str, OSError] = {}
    top = domain_directory(domain)
    unread = [""]
    while unread:
        topic = unread.pop()
        here = f"{top}/{topic}" if topic else str(top)
        try:
            with os.scandir(here) as entries:
                below = list(entries)
        except FileNotFoundError:
            continue  # its publisher has removed it
        except (PermissionError, NotADirectoryError) as error:
            unreadable[topic] = unreadable_directory(Path(here), error)
            if not topic:
                raise unreadable[topic] from None
            continue
        flinks = sorted(entry.path for entry in below if _FLINK_NAME.fullmatch(entry.name))
        if topic and (flinks or (waiting and any(is_announcement(entry.name) for entry in below))):
            found[topic] = list(map(Path, flinks))
        prefix = f"{topic}/" if topic else ""
        unread += [
            f"{prefix}{entry.name}" for entry in below if is_part(entry.name) and entry.is_dir(follow_symlinks=False)
        ]
    return dict(sorted(found.items())), dict(sorted(unreadable.items()))


def list_domains() -> list[str]:
    """The domains below the root, sorted. Raises PermissionError where the root may not be read, NotADirectoryError
    where it is a file.
    """
    top = root()
    try:
        with os.scandir(top) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    except (PermissionError, NotADirectoryError) as error:
        raise unreadable_directory(top, error) from None
    return sorted(filter(is_domain, names))
