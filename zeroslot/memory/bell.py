"""The bell of a domain: a futex word in a file, which changes as publishers come and go.

    <root>/<domain>/.bell        one word, mapped by every process in the domain
    <root>/<domain>/.bell.<n>    the same, where a leaving process holds the exclusive lock of the one before

Why a bell: a subscriber notices a new publisher with one load, also while it sleeps, and no directory is polled.

A user of a bell holds a shared lock on byte 0 of its file. On leaving, drop the shared lock, then try for the exclusive
one; the last leaver gets it, and unlinks the file under it. Nothing else unlinks a bell, so one that is in use is never
lost. A process may be stopped between its lock and its unlink: the name belongs to that file until then, so no other
file is removed.

Why several bells: the shared lock of a bell that is exclusively locked cannot be taken, and its holder may be stopped.
A joiner does not wait; it takes the next number. Why a ring goes to all of them: a publisher cannot know which bell a
subscriber uses. A joiner looks for publishers after joining; a publisher rings after its flink is published. Either the
ring reaches the joiner, or the joiner finds the flink.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from zeroslot._core.binding import Descriptor, Members, Region, Word
from zeroslot.memory import access
from zeroslot.memory.directories import domain_directory, names_in, open_directory, remove_empty, retry
from zeroslot.memory.objects import reopen

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("zeroslot")

_NAME = re.compile(r"\.bell(\.[0-9]{1,2})?", re.ASCII)
_NAMES = [".bell", *(f".bell.{n}" for n in range(1, 100))]
_SIZE = 64
_FLAGS = os.O_RDWR | os.O_NOFOLLOW


class _OpenBell:
    """A bell's file that this process has opened, mapped and locked, once for all its users."""

    def __init__(self, path: Path, descriptor: Descriptor, region: Region) -> None:
        self.path = path
        self.descriptor = descriptor
        self.word = Word(region, 0)
        self.users: Members[Bell] = Members()

    def is_current(self) -> bool:
        """Whether the path still leads to this file: a test or a user may have removed it."""
        try:
            return os.path.samestat(os.fstat(self.descriptor.fileno()), self.path.stat())
        except OSError:
            return False


class Bell:
    """One handle's use of the bell of its domain. `word` changes whenever a publisher of the domain comes or goes.

    Why one object for each handle: if `join` is interrupted before its result is stored, `__del__` leaves the bell. A
    second `leave` changes nothing.
    """

    _open: dict[Path, _OpenBell] = {}  # noqa: RUF012 (all bells of the process, by their directories)
    # Reentrant: a signal handler, or the collector, may close a handle in the middle of `join` and `leave`.
    _guard = threading.RLock()

    def __init__(self, directory: Path) -> None:
        """Use `join`."""
        self.directory = directory
        self._pid = os.getpid()
        self._opened: _OpenBell | None = None
        self._left = False

    @classmethod
    def join(cls, domain: str) -> Bell:
        """Use the bell of a checked domain; `leave` when done. Creates the domain's directory and the bell's file.

        Raises PermissionError when another user controls the root, the domain's directory or the bell.
        """
        bell = cls(domain_directory(domain))
        try:
            with cls._guard:
                bell._join()
        except PermissionError:
            bell._left = True  # the bell belongs to another user: there is nothing to remove
            raise
        except BaseException:
            bell.leave()
            raise
        return bell

    def _join(self) -> None:
        opened = self._opened = self._open.get(self.directory)
        if opened is not None:
            opened.users.add(self)  # first, since a signal handler may close its other users meanwhile
            if opened.is_current():
                self.word = opened.word
                return
            self._drop()
        opened = self._opened = self._open[self.directory] = _open_bell(self.directory)
        opened.users.add(self)
        self.word = opened.word

    def ring(self) -> None:
        """Wake every subscriber of the domain: a publisher was created or closed."""
        self.word.bump()
        opened = self._opened
        try:
            for path in bells_of(self.directory):
                if opened is None or path != opened.path:
                    _ring_other(path)
        except OSError:
            log.warning(
                "%s: subscribers on another bell of this domain may not notice it", self.directory, exc_info=True
            )

    def leave(self) -> None:
        """End this use. The last user in the last process removes the file, and the domain's directory if it is empty.

        A call that was interrupted is finished by the next one. After that a call does nothing, and nor does one in a
        forked child.
        """
        if self._left or self._pid != os.getpid():
            return
        with self._guard:
            self._drop()
            if self.directory not in self._open:
                remove_unused_bells(self.directory)
        remove_empty(self.directory)
        self._left = True

    def _drop(self) -> None:
        """Remove this use; the last one of the process closes the file, which drops its lock."""
        opened = self._opened
        if opened is not None:
            opened.users.discard(self)
            if not opened.users:
                if self._open.get(self.directory) is opened:
                    del self._open[self.directory]
                opened.descriptor.close()

    def __del__(self) -> None:
        if hasattr(self, "_left"):
            self.leave()


