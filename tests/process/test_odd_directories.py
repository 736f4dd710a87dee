"""What lies in a domain's directory and is no topic, no flink, or may not be read: every call and every verb that looks
there says so, goes on with the rest, and never answers that there is nothing.

One process looks. It is root where the tests are, without the rights by which root reads every file.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import zeroslot as zs
from tests.children import Child, Children
from tests.process.samples import Tick
from zeroslot.memory import flink

LOOKER = r"""
import contextlib, ctypes, io, json, logging, os, struct, sys, traceback
import zeroslot as zs
import zeroslot.cli
from tests.process.samples import Tick

def drop_rights():
    # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: what lets root read everything.
    libc = ctypes.CDLL(None)
    head, sets = struct.pack("<Ii", 0x20080522, 0), ctypes.create_string_buffer(24)
    assert libc.capget(head, sets) == 0
    words = struct.unpack("<6I", sets.raw)
    assert libc.capset(head, struct.pack("<6I", *(word & ~0b110 for word in words[:3]), *words[3:])) == 0

if os.geteuid() == 0:
    drop_rights()
logged = io.StringIO()
logging.basicConfig(stream=logged, format="%(message)s")

def closed(handle):
    handle.close()

def metrics(domain):
    return [[each.samples] for each in zs.MetricsCollector(domain=domain).collect() if each.name == "zeroslot_problems"]

def watched(*names, domain):
    with zs.Monitor(*names, domain=domain) as monitor:
        return monitor.snapshot()

def calls(topic, domain):
    return {
        "domains": zs.domains,
        "topics": lambda: zs.topics(domain),
        "topics with waiting": lambda: zs.topics(domain, waiting=True),
        "inspect": lambda: zs.inspect(topic, domain),
        "schema_of": lambda: zs.schema_of(topic, domain),
        "waiting_subscribers": lambda: zs.waiting_subscribers(domain=domain),
        "clean": lambda: zs.clean(domain, dry_run=True),
        "clean everything": lambda: zs.clean(everything=True, dry_run=True),
        "Monitor": lambda: watched(domain=domain),
        "Monitor of one": lambda: watched(topic, domain=domain),
        "MetricsCollector": lambda: metrics(domain),
        "diagnose": lambda: zs.diagnose(topic, domain),
        "Subscriber": lambda: closed(zs.Subscriber(topic, Tick, domain=domain)),
        "reliable Subscriber": lambda: closed(zs.Subscriber(topic, Tick, domain=domain, reliable=True)),
        "Publisher": lambda: closed(zs.Publisher(topic, Tick, domain=domain)),
    }

VERBS = {
    "list": ["list"], "list --json": ["list", "--json"], "list --all": ["list", "--all"], "info": ["info", None],
    "schema": ["schema", None], "echo": ["echo", None, "--once", "--timeout", "0"],
    "pub": ["pub", None, '"aGk="', "--type", "bytes", "--wait", "0", "--linger", "0"],
    "hz": ["hz", None, "--once", "--interval", "0.05"], "bw": ["bw", None, "--times", "1", "-i", "0.05"],
    "latency": ["latency", None], "stat": ["stat"], "stat of one": ["stat", None], "top": ["top", "--once"],
    "doctor": ["doctor", None], "gc": ["gc", "--dry-run"], "gc --all": ["gc", "--all", "--dry-run"],
    "graph": ["graph"], "graph --json": ["graph", "--json"], "metrics": ["metrics", "--once"],
    "plot": ["plot", None, "number", "--once", "--window", "0.1"],
    "view": ["view", None, "--once", "--timeout", "0"],
}

def outcome(run):
    logged.seek(0)
    logged.truncate()
    try:
        result = repr(run())
    except (zs.ZeroslotError, OSError) as error:
        result = f"{type(error).__name__}: {error}"
    except BaseException:
        result = traceback.format_exc()
    return f"{result}\n{logged.getvalue()}"

def verb(words, topic, domain):
    sys.argv = ["zeroslot", *(topic if word is None else word for word in words)]
    if "--all" not in words:
        sys.argv += ["-d", domain]
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = zeroslot.cli.main()
    return status, output.getvalue()

say("ready")
for root, topic, domain, subject in orders():
    os.environ["ZEROSLOT_DIR"] = root
    if subject == "calls":
        say({name: outcome(call) for name, call in calls(topic, domain).items()})
    else:
        say({name: outcome(lambda: verb(words, topic, domain)) for name, words in VERBS.items()})
