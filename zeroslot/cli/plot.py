"""`zeroslot plot`: fields of a topic as curves, live in the terminal.

A number is a curve over time, and so is each element of a short array. A long array is a curve by itself, of its newest
values over their index: a laser scan, or a spectrum.
"""

from __future__ import annotations

import enum
import math
import shutil
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import zeroslot as zs
from zeroslot.cli import CommandError
from zeroslot.cli.decoding import number_text
from zeroslot.cli.expression import Expression
from zeroslot.cli.reading import LOOK_S, Notices, Source, check_names, none_came, subscribe
from zeroslot.cli.screen import Screen, is_terminal
from zeroslot.cli.table import BOLD, DIM, RED, RESET, cut, has_colours, printable, styled, width_of

COLOURS = (39, 208, 41, 170, 220, 44, 203, 147)  # of the 256; each is readable on black and on white
AXES = 244
SHORT = 8  # an array of more elements is a curve by itself
KEPT = 100_000  # values of a curve
MISSING = "plot needs plotext, which is not installed: pip install 'zeroslot[plot]'"


@dataclass(frozen=True, slots=True)
class View:
    """What is shown: `window_s` seconds, redrawn `fps` times a second; the limits of y, None: as the values need."""

    window_s: float
    fps: float
    lower: float | None = None
    upper: float | None = None


@dataclass(slots=True)
class Curve:
    """The values of one curve, and their times (CLOCK_MONOTONIC)."""

    times_ns: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT))
    values: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))

    def forget_before(self, time_ns: int) -> None:
        """Drop what is older."""
        while self.times_ns and self.times_ns[0] < time_ns:
            self.times_ns.popleft()
            self.values.popleft()