def bells_of(directory: Path) -> list[Path]:
    """The bells in a domain's directory; more than one where a process was stopped while it left."""
    return [directory / name for name in names_in(directory) if _NAME.fullmatch(name)]


def _open_bell(directory: Path) -> _OpenBell:
    """Open the first bell of a domain that no leaving process has locked."""
    opened: _OpenBell | None = None

    def open_first() -> _OpenBell:
        nonlocal opened
        _, group = open_directory(directory)
        for name in _NAMES:
            opened = _open_file(directory / name, group)
            if opened is not None:
                return opened
        raise OSError(
            f"every bell of {directory} is locked by a process that is stopped. Let them continue, or end them"
        )

    try:
        return retry(open_first)
    except BaseException:
        if opened is not None:
            opened.descriptor.close()  # interrupted before it was returned
        raise


def _open_file(path: Path, group: int | None) -> _OpenBell | None:
    """Open, lock and map a bell, which is created if it is missing.

    None: a leaving process holds its lock, or its creator has not set its rights yet.
    """
    while True:
        try:
            descriptor = _open(path)
        except PermissionError:
            info = path.lstat()
            if group is not None and info.st_gid == group:
                return None  # its creator has not shared it yet, and looks for publishers after that
            reason = "this process may not use it. Remove it, or choose another place with ZEROSLOT_DIR"
            raise access.permission_error(path, info, reason) from None
        try:
            info = os.fstat(descriptor.fileno())
            access.check_file(path, info, group)
            if info.st_uid == os.geteuid():
                access.set_rights(descriptor.fileno(), info, 0o600 if group is None else 0o660, group)
            # Lock first, then check the name: the last user unlinks the file under the exclusive lock.
            locked = descriptor.try_lock(0, shared=True)
            if locked and os.fstat(descriptor.fileno()).st_nlink:
                if info.st_size < _SIZE:
                    with access.naming_file(path):
                        os.posix_fallocate(descriptor.fileno(), 0, _SIZE)
                return _OpenBell(path, descriptor, Region(reopen(descriptor.fileno(), os.O_RDWR), _SIZE, True))
        except BaseException:
            descriptor.close()
            raise
        descriptor.close()
        if not locked:
            return None


def _open(path: Path) -> Descriptor:
    try:
        return _open_existing(path)  # without O_CREAT, which the kernel may refuse for another user's file
    except FileNotFoundError:
        return Descriptor.open(str(path), _FLAGS | os.O_CREAT, 0o600)
    except PermissionError:
        if path.lstat().st_uid != os.geteuid():
            raise
        path.chmod(0o600)  # a umask has removed its owner's rights, and its creator ended before it restored them
        return _open_existing(path)


def _open_existing(path: Path) -> Descriptor:
    return Descriptor.open(str(path), _FLAGS)


def _ring_other(path: Path) -> None:
    """Ring a bell that this process does not use."""
    # It may no longer exist, or its creator may not have shared it yet, and will look for publishers after that.
    with suppress(FileNotFoundError, PermissionError), closing(_open_existing(path)) as descriptor:
        info = os.fstat(descriptor.fileno())
        if stat.S_ISREG(info.st_mode) and info.st_size >= _SIZE and info.st_blocks:
            Word(Region(descriptor, _SIZE, True), 0).bump()


def remove_unused_bells(directory: Path) -> list[Path]:
    """Remove the bells of a domain that no process uses; those that were removed.

    A bell is unused if its exclusive lock can be taken. Of two processes that leave at once, the later one gets it.
    """
    removed = []
    with suppress(OSError):
        for path in bells_of(directory):
            with suppress(OSError), closing(_open_existing(path)) as descriptor:
                info = os.fstat(descriptor.fileno())
                if stat.S_ISREG(info.st_mode) and descriptor.try_lock(0) and os.path.samestat(info, path.stat()):
                    path.unlink()
                    removed.append(path)
    return removed


def unused_bells(directory: Path) -> list[Path]:
    """The bells of a domain that no process uses, since their users were killed. Nothing is changed."""
    unused = []
    for path in bells_of(directory):
        with suppress(OSError), closing(_open_existing(path)) as probe:
            if not probe.is_locked(0):
                unused.append(path)
    return unused


def leave_bells() -> None:
    """Leave every bell of this process, at the end of the interpreter."""
    for directory, opened in list(Bell._open.items()):
        for user in list(opened.users):
            user.leave()
        if Bell._open.pop(directory, None) is not None:
            opened.descriptor.close()
            remove_unused_bells(directory)
            remove_empty(directory)


def _forget_bells() -> None:
    # A forked child shares no bell with its parent; its lock descriptors are closed already.
    Bell._open = {}
    Bell._guard = threading.RLock()


os.register_at_fork(after_in_child=_forget_bells)
