"""A publisher of ticks and its subscriber, for tests that only need some."""

from __future__ import annotations

from collections.abc import Iterator

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
