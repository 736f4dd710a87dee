"""The subscriber: order, loss, fairness, waiting, and publishers that come and go."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from tests.unit.control_bytes import ControlBytes
from zeroslot import (
    ClosedError,
    CorruptSegmentError,
    Publisher,
    QosMismatchError,
    Sample,
    Subscriber,
    TooManyPeersError,
    TopicNameError,
    TypeMismatchError,
    layout_of,
)
from zeroslot._core.binding import now_ns
from zeroslot.endpoints import subscriber
from zeroslot.testing import abandon


class Reading(Sample):
    n: zs.U32 = 0
    values: Annotated[NDArray[np.float64], zs.Shape(2)] = np.zeros(2)
    label: Annotated[str, zs.MaxBytes(8)] = ""


class Other(Sample):
    n: zs.U64 = 0
    label: Annotated[str, zs.MaxBytes(8)] = ""


@pytest.fixture
def pub() -> Iterator[Publisher[Reading]]:
    with Publisher("reading", Reading, depth=4) as made:
        yield made


def make(**options: Any) -> Subscriber[Reading]:
    return Subscriber("reading", Reading, **options)


def send(pub: Publisher[Reading], *ns: int) -> None:
    for n in ns:
        pub.publish(Reading(n=n))


def numbers(sub: Subscriber[Any], at_most: int = 10**9) -> list[int]:
    found: list[int] = []
    while len(found) < at_most and (lease := sub.take()) is not None:
        found.append(lease.sample.n)
    return found


# --- order, latest, loss ---


@pytest.mark.row("SUB-2", "SUB-8", "SUB-11", "SUB-13")
def test_samples_come_in_order_with_sequence_time_and_publisher(pub: Publisher[Reading]) -> None:
    """Sequence, time of publishing, publisher."""
    with make() as sub, make() as other:
        before = now_ns()
        send(pub, 5, 6)
        after = now_ns()
        for sequence, n in ((1, 5), (2, 6)):
            lease = sub.take()
            assert lease is not None
            assert (lease.sequence, lease.sample.n, lease.publisher_id) == (sequence, n, pub.publisher_id)
            assert before <= lease.published_ns <= after
        assert sub.take() is None
        assert numbers(other) == [5, 6]


@pytest.mark.row("SUB-1", "SUB-11")
def test_latest_jumps_and_counts_what_it_skips(pub: Publisher[Reading]) -> None:
    """Never a sample twice, never one that take had."""
    with make() as sub:
        send(pub, *range(10))
        lease = sub.latest()
        assert lease is not None
        assert (lease.sample.n, sub.skipped, sub.lost) == (9, 9, 0)
        assert sub.latest() is None
        send(pub, 10)
        assert numbers(sub) == [10]
        assert sub.latest() is None
        send(pub, 11, 12)
        assert numbers(sub, 1) == [11]
        last = sub.latest()
        assert last is not None
        assert (last.sample.n, sub.skipped) == (12, 9)


@pytest.mark.row("SUB-1", "SUB-11", "DEF-14")
def test_taken_lost_and_skipped_add_up_to_what_was_published(pub: Publisher[Reading]) -> None:
    """In every mixture of take and latest."""
    with make() as sub:
        published = 0
        for burst, latest in ((3, True), (9, False), (1, True), (4, False), (20, True), (5, False), (2, True)):
            send(pub, *range(burst))
            published += burst
            if latest:
                assert sub.latest() is not None
            else:
                numbers(sub)
            stats = sub.stats
            assert stats.taken + stats.lost + stats.skipped == published
            assert (stats.lost, stats.skipped) == (sub.lost, sub.skipped)


@pytest.mark.row("SUB-10")
@pytest.mark.parametrize(("history", "expected"), [(0, []), (1, [9]), (4, [6, 7, 8, 9])])
def test_a_late_joiner_gets_its_history_at_once(pub: Publisher[Reading], history: int, expected: list[int]) -> None:
    """The newest ones, oldest first; nothing of what came before is lost."""
    send(pub, *range(10))
    with make(history=history) as sub:
        assert sub.wait(0) == bool(expected)
        assert numbers(sub) == expected
        assert sub.lost == 0


@pytest.mark.row("SUB-10")
def test_a_history_beyond_the_depth_is_an_error(pub: Publisher[Reading]) -> None:
    """Where it subscribes."""
    with pytest.raises(QosMismatchError) as caught:
        make(history=5)
    assert (caught.value.setting, caught.value.requested, caught.value.offered) == ("history", 5, 4)


@pytest.mark.row("SUB-10", "PUB-2")
def test_a_reliable_joiners_history_leaves_room_for_the_loans() -> None:
    """At most depth - max_loans."""
    with Publisher("reading", Reading, depth=4, max_loans=2, on_full="raise") as pub:
        send(pub, 1, 2, 3, 4)
        with pytest.raises(QosMismatchError, match="2"):
            make(reliable=True, history=3)
        with make(reliable=True, history=2) as sub:
            assert numbers(sub) == [3, 4]


@pytest.mark.row("SUB-10", "SUB-11")
def test_a_publisher_that_came_later_is_read_from_its_first_sample() -> None:
    """What of it is gone already counts as lost."""
    with make() as sub, Publisher("reading", Reading, depth=2) as pub:
        send(pub, *range(7))
        assert numbers(sub) == [5, 6]
        assert sub.lost == 5


# --- several publishers ---


@pytest.mark.row("SUB-2")
def test_publishers_take_turns_and_each_is_in_order() -> None:
    """However much one of them has."""
    with Publisher("reading", Reading, depth=64) as one, Publisher("reading", Reading, depth=64) as two, make() as sub:
        send(one, *range(100, 140))
        send(two, *range(200, 210))
        found = numbers(sub)
        assert [n for n in found if n < 200] == list(range(100, 140))
        assert [n for n in found if n >= 200] == list(range(200, 210))
        assert all((a < 200) != (b < 200) for a, b in itertools.pairwise(found[:20]))


@pytest.mark.row("SUB-2")
def test_a_busy_publisher_does_not_starve_the_others() -> None:
    """One that publishes at every take leaves every other take to the second."""
    with (
        Publisher("reading", Reading, depth=64) as busy,
        Publisher("reading", Reading, depth=64) as quiet,
        make() as sub,
    ):
        send(quiet, *range(5))
        found = []
        for n in range(100, 130):
            send(busy, n)
            found += numbers(sub, 1)
        assert [n for n in found[:10] if n < 100] == list(range(5))


@pytest.mark.row("SUB-1")
def test_latest_goes_by_the_time_of_publishing() -> None:
    """Over all publishers; what is older is skipped everywhere."""
    with Publisher("reading", Reading) as one, Publisher("reading", Reading) as two, make() as sub:
        send(one, 1)
        send(two, 2)
        send(one, 3)
        send(two, 4)
        lease = sub.latest()
        assert lease is not None
        assert (lease.sample.n, sub.skipped) == (4, 3)
        assert sub.latest() is None
        assert sub.take() is None
        send(one, 5)
        assert numbers(sub) == [5]


@pytest.mark.row("SUB-5")
def test_max_leases_counts_each_publisher_by_itself() -> None:
    """One whose samples are all held does not count against another."""
    with Publisher("reading", Reading) as one, Publisher("reading", Reading) as two, make(max_leases=1) as sub:
        send(one, 1)
        send(two, 2)
        held = [sub.take(), sub.take()]
        assert {lease.sample.n for lease in held if lease is not None} == {1, 2}


@pytest.mark.row("SUB-11", "SEG-15")
def test_counts_outlive_their_publishers() -> None:
    """What was taken and lost of those that are gone stays in the sums."""
    with make() as sub:
        for _ in range(3):
            with Publisher("reading", Reading, depth=2) as pub:
                send(pub, *range(5))
                assert numbers(sub) == [3, 4]
        assert sub.take() is None
        stats = sub.stats
        assert (stats.taken, stats.lost, stats.publishers) == (6, 9, 0)


# --- publishers come and go ---


@pytest.mark.row("SEG-15", "SUB-20", "PEER-11")
@pytest.mark.parametrize("ending", ["close", "death"])
def test_a_publisher_that_ends_is_drained_and_the_next_one_followed(ending: str) -> None:
    """Its last samples are taken, nothing is lost, no error is raised."""
    with make() as sub:
        first = Publisher("reading", Reading)
        assert sub.wait_for_publishers(1, 0)
        send(first, 1, 2)
        if ending == "close":
            first.close()
        else:
            abandon(first)
        with Publisher("reading", Reading) as second:
            send(second, 3)
            assert sorted(numbers(sub)) == [1, 2, 3]
            assert [each.publisher_id for each in sub.publishers] == [second.publisher_id]
        assert sub.lost == 0
        assert sub.publishers == ()


@pytest.mark.row("NOT-12")
def test_wait_for_publishers_is_woken_by_one() -> None:
    """False in time without; what is known of it is told."""
    with make() as sub:
        assert sub.wait_for_publishers(0, 0)
        for timeout in (0, -1, 1e-6):
            assert not sub.wait_for_publishers(1, timeout)
        results: list[bool] = []
        thread = threading.Thread(target=lambda: results.append(sub.wait_for_publishers()))
        thread.start()
        with Publisher("reading", Reading, name="sensor", depth=3) as pub:
            thread.join()
            assert results == [True]
            (info,) = sub.publishers
            assert (info.publisher_id, info.name, info.pid, info.depth) == (pub.publisher_id, "sensor", os.getpid(), 3)


@pytest.mark.row("NOT-1", "SUB-7")
def test_a_sleeper_is_woken_by_a_publisher_that_comes() -> None:
    """It slept on the bell alone."""
    with make() as sub:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(sub.take(timeout=None)))
        thread.start()
        with Publisher("reading", Reading) as pub:
            send(pub, 7)
            thread.join()
        assert found[0].sample.n == 7


@pytest.mark.row("TYP-4", "TYP-6", "NEW-3")
def test_another_type_is_a_mismatch_with_the_difference(pub: Publisher[Reading]) -> None:
    """Field by field, with both hashes; no entry of the peer table is taken."""
    with pytest.raises(TypeMismatchError) as caught:
        Subscriber("reading", Other)
    error = caught.value
    assert error.topic == "reading"
    assert (error.publisher_hash, error.here_hash) == (layout_of(Reading).type_hash, layout_of(Other).type_hash)
    for part in ("values", "u32", "u64", "by_name"):
        assert part in str(error)
    assert pub.subscriber_count == 0


@pytest.mark.row("TYP-4")
def test_a_mismatched_publisher_beside_a_good_one_is_left_out(
    pub: Publisher[Reading], zeroslot_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Reported once, and the others are read."""
    with Publisher("elsewhere", Other) as wrong:
        foreign = pub.flink.with_name(wrong.flink.name)
        os.link(wrong.flink, foreign)
        with caplog.at_level(logging.WARNING, "zeroslot"), make() as sub:
            send(pub, 1)
            with Publisher("third", Reading):  # rings the bell: everybody looks again
                assert numbers(sub) == [1]
            assert len(sub.publishers) == 1
            assert caplog.text.count("left out") == 1
        foreign.unlink()


