"""`zeroslot plot` and `view` in a pseudo-terminal beside live publishers: what the screen shows, and how it is left."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from tests.terminal import Terminal

pytest.importorskip("plotext", reason="the extra zeroslot[plot] is not installed")
Pillow: Any = pytest.importorskip("PIL.Image", reason="the extra zeroslot[view] is not installed")

BRAILLE = re.compile("[\u2801-\u28ff]")


def cell(terminal: Terminal, column: int, line: int) -> Any:
    """A character of the screen, with its colours `fg` and `bg`."""
    return terminal.screen.buffer[line][column]


@contextmanager
def terminal_of(*arguments: str, **options: Any) -> Iterator[Terminal]:
    """The command in a terminal with all colours, which ends with the test."""
    with Terminal(*arguments, **{"COLORTERM": "truecolor"} | options) as terminal:
        yield terminal
        if terminal.process.poll() is None:
            terminal.process.send_signal(signal.SIGINT)
            assert terminal.end() == 130
        assert terminal.is_restored


class Imu(zs.Sample):
    stamp_ns: zs.U64 = 0
    accel: Annotated[NDArray[np.float64], zs.Shape(3)]
    scan: Annotated[NDArray[np.float32], zs.Shape(100)] = np.zeros(100, np.float32)
    name: str = "front"
    wave: Annotated[NDArray[np.complex64], zs.Shape(2)] = np.zeros(2, np.complex64)
    maybe: zs.U8 | None = None


class Frame(zs.Sample):
    stamp_ns: zs.U64 = 0
    image: NDArray[np.uint8]


def zeroslot(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "zeroslot", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@contextmanager
def repeated(publish: Callable[[int], object]) -> Iterator[None]:
    """Publish about a hundred samples a second meanwhile."""
    done = threading.Event()

    def run() -> None:
        number = 0
        while not done.wait(0.01):
            publish(number)
            number += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.fixture
def imu() -> Iterator[zs.Publisher[Imu]]:
    """A live topic."""
    with zs.Publisher("robot/imu", Imu, max_bytes=1000) as publisher:
        scan = np.sin(np.arange(100) / 10).astype(np.float32)
        with repeated(lambda n: publisher.publish(Imu(accel=np.array([np.sin(n / 10), -5.0, 9.81]), scan=scan))):
            yield publisher


def stripes() -> NDArray[np.uint8]:
    """Red above, blue below."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[:20] = 250, 10, 20
    image[20:] = 0, 30, 200
    return image


@pytest.fixture
def camera() -> Iterator[zs.Publisher[Frame]]:
    """A live topic of images."""
    with zs.Publisher("camera/front", Frame, max_bytes=20_000) as publisher:
        with repeated(lambda n: publisher.publish(Frame(stamp_ns=n, image=stripes()))):
            yield publisher


# --- plot


def test_plot_draws_a_curve_for_each_element(imu: zs.Publisher[Imu]):
    """With its name, newest value and range; the axes are seconds and values."""
    with terminal_of("plot", "robot/imu", "accel", "norm(accel)", "--window", "5", "--fps", "20") as terminal:
        terminal.wait_for(lambda: re.search(r"━━ norm\(accel\) +1[01]\.", terminal.text))
        terminal.wait_for(lambda: len(BRAILLE.findall(terminal.text)) > 20)
        lines = terminal.text.splitlines()
        assert re.match(r" robot/imu +[\d.]+ Hz", lines[0])
        assert re.search(r"-5 s +-3.75 s +-2.5 s +-1.25 s +now", terminal.text)
        assert re.search(r"━━ accel\[1\] +-5.0 +-5.0 … -5.0", terminal.text)
        assert len(lines) == 24
        colours = {cell(terminal, 1, line).fg for line in range(20, 24)}
        assert len(colours) == 4
        terminal.type("\x03")
        assert terminal.end() == 130


def test_plot_of_a_long_array_is_over_its_index(imu: zs.Publisher[Imu]):
    """As of a laser scan."""
    with terminal_of("plot", "robot/imu", "scan", "--fps", "20") as terminal:
        terminal.wait_for(lambda: re.search(r"━━ scan +100 values +-0.99", terminal.text))
        assert re.search(r"^ +0\.0 .* 99\.0$", terminal.text, re.MULTILINE)
        assert "now" not in terminal.text


