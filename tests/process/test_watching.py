"""The commands that watch live topics: their figures are right, they take no part, and their pictures behave."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import zeroslot as zs
from tests.children import Child, Children
from tests.process.actors import Cast
from tests.process.samples import Tick
from tests.terminal import Terminal
from tests.unit.control_bytes import ControlBytes

TOPIC = "robot/imu"
HZ = 200.0
COMMAND = [sys.executable, "-W", "error", "-m", "zeroslot"]


def publish(topic: str, hz: float) -> None:
    """At a rate that holds on average, until the parent says stop; then the rate of all samples but the first."""
    import threading
    import time

    import zeroslot as zs

    class Tick(zs.Sample):
        number: zs.U64

    with zs.Publisher(topic, Tick, name="driver", depth=64) as pub:
        stop = threading.Event()
        threading.Thread(target=lambda: (hear(), stop.set()), daemon=True).start()  # noqa: F821  # in the child
        began = time.monotonic()
        pub.send(number=0)
        say("ready")  # noqa: F821  # defined in the child
        number = 0
        while not stop.is_set():
            number += 1
            time.sleep(max(0.0, began + number / hz - time.monotonic()))
            pub.send(number=number)


def subscribe(topic: str, name: str) -> None:
    """Take everything, until the parent says stop."""
    import threading

    import zeroslot as zs

    with zs.Subscriber(topic, name=name) as sub:
        stop = threading.Event()
        threading.Thread(target=lambda: (hear(), stop.set()), daemon=True).start()  # noqa: F821  # in the child
        sub.wait_for_publishers(1)
        counted = 0
        while not stop.is_set():
            lease = sub.take(timeout=0.1)
            if lease is not None:
                lease.release()
                counted += 1
                if counted == 256:
                    say("took")  # noqa: F821  # defined in the child


@pytest.fixture
def live(run_child: Children) -> Iterator[list[Child]]:
    """A publisher and a subscriber of TOPIC, under way: the subscriber has counted latencies."""
    pub = run_child(publish, TOPIC, HZ)
    pub.expect("ready")
    sub = run_child(subscribe, TOPIC, "viewer")
    sub.expect("took")
    yield [pub, sub]
    for child in (pub, sub):
        child.finish()


def zeroslot(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True)


def answer(*arguments: str) -> list[dict]:
    """The JSON that a command prints: an object, or one a line."""
    done = zeroslot(*arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    try:
        return [json.loads(done.stdout)]
    except json.JSONDecodeError:
        return [json.loads(line) for line in done.stdout.splitlines()]


# --- hz and bw


@pytest.mark.row("NEW-8")
def test_hz_shows_the_true_rate(live: list[Child]) -> None:
    """To the last digit: by the sequences and times with which a subscriber gets the two samples."""
    times: dict[int, int] = {}
    ended = threading.Event()

    def record() -> None:
        while not ended.is_set():
            lease = sub.take(timeout=0.1)
            if lease is not None:
                times[lease.sequence] = lease.published_ns
                lease.release()

    with zs.Subscriber(TOPIC) as sub:
        assert sub.wait_for_publishers(1)
        thread = threading.Thread(target=record)
        thread.start()
        reports = answer("hz", TOPIC, "--times", "5", "--interval", "0.2")
        ended.set()
        thread.join()
    known = 0
    for report in reports:
        (shown,) = report["publishers"]
        assert shown["pid"] == live[0].pid
        assert report["rate_hz"] == shown["rate_hz"]
        assert shown["periods"]["seen"] == 0 or shown["periods"]["min_ns"] > 0
        sequences = [each["sequence"] for each in shown["between"]]
        if sequences and set(sequences) <= times.keys():  # on a busy machine some are lost, or none comes
            known += 1
            first, last = sequences
            assert shown["rate_hz"] == pytest.approx((last - first) * 1e9 / (times[last] - times[first]))
    assert known


@pytest.mark.row("NEW-8")
def test_bw_is_the_rate_times_the_size(live: list[Child]) -> None:
    """Eight bytes a sample."""
    ((shown,),) = (report["publishers"] for report in answer("bw", TOPIC, "--once", "--interval", "0.3"))
    assert shown["bytes_per_s"] == pytest.approx(8 * shown["rate_hz"])
    assert (shown["sizes"]["min_bytes"], shown["sizes"]["max_bytes"]) == (8, 8)


@pytest.mark.parametrize("verb", ["hz", "bw"])
def test_a_publisher_that_ends_is_a_line_and_status_1(verb: str, run_child: Children) -> None:
    """And one that comes is shown again."""
    child = run_child(publish, TOPIC, HZ)
    child.expect("ready")
    with subprocess.Popen([*COMMAND, verb, TOPIC, "-i", "0.1"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any("driver" in line for line in lines)
        child.finish()
        assert any("no publisher" in line for line in lines)
        another = run_child(publish, TOPIC, HZ)
        another.expect("ready")
        assert any("driver" in line for line in lines)
        another.finish()
        assert any("no publisher" in line for line in lines)
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 130


# --- latency, stat


@pytest.mark.row("OBS-9", "NEW-8")
def test_latency_has_the_percentiles_that_the_subscriber_counted(live: list[Child]) -> None:
    """Of one take in 64, each with the ends of its bucket; as a table with a histogram."""
    (found,) = answer("latency", TOPIC)
    (shown,) = found["subscribers"]
    assert (shown["name"], shown["pid"], found["every"]) == ("viewer", live[1].pid, 64)
    assert shown["counted"] >= 4
    times = shown["latency_ns"]
    assert 0 < times["p50"] <= times["p90"] <= times["p99"] <= times["p99_9"]
    for name, (low, high) in shown["bucket_ns"].items():
        assert low <= times[name] <= high <= max(1.26 * low, 16)
    text = zeroslot("latency", TOPIC).stdout
    assert re.search(r"viewer +\d+ .*(ns|us|ms|s) ", text)
    assert "One take in 64 is counted" in text
    assert "█" in text


def test_latency_names_the_publisher_where_there_are_several() -> None:
    """A subscriber has a line for each publisher that it reads."""

    class Tick(zs.Sample):
        n: zs.U32 = 0

    with (
        zs.Publisher("t", Tick, name="one") as one,
        zs.Publisher("t", Tick, name="two") as two,
        zs.Subscriber("t", Tick, name="reader") as reader,
    ):
        assert reader.wait_for_publishers(2)
        one.publish(Tick(n=1))
        two.publish(Tick(n=2))
        text = zeroslot("latency", "t").stdout
    assert re.search(r"^publisher  subscriber ", text, re.MULTILINE)
    assert len(re.findall(r"^(?:one|two) +reader ", text, re.MULTILINE)) == 2


def test_latency_of_an_interval_is_what_was_counted_in_it(live: list[Child]) -> None:
    """Not what was before."""

    def counted(report: dict) -> int:
        (shown,) = report["subscribers"]
        return shown["counted"]

    (before,) = answer("latency", TOPIC)
    first, second = answer("latency", TOPIC, "--interval", "0.7", "--times", "2")
    (after,) = answer("latency", TOPIC)
    assert counted(before) >= 4
    assert counted(first) + counted(second) <= counted(after) - counted(before)
    assert first["seconds"] < second["seconds"]


@pytest.mark.row("OBS-1", "OBS-2")
def test_stat_has_every_counter(live: list[Child]) -> None:
    """The publisher's, its pools', and what each subscriber has taken and lost."""
    (found,) = answer("stat", TOPIC)
    (shown,) = found["publishers"]
    names = {"published", "bytes", "discarded", "no_free_slot", "wakes", "reaped", "evicted", "blocked", "blocked_ns"}
    assert set(shown["counters"]) == names
    (peer,) = shown["subscribers"]
    assert peer["name"] == "viewer"
    assert peer["taken"] + peer["lost"] > 0
    text = zeroslot("stat").stdout
    for word in ("no free slot", "blocked for", "of all", "passed on", "viewer", "driver"):
        assert word in text


# --- taking no part


@pytest.mark.row("OBS-9", "NEW-8")
def test_no_watching_command_changes_a_byte_of_the_segment() -> None:
    """No entry of the peer table, no bit, no lock that another sees."""

    class Tick(zs.Sample):
        n: zs.U32 = 0

    with zs.Publisher("t", Tick, max_subscribers=1) as pub:
        pub.publish(Tick())
        control = ControlBytes(pub.flink)
        before = control.path.read_bytes()
        for words in (
            ["hz", "t", "--once", "-i", "0.1"], ["bw", "t", "--once", "-i", "0.1"], ["latency", "t"], ["stat"],
            ["top", "--once"], ["list"], ["list", "-v"], ["info", "t"], ["doctor", "t"], ["graph"],
        ):  # fmt: skip  # a row is a row
            assert zeroslot(*words).returncode == 0, words
        assert control.path.read_bytes() == before


@pytest.mark.row("SEG-23")
@pytest.mark.parametrize("verb", ["hz", "bw", "latency", "stat", "top", "info"])
def test_what_cannot_be_read_is_a_line_of_the_answer(verb: str) -> None:
    """Another format and a broken header, beside a publisher that is read; and status 1 where there is none."""

    class Tick(zs.Sample):
        n: zs.U32 = 0

    words = {"hz": ["t", "--once", "-i", "0.1"], "bw": ["t", "--once", "-i", "0.1"], "top": ["--once"]}.get(verb, ["t"])
    good = zs.Publisher("t", Tick)
    with zs.Publisher("t", Tick) as foreign, zs.Publisher("t", Tick) as broken:
        ControlBytes(foreign.flink).write(8, "I", 77)
        ControlBytes(broken.flink).write_bytes(12, b"\xff" * 90)
        with good:
            done = zeroslot(verb, *words)
            assert (done.returncode, done.stderr) == (0, "")
            assert str(foreign.flink) in done.stdout
            assert str(broken.flink) in done.stdout
            (found,) = answer(verb, *words)
            assert {each["kind"] for each in found["problems"]} == {"foreign", "corrupt"}
        done = zeroslot(verb, *words)
        assert done.returncode == (0 if verb == "top" else 1)
        assert str(foreign.flink) in done.stdout
        assert "Traceback" not in done.stderr


# --- top


@pytest.mark.row("NEW-8", "OBS-9")
def test_top_shows_rates_and_what_each_subscriber_takes(live: list[Child]) -> None:
    """Live, on the alternate screen; q ends it with status 0, and the terminal is as it was."""
    with Terminal("top", "--interval", "0.2", columns=120) as terminal:
        terminal.wait_for(lambda: "█" in terminal.line_of(TOPIC))
        assert "Tick" in terminal.line_of(TOPIC)
        assert "viewer" in terminal.text
        assert str(live[1].pid) in terminal.line_of("viewer")
        assert "q quit" in terminal.lines[-1]
        terminal.type("q")
        assert terminal.end() == 0
        assert terminal.is_restored


def test_top_sorts_filters_and_folds_by_keys(run_child: Children) -> None:
    """Each key shows at once, also between two looks."""
    rates = {"slow": 20.0, "fast": 100.0, "middle": 50.0}
    children = [run_child(publish, topic, hz) for topic, hz in rates.items()]
    for child in children:
        child.expect("ready")
    children.append(run_child(subscribe, "slow", "viewer"))
    with Terminal("top", "--interval", "0.5", columns=120) as terminal:

        def shown() -> list[str]:
            words = [line.split()[0] for line in terminal.lines if line.split()]
            return [word for word in words if word in rates]

        terminal.wait_for(lambda: "viewer" in terminal.text and "█" in terminal.line_of("middle"))
        assert shown() == ["fast", "middle", "slow"]
        terminal.type("r")
        terminal.wait_for(lambda: shown() == ["fast", "middle", "slow"] and "rate▾" in terminal.text)
        terminal.type("r")
        terminal.wait_for(lambda: shown() == ["slow", "middle", "fast"] and "rate▴" in terminal.text)
        terminal.type("s")
        terminal.wait_for(lambda: "viewer" not in terminal.text)
        terminal.type("/mid\r")
        terminal.wait_for(lambda: shown() == ["middle"])
        terminal.type("\x1b")
        terminal.wait_for(lambda: len(shown()) == 3)
        terminal.type(" ")
        terminal.wait_for(lambda: "paused" in terminal.text)
        terminal.type("q")
        assert terminal.end() == 0
    for child in children:
        child.finish()


def test_top_scrolls_where_there_are_more_topics_than_lines() -> None:
    """Down, and to the end."""

    class Tick(zs.Sample):
        n: zs.U32 = 0

    topics = [f"t{number:02d}" for number in range(30)]
    pubs = [zs.Publisher(topic, Tick) for topic in topics]
    with Terminal("top", lines=10) as terminal:
        terminal.wait_for(lambda: "t06" in terminal.text)
        assert "t07" not in terminal.text
        assert "1-7 of 30" in terminal.lines[-1]
        terminal.type("\x1b[B")
        terminal.wait_for(lambda: "t07" in terminal.text and "t00" not in terminal.text)
        terminal.type("\x1b[F")
        terminal.wait_for(lambda: "t29" in terminal.text)
        terminal.type("q")
        assert terminal.end() == 0
    for pub in pubs:
        pub.close()


def test_top_fits_narrow_terminals_and_follows_their_size(live: list[Child]) -> None:
    """60 columns, then 100; no line is longer, and none wraps."""
    with Terminal("top", "--interval", "0.2", columns=60, lines=12) as terminal:
        terminal.wait_for(lambda: ("viewer" in terminal.text and "▂" in terminal.text) or "█" in terminal.text)
        assert "type" not in terminal.lines[1]
        assert "q quit" in terminal.lines[-1]
        cleared = terminal.raw.count(b"\x1b[2J")
        terminal.resize(100, 30)
        terminal.wait_for(lambda: "type" in terminal.lines[1] and "q quit" in terminal.lines[29])
        assert terminal.raw.count(b"\x1b[2J") == cleared + 1
        assert sum(TOPIC in line for line in terminal.lines) == 1
        terminal.type("q")
        assert terminal.end() == 0


@pytest.mark.parametrize(("columns", "lines"), [(8, 3), (1, 1)])
def test_top_lives_in_a_terminal_of_hardly_any_columns(columns: int, lines: int, live: list[Child]) -> None:
    """As while a window is dragged, with more topics than lines."""
    with Terminal("top", "--interval", "0.1", columns=columns, lines=lines) as terminal:
        for _ in range(3):
            drawn = terminal.raw.count(b"\x1b[?2026h")
            terminal.resize(columns + 1 - drawn % 2, lines)
            terminal.wait_for(lambda: terminal.raw.count(b"\x1b[?2026h") > drawn)  # noqa: B023  # called in the loop
        terminal.type("q")
        assert terminal.end() == 0


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_top_gives_the_terminal_back_when_a_signal_ends_it(number: signal.Signals, status: int) -> None:
    """By the statuses that shells know."""
    with Terminal("top") as terminal:
        terminal.wait_for(lambda: "no topic" in terminal.text)
        terminal.process.send_signal(number)
        assert terminal.end() == status
        assert terminal.is_restored


def test_ctrl_z_shows_the_shell_and_fg_the_picture() -> None:
    """A shell with job control, which continues it at once."""
    with Terminal("top", shell='set -m; "$@"; fg; exit $?') as terminal:
        terminal.wait_for(lambda: "no topic" in terminal.text)
        terminal.type("\x1a")
        terminal.wait_for(lambda: terminal.raw.count(b"\x1b[?1049h") == 2 and "no topic" in terminal.text)
        between = terminal.raw.partition(b"\x1b[?1049l")[2].partition(b"\x1b[?1049h")[0]
        assert b"topped" in between
        terminal.type("q")
        assert terminal.end() == 0
        assert terminal.is_restored


def test_top_ends_when_its_terminal_goes() -> None:
    """As when a window is closed."""
    with Terminal("top") as terminal:
        terminal.wait_for(lambda: "no topic" in terminal.text)
        terminal.hang_up()
        assert terminal.process.wait() in {1, 129}


@pytest.mark.parametrize("words", [["top"], ["stat"], ["hz", "t", "--once"], ["latency", "t"], ["list"]], ids=str)
def test_nothing_has_colours_where_they_are_not_wanted(words: list[str]) -> None:
    """NO_COLOR, also on a terminal."""

    class Tick(zs.Sample):
        n: zs.U32 = 0

    with zs.Publisher("t", Tick) as pub, Terminal(*words, NO_COLOR="1") as terminal:
        pub.publish(Tick())
        if words == ["top"]:
            terminal.wait_for(lambda: "q quit" in terminal.text)
            terminal.type("q")
        assert terminal.end() == 0
        assert re.search(rb"\x1b\[[0-9;]*m", terminal.raw) is None


@pytest.mark.parametrize(
    "words",
    [
        ["list", "-v"],
        ["info", "t"],
        ["stat"],
        ["latency", "t"],
        ["top", "--once"],
        ["graph"],
        ["doctor", "t"],
        ["metrics", "--once"],
        *(["echo", "t", "--once", "--history", "1", *more] for more in ([], ["--csv"], ["--json"])),
    ],
    ids=" ".join,
)
def test_no_name_and_no_text_is_a_command_to_the_terminal(words: list[str]) -> None:
    """They are of other processes."""

    class Log(zs.Sample):
        text: str = ""

    name = "n\x1b[31m\r\x9b2J"
    with zs.Publisher("t", Log, name=name, max_bytes=100) as pub, zs.Subscriber("t", name=name) as sub:
        pub.publish(Log(text=name))
        assert sub.take() is not None
        with Terminal(*words, NO_COLOR="1") as terminal:
            assert terminal.end() in {0, 1}
        assert b"n" in terminal.raw
        assert re.search(rb"\x1b|\xc2\x9b|\r(?!\n)", terminal.raw) is None


def test_top_without_a_terminal_says_what_to_do(zeroslot_dir: Path) -> None:
    """One line, and status 1."""
    done = zeroslot("top")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert "--once" in done.stderr


# --- demo and bench


@pytest.mark.parametrize(("columns", "shown"), [(130, {"history", "latency"}), (80, {"history"}), (50, set())])
def test_the_demo_draws_rates_and_latencies(columns: int, shown: set[str]) -> None:
    """Where they fit; the summary stays when the terminal is given back."""
    with Terminal("demo", "--seconds", "2", columns=columns) as terminal:
        terminal.wait_for(lambda: "demo/camera" in terminal.text and "Ctrl-C ends it" in terminal.text)
        terminal.wait_for(lambda: "1.4 times the one before" in terminal.text or "latency" not in shown)
        assert {"history", "latency"} & set(terminal.line_of(" rate").split()) == shown
        assert terminal.end() == 0
        assert terminal.is_restored
        assert "none torn, none lost" in terminal.text


def test_an_interrupted_demo_gives_the_terminal_back() -> None:
    """Ctrl-C is its normal end."""
    with Terminal("demo", "--seconds", "600", columns=120) as terminal:
        terminal.wait_for(lambda: "Ctrl-C ends it" in terminal.text)
        terminal.type("\x03")
        assert terminal.end() == 0
        assert terminal.is_restored
        assert "the whole run" in terminal.text


@pytest.mark.parametrize(("columns", "pictures"), [(110, True), (50, False)])
def test_bench_draws_a_bar_beside_each_figure(columns: int, pictures: bool) -> None:
    """And how the times are spread, where it fits; each row stays one line."""
    with Terminal("bench", "attach", "--quick", columns=columns) as terminal:
        assert terminal.end() == 0
        rows = [line for line in terminal.lines if "a pool of" in line]
        assert len(rows) == 2
        assert all("█" in row and len(row) <= columns for row in rows)
        assert ("spread: " in terminal.text) is pictures


# --- list, info and doctor


def test_a_subscriber_of_two_publishers_is_one() -> None:
    """It has an entry in each; and top names the publishers of a topic that has several."""

    class Tick(zs.Sample):
        n: zs.U32 = 0

    with zs.Publisher("t", Tick, name="one"), zs.Publisher("t", Tick, name="two"), zs.Subscriber("t", Tick) as sub:
        assert sub.wait_for_publishers(2)
        assert re.search(r"^t +Tick +2 +1 ", zeroslot("list").stdout, re.MULTILINE)
        text = zeroslot("top", "--once", "-i", "0.1").stdout
    assert text.startswith("default: 1 topic, 2 publishers, 1 subscriber, ")
    assert re.search(r"^ t \(one\) ", text, re.MULTILINE)
    with zs.Subscriber("t", Tick):
        assert re.search(r"^t +0 +1 waiting ", zeroslot("list").stdout, re.MULTILINE)


@pytest.mark.row("DIS-9", "DIS-12")
def test_top_shows_the_subscribers_that_wait(cast: Cast) -> None:
    """In a line of their own: on the screen, in one table and in JSON, until a publisher comes."""
    sub = cast.subscriber("alone", name="viewer")
    line = f" waiting for a publisher: alone (viewer {sub.pid})"
    assert line in zeroslot("top", "--once", "-i", "0.1").stdout.splitlines()
    (found,) = answer("top", "--once", "-i", "0.1")
    assert [peer["pid"] for peer in found["waiting"]["alone"]] == [sub.pid]
    with Terminal("top", "--interval", "0.2", columns=100) as terminal:
        terminal.wait_for(lambda: line.strip() in terminal.text)
        with zs.Publisher("alone", Tick):
            sub.ask(["poll"])
            terminal.wait_for(lambda: "waiting for" not in terminal.text)


@pytest.mark.parametrize("columns", [60, 110])
def test_list_info_and_doctor_fit_the_terminal(columns: int, live: list[Child]) -> None:
    """Columns are left out, values cut, and sentences wrapped between words; nothing is lost of the rates."""
    with Terminal("list", columns=columns) as terminal:
        assert terminal.end() == 0
        assert "Hz" in terminal.line_of(TOPIC)
        assert ("published" in terminal.text) is (columns == 110)
        assert "lost" in terminal.text
    with Terminal("list", "-v", columns=columns) as terminal:
        assert terminal.end() == 0
        assert "samples" in terminal.lines[0]
        assert re.search(r"^  subscriber +viewer .* [\d,]+ ", terminal.line_of("viewer"))
        assert re.search(r"^robot/imu  Tick$", terminal.line_of(TOPIC))
        assert len([line for line in terminal.lines if line]) == 4
    with Terminal("info", TOPIC, columns=columns) as terminal:
        assert terminal.end() == 0
        assert len([line for line in terminal.lines if "process" in line]) == 2
    with Terminal("doctor", "robot/im", columns=columns, lines=80) as terminal:
        assert terminal.end() == 1
        words = " ".join(terminal.text.split())
        assert "robot/im has no publisher in domain default that can be read -> start one" in words


@pytest.mark.row("SEG-23")
def test_list_imports_no_package_of_the_extra() -> None:
    """Importing it would double the time of the command. Help and errors still come from typer."""
    program = "import sys; from zeroslot.cli import main; main(); print(sorted({'typer', 'rich'} & set(sys.modules)))"
    for words in (["list"], ["list", "-v", "--json"], ["gc", "--dry-run"]):
        done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "[]"
    assert "Usage: zeroslot list" in zeroslot("list", "--help").stdout
    assert zeroslot("list", "--js").returncode == 2
