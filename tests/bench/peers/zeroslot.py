"""zeroslot: the public API, as a user would write it."""

from __future__ import annotations

from typing import Any

from tests.bench.ways import BLOCK, COPIED, FILLED, SPIN, TYPED, End, Opened, Peer


def open_ends(end: End, *, by_default: bool = False) -> Opened:
    """A publisher in one direction, a subscriber in the other. `by_default`: without the options that the peers get."""
    import numpy as np

    import zeroslot as zs
    from zeroslot.cli.bench.samples import Typed, block_type

    sample_type: Any = Typed if end.payload == TYPED else block_type(end.size)
    depth: dict[str, Any] = {} if by_default else {"depth": max(end.window, 2)}
    spin_us = 0 if end.wait == BLOCK else None if by_default else 1e6
    publisher = zs.Publisher(end.outgoing, sample_type, domain="bench", **depth)
    subscriber = zs.Subscriber(end.incoming, sample_type, domain="bench", spin_us=spin_us)
    publisher.wait_for_subscribers()
    subscriber.wait_for_publishers()
    names: dict[str, Any] = {"take": subscriber.take}
    if end.payload == TYPED:
        names["loan_uninit"] = publisher.loan_uninit
        send = "loan = loan_uninit()\nloan.sample.number = turn\nloan.commit()"
        receive = "lease = take(None)\nseen = lease.sample.number\nlease.release()"
    else:
        receive = "lease = take(None)\ndata = lease.sample.data\nseen = data[0], data[-1]\ndel data\nlease.release()"
        if end.payload == COPIED:
            model = sample_type(number=1, data=np.ones(end.size - 8, np.uint8))
            names |= {"publish": publisher.publish, "model": model}
            send = "publish(model)"
        else:
            names["loan_uninit"] = publisher.loan_uninit
            send = "loan = loan_uninit()\ndata = loan.sample.data\ndata[0] = data[-1] = 1\ndel data\nloan.commit()"

    def close() -> None:
        names.clear()
        subscriber.close()
        publisher.close()

    return Opened(names, send, receive, close)


def open_by_default(end: End) -> Opened:
    """Without options."""
    return open_ends(end, by_default=True)


PEERS = [
    Peer(
        "zeroslot",
        open_ends,
        "depth = window, at least 2, as iceoryx2's buffer; `spin_us` 1e6 where it spins, 0 where it blocks",
        module="zeroslot.cli.bench.samples",  # `import zeroslot` alone imports little
        distribution="zeroslot",
        payloads=(TYPED, FILLED, COPIED),
        waits=(SPIN, BLOCK),
    ),
    Peer(
        "zeroslot, defaults",
        open_by_default,
        "no options: depth 8, and a wait that sleeps where nothing comes within 20 us",
        module="zeroslot.cli.bench.samples",
        distribution="zeroslot",
        payloads=(TYPED, COPIED),
        waits=(SPIN,),
        queue=8,
    ),
]
