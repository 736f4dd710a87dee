"""Middleware with discovery: zenoh, Cyclone DDS and eCAL. Their sessions are kept while the sizes change."""

from __future__ import annotations

import json
import queue
import time
from typing import Any

from tests.bench.peers.standard import names_of, packed, unpacked
from tests.bench.ways import BLOCK, COPIED, FILLED, SIZES, SPIN, TYPED, End, Opened, Peer, own_directory

_kept: dict[str, Any] = {}


def zenoh_session(end: End, *, shm: bool) -> Any:
    """A peer session over a Unix socket, without scouting."""
    import zenoh

    if "zenoh" not in _kept:
        config = zenoh.Config()
        address = f"unixsock-stream/{own_directory()}/{end.name}"
        options: dict[str, Any] = {
            "mode": "peer",
            "scouting/multicast/enabled": False,
            "transport/shared_memory/enabled": shm,
            "listen/endpoints" if end.first else "connect/endpoints": [address],
        }
        if end.first:
            options["connect/endpoints"] = []
        else:
            options["listen/endpoints"] = []
        for key, value in options.items():
            config.insert_json5(key, json.dumps(value))
        deadline = time.monotonic() + 10
        while True:
            try:
                _kept["zenoh"] = zenoh.open(config)
                break
            except zenoh.ZError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)  # until the other session listens: zenoh has no event for it
    return _kept["zenoh"]


def open_zenoh(end: End, *, shm: bool = False) -> Opened:
    """What its example z_ping does: a publisher that blocks when congested, a subscriber with a channel."""
    import zenoh

    session = zenoh_session(end, shm=shm)
    publisher = session.declare_publisher(end.outgoing, congestion_control=zenoh.CongestionControl.BLOCK, express=True)
    subscriber = session.declare_subscriber(end.incoming)
    while not publisher.matching_status.matching:
        time.sleep(0.005)  # between looks, before anything is measured
    names = names_of(end) | {"put": publisher.put, "receive": subscriber.recv}
    if shm:
        # Room for the messages on their way, and for those whose release has not come back yet.
        provider = zenoh.shm.ShmProvider.default_backend(max(1 << 20, (end.window + 6) * (end.size + 4096)))
        names |= {"alloc": provider.alloc, "size": end.size}
        names["policy"] = zenoh.shm.BlockOn(zenoh.shm.GarbageCollect())
        names["data"] = bytes(names["data"]) if end.payload != TYPED else names["data"]
        fill = {
            TYPED: "buffer[:] = bytes(data)",
            COPIED: "buffer[:] = data",
            FILLED: "buffer[0] = 1\nbuffer[size - 1] = 1",
        }[end.payload]
        send = packed(end.payload, f"buffer = alloc(size, policy=policy)\n{fill}\nput(buffer)")
    else:
        names["data"] = bytes(names["data"]) if end.payload != TYPED else names["data"]
        send = packed(end.payload, "put(bytes(data))" if end.payload == TYPED else "put(data)")
    receive = unpacked(end.payload, "message = receive().payload.to_bytes()")

    def close() -> None:
        names.clear()
        subscriber.undeclare()
        publisher.undeclare()

    return Opened(names, send, receive, close)


def open_zenoh_shm(end: End) -> Opened:
    """What its example z_pub_shm does."""
    return open_zenoh(end, shm=True)


def dds_type(size: int | None) -> Any:
    """An IDL structure: the fields of Typed, or an array of bytes."""
    from cyclonedds.idl import make_idl_struct, types

    if size is None:
        vector = types.array[types.float64, 3]
        fields = {"stamp_ns": types.uint64, "acceleration": vector, "angular_velocity": vector, "number": types.uint64}
        return make_idl_struct("Typed", "Typed", fields)
    return make_idl_struct(f"Bytes{size}", f"Bytes{size}", {"data": types.array[types.uint8, size]})


