"""`diagnose` and `zeroslot doctor`: each check says ok where things are well, and is shown what is wrong."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import zeroslot as zs
from tests.children import Children
from tests.process import actors
from zeroslot.observe import doctor, machine, silence
from zeroslot.testing import abandon


class Tick(zs.Sample):
    number: int = 0


class OtherTick(zs.Sample):
    count: float = 0


def verdicts(topic: str, domain: str | None = None) -> dict[str, list[str]]:
    """The verdicts on a topic, with the texts of each."""
    found: dict[str, list[str]] = {}
    for finding in silence.findings(topic, domain or "default"):
        found.setdefault(f"{finding.check} {finding.verdict}", []).append(finding.what)
    return found


# --- the machine


@pytest.mark.parametrize(
    ("system", "release", "cpu", "verdict"),
    [
        ("Linux", "6.1.0-13-amd64", "x86_64", "ok"),
        ("Linux", "5.14", "aarch64", "ok"),
        ("Linux", "5.10.0", "x86_64", "note"),
        ("Linux", "unknown", "x86_64", "note"),
        ("Linux", "6.1.0", "armv7l", "wrong"),
        ("Darwin", "23.1.0", "x86_64", "wrong"),
    ],
)
def test_another_kernel_is_noticed(system: str, release: str, cpu: str, verdict: str):
    """An old one is a note, another system or machine is wrong."""
    assert machine.kernel(system, release, cpu).verdict == verdict


@pytest.mark.parametrize(("number", "verdict"), [(errno.EINVAL, "ok"), (errno.ENOSYS, "note"), (errno.EPERM, "note")])
def test_a_missing_futex_waitv_is_noticed(number: int, verdict: str):
    """In the kernel, or forbidden by a sandbox."""
    assert machine.futex_waitv(lambda: number).verdict == verdict


def test_futex_waitv_is_tried():
    """With no waiters: the kernel refuses the call, and so has it."""
    assert machine._call_futex_waitv() in (errno.EINVAL, errno.ENOSYS, errno.EPERM)


def test_missing_small_and_full_shared_memory_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With what to do; a size of a container's default is a note, no room is wrong."""
    assert machine.shared_memory().verdict in ("ok", "note")
    assert machine.shared_memory(tmp_path / "missing").verdict == "wrong"
    sizes = {"blocks": 0, "free": 0}
    real = os.statvfs(tmp_path)

    def told(path: object) -> os.statvfs_result:
        values = list(real)
        values[1], values[2], values[4] = 4096, sizes["blocks"], sizes["free"]
        return os.statvfs_result(values)

    monkeypatch.setattr(os, "statvfs", told)
    for blocks, free, verdict in (
        (0, 0, "ok"),  # no limit
        (1 << 20, 1 << 19, "ok"),
        (1 << 14, 1 << 14, "note"),  # 64 MiB
        (1 << 20, 1 << 14, "note"),
        (1 << 20, 0, "wrong"),
    ):
        sizes.update(blocks=blocks, free=free)
        found = machine.shared_memory(tmp_path)
        assert (found.verdict, "--shm-size" in found.advice) == (verdict, verdict != "ok")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert machine.shared_memory(tmp_path).verdict == "wrong"


def test_small_limits_are_noticed(tmp_path: Path):
    """Of open files, of the size of files, and of mappings."""
    maps = tmp_path / "max_map_count"
    maps.write_text("65530\n")
    assert [machine.open_files(limit).verdict for limit in (1024, 256, resource.RLIM_INFINITY)] == ["ok", "note", "ok"]
    assert [machine.file_size(limit).verdict for limit in (-1, 1 << 30, 4096)] == ["ok", "note", "wrong"]
    assert [machine.locked_memory(limit).verdict for limit in (-1, 8 << 20)] == ["ok", "ok"]
    assert machine.mappings(maps).verdict == "ok"
    maps.write_text("1000\n")
    assert machine.mappings(maps).verdict == "note"


