"""`zeroslot view`: the images of a topic, in the terminal, in a file, or as facts."""

from __future__ import annotations

import json
import shutil
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zeroslot as zs
from zeroslot.cli import CommandError
from zeroslot.cli.expression import Expression
from zeroslot.cli.figures import as_time
from zeroslot.cli.image import Image, image_of, images_in, lines_of, save
from zeroslot.cli.reading import LOOK_S, Notices, Source, check_names, none_came, note_silence, subscribe
from zeroslot.cli.screen import Screen, is_terminal
from zeroslot.cli.table import BOLD, DIM, RED, cut, has_colours, styled, width_of

WHAT = (
    "an image is an array of uint8 with the shape (height, width), (height, width, 3) or (height, width, 4), a JPEG or "
    "PNG file as bytes, or an array of depths with the shape (height, width)"
)


@dataclass(frozen=True, slots=True)
class Request:
    """What is shown. `save`: a file; with {sequence} in its name one for each sample."""

    field: Expression | None = None
    bgr: bool = False
    save: str | None = None
    once: bool = False
    fps: float = 10.0


class Viewer:
    """Finds the image of each sample."""

    def __init__(self, source: Source, request: Request) -> None:
        self.source = source
        self._request = request
        self._name = request.field.text if request.field is not None else ""
        self._seen: deque[tuple[str, int, int]] = deque(maxlen=32)  # publisher, sequence, time

    def image_of(self, lease: zs.Lease[Any]) -> tuple[str, Image]:
        """The name of the field, and its image. Raises CommandError where there is none."""
        self._seen.append((lease.publisher_id, lease.sequence, lease.published_ns))
        sample = lease.sample
        if self._request.field is not None:
            candidates = [(self._name, self._request.field(sample))]
        else:
            candidates = list(images_in(sample))
        for name, value in candidates:
            image = image_of(value, bgr=self._request.bgr)
            if image is not None:
                return name, image
        where = self._name or f"the samples of {self.source.topic}"
        raise CommandError(f"there is no image in {where}: {WHAT}")

    def picture(self, lease: zs.Lease[Any], lost: int, width: int, height: int, colours: str | None) -> list[str]:
        """A heading and the image, in so many columns and lines. Keeps nothing of the sample."""
        name, image = self.image_of(lease)
        lines = lines_of(image, width, max(height - 1, 1), colours)
        return [self._heading(name, image, lease, lost, width), *lines]

    def _rate_hz(self) -> float:
        """Samples a second, by the numbers of those that were shown; 0: not known."""
        (first, begin, begin_ns), (last, end, end_ns) = self._seen[0], self._seen[-1]
        return (end - begin) * 1e9 / (end_ns - begin_ns) if first == last and end_ns > begin_ns else 0.0

    def _heading(self, name: str, image: Image, lease: zs.Lease[Any], lost: int, width: int) -> str:
        wide, high = image.size
        facts = f"  {name}  {wide}x{high} {image.form}  # {lease.sequence}"
        rate = f"{self._rate_hz():.3g} Hz  " if self._rate_hz() else ""
        age_ns = time.monotonic_ns() - lease.published_ns
        age = f"{rate}{as_time(age_ns)} old" if age_ns >= 0 else rate.rstrip()
        loss = f"  {lost} lost" if lost else ""
        topic = cut(self.source.topic, max(width - len(facts) - 2, 8))
        facts = cut(facts, max(width - width_of(topic) - 2, 0))
        left = width_of(topic) + width_of(facts) + 1
        if left + len(age) + len(loss) + 2 > width:
            return f" {styled(topic, BOLD)}{styled(facts, DIM)}"
        space = " " * (width - 1 - left - len(age) - len(loss))
        return f" {styled(topic, BOLD)}{styled(facts, DIM)}{space}{styled(age, DIM)}{styled(loss, RED)}"