@pytest.mark.row("NEW-4", "TYP-6")
def test_a_subscriber_without_a_type_takes_it_from_the_segment(pub: Publisher[Reading]) -> None:
    """Without the class: fields, copies and the declaration itself."""
    with Subscriber("reading") as sub:
        pub.publish(Reading(n=3, values=[1, 2], label="self"))
        lease = sub.take()
        assert lease is not None
        assert (lease.sample.n, lease.sample.values.tolist(), lease.sample.label) == (3, [1.0, 2.0], "self")
        assert sub.sample_type is not None
        assert sub.sample_type is not Reading
        assert layout_of(sub.sample_type).type_hash == layout_of(Reading).type_hash
        assert lease.copy().model_dump()["label"] == "self"


@pytest.mark.row("NEW-4")
def test_a_subscriber_without_class_waits_for_its_first_publisher() -> None:
    """And takes its type from it."""
    with Subscriber("reading") as sub:
        assert sub.sample_type is None
        assert "any type" in repr(sub)
        with Publisher("reading", Reading) as pub:
            send(pub, 4)
            lease = sub.take(timeout=None)
            assert lease is not None
            assert lease.sample.n == 4


@pytest.mark.row("SEC-4", "TYP-6")
@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"{" * 200, b"\0" * 64])
def test_a_schema_of_garbage_is_corrupt(pub: Publisher[Reading], content: bytes) -> None:
    """For a subscriber that needs it; one that has the class keeps reading."""
    control = ControlBytes(pub.flink)
    control.write_bytes(control.at("schema"), content or bytes(control.read(88, "Q")))
    for options in ({"sample_type": None}, {"sample_type": Other}, {"sample_type": Other, "match": "by_name"}):
        with pytest.raises((CorruptSegmentError, zs.FormatError)):
            Subscriber("reading", **options)  # type: ignore[arg-type]  # a table of them
    with make() as sub:
        send(pub, 1)
        assert numbers(sub) == [1]


