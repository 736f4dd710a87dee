"""Two versions of a type on one topic: an upgrade while every process goes on, and starts at the same moment."""

from __future__ import annotations

import pytest

import zeroslot as zs
from tests.children import Child
from tests.process.actors import Cast
from tests.process.samples import Tick

# What the programs of the new version declare: the same fields in other places, and new ones with defaults.
LATER = """
class Place(zs.Sample):
    x: zs.F32
    y: zs.F32

class Later(zs.Sample):
    place: Place = Place(x=1, y=2)
    sender: Annotated[str, zs.MaxBytes(16)] = ""
    retries: zs.U8 = 3
    number: zs.U64
"""
PROGRAM = """
from typing import Annotated
import zeroslot as zs
from tests.process.samples import Imu, Tick
{later}
handle, kind, options = args
made = getattr(zs, handle)("t", dict(globals())[kind], **options)

def publish(count):
    for _ in range(count):
        made.publish({{"number": made.sequence + 1, "sender": options["name"]}})
    return made.sequence

def take(count):
    found = []
    while len(found) < count:
        with made.take(timeout=None) as lease:
            assert lease.copy() == lease.sample
            found.append(lease.copy().model_dump())
    return found

verbs = {{
    "publish": publish, "take": take, "close": made.close, "lost": lambda: made.lost,
    "publishers": lambda: sorted(each.name for each in made.publishers), "nothing": lambda: made.take() is None,
    "wait_for_publishers": lambda n: made.wait_for_publishers(n), "differences": lambda: made.differences,
}}
say("ready")
for verb, *rest in orders():
    say(verbs[verb](*rest))
"""


def program(cast: Cast, handle: str, kind: str, **options: object) -> Child:
    """A process with a publisher or a subscriber of one of the versions, which is there when this returns."""
    child = cast(PROGRAM.format(later=LATER), handle, kind, options, name=f"{handle} of {kind}")
    child.expect("ready")
    return child


def old_ticks(sender: str, first: int, last: int) -> list[dict[str, object]]:
    """As the old version reads them."""
    return [{"number": number, "sender": sender} for number in range(first, last + 1)]


def later_ticks(sender: str, first: int, last: int) -> list[dict[str, object]]:
    """As the new version reads them, those of old publishers too."""
    more = {"place": {"x": 1.0, "y": 2.0}, "retries": 3}
    return [{**more, "number": number, "sender": sender} for number in range(first, last + 1)]


def by_sender(found: list[dict[str, object]]) -> list[dict[str, object]]:
    """Those of each publisher in their order; between publishers there is none."""
    return sorted(found, key=lambda each: str(each["sender"]))


