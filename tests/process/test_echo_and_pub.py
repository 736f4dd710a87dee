"""`zeroslot echo`, `pub` and `schema`, as processes beside live publishers and subscribers, and beside ruins."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from tests.children import Child, Children
from tests.unit.control_bytes import ControlBytes

SOURCE = """
import enum
from typing import Annotated
import numpy as np
from numpy.typing import NDArray
import zeroslot as zs

class Mode(enum.IntEnum):
    IDLE = 0
    RUN = 3

class Command(zs.Sample):
    speed: float
    mode: Mode = Mode.IDLE
    path: list[zs.U8] = []
"""


class Imu(zs.Sample):
    stamp_ns: zs.U64
    accel: Annotated[NDArray[np.float64], zs.Shape(3)]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "zeroslot", *arguments]


def zeroslot(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
    return subprocess.run(command(*arguments), capture_output=True, encoding=encoding, input=stdin)


@pytest.fixture
def imu() -> Iterator[zs.Publisher[Imu]]:
    """Five samples; the newest has the number 5."""
    with zs.Publisher("robot/imu", Imu, name="driver") as publisher:
        for number in range(1, 6):
            publisher.publish(Imu(stamp_ns=number, accel=np.array([0.5, number, 9.8])))
        yield publisher


def echoed(*arguments: str) -> list[Any]:
    done = zeroslot("echo", "robot/imu", "--history", "8", "--timeout", "0", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()] if "--json" in arguments else [done.stdout]


# --- echo


@pytest.mark.row("OBS-9")
def test_echo_decodes_without_the_class(imu: zs.Publisher[Imu]):
    """Every sample in order, with its number and its loss."""
    found = echoed("--json")
    assert [each["sequence"] for each in found] == [1, 2, 3, 4, 5]
    assert found[-1] == {
        "topic": "robot/imu",
        "publisher_id": imu.flink.stem,
        "sequence": 5,
        "published_ns": found[-1]["published_ns"],
        "lost": 0,
        "sample": {"stamp_ns": 5, "accel": [0.5, 5.0, 9.8]},
    }
    assert found[0]["published_ns"] < found[4]["published_ns"]


def test_echo_prints_fields_for_people(imu: zs.Publisher[Imu]):
    """A line about the sample, then a line for each field."""
    (text,) = echoed("-n", "1")
    heading, *rest = text.splitlines()
    assert heading.startswith("--- # 1  ")
    assert rest == ["stamp_ns: 1", "accel: [0.5, 1.0, 9.8] float64[3]"]


def test_echo_once_and_latest_take_what_they_say(imu: zs.Publisher[Imu]):
    """`--latest` begins with the newest that is there."""
    done = zeroslot("echo", "robot/imu", "--latest", "--once", "--json")
    assert json.loads(done.stdout)["sequence"] == 5
    (first,) = echoed("--once", "--json")
    assert first["sequence"] == 1


def test_a_history_beyond_the_depth_is_what_there_is(imu: zs.Publisher[Imu]):
    """And no error."""
    done = zeroslot("echo", "robot/imu", "--history", "1000", "--timeout", "0", "--json")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 5)


def test_echo_filters_and_computes(imu: zs.Publisher[Imu]):
    """A filter chooses samples, a field is any expression."""
    (text,) = echoed("--filter", "accel[1] > 2 and stamp_ns != 4", "--field", "stamp_ns")
    assert text == "3\n5\n"
    found = echoed("--field", "stamp_ns", "--field", "max(accel)", "--json", "--filter", "stamp_ns >= 4")
    assert [each["sample"] for each in found] == [{"stamp_ns": n, "max(accel)": 9.8} for n in (4, 5)]


def test_echo_prints_csv(imu: zs.Publisher[Imu]):
    """With titles; a column for each element of a small array."""
    (text,) = echoed("--csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["sequence"], row["accel[1]"]) for row in rows] == [(str(n), f"{n}.0") for n in range(1, 6)]
    (text,) = echoed("--csv", "--field", "norm(accel)", "-n", "1")
    assert text.splitlines()[0] == "sequence,published_ns,publisher_id,norm(accel)"


def test_echo_leaves_out_and_cuts(imu: zs.Publisher[Imu]):
    """Arrays."""
    assert echoed("--no-arr", "--json", "-n", "1")[0]["sample"]["accel"] == "<float64[3]>"
    assert echoed("--truncate-length", "1", "--json", "-n", "1")[0]["sample"]["accel"] == [0.5, "…"]


def test_an_unknown_field_is_known_before_a_sample_comes():
    """A topic may be quiet for hours."""
    with zs.Publisher("robot/imu", Imu):
        done = zeroslot("echo", "robot/imu", "--field", "acel")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "zeroslot: robot/imu has no field 'acel'. It has stamp_ns, accel\n"


@pytest.mark.parametrize("text", ["open('x')", "accel +", "accel.__class__", "(lambda: 1)()"])
def test_an_expression_that_is_none_is_status_2(text: str, imu: zs.Publisher[Imu]):
    """Nothing is run."""
    for option in ("--filter", "--field"):
        done = zeroslot("echo", "robot/imu", option, text)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Traceback" not in done.stderr


def test_no_sample_in_time_is_status_1(imu: zs.Publisher[Imu]):
    """Also where a filter lets none pass, and where fewer come than were asked for."""
    for arguments in ([], ["--history", "5", "--filter", "stamp_ns > 9"], ["--history", "2", "-n", "3"]):
        done = zeroslot("echo", "robot/imu", "--timeout", "0", *arguments)
        assert done.returncode == 1
        assert done.stderr == "zeroslot: no sample of robot/imu came within 0 s\n"


def test_echo_waits_for_a_publisher_and_follows_the_next_one():
    """A topic needs no publisher to be echoed."""
    with subprocess.Popen(command("echo", "robot/imu", "-n", "2", "--json"), stdout=-1, text=True) as echo:
        assert echo.stdout is not None
        for number in (1, 2):
            with zs.Publisher("robot/imu", Imu) as publisher:
                assert publisher.wait_for_subscribers()
                publisher.publish(Imu(stamp_ns=number, accel=np.zeros(3)))
                assert json.loads(echo.stdout.readline())["sample"]["stamp_ns"] == number
        assert echo.wait() == 0


def test_echo_tells_what_it_lost(imu: zs.Publisher[Imu]):
    """In each object, and as a line of text."""
    with subprocess.Popen(command("echo", "robot/imu", "-n", "1"), stdout=-1, text=True) as echo:
        assert imu.wait_for_subscribers()
        imu.publish_many([{"stamp_ns": n, "accel": [0, 0, 0]} for n in range(200_000)])
        text, _ = echo.communicate()
    lines = text.splitlines()
    if not lines[0].startswith("--- # 6 "):  # it was slower than the publisher, as it should be
        lost = int(lines[0].split()[1])
        assert lines[0] == f"# {lost} samples lost"
        assert lines[1].startswith(f"--- # {lost + 6} ")


def test_echo_takes_no_reliable_place():
    """A publisher that waits for reliable subscribers does not wait for it."""
    with zs.Publisher("robot/imu", Imu, depth=2, on_full="block") as publisher:
        with subprocess.Popen(command("echo", "robot/imu", "--csv"), stdout=-1, stderr=-1) as echo:
            assert publisher.wait_for_subscribers()
            (subscriber,) = zs.inspect("robot/imu").publishers[0].subscribers
            assert (subscriber.reliable, subscriber.max_leases, subscriber.name) == (False, 1, "zeroslot echo")
            echo.send_signal(signal.SIGINT)
            assert echo.wait() == 130


def test_head_ends_echo_and_nothing_is_said(imu: zs.Publisher[Imu]):
    """As in `zeroslot echo robot/imu | head -n 1`: with the next sample after the reader has gone."""
    arguments = command("echo", "robot/imu", "--history", "1", "--field", "stamp_ns")
    with subprocess.Popen(arguments, stdout=-1, stderr=-1, text=True) as echo:
        assert echo.stdout is not None
        assert echo.stdout.readline() == "5\n"
        echo.stdout.close()
        while echo.poll() is None:
            imu.publish(Imu(stamp_ns=1, accel=np.zeros(3)))
            os.sched_yield()
        assert echo.stderr is not None
        assert (echo.returncode, echo.stderr.read()) == (141, "")


# --- pub


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    """A file with a sample type."""
    path = tmp_path / "robot.py"
    path.write_text(SOURCE, "utf-8")
    return path


@pytest.fixture
def listener(run_child: Children) -> Iterator[Child]:
    """A process that takes the samples of robot/command and says them as JSON."""

    def listen(topic: str) -> None:
        import zeroslot as zs

        with zs.Subscriber(topic) as subscriber:
            say("ready")  # noqa: F821  # defined in the child
            for lease in subscriber:
                say([lease.sequence, lease.sample.model_dump_json(), lease.published_ns])  # noqa: F821  # the same

    child = run_child(listen, "robot/command")
    child.expect("ready")
    yield child
    child.signal(signal.SIGINT)
    child.wait()


def test_pub_waits_until_its_subscriber_has_the_sample(robot: Path, listener: Child):
    """One that was there first misses nothing, though the publisher ends at once."""
    done = zeroslot("pub", "robot/command", '{"speed": 1, "mode": "RUN", "path": [1, 2]}', "--type", f"{robot}:Command")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "published 1 sample of Command on robot/command, to 1 subscriber\n"
    assert listener.hear()[:2] == [1, '{"speed":1.0,"mode":3,"path":[1,2]}']


@contextmanager
def publishing(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`zeroslot pub` of bytes on t, which has ended with status 0 at the end of the block."""
    with subprocess.Popen(command("pub", "t", '"aGk="', "--type", "bytes", *arguments), stdout=-1, text=True) as pub:
        try:
            yield pub
            pub.wait()
        finally:
            pub.kill()
    assert pub.returncode == 0


