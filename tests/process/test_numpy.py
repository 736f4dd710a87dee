"""numpy and samples: what cannot write one that is published, and what can. tests/README.md lists the latter.

Each of these tests notices when numpy changes, for the better too.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zeroslot as zs
from tests.process.actors import Cast

REPORT = Path(__file__).with_name("numpy_ufunc_at.md")

# Every way to write into an array that is read-only, by way of `a`, a published array of four f64, and `sample`, its
# sample. None may: it raises, or writes to memory of its own.
WRITES = [
    "np.add.at(a, slice(None), 1)",
    "a[0] = 1",
    "a[:] = 1",
    "a[[0, 1]] = 1",
    "a[a == a] = 1",
    "a.fill(1)",
    "a.put([0], [1])",
    "np.put(a, [0], [1])",
    "np.putmask(a, [True] * 4, 1.0)",
    "np.place(a, [True] * 4, [1.0])",
    "np.copyto(a, 1)",
    "a.flat[0] = 1",
    "a.flat[:] = 1",
    "a.flat = 1",
    "a += 1",
    "np.add(1, 1, out=a)",
    "np.sum(np.ones((2, 4)), axis=0, out=a)",
    "np.take(np.ones(4), [0, 1, 2, 3], out=a)",
    "np.dot(np.eye(4), np.ones(4), out=a)",
    "np.clip(np.ones(4), 0, 1, out=a)",
    "np.round(np.ones(4), out=a)",
    "np.cumsum(np.ones(4), out=a)",
    "np.choose([0, 0, 0, 0], [np.ones(4)], out=a)",
    "np.compress([1, 1, 1, 1], np.ones(4), out=a)",
    "np.concatenate([np.ones(4)], out=a)",
    "np.einsum('i->i', np.ones(4), out=a)",
    "np.matmul(np.eye(4), np.ones(4), out=a)",
    "np.max(np.ones((2, 4)), axis=0, out=a)",
    "a.sort()",
    "a.partition(1)",
    "a.byteswap(inplace=True)",
    "a.resize(8, refcheck=False)",
    "a.resize(2, refcheck=False)",
    "a.setfield(1, 'f8')",
    "a.setflags(write=True); a[0] = 1",
    "a.flags.writeable = True; a[0] = 1",
    "b = a[:]; b.setflags(write=True); b[0] = 1",
    "force(a.view())",
    "force(a.reshape(2, 2).T)",
    "a.base.setflags(write=True)",
    "force(np.asarray(a))",
    "force(a.real)",
    "force(np.broadcast_to(a, (2, 4)))",
    "force(np.broadcast_arrays(a, np.ones((2, 4)))[0])",
    "force(np.diagonal(a.reshape(2, 2)))",
    "b = np.lib.stride_tricks.sliding_window_view(a, 2, writeable=True); b[0] = 1",
    "force(np.lib.stride_tricks.as_strided(a, writeable=False))",
    "force(np.frombuffer(a, 'f8'))",
    "force(np.frombuffer(a.data, 'f8'))",
    "force(np.ndarray(4, 'f8', buffer=a))",
    "force(np.ndarray(4, 'f8', buffer=memoryview(a)))",
    "force(np.ndarray(4, 'f8', buffer=sample))",
    "force(np.frombuffer(sample, 'u1'))",
    "force(np.asarray(memoryview(a)))",
    "memoryview(a)[0] = 1.0",
    "memoryview(a).cast('B')[0] = 1",
    "a.data[0] = 1.0",
    "memoryview(sample)[0] = 1",
    "memoryview(sample).cast('B', shape=[2, len(memoryview(sample)) // 2])[0, 0] = 1",
    "import struct; struct.pack_into('<d', a, 0, 1.0)",
    "import struct; struct.pack_into('<d', sample, 0, 1.0)",
    "import io; io.BytesIO(b'12345678' * 4).readinto(a)",
    "import os; r, w = os.pipe(); os.write(w, bytes(32)); os.readv(r, [a])",
    "import socket; x, y = socket.socketpair(); x.send(bytes(32)); y.recv_into(a)",
    "np.random.default_rng().random(out=a)",
    "np.random.default_rng().standard_normal(out=a)",
    "np.random.default_rng().shuffle(a)",
    "np.random.default_rng().permuted(a, out=a)",
    "np.random.shuffle(a)",
    "np.fill_diagonal(a.reshape(2, 2), 1)",
    "np.put_along_axis(a, np.array([0]), 1, 0)",
    "np.nan_to_num(a, copy=False)",
    "[x.__setitem__(..., 1) for x in np.nditer(a, op_flags=['readwrite'])]",
    "force(next(np.nditer(a, flags=['external_loop'])))",
    "force(np.nditer(a).operands[0])",
    "a.__setstate__((1, (4,), np.dtype('f8'), False, bytes(32))); a[0] = 1",
    "import copy; b = copy.deepcopy(a); b[0] = 1",
    "b = pickled(a)[0]; b[0] = 1",
    "b = pickled(a)[0]; force(b)",
    "b = np.frombuffer(pickled(a)[1].raw()); force(b)",
    "a.dtype = 'i8'; a[0] = 1",
    "a.shape = (2, 2); a[0] = 1",
    "a.strides = (0,); a[0] = 1",
    "a.strides = (1 << 40,); a[1]",
    "a.strides = (16,)",
    "a.data = np.ones(4).data",
    "np.add.reduce(np.ones((2, 4)), out=a)",
    "np.add.accumulate(np.ones(4), out=a)",
    "np.add.reduceat(np.ones(4), [0, 1, 2, 3], out=a)",
    "np.add.outer(np.ones(2), np.ones(2), out=a.reshape(2, 2))",
    "np.add(1, 1, out=a, where=[True] * 4)",
    "np.frompyfunc(abs, 1, 1)(np.arange(4), out=(a,), casting='unsafe')",
    "import ctypes; (ctypes.c_double * 4).from_buffer(a)[0] = 1",
    "class X: __array_struct__ = a.__array_struct__\nb = np.asarray(X()); force(b)",
    "force(np.from_dlpack(a))",
    "force(a.view(np.recarray))",
    "force(np.matrix(a, copy=False))",
    "force(a.view(np.matrix))",
    "b = np.ma.array(a, copy=False); b[0] = 1",
    "b = np.ma.array(a, copy=False); b.data.flags.writeable = True; b.data[0] = 1",
    "class X(np.ndarray): pass\nb = a.view(X); force(b)",
    "force(np.array(a, copy=False))",
    "b = np.require(a, requirements='W'); b[0] = 1",
    "b = np.require(a, requirements='O'); b[0] = 1",
    "force(a.view(np.memmap))",
    "force(np.asfortranarray(a))",
    "force(next(iter(a.reshape(2, 2))))",
    "v = a.view([('x', 'f8')])[0]; v['x'] = 1",
    "v = a.view([('x', 'f8')])[0]; v.setfield(1, 'f8')",
    "v = a.view([('x', 'f8')])[()]; b = np.asarray(v); b.flags.writeable = True; b['x'] = 1",
    "b = np.char.array(a.view('S8'), copy=False); b.flags.writeable = True; b[0] = b'x'",
]

# numpy's ufunc.at does not look at the flag.
AT = [
    "np.add.at(a, [0], 1)",
    "np.multiply.at(a, [0], 2)",
    "np.negative.at(a, [0])",
    "np.add.at(a, [0], np.float32(1))",
    "np.add.at(a, [0, 1], np.array([1, 2], object))",
    "np.maximum.at(a, np.array([True] * 4), 9.0)",
]

SIDES = """
import pickle
import warnings
import numpy as np
from typing import Annotated
from numpy.typing import NDArray
import zeroslot as zs

