/* SPDX-License-Identifier: Apache-2.0
 *
 * zs_peers.h - who reads: join, leave, and what a dead reader left; and how an owner waits for readers.
 *
 * A reader's index r is the byte 64 + r of the control object that it has locked (an open-file-description lock). Only the
 * holder of that lock writes peer entry r, its bit anywhere, and may call the functions here with that index.
 */
#ifndef ZS_PEERS_H
#define ZS_PEERS_H

#include "zs_ring.h"

#define ZS_OWNER_BYTE 0
#define ZS_PEER_BYTE(index) (64 + (index))

/* Somebody waits for space, perhaps: look again. */
static inline void zs_bump_space(zs_segment *s)
{
    zs_fetch_add(s->space, 1, ZS_SPACE_RMW); /* SYNC space */
    zs_futex_wake_all(s->space);
}

/* Clear what a predecessor at this index left: its bit in active, reliable, parked and every slot. Returns the number of slots it
 * held. */
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

/* What a joiner says of itself. `name` is NUL-padded; `time_namespace` is the clock domain of its times, 0 where it is not known. */
typedef struct zs_identity {
    uint32_t pid;
    uint64_t start_time;
    uint8_t name[32];
    uint64_t time_namespace;
} zs_identity;

/* In place of a cursor to join after: the newest `history` samples are still to come. */
#define ZS_AFTER_HISTORY UINT64_MAX

/* The cursor that a joiner asks for that finds `published`: `after`, or `history` samples before the newest; never before the first. */
static inline uint64_t zs_cursor_wanted(const zs_segment *s, uint64_t published, uint32_t history, uint64_t after)
{
    uint64_t floor = s->first_sequence - 1;
    uint64_t wanted = after != ZS_AFTER_HISTORY ? after : published < history ? 0 : published - history;
    return wanted > floor ? wanted : floor;
}

/* The cursor that it gets. What can no longer be taken lies behind it; for a reliable reader also what a loan would have to wait for
 * at once. (A reader whose `announcement` the owner has waited for needs no such limit: nothing was retired since.) */
static inline uint64_t zs_cursor_at(const zs_reader *r, uint64_t published, uint64_t wanted)
{
    const zs_segment *s = r->segment;
    uint64_t kept = !r->reliable ? s->depth : s->depth > s->max_loans ? s->depth - s->max_loans : 0;
    uint64_t floor = published > kept ? published - kept : 0;
    return wanted > floor ? wanted : floor;
}

/* Start to read as `index`, whose lock the caller holds and which is clear. The reader's index, max_leases, reliable and held are
 * set; everything else is set here. The first sample taken will be the one after `after`, or with ZS_AFTER_HISTORY the first of the
 * newest `history`. What of it can no longer be taken counts as lost here: `lost` is exact from the join on.
 *
 * SYNC join: active before published is read: a reliable joiner must be seen by an owner that then goes on, or start behind it. What
 * the owner sees of its cursor at first already has the history taken off: an owner that took the first cursor for what was read
 * would retire the history in the meantime.
 *
 * False: `published` says what the ring does not, so the segment is corrupt. The reader has joined all the same, and has to leave. */