@pytest.mark.row("SEC-4", "TYP-6")
@pytest.mark.parametrize("options", [{"sample_type": None}, {}, {"match": "by_name"}])
def test_a_schema_that_is_not_the_segments_is_corrupt(pub: Publisher[Reading], options: dict[str, Any]) -> None:
    """Whole, and of another hash than the header says: neither is used."""
    control = ControlBytes(pub.flink)
    control.write(32, "Q", control.read(32, "Q") ^ 1)
    with pytest.raises(CorruptSegmentError, match="contradict"):
        Subscriber("reading", **({"sample_type": Reading} | options))


@pytest.mark.row("SEC-4", "TYP-6")
def test_a_refused_schema_leaves_no_trace() -> None:
    """A subscriber without a type still has none, and takes that of the next publisher."""
    with Subscriber("later") as sub:
        with Publisher("later", Other) as bad:
            control = ControlBytes(bad.flink)
            control.write(32, "Q", control.read(32, "Q") ^ 1)
            with pytest.raises(CorruptSegmentError, match="contradict"):
                sub.take()
            assert sub.sample_type is None
        with Publisher("later", Reading) as good:
            send(good, 1)
            assert numbers(sub) == [1]


@pytest.mark.row("TYP-5", "SEC-4")
@pytest.mark.parametrize("size", [0, 1, 39, 129])
def test_a_sample_smaller_than_its_type_or_larger_than_its_slot_is_corrupt(pub: Publisher[Reading], size: int) -> None:
    """Such a sample is not read, and its slot goes back."""
    with make() as sub:
        send(pub, 1)
        control = ControlBytes(pub.flink)
        control.write(control.slot_of(1) + 16, "Q", size)
        with pytest.raises(CorruptSegmentError):
            sub.take()
        assert sub.stats.leases == 0
        send(pub, 2)
        assert numbers(sub) == [2]


