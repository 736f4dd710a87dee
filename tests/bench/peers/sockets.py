"""Message queues over Unix sockets: pyzmq and pynng."""

from __future__ import annotations

from tests.bench.peers.standard import names_of, packed, unpacked
from tests.bench.ways import TYPED, End, Opened, Peer, own_directory

ZERO_COPY_FROM = 65536  # zmq.COPY_THRESHOLD: below it a message is copied anyway


def open_zmq(end: End) -> Opened:
    """A PAIR of sockets, ipc://; large messages without copies on the way to and from libzmq, as its guide advises."""
    import zmq

    context = zmq.Context()
    socket = context.socket(zmq.PAIR)
    address = f"ipc://{own_directory()}/{end.name}"
    if end.first:
        socket.bind(address)
    else:
        socket.connect(address)
    names = names_of(end) | {"send": socket.send, "receive": socket.recv}
    copy = end.payload == TYPED or end.size < ZERO_COPY_FROM
    send = packed(end.payload, "send(data)" if copy else "send(data, copy=False)")
    receive = unpacked(end.payload, "message = receive()" if copy else "message = receive(copy=False).buffer")

    def close() -> None:
        names.clear()
        context.destroy(linger=0)

    return Opened(names, send, receive, close)


def open_nng(end: End) -> Opened:
    """A Pair0 over ipc://."""
    import pynng

    address = f"ipc://{own_directory()}/{end.name}"
    options = {"send_buffer_size": end.window, "recv_buffer_size": end.window, "recv_max_size": 0}
    if end.first:
        socket = pynng.Pair0(listen=address, **options)
    else:
        socket = pynng.Pair0(block_on_dial=False, reconnect_time_min=1, reconnect_time_max=1, dial=address, **options)
    names = names_of(end) | {"send": socket.send, "receive": socket.recv}
    if end.payload != TYPED:
        names["data"] = bytes(names["data"])
    else:
        names["data"] = bytearray(64)
    send = packed(end.payload, "send(bytes(data))" if end.payload == TYPED else "send(data)")
    return Opened(names, send, unpacked(end.payload, "message = receive()"), socket.close)


PEERS = [
    Peer(
        "pyzmq",
        open_zmq,
        "PAIR, ipc://; `copy=False` from 64 KiB",
        pinned=False,
        module="zmq",
        distribution="pyzmq",
    ),
    Peer("pynng", open_nng, "Pair0, ipc://", module="pynng", distribution="pynng", pinned=False),
]
