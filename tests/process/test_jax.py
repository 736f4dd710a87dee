"""Samples as arrays of jax: `pip install 'zeroslot[jax]'`. Another process publishes them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import zeroslot as zs
from tests.process.actors import Cast
from tests.process.samples import Pixels

os.environ.setdefault("JAX_PLATFORMS", "cpu")
jax: Any = pytest.importorskip("jax", reason="the extra zeroslot[jax] is not installed")

PUBLISHER = """
import numpy as np
import zeroslot as zs
from tests.process.samples import Pixels

pub = zs.Publisher("pixels", Pixels)
say("ready")
for number in orders():
    with pub.loan() as pixels:
        pixels.image[:] = number
    say(pub.sequence)
"""


@pytest.mark.row("BUF-9")
def test_jax_reads_a_sample_of_another_process_in_place(cast: Cast) -> None:
    """`device_put` copies nothing, and the array keeps the sample; the capsule of what is read-only is refused."""
    publisher = cast(PUBLISHER)
    publisher.expect("ready")
    with zs.Subscriber("pixels", Pixels) as sub:
        sub.wait_for_publishers()
        publisher.ask(1)
        lease = sub.take(timeout=None)
        assert lease is not None
        image = lease.sample.image
        with pytest.raises(BufferError):
            jax.numpy.from_dlpack(image)
        array = jax.device_put(image)
        copied = jax.numpy.asarray(image, copy=True)
        assert array.unsafe_buffer_pointer() == image.ctypes.data
        del lease, image
        for number in range(2, 60):
            publisher.ask(number)
        assert float(jax.numpy.sum(array)) == array.size
        assert float(jax.numpy.sum(copied)) == copied.size
        del array


@pytest.mark.row("BUF-9")
def test_an_array_of_jax_is_published() -> None:
    """As any array; a loan's own memory as an array of jax holds off the commit."""
    with zs.Publisher("pixels", Pixels) as pub, zs.Subscriber("pixels", Pixels) as sub:
        loan = pub.loan()
        loan.sample.image = np.asarray(jax.numpy.ones((64, 64)))
        array = jax.numpy.from_dlpack(np.asarray(zs.buffer(loan.sample, "image")))
        assert float(array.sum()) == array.size
        with pytest.raises(BufferError):
            loan.commit()
        del array
        while True:
            try:
                loan.commit()
                break
            except BufferError:  # a thread of jax has not let go of the memory yet: no program can wait for that
                os.sched_yield()
        assert sub.take().sample.image.sum() == 64 * 64  # type: ignore[union-attr]  # one was published
