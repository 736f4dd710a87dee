"""Ten million checksummed samples through a ring of depth 2, read by four processes, one of which stops and goes.

Every sample is 16 words: its sequence, numbers drawn from it, and their CRC. A reader looks at the CRC twice, when it
takes the sample and when it lets go, and keeps some for longer than the ring is deep: what changed under it, came
twice, came out of order or was neither taken nor counted ends the test.
"""

from __future__ import annotations

import select
import signal
import time
from pathlib import Path

import pytest

from tests.children import Child
from tests.process.actors import Cast

PUBLISHER = """
import struct, zlib
import zeroslot as zs

flink, samples, readers = args
pack = struct.Struct("<15Q").pack
crc = zlib.crc32
tail = struct.Struct("<Q").pack

# Slots for the ring, for the one that is written, and for all that the readers may keep.
with zs.SlotAllocator.create(flink, 2 + 1 + 24, 128, depth=2) as slots:
    say("ready")
    hear()
    reserve, commit = slots.reserve, slots.commit
    for n in range(1, samples + 1):
        body = pack(n, *(n * k & 0xFFFFFFFFFFFFFFFF for k in PRIMES))
        slot = reserve(timeout=None)
        commit(slot, body + tail(crc(body)))
    say([slots.sequence, slots.stats["blocked"], slots.stats["wakes"]])
    hear()
""".replace("PRIMES", repr(tuple(0x9E3779B97F4A7C15 * k % 2**64 for k in range(1, 15))))

READER = """
import struct, zlib
from collections import deque
import zeroslot as zs

flink, keep = args
crc = zlib.crc32
first_and_last = struct.Struct("<Q112xQ").unpack_from

def check(lease, sequence):
    number, checksum = first_and_last(lease)
    if number != sequence:
        raise SystemExit(f"sample {sequence} carries {number}")
    if crc(memoryview(lease)[:120]) != checksum:
        raise SystemExit(f"sample {sequence} is torn")

with zs.SlotReader.attach(flink, max_leases=6) as reader:
    say("ready")
    got = last = 0
    held = deque()
    take = reader.take
    while True:
        generation = reader.generation
        gone = reader.owner_gone
        lease = take()
        if lease is None:
            if gone:
                break
            reader.wait_for_change(generation)
            continue
        sequence = lease.sequence
        if sequence <= last:
            raise SystemExit(f"sample {sequence} came after {last}")
        last = sequence
        got += 1
        check(lease, sequence)
        held.append((lease, sequence))
        if len(held) > keep:
            old, number = held.popleft()
            check(old, number)
            old.release()
    for old, number in held:
        check(old, number)
    say([got, reader.lost, last])
"""


def run(cast: Cast, directory: Path, samples: int) -> None:
    """The test, with so many samples. Prints the rate and the counts."""
    flink = str(directory / "slots")
    pub = cast(PUBLISHER, flink, samples, 4, name="publisher")
    pub.expect("ready")
    readers = [cast(READER, flink, keep, name="reader") for keep in (0, 1, 3, 5)]
    for reader in readers:
        reader.expect("ready")
    began = time.monotonic()
    pub.tell("go")
    stops = stop_and_go(readers[3], pub)
    sequence, blocked, wakes = pub.hear()
    seconds = time.monotonic() - began
    pub.finish()
    counts = [reader.hear() for reader in readers]
    print(
        f"\n{samples} samples in {seconds:.1f} s, {samples / seconds / 1e6:.2f} million/s; "
        f"the publisher waited {blocked} times and woke {wakes} times; reader 4 was stopped {stops} times"
    )
    for at, (got, lost, last) in enumerate(counts, 1):
        print(f"  reader {at}: got {got}, lost {lost}, last {last}")
    assert sequence == samples
    for got, lost, last in counts:
        assert got + lost == samples
        assert last == samples
        assert got > 0


def stop_and_go(reader: Child, pub: Child) -> int:
    """Stops and continues a reader until the publisher has said that it is done; how often.

    While the reader stands it holds what it holds; the others go on.
    """
    assert pub._process.stdout is not None
    stops = 0
    while not select.select([pub._process.stdout], [], [], 0.02)[0]:
        reader.stop()
        stops += 1
        select.select([pub._process.stdout], [], [], 0.02)
        reader.signal(signal.SIGCONT)
    return stops


@pytest.mark.row("SUB-8", "PUB-3", "DEF-4")
def test_nothing_is_torn_twice_or_out_of_order(cast: Cast, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Fifty thousand samples, in every run; also with a writer and readers that keep out of each other's way."""
    with capsys.disabled():
        run(cast, tmp_path, 50_000)


@pytest.mark.stress
@pytest.mark.row("SUB-8", "PUB-3", "DEF-4")
def test_ten_million(request: pytest.FixtureRequest, cast: Cast, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The same, two hundred times as long."""
    with capsys.disabled():
        run(cast, tmp_path, request.config.getoption("--samples", 10_000_000))
