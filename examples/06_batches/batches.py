import multiprocessing
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

import zeroslot as zs

COUNT = 1_000_000
BATCH = 4096


class Point(zs.Sample):  # 64 bytes
    number: zs.U64
    values: Annotated[NDArray[np.float64], zs.Shape(7)]


def publish() -> None:
    points = np.zeros(BATCH, zs.layout_of(Point).dtype)
    with zs.Publisher("points", Point, depth=4096, max_loans=64, on_full="block") as pub:
        pub.wait_for_subscribers()
        for first in range(0, COUNT, BATCH):
            part = points[: COUNT - first]
            part["number"] = np.arange(first, first + len(part))
            part["values"][:, 0] = 0.5
            pub.publish_many(part)
        with pub.loan_many(2) as last:  # the same in place: committed together
            last[0].number = COUNT
            last[1].number = COUNT + 1
        pub.flush()


def main() -> None:
    process = multiprocessing.get_context("spawn").Process(target=publish)
    process.start()
    room = np.empty(BATCH, zs.layout_of(Point).dtype)
    taken, total = 0, 0.0
    with zs.Subscriber("points", Point, reliable=True) as sub:
        while taken < COUNT + 2:
            batch = sub.take_many(out=room, timeout=None)
            assert batch.sequences[0] == taken + 1
            assert batch.samples["number"][-1] == taken + len(batch) - 1
            total += batch.samples["values"][:, 0].sum()
            taken += len(batch)
        print(f"{taken} samples in order, {sub.lost} lost, sum {total}")
    process.join()


if __name__ == "__main__":
    main()
