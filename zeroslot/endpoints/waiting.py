"""`wait`: sleeps until one of several subscribers has something."""

from __future__ import annotations

from typing import Any, TypeVar

from zeroslot._core.binding import Flag, deadline_after, wait_for_any
from zeroslot.endpoints.subscriber import Subscriber

SubscriberT = TypeVar("SubscriberT", bound=Subscriber[Any])


def wait(*subscribers: SubscriberT, timeout: float | None = None) -> list[SubscriberT]:
    """Sleep until some of these subscribers have something: those, in the order in which they are given; an empty list
    after `timeout` seconds (None: for ever).

    A subscriber has something when its `take` would not wait: when there is a sample, or when it would raise, because
    the subscriber was evicted or closed for example. Nothing is taken, and no such error is raised here.

    Up to about 125 publishers in all, one wake-up takes as long as that of a single one. With more, the wait looks
    every millisecond.

    Raises ValueError for no subscriber, ForkedHandleError.

    >>> for sub in zs.wait(camera, lidar):
    ...     lease = sub.take()
    """
    if not subscribers:
        raise ValueError("wait() needs at least one subscriber")
    for each in subscribers:
        if not isinstance(each, Subscriber):
            raise TypeError(f"wait() takes subscribers, not {type(each).__name__}")
    flag = Flag()
    return wait_for_any(list(dict.fromkeys(subscribers)), flag, flag.value, deadline_after(timeout))