def open_dds(end: End) -> Opened:
    """A writer and a reader, reliable, that keep as many samples as may be on their way."""
    from cyclonedds.core import InstanceState, Policy, Qos, ReadCondition, SampleState, ViewState, WaitSet
    from cyclonedds.domain import DomainParticipant
    from cyclonedds.pub import DataWriter
    from cyclonedds.sub import DataReader
    from cyclonedds.topic import Topic
    from cyclonedds.util import duration

    participant = _kept.setdefault("dds", None) or DomainParticipant(0)
    _kept["dds"] = participant
    sample_type = dds_type(None if end.payload == TYPED else end.size)
    qos = Qos(Policy.Reliability.Reliable(duration(seconds=10)), Policy.History.KeepLast(max(end.window, 1)))
    out, back = (Topic(participant, name.replace("-", "_"), sample_type) for name in (end.outgoing, end.incoming))
    writer, reader = DataWriter(participant, out, qos=qos), DataReader(participant, back, qos=qos)
    while not (writer.get_matched_subscriptions() and reader.get_matched_publications()):
        time.sleep(0.005)  # between looks, before anything is measured
    condition = ReadCondition(reader, ViewState.Any | InstanceState.Alive | SampleState.NotRead)
    names: dict[str, Any] = {"write": writer.write, "take": reader.take, "condition": condition}
    if end.payload == TYPED:
        names["sample"] = sample_type(1, [0.0] * 3, [0.0] * 3, 0)
        send, read = "sample.number = turn\nwrite(sample)", "seen = got[0].number"
    else:
        names["sample"] = sample_type(data=bytes([1]) * end.size)
        send, read = "write(sample)", "data = got[0].data\nseen = data[0], data[-1]"
    if end.wait == SPIN:
        receive = f"while not (got := take(condition=condition)):\n    pass\n{read}"
    else:
        waitset = WaitSet(participant)
        waitset.attach(condition)
        names |= {"wait": waitset.wait, "long": duration(seconds=60)}
        receive = f"while not (got := take(condition=condition)):\n    wait(long)\n{read}"
    return Opened(names, send, receive, names.clear)


def open_ecal(end: End) -> Opened:
    """A publisher, and a subscriber whose callback hands the bytes to the main thread."""
    from ecal import nanobind_core as ecal

    if "ecal" not in _kept:
        ecal.initialize("zeroslot-bench")
        info = ecal.DataTypeInformation()
        config = ecal.get_publisher_configuration()
        config.layer.shm.zero_copy_mode = True
        got: queue.SimpleQueue[Any] = queue.SimpleQueue()
        topics = [
            name.rpartition("-")[0].rpartition("-")[0] + "-" + name.rpartition("-")[2]
            for name in (end.outgoing, end.incoming)
        ]
        publisher = ecal.Publisher(topics[0], info, config)
        subscriber = ecal.Subscriber(topics[1], info)
        subscriber.set_receive_callback(lambda _topic, _type, data: got.put(data.buffer))
        while not (publisher.get_subscriber_count() and subscriber.get_publisher_count()):
            time.sleep(0.01)  # between looks, before anything is measured
        time.sleep(0.5)  # the count is known a moment before the memory is mapped
        _kept["ecal"] = publisher, subscriber, got
    publisher, _, got = _kept["ecal"]
    names = names_of(end) | {"send": publisher.send, "get": got.get}
    if end.payload != TYPED:
        names["data"] = bytes(names["data"])
    send = packed(end.payload, "send(bytes(data))" if end.payload == TYPED else "send(data)")
    return Opened(names, send, unpacked(end.payload, "message = get()"), names.clear)


PEERS = [
    Peer(
        "zenoh",
        open_zenoh,
        "peers over a Unix socket, express, blocking when congested; shared memory off",
        module="zenoh",
        distribution="eclipse-zenoh",
        pinned=False,
    ),
    Peer(
        "zenoh, shared memory",
        open_zenoh_shm,
        "the same with its shared memory: `alloc`, fill, `put`",
        module="zenoh.shm",
        distribution="eclipse-zenoh",
        payloads=(TYPED, FILLED, COPIED),
        pinned=False,
    ),
    Peer(
        "Cyclone DDS",
        open_dds,
        "reliable, keep last; arrays of bytes; a wait set where it blocks",
        module="cyclonedds.pub",
        distribution="cyclonedds",
        waits=(SPIN, BLOCK),
        sizes=SIZES[:4],
        pinned=False,
    ),
    Peer(
        "eCAL",
        open_ecal,
        "shared memory, zero_copy_mode; a callback and a queue",
        module="ecal.nanobind_core",
        distribution="eclipse-ecal",
        pinned=False,
        queue=1,
    ),
]
