"""A publisher of ticks and its subscriber, and a segment of slots, for tests that only need some."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import zeroslot as zs
from tests.process.samples import Tick


@pytest.fixture
def pub() -> Iterator[zs.Publisher[Tick]]:
    with zs.Publisher("t", Tick, depth=64) as made:
        yield made


@pytest.fixture
def sub(pub: zs.Publisher[Tick]) -> Iterator[zs.Subscriber[Tick]]:
    with zs.Subscriber("t", Tick) as made:
        yield made


@pytest.fixture
def path(zeroslot_dir: Path) -> Path:
    return zeroslot_dir / "slots.flink"


@pytest.fixture
def slots(path: Path) -> Iterator[zs.SlotAllocator]:
    with zs.SlotAllocator.create(path, 6, 64, depth=2, max_subscribers=4) as made:
        yield made