def wait_until_published(count: int) -> None:
    while not any(each.published == count for facts in zs.topics() for each in facts.publishers):
        os.sched_yield()


def contents(subscriber: zs.Subscriber[bytes], count: int) -> list[bytes]:
    found = []
    while len(found) < count and (lease := subscriber.take(None)):
        found.append(bytes(lease.sample))
        lease.release()
    return found


@pytest.mark.row("NOT-12")
def test_pub_waits_for_an_announced_reliable_subscriber():
    """It makes no call until the publisher has filled its segment, and then gets every sample."""
    with zs.Subscriber("t", bytes, reliable=True) as subscriber:
        with publishing("--times", "20", "--wait", "0"):
            wait_until_published(8)
            assert contents(subscriber, 20) == [b"hi"] * 20
        assert subscriber.lost == 0


def test_pub_stays_for_an_announced_subscriber():
    """One that is busy until all has been published: nothing is lost, and it stays no longer than for that."""
    with zs.Subscriber("t", bytes) as subscriber:
        with publishing("--times", "5", "--wait", "0", "--linger", "600") as pub:
            wait_until_published(5)
            with pytest.raises(subprocess.TimeoutExpired):
                pub.wait(0.3)  # longer than it stays where there is no subscriber
            assert contents(subscriber, 5) == [b"hi"] * 5
        assert subscriber.lost == 0


