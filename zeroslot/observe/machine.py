"""What of this machine and this process zeroslot depends on, as findings: each check is one small function.

A check takes the places that it reads as parameters, so that a test can show what it says of another machine.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

from zeroslot.info import Finding
from zeroslot.memory import access, hugepages
from zeroslot.memory.cleanup import LEFT_ALONE, clean
from zeroslot.memory.directories import domain_directory, root, sharing_group
from zeroslot.memory.objects import SHM

FUTEX_WAITV = 449  # the same number on every architecture
LITTLE_BYTES = 64 << 20  # what containers get for /dev/shm by default
LITTLE_FREE = 0.1  # of /dev/shm
FEW_FILES = 1024
FEW_MAPS = 65530  # the kernel's default of vm.max_map_count
FIRST_USER = 1000  # systemd-logind leaves the memory of system users alone
CONFIGURATIONS = ("/usr/lib/systemd", "/run/systemd", "/etc/systemd")  # the last one that has a setting wins


def kernel(system: str | None = None, release: str | None = None, machine: str | None = None) -> Finding:
    """The kernel: Linux on a 64-bit machine, and new enough for every feature."""
    system = system or platform.system()
    release = release or platform.release()
    machine = machine or platform.machine()
    what = f"{system} {release} on {machine}"
    if system != "Linux" or machine not in ("x86_64", "aarch64"):
        return Finding("kernel", "wrong", what, "zeroslot is made for Linux on x86_64 and aarch64")
    numbers = re.match(r"(\d+)\.(\d+)", release)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < (5, 14):
        return Finding("kernel", "note", what, "from Linux 5.14 on, truncated memory is noticed without a race")
    return Finding("kernel", "ok", what)


def futex_waitv(call: Callable[[], int] | None = None) -> Finding:
    """Whether one wait can be for several words, which a subscriber of several publishers does."""
    number = (call or _call_futex_waitv)()
    if number in (errno.ENOSYS, errno.EPERM):
        why = "this kernel does not have it" if number == errno.ENOSYS else "a sandbox (seccomp) forbids it"
        return Finding(
            "futex_waitv",
            "note",
            f"{why}: a wait for several publishers looks at them in turns",
            "use Linux 5.16 or newer, or allow the system call in the container's seccomp profile",
        )
    return Finding("futex_waitv", "ok", "one wait is for several publishers at once")


def _call_futex_waitv() -> int:
    """The error number of a call without waiters: EINVAL where the system call exists."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(FUTEX_WAITV, None, 0, 0, None, 0)
    return ctypes.get_errno()


def shared_memory(directory: Path = SHM) -> Finding:
    """Whether there is shared memory, how large it is, and how much is free."""
    check = "shared memory"
    if not directory.is_dir():
        return Finding(check, "wrong", f"{directory} does not exist", f"mount it: mount -t tmpfs tmpfs {directory}")
    if not os.access(directory, os.W_OK | os.X_OK):
        return Finding(
            check, "wrong", f"{directory} may not be written by uid {os.geteuid()}", "chmod 1777 it, as root"
        )
    info = os.statvfs(directory)
    size, free = info.f_blocks * info.f_frsize, info.f_bavail * info.f_frsize
    if not size:
        return Finding(check, "ok", f"{directory} has no limit but the memory")
    what = f"{directory} has {_mib(size)}, {_mib(free)} free"
    enlarge = "remove what dead processes left (zeroslot gc --all), or enlarge it: mount -o remount,size=…, or in a "
    enlarge += "container --shm-size"
    if free < 1 << 20:
        return Finding(check, "wrong", what, enlarge)
    if size <= LITTLE_BYTES or free < LITTLE_FREE * size:
        return Finding(check, "note", what, enlarge)
    return Finding(check, "ok", what)


