/* SPDX-License-Identifier: Apache-2.0
 *
 * zs_peers.h - readers join and leave; the owner waits for readers and evicts them; the rest of a dead reader is cleared.
 *
 * A reader has index r while it holds an open-file-description lock on byte ZS_PEER_BYTE(r) of the control object. Only the holder
 * of that lock may write peer entry r and the bits of r, and may call zs_peer_clear, zs_reader_join and zs_reader_leave for r.
 */
#ifndef ZS_PEERS_H
#define ZS_PEERS_H

#include "zs_ring.h"

/* Wake blocked owner threads: a slot or a cursor may have changed. */
static inline void zs_bump_space(zs_segment *s)
{
    zs_fetch_add(s->space, 1, ZS_SPACE_RMW); /* SYNC space */
    zs_futex_wake_all(s->space);
}

/* Clear the bits that a dead reader left at this index, in active, reliable, parked and every slot. Returns the number of slots
 * that it had leased. Callable by the holder of the index's lock only. */
static inline uint32_t zs_peer_clear(zs_segment *s, uint32_t index)
{
    uint64_t bit = UINT64_C(1) << (index % 64);
    uint32_t word = index / 64;
    uint32_t held = 0;
    zs_fetch_and(&s->active[word], ~bit, ZS_ACTIVE_RMW); /* SYNC join: first, so that a blocked owner stops waiting for its cursor */
    zs_fetch_and(&s->reliable[word], ~bit, ZS_RELAXED);
    zs_fetch_and(&s->parked[word], ~bit, ZS_PARKED_RMW);
    for (uint32_t slot = 0; slot < s->slot_limit; slot++) {
        uint64_t *readers = zs_slot_readers(s, slot) + word;
        if ((zs_load(readers, ZS_RELAXED) & bit) != 0) {
            zs_fetch_and(readers, ~bit, ZS_RELEASE_RMW);
            held++;
        }
    }
    zs_store(&zs_peer_at(s, index)->leases, 0, ZS_RELAXED);
    return held;
}

/* How a reader describes itself in its peer entry. `name` is padded with NUL; `time_namespace` identifies the clock of its times,
 * 0: not known; `announcement` is the id of the announcement that the reader answers, 0: none. */
typedef struct zs_identity {
    uint32_t pid;
    uint64_t start_time;
    uint8_t name[32];
    uint64_t time_namespace;
    uint64_t announcement;
} zs_identity;

/* For zs_reader_join, in place of a cursor: start with the newest `history` samples. */
#define ZS_AFTER_HISTORY UINT64_MAX

/* The cursor that a joining reader requests: `after`, or `history` samples before `published`; not before the first sample. */
static inline uint64_t zs_cursor_wanted(const zs_segment *s, uint64_t published, uint32_t history, uint64_t after)
{
    uint64_t floor = s->first_sequence - 1;
    uint64_t wanted = after != ZS_AFTER_HISTORY ? after : published < history ? 0 : published - history;
    return wanted > floor ? wanted : floor;
}

/* The cursor that a joining reader gets: `wanted`, or later. It passes over samples that can no longer be taken and, for a reliable
 * reader, samples for which the owner's next loan would have to wait. The owner waits for an announced reader already, so that one
 * passes over nothing that is there. */
static inline uint64_t zs_cursor_at(const zs_reader *r, uint64_t published, uint64_t wanted)
{
    const zs_segment *s = r->segment;
    uint64_t kept = !r->reliable || r->announced ? s->depth : s->depth > s->max_loans ? s->depth - s->max_loans : 0;
    uint64_t floor = published > kept ? published - kept : 0;
    return wanted > floor ? wanted : floor;
}

