"""Arguments of the wrong kind: each error says what the argument is, what was given, and what to write."""

from __future__ import annotations

import errno
import inspect
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import zeroslot as zs
from zeroslot.arguments import FileMode, checked_flag, checked_mode, checked_name, checked_seconds, whole_number
from zeroslot.testing import MemoryTopic


class Imu(zs.Sample):
    n: zs.U64


def publish(**options: Any) -> None:
    zs.Publisher(options.pop("topic", "t"), options.pop("sample_type", Imu), **options).close()


def subscribe(**options: Any) -> None:
    zs.Subscriber(options.pop("topic", "t"), options.pop("sample_type", Imu), **options).close()


def create(**options: Any) -> None:
    if "pools" not in options:
        options |= {"slot_count": 4, "slot_capacity": 64}
    zs.SlotAllocator.create(**options).close()


WRONG: list[tuple[Callable[..., None], dict[str, Any], type[Exception], str]] = [
    (publish, {"depth": "8"}, TypeError, "depth is a whole number, not '8': write depth=8"),
    (publish, {"depth": "0x10"}, TypeError, "write depth=16"),
    (publish, {"depth": True}, TypeError, "depth is a whole number, not True"),
    (publish, {"depth": 2.0}, TypeError, "depth is a whole number, not 2.0: write depth=2"),
    (publish, {"depth": 2.5}, TypeError, "depth is a whole number, not 2.5"),
    (publish, {"depth": None}, TypeError, "depth is a whole number, not None"),
    (publish, {"depth": np.int64(8)}, TypeError, "write depth=8"),
    (publish, {"max_loans": "2"}, TypeError, "write max_loans=2"),
    (publish, {"spare_slots": "2"}, TypeError, "write spare_slots=2"),
    (publish, {"max_subscribers": "2"}, TypeError, "write max_subscribers=2"),
    (publish, {"mode": "0600"}, TypeError, "mode is a number such as 0o600, not '0600': write mode=0o600"),
    (publish, {"mode": "0o660"}, TypeError, "write mode=0o660"),
    (publish, {"mode": "660"}, TypeError, "write mode=0o660"),
    (publish, {"mode": "group"}, TypeError, "write mode=0o600"),
    (publish, {"mode": None}, TypeError, "mode is a number such as 0o600, not None"),
    (publish, {"mode": True}, TypeError, "mode is a number such as 0o600, not True"),
    (publish, {"mode": 384.0}, TypeError, "mode is a number such as 0o600, not 384.0"),
    (publish, {"mode": 660}, ValueError, "mode 660 is 0o1224: write mode=0o660"),
    (publish, {"mode": 0o644}, ValueError, "mode 0644: the owner reads and writes, others get nothing"),
    (publish, {"mode": -1}, ValueError, "mode -1"),
    (publish, {"name": b"x"}, TypeError, "name is a str or None, not b'x': write name='x'"),
    (publish, {"name": 5}, TypeError, "name is a str or None, not 5"),
    (publish, {"evict_after": "1"}, TypeError, "evict_after is a number of seconds or None, not '1': write"),
    (publish, {"max_period": "0.5"}, TypeError, "write max_period=0.5"),
    (publish, {"metadata": "yes"}, TypeError, "metadata is True or False, not 'yes'"),
    (publish, {"crc": 1}, TypeError, "crc is True or False, not 1: write crc=True"),
    (publish, {"hugepages": None}, TypeError, "hugepages is True or False, not None"),
    (publish, {"grow": 0}, TypeError, "write grow=False"),
    (publish, {"pools": 5}, TypeError, "not 5: write pools=[(4096, 64)]"),
    (publish, {"pools": [4096]}, TypeError, "not 4096: write pools="),
    (publish, {"pools": ["ab"]}, TypeError, "not 'ab': write pools="),
    (publish, {"pools": [("4096", 64)]}, TypeError, "a slot capacity in pools is a whole number, not '4096': write"),
    (publish, {"topic": b"robot/imu"}, zs.TopicNameError, "a topic is a str, not bytes: write 'robot/imu'"),
    (publish, {"topic": Path("robot/imu")}, zs.TopicNameError, "write 'robot/imu'"),
    (publish, {"topic": b"\xff"}, zs.TopicNameError, "a topic is a str, not bytes$"),
    (publish, {"domain": b"lab"}, zs.TopicNameError, "a domain is a str, not bytes: write 'lab'"),
    (publish, {"sample_type": Imu(n=1)}, zs.DeclarationError, "is a sample, and not its class: write Imu"),
    (subscribe, {"sample_type": Imu(n=1)}, zs.DeclarationError, "is a sample, and not its class: write Imu"),
    (publish, {"sample_type": np.zeros(10**4)}, zs.DeclarationError, "is a sample, and not its type: write np.ndarray"),
    (publish, {"sample_type": b"abc"}, zs.DeclarationError, "is a sample, and not its type: write bytes"),
    (publish, {"sample_type": str}, zs.DeclarationError, "or give np.ndarray or bytes. For texts give bytes"),
    (publish, {"topic": Imu}, zs.TopicNameError, "a topic is a str, not the class Imu$"),
    (publish, {"topic": "/robot/imu"}, zs.TopicNameError, "'/robot/imu': write robot/imu; a part is empty"),
    (publish, {"sample_type": "Imu"}, zs.DeclarationError, "'Imu' is not a sample type. Derive a class"),
    (subscribe, {"history": None}, TypeError, "history is a whole number, not None"),
    (subscribe, {"history": "8"}, TypeError, "write history=8"),
    (subscribe, {"history": True}, TypeError, "history is a whole number, not True"),
    (subscribe, {"reliable": 1}, TypeError, "write reliable=True"),
    (subscribe, {"reliable": "no"}, TypeError, "reliable is True or False, not 'no'"),
    (subscribe, {"verify": None}, TypeError, "verify is True or False, not None"),
    (subscribe, {"max_leases": "4"}, TypeError, "write max_leases=4"),
    (subscribe, {"spin_us": "20"}, TypeError, "write spin_us=20"),
    (subscribe, {"name": 5}, TypeError, "name is a str or None, not 5"),
    (publish, {"name": "\ud800"}, ValueError, "name is '\\ud800', which UTF-8 cannot hold"),
    (publish, {"max_period": np.timedelta64(1, "s")}, TypeError, "max_period is a number of seconds or None, not np."),
    (publish, {"on_full": np.zeros(3)}, ValueError, 'and has to be "evict", "block" or "raise"'),
    (publish, {"match": np.zeros(3)}, ValueError, 'and has to be "exact" or "by_name"'),
    (subscribe, {"missing": np.zeros(3), "match": "by_name"}, ValueError, 'and has to be "error" or "ignore"'),
    (create, {"flink": "\0"}, ValueError, "'\\x00' cannot be the path of a file"),
    (create, {"flink": "\ud800"}, ValueError, "'\\ud800' cannot be the path of a file"),
    (create, {"flink": "f", "pools": 5}, TypeError, "not 5: write pools=[(4096, 64)]"),
]  # fmt: skip  # a table


