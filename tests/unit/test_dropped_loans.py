"""A loan that is dropped without a commit warns, once, where the program can still have meant to commit it."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pydantic
import pytest

import zeroslot as zs


class Tick(zs.Sample):
    n: zs.U64
    note: Annotated[str, zs.MaxBytes(8)] = ""


class Growing(zs.Sample):
    text: str = "as it was"
    values: list[zs.U8]


@pytest.fixture
def pub() -> Iterator[zs.Publisher[Tick]]:
    with zs.Publisher("ticks", Tick, max_loans=4) as publisher:
        yield publisher


def dropped(use: Callable[[], Any]) -> list[str]:
    """The warnings while something is done, all results of which are dropped."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        use()
    assert {each.category for each in caught} <= {ResourceWarning}
    return [str(each.message) for each in caught]


@pytest.mark.parametrize("name", ["loan", "loan_uninit"])
def test_a_dropped_loan_warns_and_goes_back(pub: zs.Publisher[Tick], name: str) -> None:
    """The warning has the topic and what to do, and points to the line that dropped the loan."""
    with pytest.warns(
        ResourceWarning, match=r"a loan of ticks was dropped .* call commit\(\) or discard\(\)"
    ) as caught:
        getattr(pub, name)()
    assert caught[0].filename == __file__
    assert len(caught) == 1
    assert (pub.allocator.native.loans_out, pub.sequence) == (0, 0)


def test_a_loan_of_variable_size_and_a_slot_warn_too() -> None:
    """Whatever a slot is borrowed for."""
    with zs.Publisher("growing", Growing, max_bytes=1000) as growing:
        assert len(dropped(lambda: growing.loan(values=3))) == 1
    with zs.Publisher("blobs", bytes, max_bytes=1000) as blobs:
        assert len(dropped(lambda: blobs.loan(10))) == 1
    with zs.SlotAllocator.in_memory(4, 64) as slots:
        (text,) = dropped(slots.reserve)
    assert text.startswith("a slot")


def test_a_dropped_batch_warns_once(pub: zs.Publisher[Tick]) -> None:
    """And gives all of its slots back."""
    (text,) = dropped(lambda: pub.loan_many(3))
    assert text.startswith("a batch of loans of ticks was dropped")
    assert pub.allocator.native.loans_out == 0


def commit(pub: zs.Publisher[Tick]) -> None:
    pub.loan().commit()
    with pub.loan():
        pass
    with pub.loan_many(2):
        pass


def discard(pub: zs.Publisher[Tick]) -> None:
    pub.loan().discard()
    pub.loan_many(2).discard()


def raise_inside(pub: zs.Publisher[Tick]) -> None:
    for loan in (pub.loan, lambda: pub.loan_many(2)):
        with pytest.raises(KeyError), loan():
            raise KeyError


def raise_at_the_commit(pub: zs.Publisher[Tick]) -> None:
    with pytest.raises(BufferError), pub.loan() as tick:
        views = [memoryview(tick)]  # keeps the commit from working
    del tick
    with pytest.raises(BufferError), pub.loan_many(2) as ticks:
        views.append(memoryview(ticks[1]))
    del ticks


def refuse(pub: zs.Publisher[Tick]) -> None:
    for sample in ({"n": -1}, Tick.model_construct(n=1, note="far too long"), 5):
        with pytest.raises((ValueError, TypeError)):
            pub.publish(sample)
    with pytest.raises(ValueError, match="max_loans"):
        pub.loan_many(9)
    with pytest.raises(TypeError):
        pub.loan_many("2")  # type: ignore[arg-type]  # what is refused


def fail_while_it_starts(pub: zs.Publisher[Tick]) -> None:
    """With a default factory that raises: the program gets no loan that it could drop."""
    numbers = iter([1])

    class Numbered(zs.Sample):
        n: zs.U64 = pydantic.Field(default_factory=lambda: next(numbers))

    with zs.Publisher("numbered", Numbered, max_loans=3) as numbered:
        for loan in (numbered.loan, lambda: numbered.loan_many(2)):
            numbers = iter([])
            with pytest.raises(StopIteration):
                loan()
        assert numbered.allocator.native.loans_out == 0


def close_before(pub: zs.Publisher[Tick]) -> None:
    loan, batch = pub.loan(), pub.loan_many(2)
    pub.close()
    del loan, batch


def drop_in_a_forked_child(pub: zs.Publisher[Tick]) -> None:
    loan, batch = pub.loan(), pub.loan_many(2)
    warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, from Python 3.12 on
    child = os.fork()
    if child == 0:
        warnings.simplefilter("error")
        sys.unraisablehook = lambda _: os._exit(1)
        del loan, batch
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    loan.discard()
    batch.discard()


@pytest.mark.parametrize(
    "use",
    [commit, discard, raise_inside, raise_at_the_commit, refuse, fail_while_it_starts, close_before,
     drop_in_a_forked_child],
)  # fmt: skip  # a list to read
def test_nothing_else_warns(pub: zs.Publisher[Tick], use: Callable[[zs.Publisher[Tick]], None]) -> None:
    """Where the program says what becomes of the loan, or an exception says it, there is nothing to warn of."""
    assert dropped(lambda: use(pub)) == []


def test_an_exception_that_is_on_its_way_stays(pub: zs.Publisher[Tick]) -> None:
    """A loan that is dropped by an exception warns, and the exception goes on; also where the warning is an error."""

    def use() -> None:
        loan = pub.loan()
        raise LookupError(loan.sample.n)

    def run() -> None:
        with pytest.raises(LookupError):
            use()

    assert len(dropped(run)) == 1


def test_a_warning_that_is_an_error_is_reported_and_the_slot_goes_back(
    pub: zs.Publisher[Tick], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be raised where the loan ends, so Python reports it as it reports those of destructors."""
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda each: reported.append((each.exc_type, each.object)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pub.loan()
        pub.loan_many(2)
    assert reported == [(ResourceWarning, zs.Loan), (ResourceWarning, zs.Loans)]
    assert pub.allocator.native.loans_out == 0


def test_the_end_of_the_interpreter_warns_of_nothing() -> None:
    """Loans that are out at the end were not forgotten by a line of the program."""
    program = """
import zeroslot as zs
class Tick(zs.Sample):
    n: zs.U64
pub = zs.Publisher("ticks", Tick, max_loans=4)
slots = zs.SlotAllocator.in_memory(4, 64)
kept = pub.loan(), pub.loan_many(2), slots.reserve()
cycle = [pub.loan()]
cycle.append(cycle)
print("end")
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
