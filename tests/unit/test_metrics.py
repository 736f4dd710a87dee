"""`MetricsCollector` and `zeroslot metrics`: every counter as a Prometheus metric, and sums that never get smaller."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import zeroslot as zs
from zeroslot.observe.accumulated import Accumulated
from zeroslot.observe.metrics import PUBLISHER_COUNTERS


class Tick(zs.Sample):
    number: int = 0


LABELS = ("topic", "publisher", "publisher_pid", "subscriber", "subscriber_pid", "slot_bytes", "kind", "le")


def parsed(text: str) -> dict[tuple[str, ...], float]:
    """The samples of an exposition: the name and the values of the labels, without the domain."""
    return {
        (sample.name, *(sample.labels[name] for name in LABELS if name in sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(collector: zs.MetricsCollector) -> dict[tuple[str, ...], float]:
    registry = CollectorRegistry()
    registry.register(collector)
    return parsed(generate_latest(registry).decode())


@pytest.mark.row("OBS-4", "OBS-1", "OBS-2")
def test_all_counters_of_publishers_and_subscribers_are_metrics():
    """With the values that the handles have themselves."""
    with (
        zs.MetricsCollector() as collector,
        zs.Publisher("robot/imu", Tick, name="driver", depth=2, max_period=60) as pub,
        zs.Subscriber("robot/imu", Tick, name="log") as sub,
    ):
        for number in range(5):
            pub.publish({"number": number})
        lease = sub.take()
        pub.loan().discard()
        found = scraped(collector)
        stats = pub.stats
        for counter, (name, _, factor) in PUBLISHER_COUNTERS.items():
            expected = getattr(stats, counter) * factor
            assert found[f"zeroslot_{name}_total", "robot/imu", "driver"] == pytest.approx(expected)
        assert found["zeroslot_published_samples_total", "robot/imu", "driver"] == 5
        assert found["zeroslot_discarded_loans_total", "robot/imu", "driver"] == 1
        peer = ("robot/imu", "driver", "log")
        taken, lost, held = (
            found[f"zeroslot_{name}", *peer] for name in ("taken_samples_total", "lost_samples_total", "held_samples")
        )
        assert (taken, lost, held) == (1, 3, 1)
        assert found["zeroslot_behind_samples", *peer] == 1
        assert found["zeroslot_lag_seconds", *peer] > 0
        assert found["zeroslot_max_period_seconds", "robot/imu", "driver"] == 60
        assert found["zeroslot_memory_bytes", "robot/imu", "driver"] == sum(pool.size_bytes for pool in stats.pools)
        (pool,) = stats.pools
        assert found["zeroslot_pool_slots", "robot/imu", "driver", str(pool.slot_capacity)] == pool.slot_count
        assert pub.subscriber_count == 1  # a collector takes no entry
        assert lease is not None
        lease.release()


@pytest.mark.row("OBS-4")
def test_latencies_are_a_histogram():
    """Of one take in 64; cumulative, with a sum that fits its buckets."""
    with (
        zs.MetricsCollector() as collector,
        zs.Publisher("t", Tick, name="p") as pub,
        zs.Subscriber("t", name="s") as sub,
    ):
        for number in range(640):
            pub.publish({"number": number})
            lease = sub.take()
            assert lease is not None
            lease.release()
        found = scraped(collector)
        buckets = {key[-1]: value for key, value in found.items() if key[0] == "zeroslot_latency_seconds_bucket"}
        counts = [buckets[end] for end in sorted(buckets, key=float)]
        assert counts == sorted(counts)
        assert counts[-1] == found["zeroslot_latency_seconds_count", "t", "p", "s"] == 10
        total = found["zeroslot_latency_seconds_sum", "t", "p", "s"]
        with zs.Monitor("t") as monitor:
            latency = monitor.snapshot().publishers[0].subscribers[0].latency
        assert 0 < total <= 10 * latency.max_ns * 1.25 / 1e9
        ends = [float(end) for end in buckets if end != "+Inf"]
        assert sum(latency.counts[:9]) == buckets[str(min(ends))]


@pytest.mark.row("OBS-4")
def test_a_restart_makes_no_new_time_series():
    """Labels are names. With process ids it does, for those who ask."""
    series = []
    with zs.MetricsCollector() as collector, zs.MetricsCollector(with_pid=True) as with_pid:
        for _ in range(2):
            with zs.Publisher("t", Tick, name="p") as pub, zs.Subscriber("t", Tick, name="s"):
                pub.publish({"number": 1})
                series.append(set(scraped(collector)))
                assert any(str(os.getpid()) in key for key in scraped(with_pid))
    assert series[0] == series[1]


@pytest.mark.row("OBS-4")
def test_a_sum_does_not_get_smaller_when_a_process_of_the_same_name_ends():
    """As long as another one lives; after that it begins anew."""
    key = ("zeroslot_published_samples_total", "t", "p")
    with zs.MetricsCollector() as collector:
        with zs.Publisher("t", Tick, name="p") as one:
            with zs.Publisher("t", Tick, name="p") as two:
                for pub, count in ((one, 2), (two, 3)):
                    for number in range(count):
                        pub.publish({"number": number})
                found = scraped(collector)
                assert (found[key], found["zeroslot_publishers", "t", "p"]) == (5, 2)
            found = scraped(collector)
            assert (found[key], found["zeroslot_publishers", "t", "p"]) == (5, 1)
            one.publish({"number": 3})
            assert scraped(collector)[key] == 6
        assert key not in scraped(collector)
        with zs.Publisher("t", Tick, name="p") as pub:
            pub.publish({"number": 1})
            assert scraped(collector)[key] == 1


def test_what_ended_counts_once_also_when_it_comes_back(monkeypatch: pytest.MonkeyPatch):
    """A source that could not be read for a moment; and however many have ended."""
    monkeypatch.setattr("zeroslot.observe.accumulated._REMEMBERED", 3)
    sums = Accumulated()
    labels = ("a",)
    assert sums.update({1: (labels, (5, 1)), 2: (labels, (7, 0))}) == {labels: (12, 1)}
    assert sums.update({2: (labels, (8, 0))}) == {labels: (13, 1)}
    assert sums.update({1: (labels, (6, 1)), 2: (labels, (8, 0))}) == {labels: (14, 1)}
    for number in range(3, 13):  # ten more that end: more than are remembered one by one
        assert sums.update({2: (labels, (8, 0)), number: (labels, (1, 0))})[labels] == (14 + number - 2, 1)
    assert sums.update({2: (labels, (9, 0))}) == {labels: (25, 1)}
    assert sums.update({9999: (("b",), (1, 1))}) == {("b",): (1, 1)}
    assert sums.update({2: (labels, (9, 0))}) == {labels: (9, 0)}


def test_what_cannot_be_read_is_a_metric():
    """A foreign file in the domain; the others are still there."""
    with zs.MetricsCollector() as collector, zs.Publisher("t", Tick, name="p") as pub:
        foreign = pub.flink.with_name("0" * 16 + ".flink")
        foreign.write_text("/etc/passwd")
        found = scraped(collector)
        assert found["zeroslot_problems", "foreign"] == 1
        assert found["zeroslot_publishers", "t", "p"] == 1
        foreign.unlink()


def test_a_collector_of_one_topic_has_that_one():
    with zs.MetricsCollector("a") as collector, zs.Publisher("a", Tick, name="p"), zs.Publisher("b", Tick, name="p"):
        assert {key[1] for key in scraped(collector) if key[0] == "zeroslot_publishers"} == {"a"}
    with pytest.raises(zs.ClosedError):
        list(collector.collect())


def test_without_prometheus_client_the_constructor_says_what_to_install():
    """And the command, in one line."""
    program = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "import zeroslot as zs\n"
        "try: zs.MetricsCollector()\n"
        "except ModuleNotFoundError as error: print(error)\n"
        "from zeroslot.cli import main\nsys.argv[1:] = ['metrics']\nsys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, "zeroslot[metrics]" in done.stdout) == (1, True)
    assert done.stderr.splitlines() == [f"zeroslot: {done.stdout.strip()}"]


# --- the command


def run_metrics(*arguments: str) -> str:
    command = [sys.executable, "-W", "error", "-m", "zeroslot", "metrics", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.row("OBS-4")
def test_the_command_serves_on_loopback_alone_and_ends_by_ctrl_c():
    """What a scrape gets is what `--once` prints."""
    with zs.Publisher("robot/imu", Tick, name="driver") as pub:
        pub.publish({"number": 1})
        command = [sys.executable, "-W", "error", "-m", "zeroslot", "metrics", "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:")
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(address) as answer:
                found = parsed(answer.read().decode())
            process.send_signal(signal.SIGINT)
            _, err = process.communicate()
        assert (process.returncode, err) == (130, "")
        assert found["zeroslot_published_samples_total", "robot/imu", "driver"] == 1
        assert set(parsed(run_metrics("--once"))) == set(found)
        facts = json.loads(run_metrics("--json"))
        assert {fact["name"] for fact in facts} >= {key[0] for key in found if not key[0].endswith("_created")}


def test_a_port_that_is_taken_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "zeroslot", "metrics", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert re.search(r"127\.0\.0\.1:\d+: Address already in use\. --port chooses", done.stderr)
