"""Each public name in a forked child refuses, or works; none waits for the parent, and none writes to its memory."""

from __future__ import annotations

import pytest

from tests.process.actors import Cast

# What works in a child: facts that do not change, what was taken before, and the end of the child's copies. All else
# refuses. A name that is new is decided here.
WORKS = {
    "publisher": "allocator closed close depth domain flink publisher_id sample_type slot_count topic "
    "on_subscriber_death __class_getitem__ __enter__ __exit__ __repr__",
    "subscriber": "closed close domain sample_type topic __aiter__ __class_getitem__ __enter__ __exit__ __iter__ "
    "__repr__",
    "allocator": "abandon closed close create create_or_attach depth discard evict_after flink huge_bytes in_memory "
    "is_owner max_loans native on_subscriber_death size size_of slot_capacity slot_count __enter__ __exit__ __repr__",
    "reader": "closed close is_owner native slot_capacity slot_count attach redeem __enter__ __exit__ __repr__",
    "loan": "sample array capacity discard live_hold metadata __class_getitem__ __dlpack__ __dlpack_device__ __enter__ "
    "__len__ __repr__ bytes memoryview",
    "slot": "array capacity discard live_hold __dlpack__ __dlpack_device__ __enter__ __len__ __repr__ bytes memoryview",
    "lease": "sample array copy metadata publisher_id published_ns release sequence size verify __class_getitem__ "
    "__dlpack__ __dlpack_device__ __enter__ __exit__ __len__ __repr__ bytes memoryview",
    "slot_lease": "array metadata published_ns release sequence size verify __dlpack__ __dlpack_device__ __enter__ "
    "__exit__ __len__ __repr__ bytes memoryview",
    "view": "number names model_copy model_dump model_dump_json __copy__ __deepcopy__ __dlpack__ __dlpack_device__ "
    "__eq__ __iter__ __repr__ bytes memoryview",
    "read_view": "number names model_copy model_dump model_dump_json __copy__ __deepcopy__ __dlpack__ "
    "__dlpack_device__ __eq__ __iter__ __repr__ bytes memoryview",
    "list": "__array__ __contains__ __dlpack__ __dlpack_device__ __eq__ __getitem__ __iter__ __len__ __repr__",
    "read_list": "__array__ __contains__ __dlpack__ __dlpack_device__ __eq__ __getitem__ __iter__ __len__ __repr__",
}

CHILD = """
import inspect, os, re, signal, sys, threading
from pathlib import Path
from typing import Annotated
import numpy as np
import zeroslot as zs

class Note(zs.Sample):
    number: zs.U64
    names: Annotated[list[zs.U32], zs.MaxLen(4)]

root = Path(os.environ["ZEROSLOT_DIR"])
pub = zs.Publisher("t", Note, depth=4)
sub = zs.Subscriber("t", Note)
slots = zs.SlotAllocator.create(root / "slots", 8, 64)
reader = zs.SlotReader.attach(root / "slots")
for _ in range(2):
    pub.publish(Note(number=1, names=[1, 2]))
    slots.commit(slots.reserve(), b"x")
loan, slot, lease, slot_lease = pub.loan(), slots.reserve(), sub.take(), reader.take()
loan.sample.names.append(1)
whole = zs.Publisher("whole", bytes, max_bytes=64)
whole_loan = whole.loan(8)
handles = {
    "publisher": pub, "subscriber": sub, "allocator": slots, "reader": reader, "loan": loan, "slot": slot,
    "lease": lease, "slot_lease": slot_lease, "view": loan.sample, "read_view": lease.sample,
    "list": loan.sample.names, "read_list": lease.sample.names,
}
arguments = {
    "publish": (Note(number=1, names=[]),), "publish_many": ([Note(number=1, names=[])],), "loan_many": (2,),
    "evict": (0,), "evict_stale": (0.0,), "on_subscriber_death": (None,),
    "discard": (slot,), "wait_for_change": (0, 0), "wait": (0,), "flush": (0,), "wait_for_subscribers": (1, 0),
    "wait_for_publishers": (1, 0), "append": (1,), "extend": ([1],), "write": (b"x",), "on_sample": (print,),
    "__exit__": (None, None, None), "__getitem__": (0,), "__setitem__": (0, 1), "__contains__": (1,), "__eq__": ([1],),
    "__deepcopy__": ({},), "__class_getitem__": (int,),
    "size_of": (4, 64), "in_memory": (4, 64),
    "add_pool": (128, 4),
    "create": (root / "new", 4, 64), "create_or_attach": (root / "new", 4, 64),
}
IGNORED = set(dir(object)) - {"__repr__"} | set(  # what Python and Cython have in every class
    "__abstractmethods__ __annotations__ __buffer__ __del__ __delitem__ __dict__ __fields__ __firstlineno__ __module__ "
    "__orig_bases__ __parameters__ __pyx_vtable__ __reduce_cython__ __release_buffer__ __setstate_cython__ __slots__ "
    "__static_attributes__ __test__ __weakref__".split()
)

def names_of(handle):
    known = {*dir(type(handle)), *dir(handle)} - IGNORED
    if isinstance(handle, zs.Sample):  # the rest is pydantic's, over the values that these read
        known -= set(dir(zs.Sample))
        known |= {"model_copy", "model_dump", "model_dump_json", "__copy__", "__deepcopy__", "__iter__", "__repr__"}
    if type(handle).__eq__ is not object.__eq__:
        known.add("__eq__")
    return sorted(name for name in known if re.match("__(?!zs)|[^_]", name))

def use(handle, name):
    if name in ("bytes", "memoryview"):
        return {"bytes": bytes, "memoryview": memoryview}[name](handle)
    value = getattr(handle, name)
    if name in ("attach", "redeem"):  # which would be a new handle
        return value
    if name == "resize":  # of a loan of whole bytes: other loans have no size to change
        return whole_loan.resize(4)
    if name == "__dlpack__":  # of a read-only array, which older consumers cannot take
        return value(max_version=(1, 0))
    if name == "discard" and not isinstance(handle, zs.SlotAllocator):
        return value()
    if name == "commit":
        return value(slot) if isinstance(handle, zs.SlotAllocator) else value()
    if callable(value) and not inspect.isclass(value) and type(value).__module__ != "zeroslot._core.binding":
        made = value(*arguments.get(name, ()))
        if inspect.iscoroutine(made):
            made.send(None)
        if name in ("create", "create_or_attach", "in_memory"):
            made.close()
    return value

def locks():
    found, seen = [], set()
    places = [vars(module) for name, module in sys.modules.items() if name.startswith("zeroslot")]
    places += [vars(value) for place in places for value in place.values() if inspect.isclass(value)]
    places += [vars(handle) for handle in handles.values() if hasattr(handle, "__dict__")]
    for place in places:
        for value in place.values():
            if hasattr(value, "acquire") and hasattr(value, "release") and id(value) not in seen:
                seen.add(id(value))
                found.append(value)
    return found

def everything_shared():
    bytes_ = [path.read_bytes() for path in sorted(Path("/dev/shm").glob("zs-*"))]
    return bytes_, sorted(map(str, root.rglob("*"))), sorted(os.listdir("/dev/shm"))

def outcome(act):
    down, up = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # what hangs
        try:
            act()
            said = "works"
        except zs.ForkedHandleError:
            said = "refuses"
        except BaseException as error:
            said = "refuses" if "received sample is read-only" in str(error) else f"{type(error).__name__}: {error}"
        os.write(up, said.encode())
        os._exit(0)
    os.close(up)
    said = os.read(down, 1000).decode()
    os.close(down)
    _, status = os.waitpid(pid, 0)
    return said if status == 0 else f"ends with {os.waitstatus_to_exitcode(status)}"

def told(acts):
    held, done = threading.Event(), threading.Event()
    zs._finish_loading()
    found = locks()

    def hold():
        for lock in found:
            lock.acquire()
        held.set()
        done.wait()
        for lock in found:
            lock.release()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    results = {}
    for name, act in acts.items():
        before = everything_shared()
        results[name] = outcome(act)
        if everything_shared() != before:
            results[name] += ", and writes"
    done.set()
    thread.join()
    return len(found), results

def still_well():
    assert sub.take().sample.number == 1
    loan.commit(), slot.commit(1)
    assert [len(note.sample.names) for note in iter(sub.take, None)] == [1]
    assert [bytes(sample)[:1] for sample in iter(reader.take, None)] == [b"x", b"\\0"]
    assert (pub.subscriber_count, slots.subscriber_indexes()) == (1, [0])
    return True
"""