def _mib(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"


def open_files(limit: int | None = None) -> Finding:
    """The limit of file descriptors: a publisher uses three and one a pool, a subscriber two for each publisher."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if limit is None else limit
    what = "no limit of open files" if soft == resource.RLIM_INFINITY else f"{soft} open files a process"
    if soft != resource.RLIM_INFINITY and soft < FEW_FILES:
        return Finding("open files", "note", what, "raise it (ulimit -n) for a process with many topics")
    return Finding("open files", "ok", what)


def file_size(limit: int | None = None) -> Finding:
    """The limit of the size of files, which holds for shared memory as well."""
    soft = resource.getrlimit(resource.RLIMIT_FSIZE)[0] if limit is None else limit
    if soft == resource.RLIM_INFINITY:
        return Finding("file size", "ok", "no limit")
    return Finding(
        "file size",
        "wrong" if soft < 1 << 20 else "note",
        f"a process may not make files of more than {soft} bytes, shared memory included",
        "raise it: ulimit -f unlimited",
    )


def locked_memory(limit: int | None = None) -> Finding:
    """The limit of locked memory. After mlockall, mapped segments count towards it."""
    soft = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] if limit is None else limit
    if soft == resource.RLIM_INFINITY:
        return Finding("locked memory", "ok", "no limit")
    what = f"a process may lock {_mib(soft)}; zeroslot locks nothing itself"
    return Finding("locked memory", "ok", what)


def mappings(path: Path = Path("/proc/sys/vm/max_map_count")) -> Finding:
    """The limit of mappings: one for each control object and each pool."""
    limit = int(path.read_text("ascii"))
    if limit < FEW_MAPS:
        return Finding("mappings", "note", f"{limit} a process", f"sysctl vm.max_map_count={FEW_MAPS}")
    return Finding("mappings", "ok", f"{limit} a process")


def remove_ipc(
    uid: int | None = None,
    running: Path = Path("/run/systemd/system"),
    configurations: tuple[str, ...] = CONFIGURATIONS,
    lingering: Path = Path("/var/lib/systemd/linger"),
) -> Finding:
    """Whether systemd-logind removes a user's shared memory when the user logs out."""
    check = "RemoveIPC"
    uid = os.geteuid() if uid is None else uid
    if not running.is_dir():
        return Finding(check, "ok", "systemd does not run here")
    if uid < FIRST_USER:
        return Finding(check, "ok", f"does not concern uid {uid}, a system user")
    setting = "yes"
    for path in _logind_files(configurations):
        for line in path.read_text("utf-8", errors="replace").splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "RemoveIPC":
                setting = value.strip().lower()
    if setting in ("no", "false", "off", "0", "n", "f"):
        return Finding(check, "ok", "systemd-logind keeps shared memory when a user logs out")
    if lingering.is_dir() and any(_uid_of(name) == uid for name in os.listdir(lingering)):
        return Finding(check, "ok", "the user lingers, so systemd-logind keeps the shared memory")
    return Finding(
        check,
        "note",
        "systemd-logind removes this user's shared memory at the end of the last session, also under live processes",
        "RemoveIPC=no in /etc/systemd/logind.conf, loginctl enable-linger, or run as a system user (a service)",
    )


def _logind_files(configurations: tuple[str, ...]) -> Iterator[Path]:
    for directory in configurations:
        main = Path(directory, "logind.conf")
        yield from (path for path in (main, *sorted(Path(directory, "logind.conf.d").glob("*.conf"))) if path.is_file())


def _uid_of(name: str) -> int | None:
    import pwd

    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def root_directory() -> Finding:
    """Whether this process may use the root of discovery. A missing one is made by the first publisher."""
    return _directories("root", root(), [root()])


def domain_directories(domain: str) -> Finding:
    """Whether this process may use the directory of the domain, and all below it."""
    top = domain_directory(domain)
    below = (Path(here, name) for here, names, _ in os.walk(top) for name in names)
    return _directories("domain", top, [top, *below])


def _directories(check: str, top: Path, paths: list[Path]) -> Finding:
    group = None
    if not top.exists():
        return Finding(check, "ok", f"{top} does not exist yet: the first publisher or subscriber makes it")
    try:
        for path in paths:
            if path.exists():  # else its publisher has removed it meanwhile
                if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
                    raise access.permission_error(path, path.stat(), "this process may not use it")
                group = sharing_group(path)
    except OSError as error:
        return Finding(check, "wrong", str(error))
    return Finding(check, "ok", f"{top}, {'private' if group is None else f'shared with gid {group}'}")


def huge_pages(path: Path = hugepages.ENABLED) -> Finding:
    """Whether slots can have pages of 2 MiB, for publishers that ask for them."""
    try:
        setting = path.read_text("ascii")
    except OSError:
        return Finding(
            "huge pages", "note", "this kernel has none for shared memory", "matters with hugepages=True only"
        )
    chosen = re.search(r"\[(\w+)\]", setting)
    what = f"{path} says {chosen[1] if chosen else setting.strip()}"
    if chosen and chosen[1] == "deny":
        advice = f"matters with hugepages=True only: echo advise > {path}"
        return Finding("huge pages", "note", what, advice)
    return Finding("huge pages", "ok", what)


def cores(count: int | None = None) -> Finding:
    """Whether spinning before a sleep can pay: the publisher needs another core meanwhile."""
    count = len(os.sched_getaffinity(0)) if count is None else count
    if count == 1:
        return Finding(
            "cores",
            "note",
            "this process may use 1 core: while a subscriber spins, no publisher runs on it",
            "subscribe with spin_us=0",
        )
    return Finding("cores", "ok", f"this process may use {count}: a subscriber may spin (spin_us) for a lower latency")


def stale(domain: str) -> Iterator[Finding]:
    """What dead processes left in the domain, segments of this root without an owner, and what cannot be read."""
    found = clean(domain, dry_run=True)
    dead = list(dict.fromkeys(each.what for each in found if not each.left_alone))
    unread = list(dict.fromkeys(each.what.removeprefix(LEFT_ALONE) for each in found if each.left_alone))
    if dead:
        more = f", and {len(dead) - 1} more" if len(dead) > 1 else ""
        advice = "remove it: zeroslot gc (--dry-run lists all)"
        yield Finding("remains", "note", f"something is left of dead processes: {dead[0]}{more}", advice)
    for text in unread:
        yield Finding("files", "note", text, "zeroslot gc leaves it alone: upgrade what wrote it, or remove it by hand")
    if not found:
        yield Finding("remains", "ok", "nothing is left of dead processes")


def container(marks: tuple[str, ...] = ("/.dockerenv", "/run/.containerenv")) -> Finding:
    """Whether this process is in a container, which has a /dev/shm of its own unless it is told otherwise."""
    if any(Path(mark).exists() for mark in marks):
        return Finding(
            "container",
            "note",
            "this is a container: it meets other containers and the host only where they share /dev/shm",
            "share it (--ipc=host, or --ipc=container:NAME) and, where it is set, the directory of ZEROSLOT_DIR",
        )
    return Finding("container", "ok", "this is no container that is known")
