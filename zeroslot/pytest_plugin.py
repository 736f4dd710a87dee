"""The fixture `zeroslot_domain` for pytest, which finds this module by the entry point of the installed package.

Why it is a module of its own: pytest loads it in each of its runs, and the rest of zeroslot only where a test uses it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def zeroslot_domain() -> Iterator[str]:
    """A domain that no other test and no other program uses, see `zeroslot.testing.isolated_domain`. Gives its name."""
    from zeroslot.testing import isolated_domain

    with isolated_domain() as domain:
        yield domain
