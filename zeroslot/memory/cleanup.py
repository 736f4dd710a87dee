"""What dead processes left, and its removal: under one flink, as every new publisher does, and in a whole domain.

Every cleaner goes the same way: lock bytes 0 and 1, see that the locked object still has its name, then flink,
pools and the control object, in that order. Two cleaners, or a cleaner and a creator, cannot meet: one of them has the
lock, and whoever gets it later sees that the name is gone. The flink is not removed first but put aside, so that a
cleaner that is killed leaves a trace to what it did not come to.

Why a cleaner locks two bytes and an owner one: the length of the lock over byte 0 tells the two apart. An owner stays.
A cleaner is worth a short wait, and its segment is dead; if it is stopped, others mark the segment dead and put its
flink aside as well, and leave the objects and the trace to it.

Why objects without a flink are looked for everywhere and not by domain: they do not say where they belonged. A creator
that is still at work holds its lock, so nothing of a living process is touched.
"""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zeroslot.errors import CorruptSegmentError, MismatchError
from zeroslot.memory import access, flink, liveness, segment
from zeroslot.memory.access import Owner
from zeroslot.memory.bell import remove_unused_bells, unused_bells
from zeroslot.memory.peers import describe, subscriber_info

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zeroslot._core.binding import Descriptor

log = logging.getLogger("zeroslot")

