import threading

import zeroslot as zs

WRITERS = 4
READERS = 2
EACH = 250


class Work(zs.Sample):
    writer: zs.U32
    number: zs.U32


def write(pub: zs.Publisher[Work], writer: int) -> None:
    for number in range(EACH):
        with pub.loan() as work:
            work.writer = writer
            work.number = number


def read(sub: zs.Subscriber[Work], done: list[tuple[int, int]]) -> None:
    for lease in sub:  # ends when the subscriber is closed
        work = lease.sample
        done.append((work.writer, work.number))


done: list[tuple[int, int]] = []
with (
    zs.Publisher("work", Work, max_loans=WRITERS, on_full="block") as pub,
    # Each thread holds one lease while it takes the next one.
    zs.Subscriber("work", Work, reliable=True, max_leases=2 * READERS) as sub,
):
    writers = [threading.Thread(target=write, args=(pub, writer)) for writer in range(WRITERS)]
    readers = [threading.Thread(target=read, args=(sub, done)) for _ in range(READERS)]
    for thread in writers + readers:
        thread.start()
    for thread in writers:
        thread.join()
    print("everything taken:", pub.flush())
    sub.close()
    for thread in readers:
        thread.join()
    print("published:", pub.sequence)

expected = {(writer, number) for writer in range(WRITERS) for number in range(EACH)}
print("each exactly once:", len(done) == len(expected) and set(done) == expected)
