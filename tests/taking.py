"""Taking what is there."""

from __future__ import annotations

from typing import Any

import zeroslot as zs


def taken(sub: zs.Subscriber[Any]) -> zs.Lease[Any]:
    """The next sample, which is there."""
    lease = sub.take()
    assert lease is not None
    return lease