_CONTROL = re.compile(r"zs-[0-9a-f]{16}", re.ASCII)
_POOL = re.compile(r"(zs-[0-9a-f]{16})-p[0-9]{1,2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Remains:
    """One thing that a dead process left. `removed` is False after a dry run, and where it could not be removed.

    `owner_uid` and `size_bytes` tell whose objects stay and what memory they take, where only their owner (or root) can
    remove them; None and 0 for everything else.
    """

    what: str
    where: str
    removed: bool
    owner_uid: int | None = None
    size_bytes: int = 0


def named_by(path: Path) -> str | None:
    """The control object that a flink names, or None: it is gone. Raises FileExistsError for what is no flink."""
    try:
        return flink.read_flink(path)
    except ValueError as error:
        raise FileExistsError(f"{error}. Remove it, or use another path") from None


def sweep_flink(path: Path) -> bool:
    """Remove what a dead owner left under a flink, and what dead creators had announced for it. True: a live one has
    the flink, and it was not touched.

    Raises FileExistsError for a file that is no flink.
    """
    for announced_path, control_name in flink.list_announced(path.parent):
        if announced_path == path:
            sweep(control_name, path)
    named = named_by(path)
    return named is not None and sweep(named, path)


def sweep(control_name: str, path: Path | None) -> bool:
    """Remove what a dead owner left of one segment. True: the owner lives, and nothing was touched.

    `path` is where its flink is, was announced for, or was put aside from; None: there is no trace of one. The objects
    of another user of the group stay, marked as dead and without a flink: /dev/shm lets only that user and root
    remove them. Raises PermissionError when the flink cannot be removed; nothing is put aside then.
    """
    # Read before the object is looked for: a flink appears after its object, and never names one that is still to come.
    appeared = path is not None and named_by(path) == control_name
    own = segment.open_for_cleaning(control_name)
    if own is None:
        if path is not None and appeared:
            flink.withdraw(path, control_name)
        if path is not None:
            flink.forget(path, control_name)
        return False
    try:
        locked = liveness.lock_to_clean(own)
        if not locked and segment.is_owned(own):
            return True
        if os.fstat(own.fileno()).st_nlink:  # or another cleaner has done it all, and the flink may be a new owner's
            _mark_dead(control_name, own)
            if path is not None:
                flink.withdraw(path, control_name)
            if not locked:
                return False
            if segment.unlink_all(control_name):
                log.info("removed what a dead owner left: %s (%s)", path or "no flink", control_name)
            if path is not None:
                flink.forget(path, control_name)
        return False
    finally:
        own.close()


def is_live(control_name: str) -> bool:
    """Whether the owner of a segment lives. Nothing is touched."""
    own = segment.open_for_cleaning(control_name)
    if own is None:
        return False
    try:
        return segment.is_owned(own)
    finally:
        own.close()


def _mark_dead(control_name: str, own: Descriptor) -> None:
    """Tell those that still read that no more comes. The owner is dead; `own` is the control object."""
    info = os.fstat(own.fileno())
    with suppress(MismatchError, CorruptSegmentError, PermissionError):
        attached = segment.attach_control(control_name, control_name, Owner(info.st_uid, info.st_gid))
        if attached is not None and attached.segment.state == segment.OPEN:
            attached.segment.end(segment.DEAD)


def clean(domain: str | None = None, *, dry_run: bool = False) -> tuple[Remains, ...]:
    """Find and remove what dead processes left in a domain, and segments that no flink names.

    Dead publishers' flinks and objects, also half-made and half-removed ones, dead subscribers' entries in live
    segments, bells that nobody uses, and empty directories. What live processes use is not touched, whoever's it is.
    With `dry_run` nothing is removed.
    """
    checked = flink.checked_domain(domain)
    seen: set[str] = set()
    found = list(_announced(checked, dry_run, seen))
    found += _flinks(checked, dry_run, seen)
    found += _orphans(dry_run, seen)
    found += _files(checked, dry_run)
    return tuple(found)


def _announced(domain: str, dry_run: bool, seen: set[str]) -> Iterator[Remains]:
    """Flinks that never appeared, or were put aside: of creators and cleaners that were killed."""
    what = "what a killed publisher began or did not end"
    for directory, _, _ in os.walk(flink.domain_directory(domain)):
        for path, control_name in flink.list_announced(Path(directory)):
            yield from _swept(control_name, path, what, dry_run, seen)


def _flinks(domain: str, dry_run: bool, seen: set[str]) -> Iterator[Remains]:
    """Flinks of dead publishers, and dead subscribers of living ones."""
    for topic in flink.list_topics(domain):
        for path in flink.list_flinks(flink.topic_directory(domain, topic)):
            try:
                control_name = flink.read_flink(path)
            except (ValueError, PermissionError) as error:
                yield Remains(f"left alone: {error}", str(path), removed=False)
                continue
            if control_name is not None:
                yield from _swept(control_name, path, f"a dead publisher of {topic}", dry_run, seen)
                yield from _dead_peers(path, dry_run)


def _swept(control_name: str, path: Path, what: str, dry_run: bool, seen: set[str]) -> Iterator[Remains]:
    try:
        if not is_live(control_name):
            seen.add(control_name)
            yield _removed(control_name, path, what, dry_run)
    except OSError as error:  # somebody else's object under a flink of ours, or somebody else's file beside it
        yield Remains(f"left alone: {error}", str(path), removed=False)


def _removed(control_name: str, path: Path | None, what: str, dry_run: bool) -> Remains:
    """What became of a dead segment."""
    where = control_name if path is None else str(path)
    removed = not dry_run and not sweep(control_name, path) and not segment.exists(control_name)
    uid, size = _foreign(control_name)
    if uid is None:
        return Remains(what, where, removed)
    stays = f"{what}, whose objects ({size} bytes) only uid {uid} and root can remove, with zeroslot gc"
    return Remains(stays, where, removed, uid, size)


def _foreign(control_name: str) -> tuple[int | None, int]:
    """Whose the objects of a segment are, and their memory in bytes, where this process cannot remove them."""
    size, uid = 0, None
    for name in segment.objects_of(control_name):
        with suppress(FileNotFoundError):
            info = os.lstat(f"/dev/shm{name}")  # noqa: S108 (where POSIX shared memory is)
            if os.geteuid() not in (0, info.st_uid):
                uid = info.st_uid
            size += info.st_blocks * 512
    return uid, size if uid is not None else 0


def _dead_peers(path: Path, dry_run: bool) -> Iterator[Remains]:
    try:
        attached = flink.attach(path, str(path))
    except PermissionError:
        return  # told of already
    except (MismatchError, CorruptSegmentError) as error:
        yield Remains(f"left alone: {error}", str(path), removed=False)
        return
    if attached is None or not attached.owner_alive():
        return
    dead = segment.dead_among(attached.probe, attached.segment.indexes_in_use())
    stories = {index: f"a dead subscriber: {describe(subscriber_info(attached.segment, index))}" for index in dead}
    left = set(dead)
    if dead and not dry_run:
        liveness.reap(attached.segment, attached.descriptor, dead)
        left = set(segment.dead_among(attached.probe, attached.segment.indexes_in_use()))
    for index, story in stories.items():
        yield Remains(story, str(path), removed=index not in left)


def _orphans(dry_run: bool, seen: set[str]) -> Iterator[Remains]:
    """Objects that no process locks and no flink leads to, those `seen` left out."""
    names = _objects()
    controls = {name for name in names if _CONTROL.fullmatch(name)}
    for name in sorted(controls - {control_name[1:] for control_name in seen}):
        with suppress(PermissionError):
            own = segment.open_for_cleaning(f"/{name}")
            if own is None:
                continue
            try:
                left = not segment.is_owned(own) and os.fstat(own.fileno()).st_nlink > 0
            finally:
                own.close()
            if left:
                yield _removed(f"/{name}", None, "a segment that nobody owns", dry_run)
    for name in names:
        match = _POOL.fullmatch(name)
        # Looked at again: the control object comes first and goes last.
        if match and match[1] not in controls and not (flink.SHM / match[1]).exists():
            with suppress(PermissionError):  # another user's, which may be that of a living segment
                if not dry_run:
                    segment.unlink(f"/{name}")
                yield Remains("a pool without a segment", f"/{name}", removed=not dry_run)


def _objects() -> list[str]:
    """The shared-memory objects that this process may remove or tell of: those of its user and of its groups."""
    found = []
    with os.scandir(flink.SHM) as entries:
        for entry in entries:
            if _CONTROL.fullmatch(entry.name) or _POOL.fullmatch(entry.name):
                with suppress(FileNotFoundError):
                    info = entry.stat(follow_symlinks=False)
                    shared = info.st_mode & 0o070 and access.is_member(info.st_gid)
                    if os.geteuid() in (0, info.st_uid) or shared:
                        found.append(entry.name)
    return sorted(found)


def _files(domain: str, dry_run: bool) -> Iterator[Remains]:
    """Directories that are empty, and the bell when nobody uses it."""
    top = flink.domain_directory(domain)
    for directory, _, _ in os.walk(top, topdown=False):
        here = Path(directory)
        with suppress(FileNotFoundError):  # gone with one below it, or its publisher has just left
            if here != top and not any(here.iterdir()):
                if not dry_run:
                    flink.remove_empty(here)
                yield Remains("an empty directory", str(here), removed=not dry_run)
    for path in sorted(unused_bells(top)) if dry_run else sorted(remove_unused_bells(top)):
        yield Remains("a bell that nobody uses", str(path), removed=not dry_run)
    if not dry_run:
        flink.remove_empty(top)