@pytest.mark.row("TYP-5")
def test_a_sample_larger_than_its_type_is_read_by_the_type(pub: Publisher[Reading]) -> None:
    """A later publisher may put more behind the fields; the view has the type's bytes and the lease all of them."""
    with make() as sub:
        send(pub, 1)
        control = ControlBytes(pub.flink)
        control.write(control.slot_of(1) + 16, "Q", 128)
        lease = sub.take()
        assert lease is not None
        assert lease.size == 128
        assert lease.copy() == Reading(n=1)
        assert memoryview(lease.sample).nbytes == layout_of(Reading).size  # type: ignore[arg-type]  # a view


@pytest.mark.row("SUB-7", "SEC-4")
@pytest.mark.parametrize("published", [0, 1, 2, 2**63])
def test_latest_returns_in_time_whatever_published_says(pub: Publisher[Reading], published: int) -> None:
    """The ring has a sample, and the word for the newest denies it: no reason to try for ever."""
    with make() as sub:
        send(pub, 1, 2)
        assert numbers(sub) == [1, 2]
        send(pub, 3)
        control = ControlBytes(pub.flink)
        control.write(control.at("published"), "Q", published)
        if published in (1, 2):
            assert sub.latest(timeout=0.01) is None  # as between two stores of a publisher
        else:
            with pytest.raises(CorruptSegmentError):
                sub.latest(timeout=0.01)


@pytest.mark.row("SEC-3", "SEC-4")
@pytest.mark.parametrize("what", ["garbage", "symlink", "directory", "fifo", "foreign"])
def test_an_invalid_flink_hides_no_good_publisher(pub: Publisher[Reading], what: str) -> None:
    """It is reported and left out."""
    wrong = pub.flink.with_name("00000000000000aa.flink")
    match what:
        case "garbage":
            wrong.write_bytes(b"no name")
            wrong.chmod(0o600)
        case "symlink":
            wrong.symlink_to(pub.flink)
        case "directory":
            wrong.mkdir()
        case "fifo":
            os.mkfifo(wrong, 0o600)
        case "foreign":
            wrong.write_bytes(b"/zs-0000000000000001")
            wrong.chmod(0o602)
    with make() as sub:
        send(pub, 1)
        assert numbers(sub) == [1]
    wrong.rmdir() if what == "directory" else wrong.unlink()


