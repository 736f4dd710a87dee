import multiprocessing
import os
import signal
from typing import Annotated

import zeroslot as zs

processes = multiprocessing.get_context("spawn")


class Report(zs.Sample):
    station: Annotated[str, zs.MaxBytes(16)]
    number: zs.U32


def station(name: str, count: int, subscribers: int = 1, *, crash: bool = False) -> None:
    with zs.Publisher("weather", Report, depth=4, name=name) as pub:
        pub.wait_for_subscribers(subscribers)
        for number in range(1, count + 1):
            pub.publish(Report(station=name, number=number))
        if crash:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    north = processes.Process(target=station, args=("north", 3))
    south = processes.Process(target=station, args=("south", 3))
    west = processes.Process(target=station, args=("west", 10, 2), kwargs={"crash": True})  # waits for two subscribers
    for process in (north, south, west):
        process.start()

    with zs.Subscriber("weather", Report) as sub:
        print("two stations at once")
        reports: dict[str, list[int]] = {"north": [], "south": []}
        for lease in sub:
            reports[lease.sample.station].append(lease.sample.number)
            if sum(map(len, reports.values())) == 6:
                break
        north.join()
        south.join()
        print(f"  north {reports['north']}, south {reports['south']}, lost {sub.lost}")

        print("a station with a depth of 4 publishes 10 and is killed before a sample is taken")
        sub.wait_for_publishers()
        with zs.Subscriber("weather", Report) as display:
            display.wait()
            west.join()
            taken = [lease.sample.number for lease in iter(sub.take, None)]
            print(f"  take:   {taken}, lost {sub.lost}, skipped {sub.skipped}")
            newest = display.latest()
            if newest is not None:
                print(f"  latest: {newest.sample.number}, lost {display.lost}, skipped {display.skipped}")

        print("another station starts, in this process")
        with zs.Publisher("weather", Report, name="east") as east:
            east.publish(Report(station="east", number=1))
            late = sub.take()
            if late is not None:
                print(f"  {late.sample.station} {late.sample.number}")


if __name__ == "__main__":
    main()
