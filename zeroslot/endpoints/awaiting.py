"""The announced subscriptions that a publisher waits for: reliable ones that were there before it, and have not met it.

Why they are found once: a subscription that announces itself later finds the flink in its first look, and joins as with
any publisher that is there already.

Why nothing is done about them at a publish: the core counts them as one reader that has taken nothing, so a publisher
looks for what has become of them only when its window is full. When all have joined, the count is 0.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from zeroslot._core.binding import now_ns
from zeroslot.endpoints.reader import check_qos
from zeroslot.errors import BackpressureError, QosMismatchError
from zeroslot.memory import announcement
from zeroslot.memory.peers import announcements_joined, describe
from zeroslot.qos import ON_FULL

if TYPE_CHECKING:
    from pathlib import Path

    from zeroslot._core.binding import Owner, Segment, SegmentInfo
    from zeroslot.memory.announcement import Announced

log = logging.getLogger("zeroslot")


class Awaiting:
    """The announced subscriptions that one publisher waits for, and for how long each has let it wait."""

    def __init__(self, owner: Owner, topic: str, directory: Path) -> None:
        self._owner = owner
        self._topic = topic
        self._directory = directory
        self._left: dict[int, Announced] = {}
        self._since_ns: dict[int, int] = {}  # when this publisher first found itself behind one

    def begin(self) -> None:
        """Find the announced subscriptions. The flink exists, and nothing is published yet."""
        announcement.remove_dead(self._directory)
        info = self._owner.segment.info
        if ON_FULL[info.policy] == "evict":
            return
        for each in announcement.announced_in(self._directory):
            if each.request.reliable and not refuses(each, info):
                self._left[each.id] = each
        self._owner.wait_for_announced(len(self._left))

    def meet(self) -> list[Announced]:
        """Forget those that have joined, have refused this publisher, were closed or have died. Returns those that are
        left.
        """
        if not self._left:
            return []
        segment = self._owner.segment
        joined = announcements_joined(segment)
        for each in list(self._left.values()):
            now = None if each.id in joined else announcement.read(each.path)
            if now is None or segment.info.segment_id in now.refused:
                self._left.pop(each.id, None)
                self._since_ns.pop(each.id, None)
        self._owner.wait_for_announced(len(self._left))
        return list(self._left.values())

    def look(self) -> None:
        """As `meet`; and note how long those that are left have let this publisher wait."""
        for each in self.meet():
            self.stalled_s(each)

    def stalled_s(self, each: Announced) -> float | None:
        """For how many seconds a subscription has let this publisher wait, counted from the first call for it. None:
        nothing is published yet.
        """
        if self._owner.published < self._owner.segment.info.first_sequence:
            return None
        since_ns = self._since_ns.setdefault(each.id, now_ns())
        return (now_ns() - since_ns) / 1e9

    def describe(self, each: Announced) -> str:
        """A subscription in the words of an error text."""
        return f"{describe(announcement.waiting_info(each))}, which has not joined yet"

    def error(self, left: list[Announced]) -> BackpressureError:
        """The error for a loan that has to wait because the subscriptions in `left` have not joined."""
        return BackpressureError(
            f"{self._topic}: waiting for a reliable subscription that was there before this publisher: "
            f"{'; '.join(map(self.describe, left))}. It has to make a call, or to be closed; evict_after ends the wait "
            "for it",
            topic=self._topic,
            waiting=tuple(announcement.waiting_info(each, self.stalled_s(each)) for each in left),
        )

    def evict_stale(self, max_age: float) -> int:
        """Wait no longer for those that have let this publisher wait for `max_age` seconds. Returns how many.

        When one of them joins after that, what it has missed is counted as lost.
        """
        count = 0
        for each in self.meet():
            age = self.stalled_s(each)
            if age is not None and age >= max_age and self._left.pop(each.id, None) is not None:
                log.warning("%s: waits no longer for %s", self._topic, self.describe(each))
                self._owner.segment.count_evicted(1)
                count += 1
        self._owner.wait_for_announced(len(self._left))
        return count


def announced_to(segment: Segment, directory: Path) -> list[Announced]:
    """The announced subscriptions of a topic that fit a publisher, and are not attached to it."""
    announced = announcement.announced_in(directory)
    joined = announcements_joined(segment)
    return [each for each in announced if each.id not in joined and not refuses(each, segment.info)]


def refuses(each: Announced, info: SegmentInfo) -> bool:
    """Whether a subscription and a publisher do not fit each other, as far as its announcement and the header tell."""
    request = each.request
    if request.type_hash not in (b"", info.type_hash) and not request.by_name:
        return True
    try:
        check_qos("", info, request.history, request.reliable, request.verify)
    except (QosMismatchError, ValueError):
        return True
    return info.segment_id in each.refused