@pytest.mark.parametrize(
    ("use", "options", "kind", "text"), WRONG, ids=lambda each: re.sub(r"\W+", "-", str(each))[:40]
)
def test_an_argument_of_the_wrong_kind_says_what_to_write(
    use: Callable[..., None], options: dict[str, Any], kind: type[Exception], text: str, zeroslot_dir: Path
) -> None:
    """In one short line; nothing is created."""
    with pytest.raises(kind) as caught:
        use(**options)
    assert re.search(re.escape(text).replace(r"\$", "$"), str(caught.value))
    assert len(str(caught.value)) < 300
    assert list(zeroslot_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("topic", "advice"),
    [
        ("/robot/imu", "robot/imu"),
        ("robot/imu/", "robot/imu"),
        ("robot//imu", "robot/imu"),
        ("///robot///imu///", "robot/imu"),
        (" robot/imu", "robot/imu"),
        ("robot / imu\n", "robot/imu"),
        ("robot imu", "robot_imu"),
        ("robot:imu", "robot_imu"),
        ("../robot/./imu", "robot/imu"),
        (".robot/-imu", "robot/imu"),
        ("räder/imu", "r_der/imu"),
        ("imu.flink", None),
        ("", None),
        ("/", None),
        ("ä", None),
        ("a" * 65, None),
    ],
)
def test_the_error_for_a_topic_says_which_name_to_write(topic: str, advice: str | None) -> None:
    """A name that is accepted, or none where none is near."""
    with pytest.raises(zs.TopicNameError) as caught:
        publish(topic=topic)
    found = re.search(r"write (\S+);", str(caught.value))
    assert (found[1] if found else None) == advice
    if advice is not None:
        publish(topic=advice)


