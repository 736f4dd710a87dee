"""The measurements of tests/bench run, each part and each peer, with a few messages. No time is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench import reporting
from tests.bench.harness import Row, summary
from tests.bench.peers import PEERS
from tests.bench.suite import PARTS
from tests.bench.ways import End, Opened, Peer, burst, loop

pytestmark = pytest.mark.tools

FEW = "zeroslot;os.pipe"


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def found_by(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    file = tmp_path / "out.json"
    done = bench(*arguments, "--tiny", "--json", str(file))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.mark.row("OBS-11", "NEW-12")
@pytest.mark.parametrize("part", PARTS)
def test_each_part_measures_and_reports(part: str, tmp_path: Path):
    """Each part gives rows with figures, and tables can be made of them."""
    found = found_by(tmp_path, part, "--peers", FEW)
    assert {row["part"] for row in found["rows"]} == {part}
    assert [row["why"] for row in found["rows"] if row["why"]] == []
    assert all(row["figures"] for row in found["rows"])
    assert {"cpu", "kernel", "python", "pinned_to", "commit", "load_average_after"} <= found["machine"].keys()
    text = reporting.markdown(found)
    assert f"## {part.capitalize()}" in text
    for row in found["rows"]:
        assert row["peer"] in text


@pytest.mark.row("OBS-11")
@pytest.mark.parametrize("peer", [name for name in PEERS if name != "zeroslot"])
def test_each_peer_carries_what_it_says(peer: str, tmp_path: Path):
    """Each peer that is installed hands over each payload in each of its waits; the reader checks what it has read."""
    if why := PEERS[peer].missing():
        pytest.skip(why)
    rows = [row for row in found_by(tmp_path, "latency", "--peers", peer)["rows"] if row["peer"] == peer]
    assert [row["why"] for row in rows if row["why"]] == []
    carried = {(row["facts"]["payload"], row["facts"]["wait"]) for row in rows}
    assert carried == {(payload, wait) for payload in PEERS[peer].payloads for wait in PEERS[peer].waits}


def test_a_peer_that_is_not_installed_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch):
    """It has a row without figures, and the tables and the section of the README say why."""
    from tests.bench.harness import TINY, missing

    absent = Peer("absent", lambda _: Opened({}, "", ""), "none", module="no_such_module", distribution="no-such")
    monkeypatch.setitem(PEERS, "absent", absent)
    rows = [row.as_dict() for row in missing("latency", TINY) if row.peer == "absent"]
    assert [row["why"] for row in rows] == ["no-such is not installed"]
    found = a_report(rows)
    assert "absent: no-such is not installed" in reporting.markdown(found)
    assert "no-such is not installed" in reporting.readme_section(found)


def test_the_loops_send_and_receive_in_turn():
    """The first end sends before it receives, the second one after; a burst has one answer; the last value is given."""
    events: list[Any] = []
    opened = Opened({"log": events.append, "take": lambda: 7}, "log(('send', turn))", "log('take')\nseen = take()")
    times = [0, 0]
    assert loop(opened, first=True)(2, times, iter(range(10)).__next__) == 7
    assert events == [("send", 0), "take", ("send", 1), "take"]
    assert times == [1, 1]
    events.clear()
    loop(opened, first=False)(1, times, int)
    assert events == ["take", ("send", 0)]
    events.clear()
    burst(opened, first=True)(1, times, int, 3)
    assert events == [("send", 0)] * 3 + ["take"]


def test_a_peer_that_reads_something_else_is_an_error(tmp_path: Path):
    """A reader that does not read what was sent is not measured."""
    from tests.bench.pair import Side

    wrong = Peer("wrong", lambda _: Opened({}, "pass", "seen = 0, 1"), "none", payloads=("copied",))
    side = Side(wrong, first=True, wait="block", name=str(tmp_path), shared=None)
    side.opened = wrong.open(End(True, "x", "copied", 64, "block"))
    side.opened_as = End(True, "x", "copied", 64, "block")
    with pytest.raises(RuntimeError, match=r"wrong: read \(0, 1\) where \(1, 1\) was sent"):
        side.turns(2, 1)


def test_figures_are_medians_over_the_runs():
    """The median of each percentile over the runs, the largest value of all, and the spread of the medians."""
    figures, middles = summary([[1.0, 2.0, 3.0], [4.0, 5.0, 90.0], [3.0, 3.0, 4.0]])
    assert figures == {"p50": 3, "p90": 4, "p99": 4, "p99_9": 4, "max": 90, "low": 2, "high": 5}
    assert middles == [2, 5, 3]


def test_bars_compare_runs_with_each_other():
    """A ratio is taken in each run, and the median of the ratios is what is held against the bar."""
    found = a_report([latency("zeroslot", [100, 200, 300]), latency("iceoryx2", [1000, 3000, 1500])])
    (bar,) = [bar for bar in reporting.bars(found) if "iceoryx2's" in bar[0]]
    assert bar[3] == [10, 15, 5]
    assert "| at least 10 | 10 | 5 to 15 | yes |" in reporting.bar_table(found)


def test_the_section_of_the_readme_has_zeroslot_first_and_the_machine():
    """One table, one plot, and what it was measured on; the marks stay, so that it can be replaced again."""
    text = reporting.readme_section(a_report([latency("os.pipe", [9000], wait="block"), latency("zeroslot", [400])]))
    assert text.startswith(reporting.BEGIN)
    assert text.endswith(reporting.END)
    assert text.index("**zeroslot** | 400 ns") < text.index("os.pipe |  | 9.0 µs")
    assert "latency.svg" in text
    assert "a processor, 2 cores of a virtual machine" in text


@pytest.mark.parametrize("wrong", [["no-such-part"], ["all", "--peers", "no such peer"], ["report"]])
def test_what_it_does_not_know_is_an_error(wrong: list[str]):
    """A part, a peer or a file that is missing ends the command with status 2 and what there is."""
    done = bench(*wrong)
    assert done.returncode == 2
    assert any(word in done.stderr for word in ("latency", "os.pipe", "FILE"))


def latency(peer: str, runs: list[float], wait: str = "spin") -> dict[str, Any]:
    figures, middles = summary([[run] for run in runs])
    facts = {"wait": wait, "payload": "typed", "bytes": 64}
    return Row("latency", "64 B", peer, figures, runs=middles, facts=facts).as_dict()


def a_report(rows: list[dict[str, Any]]) -> dict[str, Any]:
    machine = {"cpu": "a processor", "cores": 2, "hypervisor": True, "pinned_to": [0, 1], "load_average": [0.0]}
    machine |= {"load_average_after": [0.1], "system": "Linux", "kernel": "6", "python": "CPython 3", "commit": "abc"}
    machine |= {"versions": {"numpy": "2"}, "date": "2026-01-01"}
    return {"machine": machine, "runs": 3, "peers": {}, "rows": rows}
