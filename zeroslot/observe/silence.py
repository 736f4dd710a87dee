"""Why a topic stays silent, as findings: what else is published under its name or a similar one, and what has stopped.

Nothing here takes a subscriber entry. Where this process may not read another user's root, the finding says only that
the root exists.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path

from zeroslot._core.binding import OPEN
from zeroslot.errors import CorruptSegmentError, MismatchError, TopicNotFoundError
from zeroslot.info import Finding, PublisherInfo, SubscriberInfo, TopicInfo, WaitingInfo
from zeroslot.memory import flink
from zeroslot.memory.clocks import shares_clock
from zeroslot.memory.directories import root, topic_directory
from zeroslot.memory.objects import SHM, exists
from zeroslot.memory.peers import describe, describe_publisher
from zeroslot.memory.processes import command_of, is_stopped
from zeroslot.observe.introspection import attach_live, inspect, topics

SIMILAR = 0.7  # the ratio of difflib from which on a name may be a misspelled one


def findings(topic: str, domain: str) -> Iterator[Finding]:
    """Everything about one topic; both names are checked."""
    try:
        facts = inspect(topic, domain, waiting=True)
    except TopicNotFoundError:
        facts = TopicInfo(topic, domain, ())
    yield from (Finding("files", "wrong", f"{each.kind}: {each.text}") for each in facts.problems)
    yield from gone_publishers(topic, domain)
    if not facts.publishers:
        yield Finding(
            "publisher", "wrong", f"{topic} has no publisher in domain {domain} that can be read", "start one"
        )
        yield from (Finding("subscriber", "note", f"{describe(peer)} waits for a publisher") for peer in facts.waiting)
        yield from similar_names(topic, domain)
        yield from other_domains(topic, domain)
        yield from other_roots(topic, domain)
        return
    for publisher in facts.publishers:
        yield publisher_state(publisher)
        yield from clock_of(publisher)
        yield from (subscriber_state(peer) for peer in publisher.subscribers)
    yield from (waiting_state(peer, facts) for peer in facts.waiting)
    yield from differing_types(facts)
    yield from policies(facts)


def gone_publishers(topic: str, domain: str) -> Iterator[Finding]:
    """Publishers whose flinks are there and which are not: dead, or with objects in another /dev/shm."""
    for path in flink.list_flinks(topic_directory(domain, topic)):
        try:
            control_name = flink.read_flink(path)
            attached = flink.attach(path, str(path), read_only=True)
        except (ValueError, OSError, MismatchError, CorruptSegmentError):
            continue  # a problem of `inspect`
        if control_name is not None and attached is None and not exists(control_name):
            if path.exists():  # else it has just ended
                yield Finding(
                    "container",
                    "wrong",
                    f"{path} names a segment that is not in this /dev/shm",
                    "share /dev/shm with the publisher's container (--ipc); if it was removed by hand, zeroslot gc",
                )
        elif attached is not None and attached.segment.state == OPEN and not attached.owner_alive():
            died = describe_publisher(attached.segment.info)
            yield Finding("publisher", "wrong", f"{died} has died, and nothing has cleaned up yet", "start it again")


def similar_names(topic: str, domain: str) -> Iterator[Finding]:
    """Topics of the domain that may be meant."""
    known = [each.topic for each in topics(domain) if each.publishers]
    lowered = {name.lower(): name for name in known}
    found = [lowered[name] for name in difflib.get_close_matches(topic.lower(), lowered, cutoff=SIMILAR)]
    last = topic.rpartition("/")[2]
    found += [name for name in known if name.rpartition("/")[2] == last]
    names = [name for name in dict.fromkeys(found) if name != topic]
    if names:
        yield Finding("name", "note", f"there is {', '.join(names)}", "check the spelling on both sides")


def other_domains(topic: str, domain: str) -> Iterator[Finding]:
    """The topic in other domains of this root."""
    for other in flink.list_domains():
        if other != domain and topic in _topics_of(other):
            advice = f"subscribe with domain={other!r}, or start both with the same ZEROSLOT_DOMAIN"
            yield Finding("domain", "note", f"{topic} is published in domain {other}", advice)


def _topics_of(domain: str) -> list[str]:
    try:
        return flink.list_topics(domain)
    except PermissionError:
        return []


def other_roots(topic: str, domain: str, shm: Path = SHM) -> Iterator[Finding]:
    """The topic in the default roots of this machine's users, where this process uses another root."""
    here = root()
    for path in sorted(shm.glob("zeroslot-*")):
        uid = path.name.removeprefix("zeroslot-")
        if path == here or not uid.isdecimal():
            continue
        place = path.joinpath(domain, *topic.split("/"))
        if not os.access(path, os.R_OK | os.X_OK):
            what = f"uid {uid} publishes, in {path}, which this process may not read"
            yield Finding("user", "note", what, "run both as one user, or share a directory with a group (mode=0o660)")
        elif flink.list_flinks(place):
            advice = "start both with the same ZEROSLOT_DIR"
            if int(uid) != os.geteuid():
                advice = "run both as one user, or share a directory with a group: ZEROSLOT_DIR, mode=0o660"
            yield Finding(
                "user", "note", f"{topic} is published in {path}, by uid {uid}; this process uses {here}", advice
            )