def test_the_error_for_a_domain_says_which_name_to_write() -> None:
    """A domain has no slashes."""
    with pytest.raises(zs.TopicNameError, match="write lab_2; "):
        subscribe(domain="/lab/2")


@pytest.mark.parametrize("timeout", ["1", b"1", [1], object()])
def test_a_timeout_of_the_wrong_kind_says_what_it_is(timeout: Any) -> None:
    """In every call that waits."""
    with zs.Publisher("t", Imu) as pub, zs.Subscriber("t", Imu) as sub:
        calls = (sub.take, sub.wait, sub.wait_for_publishers, sub.take_many, pub.wait_for_subscribers, pub.flush)
        for call in calls:
            with pytest.raises(TypeError, match=r"a timeout is a number of seconds, such as 0\.5, or None"):
                call(timeout=timeout)


def test_counts_of_the_wrong_kind_say_what_they_are() -> None:
    """Of subscribers, publishers, loans and samples."""
    with zs.Publisher("t", Imu) as pub, zs.Subscriber("t", Imu) as sub:
        for call in (pub.wait_for_subscribers, sub.wait_for_publishers):
            with pytest.raises(TypeError, match="n is a whole number, not '1': write n=1"):
                call("1", timeout=0)
        for call in (pub.loan_many, sub.take_many):
            with pytest.raises(TypeError, match="a size is a whole number, not '2'"):
                call("2")


@pytest.mark.parametrize("name", ["depth", "evict_after"])
def test_a_number_that_python_refuses_to_show_is_refused_by_name(name: str) -> None:
    """It has more than 4300 digits."""
    with pytest.raises(ValueError, match=f"^{name} is <int that cannot be shown>, and has to be"):
        publish(**{name: -(10**5000)})


class Names(StrEnum):
    TOPIC = "robot/imu"
    DOMAIN = "lab"
    NAME = "driver"
    ON_FULL = "block"
    MATCH = "by_name"


