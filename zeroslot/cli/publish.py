"""`zeroslot pub`: publishes samples that are given as JSON.

Why on_full="block": a reliable subscriber gets every sample, whether it was there before or joins while this publishes.
With another policy it would leave this publisher out. Where there is none, nothing blocks.

Why it stays for subscribers that are announced: one that is busy has not attached yet, and what a publisher leaves
behind is there for those alone that are attached.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import zeroslot as zs
from zeroslot.cli.encoding import Encoder, SampleError
from zeroslot.cli.figures import as_json
from zeroslot.cli.types import WHOLE_TYPES

LEAST_STAY_S = 0.1  # for subscribers that are about to attach
LOOK_S = 0.01  # between two looks whether all have attached, or taken everything


@dataclass(frozen=True, slots=True)
class Plan:
    """What is published and how often. `text`: JSON, or `-` for lines of stdin. `rate_hz` None: back to back. `times`
    None: without end. `wait`: subscribers to wait for, up to `timeout` seconds. `linger`: seconds to wait
    before the first sample for announced subscribers to attach, unless `wait` is 0, and after the last one for all to
    take everything.
    """

    topic: str
    text: str
    domain: str | None = None
    rate_hz: float | None = None
    times: int | None = 1
    wait: int = 1
    timeout: float | None = None
    linger: float = 1.0


def publish_samples(plan: Plan, sample_type: type[Any], *, fill: bool, json_output: bool) -> int:
    """Publish, and print how many samples it were. 1: a sample does not fit the type, or no subscriber came in time."""
    encoder = Encoder(sample_type, fill=fill)
    samples = _samples(plan, encoder)
    with _publisher(plan, sample_type) as publisher:
        if not publisher.wait_for_subscribers(plan.wait, 0) and not _wait(plan, publisher):
            return 1
        if plan.wait:
            _let_attach(plan, publisher)
        if not json_output and plan.rate_hz is not None:
            print(f"publishing {encoder.type_name} on {plan.topic} at {plan.rate_hz:g} Hz", flush=True)
        try:
            _publish(plan, publisher, samples)
            _stay(plan, publisher)
        finally:
            _report(plan, publisher, encoder.type_name, json_output=json_output)
    return 0


def _samples(plan: Plan, encoder: Encoder) -> Iterator[Any]:
    """The samples in order, without end where one is repeated. Raises SampleError."""
    if plan.text != "-":
        return itertools.repeat(encoder.sample(_parsed(plan.text, "the sample")))
    return _samples_of_lines(encoder)


def _samples_of_lines(encoder: Encoder) -> Iterator[Any]:
    for number, line in enumerate(sys.stdin, 1):
        if line.strip():
            try:
                yield encoder.sample(_parsed(line, "it"))
            except SampleError as error:
                raise SampleError(f"line {number} of stdin: {error}") from None


def _parsed(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # also too many digits, and too many levels
        raise SampleError(f"{what} is no JSON: {error}") from None


def _publisher(plan: Plan, sample_type: type[Any]) -> zs.Publisher[Any]:
    options: dict[str, Any] = {"domain": plan.domain, "name": "zeroslot pub", "match": "by_name", "on_full": "block"}
    if sample_type in WHOLE_TYPES.values() or zs.layout_of(sample_type).variable:
        options["grow"] = True
    return zs.Publisher(plan.topic, sample_type, **options)


def _wait(plan: Plan, publisher: zs.Publisher[Any]) -> bool:
    if sys.stderr.isatty():
        print(
            f"zeroslot: waiting for {_subscribers(plan.wait)} of {plan.topic}; --wait 0 publishes without",
            file=sys.stderr,
        )
    if publisher.wait_for_subscribers(plan.wait, plan.timeout):
        return True
    print(
        f"zeroslot: {plan.topic} has {_subscribers(publisher.subscriber_count)} after {plan.timeout:g} s, and "
        f"--wait is {plan.wait}. Nothing was published",
        file=sys.stderr,
    )
    return False


def _let_attach(plan: Plan, publisher: zs.Publisher[Any]) -> None:
    """Until those that are announced are attached: samples that come all at once would push out the first ones before a
    best-effort subscriber has looked.
    """
    began = time.monotonic()
    while _some_are_announced(publisher) and time.monotonic() - began < plan.linger:
        publisher.wait_for_subscribers(publisher.subscriber_count + 1, LOOK_S)


def _some_are_announced(publisher: zs.Publisher[Any]) -> bool:
    """Whether there are subscribers that fit, and have not attached."""
    return publisher.wait_for_subscribers(publisher.subscriber_count + 1, 0, announced=True)


def _subscribers(count: int) -> str:
    return f"{count} subscriber{'s' * (count != 1)}"


def _publish(plan: Plan, publisher: zs.Publisher[Any], samples: Iterable[Any]) -> None:
    """One sample after the other, each at its time: what is late does not move what follows."""
    began = time.monotonic()
    for number, sample in enumerate(samples):
        if plan.times is not None and number >= plan.times:
            return
        if plan.rate_hz is not None:
            left = began + number / plan.rate_hz - time.monotonic()
            if left > 0:
                time.sleep(left)
        publisher.publish(sample)


def _stay(plan: Plan, publisher: zs.Publisher[Any]) -> None:
    """Until every subscriber has taken everything, those included that are announced and have not attached."""
    began = time.monotonic()
    while (passed := time.monotonic() - began) < plan.linger:
        if passed >= LEAST_STAY_S and not _some_are_announced(publisher) and _all_taken(plan, publisher):
            return
        time.sleep(LOOK_S)


def _all_taken(plan: Plan, publisher: zs.Publisher[Any]) -> bool:
    found = zs.inspect(plan.topic, plan.domain).publishers
    mine = [each for each in found if each.flink == publisher.flink]
    return all(subscriber.behind == 0 for each in mine for subscriber in each.subscribers)


def _report(plan: Plan, publisher: zs.Publisher[Any], type_name: str, *, json_output: bool) -> None:
    published, subscribers = publisher.stats.published, publisher.subscriber_count
    if json_output:
        facts = {"topic": plan.topic, "type": type_name, "published": published, "subscribers": subscribers}
        print(as_json(facts))
    else:
        samples = f"{published} sample{'s' * (published != 1)}"
        print(f"published {samples} of {type_name} on {plan.topic}, to {_subscribers(subscribers)}")