def test_systemd_that_removes_shared_memory_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """For users that are no system users, by default, unless the configuration or lingering says otherwise."""
    running, configured, lingering = tmp_path / "running", tmp_path / "etc", tmp_path / "linger"

    def verdict(uid: int = 1000) -> str:
        return machine.remove_ipc(uid, running, (str(configured),), lingering).verdict

    assert verdict() == "ok"  # no systemd
    running.mkdir()
    assert (verdict(), verdict(0), verdict(999)) == ("note", "ok", "ok")
    (configured / "logind.conf.d").mkdir(parents=True)
    (configured / "logind.conf").write_text("[Login]\n#RemoveIPC=yes\nRemoveIPC=no\n")
    assert verdict() == "ok"
    (configured / "logind.conf.d" / "10.conf").write_text("[Login]\nRemoveIPC = yes\n")
    assert verdict() == "note"
    lingering.mkdir()
    (lingering / "somebody").touch()
    monkeypatch.setattr(machine, "_uid_of", lambda name: 1000 if name == "somebody" else None)
    assert (verdict(), verdict(1001)) == ("ok", "note")


@pytest.mark.parametrize(
    ("setting", "verdict"),
    [("always [never] deny\n", "ok"), ("always never [deny]\n", "note"), (None, "note")],
)
def test_forbidden_huge_pages_are_noticed(tmp_path: Path, setting: str | None, verdict: str):
    path = tmp_path / "shmem_enabled"
    if setting is not None:
        path.write_text(setting)
    assert machine.huge_pages(path).verdict == verdict


def test_a_single_core_and_a_container_are_noticed(tmp_path: Path):
    """Both are notes: spinning does not pay, and /dev/shm may not be shared."""
    assert [machine.cores(count).verdict for count in (1, 2)] == ["note", "ok"]
    mark = tmp_path / "mark"
    assert machine.container((str(mark),)).verdict == "ok"
    mark.touch()
    assert machine.container((str(mark),)).verdict == "note"


# --- the domain


def test_directories_that_cannot_be_used_are_wrong(zeroslot_dir: Path):
    """The root and each directory of the domain, with owner and mode in the text."""
    assert machine.root_directory().verdict == machine.domain_directories("default").verdict == "ok"
    with zs.Publisher("a/b", Tick):
        below = zeroslot_dir / "default" / "a"
        assert machine.domain_directories("default").verdict == "ok"
        below.chmod(0o777)
        found = machine.domain_directories("default")
        assert (found.verdict, str(below) in found.what, "0777" in found.what) == ("wrong", True, True)
        below.chmod(0o700)
        zeroslot_dir.chmod(0o777)
        assert machine.root_directory().verdict == "wrong"
        zeroslot_dir.chmod(0o700)


def test_looking_makes_no_directory(zeroslot_dir: Path):
    """Nothing is changed, also where nothing is there yet."""
    zs.diagnose("robot/imu", "lab")
    assert list(zeroslot_dir.iterdir()) == []


def test_what_dead_processes_left_is_a_note(zeroslot_dir: Path):
    """And it stays."""
    (found,) = machine.stale("default")
    assert found.verdict == "ok"
    pubs = [zs.Publisher(topic, Tick) for topic in ("a/b", "a/c")]
    for pub in pubs:
        abandon(pub)
    (found,) = machine.stale("default")
    assert (found.verdict, "a dead publisher of a/b, and 1 more" in found.what) == ("note", True)
    assert all(pub.flink.exists() for pub in pubs)
    zs.clean()


def test_a_foreign_file_is_not_said_to_be_of_a_dead_process(zeroslot_dir: Path):
    """It is left alone, and so is what to do about it another thing."""
    flink = zeroslot_dir / "default" / "a" / "b" / f"{7:016x}.flink"
    flink.parent.mkdir(parents=True)
    flink.write_text("no control object", "utf-8")
    (found,) = machine.stale("default")
    assert (found.check, found.verdict) == ("files", "note")
    assert str(flink) in found.what
    assert "dead" not in found.what
    zeroslot_says = subprocess.run(
        [sys.executable, "-m", "zeroslot", "gc", "--dry-run"], capture_output=True, text=True
    ).stdout
    assert zeroslot_says.startswith("left alone: ")
    assert zeroslot_says.count(str(flink)) == 1
    flink.unlink()
    zs.clean()