def test_plot_follows_the_size_of_the_terminal(imu: zs.Publisher[Imu]):
    """With the next picture."""
    with terminal_of("plot", "robot/imu", "accel[0]", "--fps", "20") as terminal:
        terminal.wait_for(lambda: re.search("━━ accel", terminal.text))
        terminal.resize(50, 12)
        terminal.wait_for(lambda: re.search(r"(?s)^ robot/imu.{30,}\n(.*\n){10} ━━ accel", terminal.text))
        assert all(len(line) <= 50 for line in terminal.text.splitlines())


def test_plot_waits_for_a_publisher():
    """And says so; with the first sample it draws."""
    with terminal_of("plot", "robot/late", "accel", "--fps", "20") as terminal:
        terminal.wait_for(lambda: re.search("waiting for a sample of robot/late", terminal.text))
        with zs.Publisher("robot/late", Imu, max_bytes=1000) as publisher:
            assert publisher.wait_for_subscribers()
            publisher.publish(Imu(accel=np.array([1.0, 2.0, 3.0])))
            terminal.wait_for(lambda: re.search(r"━━ accel\[2\] +3\.0", terminal.text))


def test_two_publishers_have_curves_of_their_own():
    """Of one topic: a line from one to the other would be of nothing."""

    class Level(zs.Sample):
        level: float

    with zs.Publisher("tank", Level, name="left") as left, zs.Publisher("tank", Level, name="right") as right:
        for number in range(3):
            left.send(level=1.0 + number / 10)
            right.send(level=5.0)
        with terminal_of("plot", "tank", "level", "--history", "3", columns=80, lines=14) as terminal:
            terminal.wait_for(lambda: "level (right)" in terminal.text and "level (left)" in terminal.text)
            terminal.wait_for(lambda: terminal.line_of("level (right)").rstrip().endswith("5.0 … 5.0"))
            terminal.wait_for(lambda: terminal.line_of("level (left)").rstrip().endswith("1.2  1.0 … 1.2"))
            terminal.type("q")
            assert terminal.end() == 0


def test_a_narrow_legend_leaves_the_range_out(imu: zs.Publisher[Imu]):
    """A line that is longer than the terminal would overwrite its own end."""
    with terminal_of("plot", "robot/imu", "accel", columns=36, lines=12) as terminal:
        terminal.wait_for(lambda: re.search(r"━━ accel\[2\] +\S+", terminal.text))
        assert re.search(r"━━ accel\[2\] +9\.81$", terminal.line_of("accel[2]"))


def test_q_ends_it_with_status_0(imu: zs.Publisher[Imu], camera: zs.Publisher[Frame]):
    """As every program that fills a screen."""
    for arguments in (["plot", "robot/imu", "accel"], ["view", "camera/front"]):
        with terminal_of(*arguments) as terminal:
            terminal.wait_for(lambda: re.search(r" (robot/imu|camera/front) .* Hz", terminal.text))
            terminal.type("q")
            assert terminal.end() == 0


def test_sigterm_gives_the_terminal_back(imu: zs.Publisher[Imu]):
    """With the status of a program that SIGTERM ends."""
    with terminal_of("plot", "robot/imu", "accel") as terminal:
        terminal.wait_for(lambda: re.search("━━ accel", terminal.text))
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end() == 128 + signal.SIGTERM


def test_a_field_that_is_no_number_is_a_line(imu: zs.Publisher[Imu]):
    """On a terminal that was given back."""
    for field, text in (("name", "it is str"), ("wave", "array of complex64"), ("acel", "no field 'acel'")):
        with terminal_of("plot", "robot/imu", field) as terminal:
            assert terminal.end() == 1
            shown = terminal.raw.decode().rpartition("\x1b[?1049l")[2]
            assert shown.startswith("zeroslot: ")
            assert text in shown.replace("\r\n", "")


def test_two_kinds_of_curves_are_not_mixed(imu: zs.Publisher[Imu]):
    """One over time and one over an index have no common axis."""
    done = zeroslot("plot", "robot/imu", "scan", "accel", "--once", "--window", "0.5")
    assert (done.returncode, "cannot be drawn together" in done.stderr) == (1, True)