def test_a_full_peer_table_is_an_error_if_there_is_no_other_publisher() -> None:
    """TooManyPeersError names the attached subscribers; these keep working."""
    with Publisher("reading", Reading, max_subscribers=2) as pub:
        with make(name="first") as one, make(name="second"):
            with pytest.raises(TooManyPeersError, match="first"):
                make()
            send(pub, 1)
            assert numbers(one) == [1]
        with make():
            assert pub.subscriber_count == 1


# --- waiting ---


@pytest.mark.row("SUB-7", "NOT-5")
@pytest.mark.parametrize("timeout", [0, -1, -1e300, -(10**400), 1e-9, 1e-3])
def test_take_returns_none_at_its_timeout(pub: Publisher[Reading], timeout: float) -> None:
    """Not an error; with and without a publisher."""
    with make() as sub, Subscriber("other", Reading) as alone:
        for each in (sub, alone):
            assert each.take(timeout) is None
            assert each.latest(timeout) is None
            assert each.wait(timeout) is False


@pytest.mark.row("SUB-7")
@pytest.mark.parametrize("timeout", ["1", b"1", [], object(), 1j, float("nan")])
def test_a_timeout_is_a_number(pub: Publisher[Reading], timeout: Any) -> None:
    """TypeError, and ValueError for NaN, from every call that has one."""
    with make() as sub:
        for use in (sub.take, sub.latest, sub.wait, lambda timeout: sub.wait_for_publishers(9, timeout)):
            with pytest.raises((TypeError, ValueError)):
                use(timeout)


@pytest.mark.row("SUB-7")
@pytest.mark.parametrize("timeout", [None, 5, 1e300, 10**400, float("inf"), True])
def test_a_sample_that_is_there_is_taken_with_any_timeout(pub: Publisher[Reading], timeout: Any) -> None:
    """Huge ones are clamped."""
    with make() as sub:
        send(pub, 1, 2)
        assert sub.wait(timeout)
        first, last = sub.take(timeout), sub.latest(timeout)
        assert first is not None
        assert last is not None
        assert (first.sample.n, last.sample.n) == (1, 2)