@pytest.mark.parametrize("handle", WORKS)
def test_each_public_name_of_an_inherited_handle_refuses_or_works(cast: Cast, handle: str):
    """Whatever locks the parent's threads hold at the fork. Nothing that is shared has changed afterwards."""
    child = cast(
        CHILD
        + """
handle = handles[args[0]]
names = names_of(handle)
if hasattr(handle, "live_hold") or hasattr(handle, "published_ns") or args[0].endswith("view"):
    names += ["bytes", "memoryview"]
say(told({name: lambda name=name: use(handle, name) for name in names}))
say(still_well())
""",
        handle,
    )
    locks, results = child.hear()
    assert locks >= 2
    works = WORKS[handle].split()
    assert results == {name: "works" if name in works else "refuses" for name in results}
    assert set(works) <= results.keys()
    child.expect(True)


def test_each_function_and_class_works_in_a_forked_child(cast: Cast):
    """With handles of its own, whatever locks the parent's threads hold at the fork."""
    child = cast(
        CHILD
        + """
ticket = slot_lease.ticket()

def publish():
    with zs.Publisher("own", Note) as mine, zs.Subscriber("own", Note) as own:
        mine.publish(Note(number=7, names=[1]))
        assert own.take().sample.number == 7
        assert (own.stats.taken, own.lost, mine.subscriber_count, len(own.publishers)) == (1, 0, 1, 1)
        mine.reap(), mine.flush(0)

def read():
    with zs.SlotReader.attach(root / "slots", history=1) as own:
        assert bytes(own.take())[:1] == b"x"
    with zs.SlotReader.redeem(ticket) as own:
        assert bytes(own)[:1] == b"x"

acts = {
    "publish": publish, "clean": zs.clean, "topics": lambda: zs.topics()[0].publishers[0].subscribers[0],
    "inspect": lambda: zs.inspect("t").publishers[0], "layout_of": lambda: zs.layout_of(Note),
    "schema_of": lambda: zs.type_from_schema(zs.schema_of("t")),
    "Subscriber": lambda: zs.Subscriber("other", Note).close(),
    "in_memory": lambda: zs.SlotAllocator.in_memory(4, 64).close(),
    "declare": lambda: zs.layout_of(type("Other", (zs.Sample,), {"__annotations__": {"number": int}})),
}
say(told(acts))
say(outcome(read))
say(still_well())
"""
    )
    _, results = child.hear()
    assert set(results.values()) == {"works"}, results
    child.expect("works")
    child.expect(True)