def view_images(source: Source, request: Request, *, json_output: bool) -> int:
    """Show images until Ctrl-C, or one. 1: none came in time."""
    if request.field is not None:
        check_names(source, [request.field])
    viewer = Viewer(source, request)
    with subscribe(source, "view") as subscriber:
        if json_output or request.save is not None:
            return _handle(viewer, request, subscriber, json_output=json_output)
        if request.once or not is_terminal():
            return _print_one(viewer, subscriber)
        return _show(viewer, request, subscriber)


def _handle(viewer: Viewer, request: Request, subscriber: zs.Subscriber[Any], *, json_output: bool) -> int:
    """Save images, and say what they are."""
    note_silence(viewer.source, subscriber)
    endless = not request.once and (request.save is None or "{sequence}" in request.save)
    while (lease := _next(viewer, subscriber)) is not None:
        text = _saved(viewer, request, lease, subscriber.lost, json_output=json_output)
        lease.release()
        print(text, flush=True)
        if not endless:
            return 0
    return none_came(viewer.source, viewer.source.timeout)


def _saved(viewer: Viewer, request: Request, lease: zs.Lease[Any], lost: int, *, json_output: bool) -> str:
    """Save one image where that is asked for: a line about it. Keeps nothing of the sample."""
    name, image = viewer.image_of(lease)
    path = Path(request.save.replace("{sequence}", str(lease.sequence))) if request.save is not None else None
    if path is not None:
        save(image, path)
    width, height = image.size
    if not json_output:
        return f"{path}: {name} of {viewer.source.topic}, {width}x{height} {image.form}"
    facts = {
        "topic": viewer.source.topic,
        "publisher_id": lease.publisher_id,
        "sequence": lease.sequence,
        "published_ns": lease.published_ns,
        "lost": lost,
        "field": name,
        "width": width,
        "height": height,
        "form": image.form,
        "saved": None if path is None else str(path),
    }
    return json.dumps(facts)


def _print_one(viewer: Viewer, subscriber: zs.Subscriber[Any]) -> int:
    note_silence(viewer.source, subscriber)
    lease = _next(viewer, subscriber)
    if lease is None:
        return none_came(viewer.source, viewer.source.timeout)
    columns, lines = shutil.get_terminal_size((100, 40))
    print("\n".join(viewer.picture(lease, subscriber.lost, columns, lines - 1, colours())))
    return 0


def _show(viewer: Viewer, request: Request, subscriber: zs.Subscriber[Any]) -> int:
    """Until `q`, Ctrl-C, or `timeout` seconds without a sample."""
    timeout, system, shown = viewer.source.timeout, colours(), False
    lines = ["", f" waiting for a sample of {viewer.source.topic}"]
    due = newest = time.monotonic()
    with Notices() as notices, Screen() as screen:
        while timeout is None or time.monotonic() - newest <= timeout:
            columns, height = screen.size
            below = notices.lines(columns)
            screen.draw([*lines[: height - len(below)], *below])
            if "q" in screen.keys(max(due - time.monotonic(), 0)):
                return 0
            lease = subscriber.latest(LOOK_S)
            if lease is None:
                continue
            due = newest = time.monotonic()
            due += 1 / request.fps
            try:
                lines = viewer.picture(lease, subscriber.lost, columns, height - len(below), system)
                shown = True
            except CommandError as error:
                if not shown:
                    raise
                lines = ["", f" {cut(str(error), columns - 1)}"]  # one damaged image does not end it
            lease.release()
    return none_came(viewer.source, viewer.source.timeout)


def _next(viewer: Viewer, subscriber: zs.Subscriber[Any]) -> zs.Lease[Any] | None:
    """The next sample; where only the newest counts, that."""
    take = subscriber.latest if viewer.source.latest else subscriber.take
    return take(viewer.source.timeout)


def colours() -> str | None:
    """The colours of the terminal, as rich finds them."""
    from rich.console import Console

    return Console().color_system if has_colours() else None
