"""zeroslot: the public API, as a user would write it."""

from __future__ import annotations

from typing import Any

from tests.bench.ways import BLOCK, COPIED, FILLED, SPIN, TYPED, End, Opened, Peer


def open_ends(end: End) -> Opened:
    """A publisher in one direction, a subscriber in the other."""
    import numpy as np

    import zeroslot as zs
    from zeroslot.cli.bench.samples import Typed, block_type

    sample_type: Any = Typed if end.payload == TYPED else block_type(end.size)
    options = {} if end.window == 1 else {"depth": end.window}
    publisher = zs.Publisher(end.outgoing, sample_type, domain="bench", **options)
    subscriber = zs.Subscriber(end.incoming, sample_type, domain="bench", spin_us=0 if end.wait == BLOCK else None)
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


PEERS = [
    Peer(
        "zeroslot",
        open_ends,
        "defaults; `spin_us=0` where it blocks; depth = window for bursts",
        module="zeroslot.cli.bench.samples",  # `import zeroslot` alone imports little
        distribution="zeroslot",
        payloads=(TYPED, FILLED, COPIED),
        waits=(SPIN, BLOCK),
    )
]