/* Write the peer entry of a joining reader, all but its cursor, and reset its counts. */
static inline void zs_reader_fill_entry(zs_reader *r, const zs_identity *identity, uint32_t flags)
{
    zs_peer *peer = zs_peer_at(r->segment, r->index);
    r->peer = peer;
    r->taken = r->lost = r->skipped = r->released = 0;
    r->epoch = zs_load(&peer->epoch, ZS_RELAXED) + 1;
    if (r->epoch == 0)
        r->epoch = 1; /* 0 in `evicted` means that no reader was evicted */
    zs_store(&peer->epoch, r->epoch, ZS_RELAXED);
    zs_store(&peer->pid, identity->pid, ZS_RELAXED);
    zs_store(&peer->start_time, identity->start_time, ZS_RELAXED);
    for (size_t i = 0; i < sizeof identity->name; i++)
        zs_store(&peer->name[i], identity->name[i], ZS_RELAXED);
    zs_store(&peer->attached_ns, zs_now_ns(), ZS_RELAXED);
    zs_store(&peer->flags, flags, ZS_RELAXED);
    zs_store(&peer->max_leases, r->max_leases, ZS_RELAXED);
    zs_store(&peer->announcement, identity->announcement, ZS_RELAXED); /* before `active`, which publishes it */
    zs_store(&peer->wake_kind, 0, ZS_RELAXED);
    zs_store(&peer->time_namespace, identity->time_namespace, ZS_RELAXED);
    zs_store(&peer->taken, 0, ZS_RELAXED);
    zs_store(&peer->lost, 0, ZS_RELAXED);
    zs_store(&peer->skipped, 0, ZS_RELAXED);
    zs_store(&peer->leases, 0, ZS_RELAXED);
    zs_store(&peer->latency_max_ns, 0, ZS_RELAXED);
    memset(peer->latency, 0, sizeof peer->latency); /* a plain store: only inspection reads them */
}

/* Join as reader r->index. The caller holds the lock of that index, has called zs_peer_clear for it, and has set segment, index,
 * max_leases, reliable, announced, slot_count and held; the rest is set here. The first sample to take is the one after sequence `after`, or,
 * with ZS_AFTER_HISTORY, the first of the newest `history`. Requested samples that can no longer be taken are counted in `lost`.
 *
 * False: `published` and the ring contradict each other, so the segment is corrupt. The reader has joined and must call
 * zs_reader_leave.
 *
 * SYNC join: `active` is set before `published` is loaded, so the owner either sees the reader, or the reader starts after the
 * samples that the owner published without waiting for it. The cursor that the owner sees first has the history subtracted already;
 * otherwise the owner could retire the history before the second store. */
static inline int zs_reader_join(zs_reader *r, const zs_identity *identity, uint32_t history, uint64_t after)
{
    zs_segment *s = r->segment;
    zs_peer *peer = zs_peer_at(s, r->index);
    uint64_t bit = UINT64_C(1) << (r->index % 64);
    uint64_t published = zs_load(s->published, ZS_PUBLISHED_LOAD); /* SYNC published */
    uint64_t wanted, cursor;
    zs_reader_fill_entry(r, identity, r->reliable ? (uint32_t)ZS_PEER_RELIABLE : 0u);
    zs_store(&peer->cursor, zs_cursor_at(r, published, zs_cursor_wanted(s, published, history, after)), ZS_RELAXED);
    if (r->reliable)
        zs_fetch_or(&s->reliable[r->index / 64], bit, ZS_RELAXED); /* before `active`, which publishes it */
    zs_fetch_or(&s->active[r->index / 64], bit, ZS_ACTIVE_RMW); /* SYNC join */
    (void)zs_load(s->generation, ZS_GENERATION_LOAD);
    published = zs_load(s->published, ZS_PUBLISHED_LOAD); /* SYNC published */
    wanted = zs_cursor_wanted(s, published, history, after);
    cursor = zs_cursor_at(r, published, wanted);
    zs_reader_move(r, cursor);
    r->lost = cursor - wanted;
    zs_store(&peer->lost, r->lost, ZS_RELAXED);
    zs_bump_space(s);
    /* `after` may be one ahead of `published`, as the ring is. */
    return published >= s->first_sequence - 1 && published + 1 >= wanted && zs_published_is_plausible(published + 1, wanted) &&
           zs_tag_distance(zs_load(&s->ring[zs_ring_index(s, published)], ZS_RING_LOAD), published) >= 0; /* SYNC ring */
}

/* Leave: the owner no longer waits for this reader. Its leases remain valid; the caller keeps the index's lock until the last is
 * released. */
static inline void zs_reader_leave(zs_reader *r)
{
    zs_segment *s = r->segment;
    zs_fetch_and(&s->active[r->index / 64], ~(UINT64_C(1) << (r->index % 64)), ZS_ACTIVE_RMW); /* SYNC join */
    zs_bump_space(s);
}