def test_a_check_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch):
    """Such as without /proc: the others are still made."""

    def fails() -> zs.Finding:
        raise FileNotFoundError(2, "No such file", "/proc/sys/vm/max_map_count")

    monkeypatch.setattr(machine, "mappings", fails)
    found = {finding.check: finding for finding in doctor.diagnose()}
    assert (found["mappings"].verdict, "max_map_count" in found["mappings"].what) == ("wrong", True)
    assert "cores" in found


# --- a topic


def test_a_topic_that_works_has_nothing_wrong():
    with zs.Publisher("robot/imu", Tick) as pub, zs.Subscriber("robot/imu", Tick) as sub:
        assert [*verdicts("robot/imu")] == ["publisher note", "subscriber ok", "policy ok"]  # nothing published yet
        pub.publish({"number": 1})
        assert sub.take() is not None
        assert [*verdicts("robot/imu")] == ["publisher ok", "subscriber ok", "policy ok"]


def test_a_subscriber_that_waits_is_found():
    """The topic has no publisher, and no publisher has gone."""
    with zs.Subscriber("robot/imu", Tick, name="logger"):
        found = verdicts("robot/imu")
    assert found["publisher wrong"] == ["robot/imu has no publisher in domain default that can be read"]
    (text,) = found["subscriber note"]
    assert text.startswith("logger (pid ")
    assert text.endswith(" waits for a publisher")


def test_a_topic_of_a_dead_publisher_is_no_similar_name():
    """There is nothing to subscribe to."""
    abandon(zs.Publisher("robot/imu", Tick))
    assert "name note" not in verdicts("robot/inu")
    zs.clean()


@pytest.mark.parametrize("wrong", ["robot/inu", "Robot/IMU", "imu", "robot/imu2", "arm/imu"])
def test_a_similar_name_is_found(wrong: str):
    """Misspelled, in another case, or elsewhere in the tree."""
    with zs.Publisher("robot/imu", Tick), zs.Publisher("camera/front", Tick):
        found = verdicts(wrong)
        assert found["publisher wrong"]
        assert found["name note"] == ["there is robot/imu"]