warnings.simplefilter("ignore")

class Four(zs.Sample):
    a: Annotated[NDArray[np.float64], zs.Shape(4)]

def force(array):
    array.flags.writeable = True
    array[0] = 1

def pickled(array):
    buffers = []
    return pickle.loads(pickle.dumps(array, 5, buffer_callback=buffers.append), buffers=buffers), *buffers

def sides():
    # The array of a lease, whose memory is mapped read-only, and the one that the publisher kept.
    for side in ("lease", "kept"):
        with zs.Publisher("t", Four) as pub, zs.Subscriber("t", Four) as sub:
            loan = pub.loan()
            kept, view = loan.sample.a, loan.sample
            kept[:] = [4.0, 3.0, 2.0, 8.0]
            loan.commit()
            lease = sub.take()
            before = bytes(lease.sample)
            a, sample = (kept, view) if side == "kept" else (lease.sample.a, lease.sample)
            yield side, a, sample, lambda: bytes(lease.sample) != before
"""


def test_nothing_writes_into_a_published_array(cast: Cast) -> None:
    """Not numpy, the buffer protocol, pickle, nor libraries that fill their arguments."""
    child = cast(
        SIDES
        + """
for code in args[0]:
    say(code)
    for side, a, sample, changed in sides():
        try:
            exec(code)
        except Exception:
            pass
        say([side, changed()])
