"""Removing what dead processes left: under one flink or topic, as every new owner does, and in a whole domain.

Every cleaner takes the same steps: lock bytes 0 and 1; check that the locked object still has its name; then remove the
flink, the pools and the control object, in that order. Two cleaners, or a cleaner and a creator, cannot collide: one of
them has the lock, and the other finds afterwards that the name was removed. The flink is turned into the segment's
marker first, and the marker is removed last, so that a cleaner that is killed leaves a trace to what remains.

Why a cleaner locks two bytes and an owner one: the length of the lock over byte 0 differs. An owner stays. If
another cleaner holds the lock, wait, but not for long. If it is stopped, mark the segment as dead and withdraw its
flink, and leave the objects and the marker to it.

Why objects without a flink are searched for in all of /dev/shm: their names do not tell where they belonged. A creator
that is still at work holds its lock, so nothing of a live process is touched.

Why a header names its root: several roots (ZEROSLOT_DIR) share /dev/shm, and what is left in one of them may still be
wanted there, such as by a test that looks at it. An object that does not tell its root is only removed for
`everything`: a pool without its control object, and a control object that its creator did not complete.
"""

from __future__ import annotations

import logging
import os
import re
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zeroslot._core.binding import DEAD, OPEN
from zeroslot.errors import CorruptSegmentError, MismatchError
from zeroslot.memory import access, announcement, flink, liveness, objects
from zeroslot.memory.access import Owner
from zeroslot.memory.attach import attach_control
from zeroslot.memory.bell import remove_unused_bells, unused_bells
from zeroslot.memory.directories import (
    ROOT_UNKNOWN,
    checked_domain,
    domain_directory,
    remove_empty,
    root,
    root_identity,
    topic_directory,
)
from zeroslot.memory.peers import describe, subscriber_info

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zeroslot._core.binding import Descriptor

log = logging.getLogger("zeroslot")

LEFT_ALONE = "left alone: "  # before the reason in `Remains.what`

