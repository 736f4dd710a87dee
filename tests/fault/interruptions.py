"""Ctrl-C, signal handlers and errors of the system at place 1, 2, 3, … of an operation, until one run has none.

    for place in interruptions():               # or interruptions(handler), or failures("os.open", …)
        pub = zs.Publisher("t", Tick)
        with place:
            pub.close()
        assert place.error is None or isinstance(place.error, Interrupted)
        pub.close()
        assert not zs.topics(), place

A place is one event of the interpreter inside the zeroslot package: a line, or with at="opcode" an instruction, which
also finds a result that was returned and not stored yet. The operation runs from its start for each place. The last
round is the one that ends before its place comes: nothing is injected, and `place.injected` is False.

Why a trace function: a real signal is looked at only at some instructions, and no test could say at which.
"""

from __future__ import annotations

import dis
import errno
import importlib
import itertools
import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any, Literal, Self

import zeroslot as zs

PACKAGE = str(Path(zs.__file__).parent) + os.sep
At = Literal["line", "opcode"]


class Interrupted(KeyboardInterrupt):
    """The Ctrl-C that was injected."""


def interrupt() -> None:
    """What Python's own handler of SIGINT does."""
    raise Interrupted


def out_of_descriptors() -> None:
    """EMFILE, as os.open raises it."""
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


class Place:
    """One round. As a context manager it injects at event `k` of its body, and swallows an error that comes of it.

    `injected`: whether event `k` came. `where`: its file, line and function. `error`: what left the body, None where
    nothing did. An error that leaves a body in which nothing was injected is raised.
    """

    def __init__(self, k: int, act: Callable[[], None]) -> None:
        self.k = k
        self.injected = False
        self.where = ""
        self.error: BaseException | None = None
        self._act = act
        self._left = k

    def _comes(self) -> bool:
        """Whether this event is event `k`."""
        self._left -= 1
        return self._left == 0

    def _inject(self, where: str) -> None:
        self.injected = True
        self.where = where
        self._act()

    def _begin(self) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> bool:
        self._end()
        if error is not None and self.injected:
            self.error = error.with_traceback(None)  # its frames would keep what the body had
            self.error.__context__ = self.error.__cause__ = None
            return True
        return False

    def __repr__(self) -> str:
        return f"<place {self.k}: {self.where or 'nothing injected'}>"


class _Traced(Place):
    def __init__(self, k: int, act: Callable[[], None], at: At) -> None:
        super().__init__(k, act)
        self._at = at

    def _begin(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self._call)

    def _end(self) -> None:
        sys.settrace(self._before)

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        if self.injected or not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_lines = self._at == "line"
        frame.f_trace_opcodes = self._at == "opcode"
        return self._inside

    def _inside(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == self._at and not self.injected:
            code = frame.f_code
            barred = _barred.get(id(code)) or _bar(code)
            if frame.f_lasti not in barred[1] and self._comes():
                self._inject(f"{code.co_filename.removeprefix(PACKAGE)}:{frame.f_lineno} {code.co_name}")
        return self._inside


# By id and with the code, which so lives on: the hash of a code object takes longer than all the rest of an event.
_barred: dict[int, tuple[CodeType, frozenset[int]]] = {}


def _bar(code: CodeType) -> tuple[CodeType, frozenset[int]]:
    return _barred.setdefault(id(code), (code, _without_signals(code)))


def _without_signals(code: CodeType) -> frozenset[int]:
    """The instructions between a `with` and its block, and between the block and the call of `__exit__`: an error there
    would skip `__exit__` and keep a lock for ever. And those that end an `except`: an error there would leave what was
    caught, with all of its frames, in the interpreter. The interpreter never looks at signals there.
    """
    found = set()
    instructions = list(dis.get_instructions(code))
    for number, instruction in enumerate(instructions):
        if instruction.opname == "BEFORE_WITH":
            found.add(instructions[number + 1].offset)
        elif instruction.opname == "POP_EXCEPT":
            found.add(instruction.offset)
        elif instruction.opname == "WITH_EXCEPT_START":
            found |= {instructions[number - 1].offset, instruction.offset}
        elif instruction.opname == "CALL" and instruction.arg == 2:
            names = [each for each in instructions[:number] if each.opname != "PRECALL"][-3:]
            if [(each.opname, each.argval) for each in names] == [("LOAD_CONST", None)] * 3:
                found |= {each.offset for each in (*names, instructions[number - 1], instruction)}
    return frozenset(found)


class _Patched(Place):
    def __init__(self, k: int, act: Callable[[], None], functions: tuple[str, ...]) -> None:
        super().__init__(k, act)
        self._functions = functions

    def _begin(self) -> None:
        self._before = []
        for name in self._functions:
            module = importlib.import_module(name.rpartition(".")[0])
            original = getattr(module, name.rpartition(".")[2])
            self._before.append((module, name.rpartition(".")[2], original))
            setattr(module, name.rpartition(".")[2], self._wrapped(name, original))

    def _end(self) -> None:
        for module, name, original in self._before:
            setattr(module, name, original)

    def _wrapped(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            if self._comes():
                self._inject(name)
            return original(*arguments, **named)

        return called


class _FewDescriptors(Place):
    def _begin(self) -> None:
        self._before = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = {int(name) for name in os.listdir("/proc/self/fd")}  # and the one that reads this, which is free again
        free = (number for number in itertools.count() if number not in used or number == max(used))
        limit = next(itertools.islice(free, self.k - 1, None))
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, self._before[1]))

    def _end(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self._before)

    def __exit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> bool:
        self.injected = error is not None
        self.where = f"{self.k - 1} descriptors"
        return super().__exit__(kind, error, traceback)


def forget_handled_error() -> None:
    """Let go of the frames of an error that was being handled where another was injected.

    An injection inside the interpreter's own handling, as at the end of `with suppress(...)`, leaves that error the
    thread's current one; no signal comes there.
    """
    error = sys.exc_info()[1]
    if error is not None:
        error.__traceback__ = None


def interruptions(act: Callable[[], None] = interrupt, *, at: At = "line", first: int = 1) -> Iterator[Place]:
    """A place for each line (or instruction) of the package that the body of `with place:` runs.

    `act` runs there, as a signal handler does: it may raise, or use the handles of the code that it interrupts.
    """
    return _until_none_is_injected(lambda k: _Traced(k, act, at), first)


def failures(*functions: str, act: Callable[[], None] = out_of_descriptors, first: int = 1) -> Iterator[Place]:
    """A place for each call of these functions, by name: "os.open", "zeroslot.memory.bell.Region".

    `act` raises in the place of the call.
    """
    return _until_none_is_injected(lambda k: _Patched(k, act, functions), first)


def descriptors_run_out() -> Iterator[Place]:
    """A place for each number of descriptors that is too small for the body, from none on: opening is EMFILE then.

    A real limit of the process, so that native code meets it as well. The last round is the one without an error.
    """
    return _until_none_is_injected(lambda k: _FewDescriptors(k, out_of_descriptors), 1)


def _until_none_is_injected(make: Callable[[int], Place], k: int) -> Iterator[Place]:
    while True:
        place = make(k)
        yield place
        if not place.injected:
            return
        k += 1
