"""`zeroslot graph`: processes, topics and edges, in all forms."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

import zeroslot as zs
from tests.children import Children
from tests.process import actors
from tests.process.samples import Tick
from zeroslot.cli import graph
from zeroslot.cli.rates import rate_now

ODD = 'a"]; --> x\\n<b>|#\x1b[31m'


def run_graph(*arguments: str) -> str:
    command = [sys.executable, "-W", "error", "-m", "zeroslot", "graph", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.row("OBS-9")
def test_a_process_between_two_topics_is_one_node(run_child: Children):
    """It reads one and publishes the other: an edge to it, and one from it."""
    camera = run_child(actors.PUBLISHER, "camera", {"name": "camera"})
    camera.expect("ready")
    with zs.Subscriber("camera", Tick, name="detector") as sub, zs.Publisher("boxes", Tick, name="detector") as pub:
        sub.wait_for_publishers()
        facts = json.loads(run_graph("--json"))
        here = next(process["pid"] for process in facts["processes"] if process["names"] == ["detector"])
        assert [process["names"] for process in facts["processes"] if process["pid"] == camera.pid] == [["camera"]]
        assert {(edge["role"], edge["pid"], edge["topic"]) for edge in facts["edges"]} == {
            ("publisher", camera.pid, "camera"),
            ("subscriber", here, "camera"),
            ("publisher", here, "boxes"),
        }
        assert [topic["types"] for topic in facts["topics"]] == [["Tick"], ["Tick"]]
        boxes, frames = (f"t{number}" for number in range(2))  # in the order of their names
        mermaid = run_graph()
        assert mermaid == run_graph("--mermaid")
        for form, arrow, text in (("mermaid", "-->", mermaid), ("dot", "->", run_graph("--dot"))):
            edges = re.findall(rf"^ +(\w+) {arrow}(?:\|[^|]*\|)? (\w+)", text, re.MULTILINE)
            assert set(edges) == {(f"p{camera.pid}", frames), (frames, f"p{here}"), (f"p{here}", boxes)}, form
        assert pub.subscriber_count == 0  # it takes no entry
    camera.finish()


def test_a_rate_comes_from_the_samples_that_are_there(monkeypatch: pytest.MonkeyPatch):
    """Of their times, and it falls while the publisher is silent. With fewer than two samples there is none."""
    with zs.Publisher("t", Tick, depth=4) as pub:
        assert [edge.rate_hz for edge in graph.graph_of(None).edges] == [None]
        for number in range(6):
            pub.publish({"number": number})
        with zs.Monitor("t") as monitor:
            (facts,) = monitor.snapshot().publishers
            first = monitor.samples_after(pub.publisher_id)[0].published_ns
            fast = [zs.SampleFacts(n, first + n * 1_000_000, 8) for n in range(4)]
            monkeypatch.setattr(zs.Monitor, "samples_after", lambda *_: fast)
            rates = [rate_now(monitor.samples_after(facts.publisher_id), age_s) for age_s in (0.0005, 1.0, None)]
    assert rates == [pytest.approx(1000), pytest.approx(3), pytest.approx(1000)]


def test_two_publishers_of_a_process_are_one_edge():
    """Their rates are added, and what their subscribers lost."""
    with zs.Publisher("t", Tick, name="one", depth=1) as one, zs.Publisher("t", Tick, name="two", depth=1) as two:
        with zs.Subscriber("t", Tick) as sub:
            for number in range(3):
                for pub in (one, two):
                    pub.publish({"number": number})
            sub.take(), sub.take()
            found = graph.graph_of(None)
            assert [{"one", "two"} < set(process.names) for process in found.processes] == [True]
            assert [(edge.role, edge.lost) for edge in found.edges] == [("publisher", 0), ("subscriber", 4)]
            assert graph.as_dot(found)[-2].endswith('[label="4 lost"];')


def test_names_of_other_processes_cannot_become_syntax():
    """Quotes, brackets and control characters in a name are shown, and do nothing."""
    with zs.Publisher("t", Tick, name=ODD):
        found = graph.graph_of(None)
    (mermaid,) = (line for line in graph.as_mermaid(found) if re.match(r" +p\d+\[", line))
    assert re.fullmatch(r' {4}p\d+\["(?:[^"\[\]<>|\\]|<br>)*"\]', mermaid)
    (dot,) = (line for line in graph.as_dot(found) if re.match(r" +p\d+ \[", line))
    assert re.fullmatch(r' {4}p\d+ \[shape=box, label="(?:[^"\\]|\\.)*"\];', dot)
    assert "\x1b" not in mermaid + dot


@pytest.mark.parametrize(
    ("rate_hz", "text"),
    [(None, ""), (0.5, "0.50 Hz"), (999.96, "1.00 kHz"), (30, "30.0 Hz"), (2.5e6, "2.50 MHz")],
)
def test_rates_are_in_the_unit_that_suits_them(rate_hz: float | None, text: str):
    assert graph._text_of(graph.Edge("publisher", 1, "t", rate_hz)) == text


PUBLISHED = graph.Graph(
    "default",
    (
        graph.Process(1, ("driver",)),
        graph.Process(2, ("spare",)),
        graph.Process(3, ("viewer", "logger")),
        graph.Process(4, ("arm",)),
    ),
    (graph.Topic("robot/cmd", ()), graph.Topic("robot/imu", ("Imu",))),
    (
        graph.Edge("publisher", 1, "robot/imu", 500.0),
        graph.Edge("publisher", 2, "robot/imu"),
        graph.Edge("subscriber", 3, "robot/imu", lost=1234),
        graph.Edge("subscriber", 4, "robot/imu"),
        graph.Edge("waiting", 4, "robot/cmd"),
    ),
)


def test_a_picture_has_publishers_on_the_left_and_subscribers_on_the_right(monkeypatch: pytest.MonkeyPatch):
    """Joined by lines, of ASCII where nothing else can be shown; below each other where there is no room."""
    monkeypatch.setattr(graph, "has_blocks", lambda: True)
    assert graph.as_picture(PUBLISHED) == [
        "                         robot/cmd ───→ arm (4)  waits",
        "driver (1) 500.0 Hz ─┬─→ robot/imu ─┬─→ viewer, logger (3)  1,234 lost",
        "spare (2)           ─┘              └─→ arm (4)",
    ]
    monkeypatch.setattr(graph, "has_blocks", lambda: False)
    assert graph.as_picture(PUBLISHED)[1].startswith("driver (1) 500.0 Hz -+-> robot/imu -+-> ")
    monkeypatch.setattr(graph, "terminal_width", lambda: 60)
    assert graph.as_picture(PUBLISHED) == [
        "robot/cmd", "  > arm (4)  waits",
        "robot/imu", "  < driver (1)  500.0 Hz", "  < spare (2)", "  > viewer, logger (3)  1,234 lost", "  > arm (4)",
    ]  # fmt: skip  # a topic a line


def test_a_subscriber_that_waits_is_in_the_graph():
    """The topic has no publisher, and the edge is a dashed one."""
    with zs.Subscriber("robot/cmd", Tick, name="arm"):
        (edge,) = json.loads(run_graph("--json"))["edges"]
        text, mermaid, dot = (run_graph(form) for form in ("--text", "--mermaid", "--dot"))
    assert (edge["role"], edge["topic"]) == ("waiting", "robot/cmd")
    assert re.fullmatch(r" *robot/cmd ───→ arm \(\d+\)  waits\n", text)
    assert '-.->|"waits"|' in mermaid
    assert '["robot/cmd"]' in mermaid.replace("(", "").replace(")", "").replace("#47;", "/")
    assert 'style=dashed, label="waits"' in dot


def test_a_domain_without_publishers_is_an_empty_graph():
    assert run_graph("--text") == "no topic in domain default has a publisher or a subscriber\n"
    assert run_graph() == "flowchart LR\n"
    assert json.loads(run_graph("--json"))["edges"] == []


def test_two_forms_at_once_are_a_usage_error():
    command = [sys.executable, "-m", "zeroslot", "graph", "--dot", "--json"]
    assert subprocess.run(command, capture_output=True).returncode == 2