"""
FOREIGN_USER = 60001
FLINK, ANNOUNCEMENT = "00000000000000a1.flink", ".00000000000000a1.sub"


@pytest.fixture(scope="module")
def looker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """The process that looks. It makes no handle that it does not close."""
    children = Children(tmp_path_factory.mktemp("looker"))
    try:
        child = children(LOOKER)
        child.expect("ready")
        yield child
    finally:
        children.reap()


@dataclass(frozen=True)
class Odd:
    """Something odd. `make` is given the topic's directory, which is not there yet. `said`: what each answer about the
    topic has; with `listed` also each about the domain.
    """

    make: Callable[[Path], object]
    said: str
    listed: bool = True


def private(path: Path, content: bytes = b"") -> Path:
    """A file as the library makes them."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def closed_directory(directory: Path) -> None:
    private(directory / "something")
    directory.chmod(0)


def foreign_directory(directory: Path) -> None:
    private(directory / "something")
    directory.chmod(0o700)
    os.chown(directory, FOREIGN_USER, FOREIGN_USER)


def dangling_link(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    (directory / FLINK).symlink_to("/nowhere")


def directory_as_flink(directory: Path) -> None:
    (directory / FLINK / "below").mkdir(parents=True)
    directory.chmod(0o700)


def pipe_as_flink(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    os.mkfifo(directory / FLINK)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
NO_FLINK = r"odd/00000000000000a1\.flink is no flink"
ODD = {
    "a directory that may not be read": Odd(closed_directory, r"odd belongs to uid \d+ and gid \d+ with mode 0000"),
    "the directory of another user": Odd(foreign_directory, rf"odd belongs to uid {FOREIGN_USER} and gid"),
    "a file in place of the directory": Odd(lambda path: private(path, b"text"), r"odd is not a directory", False),
    "a dangling link as flink": Odd(dangling_link, NO_FLINK),
    "an empty flink": Odd(lambda path: private(path / FLINK), NO_FLINK),
    "a flink with binary content": Odd(lambda path: private(path / FLINK, bytes(range(256)) * 99), NO_FLINK),
    "a directory as flink": Odd(directory_as_flink, NO_FLINK),
    "a pipe as flink": Odd(pipe_as_flink, NO_FLINK),
}
CASES = [
    pytest.param(name, subject, marks=[as_root] if "another user" in name else [])
    for name in ODD
    for subject in ("calls", "verbs")
    if subject == "calls" or ODD[name].said != NO_FLINK or "binary" in name  # a verb takes a while
]
ABOUT_THE_DOMAIN = {
    "topics", "topics with waiting", "clean", "clean everything", "Monitor", "list", "list --json", "list --all",
    "stat", "top", "gc", "gc --all", "graph", "graph --json",
}  # fmt: skip  # names of calls and verbs
COUNTED = {"MetricsCollector", "metrics"}  # by their kind
WITHOUT_TOPICS = {"domains"}
ABOUT_SUBSCRIBERS = {"waiting_subscribers"}
FOR_PEOPLE = {"list", "list --all", "stat", "top", "graph"}


@pytest.mark.row("OBS-1", "OBS-4")
@pytest.mark.parametrize(("name", "subject"), CASES)
def test_what_cannot_be_read_is_in_every_answer(looker: Child, zeroslot_dir: Path, name: str, subject: str) -> None:
    """With its path and what is wrong; another topic of the domain is in the answers as well."""
    case = ODD[name]
    directory = zeroslot_dir / "default" / "odd"
    with zs.Publisher("sound", Tick):
        case.make(directory)
        answers = looker.ask([str(zeroslot_dir), "odd", "default", subject])
        os.chown(directory, os.geteuid(), -1)
        if directory.is_dir():
            directory.chmod(0o700)
            shutil.rmtree(directory)
        else:
            directory.unlink()
    silent = []
    for each, answer in answers.items():
        assert "Traceback" not in answer, answer
        if each in ABOUT_THE_DOMAIN and each not in {"clean", "clean everything", "gc", "gc --all"}:
            assert "sound" in answer
        if each in WITHOUT_TOPICS or (each in {*ABOUT_THE_DOMAIN, *COUNTED, *ABOUT_SUBSCRIBERS} and not case.listed):
            continue
        if each in ABOUT_SUBSCRIBERS and case.said == NO_FLINK:
            continue
        wanted = r"problems.*(foreign|unreadable)" if each in COUNTED else case.said
        if not re.search(wanted, answer, re.DOTALL):
            silent.append(f"{each}: {answer}")
        assert each not in FOR_PEOPLE or answer.count("odd") == 1, answer
    assert silent == []


def huge_file(path: Path) -> None:
    os.truncate(private(path), 2**40)


ANNOUNCEMENTS: dict[str, Callable[[Path], object]] = {
    "empty": private,
    "binary": lambda path: private(path, bytes(range(256)) * 3),
    "huge": huge_file,
    "a directory": lambda path: path.mkdir(parents=True, mode=0o700),
    "a pipe": lambda path: (path.parent.mkdir(mode=0o700), os.mkfifo(path, 0o600)),
    "a dangling link": lambda path: (path.parent.mkdir(mode=0o700), path.symlink_to("/nowhere")),
}


@pytest.mark.parametrize("name", ANNOUNCEMENTS)
def test_what_is_no_announcement_counts_for_nothing(looker: Child, zeroslot_dir: Path, name: str) -> None:
    """No call hangs or fails because of it, and no publisher waits for it."""
    path = zeroslot_dir / "default" / "odd" / ANNOUNCEMENT
    with zs.Publisher("sound", Tick):
        ANNOUNCEMENTS[name](path)
        path.parent.chmod(0o700)
        answers: dict[str, Any] = looker.ask([str(zeroslot_dir), "odd", "default", "calls"])
        with zs.Publisher("odd", Tick, on_full="raise", depth=1, max_loans=1) as pub:
            for number in range(3):
                pub.publish(Tick(number=number))
        for each, answer in answers.items():
            assert "Traceback" not in answer, answer
            if each in ABOUT_THE_DOMAIN and each not in {"clean", "clean everything", "gc", "gc --all"}:
                assert "sound" in answer
        zs.clean()
    if os.path.lexists(path):
        assert not path.is_file()  # what was a regular file has been removed as a dead process's
        path.unlink()


@pytest.mark.parametrize("subject", ["calls", "verbs"])
@pytest.mark.parametrize("kind", ["a file", pytest.param("another user's", marks=as_root)])
def test_a_domain_that_cannot_be_read_is_an_error(looker: Child, zeroslot_dir: Path, subject: str, kind: str) -> None:
    """Each call about it raises; those about all domains go on with the others, and say it where it is a directory."""
    lab = zeroslot_dir / "lab"
    with zs.Publisher("sound", Tick):
        if kind == "a file":
            private(lab)
        else:
            lab.mkdir()
            lab.chmod(0)
            os.chown(lab, FOREIGN_USER, FOREIGN_USER)
        answers = looker.ask([str(zeroslot_dir), "sound", "lab", subject])
        lab.unlink() if kind == "a file" else lab.rmdir()
    said = "lab is not a directory" if kind == "a file" else rf"lab belongs to uid {FOREIGN_USER}"
    for each, answer in answers.items():
        assert "Traceback" not in answer, answer
        if each != "domains" and (each not in {"list --all", "clean everything", "gc --all"} or kind != "a file"):
            assert re.search(said, answer), (each, answer)
    assert "sound" in answers.get("list --all", "sound")


def found_of(look: Callable[[], Any]) -> Any:
    """What it finds; nothing where it says so by the error for that."""
    try:
        return look()
    except zs.TopicNotFoundError:
        return ()


LOOKS: dict[str, Callable[[], Any]] = {
    "topics": lambda: zs.topics(waiting=True),
    "inspect": lambda: found_of(lambda: zs.inspect("t")),
    "schema_of": lambda: found_of(lambda: zs.schema_of("t")),
    "waiting_subscribers": zs.waiting_subscribers,
    "clean": lambda: zs.clean(dry_run=True),
    "Monitor": lambda: zs.Monitor().snapshot().problems,
    "Monitor of one": lambda: zs.Monitor("t").snapshot().problems,
    "diagnose": lambda: [each for each in zs.diagnose("t") if "could not be checked" in each.what],
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_topic_removed_between_the_listing_and_the_look(monkeypatch: pytest.MonkeyPatch, look: str) -> None:
    """Its publisher ended meanwhile: the topic is not there any more, and nothing is wrong."""
    pub = zs.Publisher("t", Tick)
    real: dict[str, Callable[..., Any]] = {name: getattr(flink, name) for name in ("list_flinks", "list_domain")}

    def patched(name: str) -> Callable[..., Any]:
        def listed(*args: Any, **options: Any) -> Any:
            found = real[name](*args, **options)
            for each, function in real.items():
                monkeypatch.setattr(flink, each, function)
            pub.close()
            assert not pub.flink.parent.exists()
            return found

        return listed

    for name in real:
        monkeypatch.setattr(flink, name, patched(name))
    assert not LOOKS[look]()
    assert pub.closed