def test_pub_lets_announced_subscribers_attach_first(run_child: Children):
    """Two that are there: it begins when both are attached, and not when the first one is."""

    def attach() -> None:
        import zeroslot as zs

        with zs.Subscriber("t", bytes) as subscriber:
            say("ready")  # noqa: F821  # defined in the child
            subscriber.wait_for_publishers()
            hear()  # noqa: F821  # the same

    first = run_child(attach)
    first.expect("ready")
    with zs.Subscriber("t", bytes) as second:
        with publishing("--times", "5", "--linger", "600"):
            while not any(each.subscribers for facts in zs.topics() for each in facts.publishers):
                os.sched_yield()
            assert [each.published for facts in zs.topics() for each in facts.publishers] == [0]
            assert contents(second, 5) == [b"hi"] * 5
            first.kill()
        assert second.lost == 0


def test_pub_takes_the_type_from_a_live_publisher(imu: zs.Publisher[Imu]):
    """And is a second publisher of the topic."""
    with zs.Subscriber("robot/imu", Imu) as subscriber:
        arguments = command("pub", "robot/imu", '{"stamp_ns": 77, "accel": [1, 2, 3]}', "--json")
        with subprocess.Popen(arguments, stdout=-1, text=True) as pub:
            lease = subscriber.take(None)
            assert lease is not None
            assert (lease.sample.stamp_ns, lease.sample.accel.tolist()) == (77, [1, 2, 3])
            lease.release()
            text, _ = pub.communicate()
    assert pub.returncode == 0
    assert json.loads(text) == {"topic": "robot/imu", "type": "Imu", "published": 1, "subscribers": 1}


