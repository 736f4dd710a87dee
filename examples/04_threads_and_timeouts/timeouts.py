import logging

import zeroslot as zs

logging.getLogger("zeroslot").setLevel(logging.ERROR)  # a warning tells that the first subscriber may hold too much


class Tick(zs.Sample):
    number: zs.U32


with (
    zs.Publisher("tick", Tick, depth=2, max_loans=1, spare_slots=2) as pub,
    zs.Subscriber("tick", Tick, max_leases=5) as sub,
):
    print("nothing to take")
    print("  take():", sub.take())
    print("  take(timeout=0.05):", sub.take(timeout=0.05))
    print("  wait(timeout=0.05):", sub.wait(timeout=0.05))
    print("  wait_for_subscribers(2, timeout=0.05):", pub.wait_for_subscribers(2, timeout=0.05))

    print("one loan too many")
    with pub.loan() as tick:
        tick.number = 1
        try:
            pub.loan(timeout=0.05)
        except zs.NoFreeSlotError as error:
            print(f"  NoFreeSlotError: {error.loaned} of {error.slot_count} slots loaned, max_loans is 1")

    print("a subscriber that keeps everything")
    kept = [sub.take()]
    try:
        while True:
            pub.publish(Tick(number=1))
            kept.append(sub.take())
    except zs.NoFreeSlotError as error:
        print(f"  NoFreeSlotError: {error.leased} of {error.slot_count} slots read, all by {error.holders[0].name}")
    kept.clear()
    print("  after it released them: sample", pub.publish(Tick(number=1)))

with (
    zs.Publisher("tock", Tick, depth=2, max_loans=1, on_full="block") as pub,
    zs.Subscriber("tock", Tick, reliable=True) as sub,
):
    print("a reliable subscriber that does not take")
    try:
        while True:
            pub.publish(Tick(number=1), timeout=0.05)
    except zs.BackpressureError as error:
        print(f"  BackpressureError: {error.holders[0].behind} samples behind")
    print("  flush(timeout=0.05):", pub.flush(timeout=0.05))
    while sub.take() is not None:
        pass
    print("  flush() after it took them:", pub.flush())
