"""Facts of live segments, without taking an entry of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import zeroslot as zs
from tests.unit.control_bytes import PEER_SIZE, SECTIONS, ControlBytes
from zeroslot import (
    Publisher,
    Sample,
    SlotAllocator,
    Subscriber,
    TopicNameError,
    TopicNotFoundError,
    inspect,
    layout_of,
    topics,
)
from zeroslot.observe.introspection import schema_of
from zeroslot.testing import abandon


class Tick(Sample):
    n: zs.U32 = 0
    text: zs.U64 = 0


@pytest.mark.row("DIS-9", "SEG-23")
def test_topics_lists_what_is_published() -> None:
    """Sorted, with every publisher, without the dead; those that are only subscribed to where they are asked for."""
    assert topics() == ()
    with Publisher("b", Tick) as one, Publisher("b", Tick) as two, Publisher("a/x", Tick), Subscriber("c", Tick):
        found = topics()
        assert [(each.topic, each.domain, len(each.publishers)) for each in found] == [
            ("a/x", "default", 1),
            ("b", "default", 2),
        ]
        every = topics(waiting=True)
        assert [(each.topic, len(each.publishers), len(each.waiting)) for each in every] == [
            ("a/x", 1, 0),
            ("b", 2, 0),
            ("c", 0, 1),
        ]
        assert {each.publisher_id for each in found[1].publishers} == {one.publisher_id, two.publisher_id}
        abandon(two)
        assert [each.publisher_id for each in inspect("b").publishers] == [one.publisher_id]
        with Publisher("b", Tick):
            pass
    assert topics() == ()


@pytest.mark.row("DIS-9", "DIS-11")
def test_domains_are_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is given, or the environment's."""
    with Publisher("t", Tick, domain="lab"):
        assert topics() == ()
        assert [each.topic for each in topics("lab")] == ["t"]
        assert inspect("t", "lab").domain == "lab"
        monkeypatch.setenv("ZEROSLOT_DOMAIN", "lab")
        assert [each.topic for each in topics()] == ["t"]


@pytest.mark.row("OBS-1", "NEW-8", "PEER-16")
def test_inspect_tells_publishers_and_subscribers_apart() -> None:
    """Counts, types, and what each subscriber holds for how long; `inspect` takes no entry itself."""
    with (
        Publisher("t", Tick, depth=3, max_loans=1, spare_slots=5, on_full="block", name="source") as pub,
        Subscriber("t", Tick, name="sink", max_leases=2) as sub,
    ):
        for n in range(7):
            pub.publish(Tick(n=n))
        lease = sub.take()
        assert lease is not None
        (facts,) = inspect("t").publishers
        assert (facts.name, facts.pid, facts.type_name) == ("source", os.getpid(), "Tick")
        assert (facts.depth, facts.slot_count, facts.on_full, facts.published) == (3, 9, "block", 7)
        assert (facts.sample_bytes, facts.type_hash) == (16, layout_of(Tick).type_hash.hex())
        assert facts.counters["published"] == 7
        assert facts.flink == pub.flink
        (peer,) = facts.subscribers
        assert (peer.name, peer.pid, peer.max_leases, peer.reliable, peer.stopped) == (
            "sink",
            os.getpid(),
            2,
            False,
            False,
        )
        assert (peer.taken, peer.lost, peer.skipped, peer.held, peer.behind) == (1, 4, 0, 1, 2)
        assert peer.oldest_held_s is not None
        assert peer.oldest_held_s >= 0
        lease.release()
        (peer,) = inspect("t").publishers[0].subscribers
        assert (peer.held, peer.oldest_held_s) == (0, None)
        assert pub.subscriber_count == 1


def test_a_topic_without_publishers_is_not_found() -> None:
    """An error that says where was looked; a wrong name is another one."""
    with Subscriber("t", Tick):
        assert len(inspect("t", waiting=True).waiting) == 1
        for ask in (inspect, schema_of):
            with pytest.raises(TopicNotFoundError) as caught:
                ask("t")
            assert (caught.value.topic, caught.value.domain) == ("t", "default")
    for wrong in ("", "..", "a b", None):
        with pytest.raises(TopicNameError):
            inspect(wrong)  # type: ignore[arg-type]  # on purpose


@pytest.mark.row("NEW-4", "TYP-6")
def test_the_schema_is_read_without_subscribing() -> None:
    """A layout of the same bytes."""
    with Publisher("t", Tick) as pub:
        assert schema_of("t") == layout_of(Tick)
        assert [field.name for field in schema_of("t").members] == ["n", "text"]
        assert pub.subscriber_count == 0


def test_untyped_segments_are_bytes(zeroslot_dir: Path) -> None:
    """They have no schema."""
    place = zeroslot_dir / "default" / "raw"
    place.mkdir(parents=True)
    for each in (place, place.parent):
        each.chmod(0o700)
    with SlotAllocator.create(place / "0123456789abcdef.flink", 4, 64):
        (facts,) = inspect("raw").publishers
        assert (facts.type_name, facts.sample_bytes) == ("bytes", 0)
        with pytest.raises(TopicNotFoundError):
            schema_of("raw")


@pytest.mark.row("SEC-4")
@pytest.mark.parametrize("section", [each for each in SECTIONS if each != "schema"])
@pytest.mark.parametrize("byte", [0xFF, 0x7F])
def test_garbage_in_a_segment_is_shown_or_left_out(section: str, byte: int) -> None:
    """Looking never raises anything but what it says, whatever lies there."""
    with Publisher("t", Tick) as pub, Subscriber("t", Tick) as sub:
        pub.publish(Tick(n=1))
        lease = sub.take()
        control = ControlBytes(pub.flink)
        begin, end = control.at(section), control.at(SECTIONS[SECTIONS.index(section) + 1])
        control.write_bytes(begin, bytes([byte]) * (end - begin))
        found: Any = topics()
        assert [each.topic for each in found] == ["t"]
        assert isinstance(repr(found), str)
        del lease
        if section == "active":
            control.write(begin, "Q", 0)


@pytest.mark.row("SEC-4")
def test_a_header_of_garbage_is_left_out() -> None:
    """As a segment that is none."""
    with Publisher("t", Tick) as pub, Publisher("t", Tick) as good:
        control = ControlBytes(pub.flink)
        control.write_bytes(8, b"\xff" * 200)
        assert [each.publisher_id for each in inspect("t").publishers] == [good.publisher_id]


@pytest.mark.row("SEC-4")
def test_a_garbage_name_is_shown_with_replacements() -> None:
    """And a pid that cannot be has no command."""
    with Publisher("t", Tick) as pub, Subscriber("t", Tick):
        control = ControlBytes(pub.flink)
        control.write_bytes(control.at("peers"), b"\xff" * PEER_SIZE)
        (peer,) = inspect("t").publishers[0].subscribers
        assert (peer.pid, peer.command, peer.stopped) == (2**32 - 1, "", False)


@pytest.mark.row("SUB-16")
def test_inspect_shows_that_a_publisher_is_overdue() -> None:
    """Also to a process that does not subscribe: the period, and whether it has passed since the newest sample."""
    with zs.Publisher("late", Tick, max_period=1e-9), zs.Publisher("prompt", Tick, max_period=3600):
        with zs.Publisher("free", Tick):
            seen = {facts.topic: facts.publishers[0] for facts in zs.topics()}
    assert {topic: (facts.max_period_s, facts.overdue) for topic, facts in seen.items()} == {
        "late": (1e-9, True),
        "prompt": (3600.0, False),
        "free": (None, False),
    }