def test_pub_publishes_the_lines_of_stdin_as_echo_prints_them(imu: zs.Publisher[Imu], robot: Path):
    """A topic through a pipe is the same topic."""
    lines = "\n".join(json.dumps(each["sample"]) for each in echoed("--json"))
    with zs.Subscriber("robot/copy", Imu) as subscriber:
        schema = robot.with_name("imu.json")
        schema.write_text(zeroslot("schema", "robot/imu", "--as", "json").stdout, "utf-8")
        arguments = command("pub", "robot/copy", "-", "--type", str(schema))
        with subprocess.Popen(arguments, stdin=-1, stdout=-1, text=True) as pub:
            assert pub.stdin is not None
            pub.stdin.write(lines)
            pub.stdin.close()
            stamps = []
            while len(stamps) < 5:
                lease = subscriber.take(None)
                assert lease is not None
                stamps.append(lease.sample.stamp_ns)
                lease.release()
            assert pub.wait() == 0
    assert stamps == [1, 2, 3, 4, 5]


def test_pub_keeps_its_rate(robot: Path, listener: Child):
    """Ten samples at 1 kHz are at least 9 ms apart."""
    done = zeroslot(
        "pub", "robot/command", '{"speed": 1}', "--type", f"{robot}:Command", "--rate", "1000", "--times", "10"
    )
    assert done.stdout.splitlines() == [
        "publishing Command on robot/command at 1000 Hz",
        "published 10 samples of Command on robot/command, to 1 subscriber",
    ]
    heard = [listener.hear() for _ in range(10)]
    assert [sequence for sequence, _, _ in heard] == [*range(1, 11)]
    assert heard[9][2] - heard[0][2] >= 8_900_000  # the first may be a little late


