"""Handles and samples in children of multiprocessing, by each start method."""

from __future__ import annotations

import pytest

import zeroslot as zs
from tests.process.actors import Cast
from tests.process.forked import PARENT
from tests.process.samples import Tick


def test_handles_that_a_child_of_multiprocessing_inherits_refuse(cast: Cast):
    """With the start method fork arguments are not pickled; the child is told, and ends well."""
    child = cast(
        PARENT
        + """
import multiprocessing

def work(pub, sub, loan, lease, queue):
    queue.put([refuses(pub.loan), refuses(sub.take), refuses(loan.commit), lease.sample.number])

context = multiprocessing.get_context("fork")
queue = context.SimpleQueue()
process = context.Process(target=work, args=(pub, sub, loan, lease, queue))
process.start()
say(queue.get())
process.join()
say(process.exitcode)
say(still_well())
"""
    )
    child.expect([True, True, True, 1])
    child.expect(0)
    child.expect(True)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_close_their_handles(cast: Cast, method: str):
    """They skip atexit; still no dead publisher, no dead subscriber and no file is left."""
    child = cast(
        """
        import multiprocessing, sys
        import zeroslot as zs
        from tests.process.samples import Tick

        def work(number):
            pub = zs.Publisher("from/child", Tick, max_loans=3)
            sub = zs.Subscriber("to/child", Tick, history=1)
            sub.take(timeout=None)
            globals()["kept"] = pub, sub, pub.loan(), pub.loan()
            pub.publish(Tick(number=number))

        if __name__ == "__main__":
            context = multiprocessing.get_context(args[0])
            pub = zs.Publisher("to/child", Tick)
            pub.publish(Tick(number=1))
            sub = zs.Subscriber("from/child", Tick)
            children = [context.Process(target=work, args=(number,)) for number in (1, 2)]
            for process in children:
                process.start()
            for process in children:
                process.join()
            say([process.exitcode for process in children])
            say([len(topic.publishers) for topic in zs.topics()])
            say(pub.stats.reaped)
            say(pub.subscriber_count)
            pub.allocator.reap()
            say(pub.stats.reaped)
        """,
        method,
    )
    child.expect([0, 0])
    child.expect([1])
    child.expect(0)
    child.expect(0)
    child.expect(0)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("handle", ["pub", "sub", "loan", "lease", "view", "slots", "reader"])
def test_handles_do_not_pickle(zeroslot_dir: object, method: str, handle: str):
    """TypeError in the parent that says what to send instead; no half-started child is left."""
    import multiprocessing.reduction
    import pickle

    with zs.Publisher("t", Tick) as pub, zs.Subscriber("t", Tick) as sub, zs.SlotAllocator.in_memory(4, 64) as slots:
        pub.publish(Tick(number=1))
        reader, lease, loan = slots.reader(), sub.take(), pub.loan()
        assert lease is not None
        things = {
            "pub": pub, "sub": sub, "loan": loan, "lease": lease, "view": lease.sample, "slots": slots, "reader": reader
        }  # fmt: skip  # a table
        with pytest.raises(TypeError, match="cannot be pickled"):
            multiprocessing.reduction.ForkingPickler.dumps(things[handle])
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError, match="cannot be pickled"):
                pickle.dumps(things[handle], protocol)


def test_a_copied_sample_can_be_sent_to_a_child(cast: Cast):
    """The advice of the error works."""
    child = cast(
        """
        import multiprocessing
        import zeroslot as zs
        from tests.process.samples import Tick

        def work(sample, queue):
            queue.put(sample.number)

        if __name__ == "__main__":
            context = multiprocessing.get_context("spawn")
            with zs.Publisher("t", Tick) as pub, zs.Subscriber("t", Tick) as sub:
                pub.publish(Tick(number=5))
                queue = context.SimpleQueue()
                process = context.Process(target=work, args=(sub.take().copy(), queue))
                process.start()
                say(queue.get())
                process.join()
        """
    )
    child.expect(5)
