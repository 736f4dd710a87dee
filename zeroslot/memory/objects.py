"""POSIX shared-memory objects: their names, and how they are created, opened, mapped and removed.

    /zs-<16 hex>          the control object of a segment
    /zs-<16 hex>-p<k>     its pool k

Objects are opened as files in /dev/shm. Only creation goes through posix_ipc. Why not opening: the name may belong to a
file of any kind, and opening a pipe would wait for its other end.

Every new object is opened a second time, and the first descriptor is closed: another thread may fork between the first
open and any bookkeeping, and a `Descriptor` is closed in the child.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

import posix_ipc  # type: ignore[import-not-found]  # a C module without stubs

from zeroslot._core.binding import MAX_POOLS, Descriptor, Region
from zeroslot.errors import CorruptSegmentError
from zeroslot.memory import access

SHM = Path("/dev/shm")  # noqa: S108 (where POSIX shared memory is)
NOT_REGULAR = (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV)  # how open() fails for what is no regular file
STEP_BYTES = 16 * 1024 * 1024  # signals are handled between two steps


def new_name() -> str:
    """A random name for a control object."""
    return f"/zs-{os.urandom(8).hex()}"


def segment_id_of(control_name: str) -> str:
    """The 16 hexadecimal digits of a control object's name."""
    return control_name.removeprefix("/zs-")


def pool_name(control_name: str, k: int) -> str:
    """The name of pool `k`."""
    return f"{control_name}-p{k}"


def names_of(control_name: str) -> list[str]:
    """All names that objects of a segment may have, the control object's last."""
    return [*(pool_name(control_name, k) for k in range(MAX_POOLS)), control_name]


def path_of(name: str) -> str:
    """The file of an object."""
    return f"{SHM}{name}"


def create_object(name: str) -> Descriptor | None:
    """Create an object. None: the name is taken."""
    try:
        fd = int(posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600).fd)
    except posix_ipc.ExistentialError:
        return None
    except OSError as error:
        raise _with_errno(error, name) from None
    try:
        return replace_descriptor(fd)
    except BaseException:
        unlink(name)
        raise


def replace_descriptor(fd: int) -> Descriptor:
    """Open the file of `fd` again, with mode 0600, and close `fd`."""
    try:
        os.fchmod(fd, 0o600)  # the umask may have removed rights
        return reopen(fd, os.O_RDWR)
    finally:
        os.close(fd)


def reopen(fd: int, flags: int) -> Descriptor:
    """Another open file description of the same file, which needs no name."""
    return Descriptor.open(f"/proc/self/fd/{fd}", flags)


def _with_errno(error: OSError, name: str) -> OSError:
    """The error with its errno and the object's file: posix_ipc has only a text when descriptors run out."""
    number = error.errno or (errno.EMFILE if "process" in str(error) else errno.ENFILE)
    return OSError(number, os.strerror(number), path_of(name))


def open_object(name: str, *, read_only: bool) -> Descriptor | None:
    """Open an object. None: it does not exist.

    Raises PermissionError, and CorruptSegmentError when the name belongs to something else than a regular file.
    """
    flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = Descriptor.open(path_of(name), flags)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise _not_permitted(name) from None
    except OSError as error:
        if error.errno in NOT_REGULAR:
            raise _not_an_object(name) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor.fileno()).st_mode):
        descriptor.close()
        raise _not_an_object(name)
    return descriptor


def open_for_cleaning(control_name: str) -> Descriptor | None:
    """Open a control object to lock it or to probe its locks, whatever its size and contents. None: it does not exist,
    or is no object.
    """
    try:
        return open_object(control_name, read_only=False)
    except CorruptSegmentError:
        return None


def _not_an_object(name: str) -> CorruptSegmentError:
    return CorruptSegmentError(
        f"{name} is no shared-memory object: something else has its name in /dev/shm. Remove it", where=name
    )


def _not_permitted(name: str) -> PermissionError:
    try:
        info = os.stat(path_of(name))
    except OSError:
        return PermissionError(f"the shared-memory object {name} may not be opened by uid {os.geteuid()}")
    return access.permission_error(
        f"the shared-memory object {name}",
        info,
        "this process may not open it. Run both as one user, or share the topic with a group (mode=0o660)",
    )


def exists(name: str) -> bool:
    """Whether anything has this name in /dev/shm."""
    return os.path.lexists(path_of(name))


def unlink(name: str) -> None:
    """Remove an object's name, if it exists. Raises PermissionError for an object of another user."""
    with suppress(FileNotFoundError):
        os.unlink(path_of(name))


def unlink_all(control_name: str) -> bool:
    """Remove every object of a segment, the control object last. The caller holds a cleaner's lock.

    False: they belong to another user, and /dev/shm lets only that user and root remove them.
    """
    try:
        for name in names_of(control_name):
            unlink(name)
    except PermissionError:
        return False
    return True


def populate(region: Region, limit: int) -> None:
    """Map the first `limit` bytes of a region now, in steps between which signals are handled."""
    size = min(region.size, limit)
    for at in range(0, size, STEP_BYTES):
        region.populate(at, min(STEP_BYTES, size - at))