class Plot:
    """The curves of a topic, and their picture."""

    def __init__(self, topic: str, fields: Sequence[Expression], view: View) -> None:
        self._topic = topic
        self._fields = fields
        self._view = view
        self._publishers: dict[str, str] = {}  # their names, by their ids
        self._curves: dict[tuple[str, str], Curve] = {}  # by their names, and those of the publishers
        self._arrays: dict[str, np.ndarray[Any, Any]] = {}  # where arrays are curves by themselves
        self._taken: deque[int] = deque(maxlen=KEPT)  # the times of all samples of the window

    def add(self, lease: zs.Lease[Any], subscriber: zs.Subscriber[Any]) -> None:
        """Take the values of a sample. Raises CommandError for what cannot be drawn.

        Publishers of one name, such as one that was started again, have their curves in common.
        """
        if lease.publisher_id not in self._publishers:
            self._publishers |= {each.publisher_id: each.name for each in subscriber.publishers}
        publisher = self._publishers.setdefault(lease.publisher_id, "")
        self._taken.append(lease.published_ns)
        if self._arrays and self._curves:
            names = f"{next(iter(self._arrays))} and {next(iter(self._curves))[0]}"
            raise CommandError(f"{names} cannot be drawn together: one is a curve over its index, one over time")
        for expression in self._fields:
            value = expression(lease.sample)
            if isinstance(value, np.ndarray) and value.size > SHORT:
                self._arrays[expression.text] = _numbers(value.ravel(), expression.text)
                continue
            for name, number in _named(expression.text, value):
                curve = self._curves.setdefault((name, publisher), Curve())
                curve.times_ns.append(lease.published_ns)
                curve.values.append(number)

    @property
    def is_empty(self) -> bool:
        """Whether there was no sample yet."""
        return not self._taken

    def lines(self, width: int, height: int, lost: int, *, to_newest: bool = False) -> list[str]:
        """The picture in so many columns and lines, up to now, or up to the newest sample."""
        now_ns = self._taken[-1] if to_newest else time.monotonic_ns()
        begin_ns = now_ns - int(self._view.window_s * 1e9)
        while self._taken and self._taken[0] < begin_ns:
            self._taken.popleft()
        for curve in self._curves.values():
            curve.forget_before(begin_ns)
        legend = self._legend(width)
        picture = self._picture(width, max(height - len(legend) - 1, 4), now_ns)
        return [self._heading(width, lost), *picture, *legend][:height]

    def _heading(self, width: int, lost: int) -> str:
        rate = ""
        if len(self._taken) > 1:
            span_s = (self._taken[-1] - self._taken[0]) / 1e9
            rate = f"{(len(self._taken) - 1) / span_s:.4g} Hz" if span_s > 0 else ""
        loss = f"  {lost} lost" if lost else ""
        topic = cut(self._topic, max(width - len(rate) - len(loss) - 3, 8))
        space = " " * max(width - 1 - width_of(topic) - len(rate) - len(loss), 1)
        return f" {styled(topic, BOLD)}{space}{styled(rate, DIM)}{styled(loss, RED)}"

    def _names(self) -> list[str]:
        if self._arrays:
            return [*self._arrays]
        several = len({publisher for _, publisher in self._curves}) > 1
        return [f"{name} ({publisher})" if several else name for name, publisher in self._curves]

    def _legend(self, width: int) -> list[str]:
        """A line for each curve: its colour, its name, its newest value, and where there is room the range of the
        window.
        """
        names, curves = self._names(), [*self._curves.values()]
        room = max(map(width_of, names), default=0)
        lines = []
        for number, name in enumerate(names):
            values = self._arrays[name] if self._arrays else np.fromiter(curves[number].values, np.float64)
            finite = values[np.isfinite(values)]
            text = printable(name).ljust(room)
            if finite.size:
                newest = f"{len(values)} values" if self._arrays else _short(values[-1])
                text += f"  {newest:>12}"
                span = f"  {_short(finite.min())} … {_short(finite.max())}"
                text += styled(span, DIM) if 4 + width_of(text + span) <= width else ""
            lines.append(f" {_coloured('━━', number)} {text.rstrip()}")
        return lines

    def _picture(self, width: int, height: int, now_ns: int) -> list[str]:
        points = list(self._points(2 * width, now_ns))
        if not any(len(x) for x, _ in points):
            text = "waiting for values" if points else f"waiting for a sample of {self._topic}"
            return ["" if at != height // 2 else styled(text.center(width), DIM) for at in range(height)]
        with undisturbed():
            return _drawn(points, width, height, self._view, over_time=not self._arrays)

    def _points(self, most: int, now_ns: int) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
        """x and y of each curve, of which no more than a terminal can show."""
        if self._arrays:
            for values in self._arrays.values():
                yield _thinned(np.arange(len(values), dtype=np.float64), values, most)
            return
        for curve in self._curves.values():
            x = (np.fromiter(curve.times_ns, np.int64) - now_ns) / 1e9
            yield _thinned(x, np.fromiter(curve.values, np.float64), most)


def _short(value: float) -> str:
    return number_text(float(f"{value:.6g}"))


def _coloured(text: str, number: int) -> str:
    colour = COLOURS[number % len(COLOURS)]
    return f"\x1b[38;5;{colour}m{text}{RESET}" if has_colours() else text


def _named(name: str, value: Any) -> Iterator[tuple[str, float]]:
    """The curves of a value: its own, or those of its elements."""
    if value is None:
        yield name, math.nan
    elif isinstance(value, np.ndarray) and value.ndim:
        numbers = _numbers(value, name)
        for index in np.ndindex(value.shape):
            yield f"{name}[{','.join(map(str, index))}]", float(numbers[index])
    elif hasattr(value, "__len__") and not isinstance(value, (str, bytes, memoryview)):
        yield from _named(name, _numbers(np.asarray(value), name))
    else:
        yield name, _number(value, name)


def _number(value: Any, name: str) -> float:
    if isinstance(value, (bool, int, float, np.number, np.bool_, enum.Enum, np.ndarray)):
        number = value.value if isinstance(value, enum.Enum) else value
        if not np.iscomplexobj(number):
            return float(number)
    raise CommandError(f"{name} cannot be drawn: it is {type(value).__name__}, not a number or an array of numbers")


def _numbers(values: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
    if values.dtype.kind not in "biuf":
        raise CommandError(f"{name} cannot be drawn: it is an array of {values.dtype}, not of numbers")
    return values.astype(np.float64)  # of its own: the sample goes


def _thinned(
    x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], most: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The finite points; of many the least and the greatest of each stretch, so that no peak is missed."""
    finite = np.isfinite(y)
    x, y = x[finite], y[finite]
    if len(x) <= 2 * most:
        return x, y
    stretch = len(x) // most
    rows = y[: len(y) // stretch * stretch].reshape(-1, stretch)
    begin = np.arange(len(rows)) * stretch
    kept = np.sort(np.concatenate([begin + rows.argmin(axis=1), begin + rows.argmax(axis=1), [len(x) - 1]]))
    return x[kept], y[kept]


def _drawn(points: list[Any], width: int, height: int, view: View, *, over_time: bool) -> list[str]:
    """The axes and curves, by plotext."""
    import plotext

    plotext.terminal.limit(False, False)
    figure = plotext.figure
    figure.clear()
    figure.plot_size(width - 1, height)
    figure.theme("colorless")
    figure.axes(pixel=plotext.pixel(AXES, "default"))
    for number, (x, y) in enumerate(points):
        if not len(x):
            continue
        colour = COLOURS[number % len(COLOURS)]
        curve = figure.signal(x.tolist(), y.tolist(), marker=plotext.marker("braille", colour))
        figure.draw(curve.lines() if len(x) > 1 else curve)
    lower, upper = limits(points, view)
    figure.ruler("y").lim(lower, upper)
    if over_time:
        ticks = [-view.window_s * part / 4 for part in range(4, -1, -1)]
        figure.ruler("x").lim(-view.window_s, 0)
        figure.ruler("x").ticks(ticks, [f"{tick:g} s" if tick else "now" for tick in ticks])
    text = figure.build().string()
    return [line if has_colours() else plotext.uncolorize(line) for line in text.splitlines()]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C waits until the end of the block: an exception in the middle of plotext leaves objects that print errors.

    Why a handler and no signal mask: a mask is of one thread, and numpy may have others, which would take the signal.
    """
    arrived: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: arrived.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if arrived:
            signal.raise_signal(signal.SIGINT)


def limits(points: list[Any], view: View) -> tuple[float, float]:
    """The least and the greatest y, with some room; never the same."""
    values = np.concatenate([y for _, y in points])
    low, high = float(values.min()), float(values.max())
    room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    lower = low - room if view.lower is None else view.lower
    upper = high + room if view.upper is None else view.upper
    return (lower, upper) if lower < upper else (lower - room, lower + room)


def plot_fields(source: Source, fields: Sequence[Expression], view: View, *, once: bool) -> int:
    """Draw until Ctrl-C; once where that is asked for, or stdout is no terminal. 1: there was nothing to draw.

    Raises CommandError, also where plotext is missing.
    """
    try:
        with undisturbed():
            import plotext  # noqa: F401  # before anything is subscribed to
    except ModuleNotFoundError:
        raise CommandError(MISSING) from None
    check_names(source, fields)
    plot = Plot(source.topic, fields, view)
    with subscribe(source, "plot") as subscriber:
        if once or not is_terminal():
            _collect(plot, subscriber, view.window_s)
            if plot.is_empty:
                return none_came(source, view.window_s)
            width, height = shutil.get_terminal_size((100, 30))
            print("\n".join(plot.lines(width, min(height - 1, 30), subscriber.lost, to_newest=True)))
            return 0
        return _show(plot, subscriber, view)


def _show(plot: Plot, subscriber: zs.Subscriber[Any], view: View) -> int:
    due = time.monotonic()
    with Notices() as notices, Screen() as screen:
        while True:
            columns, height = screen.size
            below = notices.lines(columns)
            screen.draw([*plot.lines(columns, height - len(below), subscriber.lost), *below])
            due = max(due + 1 / view.fps, time.monotonic())
            while (left := due - time.monotonic()) > 0:
                keys = screen.keys(0)
                if "q" in keys:
                    return 0
                if "resize" in keys:
                    break
                _collect(plot, subscriber, min(left, LOOK_S))


def _collect(plot: Plot, subscriber: zs.Subscriber[Any], seconds: float) -> None:
    """Take samples for so long."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        lease = subscriber.take(left)
        if lease is not None:
            plot.add(lease, subscriber)
            lease.release()
