"""`zeroslot echo`: the samples of a topic as they come, as text, JSON lines or CSV. No class is needed."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

import zeroslot as zs
from zeroslot.cli.decoding import Form, cell, columns_of, lines_of_value, plain, text_of, value_at, whole_sample
from zeroslot.cli.drawing import has_blocks
from zeroslot.cli.expression import Expression
from zeroslot.cli.figures import as_time
from zeroslot.cli.reading import Clock, Source, check_names, leases_of, none_came, note_silence, subscribe
from zeroslot.cli.table import BOLD, DIM, RED, printable, styled

Output = Literal["text", "json", "csv"]
Printer = Callable[[zs.Lease[Any], zs.Subscriber[Any]], None]
TEXT_LENGTH = 64  # items of an array, characters of a text, where nothing else is asked for


def print_samples(
    source: Source,
    fields: Sequence[Expression],
    condition: Expression | None,
    *,
    output: Output,
    arrays: bool,
    limit: int | None,
) -> int:
    """Print samples until there are enough of them, or none came in time. 1: there were none, or not enough."""
    check_names(source, [*fields, *([condition] if condition is not None else [])])
    form = Form(arrays, TEXT_LENGTH if limit is None and output == "text" else limit)
    make: dict[Output, Callable[[], Printer]] = {
        "text": lambda: _TextPrinter(fields, form),
        "json": lambda: _JsonPrinter(source.topic, fields, form),
        "csv": lambda: _CsvPrinter(fields, form),
    }
    printed = 0
    with subscribe(source, "echo") as subscriber:
        note_silence(source, subscriber)
        printer = make[output]()
        for lease in leases_of(source, subscriber, sys.stdout.flush):
            if condition is None or condition.holds(lease.sample):
                printer(lease, subscriber)
                printed += 1
                if printed == source.times:
                    return 0
    if printed and source.times is None:
        return 0
    return none_came(source, source.timeout)


class _TextPrinter:
    """A line about each sample, and one or more for each field."""

    def __init__(self, fields: Sequence[Expression], form: Form) -> None:
        self._fields = fields
        self._form = form
        self._clock = Clock()
        self._lost = 0
        self._before: dict[str, int] = {}  # publisher -> time of its newest sample

    def __call__(self, lease: zs.Lease[Any], subscriber: zs.Subscriber[Any]) -> None:
        lost = subscriber.lost
        if lost > self._lost:
            missed = lost - self._lost
            print(styled(f"# {missed} sample{'s' * (missed != 1)} lost", RED))
            self._lost = lost
        if len(self._fields) == 1:
            print(text_of(self._fields[0](lease.sample), self._form))
            return
        print(self._heading(lease))
        named = [(field.text, field(lease.sample)) for field in self._fields]
        for name, value in named or _fields_in_text(lease.sample):
            for line in lines_of_value(name, value, self._form):
                print(line)

    def _heading(self, lease: zs.Lease[Any]) -> str:
        before = self._before.get(lease.publisher_id)
        self._before[lease.publisher_id] = lease.published_ns
        since = "" if before is None else f"  +{as_time(lease.published_ns - before)}"
        whose = f"  {lease.publisher_id}" if len(self._before) > 1 else ""
        number = styled(f"--- # {lease.sequence}", BOLD)
        return number + styled(f"  {self._clock.text(lease.published_ns)}{since}{whose}", DIM)


def _fields_in_text(sample: Any) -> list[tuple[str, Any]]:
    shown = whole_sample(sample)
    return [(name, value) for name, value in (shown.items() if shown is not sample else shown) if name != "dtype"]


class _JsonPrinter:
    """An object on a line of its own for each sample."""

    def __init__(self, topic: str, fields: Sequence[Expression], form: Form) -> None:
        self._topic = topic
        self._fields = fields
        self._form = form

    def __call__(self, lease: zs.Lease[Any], subscriber: zs.Subscriber[Any]) -> None:
        sample: Any = whole_sample(lease.sample)
        if self._fields:
            sample = {field.text: field(lease.sample) for field in self._fields}
        facts = {
            "topic": self._topic,
            "publisher_id": lease.publisher_id,
            "sequence": lease.sequence,
            "published_ns": lease.published_ns,
            "lost": subscriber.lost,
            "sample": plain(sample, self._form),
        }
        line = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
        if not (line.isprintable() and has_blocks()):  # a terminal's commands, or letters that stdout cannot show
            line = json.dumps(facts, separators=(",", ":"))
        print(line)


class _CsvPrinter:
    """A line of titles, which is printed again where the type of the samples changes, and a line for each sample."""

    def __init__(self, fields: Sequence[Expression], form: Form) -> None:
        self._fields = fields
        self._form = form
        self._writer = csv.writer(sys.stdout, lineterminator="\n")
        self._columns: dict[type, tuple[tuple[str, ...], list[Any]]] = {}
        self._titles: tuple[str, ...] = ()
        self._for_people = sys.stdout.isatty()

    def __call__(self, lease: zs.Lease[Any], _: zs.Subscriber[Any]) -> None:
        sample = lease.sample
        if self._fields:
            titles = tuple(field.text for field in self._fields)
            values = [field(sample) for field in self._fields]
        elif whole_sample(sample) is not sample:
            titles, values = ("data",), [sample]
        else:
            if type(sample) not in self._columns:
                schema = zs.layout_of(type(lease.copy())).to_json_schema()
                columns = columns_of(sample, schema)
                self._columns[type(sample)] = tuple(title for title, _ in columns), [way for _, way in columns]
            titles, ways = self._columns[type(sample)]
            values = [value_at(sample, way) for way in ways]
        if titles != self._titles:
            self._writer.writerow(["sequence", "published_ns", "publisher_id", *titles])
            self._titles = titles
        cells = [cell(value, self._form) for value in values]
        if self._for_people:
            cells = [printable(each) for each in cells]
        self._writer.writerow([lease.sequence, lease.published_ns, lease.publisher_id, *cells])
