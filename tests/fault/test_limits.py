"""A restrictive umask, a file size limit, a full /dev/shm: a clear error if anything fails, and nothing is left."""

from __future__ import annotations

import errno

import pytest

from tests.fault.test_resources import SMALL_SHM, small_shm
from tests.process.actors import Cast

__all__ = ["small_shm"]

# One user starts both ends under a limit, and says what they raised and what is left in /dev/shm.
ATTEMPT = (
    SMALL_SHM
    + """
import gc, resource
import zeroslot as zs
from tests.process.samples import Tick

zs.Publisher, zs.Subscriber, zs.clean  # all is imported while it may be read
os.setgroups([])
os.setgid(60001)
os.setuid(60001)

def left():
    gc.collect()
    return sorted(os.path.join(at, name) for at, below, files in os.walk("/dev/shm") for name in below + files)

def attempt(make):
    try:
        return make()
    except OSError as error:
        return [type(error).__name__, error.errno, str(error)]

def both():
    with zs.Publisher("a/t", Tick, depth=1, max_loans=1, spare_slots=1, max_subscribers=1) as pub:
        with zs.Subscriber("a/t", Tick) as sub:
            pub.publish(Tick(number=1))
            modes = {oct(os.lstat(path).st_mode & 0o7777) for path in left()}
            return ["works", sorted(modes)]

def subscriber():
    zs.Subscriber("a/t", Tick).close()
    return ["works"]

for kind, value in orders():
    if kind == "umask":
        os.umask(value)
    elif kind == "file size":
        resource.setrlimit(resource.RLIMIT_FSIZE, (value, resource.RLIM_INFINITY))
    say([attempt(both), attempt(subscriber), left()])
"""
)


@pytest.mark.row("SEC-1", "NEW-9")
@pytest.mark.parametrize("umask", [0o777, 0o700, 0o277, 0o477])
def test_the_umask_takes_no_rights_from_the_user(cast: Cast, small_shm: None, umask: int):
    """Directories and files get the rights that they need, also for a user that is not root."""
    child = cast(ATTEMPT, "size=8m")
    assert child.ask(["umask", umask]) == [["works", ["0o600", "0o700"]], ["works"], []]


@pytest.mark.row("NEW-9")
@pytest.mark.parametrize("limit", [0, 1, 19, 20, 63, 64, 100, 1000])
def test_a_file_size_limit_is_an_error_that_names_the_file(cast: Cast, small_shm: None, limit: int):
    """EFBIG at the first file that exceeds it: the bell, the flink, an object. The text names the limit."""
    child = cast(ATTEMPT, "size=8m")
    publisher, subscriber, left = child.ask(["file size", limit])
    for kind, number, *text in (publisher, *([subscriber] if limit < 64 else [])):
        assert (kind, number) == ("OSError", errno.EFBIG)
        assert "/dev/shm/" in text[0]
        assert "ulimit -f" in text[0]
    if limit >= 64:
        assert subscriber == ["works"]
    assert left == []


@pytest.mark.row("NEW-9")
@pytest.mark.parametrize(
    ("options", "least"),
    [
        ("size=8m,nr_inodes={}", 8),  # root, domain, bell, two parts of the topic, flink, two objects, less an overlap
        ("nr_blocks={}", 4),  # a page for the bell, the flink, and each object
    ],
    ids=["files", "pages"],
)
def test_a_dev_shm_with_too_few_files_or_pages_is_an_error_that_names_the_file(
    cast: Cast, small_shm: None, options: str, least: int
):
    """ENOSPC for each directory, bell, flink and object in turn, until there is room for all of them."""
    for room in range(1, 40):
        child = cast(ATTEMPT, options.format(room))
        publisher, _, left = child.ask(["nothing", 0])
        assert left == [], room
        if publisher[0] == "works":
            break
        kind, number, text = publisher
        assert number == errno.ENOSPC, text
        assert "/dev/shm/" in text or (kind == "OutOfSharedMemoryError" and "/dev/shm" in text), text
    else:
        pytest.fail("never made")
    assert room >= least


@pytest.mark.row("NEW-9")
def test_a_read_only_dev_shm_is_an_error_that_names_the_file(cast: Cast, small_shm: None):
    """EROFS at the root, and at the objects if the root is elsewhere; nothing is left there."""
    child = cast(ATTEMPT, "ro")
    publisher, subscriber, _ = child.ask(["nothing", 0])
    for kind, number, text in (publisher, subscriber):
        assert (kind, number) == ("OSError", errno.EROFS), text
        assert "/dev/shm/zeroslot-60001" in text
    elsewhere = cast(
        ATTEMPT.replace(
            "def left", "import tempfile\nroot = tempfile.mkdtemp()\nos.environ['ZEROSLOT_DIR'] = root\ndef left"
        ).replace('os.walk("/dev/shm")', "os.walk(root)"),
        "ro",
    )
    publisher, subscriber, left = elsewhere.ask(["nothing", 0])
    assert publisher[:2] == ["OSError", errno.EROFS]
    assert "/dev/shm/zs-" in publisher[2]
    assert subscriber == ["works"]
    assert left == []
