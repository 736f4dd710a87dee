"""Rates from snapshots, periods from samples: exact whatever lies between two looks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import zeroslot as zs
from zeroslot.cli.rates import Rate, Seen, rate_now, rate_of

NOTHING = zs.PublisherSnapshot(
    topic="t", publisher_id="0" * 16, flink=Path("t"), name="p", pid=1, type_name="T", sample_bytes=8, depth=8,
    on_full="evict", max_period_s=None, published=0, bytes=0, sequence=0, newest_ns=0, age_s=None, counters={},
    pools=(), subscribers=(),
)  # fmt: skip  # a row is a row


def after(samples: int, newest_ns: int, age_s: float = 0.0) -> zs.PublisherSnapshot:
    return replace(NOTHING, published=samples, bytes=8 * samples, sequence=samples, newest_ns=newest_ns, age_s=age_s)


@pytest.mark.row("NEW-8")
def test_a_rate_is_that_of_the_samples_between_two_looks() -> None:
    """By their own times, and not by when the looks were."""
    rate = Rate(after(100, 1_000_000_000))
    measured = rate.update(after(300, 3_000_000_000), 17.0)
    assert (measured.rate_hz, measured.samples, measured.mean_bytes, measured.bytes_per_s) == (100.0, 200, 8.0, 800.0)
    assert measured.span == ((100, 1_000_000_000), (300, 3_000_000_000))
    assert rate.update(after(301, 3_500_000_000), 17.0).rate_hz == 2.0
    assert rate.update(after(301, 3_500_000_000), 17.0).span is None


def test_a_rate_falls_while_nothing_comes() -> None:
    """At most one sample since the last; none after four periods."""
    rate = Rate(after(100, 1_000_000_000))
    assert rate.update(after(110, 2_000_000_000), 1.0).rate_hz == 10.0
    assert rate.update(after(110, 2_000_000_000, age_s=0.05), 0.05).rate_hz == 10.0
    assert rate.update(after(110, 2_000_000_000, age_s=0.2), 0.1).rate_hz == 5.0
    assert rate.update(after(110, 2_000_000_000, age_s=0.5), 0.1).rate_hz == 0.0
    assert rate.update(after(110, 2_000_000_000, age_s=0.5), 1.0).rate_hz == 2.0
    assert rate.update(after(112, 4_000_000_000), 1.0).rate_hz == 1.0


def test_a_publisher_without_two_samples_has_no_rate() -> None:
    """Until the second one."""
    rate = Rate(NOTHING)
    assert rate.update(NOTHING, 1.0).rate_hz is None
    assert rate.update(after(1, 5), 1.0).rate_hz is None
    assert rate.update(after(2, 1_000_000_005), 1.0).rate_hz == 1.0


def test_a_newest_sample_that_cannot_be_read_moves_nothing() -> None:
    """The next look measures from the one before."""
    rate = Rate(after(100, 1_000_000_000))
    unread = replace(after(200, 0), sequence=0)
    rate.update(unread, 1.0)
    assert rate.update(after(300, 3_000_000_000), 1.0).rate_hz == 100.0


def test_the_first_rate_is_that_of_the_samples_that_are_kept() -> None:
    """Of at least two."""
    kept = [zs.SampleFacts(number, 500 * number, 8) for number in range(5, 9)]
    assert rate_of(kept) == pytest.approx(2_000_000)
    assert rate_of(kept[:1]) is None
    assert rate_of([]) is None
    assert Rate(after(8, 4000), kept).update(after(8, 4000), 1.0).rate_hz == pytest.approx(2_000_000)


def test_periods_are_of_samples_that_follow_each_other() -> None:
    """A gap is no period; the sizes are of all that were seen."""
    seen = Seen()
    seen.add([zs.SampleFacts(1, 100, 8), zs.SampleFacts(2, 110, 9)])
    seen.add([zs.SampleFacts(3, 130, 8), zs.SampleFacts(7, 900, 8)])
    assert seen.periods_ns == [10, 20]
    assert seen.sizes == [8, 9, 8, 8]
    assert seen.last_sequence == 7
    assert seen.deviation_ns == pytest.approx(50**0.5)
    seen.clear()
    seen.add([zs.SampleFacts(8, 905, 8)])
    assert seen.periods_ns == [5]
    assert seen.deviation_ns is None


def test_the_rate_of_one_look_falls_with_a_long_silence() -> None:
    """A pause of a busy machine is none."""
    kept = [zs.SampleFacts(number, 1_000_000 * number, 8) for number in range(1, 9)]
    assert rate_now(kept, None) == pytest.approx(1000)
    assert rate_now(kept, 0.1) == pytest.approx(1000)
    assert rate_now(kept, 70.0) == pytest.approx(0.1)
    assert rate_now(kept[:1], 0.1) is None