@pytest.mark.row("TYP-7", "NEW-3")
@pytest.mark.parametrize("end", ["close", "kill"])
def test_a_system_is_upgraded_while_it_runs(cast: Cast, end: str) -> None:
    """A new publisher joins by name, the old one leaves or dies: subscribers by name of both versions get every sample,
    in order; exact ones get every sample of their own version.
    """
    old_pub = program(cast, "Publisher", "Tick", name="old")
    old_exact = program(cast, "Subscriber", "Tick")
    old = program(cast, "Subscriber", "Tick", match="by_name")
    later = program(cast, "Subscriber", "Later", match="by_name")
    assert old_pub.ask(["publish", 2]) == 2
    for sub in (old_exact, old):
        assert sub.ask(["take", 2]) == old_ticks("old", 1, 2)
    assert later.ask(["take", 2]) == later_ticks("old", 1, 2)
    (differences,) = later.ask(["differences"]).values()
    assert [line.split()[0] for line in differences.splitlines()] == ["number", "place", "retries"]

    new_pub = program(cast, "Publisher", "Later", match="by_name", name="new")
    later_exact = program(cast, "Subscriber", "Later")
    for sub in (old, later):
        assert sub.ask(["wait_for_publishers", 2])
    assert [pub.ask(["publish", 3]) for pub in (old_pub, new_pub)] == [5, 3]
    assert by_sender(old.ask(["take", 6])) == old_ticks("new", 1, 3) + old_ticks("old", 3, 5)
    assert by_sender(later.ask(["take", 6])) == later_ticks("new", 1, 3) + later_ticks("old", 3, 5)
    assert old_exact.ask(["take", 3]) == old_ticks("old", 3, 5)
    assert later_exact.ask(["take", 3]) == later_ticks("new", 1, 3)
    for sub, names in ((old, ["new", "old"]), (later, ["new", "old"]), (old_exact, ["old"]), (later_exact, ["new"])):
        assert sub.ask(["publishers"]) == names
        assert sub.ask(["nothing"])

    if end == "kill":
        old_pub.kill()
    else:
        old_pub.ask(["close"])
    assert new_pub.ask(["publish", 2]) == 5
    for sub in (later, later_exact):
        assert sub.ask(["take", 2]) == later_ticks("new", 4, 5)
    assert old.ask(["take", 2]) == old_ticks("new", 4, 5)
    for sub, names in ((old, ["new"]), (later, ["new"]), (old_exact, []), (later_exact, ["new"])):
        assert sub.ask(["publishers"]) == names
        assert sub.ask(["lost"]) == 0
    assert len(zs.clean()) == (end == "kill")


@pytest.mark.row("NEW-3", "TYP-6")
def test_mismatch_errors_name_the_process_of_the_publisher(cast: Cast) -> None:
    """By its name, pid and command; a publisher gets other advice than a subscriber."""
    child = program(cast, "Publisher", "Later", name="driver")
    with pytest.raises(zs.TypeMismatchError) as caught:
        zs.Subscriber("t", Tick)
    error = caught.value
    assert (error.publisher_name, error.publisher_pid, error.here_module) == ("driver", child.pid, Tick.__module__)
    assert error.publisher_command is not None
    assert error.publisher_command.split()[0].endswith("python")
    assert f"of driver (pid {child.pid}: {error.publisher_command[:80]})" in str(error)
    assert f"not {Tick.__module__}.Tick (2 fields" in str(error)
    assert "stop the other publisher" not in str(error)
    with pytest.raises(zs.TypeMismatchError, match='Create it with match="by_name"'):
        zs.Publisher("t", Tick)


RACER = """
from typing import Annotated
import zeroslot as zs
from tests.process.samples import Imu, Tick
{later}
kind, match = args
say("ready")
for _ in orders():
    try:
        pub = zs.Publisher("t", dict(globals())[kind], match=match)
    except zs.TypeMismatchError:
        pub = None
    say(pub is not None)
    hear()
    if pub is not None:
        pub.close()
    say("closed")
"""


@pytest.mark.row("TYP-7", "TYP-4")
@pytest.mark.parametrize(
    ("racers", "allowed"),
    [
        ([("Tick", "by_name"), ("Later", "by_name")], [[True, True]]),
        # The exact one may be there before the other looks, or see the other and withdraw.
        ([("Tick", "exact"), ("Later", "by_name")], [[True, True], [False, True]]),
        # Each may see the other.
        ([("Tick", "by_name"), ("Imu", "by_name")], [[True, False], [False, True], [False, False]]),
    ],
)
def test_versions_that_start_at_the_same_moment(
    cast: Cast, racers: list[tuple[str, str]], allowed: list[list[bool]]
) -> None:
    """Two processes, 100 starts at once: related versions by name both start, unrelated ones never do."""
    children = [cast(RACER.format(later=LATER), kind, match) for kind, match in racers]
    for child in children:
        child.expect("ready")
    for _ in range(100):
        for child in children:
            child.tell("start")
        assert [child.hear() for child in children] in allowed
        for child in children:
            child.tell("close")
        for child in children:
            child.expect("closed")