@pytest.mark.row("SUB-7", "NOT-1", "NOT-5", "NOT-8")
def test_a_wait_spins_only_where_samples_come_soon(pub: Publisher[Reading], monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight long waits end it, a short one begins it again. A `spin_us` of the program's own holds always."""
    monkeypatch.setattr(subscriber, "PROCESSORS", 2)
    with make() as sub, make(spin_us=20) as fixed:
        for _ in range(8):
            assert sub._spins
            assert not sub.wait(0.001)
            assert not fixed.wait(0.001)
        assert not sub._spins
        assert fixed._spins
        pub.publish(Reading(n=1, values=np.zeros(2)))
        while not sub._spins:  # a wait that is preempted is long
            assert sub.wait()
    monkeypatch.setattr(subscriber, "PROCESSORS", 1)
    with make() as sub:
        assert not sub._spins


@pytest.mark.parametrize("spin_us", [0, 20, 1e9])
@pytest.mark.parametrize("call", ["take", "latest", "wait", "iterate"])
def test_a_waiting_thread_gets_the_next_sample(pub: Publisher[Reading], spin_us: float, call: str) -> None:
    """Parked or spinning; each sample that follows as well, so no wake-up is lost."""
    with make(spin_us=spin_us) as sub:
        found: list[int] = []
        got = threading.Semaphore(0)

        def work() -> None:
            for _ in range(20):
                if call == "wait":
                    assert sub.wait()
                    lease = sub.take()
                elif call == "iterate":
                    lease = next(sub)
                else:
                    lease = getattr(sub, call)(timeout=None)
                found.append(lease.sample.n)  # type: ignore[union-attr]  # waited for
                got.release()

        thread = threading.Thread(target=work)
        thread.start()
        for n in range(20):
            if spin_us < 1e6:
                ControlBytes(pub.flink).wait_until_parked()
            send(pub, n)
            got.acquire()
        thread.join()
        assert found == list(range(20))
        control = ControlBytes(pub.flink)
        assert control.read(control.at("parked"), "Q") == 0


@pytest.mark.row("NOT-3", "SUB-8")
def test_many_sleepers_of_one_subscriber_share_the_samples(pub: Publisher[Reading]) -> None:
    """Each sample goes to one of them, and every one that is left is woken by close."""
    with make(max_leases=64) as sub:
        found: list[int] = []
        ends: list[str] = []
        got = threading.Semaphore(0)

        def work() -> None:
            try:
                while True:
                    lease = sub.take(timeout=None)
                    found.append(lease.sample.n)  # type: ignore[union-attr]  # waited for
                    got.release()
            except ClosedError:
                ends.append("closed")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for n in range(60):
            send(pub, n)
            got.acquire()
        sub.close()
        for thread in threads:
            thread.join()
        assert sorted(found) == list(range(60))
        assert ends == ["closed"] * 4


@pytest.mark.row("SUB-20", "NOT-13")
@pytest.mark.parametrize("call", ["take", "latest", "wait", "wait_for_publishers", "iterate"])
@pytest.mark.parametrize("with_publisher", [True, False])
def test_close_wakes_waiting_threads(call: str, with_publisher: bool) -> None:
    """ClosedError; iteration just ends."""
    pub = Publisher("reading", Reading) if with_publisher else None
    sub = make()
    started = threading.Event()
    results: list[Any] = []

    def work() -> None:
        started.set()
        try:
            match call:
                case "iterate":
                    results.append([lease.sample.n for lease in sub])
                case "wait_for_publishers":
                    results.append(sub.wait_for_publishers(9))
                case "wait":
                    results.append(sub.wait())
                case _:
                    results.append(getattr(sub, call)(None))
        except ClosedError:
            results.append("closed")

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    if pub is not None and call != "wait_for_publishers":
        ControlBytes(pub.flink).wait_until_parked()
    sub.close()
    thread.join()
    assert results == [[] if call == "iterate" else "closed"]
    if pub is not None:
        pub.close()


@pytest.mark.parametrize("call", ["take", "wait", "wait_for_publishers"])
def test_ctrl_c_ends_a_wait(pub: Publisher[Reading], call: str) -> None:
    """And the subscriber is as good as before."""
    with make() as sub:
        control = ControlBytes(pub.flink)

        def interrupt() -> None:
            if call != "wait_for_publishers":
                control.wait_until_parked()
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012  # the signal may come right after the start
            thread.start()
            sub.wait_for_publishers(2) if call == "wait_for_publishers" else getattr(sub, call)(timeout=None)
        thread.join()
        assert control.read(control.at("parked"), "Q") == 0
        send(pub, 1)
        assert numbers(sub) == [1]


@pytest.mark.row("SUB-20")
def test_iteration_gives_every_sample_and_ends_with_the_subscriber(pub: Publisher[Reading]) -> None:
    """Closed from inside the loop, it just ends; a later one ends at once."""
    sub = make()
    send(pub, 0, 1, 2, 3)
    found = []
    for lease in sub:
        found.append(lease.sample.n)
        if lease.sample.n == 2:
            sub.close()
    assert found == [0, 1, 2]
    assert list(sub) == []


# --- ends and misuse ---


def test_after_close_everything_raises(pub: Publisher[Reading]) -> None:
    """ClosedError; counts stay readable; leases stay good; the peer entry is free when they are gone."""
    sub = make()
    send(pub, 5, 6)
    lease = sub.take()
    assert lease is not None
    sub.close()
    sub.close()
    assert sub.closed
    for use in (
        sub.take,
        sub.latest,
        lambda: sub.wait(0),
        lambda: sub.publishers,
        lambda: sub.wait_for_publishers(0, 0),
    ):
        with pytest.raises(ClosedError):
            use()
    assert (sub.stats.taken, sub.lost, sub.skipped) == (1, 0, 0)
    assert lease.sample.n == 5
    assert lease.copy() == Reading(n=5)
    assert pub.subscriber_count == 0
    assert "closed" in repr(sub)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"history": -1}, ValueError),
        ({"history": "1"}, TypeError),
        ({"history": True}, TypeError),
        ({"max_leases": 0}, ValueError),
        ({"max_leases": 1.0}, TypeError),
        ({"spin_us": -1}, ValueError),
        ({"spin_us": float("nan")}, ValueError),
        ({"spin_us": -(10**400)}, ValueError),
        ({"spin_us": True}, TypeError),
        ({"spin_us": "20"}, TypeError),
        ({"match": "similar"}, ValueError),
        ({"match": None}, ValueError),
        ({"domain": ""}, TopicNameError),
        ({"domain": "../up"}, TopicNameError),
        ({"name": 5}, TypeError),
        ({"unknown": 1}, TypeError),
    ],
)
def test_wrong_options_are_errors_and_leave_nothing(
    pub: Publisher[Reading], options: dict[str, Any], error: type | tuple[type, ...]
) -> None:
    """No peer entry, no bell."""
    with pytest.raises(error):
        make(**options)
    gc.collect()
    assert pub.subscriber_count == 0
    assert len(pub._bell._opened.users) == 1