def test_texts_may_be_members_of_an_enum() -> None:
    """They mean what they say."""
    options: dict[str, Any] = {"domain": Names.DOMAIN, "name": Names.NAME, "match": Names.MATCH}
    with (
        zs.Publisher(Names.TOPIC, Imu, on_full=cast("zs.OnFull", Names.ON_FULL), **options) as pub,
        zs.Subscriber(Names.TOPIC, Imu, **options) as sub,
        MemoryTopic(Imu, Names.TOPIC) as memory,
    ):
        pub.publish(Imu(n=7))
        assert [each.name for each in zs.inspect("robot/imu", "lab").publishers] == ["driver"]
        assert [each.name for each in zs.inspect(Names.TOPIC, Names.DOMAIN).publishers[0].subscribers] == ["driver"]
        assert [type(each) for each in (pub.topic, pub.domain, sub.topic)] == [str, str, str]
        with pytest.raises(zs.TopicNotFoundError, match=r"^robot/imu has"):
            zs.inspect(Names.TOPIC)
        memory.publisher().close()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda pub: pub.loan_many(1, validate=np.zeros(3)), "validate is True or False"),
        (lambda pub: pub.loan_many(10**5000), "a number of 16610 bits samples at once"),
        (lambda pub: pub.publish_many(5), "takes an array or an iterable of samples, not int"),
        (lambda pub: pub.loan(sizes=5), "sizes is a dict with the size of each field, not int"),
        (lambda pub: pub.publish(Imu(n=1), metadata=5), "metadata is a Metadata or a dict, not int"),
        (
            lambda pub: pub.publish(Imu(n=1), metadata={"user": "\ud800"}),
            "metadata: user is no text that UTF-8 can hold",
        ),
        (lambda pub: pub.send(n=10**5000), "n: a number of 16610 bits is out of range for u64"),
    ],
)
def test_a_call_that_is_refused_keeps_no_loan(call: Callable[[Any], Any], text: str) -> None:
    """The error names the argument; all loans can be had afterwards."""
    with zs.Publisher("t", Imu, metadata=True) as pub:
        with pytest.raises((TypeError, ValueError), match=text):
            call(pub)
        with pub.loan_many(2):
            pass


def test_a_number_beyond_all_floats_names_its_field() -> None:
    """As one beyond the field's own range does."""

    class Floats(zs.Sample):
        x: float = 0
        y: zs.F32 = 0

    with zs.Publisher("t", Floats) as pub, pub.loan() as floats:
        for number, shown in ((10**400, "1000"), (10**5000, "a number of 16610 bits")):
            with pytest.raises(ValueError, match=rf"^x: {shown}\d* is beyond the range of f64"):
                floats.x = number
            with pytest.raises(ValueError, match=rf"^y: {shown}\d* is beyond the range of f32"):
                floats.y = number


@pytest.mark.parametrize("last", [-1, 2**32, 1.0, None])
def test_what_is_no_generation_is_refused(last: Any) -> None:
    """A generation has 32 bits."""
    with zs.SlotAllocator.in_memory(4, 64) as slots, slots.reader() as reader:
        assert reader.wait_for_change((reader.generation + 1) % 2**32, timeout=0)
        with pytest.raises(ValueError, match="last is a generation, which has 32 bits"):
            reader.wait_for_change(last, timeout=0)


def test_a_number_that_no_descriptor_has_is_not_open() -> None:
    """As any other that is not."""
    with zs.WaitSet() as waiting, pytest.raises(OSError, match="Bad file descriptor") as caught:
        waiting.attach(2**70)
    assert caught.value.errno == errno.EBADF


def test_checks_give_back_what_they_accept() -> None:
    """Unchanged."""
    assert whole_number("n", 3, 0, 3) == 3
    assert checked_seconds("s", 0.5) == 0.5
    assert checked_flag("f", value=False) is False
    assert checked_name("x") == "x"
    assert checked_mode(0o660) == 0o660


def test_help_shows_defaults_that_a_person_can_read() -> None:
    """No address, no number in another base than the one in which programs write it."""
    assert repr(FileMode(0o600)) == "0o600"
    assert "mode: 'int' = 0o600" in str(inspect.signature(zs.Publisher))
    assert "mode: 'int' = 0o600" in str(inspect.signature(zs.SlotAllocator.create))
    unreadable = []
    for name in zs.__all__:
        kind = getattr(zs, name)
        for member in vars(kind).values() if isinstance(kind, type) and not issubclass(kind, Exception) else ():
            function = getattr(member, "__func__", member)
            if inspect.isroutine(function) and callable(function):
                try:
                    defaults = [each.default for each in inspect.signature(function).parameters.values()]
                except ValueError:  # a slot wrapper of C has no signature
                    continue
                unreadable += [
                    (name, function.__name__, each) for each in defaults if "0x" in repr(each) or repr(each) == "384"
                ]
    assert unreadable == []