@pytest.mark.parametrize(
    ("topic", "arguments", "text"),
    [
        ("robot/nothing", [], "has no publisher"),
        ("robot/imu", [], "Field required"),
        ("robot/imu", ["--type", "nonsense"], "is no type"),
        ("robot/imu", ["--type", "nonsense.py:Imu"], "no file nonsense.py"),
        ("robot/imu", ["--type", "no.such.module:Imu"], "no module"),
        ("robot/imu", ["--type", "nonsense.json"], "nonsense.json"),
        ("robot/imu", ["--type", "ROBOT:Nothing"], "has no class Nothing"),
        ("robot/imu", ["--type", "ROBOT:Mode"], "has no class Mode that derives"),
        ("robot/imu", ["--type", "BROKEN:Imu"], "NameError"),
        ("robot/imu", ["--type", "ROBOT:Command", "--fill"], "robot/imu carries Imu"),
        ("robot/imu", ["--fill", "--timeout", "0"], "has 0 subscribers after 0 s"),
    ],
)
def test_what_pub_cannot_do_is_status_1(
    topic: str, arguments: list[str], text: str, imu: zs.Publisher[Imu], robot: Path
):
    """With what to give, and no traceback."""
    broken = robot.with_name("broken.py")
    broken.write_text("Imu = nonsense", "utf-8")
    words = [word.replace("ROBOT", str(robot)).replace("BROKEN", str(broken)) for word in arguments]
    done = zeroslot("pub", topic, "{}", *words)
    assert done.returncode == 1
    assert done.stderr.startswith("zeroslot: ")
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_json_that_is_none_is_status_1(imu: zs.Publisher[Imu]):
    """Of an argument, and of a line of stdin, which is counted."""
    done = zeroslot("pub", "robot/imu", "{", "--wait", "0")
    assert (done.returncode, done.stderr.startswith("zeroslot: the sample is no JSON")) == (1, True)
    done = zeroslot("pub", "robot/imu", "-", "--wait", "0", stdin='{"stamp_ns": 1, "accel": [1, 2, 3]}\n{\n')
    assert (done.returncode, "line 2 of stdin: it is no JSON" in done.stderr) == (1, True)
    assert done.stdout.startswith("published 1 sample of Imu")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"stamp_ns": ' + "9" * 5000 + "}"], ids=["deep", "long"])
def test_json_without_bounds_is_a_line(text: str, imu: zs.Publisher[Imu], tmp_path: Path):
    """Of a sample, and of the file of a schema."""
    path = tmp_path / "schema.json"
    path.write_text(text, "utf-8")
    for done in (
        zeroslot("pub", "robot/imu", "-", "--wait", "0", stdin=text),
        zeroslot("pub", "robot/new", "{}", "--wait", "0", "--type", str(path)),
    ):
        assert (done.returncode, len(done.stderr.splitlines()), "is no JSON" in done.stderr) == (1, 1, True)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_stdout_cannot_show_is_escaped(encoding: str, monkeypatch: pytest.MonkeyPatch):
    """JSON stays JSON, and nothing is an error."""

    class Log(zs.Sample):
        text: str

    with zs.Publisher("robot/log", Log, max_bytes=100) as publisher:
        publisher.publish(Log(text="漢 é\x9b"))
        monkeypatch.setenv("PYTHONIOENCODING", encoding)
        arguments = ["echo", "robot/log", "--once", "--history", "1", "--timeout", "0"]
        assert json.loads(zeroslot(*arguments, "--json").stdout)["sample"] == {"text": "漢 é\x9b"}
        for words in (arguments, [*arguments, "--csv"], ["top", "--once"], ["echo", "--help"]):
            done = zeroslot(*words)
            assert (done.returncode, done.stderr) == (0, "")
            if words[0] == "echo" and words != ["echo", "--help"]:
                assert "\\u6f22" in done.stdout


# --- schema


@pytest.mark.parametrize("language", ["idl", "c", "dtype", "json", "python"])
def test_schema_says_the_type_in_each_language(language: str, imu: zs.Publisher[Imu]):
    """The text alone, and in an object."""
    done = zeroslot("schema", "robot/imu", "--as", language)
    assert (done.returncode, done.stderr) == (0, "")
    assert "stamp_ns" in done.stdout
    found = json.loads(zeroslot("schema", "robot/imu", "--as", language, "--json").stdout)
    (stated,) = found["types"]
    assert (stated["name"], stated["as"], found["problems"]) == ("Imu", language, [])
    text = json.dumps(stated["schema"], indent=2) if language == "json" else stated["schema"].rstrip("\n")
    assert text == done.stdout.rstrip("\n")


def test_schema_takes_no_subscriber_entry(imu: zs.Publisher[Imu]):
    """Nothing of the segment is changed."""
    before = zs.inspect("robot/imu").publishers[0]
    assert zeroslot("schema", "robot/imu").returncode == 0
    assert zs.inspect("robot/imu").publishers[0] == before
    assert (imu.subscriber_count, imu.stats.wakes) == (0, 0)


