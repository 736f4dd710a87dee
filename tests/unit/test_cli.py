"""The command line: what it says, what it ends with, and what it needs."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from typing import Annotated

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from zeroslot.cli.figures import Histogram, as_bytes, as_time, median, percentiles
from zeroslot.cli.processes import ChildError, Children


class Imu(zs.Sample):
    stamp_ns: zs.U64
    accel: Annotated[NDArray[np.float64], zs.Shape(3)]


def zeroslot(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "zeroslot", *arguments], capture_output=True, text=True)


def test_version_is_that_of_the_distribution():
    done = zeroslot("--version")
    assert (done.returncode, done.stdout.split()) == (0, ["zeroslot", zs.__version__])


def test_another_missing_module_is_not_blamed_on_the_extra():
    """A broken installation is a traceback, not a wrong advice."""
    program = "import sys; sys.modules['zeroslot.cli.app'] = None\nfrom zeroslot.cli import main\nsys.exit(main())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode != 0
    assert "pip install" not in done.stderr


def test_list_shows_every_live_topic():
    with zs.Publisher("robot/imu", Imu) as imu, zs.Publisher("robot/other", Imu), zs.Subscriber("robot/imu", Imu):
        imu.publish(Imu(stamp_ns=1, accel=np.zeros(3)))
        done = zeroslot("list")
        (first, second) = json.loads(zeroslot("list", "--json").stdout)
    assert done.returncode == 0
    assert "robot/imu" in done.stdout
    assert "robot/other" in done.stdout
    assert (first["topic"], second["topic"]) == ("robot/imu", "robot/other")
    (publisher,) = first["publishers"]
    assert (publisher["published"], publisher["type_name"], len(publisher["subscribers"])) == (1, "Imu", 1)


def test_list_of_nothing_is_no_error():
    done = zeroslot("list")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(zeroslot("list", "--json").stdout) == []


def test_list_looks_into_one_domain():
    with zs.Publisher("robot/imu", Imu, domain="lab"):
        assert json.loads(zeroslot("list", "--json").stdout) == []
        (found,) = json.loads(zeroslot("list", "--json", "--domain", "lab").stdout)
    assert found["domain"] == "lab"


def test_info_shows_what_each_subscriber_holds():
    with zs.Publisher("robot/imu", Imu, name="driver") as publisher, zs.Subscriber("robot/imu", Imu, name="log") as log:
        publisher.publish(Imu(stamp_ns=1, accel=np.zeros(3)))
        lease = log.take()
        text = zeroslot("info", "robot/imu").stdout
        facts = json.loads(zeroslot("info", "robot/imu", "--json").stdout)
        assert lease is not None
        lease.release()
    assert "driver" in text
    assert "log" in text
    ((subscriber,),) = (one["subscribers"] for one in facts["publishers"])
    assert (subscriber["name"], subscriber["taken"], subscriber["held"]) == ("log", 1, 1)


def test_info_of_no_topic_is_one_line_on_stderr():
    done = zeroslot("info", "robot/nothing")
    assert (done.returncode, done.stdout) == (1, "")
    assert "robot/nothing" in done.stderr
    assert "Traceback" not in done.stderr


def test_bench_refuses_a_name_it_does_not_know():
    done = zeroslot("bench", "warp")
    assert done.returncode == 2
    assert "warp" in done.stderr
    assert "latency" in done.stderr


def test_bench_prints_the_machine_and_the_figures_as_json():
    """It measures for real, in processes of its own."""
    done = zeroslot("bench", "attach", "calls", "--quick", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"cpu", "cores", "kernel", "python", "versions"} <= found["machine"].keys()
    assert {row["measurement"] for row in found["rows"]} == {"attach", "calls"}
    for row in found["rows"]:
        assert row["figures"]["p50"] > 0


# --- children


def test_a_child_that_fails_is_an_error_with_its_text():
    with Children() as children:
        child = children.start("zeroslot.cli.bench.workers", "the worker", task="no such task")
        with pytest.raises(ChildError, match=r"(?s)the worker .*no such task"):
            children.receive(child)


def test_children_end_with_their_group(tmp_path, monkeypatch):
    """Leaving the group ends children that wait for orders, and those that never read one."""
    (tmp_path / "endless.py").write_text(
        "from zeroslot.cli.processes import serve\n"
        "def spin(parent):\n"
        "    parent.send('spinning')\n"
        "    while True: pass\n"
        "def wait(parent):\n"
        "    parent.send('waiting')\n"
        "    assert parent.receive() is None\n"
        "raise SystemExit(serve({'spin': spin, 'wait': wait}))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with Children() as children:
        both = [children.start("endless", task, task=task) for task in ("spin", "wait")]
        assert [children.receive(child) for child in both] == ["spinning", "waiting"]
    assert [child.status for child in both] == [130, 0]


# --- figures


def test_percentiles_are_the_nearest_ranks():
    found = percentiles(range(1, 1001))
    assert found == {"p50": 500, "p90": 900, "p99": 990, "p99_9": 999, "max": 1000}
    assert set(percentiles([7]).values()) == {7}
    assert median([3, 1, 2]) == 2


def test_histogram_percentiles_are_within_two_percent():
    rng = random.Random(1)
    values = [int(10 ** rng.uniform(0, 10)) for _ in range(5000)]
    whole, half = Histogram(), Histogram()
    for value in values[:2500]:
        whole.add(value)
    for value in values[2500:]:
        half.add(value)
    whole.update(json.loads(json.dumps(half.pairs())))
    exact = percentiles(values)
    for name, part in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        assert whole.at(part) == pytest.approx(exact[name], rel=0.02)


def test_an_empty_histogram_has_no_percentile():
    assert Histogram().at(0.5) is None
    assert as_time(None) == "-"


def test_a_negative_time_counts_as_zero():
    histogram = Histogram()
    histogram.add(-5)
    assert histogram.at(1.0) == 0


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 ns"), (999, "999 ns"), (1500, "1.5 us"), (2_500_000, "2.5 ms"), (3e9, "3.0 s")]
)
def test_times_are_in_the_unit_that_suits_them(value, text):
    assert as_time(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (64, "64 B"),
        (4096, "4 KiB"),
        (8 << 20, "8 MiB"),
        (1500, "1.5 kB"),
        (2.5e9, "2.50 GB"),
        (1_120_533 << 10, "1.15 GB"),
        (5 << 30, "5.37 GB"),
        (4096.0, "4.1 kB"),
    ],
)
def test_sizes_are_in_the_unit_that_suits_them(value, text):
    assert as_bytes(value) == text


# --- the demo's proof


def test_the_demo_sees_a_torn_sample():
    """What it counts as whole is whole: any part of another sample shows."""
    from zeroslot.cli.demo import samples

    topics = (
        (samples.Imu, samples.fill_imu, samples.imu_is_whole),
        (samples.Frame, samples.fill_frame, samples.frame_is_whole),
    )
    for sample_type, fill, is_whole in topics:
        with zs.Publisher("demo/torn", sample_type) as publisher, zs.Subscriber("demo/torn", sample_type) as subscriber:
            for torn in (False, True):
                with publisher.loan() as sample:
                    fill(sample, publisher.sequence + 1)
                    if torn and sample_type is samples.Imu:
                        sample.orientation[2] += 1
                    elif torn:
                        sample.pixels[540, 3, 1] ^= 1
                lease = subscriber.take()
                assert lease is not None
                assert is_whole(lease.sample, lease.sequence) is not torn
                assert not is_whole(lease.sample, lease.sequence + 1)


def test_the_demo_counts_rates():
    from zeroslot.cli.demo.screen import Rate

    rate = Rate()
    assert rate.per_second == 0
    now = time.monotonic_ns()
    for quarter in range(9):
        rate.note(250 * quarter, now + quarter * 250_000_000)
    assert rate.per_second == pytest.approx(1000)
