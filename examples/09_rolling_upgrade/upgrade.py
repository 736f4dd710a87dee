import multiprocessing
from multiprocessing.synchronize import Event

import zeroslot as zs

processes = multiprocessing.get_context("spawn")


class Report(zs.Sample):
    celsius: zs.F32


class LaterReport(zs.Sample):
    humidity: zs.F32 = 50
    celsius: zs.F64


def old_station(upgraded: Event) -> None:
    with zs.Publisher("weather", Report) as pub:
        pub.wait_for_subscribers(2)
        pub.publish(Report(celsius=20.5))
        upgraded.wait()


def new_station() -> None:
    with zs.Publisher("weather", LaterReport, match="by_name") as pub:
        pub.wait_for_subscribers()
        pub.publish(LaterReport(celsius=21.25, humidity=40))


def main() -> None:
    upgraded = processes.Event()
    old, new = processes.Process(target=old_station, args=(upgraded,)), processes.Process(target=new_station)
    with (
        zs.Subscriber("weather", LaterReport, match="by_name") as dashboard,
        zs.Subscriber("weather", Report) as archive,
    ):
        print("a publisher of the old version")
        old.start()
        dashboard.wait_for_publishers()
        archive.wait_for_publishers()
        print(f"  dashboard {next(dashboard).sample}, archive {next(archive).sample}")
        print("what differs for the dashboard")
        print(*dashboard.differences.values())

        print("a publisher of the new version starts, then the old one ends")
        new.start()
        print(f"  dashboard {next(dashboard).sample}")
        upgraded.set()
        old.join()
        new.join()
        print(f"  lost {dashboard.lost}")


if __name__ == "__main__":
    main()
