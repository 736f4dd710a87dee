"""A picture that fills the terminal and follows its size, with keys; and the terminal as it was, however it ends.

It needs no package but Python, and writes the lines that have changed. Why not rich: drawing a table of 50 lines takes
rich longer than reading the counters of 200 topics.

How the terminal comes back: leaving the context restores it, with signals held off meanwhile, so also after Ctrl-C, an
exception, SIGTERM or SIGHUP. Ctrl-Z shows the shell, and `fg` the picture. SIGKILL alone leaves it as it is; `reset`
helps then.
"""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, Self

ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"  # the alternate screen, no cursor, no wrapping
LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"  # terminals that know it show what is between as one picture
ENDING = (signal.SIGTERM, signal.SIGHUP)
HELD_OFF = (signal.SIGINT, signal.SIGTSTP, *ENDING)
KEYS = {
    "\x1b[A": "up", "\x1bOA": "up", "\x1b[B": "down", "\x1bOB": "down", "\x1b[5~": "page up", "\x1b[6~": "page down",
    "\x1b[H": "home", "\x1bOH": "home", "\x1b[1~": "home", "\x1b[F": "end", "\x1bOF": "end", "\x1b[4~": "end",
    "\x1b": "escape", "\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace",
}  # fmt: skip  # a table
KEY = re.compile(r"\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Za-z])|.", re.DOTALL)


def is_terminal() -> bool:
    """Whether stdout can show a picture."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


class Screen:
    """The terminal of stdout, for as long as the context lasts. One at a time, in the main thread.

    Signals that end the process are noted, and `keys` raises for them, so the terminal is never left half-way. A second
    one ends the process at once. Handlers of the program's own stay as they are.
    """

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._drawn_size = (0, 0)
        self._settings: list[Any] | None = None
        self._handlers: dict[int, Any] = {}
        self._noted: list[int] = []
        self._wakes: tuple[int, int] | None = None
        self._wakeup_before = -1

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines now."""
        try:
            columns, lines = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            columns, lines = 0, 0
        return columns or 80, lines or 24

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines, of which each fits in a line of the terminal. Those that do not fit below are left out."""
        size = self.size
        begin = BEGIN
        if size != self._drawn_size:
            self._shown, self._drawn_size = [], size
            begin += "\x1b[2J"
        fitting = list(lines[: size[1]])
        changed = [
            f"\x1b[{number + 1};1H{line}\x1b[K"
            for number, line in enumerate(fitting)
            if number >= len(self._shown) or self._shown[number] != line
        ]
        if len(fitting) < len(self._shown):
            changed.append(f"\x1b[{len(fitting) + 1};1H\x1b[J")
        self._shown = fitting
        if changed:
            self._write(begin + "".join(changed) + END)

    def keys(self, timeout: float) -> list[str]:
        """The keys that were typed, as soon as there are some: a letter, or a name such as "up"; "resize" where the
        picture has to be drawn anew. Empty after `timeout` seconds.

        Raises KeyboardInterrupt after Ctrl-C, SystemExit after SIGTERM and SIGHUP, and where the terminal has gone.
        """
        sources = [self._wakes[0]] if self._wakes is not None else []
        if self._settings is not None:
            sources.append(sys.stdin.fileno())
        ready, _, _ = select.select(sources, [], [], max(timeout, 0.0))
        if self._wakes is not None and self._wakes[0] in ready:
            with suppress(BlockingIOError):
                os.read(self._wakes[0], 1024)
        if self._noted:
            return self._answer()
        if self._settings is None or sys.stdin.fileno() not in ready:
            return []
        typed = os.read(sys.stdin.fileno(), 1024)
        if not typed:
            raise SystemExit(128 + signal.SIGHUP)
        return [KEYS.get(key, key) for key in map(str, KEY.findall(typed.decode(errors="replace")))]

    def _answer(self) -> list[str]:
        """Do what the signals that were noted ask for."""
        noted, self._noted = self._noted, []
        if signal.SIGINT in noted:
            raise KeyboardInterrupt
        for number in ENDING:
            if number in noted:
                raise SystemExit(128 + number)
        if signal.SIGTSTP in noted:
            self._stop()
        return ["resize"]

    def __enter__(self) -> Self:
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wakes = reading, writing
        self._wakeup_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        usual = {signal.SIGINT: signal.default_int_handler}
        for number in (*HELD_OFF, signal.SIGWINCH):
            if signal.getsignal(number) is usual.get(number, signal.SIG_DFL):
                self._handlers[number] = signal.signal(number, self._note)
        try:
            self._show()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_OFF)
        try:
            with suppress(OSError, termios.error):  # a terminal that has gone needs no restoring
                self._hide()
            signal.set_wakeup_fd(self._wakeup_before)
            while self._handlers:
                signal.signal(*self._handlers.popitem())
            for descriptor in self._wakes or ():
                os.close(descriptor)
            self._wakes = None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # a handler's arguments
        if number in self._noted and number != signal.SIGWINCH:
            self._noted.append(number)
            self._answer()  # it was noted before, and nothing has happened
        elif number not in self._noted:
            self._noted.append(number)

    def _show(self) -> None:
        if sys.stdin is not None and sys.stdin.isatty() and _in_foreground():
            self._settings = termios.tcgetattr(sys.stdin.fileno())
            tty.setcbreak(sys.stdin.fileno())
        self._drawn_size = (0, 0)
        self._write(ENTER)

    def _hide(self) -> None:
        try:
            self._write(LEAVE)
        finally:
            if self._settings is not None:
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._settings)
                self._settings = None

    def _stop(self) -> None:
        """Ctrl-Z: show the shell until `fg`."""
        self._hide()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._note)
        self._show()

    @staticmethod
    def _write(text: str) -> None:
        data = text.encode(sys.stdout.encoding or "utf-8", "replace")
        while data:
            data = data[os.write(sys.stdout.fileno(), data) :]


def _in_foreground() -> bool:
    """Whether keys come here: a job in the background that changes the terminal is stopped."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:
        return False