def test_another_domain_and_another_root_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The topic is published there, and not here."""
    with zs.Publisher("robot/imu", Tick, domain="lab"):
        assert verdicts("robot/imu")["domain note"] == ["robot/imu is published in domain lab"]
    usual = tmp_path / f"zeroslot-{os.geteuid()}"
    chosen = os.environ["ZEROSLOT_DIR"]
    monkeypatch.setenv("ZEROSLOT_DIR", str(usual))
    with zs.Publisher("robot/imu", Tick):
        monkeypatch.setenv("ZEROSLOT_DIR", chosen)
        (found,) = silence.other_roots("robot/imu", "default", tmp_path)
        assert (found.check, found.verdict, str(usual) in found.what) == ("user", "note", True)
        assert "ZEROSLOT_DIR" in found.advice
        (tmp_path / "zeroslot-test-1-abc").mkdir()  # no user's root
        assert len(list(silence.other_roots("robot/imu", "default", tmp_path))) == 1
        assert list(silence.other_roots("robot/nothing", "default", tmp_path)) == []
        monkeypatch.setattr(os, "access", lambda path, _: Path(path) != usual)
        (found,) = silence.other_roots("robot/nothing", "default", tmp_path)
        assert "may not read" in found.what


def test_a_dead_publisher_is_wrong():
    """It has left its flink, which nothing has removed yet."""
    abandon(zs.Publisher("robot/imu", Tick, name="driver"))
    found = verdicts("robot/imu")
    assert any("driver" in text and "has died" in text for text in found["publisher wrong"])
    zs.clean()


def test_a_segment_of_another_dev_shm_is_wrong():
    """Its flink is shared with another container, and its objects are not."""
    with zs.Publisher("robot/imu", Tick) as pub:
        control = Path("/dev/shm" + pub.flink.read_text())
        control.rename(control.with_name("elsewhere"))
        try:
            (text,) = verdicts("robot/imu")["container wrong"]
        finally:
            control.with_name("elsewhere").rename(control)
        assert str(pub.flink) in text


def test_a_stopped_publisher_and_a_stopped_subscriber_are_wrong(run_child: Children):
    """Each is named with its pid."""
    pub = run_child(actors.PUBLISHER, "robot/imu", {"name": "driver"})
    pub.expect("ready")
    sub = run_child(actors.SUBSCRIBER, "robot/imu", {"name": "log"})
    sub.expect("ready")
    pub.stop()
    sub.stop()
    found = verdicts("robot/imu")
    assert [f"driver (pid {pub.pid})" in text for text in found["publisher wrong"]] == [True]
    assert [f"pid {sub.pid}" in text for text in found["subscriber wrong"]] == [True]
    pub.cont()
    sub.cont()
    assert not [name for name in verdicts("robot/imu") if name.endswith("wrong")]
    sub.finish()
    pub.finish()


def test_a_subscriber_that_holds_everything_or_loses_is_found():
    """All its leases: it can take no more. Lost samples are a note."""
    with zs.Publisher("t", Tick, depth=2) as pub, zs.Subscriber("t", Tick, max_leases=1, name="log") as sub:
        for number in range(4):
            pub.publish({"number": number})
        lease = sub.take()
        assert lease is not None
        (text,) = verdicts("t")["subscriber wrong"]
        assert "holds all 1 samples" in text
        lease.release()
        (text,) = verdicts("t")["subscriber note"]
        assert "has lost 2 samples" in text


def test_an_overdue_publisher_is_wrong():
    """It has promised a sample, and its promise is a nanosecond old."""
    with zs.Publisher("t", Tick, max_period=1e-9):
        (text,) = verdicts("t")["publisher wrong"]
        assert "overdue" in text


def test_different_types_are_found(monkeypatch: pytest.MonkeyPatch):
    """Of two publishers, of which each can be read by name."""

    class First(zs.Sample):
        number: int = 0

    class Second(zs.Sample):
        number: int = 0
        more: int = 0

    with zs.Publisher("t", First), zs.Publisher("t", Second, match="by_name"):
        (text,) = verdicts("t")["type note"]
        assert "First" in text
        assert "Second" in text


def test_a_publisher_that_waits_for_subscribers_is_found():
    """How often, and for how long."""
    with (
        zs.Publisher("t", Tick, depth=2, on_full="block", max_loans=1) as pub,
        zs.Subscriber("t", Tick, reliable=True) as sub,
    ):
        sub.wait_for_publishers()
        for number in range(2):
            pub.publish({"number": number})
        with pytest.raises(zs.BackpressureError):
            pub.publish({"number": 2}, timeout=0.2)  # a busy machine may take 0.01 s before it waits
        (text,) = verdicts("t")["policy note"]
        assert "waited 1 times" in text


def test_a_foreign_file_is_wrong(zeroslot_dir: Path):
    """It has the name of a flink."""
    with zs.Publisher("t", Tick) as pub:
        foreign = pub.flink.with_name("0" * 16 + ".flink")
        foreign.write_text("/etc/passwd")
        (text,) = verdicts("t")["files wrong"]
        assert str(foreign) in text
        foreign.unlink()


def test_a_publisher_of_another_pid_namespace_is_noticed(monkeypatch: pytest.MonkeyPatch):
    """It lives, and /proc does not know it."""
    with zs.Publisher("t", Tick):
        assert "container note" not in verdicts("t")
        monkeypatch.setattr(silence, "command_of", lambda *_: "")
        monkeypatch.setattr(silence, "shares_clock", lambda _: False)
        assert len(verdicts("t")["container note"]) == 2


# --- the command


def run_doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "zeroslot", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.row("SEG-23", "OBS-9")
def test_its_status_tells_whether_something_is_wrong():
    """0 with notes, 1 with something wrong; both with the same findings as `diagnose`, as text and as JSON."""
    with zs.Publisher("robot/imu", Tick):
        done = run_doctor("robot/imu")
        assert (done.returncode, done.stderr) == (0, "")
        assert "0 wrong" in done.stdout
        facts = json.loads(run_doctor("robot/imu", "--json").stdout)
        assert [fact["check"] for fact in facts] == [finding.check for finding in zs.diagnose("robot/imu")]
        done = run_doctor("robot/inu")
        assert (done.returncode, done.stderr) == (1, "")
        assert "robot/inu has no publisher in domain default" in done.stdout
        assert "there is robot/imu" in done.stdout
        assert run_doctor("robot/imu", "-d", "lab").returncode == 1
    assert run_doctor("not a topic").returncode == 1
