"""`diagnose`: every check of the machine, and of a topic, one after another.

Why a check that fails is a finding of its own: what keeps it from its answer, such as a missing /proc, is what the
answer is about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from zeroslot.errors import ZeroslotError
from zeroslot.info import Finding
from zeroslot.memory.directories import checked_domain, checked_topic
from zeroslot.observe import machine, silence

Check = Callable[[], "Finding | Iterable[Finding]"]


def diagnose(topic: str | None = None, domain: str | None = None) -> tuple[Finding, ...]:
    """What of this machine, of a domain, and of a topic works, may surprise, or is wrong.

    The machine: kernel, shared memory, limits, what systemd removes, huge pages, cores. The domain: permissions, and
    what dead processes left. The topic: its publishers and subscribers; where it has no publisher, similar names, other
    domains and other users. Nothing is changed, and no subscriber entry is taken. Raises TopicNameError.
    """
    place = checked_domain(domain)
    name = None if topic is None else checked_topic(topic)
    checks: list[tuple[str, Check]] = [
        ("kernel", machine.kernel),
        ("futex_waitv", machine.futex_waitv),
        ("shared memory", machine.shared_memory),
        ("open files", machine.open_files),
        ("file size", machine.file_size),
        ("locked memory", machine.locked_memory),
        ("mappings", machine.mappings),
        ("RemoveIPC", machine.remove_ipc),
        ("container", machine.container),
        ("huge pages", machine.huge_pages),
        ("cores", machine.cores),
        ("root", machine.root_directory),
        ("domain", lambda: machine.domain_directories(place)),
        ("remains", lambda: machine.stale(place)),
    ]
    if name is not None:
        checks.append(("topic", lambda: silence.findings(name, place)))
    return tuple(finding for check, run in checks for finding in _outcome(check, run))


def _outcome(check: str, run: Check) -> Iterator[Finding]:
    try:
        found = run()
        yield from (found,) if isinstance(found, Finding) else found
    except (OSError, ValueError, ZeroslotError) as error:
        yield Finding(check, "wrong", f"this could not be checked: {error}")
