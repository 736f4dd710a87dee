"""Arrays in any order of memory are published and assigned as numpy copies them."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import zeroslot as zs

DTYPES = ["u1", "?", "<u2", ">i4", "c8", "f8", "c16", "S3", "V5", "S7", "U5", "M8[ns]", [("x", "u1"), ("y", "<f8")]]


class Both(zs.Sample):
    """A field of any shape, and one of a fixed one behind it."""

    open: NDArray[Any]
    fixed: Annotated[NDArray[np.uint8], zs.Shape(5, 90, 3)]
    bounded: Annotated[NDArray[np.uint16], zs.Shape(zs.UpTo(80), zs.UpTo(80))]


@st.composite
def arrays(draw: st.DrawFn, dtype: Any = None, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
    """An array that is permuted, cut, mirrored, broadcast or none of these; with given dims if a shape is given."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)) if dtype is None else dtype)
    lengths = st.one_of(st.integers(0, 4), st.sampled_from([8, 9, 63, 64, 65, 130]))
    dims = list(shape or draw(st.lists(lengths, max_size=5)))
    while shape is None and np.prod(dims, dtype=float) > 200_000:
        dims.pop()
    steps = [draw(st.sampled_from([1, 1, 1, 2, 3, -1, -2])) for _ in dims]
    repeated = [draw(st.integers(0, 9)) == 0 for _ in dims]
    order = draw(st.permutations(range(len(dims))))
    # What the memory has: the dims in another order, each as long as its steps need.
    lying = [1 if repeated[dim] else dims[dim] * abs(steps[dim]) for dim in order]
    count = int(np.prod(lying, dtype=int))
    seed = np.random.default_rng(draw(st.integers(0, 100)))
    memory = seed.integers(32, 122, count * dtype.itemsize + 1, dtype=np.uint8)
    if dtype.kind == "U":
        memory = np.resize(np.array(["abcde", "é"]), count * dtype.itemsize).view("u1")[: count * dtype.itemsize + 1]
    if dtype.kind == "b":
        memory %= 2
    offset = 0 if dtype.kind == "U" else draw(st.integers(0, 1))  # not aligned
    array = memory[offset : offset + count * dtype.itemsize].view(dtype).reshape(lying)
    array = array.transpose(np.argsort(order)) if dims else array
    array = array[tuple(slice(None, None, 1 if again else step) for step, again in zip(steps, repeated, strict=True))]
    return np.broadcast_to(array, dims) if dims else array


def is_same(found: NDArray[Any], given: NDArray[Any]) -> bool:
    """Equal in dtype, shape, and the bytes of each item. Those in gaps of records have no meaning."""
    return (found.dtype, found.shape) == (given.dtype, given.shape) and found.tobytes() == given.tobytes()


@pytest.fixture(scope="module")
def ends() -> Any:
    with zs.Publisher("orders", Both, max_bytes=8_000_000, depth=1, spare_slots=2) as pub:
        with zs.Subscriber("orders", Both) as sub:
            yield pub, sub


@pytest.mark.row("BUF-1", "SLOT-2")
@given(anything=arrays(), fixed=arrays("u1", (5, 90, 3)), bounded=arrays("<u2", (70, 65)))
@settings(deadline=None, max_examples=300)
def test_arrays_in_any_order_are_copied_as_numpy_does(
    ends: Any, anything: NDArray[Any], fixed: NDArray[Any], bounded: NDArray[Any]
) -> None:
    """Published, and assigned in a loan."""
    pub, sub = ends
    given = {"open": anything, "fixed": fixed, "bounded": bounded}
    pub.send(**given)
    with pub.loan(open=(anything.shape, anything.dtype)) as view:
        for name, array in given.items():
            setattr(view, name, array)
    for lease in (sub.latest(), sub.latest()):
        if lease is not None:
            for name, array in given.items():
                assert is_same(getattr(lease.sample, name), array)


@pytest.mark.row("SLOT-3")
@given(st.permutations(range(3)), st.lists(st.booleans(), min_size=3, max_size=3))
@settings(deadline=None, max_examples=60)
def test_an_array_of_a_loan_is_assigned_to_itself_in_another_order(
    ends: Any, order: list[int], mirrored: list[bool]
) -> None:
    """Source and target are the same memory: what arrives is what was there before."""
    pub, sub = ends
    part = tuple(slice(None, None, -1 if mirror else 1) for mirror in mirrored)
    before = np.arange(8 * 70 * 3, dtype="u2").reshape(8, 70, 3)
    with pub.loan(open=(before.shape, "u2")) as view:
        view.open = before
        view.open = view.open.transpose(order)[part]
        assert is_same(view.open, np.ascontiguousarray(before.transpose(order)[part]))
    sub.latest()


@pytest.mark.row("BUF-1")
@pytest.mark.parametrize("order", ["transposed", "fortran", "mirrored", "planes"])
def test_an_image_in_another_order_is_copied_whole(order: str) -> None:
    """Larger than the nearest caches, and no multiple of a tile."""
    image = np.random.default_rng(1).integers(0, 256, (541, 963, 3), dtype=np.uint8)
    given = {
        "transposed": image.transpose(1, 0, 2),
        "fortran": np.asfortranarray(image),
        "mirrored": image[:, ::-1, ::-1],
        "planes": image.transpose(2, 0, 1),
    }[order]
    with zs.Publisher("image", np.ndarray, max_bytes=image.nbytes) as pub, zs.Subscriber("image", np.ndarray) as sub:
        pub.publish(given)
        lease = sub.take()
        assert lease is not None
        assert np.array_equal(lease.sample, given)
        assert lease.sample.flags.c_contiguous