def publisher_state(publisher: PublisherInfo) -> Finding:
    """A live publisher: whether it is stopped, overdue, or has published nothing yet."""
    process = f"{publisher.name} (pid {publisher.pid})"
    if is_stopped(publisher.pid):
        return Finding(
            "publisher", "wrong", f"{process} is stopped by a signal or a debugger", f"kill -CONT {publisher.pid}"
        )
    if publisher.overdue:
        what = f"{process} promises a sample every {publisher.max_period_s:g} s, and is overdue"
        return Finding("publisher", "wrong", what, "look at what it waits for")
    if not publisher.published:
        return Finding("publisher", "note", f"{process} has published nothing yet", "look at what it waits for")
    return Finding("publisher", "ok", f"{process} has published {publisher.published} of {publisher.type_name}")


def clock_of(publisher: PublisherInfo) -> Iterator[Finding]:
    """Whether a publisher is in another time or pid namespace: ages are not known then, and its pid is another one."""
    attached = attach_live(publisher.flink)
    segment = getattr(attached, "segment", None)
    if segment is None:
        return
    if not shares_clock(segment):
        yield Finding(
            "container",
            "note",
            f"{publisher.name} is in another time namespace: ages and latencies of its samples are not known",
            "start both in one time namespace where they are needed",
        )
    info = segment.info
    if not command_of(info.owner_pid, info.owner_start_time):
        yield Finding(
            "container",
            "note",
            f"{publisher.name} lives, and its pid {info.owner_pid} is not one of this pid namespace",
            "look for the process in its container",
        )


def subscriber_state(peer: SubscriberInfo) -> Finding:
    """A live subscriber: whether it is stopped, holds all that it may, or loses samples."""
    process = describe(peer)
    if peer.stopped:
        return Finding("subscriber", "wrong", f"{process} keeps {peer.held} samples", f"kill -CONT {peer.pid}")
    if peer.held >= peer.max_leases:
        what = f"{process} holds all {peer.max_leases} samples that it may: it can take no other one"
        return Finding("subscriber", "wrong", what, "release leases earlier, or subscribe with a larger max_leases")
    if peer.lost:
        what = f"{process} has lost {peer.lost} samples, and taken {peer.taken}"
        return Finding("subscriber", "note", what, "take faster, or publish with a larger depth")
    return Finding("subscriber", "ok", f"{process} has taken {peer.taken}, and is {peer.behind} behind")


def waiting_state(peer: WaitingInfo, facts: TopicInfo) -> Finding:
    """A subscriber that is attached to no publisher although there are some: why."""
    process = describe(peer)
    if peer.stopped:
        return Finding("subscriber", "wrong", f"{process} is attached to no publisher", f"kill -CONT {peer.pid}")
    if all(publisher.publisher_id in peer.refused for publisher in facts.publishers):
        types = {publisher.type_hash for publisher in facts.publishers}
        reason = "type" if peer.match == "exact" and peer.type_hash not in {"", *types} else "type or policy"
        what = f"{process} leaves out every publisher: their {reason} does not fit"
        return Finding("subscriber", "wrong", what, "look at Subscriber.refused there")
    what = f"{process} has not attached to a publisher yet: it makes no call that follows the topic"
    return Finding("subscriber", "note", what, "let it take, or wait, more often")


def differing_types(facts: TopicInfo) -> Iterator[Finding]:
    """Publishers with different types: a subscriber with a type reads only some of them, unless it reads by name."""
    types = {publisher.type_hash: publisher for publisher in facts.publishers}
    if len(types) > 1:
        names = ", ".join(f"{each.type_name} {each.type_hash[:8]} of {each.name}" for each in types.values())
        advice = 'subscribe with match="by_name" to read all of them'
        yield Finding("type", "note", f"publishers of {facts.topic} have different types: {names}", advice)


def policies(facts: TopicInfo) -> Iterator[Finding]:
    """What subscribers the publishers serve."""
    for publisher in facts.publishers:
        if publisher.on_full == "evict":
            yield Finding(
                "policy",
                "ok",
                f'{publisher.name} has on_full="evict" and depth {publisher.depth}: it refuses subscribers with '
                f"reliable=True or history above {publisher.depth}",
            )
        elif publisher.counters["blocked"] or publisher.counters["no_free_slot"]:
            counts = publisher.counters
            what = (
                f"{publisher.name} waited {counts['blocked']} times for subscribers, {counts['blocked_ns'] / 1e9:.1f} s"
            )
            advice = "take faster, publish with a larger depth, or with evict_after"
            yield Finding("policy", "note", f"{what}, and had no free slot {counts['no_free_slot']} times", advice)