def test_a_half_constructed_subscriber_raises() -> None:
    """`__new__` alone: every use raises, and it goes quietly."""
    empty: Any = Subscriber.__new__(Subscriber)
    uses = [
        empty.take,
        empty.latest,
        lambda: empty.wait(0),
        lambda: next(empty),
        lambda: empty.stats,
        lambda: empty.publishers,
        lambda: empty._wait_for_bell(lambda: True, 0),
        lambda: empty.lost,
    ]
    for use in uses:
        with pytest.raises((AttributeError, zs.ZeroslotError)):
            use()


def test_a_subscriber_in_a_cycle_is_closed_by_the_collector(pub: Publisher[Reading]) -> None:
    """With its leases, whose slots are free afterwards."""

    class Node:
        held: Any

    node = Node()
    sub = make()
    send(pub, 1)
    node.held = [node, sub, sub.take()]
    assert pub.subscriber_count == 1
    del node, sub
    gc.collect()
    assert pub.subscriber_count == 0
    send(pub, 2, 3, 4, 5)
    assert pub.allocator.free_count == pub.slot_count - 4


@pytest.mark.row("SUB-8", "PEER-4", "DEF-6", "DEF-11")
def test_subscribers_come_and_go_while_a_thread_publishes(pub: Publisher[Reading]) -> None:
    """Each sees an unbroken run: taken and lost account for every sequence since its join."""
    stop = threading.Event()

    def work() -> None:
        n = 0
        while not stop.is_set():
            send(pub, n)
            n += 1

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(50):
        with make() as sub:
            first = sub.take(timeout=None)
            assert first is not None
            begun, last, count = first.sequence - sub.lost, first.sequence, 1
            for _ in range(20):
                lease = sub.take(timeout=None)
                assert lease is not None
                assert lease.sequence > last
                last, count = lease.sequence, count + 1
            assert count + sub.lost == last - begun + 1
    stop.set()
    thread.join()
    assert pub.subscriber_count == 0


@pytest.mark.row("DIS-11")
def test_the_domain_comes_from_the_environment(zeroslot_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$ZEROSLOT_DOMAIN where none is given; an explicit one wins; domains do not meet."""
    monkeypatch.setenv("ZEROSLOT_DOMAIN", "lab")
    with Publisher("reading", Reading) as pub, make() as sub, make(domain="default") as other:
        assert pub.flink.parent == zeroslot_dir / "lab" / "reading"
        assert (pub.domain, sub.domain, other.domain) == ("lab", "lab", "default")
        send(pub, 1)
        assert numbers(sub) == [1]
        assert numbers(other) == []
    monkeypatch.setenv("ZEROSLOT_DOMAIN", "not/one")
    with pytest.raises(TopicNameError):
        make()
    monkeypatch.setenv("ZEROSLOT_DOMAIN", "")
    with make() as sub:
        assert sub.domain == "default"


@pytest.mark.parametrize("names", [{"__eq__": object.__lt__}, {"__hash__": None}, {"__hash__": lambda _: 1}])
@pytest.mark.parametrize(
    ("kind", "arguments"), [(Publisher, ("t", Reading)), (Subscriber, ("t",)), (zs.WaitSet, ())], ids=str
)
def test_a_handle_is_equal_to_itself_alone(
    kind: type[Any], arguments: tuple[Any, ...], names: dict[str, Any], zeroslot_dir: Path
) -> None:
    """A subclass that compares in another way is refused before anything is opened."""
    with pytest.raises(TypeError, match="Odd has an __eq__ or a __hash__ of its own"):
        type("Odd", (kind,), names)(*arguments)
    assert list(zeroslot_dir.iterdir()) == []
