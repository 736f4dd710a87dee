"""Death at every instruction: a real publisher and a real subscriber, in the binding that is shipped.

A tracer (stepper.c) lets a victim run k instructions of an operation and kills it there: in the core, in the binding or
in the interpreter. The survivors' checks are those of test_steps.py. This finds what steps cannot: an access that was
not counted, and an order that the compiler made.

Each operation is entered and left through Python, so most of its instructions are the interpreter's. A plain run takes
some of them, others each time; `--every-instruction` takes all.
"""

from __future__ import annotations

import platform
import random
from collections.abc import Callable
from functools import partial

import pytest

from tests.fault import survivors
from tests.fault.survivors import DEPTH, TOPIC, Launcher, PublisherHere, SubscribersHere, Victim
from tests.fault.victims import NEVER

POINTS = 24  # of each operation, in a plain run

pytestmark = [
    pytest.mark.skipif(platform.machine() not in {"x86_64", "aarch64"}, reason="not tried on this processor"),
    pytest.mark.watchdog(3600.0),  # for --every-instruction
]


def at_instructions(
    name: str, request: pytest.FixtureRequest, start: Callable[[], Victim], check: Callable[[], None]
) -> None:
    """Kill at each instruction, or at one of each stretch of them."""
    whole = start().kill_traced("instructions", NEVER)
    check()
    assert whole.finished
    stride = 1 if request.config.getoption("every_instruction") else max(1, whole.count // POINTS)
    finished = points = 0
    for stretch in range(0, whole.count + stride, stride):
        at = stretch + random.randrange(stride)
        death = start().kill_traced("instructions", at)
        assert death.finished or death.count == at
        finished += death.finished
        try:
            check()
        except BaseException as error:
            error.add_note(f"after a death at instruction {at} of {name}")
            raise
        points += 1
    assert finished < points / 2
    survivors.say(request.config, f"{name}: {points} deaths at {whole.count} instructions, all survived")


@pytest.mark.row("NEW-5")
@pytest.mark.parametrize(
    ("scenario", "published", "sleeper"),
    [("loan", 2, False), ("commit", DEPTH, False), ("commit", 2, True)],
    ids=["loan", "commit", "commit that wakes"],
)
def test_a_publisher_killed_at_any_instruction_leaves_whole_samples(
    tracing: Launcher, request: pytest.FixtureRequest, scenario: str, published: int, sleeper: bool
):
    """Its published samples stay; the sample in progress is there as a whole, or is not there."""
    world = SubscribersHere(sleeper=sleeper)

    def start() -> Victim:
        victim = tracing.start(scenario, TOPIC, published)
        world.meet(keep=True)
        if sleeper:
            world.wait_for_sleeper(published)
        return victim

    with survivors.nothing_grows():
        at_instructions(request.node.callspec.id, request, start, partial(world.check, published=published))
    world.close()


@pytest.mark.row("NEW-5")
@pytest.mark.parametrize(
    ("scenario", "hold", "history"),
    [("take", 1, 2), ("release", 1, 1), ("latest", 0, 3)],
    ids=["take", "release", "latest"],
)
def test_a_subscriber_killed_at_any_instruction_does_not_disturb_its_publisher(
    tracing: Launcher, request: pytest.FixtureRequest, scenario: str, hold: int, history: int
):
    """Its slots and its index are used again."""
    world = PublisherHere()
    with survivors.nothing_grows():
        at_instructions(
            request.node.callspec.id,
            request,
            partial(tracing.start, scenario, TOPIC, hold, history=history),
            world.check,
        )
    world.close()
