"""The `zeroslot` command. Its code is in every installation; the packages that it needs come with the extra `cli`.

Without them `list`, `info` and `gc` work all the same, see zeroslot.cli.plain.

The exit status of every command:

    0     it did what it was asked to
    1     something is wrong: stderr says what, or the answer does (`doctor`, `gc`)
    2     the command line cannot be understood
    130   Ctrl-C ended it
    141   what reads its output has gone, as in `zeroslot list | head`; nothing is printed about that
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Callable
from importlib import import_module

NEEDS = ("typer", "rich")
STATUS = (
    "Exit status: 0 when it did what it was asked to, 1 when something is wrong, 2 for a command line that cannot be "
    "understood, 130 after Ctrl-C, 141 when what reads its output has gone."
)


# Letters of pictures where the encoding of stdout lacks them, such as that of LC_ALL=C; other letters become \xe9.
PLAIN = dict(zip("…▴▾→←▀━─│┌┐└┘├┤┬┴┼", "~^v><#--|+++++++++", strict=True))
BRAILLE = range(0x2800, 0x2900)


class CommandError(ValueError):
    """A command cannot do what it was asked to; the text says why, and what to give."""


def main() -> int:
    """Run the command line on `sys.argv`: its exit status."""
    try:
        _open_streams()
        codecs.register_error("zeroslot", _in_plain_letters)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="zeroslot")
        return _ended(_chosen())
    except KeyboardInterrupt:
        return 130


def _open_streams() -> None:
    """What was closed, as in `zeroslot list >&-`, is nothing to read and nowhere to write; Python has None there."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8", closefd=False))


def _in_plain_letters(error: UnicodeError) -> tuple[str | bytes, int]:
    """What is printed for letters that cannot be encoded: a handler of `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letter = error.object[error.start]
    if letter in PLAIN:
        return PLAIN[letter], error.start + 1
    if ord(letter) in BRAILLE:
        return " *"[ord(letter) > BRAILLE.start], error.start + 1
    escaped, _ = codecs.backslashreplace_errors(UnicodeEncodeError("ascii", letter, 0, 1, error.reason))
    return escaped, error.start + 1


def _chosen() -> Callable[[], int]:
    """The whole command line, or what works without it, where that is enough or the extra is not installed."""
    from zeroslot.cli import plain

    quick = plain.understood(sys.argv[1:])
    if quick is not None:
        return quick
    try:
        for name in NEEDS:
            import_module(name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in NEEDS:
            raise
        return lambda: plain.run(missing)
    from zeroslot.cli import app

    return app.run


def _ended(run: Callable[[], int]) -> int:
    """Run a command: its exit status.

    An error of the command, of the library, of a child or of the system is printed without a traceback.
    """
    from zeroslot import ZeroslotError
    from zeroslot.cli.processes import ChildError

    try:
        status = run()
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still in the buffer would be an error again at the end of the interpreter.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (CommandError, ZeroslotError, ChildError, OSError) as error:
        print(f"zeroslot: {error}", file=sys.stderr)
        return 1
    return status
