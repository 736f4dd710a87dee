import multiprocessing
from typing import Annotated

import zeroslot as zs


class Greeting(zs.Sample):
    number: zs.U32
    text: Annotated[str, zs.MaxBytes(32)]


def publish() -> None:
    with zs.Publisher("hello", Greeting) as pub:
        pub.wait_for_subscribers()
        for number in range(1, 4):
            with pub.loan() as greeting:
                greeting.number = number
                greeting.text = "hello, world"


def main() -> None:
    process = multiprocessing.get_context("spawn").Process(target=publish)
    process.start()
    with zs.Subscriber("hello", Greeting) as sub:
        for lease in sub:
            print(lease.sequence, lease.sample)
            if lease.sample.number == 3:
                break
    process.join()


if __name__ == "__main__":
    main()
