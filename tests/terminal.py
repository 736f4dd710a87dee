"""A terminal for tests: a program in a pseudo-terminal, and what its screen shows.

    with Terminal("top", columns=60) as terminal:
        terminal.wait_for(lambda: "robot/imu" in terminal.text)
        terminal.type("q")
        assert terminal.end() == 0

No wait has a limit, as in tests/children.py: a program that ends ends the wait, and the watchdog ends what hangs.
"""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from typing import Any, Self

import pyte

PROGRAM = ("-W", "error", "-m", "zeroslot")
ALTERNATE = b"\x1b[?1049h"


def _control_terminal() -> None:
    """In the child: stdin becomes its controlling terminal, from which signals come."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """`zeroslot` with some arguments in a terminal of its own, where a warning is an error. A context manager.

    `shell`: a script of bash that starts it, as `"$@"`.
    """

    def __init__(self, *arguments: str, columns: int = 80, lines: int = 24, shell: str = "", **env: str) -> None:
        self.screen = pyte.Screen(columns, lines)
        self.raw = b""
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = pty.openpty()
        self._set_size(slave, columns, lines)
        self.settings_before = self._settings()
        environment = {
            name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "LINES"}
        }
        self.process = subprocess.Popen(
            [*(["bash", "-c", shell, "bash"] if shell else []), sys.executable, *PROGRAM, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment | {"TERM": "xterm-256color"} | env,
            start_new_session=True,
            preexec_fn=_control_terminal,  # noqa: PLW1509  # it takes no lock, so another thread cannot hold one
        )
        os.close(slave)

    @staticmethod
    def _set_size(descriptor: int, columns: int, lines: int) -> None:
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _settings(self) -> list[Any]:
        return termios.tcgetattr(self._master)

    @property
    def lines(self) -> list[str]:
        """The lines of the screen, without the spaces at their ends."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        """The screen."""
        return "\n".join(self.lines)

    def line_of(self, text: str) -> str:
        """The first line with this text, or nothing."""
        return next((line for line in self.lines if text in line), "")

    def _read(self) -> bool:
        """Show what the program writes next. False: it has ended."""
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the program's side is closed
            data = b""
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Read until it holds."""
        while not condition():
            if not self._read():
                raise AssertionError(f"it ended with {self.process.wait()}:\n{self.text}")

    def type(self, keys: str) -> None:
        """As from the keyboard."""
        os.write(self._master, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """As by a window manager: the program gets SIGWINCH."""
        self.screen.resize(lines, columns)
        self._set_size(self._master, columns, lines)

    def end(self) -> int:
        """Read to the end: its exit status."""
        while self._read():
            pass
        return self.process.wait()

    @property
    def is_restored(self) -> bool:
        """Whether the terminal is as it was: the main screen, a cursor, the settings of the line."""
        left = self.raw.rpartition(b"\x1b[?1049l")[2] if ALTERNATE in self.raw else b""
        return (
            self.raw.count(ALTERNATE) == self.raw.count(b"\x1b[?1049l")
            and ALTERNATE not in left
            and self.raw.count(b"\x1b[?25l") == self.raw.count(b"\x1b[?25h")
            and self.raw.count(b"\x1b[?7l") == self.raw.count(b"\x1b[?7h")
            and self._settings() == self.settings_before
        )

    def hang_up(self) -> None:
        """As when the window is closed."""
        os.close(self._master)
        self._master = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if self._master >= 0:
            os.close(self._master)