def test_schema_names_publishers_of_other_types():
    """The first is printed, the others are on stderr, and in the object."""

    class Wider(zs.Sample):
        stamp_ns: zs.U64
        accel: Annotated[NDArray[np.float64], zs.Shape(3)]
        more: zs.U8 = 0

    with zs.Publisher("robot/imu", Imu, name="old"), zs.Publisher("robot/imu", Wider, name="new", match="by_name"):
        done = zeroslot("schema", "robot/imu")
        found = json.loads(zeroslot("schema", "robot/imu", "--json").stdout)
    assert (done.returncode, done.stderr.count("publishes another"), len(done.stderr.splitlines())) == (0, 1, 1)
    assert sorted(each["name"] for each in found["types"]) == ["Imu", "Wider"]


# --- what cannot be read


def ruin(kind: str) -> Path:
    """Something in the topic's directory that is no publisher."""
    directory = Path(os.environ["ZEROSLOT_DIR"]) / "default" / "robot" / "ruin"
    flink = directory / ("0" * 16 + ".flink")
    flink.write_bytes({"foreign": b"no name of an object", "empty": b""}[kind])
    flink.chmod(0o600)
    return flink


@pytest.mark.parametrize("verb", ["schema", "echo", "pub"])
@pytest.mark.parametrize("kind", ["foreign", "empty"])
def test_a_ruin_is_a_line_and_no_traceback(verb: str, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """With and without a publisher beside it."""
    monkeypatch.setenv("ZEROSLOT_DIR", str(tmp_path / "root"))
    (tmp_path / "root").mkdir(mode=0o700)
    arguments = {
        "schema": [],
        "echo": ["--timeout", "0", "--history", "1"],
        "pub": ['{"stamp_ns": 1, "accel": [1, 2, 3]}', "--wait", "0"],
    }[verb]
    with zs.Publisher("robot/ruin", Imu) as publisher:
        publisher.publish(Imu(stamp_ns=1, accel=np.zeros(3)))
        ruin(kind)
        beside = zeroslot(verb, "robot/ruin", *arguments)
    alone = zeroslot(verb, "robot/ruin", *arguments)
    assert (beside.returncode, alone.returncode) == (int(verb == "pub"), 1)  # no publisher starts beside a ruin
    for done in (beside, alone):
        assert done.stderr
        assert "Traceback" not in done.stderr


def test_a_topic_of_bytes_without_a_type_is_a_line(tmp_path: Path):
    """A segment of SlotAllocator under a topic's flink."""
    with zs.Publisher("robot/raw", Imu) as publisher:
        directory = publisher.flink.parent
        with zs.SlotAllocator.create(str(directory / ("1" * 16 + ".flink")), 4, 64):
            publisher.close()
            for verb, arguments in {"schema": [], "echo": ["--timeout", "0"], "pub": ["{}"]}.items():
                done = zeroslot(verb, "robot/raw", *arguments)
                assert (done.returncode, "Traceback" in done.stderr) == (1, False)
                assert "robot/raw" in done.stderr


@pytest.mark.parametrize(
    ("at", "form", "value", "text"), [(0, "Q", 5, "magic"), (8, "I", 99, "format 99"), (16, "Q", 7, "header")]
)
def test_a_foreign_or_corrupt_segment_is_said_to_be_one(at: int, form: str, value: int, text: str):
    """By every command that reads it, and never that nothing is there."""
    with zs.Publisher("robot/imu", Imu) as publisher:
        control = ControlBytes(publisher.flink)
        right = control.read(at, form)
        control.write(at, form, value)
        try:
            for arguments in (
                ["schema", "robot/imu"],
                ["echo", "robot/imu", "--timeout", "0"],
                ["pub", "robot/imu", "{}"],
                ["plot", "robot/imu", "accel", "--json"],
                ["view", "robot/imu"],
            ):
                done = zeroslot(*arguments)
                assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (1, "", False)
                assert text in done.stderr, arguments
        finally:
            control.write(at, form, right)
