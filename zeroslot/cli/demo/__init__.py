"""`zeroslot demo`: seven processes, two topics, and the proof that every sample arrived whole.

Why the end has two steps: the publishers stop and say how many samples there were, and the subscribers go on until
they can account for each of these. So a sample that is missing at the end is missing, and not merely late.
"""

from __future__ import annotations

import json
import os
import signal
import time
from types import FrameType
from typing import Any, Self

from zeroslot.cli.demo.parts import SOURCES, SUBSCRIBERS, Source
from zeroslot.cli.demo.screen import Screen, Silent, SubscriberState, TopicState, print_summary, screen_for_stdout
from zeroslot.cli.processes import Child, Children

__all__ = ["run_demo"]

PARTS = "zeroslot.cli.demo.parts"
UPDATE_S = 0.25


def run_demo(seconds: float, *, json_output: bool) -> int:
    """Run it for so long, or until SIGINT or SIGTERM; 0 when nothing was torn or lost, 1 otherwise, and 130 when it was
    ended before it had begun.
    """
    screen = Silent() if json_output else screen_for_stdout(seconds)
    with Interruption() as interruption, Children() as children:
        demo = Demo(children, screen, interruption)
        with screen:
            demo.run(seconds)
    if interruption.requested and not any(topic.published for topic in demo.topics):
        return 130
    if json_output:
        print(json.dumps(demo.summary(), indent=2), flush=True)
    else:
        print_summary(demo.topics, demo.verdict)
    return 0 if demo.good else 1


class Interruption:
    """SIGINT and SIGTERM as a flag, for the first time; for the second time as they were. A context manager."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # a handler's arguments
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def __exit__(self, *exception: object) -> None:
        self._restore()


class Demo:
    """One run."""

    def __init__(self, children: Children, screen: Screen, interruption: Interruption) -> None:
        self._children = children
        self._screen = screen
        self._interruption = interruption
        self._domain = f"demo-{os.getpid()}"
        self._finished: set[int] = set()
        self._publishers: dict[int, tuple[Child, TopicState]] = {}
        self._subscribers: dict[int, tuple[Child, TopicState, SubscriberState]] = {}
        self.topics = [self._start(name, source) for name, source in SOURCES.items()]
        self._began_ns = time.monotonic_ns()

    def _start(self, name: str, source: Source) -> TopicState:
        subscribers = [
            self._children.start(PARTS, f"the {name} subscriber", task="subscribe", source=name, domain=self._domain)
            for _ in range(SUBSCRIBERS)
        ]
        publisher = self._children.start(
            PARTS, f"the {name} publisher", task="publish", source=name, domain=self._domain
        )
        states = [SubscriberState(child.pid) for child in subscribers]
        topic = TopicState(source.topic, source.sample_type.__name__, source.sample_bytes, publisher.pid, states)
        self._publishers[publisher.pid] = publisher, topic
        self._subscribers |= {
            child.pid: (child, topic, state) for child, state in zip(subscribers, states, strict=True)
        }
        return topic

    def run(self, seconds: float) -> None:
        """All of it: start, measure, stop, account."""
        ready: set[int] = set()
        while len(ready) < len(self._publishers):
            ready |= {child.pid for child, report in self._children.events(UPDATE_S) if report["is"] == "ready"}
            if self._interruption.requested:
                return
        self._began_ns = time.monotonic_ns()
        for publisher, topic in self._publishers.values():
            topic.note(0)
            publisher.send("go")
        while self._seconds < seconds and not self._interruption.requested:
            self._listen(min(UPDATE_S, max(seconds - self._seconds, 0)))
        for publisher, topic in self._publishers.values():
            publisher.send("stop")
            topic.seconds = self._seconds
        self._listen_until(self._publishers.keys())
        for subscriber, topic, _ in self._subscribers.values():
            subscriber.send({"published": topic.published})
        self._listen_until(self._subscribers.keys())

    @property
    def _seconds(self) -> float:
        return (time.monotonic_ns() - self._began_ns) / 1e9

    def _listen(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            for child, report in self._children.events(max(deadline - time.monotonic(), 0)):
                self._note(child.pid, report)
            if time.monotonic() >= deadline or self._interruption.requested:
                break
        self._screen.update(self.topics, self._seconds)

    def _listen_until(self, finished: Any) -> None:
        while not finished <= self._finished:
            for child, report in self._children.events(UPDATE_S):
                self._note(child.pid, report)

    def _note(self, pid: int, report: dict[str, Any]) -> None:
        if pid in self._publishers:
            self._publishers[pid][1].note(report["count"])
        else:
            self._subscribers[pid][2].note(report)
        if report["is"] == "done":
            self._finished.add(pid)

    @property
    def _faults(self) -> dict[str, int]:
        states = [state for _, _, state in self._subscribers.values()]
        return {
            "torn": sum(state.torn for state in states),
            "lost": sum(state.lost for state in states),
            "missing": sum(topic.missing for topic in self.topics),
        }

    @property
    def good(self) -> bool:
        """Whether there were samples, and every one arrived whole at every subscriber."""
        return all(topic.published for topic in self.topics) and not any(self._faults.values())

    @property
    def verdict(self) -> str:
        """The same in a sentence."""
        if not all(topic.published for topic in self.topics):
            return "ended before anything was published"
        if self.good:
            return f"{sum(topic.published for topic in self.topics)} samples published: none torn, none lost"
        return ", ".join(f"{count} {fault}" for fault, count in self._faults.items() if count)

    def summary(self) -> dict[str, Any]:
        """For JSON."""
        topics = [topic.summary() for topic in self.topics]
        return {
            "seconds": max(topic.seconds for topic in self.topics),
            "topics": topics,
            **self._faults,
            "good": self.good,
        }
