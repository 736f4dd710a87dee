"""Pressure on an owner: the subscribers that hold its slots or are behind, and the errors that name them.

Why a stall counts from when the owner first found it, and not by the age of what is held: a subscriber may have taken a
sample just now that was published long ago, and a joiner starts behind. The time at which it took the sample could only
be known by reading a clock in each take, which nothing else needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zeroslot._core import binding
from zeroslot.errors import BackpressureError, NoFreeSlotError
from zeroslot.memory.peers import describe, subscriber_info

if TYPE_CHECKING:
    from zeroslot._core.binding import Owner
    from zeroslot.endpoints.awaiting import Awaiting
    from zeroslot.info import SubscriberInfo


class Pressure:
    """What one owner has found of its subscribers so far."""

    def __init__(self, owner: Owner, topic: str) -> None:
        self.awaiting: Awaiting | None = None
        self._owner = owner
        self._topic = topic
        self._since_ns: dict[int, dict[tuple[int, ...], int]] = {}

    def stalled_since_ns(self, index: int) -> int | None:
        """When this owner first found what the subscriber at `index` holds, or where it is behind. None: neither.

        It looks in this call, and forgets what is no longer so.
        """
        segment = self._owner.segment
        peer = segment.peer(index)
        # A slot and the time of its sample identify a hold: a subscriber does not take the same sample twice.
        reasons: list[tuple[int, ...]] = [(peer.epoch, *hold) for hold in segment.held_by(index)]
        if peer.reliable and index in segment.active_indexes() and peer.cursor < self._owner.published:
            reasons.append((peer.epoch, peer.cursor))
        now = binding.now_ns()
        before = self._since_ns.get(index, {})
        found = {reason: before.get(reason, now) for reason in reasons}
        self._since_ns[index] = found
        return min(found.values(), default=None)

    def stalled_s(self, index: int) -> float | None:
        """For how long the subscriber at `index` has stalled, as far as this owner knows. None: it has not."""
        since = self.stalled_since_ns(index)
        return (binding.now_ns() - since) / 1e9 if since is not None else None

    def look(self) -> None:
        """Note what all subscribers hold and where they are behind, for the errors and for later looks."""
        if self.awaiting is not None:
            self.awaiting.look()
        for index in self._owner.segment.indexes_in_use():
            self.stalled_since_ns(index)

    def subscriber(self, index: int) -> SubscriberInfo:
        """The record of the subscriber at `index`."""
        return subscriber_info(self._owner.segment, index, stalled_s=self.stalled_s(index) or 0.0)

    def describe(self, index: int) -> str:
        """The subscriber at `index` in the words of an error text."""
        peer = self.subscriber(index)
        return (
            f"{describe(peer)} holds {peer.held} slot{'s' * (peer.held != 1)} and is {peer.behind} "
            f"sample{'s' * (peer.behind != 1)} behind, for at least {peer.stalled_s:.3f} s"
        )

    def no_slot_error(self, size: int, count: int = 1) -> NoFreeSlotError | BackpressureError:
        """Why `count` slots of at least `size` bytes cannot be reserved now."""
        owner, segment = self._owner, self._owner.segment
        if owner.loans_out < owner.max_loans < owner.loans_out + count:
            return NoFreeSlotError(
                f"{self._topic}: {owner.loans_out} loans are out, and max_loans allows {owner.max_loans}: there is no "
                f"room for {count} more. Commit or discard some, or create it with a larger max_loans",
                topic=self._topic, slot_count=segment.slot_count, loaned=owner.loans_out,
            )  # fmt: skip  # the facts on one line
        if owner.loans_out >= owner.max_loans:
            return NoFreeSlotError(
                f"{self._topic}: as many loans are out as max_loans allows, {owner.max_loans}. "
                "Commit or discard one, or create it with a larger max_loans",
                topic=self._topic, slot_count=segment.slot_count, loaned=owner.loans_out,
            )  # fmt: skip  # the facts on one line
        blocking = owner.blocking_subscriber(count)
        if blocking == binding.NO_READER and self.awaiting is not None:
            left = self.awaiting.meet()
            if left:
                return self.awaiting.error(left)
            blocking = owner.blocking_subscriber(count)
        if blocking is not None:
            return BackpressureError(
                f"{self._topic}: waiting for a reliable subscriber: {self.describe(blocking)}. It has to take samples, "
                "or to be closed; a larger depth gives it more time, evict_after ends its registration",
                topic=self._topic, holders=(self.subscriber(blocking),),
            )  # fmt: skip  # the facts on one line
        pools = owner.slots_for(size)
        slot_count = sum(map(len, pools))
        leased = {
            index: sum(slot in pool for slot, _ in segment.held_by(index) for pool in pools)
            for index in segment.indexes_in_use()
        }
        holders = [index for index, count in leased.items() if count]
        of_size = f" of {size} bytes or more" if slot_count != segment.slot_count else ""
        kept = f"{owner.withheld} are kept back until evict_after ends a registration, " if owner.withheld else ""
        return NoFreeSlotError(
            f"{self._topic}: {'none' if count == 1 else f'fewer than {count}'} of {slot_count} slots{of_size} "
            f"{'is' if count == 1 else 'are'} free: {segment.info.depth} keep the newest "
            f"samples, {owner.loans_out} are loaned, {kept}the others are read: "
            f"{'; '.join(map(self.describe, holders)) or 'by views in this process'}. "
            "Let subscribers release sooner, or create it with more spare_slots",
            topic=self._topic, slot_count=slot_count, loaned=owner.loans_out, leased=sum(leased.values()),
            holders=tuple(map(self.subscriber, holders)),
        )  # fmt: skip  # the facts on one line