/* Whether the owner has evicted the reader that has `index` now. */
static inline int zs_peer_is_evicted(const zs_segment *s, uint32_t index)
{
    uint32_t epoch = zs_load(&s->evicted[index], ZS_RELAXED);
    return epoch != 0 && epoch == zs_load(&zs_peer_at(s, index)->epoch, ZS_RELAXED);
}

/* The lowest cursor of the active reliable readers, and in *index its reader. UINT64_MAX: there are none. */
static inline uint64_t zs_owner_reliable_floor(const zs_segment *s, uint32_t *index)
{
    uint64_t floor = UINT64_MAX;
    for (uint32_t w = 0; w < s->reader_words; w++) {
        uint64_t waited_for = zs_load(&s->active[w], ZS_ACTIVE_LOAD); /* SYNC join */
        if (waited_for != 0)
            waited_for &= zs_load(&s->reliable[w], ZS_RELAXED);
        for (; waited_for != 0; waited_for &= waited_for - 1) {
            uint32_t r = w * 64 + (uint32_t)__builtin_ctzll(waited_for);
            zs_peer *peer;
            uint64_t cursor;
            if (r >= s->max_subscribers)
                break; /* not a bit of any reader */
            if (zs_peer_is_evicted(s, r))
                continue;
            peer = zs_peer_at(s, r);
            cursor = zs_load(&peer->cursor, ZS_CURSOR_LOAD); /* SYNC space: pairs with zs_reader_move */
            if (cursor < floor) {
                floor = cursor;
                *index = r;
            }
        }
    }
    return floor;
}

/* From now on the owner waits for `count` announced reliable readers as for readers that have taken nothing, until the program calls
 * this with fewer: an announced reader has joined (its id stands in the entry of an active reader), is closed, or has died. The
 * program looks for announcements once the segment can be found, and before the first sample: a reader that announces itself before
 * it looks for segments then finds this one in that look, or is waited for. Callable by the owner only. */
static inline void zs_owner_await(zs_owner *o, uint32_t count)
{
    o->awaited = count;
}

/* For an index: no reader that has joined. */
#define ZS_NO_READER UINT32_MAX

/* The lowest cursor that the owner waits for, and in *index its reader; ZS_NO_READER for an announced one. UINT64_MAX: it waits for
 * no reader. Callable by the owner only. */
static inline uint64_t zs_owner_floor(const zs_owner *o, uint32_t *index)
{
    if (o->awaited != 0) {
        *index = ZS_NO_READER;
        return o->segment->first_sequence - 1;
    }
    return zs_owner_reliable_floor(o->segment, index);
}

/* Whether one more loan, committed after the present ones, would retire a sample that a reliable reader has not taken. If so,
 * *index is the reader that is furthest behind. Always false with ZS_EVICT, which serves no reliable readers. Callable by the owner
 * only. */
static inline int zs_owner_window_full(const zs_owner *o, uint32_t *index)
{
    const zs_segment *s = o->segment;
    uint64_t next = o->published + o->loans_out + 1;
    if (s->policy == ZS_EVICT || next < s->first_sequence + s->depth)
        return 0;
    return zs_owner_floor(o, index) < next - s->depth;
}

/* Evict reader `index`: the owner no longer waits for it, and it can take no more samples. Its leases remain valid: a slot is not
 * reused before the reader releases it, or has died and is cleared. Callable by the owner only. */
static inline void zs_owner_evict(zs_owner *o, uint32_t index)
{
    zs_segment *s = o->segment;
    zs_store(&s->evicted[index], zs_load(&zs_peer_at(s, index)->epoch, ZS_RELAXED), ZS_RELAXED);
    zs_count(&s->counters->evicted, 1);
}

/* Announce that the owner waits for space: readers wake it from here on. Returns the value of `space` on which to sleep. After
 * this, and before the sleep, the caller tries again. Each call is paired with zs_owner_block_end. */
static inline uint32_t zs_owner_block_begin(zs_segment *s)
{
    zs_fetch_add(s->waiting, 1, ZS_WAITING_RMW); /* SYNC space: pairs with zs_reader_release and zs_reader_move */
    return zs_load(s->space, ZS_SPACE_LOAD);     /* SYNC space */
}

/* The owner no longer waits for space. */
static inline void zs_owner_block_end(zs_segment *s)
{
    zs_fetch_add(s->waiting, (uint32_t)-1, ZS_WAITING_RMW);
}

#endif
