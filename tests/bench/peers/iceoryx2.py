"""iceoryx2's Python binding: a ctypes structure, and slices of bytes.

Settings are those of its own benchmark (benchmarks/publish-subscribe): no history, the buffer as large as the window.
Blocking is what its example event_based_communication does: a notification after each send, a listener that waits.
"""

from __future__ import annotations

import ctypes
from typing import Any

from tests.bench.ways import BLOCK, COPIED, FILLED, SPIN, TYPED, End, Opened, Peer

_kept: list[Any] = []


class Payload(ctypes.Structure):
    """64 bytes, with the same fields as zeroslot.cli.bench.samples.Typed."""

    _fields_ = (
        ("stamp_ns", ctypes.c_uint64),
        ("acceleration", ctypes.c_double * 3),
        ("angular_velocity", ctypes.c_double * 3),
        ("number", ctypes.c_uint64),
    )


def open_ends(end: End, *, by_address: bool = False) -> Opened:
    """A publisher in one direction, a subscriber in the other; a notifier and a listener where it blocks.

    `by_address`: the structure is laid over `payload_ptr`, which is faster than `payload().contents`.
    """
    import iceoryx2 as iox2

    iox2.set_log_level_from_env_or(iox2.LogLevel.Error)
    node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)
    payload_type: Any = Payload if end.payload == TYPED else iox2.Slice[ctypes.c_uint8]
    out, back = (
        node.service_builder(iox2.ServiceName.new(name))
        .publish_subscribe(payload_type)
        .history_size(0)
        .subscriber_max_buffer_size(max(end.window, 2))
        .open_or_create()
        for name in (end.outgoing, end.incoming)
    )
    builder = out.publisher_builder()
    if end.payload != TYPED:
        builder = builder.initial_max_slice_len(end.size)
    publisher = builder.create()
    subscriber = back.subscriber_builder().create()
    names: dict[str, Any] = {"receive": subscriber.receive}
    if end.payload == TYPED and by_address:
        names |= {"loan": publisher.loan_uninit, "at": Payload.from_address}
        send = "sample = loan()\nat(sample.payload_ptr).number = turn\nsample.assume_init().send()"
        read = "seen = at(sample.payload_ptr).number\ndel sample"
    elif end.payload == TYPED:
        names |= {"payload": Payload(), "send_copy": publisher.send_copy}
        send = "payload.number = turn\nsend_copy(payload)"
        read = "seen = sample.payload().contents.number\ndel sample"
    else:
        bytes_of = ctypes.c_uint8 * end.size
        names |= {
            "loan": publisher.loan_slice_uninit,
            "size": end.size,
            "bytes_of": bytes_of,
            "memmove": ctypes.memmove,
        }
        send = "sample = loan(size)\n"
        if end.payload == COPIED:
            import numpy as np

            source = np.ones(end.size, np.uint8)
            names |= {"source": source.ctypes.data, "keep": source}
            send += "memmove(sample.payload_ptr, source, size)\n"
        else:
            send += "data = bytes_of.from_address(sample.payload_ptr)\ndata[0] = data[-1] = 1\n"
        send += "sample.assume_init().send()"
        read = "data = bytes_of.from_address(sample.payload_ptr)\nseen = data[0], data[-1]\ndel sample"
    if end.wait == SPIN:
        receive = f"while (sample := receive()) is None:\n    pass\n{read}"
    else:
        notifier, listener = (
            node.service_builder(iox2.ServiceName.new(f"{name}-event")).event().open_or_create()
            for name in (end.outgoing, end.incoming)
        )
        names |= {"notify": notifier.notifier_builder().create().notify}
        names["wait"] = listener.listener_builder().create().blocking_wait
        send += "\nnotify()"
        receive = f"while (sample := receive()) is None:\n    wait()\n{read}"
    _kept.append(node)
    return Opened(names, send, receive, names.clear)


def open_by_address(end: End) -> Opened:
    """Typed, by address."""
    return open_ends(end, by_address=True)


PEERS = [
    Peer(
        "iceoryx2",
        open_ends,
        "no history, buffer = window; `send_copy` of the structure; a notifier and a listener where it blocks",
        module="iceoryx2",
        distribution="iceoryx2",
        payloads=(TYPED, FILLED, COPIED),
        waits=(SPIN, BLOCK),
        forget=_kept.clear,
    ),
    Peer(
        "iceoryx2, by address",
        open_by_address,
        "the same; the structure is laid over `payload_ptr` instead of `payload().contents`",
        module="iceoryx2",
        distribution="iceoryx2",
        payloads=(TYPED,),
        waits=(SPIN,),
        forget=_kept.clear,
    ),
]
