"""One publisher and one subscriber, shared by many threads that publish, take, keep, read, join, leave and close.

The same program runs under every free-threaded CPython on PATH that has zeroslot: there nothing but the library's own
locks keeps the threads apart.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import random, sys, threading, zlib
from collections import Counter
from typing import Annotated
import numpy as np
import zeroslot as zs
from numpy.typing import NDArray

class Block(zs.Sample):
    sender: zs.U32
    number: zs.U32
    words: Annotated[NDArray[np.uint64], zs.Shape(30)]
    checksum: zs.U64

samples, seed = int(sys.argv[1]), int(sys.argv[2])
senders, takers = 3, 3
sys.setswitchinterval(1e-5)
# Senders wait for takers: otherwise most samples are overwritten before a thread gets its turn.
pub = zs.Publisher("t", Block, depth=16, max_loans=senders, spare_slots=64, on_full="block")
sub = zs.Subscriber("t", Block, max_leases=32, reliable=True)
done = threading.Event()
failures = []
got = [[] for _ in range(takers)]

def guarded(act, *args):
    try:
        act(*args)
    except BaseException as error:
        failures.append(repr(error))
        done.set()
        raise

def send(sender):
    for number in range(samples):
        with pub.loan() as block:
            block.sender, block.number = sender, number
            words = block.words
            words[:] = (sender << 24 | number) * 0x9E3779B9
            block.checksum = zlib.crc32(words)

def check(block):
    words = block.words
    if zlib.crc32(words) != block.checksum or words[0] != (block.sender << 24 | block.number) * 0x9E3779B9:
        raise ValueError(f"torn: {block}")

def take(mine):
    choice = random.Random(seed + len(got))
    kept = []
    while not (done.is_set() and sub.stats.taken + sub.lost == pub.sequence):
        lease = sub.take(timeout=0.01)
        if lease is None:
            continue
        block = lease.sample
        check(block)
        mine.append((lease.sequence, block.sender, block.number))
        if choice.random() < 0.5:
            lease.release()
        kept.append(block)
        if len(kept) > 5:
            check(kept.pop(choice.randrange(6)))
    for block in kept:
        check(block)

def join():
    while not done.is_set():
        with zs.Subscriber("t", Block, history=4, max_leases=2) as other:
            lease = other.take(timeout=0.01)
            if lease is not None:
                check(lease.sample)
                view = lease.sample
                del lease
        pub.subscriber_count, pub.stats, sub.stats

others = [threading.Thread(target=guarded, args=(take, mine)) for mine in got]
others.append(threading.Thread(target=guarded, args=(join,)))
sending = [threading.Thread(target=guarded, args=(send, sender)) for sender in range(senders)]
for thread in others + sending:
    thread.start()
for thread in sending:
    thread.join()
done.set()
for thread in others:
    thread.join()
if failures:
    sys.exit("\\n".join(failures))
everything = [item for mine in got for item in mine]
sequences = Counter(sequence for sequence, _, _ in everything)
assert pub.sequence == senders * samples, pub.sequence
assert set(sequences.values()) == {1}, "a sample came twice"
assert (len(everything), sub.lost) == (senders * samples, 0), (len(everything), sub.lost)
for mine in got:
    assert mine == sorted(mine), "out of order"
for sender in range(senders):
    numbers = [number for _, which, number in sorted(everything) if which == sender]
    assert numbers == list(range(samples)), "the order within a thread"
sub.close()
pub.close()
free = not getattr(sys, "_is_gil_enabled", lambda: True)()
print(f"{sys.version.split()[0]}{' free-threaded' * free}: {len(everything)} samples by {senders} threads to {takers}")
"""


def run(python: str, directory: Path, samples: int, seed: int = 1) -> str:
    """Runs the program; its last line."""
    script = directory / "threads.py"
    script.write_text(PROGRAM)
    ended = subprocess.run([python, str(script), str(samples), str(seed)], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.strip()


@pytest.mark.parametrize("python", ["this", "python3.13t", "python3.14t"])
@pytest.mark.parametrize("samples", [2_000, pytest.param(50_000, marks=pytest.mark.stress)])
def test_threads_share_a_publisher_and_a_subscriber(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], python: str, samples: int
):
    """Nothing torn, lost, twice or out of order, whichever thread took it."""
    found = sys.executable if python == "this" else shutil.which(python)
    if found is None:
        pytest.skip(f"{python} is not on PATH")
    if subprocess.run([found, "-c", "import zeroslot"], capture_output=True).returncode != 0:
        pytest.skip(f"{python} has no zeroslot")
    line = run(found, tmp_path, samples)
    with capsys.disabled():
        print(f"\n{line}")