static inline int zs_reader_join(zs_reader *r, const zs_identity *who, uint32_t history, uint64_t after)
{
    zs_segment *s = r->segment;
    zs_peer *peer = zs_peer_at(s, r->index);
    uint64_t bit = UINT64_C(1) << (r->index % 64);
    uint64_t published = zs_load(s->published, ZS_PUBLISHED_LOAD); /* SYNC published */
    uint64_t wanted, cursor;
    r->peer = peer;
    r->taken = r->lost = r->skipped = r->released = 0;
    r->epoch = zs_load(&peer->epoch, ZS_RELAXED) + 1;
    if (r->epoch == 0)
        r->epoch = 1; /* 0 in `evicted` means nobody */
    zs_store(&peer->epoch, r->epoch, ZS_RELAXED);
    zs_store(&peer->pid, who->pid, ZS_RELAXED);
    zs_store(&peer->start_time, who->start_time, ZS_RELAXED);
    for (size_t i = 0; i < sizeof who->name; i++)
        zs_store(&peer->name[i], who->name[i], ZS_RELAXED);
    zs_store(&peer->attached_ns, zs_now_ns(), ZS_RELAXED);
    zs_store(&peer->flags, r->reliable ? (uint32_t)ZS_PEER_RELIABLE : 0u, ZS_RELAXED);
    zs_store(&peer->max_leases, r->max_leases, ZS_RELAXED);
    zs_store(&peer->announcement, 0, ZS_RELAXED);
    zs_store(&peer->wake_kind, 0, ZS_RELAXED);
    zs_store(&peer->time_namespace, who->time_namespace, ZS_RELAXED);
    zs_store(&peer->taken, 0, ZS_RELAXED);
    zs_store(&peer->lost, 0, ZS_RELAXED);
    zs_store(&peer->skipped, 0, ZS_RELAXED);
    zs_store(&peer->leases, 0, ZS_RELAXED);
    zs_store(&peer->latency_max_ns, 0, ZS_RELAXED);
    memset(peer->latency, 0, sizeof peer->latency); /* no step of the protocol reads them */
    zs_store(&peer->cursor, zs_cursor_at(r, published, zs_cursor_wanted(s, published, history, after)), ZS_RELAXED);
    if (r->reliable)
        zs_fetch_or(&s->reliable[r->index / 64], bit, ZS_RELAXED); /* comes with `active`, so before it */
    zs_fetch_or(&s->active[r->index / 64], bit, ZS_ACTIVE_RMW); /* SYNC join */
    (void)zs_load(s->generation, ZS_GENERATION_LOAD);
    published = zs_load(s->published, ZS_PUBLISHED_LOAD); /* SYNC published */
    wanted = zs_cursor_wanted(s, published, history, after);
    cursor = zs_cursor_at(r, published, wanted);
    zs_reader_move(r, cursor);
    r->lost = cursor - wanted;
    zs_store(&peer->lost, r->lost, ZS_RELAXED);
    zs_bump_space(s);
    /* The cursor to go on from may be ahead of `published` by one, as the ring is. */
    return published >= s->first_sequence - 1 && published + 1 >= wanted && zs_reader_believes(published + 1, wanted) &&
           zs_tag_distance(zs_load(&s->ring[zs_ring_index(s, published)], ZS_RING_LOAD), published) >= 0; /* SYNC ring */
}

/* Stop to read. Leases stay; the caller keeps the lock of this index until the last is released. */
static inline void zs_reader_leave(zs_reader *r)
{
    zs_segment *s = r->segment;
    zs_fetch_and(&s->active[r->index / 64], ~(UINT64_C(1) << (r->index % 64)), ZS_ACTIVE_RMW); /* SYNC join */
    zs_bump_space(s);
}

/* Whether the owner has ended the claim of the reader that is at `index` now. */
static inline int zs_peer_is_evicted(const zs_segment *s, uint32_t index)
{
    uint32_t epoch = zs_load(&s->evicted[index], ZS_RELAXED);
    return epoch != 0 && epoch == zs_load(&zs_peer_at(s, index)->epoch, ZS_RELAXED);
}

/* The lowest cursor of the active reliable readers, or UINT64_MAX without any, and whose it is. */
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
                break; /* not a bit that any reader sets */
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

/* Whether one more loan, committed after those that are out, would retire a sample that a reliable reader has not taken yet.
 * Such a publisher has the policy block or raise; the others do not look. `index` is then the reader in the way. */
static inline int zs_owner_window_full(const zs_owner *o, uint32_t *index)
{
    const zs_segment *s = o->segment;
    uint64_t next = o->published + o->loans_out + 1;
    if (s->policy == ZS_EVICT || next < s->first_sequence + s->depth)
        return 0;
    return zs_owner_reliable_floor(s, index) < next - s->depth;
}

/* End the claim of reader `index`: nobody waits for it any more, and it may take no more. What it holds stays as it is until its bits
 * clear or its lock falls; memory under a live view is never given to anybody else. */
static inline void zs_owner_evict(zs_owner *o, uint32_t index)
{
    zs_segment *s = o->segment;
    zs_store(&s->evicted[index], zs_load(&zs_peer_at(s, index)->epoch, ZS_RELAXED), ZS_RELAXED);
    zs_count(&s->counters->evicted, 1);
}

/* Start to wait for space: readers say so from now on. Returns the word's value to sleep on; scan once more after this. */
static inline uint32_t zs_owner_block_begin(zs_segment *s)
{
    zs_fetch_add(s->waiting, 1, ZS_WAITING_RMW); /* SYNC space: pairs with zs_reader_release and zs_reader_move */
    return zs_load(s->space, ZS_SPACE_LOAD);     /* SYNC space */
}

static inline void zs_owner_block_end(zs_segment *s)
{
    zs_fetch_add(s->waiting, (uint32_t)-1, ZS_WAITING_RMW);
}

#endif