""",
        WRITES,
    )
    for code in WRITES:
        child.expect(code)  # where it dies, this was the last that it said
        assert [child.hear(), child.hear()] == [["lease", False], ["kept", False]], code
    child.finish()


MENDED = np.lib.NumpyVersion(np.__version__) >= "2.5.0"  # ufunc.at of numpy looks at WRITEABLE from there on


@pytest.mark.leaves_remains
@pytest.mark.parametrize("code", AT)
def test_ufunc_at_writes_into_what_is_read_only_before_numpy_2_5(cast: Cast, code: str) -> None:
    """A defect of numpy, and the one exception: SIGSEGV for a subscriber, a changed sample for its publisher."""
    child = cast(
        SIDES
        + """
for side, a, sample, changed in sides():
    if side == "kept":
        try:
            exec(args[0])
        except ValueError:
            pass
        say(changed())
""",
        code,
    )
    child.expect(not MENDED)
    child.finish()
    ending = cast(SIDES + "for side, a, sample, changed in sides():\n    exec(args[0])", code)
    assert ending.wait() == (1 if MENDED else -signal.SIGSEGV)
    assert not MENDED or "ValueError" in ending.stderr


def test_the_report_on_ufunc_at_is_reproducible(cast: Cast) -> None:
    """Its programs show the defect without this library, and that numpy 2.5 has fixed it."""
    programs = re.findall(r"```python\n(.*?)```", REPORT.read_text("utf-8"), re.DOTALL)
    assert len(programs) == 2
    if MENDED:
        for program in programs:
            ending = cast(program)
            assert (ending.wait(), "ValueError" in ending.stderr) == (1, True)
        return
    changes = cast(programs[0] + "say(a.tolist())")
    changes.expect([1.0, 0.0, 0.0])
    assert cast(programs[1]).wait() == -signal.SIGSEGV


# --- writes in the middle of which other code runs ---


class Inner(zs.Sample):
    x: zs.F64
    y: zs.F64


class Mixed(zs.Sample):
    a: Annotated[NDArray[np.float64], zs.Shape(4)]
    items: Annotated[list[zs.F64], zs.MaxLen(4)]
    inner: Inner
    number: zs.F64 = 0.0
    whole: zs.I32 = 0


class Commits:
    """A value that commits the loan, once, while it is being written."""

    def __init__(self, loan: zs.Loan[Any], told: Commits | None = None) -> None:
        self.loan = loan
        self.told = self if told is None else told
        self.error: BaseException | None = None
        self.called = False

    def commit(self) -> float:
        if not self.told.called:
            self.told.called = True
            try:
                self.loan.commit()
            except BufferError as error:
                self.told.error = error
        return 7.0

    def __float__(self) -> float:
        return self.commit()

    def __index__(self) -> int:
        return int(self.commit()) - 7

    def __add__(self, other: object) -> float:
        return self.commit()

    __radd__ = __add__


class CommitsAsArray(Commits):
    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        self.commit()
        return np.full(4, 7.0)


def of(value: object) -> NDArray[Any]:
    objects = np.empty(4, object)
    objects[:] = [value] * 4
    return objects


# numpy's own writes; each runs code of the value in the middle.
RUNNING: dict[str, Callable[[NDArray[Any], Any], object]] = {
    "item": lambda a, value: a.__setitem__(0, value),
    "item, by an index that commits": lambda a, value: a.__setitem__(value, 7.0),
    "slice": lambda a, value: a.__setitem__(slice(None), value),
    "slice, from an array-like": lambda a, value: a.__setitem__(slice(None), CommitsAsArray(value.loan, value)),
    "slice, from a list": lambda a, value: a.__setitem__(slice(None), [value] * 4),
    "slice, from objects": lambda a, value: a.__setitem__(slice(None), of(value)),
    "fancy": lambda a, value: a.__setitem__([0, 1], [value, value]),
    "mask": lambda a, value: a.__setitem__(np.ones(4, bool), of(value)),
    "fill": lambda a, value: a.fill(value),
    "put": lambda a, value: a.put([0, 1], [value, value]),
    "flat": lambda a, value: a.flat.__setitem__(0, value),
    "flat, all": lambda a, value: setattr(a, "flat", of(value)),
    "setfield": lambda a, value: a.setfield(value, np.float64),
    "out=": lambda a, value: np.add(of(value), 1, out=a, casting="unsafe"),
    "in place": lambda a, value: np.add(a, 0, out=a) is np.copyto(a, of(value), casting="unsafe"),
    "copyto": lambda a, value: np.copyto(a, of(value), casting="unsafe"),
    "take, out=": lambda a, value: np.take(of(value), [0, 1, 2, 3], out=a, mode="clip"),
    "sum, out=": lambda a, value: np.sum(np.array([[value] * 4] * 2, object), axis=0, out=a),
    "choose, out=": lambda a, value: np.choose([0, 0, 0, 0], [of(value)], out=a, mode="clip"),
    "concatenate, out=": lambda a, value: np.concatenate([of(value)], out=a, casting="unsafe"),
    "nditer": lambda a, value: [x.__setitem__(..., value) for x in np.nditer(a, op_flags=[["readwrite"]])],
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("how", RUNNING)
def test_a_commit_does_not_wait_for_a_write_by_numpy(how: str) -> None:
    """numpy does not tell that it writes; `with memoryview(sample)` around the write makes the commit fail."""
    with zs.Publisher("t", Mixed) as pub, zs.Subscriber("t", Mixed) as sub:
        for guarded in (False, True):
            loan = pub.loan()
            value = Commits(loan)
            if guarded:
                with memoryview(loan.sample):
                    RUNNING[how](loan.sample.a, value)
                assert isinstance(value.error, BufferError)
                assert sub.take() is None
                loan.discard()
            else:
                RUNNING[how](loan.sample.a, value)
                assert value.error is None
                lease = sub.take()
                assert lease is not None
                assert 7.0 in lease.sample.a


def append(sample: Any, value: Any) -> None:
    sample.items.append(value)


def set_item(sample: Any, value: Any) -> None:
    sample.items.extend([1.0, 2.0])
    sample.items[1] = value


# Writes of this library, which hold a commit off.
WHOLE: dict[str, Callable[[Any, Any], object]] = {
    "array": lambda sample, value: setattr(sample, "a", CommitsAsArray(value.loan, value)),
    "list": lambda sample, value: setattr(sample, "items", [1.0, value]),
    "list, from an iterator": lambda sample, value: setattr(sample, "items", (value.commit() for _ in range(2))),
    "item of a list": set_item,
    "append": append,
    "extend": lambda sample, value: sample.items.extend([value]),
    "slice of a list": lambda sample, value: (append(sample, 1.0), sample.items.__setitem__(slice(None), [value])),
    "nested": lambda sample, value: setattr(sample, "inner", {"x": value, "y": 1.0}),
    "field of a nested one": lambda sample, value: setattr(sample.inner, "x", value),
    "float": lambda sample, value: setattr(sample, "number", value),
    "int": lambda sample, value: setattr(sample, "whole", value),
}


@pytest.mark.parametrize("how", WHOLE)
def test_a_commit_during_the_assignment_of_a_field_is_refused(how: str) -> None:
    """Whatever code of the value runs meanwhile: the commit raises BufferError, and comes after the write."""
    with zs.Publisher("t", Mixed) as pub, zs.Subscriber("t", Mixed) as sub:
        loan = pub.loan()
        value = Commits(loan)
        WHOLE[how](loan.sample, value)
        assert value.called
        assert isinstance(value.error, BufferError)
        assert sub.take() is None
        loan.commit()
        assert sub.take() is not None


@pytest.mark.parametrize("index", [lambda value: value, lambda value: slice(value, None)])
def test_a_commit_by_the_index_of_a_list_prevents_the_write(index: Callable[[Any], Any]) -> None:
    """The index is read first, and then the write is refused."""
    with zs.Publisher("t", Mixed) as pub, zs.Subscriber("t", Mixed) as sub:
        loan = pub.loan()
        items = loan.sample.items
        items.append(1.0)
        with pytest.raises(zs.ClosedError):
            items[index(Commits(loan))] = [5.0] if isinstance(index(0), slice) else 5.0
        lease = sub.take()
        assert lease is not None
        assert list(lease.sample.items) == [1.0]
