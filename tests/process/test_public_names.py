"""Each public name works in an interpreter that has imported nothing else, beside a segment of another format."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import zeroslot as zs
from tests.children import Children

PRELUDE = "from typing import Annotated\nimport numpy as np\nfrom numpy.typing import NDArray\nimport zeroslot as zs\n"
TICK = "class Tick(zs.Sample):\n    number: int\n"

# What a program does with a name, in as few other names as possible. `foreign` is a topic whose only publisher has
# another format, `FLINK` its flink; `OWN` is a topic of the program's own.
USES = {
    "Publisher": f"{TICK}with zs.Publisher(OWN, Tick) as pub: assert pub.publish(Tick(number=1)) == 1",
    "Subscriber": "with zs.Subscriber(OWN) as sub: assert sub.take() is None",
    "Sample": f"{TICK}assert Tick(number=1) == Tick(number=1)",
    "Layout": "assert issubclass(zs.Layout, object) and zs.Layout.to_idl",
    "Shape": "class A(zs.Sample):\n    a: Annotated[NDArray[np.float64], zs.Shape(3)]\nA(a=np.zeros(3))",
    "MaxBytes": "class A(zs.Sample):\n    a: Annotated[str, zs.MaxBytes(3)]\nA(a='abc')",
    "MaxLen": "class A(zs.Sample):\n    a: Annotated[list[int], zs.MaxLen(3)]\nA(a=[1])",
    "UpTo": "class A(zs.Sample):\n    a: Annotated[NDArray[np.float64], zs.Shape(zs.UpTo(3))]\nA(a=np.zeros(2))",
    "buffer": (
        "class A(zs.Sample):\n    a: Annotated[str, zs.MaxBytes(3)]\nassert bytes(zs.buffer(A(a='abc'), 'a')) == b'abc'"
    ),
    "resize": (
        "class A(zs.Sample):\n    a: Annotated[bytes, zs.MaxBytes(3)]\n"
        "with zs.Publisher(OWN, A) as pub, pub.loan() as a:\n    zs.resize(a, a=2)\n    assert len(a.a) == 2"
    ),
    "SlotAllocator": "with zs.SlotAllocator.in_memory(4, 64) as slots: slots.reserve().commit(1)",
    "SlotReader": "try: zs.SlotReader.attach(FLINK)\nexcept zs.FormatError as error: assert '77' in str(error)",
    "SegmentSize": "assert zs.SegmentSize(1, 2, 3).total_bytes == 3",
    "Ticket": "assert zs.Ticket('0123456789abcdef', 1, 2, 3, 4).sequence == 2",
    "redeem": (
        f"{TICK}with zs.Publisher(OWN, Tick) as pub, zs.Subscriber(OWN) as sub:\n"
        "    pub.publish(Tick(number=7))\n"
        "    with zs.redeem(sub.take().ticket()) as lease: assert lease.sample.number == 7"
    ),
    "wait": (
        f"{TICK}with zs.Publisher(OWN, Tick) as pub, zs.Subscriber(OWN, Tick) as sub:\n"
        "    pub.publish(Tick(number=7))\n"
        "    assert zs.wait(sub) == [sub]"
    ),
    "WaitSet": (
        f"{TICK}with zs.Publisher(OWN, Tick) as pub, zs.Subscriber(OWN, Tick) as sub, zs.WaitSet(sub) as waiting:\n"
        "    event = waiting.event()\n"
        "    pub.publish(Tick(number=7))\n"
        "    event.set()\n"
        "    assert waiting.wait() == [sub, event]"
    ),
    "Timer": "with zs.WaitSet() as waiting: assert isinstance(waiting.every(0.5), zs.Timer)",
    "UserEvent": "with zs.WaitSet() as waiting: assert isinstance(waiting.event(), zs.UserEvent)",
    "Deadline": (
        "with zs.Subscriber(OWN) as sub, zs.WaitSet() as waiting:\n"
        "    assert isinstance(waiting.deadline(sub, 0.5), zs.Deadline)"
    ),
    "SampleCallback": (
        "with zs.Subscriber(OWN) as sub, sub.on_sample(print) as handle: assert isinstance(handle, zs.SampleCallback)"
    ),
    "layout_of": f"{TICK}assert zs.layout_of(Tick).size == 8",
    "waiting_subscribers": "with zs.Subscriber(OWN): assert OWN in zs.waiting_subscribers()",
    "schema_of": "try: zs.schema_of('foreign')\nexcept zs.FormatError as error: assert '77' in str(error)",
    "type_from_schema": "try: zs.type_from_schema('')\nexcept zs.FormatError as error: assert 'JSON' in str(error)",
    "domains": "assert zs.domains() == ('default',)",
    "topics": (
        "(found,) = [one for one in zs.topics() if one.topic == 'foreign']\n"
        "assert (found.publishers, len(found.problems)) == ((), 1)"
    ),
    "inspect": (
        "(problem,) = zs.inspect('foreign').problems\nassert (problem.kind, '77' in problem.text) == ('foreign', True)"
    ),
    "Monitor": (
        f"{TICK}with zs.Publisher(OWN, Tick) as pub, zs.Monitor(OWN) as monitor:\n"
        "    pub.publish(Tick(number=1))\n"
        "    assert [each.published for each in monitor.snapshot().publishers] == [1]"
    ),
    "Snapshot": "with zs.Monitor() as monitor: assert isinstance(monitor.snapshot(), zs.Snapshot)",
    "PublisherSnapshot": (
        f"{TICK}with zs.Publisher(OWN, Tick), zs.Monitor(OWN) as monitor:\n"
        "    assert isinstance(monitor.snapshot().publishers[0], zs.PublisherSnapshot)"
    ),
    "SubscriberSnapshot": (
        f"{TICK}with zs.Publisher(OWN, Tick), zs.Subscriber(OWN) as sub, zs.Monitor(OWN) as monitor:\n"
        "    sub.wait_for_publishers()\n"
        "    assert isinstance(monitor.snapshot().publishers[0].subscribers[0], zs.SubscriberSnapshot)"
    ),
    "SampleFacts": "assert zs.SampleFacts(1, 2, 3).size_bytes == 3",
    "LatencyHistogram": "assert zs.LatencyHistogram((0, 1) + (0,) * 126, 17).bucket_at(0.5) == (16, 17)",
    "Problem": "assert zs.Problem('corrupt', FLINK, 'text').where == FLINK",
    "ProblemKind": "from typing import get_args\nassert 'foreign' in get_args(zs.ProblemKind)",
    "MetricsCollector": (
        "with zs.MetricsCollector() as collector:\n"
        "    (problems,) = (each for each in collector.collect() if each.name == 'zeroslot_problems')\n"
        "assert [(each.labels['kind'], each.value) for each in problems.samples] == [('foreign', 1)]"
    ),
    "diagnose": "assert zs.diagnose('foreign')[-1].verdict in ('note', 'wrong')",
    "Finding": "assert zs.Finding('check', 'ok', 'what').advice == ''",
    "Verdict": "from typing import get_args\nassert 'wrong' in get_args(zs.Verdict)",
    "clean": "assert [remains.removed for remains in zs.clean() if remains.where == FLINK] == [False]",
    "Field": f"{TICK}assert isinstance(zs.layout_of(Tick).fields[0], zs.Field)",
    "Match": "from typing import get_args\nassert 'by_name' in get_args(zs.Match)",
    "OnFull": "from typing import get_args\nassert 'block' in get_args(zs.OnFull)",
    "Metadata": "assert zs.Metadata('image/png', '', {}).content_type == 'image/png'",
    "Refusal": "from typing import get_args\nassert 'type' in get_args(zs.Refusal)",
    "RefusedInfo": (
        "with zs.Publisher(OWN, bytes, max_bytes=8), zs.Subscriber(OWN, bytes) as sub:\n"
        "    assert sub.refused == () and zs.RefusedInfo.__slots__"
    ),
    "WaitingInfo": "assert zs.WaitingInfo('me', 1, '', False, True, 'exact', 0, 4, '').stalled_s is None",
    "PoolInfo": "assert zs.PoolInfo(64, 4).slot_count == 4",
    "PublisherInfo": (
        f"{TICK}with zs.Publisher(OWN, Tick), zs.Subscriber(OWN) as sub:\n"
        "    assert isinstance(sub.publishers[0], zs.PublisherInfo)"
    ),
    "PublisherStats": f"{TICK}with zs.Publisher(OWN, Tick) as pub: assert isinstance(pub.stats, zs.PublisherStats)",
    "SubscriberInfo": (
        "with zs.SlotAllocator.in_memory(2, 64, max_subscribers=1) as slots, slots.reader():\n"
        "    try: slots.reader()\n"
        "    except zs.TooManyPeersError as error: assert isinstance(error.peers[0], zs.SubscriberInfo)"
    ),
    "SubscriberStats": "with zs.Subscriber(OWN) as sub: assert isinstance(sub.stats, zs.SubscriberStats)",
    "TopicInfo": f"{TICK}with zs.Publisher(OWN, Tick): assert isinstance(zs.inspect(OWN), zs.TopicInfo)",
    "Remains": "assert zs.Remains('what', 'where', removed=True).removed",
}
NATIVE = "try:\n    zs.{name}()\nexcept TypeError as error:\n    assert 'come from' in str(error)"
SCALAR = "class A(zs.Sample):\n    a: zs.{name}\nassert zs.layout_of(A).size > 0"
ERROR = "import pickle\nassert str(pickle.loads(pickle.dumps(zs.{name}('text')))) == 'text'"

# What of the rest meets the segment of another format, and how: each in an interpreter of its own as well.
MEETINGS = {
    "a subscriber is told what is there": (
        "try:\n    zs.Subscriber('foreign')\nexcept zs.FormatError as error:\n    assert '77' in str(error)"
    ),
    "a publisher of the topic is told": (
        f"{TICK}try:\n    zs.Publisher('foreign', Tick)\nexcept zs.FormatError as error:\n    assert '77' in str(error)"
    ),
    "a dry run of clean tells of it": "assert any('77' in remains.what for remains in zs.clean(dry_run=True))",
}


def use_of(name: str) -> str:
    if name in USES:
        return USES[name]
    value = getattr(zs, name)
    if isinstance(value, type) and issubclass(value, BaseException):
        return ERROR.format(name=name)
    if isinstance(value, type):
        return NATIVE.format(name=name)
    return SCALAR.format(name=name)


@pytest.fixture
def flink(run_child: Children) -> Iterator[Path]:
    """The flink of a live publisher whose segment says that it has format 77."""
    child = run_child(
        """
        import zeroslot as zs
        class Tick(zs.Sample):
            number: int
        pub = zs.Publisher("foreign", Tick)
        say(str(pub.flink))
        hear()
        """
    )
    path = Path(child.hear())
    with open("/dev/shm" + path.read_text(), "r+b") as control:
        control.seek(8)
        control.write(b"\x4d")
    yield path
    child.finish()


# Forks for each program, which sees numpy and pydantic imported and nothing of zeroslot: importing these two is most of
# what a new interpreter costs.
FORK_FOR_EACH = """
import json, os, sys, warnings
import numpy.typing, pydantic.main