def test_plot_once_prints_one_picture(imu: zs.Publisher[Imu]):
    """Without colours where stdout is no terminal. What is absent is no point."""
    done = zeroslot("plot", "robot/imu", "accel[2]", "maybe", "--once", "--window", "0.3", "--min", "0", "--max", "20")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert BRAILLE.search(done.stdout)
    assert re.search(r"━━ accel\[2\] +9.81 +9.81 … 9.81", done.stdout)
    assert re.search(r"━━ maybe$", done.stdout, re.MULTILINE)
    assert re.search(r"^20┤", done.stdout, re.MULTILINE)


def test_plot_of_a_silent_topic_is_status_1():
    """Where it ends by itself."""
    done = zeroslot("plot", "robot/nothing", "accel", "--once", "--window", "0.1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "zeroslot: no sample of robot/nothing came within 0.1 s\n"


def test_plot_as_json_is_echo(imu: zs.Publisher[Imu]):
    """A line for each sample."""
    done = zeroslot("plot", "robot/imu", "accel", "accel[1]", "--once", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["sample"]["accel[1]"] == -5.0


def test_a_missing_package_is_named(imu: zs.Publisher[Imu], tmp_path: Path):
    """With the extra to install, and no traceback."""
    jpeg = io.BytesIO()
    Pillow.fromarray(stripes()).save(jpeg, "jpeg")
    with zs.Publisher("camera/jpeg", bytes, max_bytes=20_000) as publisher:
        publisher.publish(jpeg.getvalue())
        for package, arguments, extra in (
            ("plotext", ["plot", "robot/imu", "accel"], "plot"),
            ("PIL", ["view", "camera/jpeg", "--once"], "view"),
        ):
            program = f"import sys; sys.modules[{package!r}] = None\nfrom zeroslot.cli import main\nsys.exit(main())"
            done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
            assert (done.returncode, done.stdout) == (1, "")
            assert f"which is not installed: pip install 'zeroslot[{extra}]'" in done.stderr
            assert "Traceback" not in done.stderr


# --- view


def test_view_shows_the_image_in_its_colours(camera: zs.Publisher[Frame]):
    """Two pixels a character; a heading says what it is."""
    with terminal_of("view", "camera/front", columns=80, lines=25) as terminal:
        terminal.wait_for(lambda: re.search(r" camera/front  image  60x40 rgb  # \d+ .* old", terminal.text))
        terminal.wait_for(lambda: cell(terminal, 40, 23).data == "▀")
        above, below = cell(terminal, 40, 2), cell(terminal, 40, 22)
        assert (above.data, above.fg, above.bg) == ("▀", "fa0a14", "fa0a14")
        assert (below.data, below.fg, below.bg) == ("▀", "001ec8", "001ec8")
        terminal.wait_for(lambda: re.search(r"[\d.]+ Hz", terminal.text))
        terminal.type("\x03")
        assert terminal.end() == 130


def test_view_knows_terminals_of_fewer_colours(camera: zs.Publisher[Frame]):
    """256 of them, or none."""
    with terminal_of("view", "camera/front", "--once", COLORTERM="", TERM="xterm-256color") as terminal:
        assert terminal.end() == 0
        assert "\x1b[38;5;196;48;5;196m▀" in terminal.raw.decode()
    with terminal_of("view", "camera/front", "--once", NO_COLOR="1") as terminal:
        assert terminal.end() == 0
        assert "\x1b[38" not in terminal.raw.decode()


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
@pytest.mark.parametrize("sample_type", [bytes, np.ndarray])
def test_view_decodes_files(encoding: str, sample_type: type[Any], tmp_path: Path):
    """Bytes, or an array of bytes; saved in their own format they are the same bytes."""
    file = io.BytesIO()
    Pillow.fromarray(stripes()).save(file, encoding)
    data = file.getvalue()
    with zs.Publisher("camera/file", sample_type, max_bytes=20_000) as publisher:
        publisher.publish(data if sample_type is bytes else np.frombuffer(data, np.uint8))
        saved = tmp_path / f"image.{encoding}"
        done = zeroslot("view", "camera/file", "--save", str(saved), "--json")
        facts = json.loads(done.stdout)
        assert (facts["width"], facts["height"], facts["form"], facts["field"]) == (60, 40, encoding, "data")
        assert saved.read_bytes() == data


@pytest.mark.parametrize(
    ("array", "form", "mode"),
    [
        (stripes(), "rgb", "RGB"),
        (stripes()[..., 0], "grey", "L"),
        (stripes()[..., :1], "grey", "L"),
        (np.dstack([stripes(), np.full((40, 60), 128, np.uint8)]), "rgba", "RGBA"),
        (np.arange(2400, dtype=np.uint16).reshape(40, 60) * 20, "uint16", "I;16"),
        (np.arange(2400, dtype=np.uint16).reshape(40, 60, 1) * 20, "uint16", "I;16"),
        (np.arange(-1200, 1200, dtype=np.int16).reshape(40, 60), "int16", "L"),
        (np.linspace(0, 1, 2400, dtype=np.float32).reshape(40, 60), "float32", "L"),
        (np.eye(40, 60, dtype=np.bool_), "bool", "L"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_view_saves_every_kind_of_image(array: NDArray[Any], form: str, mode: str, tmp_path: Path):
    """Pixel by pixel, and shows it."""
    with zs.Publisher("camera/any", np.ndarray, max_bytes=20_000) as publisher:
        publisher.publish(array)
        saved = tmp_path / "image.png"
        done = zeroslot("view", "camera/any", "--save", str(saved))
        assert (done.returncode, done.stdout) == (0, f"{saved}: data of camera/any, 60x40 {form}\n")
        with Pillow.open(saved) as image:
            assert (image.mode, image.size) == (mode, (60, 40))
            if array.dtype.kind == "u":
                assert np.array_equal(np.asarray(image), array.squeeze())
        shown = zeroslot("view", "camera/any", "--once")
        assert (shown.returncode, shown.stderr) == (0, "")
        assert len(shown.stdout.splitlines()) > 20


def test_view_saves_one_file_a_sample(tmp_path: Path):
    """With {sequence} in the name; `--bgr` swaps the colours."""
    with zs.Publisher("camera/front", Frame, max_bytes=20_000) as publisher:
        command = ["view", "camera/front", "--bgr", "--save", str(tmp_path / "{sequence}.png")]
        arguments = [sys.executable, "-W", "error", "-m", "zeroslot", *command]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as view:
            assert publisher.wait_for_subscribers()
            assert view.stdout is not None
            for _ in range(3):
                publisher.publish(Frame(image=stripes()))
                view.stdout.readline()
            view.send_signal(signal.SIGINT)
            assert view.wait() == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.png", "2.png", "3.png"]
    with Pillow.open(tmp_path / "3.png") as image:
        assert image.getpixel((0, 0)) == (20, 10, 250)


def test_what_is_no_image_is_a_line(imu: zs.Publisher[Imu], tmp_path: Path):
    """Of a topic, of a field, of a damaged file, of a file name."""
    with (
        zs.Publisher("camera/bad", bytes, max_bytes=1000) as bad,
        zs.Publisher("camera/good", np.ndarray, max_bytes=20_000) as good,
    ):
        bad.publish(b"\xff\xd8\xff\xe0 is no jpeg")
        good.publish(stripes())
        for arguments, text in (
            (["robot/imu"], "there is no image in the samples of robot/imu"),
            (["robot/imu", "--field", "accel"], "there is no image in accel"),
            (["camera/bad"], "cannot be decoded"),
            (["camera/good", "--save", str(tmp_path / "image.nonsense")], "Name it .png or .jpg"),
            (["camera/good", "--save", str(tmp_path / "no" / "image.png")], "No such file"),
            (["camera/nothing", "--timeout", "0"], "no sample of camera/nothing came within 0 s"),
        ):
            done = zeroslot("view", *arguments, "--once")
            assert (done.returncode, done.stdout) == (1, "")
            assert text in done.stderr
            assert "Traceback" not in done.stderr


def test_a_damaged_image_does_not_end_the_view():
    """It is a line on the screen, until the next one comes."""
    file = io.BytesIO()
    Pillow.fromarray(stripes()).save(file, "png")
    with zs.Publisher("camera/png", bytes, max_bytes=20_000) as publisher:
        publisher.publish(file.getvalue())
        with terminal_of("view", "camera/png", "--fps", "60") as terminal:
            terminal.wait_for(lambda: re.search("60x40 png  # 1 ", terminal.text))
            publisher.publish(file.getvalue()[:40])
            terminal.wait_for(lambda: re.search("cannot be decoded", terminal.text))
            publisher.publish(file.getvalue())
            terminal.wait_for(lambda: re.search("60x40 png  # 3 ", terminal.text))
