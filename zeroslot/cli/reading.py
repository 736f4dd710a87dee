"""How `echo`, `plot` and `view` read a topic: a best-effort subscriber without a class, and what is asked of it."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import zeroslot as zs
from zeroslot.cli.expression import WHOLE, Expression, ExpressionError
from zeroslot.cli.table import YELLOW, cut, printable, styled

LOOK_S = 0.05  # between two looks at the keys, and at the signals that a screen has noted


@dataclass(frozen=True, slots=True)
class Source:
    """What is read. `history`: how many older samples to begin with, as far as a publisher has kept them. `times`: how
    many samples to give; None: without end. `timeout`: how many seconds to wait for a sample; None: for ever.
    """

    topic: str
    domain: str | None = None
    history: int = 0
    latest: bool = False
    times: int | None = None
    timeout: float | None = None


def subscribe(source: Source, verb: str) -> zs.Subscriber[Any]:
    """A subscriber that no publisher waits for, and that holds one sample at a time. Raises what Subscriber raises."""
    history = source.history
    if history:
        history = min([history, *depths(source)])
    return zs.Subscriber(source.topic, domain=source.domain, history=history, max_leases=1, name=f"zeroslot {verb}")


def depths(source: Source) -> list[int]:
    """How many samples each live publisher keeps."""
    try:
        found = zs.inspect(source.topic, source.domain)
    except zs.TopicNotFoundError:
        return []
    return [publisher.depth for publisher in found.publishers]


def check_names(source: Source, expressions: Iterable[Expression]) -> None:
    """Raises ExpressionError for a field that the samples do not have, where a publisher is there to say so.

    Why before the first sample: the topic may be quiet for hours.
    """
    try:
        layout = zs.schema_of(source.topic, source.domain)
    except (zs.ZeroslotError, OSError):
        return  # the subscriber will tell
    known = [WHOLE] if layout.whole else [*zs.type_from_schema(layout).model_fields]
    for expression in expressions:
        for name in expression.names:
            if name not in known:
                raise ExpressionError(f"{source.topic} has no field {name!r}. It has {', '.join(known)}")


def note_silence(source: Source, subscriber: zs.Subscriber[Any]) -> None:
    """Say to a person that nothing is published yet: what is to come may come late or never."""
    if sys.stderr.isatty() and not subscriber.publishers:
        print(
            f"zeroslot: {source.topic} has no publisher yet, waiting. `zeroslot doctor {source.topic}` looks for the "
            "reason",
            file=sys.stderr,
        )


def none_came(source: Source, seconds: float | None) -> int:
    """Say that no sample came in time: the exit status of a command that wanted one."""
    print(f"zeroslot: no sample of {source.topic} came within {seconds:g} s", file=sys.stderr)
    return 1


def leases_of(
    source: Source, subscriber: zs.Subscriber[Any], before_waiting: Callable[[], object] | None = None
) -> Iterator[zs.Lease[Any]]:
    """The leases of a subscriber, each released when the next one is asked for. `before_waiting` is called whenever
    nothing more is there. Ends after `timeout` seconds without a sample.
    """
    take = subscriber.latest if source.latest else subscriber.take
    while True:
        lease = take(0)
        if lease is None:
            if before_waiting is not None:
                before_waiting()
            lease = take(source.timeout)
            if lease is None:
                return
        try:
            yield lease
        finally:
            lease.release()


class Notices(logging.Handler):
    """A context manager: the newest warnings are lines of the picture meanwhile, and not on stderr, which is the same
    terminal.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._texts: list[str] = []
        self._before: list[logging.Handler] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the first line."""
        text = f"{record.levelname}: {record.getMessage()}".partition("\n")[0]
        self._texts = [*self._texts, text][-3:]

    def lines(self, width: int) -> list[str]:
        """At most three."""
        return [styled(cut(printable(text), width), YELLOW) for text in self._texts]

    def __enter__(self) -> Self:
        root = logging.getLogger()
        self._before, root.handlers = root.handlers, [self]
        return self

    def __exit__(self, *exception: object) -> None:
        logging.getLogger().handlers = self._before


class Clock:
    """Times of samples, which are of CLOCK_MONOTONIC, as the time of day."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def text(self, published_ns: int) -> str:
        """Local time with microseconds: 14:03:22.123456."""
        seconds, rest_ns = divmod(published_ns + self._offset_ns, 10**9)
        return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{rest_ns // 1000:06}"
