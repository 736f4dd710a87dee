"""A camera, and a pool of worker processes that get tickets: no frame is pickled or copied."""

import multiprocessing
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

import zeroslot as zs

FRAMES, WORKERS = 12, 3


class Frame(zs.Sample):
    number: zs.U32
    image: Annotated[NDArray[np.uint8], zs.Shape(1080, 1920, 3)]


def brightness(ticket: zs.Ticket) -> tuple[int, float, bool]:
    """Runs in a worker: the frame's number, its mean, and whether its image is a copy."""
    with zs.redeem(ticket, Frame) as lease:
        image = lease.sample.image
        return int(lease.sample.number), float(image.mean()), bool(image.flags.owndata)


def publish(pub: zs.Publisher[Frame], count: int) -> None:
    for _ in range(count):
        with pub.loan_uninit() as frame:
            frame.number = pub.sequence + 1
            frame.image[:] = 4 * (pub.sequence + 1)


def main() -> None:
    with (
        zs.Publisher("camera/front", Frame, depth=1, spare_slots=WORKERS) as pub,
        zs.Subscriber("camera/front", Frame, max_leases=WORKERS) as sub,
        ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        work: list[tuple[zs.Lease[Frame], Future[tuple[int, float, bool]]]] = []
        tickets: list[zs.Ticket] = []
        total_bytes = 0
        for _ in range(FRAMES):
            if len(work) == WORKERS:
                finish(work.pop(0))
            publish(pub, 1)
            lease = sub.take()
            assert lease is not None
            tickets.append(lease.ticket())
            total_bytes += lease.size
            work.append((lease, pool.submit(brightness, tickets[-1])))  # the lease is held until the worker is done
            del lease
        while work:
            finish(work.pop(0))
        publish(pub, WORKERS + 3)
        print(f"{total_bytes / 1e6:.0f} MB of frames, and tickets of less than 150 bytes")
        try:
            zs.redeem(tickets[-1], Frame)
        except zs.SampleGoneError as error:
            print(f"too late: sample {error.sequence} is gone, the newest is {error.newest}")


def finish(each: tuple[zs.Lease[Frame], "Future[tuple[int, float, bool]]"]) -> None:
    lease, future = each
    number, mean, copied = future.result()
    print(f"frame {number}: mean {mean:.1f}, a copy: {copied}")
    lease.release()


if __name__ == "__main__":
    main()
