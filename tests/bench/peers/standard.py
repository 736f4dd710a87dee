"""What CPython has: multiprocessing's Pipe, Queue and shared memory, and a pipe of the system."""

from __future__ import annotations

import multiprocessing
import os
import struct
from multiprocessing import shared_memory
from typing import Any

from tests.bench.ways import COPIED, FILLED, SPIN, TYPED, End, Opened, Peer

NUMBER = struct.Struct("=Q")
AT = 56  # of the number in 64 bytes
CONTEXT = multiprocessing.get_context("fork")
F_SETPIPE_SZ = 1031


def message(end: End) -> Any:
    """What is sent: 64 bytes in which the number is written, or an array of ones."""
    if end.payload == TYPED:
        return bytearray(64)
    import numpy as np

    return memoryview(np.ones(end.size, np.uint8))


def packed(payload: str, send: str) -> str:
    """A statement that sends, after the number was written."""
    return f"pack_into(data, {AT}, turn)\n{send}" if payload == TYPED else send


def unpacked(payload: str, receive: str, message: str = "message") -> str:
    """A statement that receives, and then what reads the message."""
    read = f"seen = unpack_from({message}, {AT})[0]" if payload == TYPED else f"seen = {message}[0], {message}[-1]"
    return f"{receive}\n{read}"


def names_of(end: End) -> dict[str, Any]:
    """What these statements use."""
    return {"data": message(end), "pack_into": NUMBER.pack_into, "unpack_from": NUMBER.unpack_from}


def open_pipe(end: End) -> Opened:
    """multiprocessing.Pipe: bytes, received into memory that is there."""
    mine, other = end.shared[0] if end.first else reversed(end.shared[0])
    names = names_of(end) | {"send": mine.send_bytes, "receive": mine.recv_bytes_into, "message": bytearray(end.size)}
    _ = other
    return Opened(names, packed(end.payload, "send(data)"), unpacked(end.payload, "receive(message)"))


def open_queue(end: End) -> Opened:
    """multiprocessing.Queue: it pickles what is put in."""
    there, back = end.shared[0] if end.first else reversed(end.shared[0])
    names = names_of(end) | {"put": there.put, "get": back.get}
    if end.payload == TYPED:
        return Opened(names, "put(turn)", "seen = get()")
    names["data"] = bytes(names["data"])
    return Opened(names, "put(data)", unpacked(end.payload, "message = get()"))


def open_os_pipe(end: End) -> Opened:
    """os.pipe in each direction, as large as the system allows without rights."""
    (r1, w1), (r2, w2) = end.shared[0]
    read, write = (r2, w1) if end.first else (r1, w2)
    names = names_of(end) | {"write": os.write, "readv": os.readv, "r": read, "w": write}
    names["message"] = memoryview(bytearray(end.size))
    names["size"] = end.size
    if end.size <= 4096:  # atomic
        return Opened(names, packed(end.payload, "write(w, data)"), unpacked(end.payload, "readv(r, (message,))"))
    send = "at = 0\nwhile at < size:\n    at += write(w, data[at:])"
    receive = "at = 0\nwhile at < size:\n    at += readv(r, (message[at:],))"
    return Opened(names, send, unpacked(end.payload, receive))


def two_pipes() -> Any:
    """A pipe in each direction."""
    import fcntl

    pipes = os.pipe(), os.pipe()
    for _, write in pipes:
        fcntl.fcntl(write, F_SETPIPE_SZ, 1 << 20)
    return [pipes]


def open_shared(end: End) -> Opened:
    """multiprocessing.shared_memory: one place in each direction, and a counter that the receiver spins on.

    It has no queue, cannot wait and does not notice what it misses: the least that can be written by hand.
    """
    out, back = (place(name, end.size) for name in (end.outgoing, end.incoming))
    words_out, words_back = (memory.buf.cast("Q") for memory in (out, back))
    words_out[0] = words_back[0] = 0
    names: dict[str, Any] = {"out": words_out, "back": words_back, "size": end.size}
    if end.payload == TYPED:
        send = "out[23] = turn\nout[0] = turn + 1"
        receive = "while back[0] != turn + 1:\n    pass\nseen = back[23]"
    else:
        last = 128 + end.size - 1
        names |= {"data": message(end), "target": out.buf[128 : 128 + end.size], "source": back.buf, "last": last}
        send = "target[:] = data" if end.payload == COPIED else "target[0] = target[-1] = 1"
        send += "\nout[0] = turn + 1"
        receive = "while back[0] != turn + 1:\n    pass\nseen = source[128], source[last]"

    def close() -> None:
        for view in (*(value for value in names.values() if isinstance(value, memoryview)),):
            if view is not names.get("source"):
                view.release()
        names.clear()
        for memory in (out, back):
            memory.close()
            if end.first:
                memory.unlink()

    return Opened(names, send, receive, close)


def open_shared_numpy(end: End) -> Opened:
    """The same with numpy, as most programs do it: a record for the payload, an array of one number for the counter."""
    import numpy as np

    import zeroslot as zs
    from zeroslot.cli.bench.samples import Typed

    out, back = (place(name, end.size) for name in (end.outgoing, end.incoming))
    names: dict[str, Any] = {}
    for side, memory in (("out", out), ("back", back)):
        names[f"{side}_counter"] = np.ndarray(1, np.uint64, memory.buf)
        names[f"{side}_record"] = np.ndarray(1, zs.layout_of(Typed).dtype, memory.buf, 128)[0]
        names[f"{side}_counter"][0] = 0
    send = 'out_record["number"] = turn\nout_counter[0] = turn + 1'
    receive = 'while back_counter[0] != turn + 1:\n    pass\nseen = back_record["number"]'

    def close() -> None:
        names.clear()
        for memory in (out, back):
            memory.close()
            if end.first:
                memory.unlink()

    return Opened(names, send, receive, close)


def place(name: str, size: int) -> shared_memory.SharedMemory:
    """The memory of one direction, created by the process that comes first. A counter, and the payload at byte 128."""
    try:
        return shared_memory.SharedMemory(name, create=True, size=128 + (size + 7) // 8 * 8)
    except FileExistsError:
        return shared_memory.SharedMemory(name)


PEERS = [
    Peer(
        "shared_memory, by hand",
        open_shared,
        "one place a direction and one counter, spun on; no queue, no wait, no check",
        payloads=(TYPED, FILLED, COPIED),
        waits=(SPIN,),
        queue=1,
    ),
    Peer(
        "shared_memory, numpy",
        open_shared_numpy,
        "the same through numpy: a record and an array of one counter",
        payloads=(TYPED,),
        waits=(SPIN,),
        queue=1,
    ),
    Peer("os.pipe", open_os_pipe, "1 MiB of buffer; `readv` into memory that is there", share=two_pipes, queue=16),
    Peer(
        "multiprocessing.Pipe",
        open_pipe,
        "`send_bytes`, `recv_bytes_into`",
        share=lambda: [CONTEXT.Pipe()],
        queue=16,
    ),
    Peer(
        "multiprocessing.Queue",
        open_queue,
        "`put` of a number or of bytes, `get`",
        share=lambda: [(CONTEXT.Queue(), CONTEXT.Queue())],
    ),
]