programs, failed = json.load(sys.stdin), []
assert not any(name.startswith("zeroslot") for name in sys.modules)
for name, text in programs.items():
    output, child = os.pipe()
    if os.fork() == 0:
        os.dup2(child, 1), os.dup2(child, 2)
        warnings.simplefilter("error")
        exec(text)
        sys.exit()
    os.close(child)
    with open(output) as printed:
        text = printed.read()
    if os.wait()[1] != 0:
        failed.append(f"{name}: {text}")
json.dump(failed, sys.stdout)
"""


def run_all(programs: dict[str, str]) -> list[str]:
    """Runs the programs, each in a process of its own; what those that fail have printed."""
    done = subprocess.run(
        [sys.executable, "-c", FORK_FOR_EACH], input=json.dumps(programs), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    failed: list[str] = json.loads(done.stdout)
    return failed


def program(name: str, text: str, flink: Path) -> str:
    return f"{PRELUDE}FLINK = {str(flink)!r}\nOWN = {name!r}\n{text}"


def test_each_public_name_works_in_an_interpreter_of_its_own(flink: Path) -> None:
    """No name depends on what another name's import has set up, and a segment of another format breaks none."""
    assert run_all({name: program(name, use_of(name), flink) for name in zs.__all__}) == []


FORK = "zs.{name}\npid = os.fork()\nos._exit(0) if pid == 0 else os.waitpid(pid, 0)"


@pytest.mark.parametrize("name", [names.split()[0] for names in zs._HOME.values()])
def test_the_first_fork_after_the_first_use_of_a_module_prints_nothing(name: str) -> None:
    """The hook before a fork imports the rest of the package, and what that registers is in order."""
    command = [sys.executable, "-c", f"import os, zeroslot as zs\n{FORK.format(name=name)}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_segment_of_another_format_is_an_error_in_a_fresh_interpreter(flink: Path) -> None:
    """Each call raises an error of the package, or continues."""
    assert run_all({what: program(what, text, flink) for what, text in MEETINGS.items()}) == []


def test_the_command_line_works_beside_a_segment_of_another_format(flink: Path) -> None:
    """`list` and `gc` finish, `info` says that there is no publisher; none prints a traceback."""
    pytest.importorskip("typer", reason="the command line is an extra")
    status = {}
    for words in (["list"], ["info", "foreign"], ["gc"], ["gc", "--dry-run"]):
        command = [sys.executable, "-m", "zeroslot", *words]
        done = subprocess.run(command, capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        status[" ".join(words)] = done.returncode
    assert status == {"list": 0, "info foreign": 1, "gc": 1, "gc --dry-run": 0}