_CONTROL = re.compile(r"zs-[0-9a-f]{16}", re.ASCII)
_POOL = re.compile(r"(zs-[0-9a-f]{16})-p[0-9]{1,2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Remains:
    """One thing that a dead process left, or that cannot be read.

    `removed` is False after a dry run, and where it could not be removed. `owner_uid` and `size_bytes` are the user and
    the memory of objects that only that user (or root) can remove; None and 0 for everything else.
    """

    what: str
    where: str
    removed: bool
    owner_uid: int | None = None
    size_bytes: int = 0

    @property
    def left_alone(self) -> bool:
        """Whether it cannot be read, and was left alone for that reason, which `what` gives."""
        return self.what.startswith(LEFT_ALONE)


def sweep_topic(directory: Path) -> None:
    """Remove what dead publishers of a topic left. Raises what `sweep_flink` raises."""
    for path, control_name in flink.list_markers(directory):
        sweep(control_name, path)
    for path in flink.list_flinks(directory):
        named = _read_flink(path)
        if named is not None:
            sweep(named, path)


def sweep_flink(path: Path) -> bool:
    """Remove what a dead owner left under one flink, and what dead creators of that flink left.

    True: the flink belongs to a live owner, and is untouched. Raises FileExistsError for a file that is no flink.
    """
    for marked_path, control_name in flink.list_markers(path.parent):
        if marked_path == path:
            sweep(control_name, path)
    named = _read_flink(path)
    return named is not None and sweep(named, path)


def _read_flink(path: Path) -> str | None:
    """The control object that a flink names; None: it does not exist. Raises FileExistsError for what is no flink."""
    try:
        return flink.read_flink(path)
    except ValueError as error:
        raise FileExistsError(f"{error}. Remove it, or use another path") from None


def sweep(control_name: str, path: Path | None) -> bool:
    """Remove what a dead owner left of one segment. True: the owner is alive, and nothing was touched.

    `path` is that of its flink, which may be missing; None: not known. The objects of another user of the group stay,
    marked as dead and without a flink: /dev/shm lets only that user and root remove them. Raises PermissionError when
    the flink cannot be removed.
    """
    # Read before the object is opened: a flink is published after its object, and never names one that is yet to come.
    published = path is not None and _read_flink(path) == control_name
    own = objects.open_for_cleaning(control_name)
    if own is None:
        if path is not None and published:
            flink.withdraw_flink(path, control_name)
        if path is not None:
            flink.remove_marker(path, control_name)
        return False
    with closing(own):
        locked = liveness.lock_to_clean(own)
        if not locked and liveness.is_owned(own):
            return True
        if os.fstat(own.fileno()).st_nlink:  # else another cleaner has done it all, and the flink may be a new owner's
            _mark_dead(control_name, own)
            if path is not None:
                flink.withdraw_flink(path, control_name)
            if not locked:
                return False
            if objects.unlink_all(control_name):
                log.info("removed what a dead owner left: %s (%s)", path or "no flink", control_name)
            if path is not None:
                flink.remove_marker(path, control_name)
        return False


def _has_live_owner(control_name: str) -> bool:
    """Whether a segment exists and its owner is alive. Nothing is touched."""
    own = objects.open_for_cleaning(control_name)
    if own is None:
        return False
    with closing(own):
        return liveness.is_owned(own)


def _mark_dead(control_name: str, own: Descriptor) -> None:
    """Mark a segment as dead, so that its subscribers need not probe. `own`: its control object. The owner is dead."""
    info = os.fstat(own.fileno())
    with suppress(MismatchError, CorruptSegmentError, PermissionError):
        attached = attach_control(control_name, control_name, Owner(info.st_uid, info.st_gid))
        if attached is not None and attached.segment.state == OPEN:
            attached.segment.end(DEAD)


def clean(domain: str | None = None, *, dry_run: bool = False, everything: bool = False) -> tuple[Remains, ...]:
    """Find and remove what dead processes left in a domain, and segments of its root that no flink names.

    That is: dead publishers' flinks and objects, complete or not; dead subscribers' entries in live segments, and
    their announcements; unused bells; empty directories. What a live process uses is not touched, whichever user's it
    is, and nothing of another root is. With `dry_run` nothing is removed. What cannot be read is left alone, and said.

    `everything`: all domains of the root, and the segments and pools without an owner of all roots.

    Raises PermissionError when the root, or without `everything` the domain's directory, may not be read.
    """
    if everything and domain is not None:
        raise ValueError("everything=True is for all domains: give no domain with it")
    domains = flink.list_domains() if everything else [checked_domain(domain)]
    seen: set[str] = set()
    found: list[Remains] = []
    for each in domains:
        try:
            topics, unreadable = flink.list_domain(each)
        except (PermissionError, NotADirectoryError) as error:
            if not everything:
                raise
            topics, unreadable = {}, {"": error}
        found += [
            Remains(f"{LEFT_ALONE}{error}", str(topic_directory(each, topic)), removed=False)
            for topic, error in unreadable.items()
        ]
        found += _marked_segments(each, dry_run, seen)
        found += _published_segments(topics, dry_run, seen)
    found += _unnamed_segments(dry_run, seen, everything=everything)
    for each in domains:
        found += _dead_announcements(each, dry_run)
        found += _directories_and_bells(each, dry_run)
    return tuple(found)


def _marked_segments(domain: str, dry_run: bool, seen: set[str]) -> Iterator[Remains]:
    """Segments that have a marker: their creators or cleaners were killed."""
    what = "what a killed publisher began or did not end"
    for directory, _, _ in os.walk(domain_directory(domain)):
        for path, control_name in flink.list_markers(Path(directory)):
            yield from _sweep_dead(control_name, path, what, dry_run, seen)


def _published_segments(topics: dict[str, list[Path]], dry_run: bool, seen: set[str]) -> Iterator[Remains]:
    """Segments of dead publishers that have a flink, and dead subscribers of live ones. `topics`: their flinks."""
    for topic, paths in topics.items():
        for path in paths:
            try:
                control_name = flink.read_flink(path)
            except (ValueError, PermissionError) as error:
                yield Remains(f"{LEFT_ALONE}{error}", str(path), removed=False)
                continue
            if control_name is not None:
                yield from _sweep_dead(control_name, path, f"a dead publisher of {topic}", dry_run, seen)
                yield from _dead_subscribers(path, dry_run)


def _sweep_dead(control_name: str, path: Path, what: str, dry_run: bool, seen: set[str]) -> Iterator[Remains]:
    """Sweep a segment and report it, unless its owner is alive."""
    try:
        if not _has_live_owner(control_name):
            seen.add(control_name)
            yield _report(control_name, path, what, dry_run)
    except OSError as error:  # an object of another user under this flink, or no flink where a marker names one
        yield Remains(f"{LEFT_ALONE}{error}", str(path), removed=False)


def _report(control_name: str, path: Path | None, what: str, dry_run: bool) -> Remains:
    """Sweep a dead segment, unless this is a dry run, and report the result."""
    where = control_name if path is None else str(path)
    removed = not dry_run and not sweep(control_name, path) and not objects.exists(control_name)
    uid, size = _other_owner(control_name)
    if uid is None:
        return Remains(what, where, removed)
    stays = f"{what}, whose objects ({size} bytes) only uid {uid} and root can remove, with zeroslot gc"
    return Remains(stays, where, removed, uid, size)


def _other_owner(control_name: str) -> tuple[int | None, int]:
    """The user of a segment's objects and their memory in bytes, where this process may not remove them."""
    size, uid = 0, None
    for name in objects.names_of(control_name):
        with suppress(FileNotFoundError):
            info = os.lstat(objects.path_of(name))
            if os.geteuid() not in (0, info.st_uid):
                uid = info.st_uid
            size += info.st_blocks * 512
    return uid, size if uid is not None else 0


def _dead_subscribers(path: Path, dry_run: bool) -> Iterator[Remains]:
    try:
        attached = flink.attach(path, str(path))
    except PermissionError:
        return  # reported already
    except (MismatchError, CorruptSegmentError) as error:
        yield Remains(f"{LEFT_ALONE}{error}", str(path), removed=False)
        return
    if attached is None or not attached.owner_alive():
        return
    segment, probe = attached.segment, attached.probe
    dead = liveness.dead_peers(segment, probe)
    texts = {index: f"a dead subscriber: {describe(subscriber_info(segment, index))}" for index in dead}
    left = set(dead)
    if dead and not dry_run:
        liveness.reap(segment, attached.descriptor, dead)
        left = set(liveness.dead_peers(segment, probe))
    for index, text in texts.items():
        yield Remains(text, str(path), removed=index not in left)


def _dead_announcements(domain: str, dry_run: bool) -> Iterator[Remains]:
    for directory, _, _ in os.walk(domain_directory(domain)):
        dead = announcement.dead_in(Path(directory))
        removed = announcement.remove_dead(Path(directory)) if dead and not dry_run else []
        if removed:
            remove_empty(Path(directory))
        for path in dead:
            yield Remains("the announcement of a dead subscriber", str(path), removed=path in removed)


def _unnamed_segments(dry_run: bool, seen: set[str], *, everything: bool) -> Iterator[Remains]:
    """Objects without an owner and without a flink. Segments in `seen` are reported already. Those of other roots, and
    pools without a control object, are for `everything`.
    """
    names = _removable_objects()
    controls = {name for name in names if _CONTROL.fullmatch(name)}
    named = {control_name[1:] for control_name in (*seen, *_named_in_root())}
    for name in sorted(controls - named):
        with suppress(PermissionError):
            own = objects.open_for_cleaning(f"/{name}")
            if own is None:
                continue
            with closing(own):
                left = not liveness.is_owned(own) and os.fstat(own.fileno()).st_nlink > 0
            if left and (everything or _is_of_this_root(f"/{name}")):
                yield _report(f"/{name}", None, "a segment without an owner", dry_run)
    for name in names if everything else ():
        match = _POOL.fullmatch(name)
        # Checked again: the control object is created first and removed last.
        if match and match[1] not in controls and not objects.exists(f"/{match[1]}"):
            with suppress(PermissionError):  # it belongs to another user, perhaps to a live segment
                if not dry_run:
                    objects.unlink(f"/{name}")
                yield Remains("a pool without a segment", f"/{name}", removed=not dry_run)


def _named_in_root() -> Iterator[str]:
    """The control objects that flinks and markers of the root name, those of all domains."""
    for directory, _, _ in os.walk(root()):
        here = Path(directory)
        yield from (f"/zs-{path.stem}" for path in flink.list_flinks(here))
        yield from (control_name for _, control_name in flink.list_markers(here))


def _is_of_this_root(control_name: str) -> bool:
    """Whether the owner of a segment used the root that this process uses. False where the segment does not tell."""
    here = root_identity()
    with suppress(FileNotFoundError, MismatchError, CorruptSegmentError, PermissionError):
        owner = os.lstat(objects.path_of(control_name))
        attached = attach_control(control_name, control_name, Owner(owner.st_uid, owner.st_gid), read_only=True)
        if attached is not None and here != ROOT_UNKNOWN:
            info = attached.segment.info
            # Each user has a default root.
            return here == (info.root_device, info.root_inode) and (any(here) or owner.st_uid == os.geteuid())
    return False


def _removable_objects() -> list[str]:
    """The shared-memory objects of this process's user, and those shared with one of its groups."""
    found = []
    with os.scandir(objects.SHM) as entries:
        for entry in entries:
            if _CONTROL.fullmatch(entry.name) or _POOL.fullmatch(entry.name):
                with suppress(FileNotFoundError):
                    info = entry.stat(follow_symlinks=False)
                    shared = info.st_mode & 0o070 and access.is_member(info.st_gid)
                    if os.geteuid() in (0, info.st_uid) or shared:
                        found.append(entry.name)
    return sorted(found)


def _directories_and_bells(domain: str, dry_run: bool) -> Iterator[Remains]:
    """Empty directories and unused bells."""
    top = domain_directory(domain)
    for directory, _, _ in os.walk(top, topdown=False):
        here = Path(directory)
        with suppress(FileNotFoundError):  # removed together with one below it, or by its publisher
            if here != top and not any(here.iterdir()):
                if not dry_run:
                    remove_empty(here)
                yield Remains("an empty directory", str(here), removed=not dry_run)
    for path in sorted(unused_bells(top)) if dry_run else sorted(remove_unused_bells(top)):
        yield Remains("a bell that no process uses", str(path), removed=not dry_run)
    if not dry_run:
        remove_empty(top)
