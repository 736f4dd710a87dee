/* SPDX-License-Identifier: Apache-2.0
 *
 * zs_ring.h - from a committed slot to a lease on it: commit, take, latest.
 *
 * A ring entry is (sequence mod 2^48) << 16 | slot. A reader's cursor is the sequence that it took last; it only grows, so a
 * reader leases a sequence at most once. The cursor in the peer table mirrors the reader's own and is never read back by it.
 */
#ifndef ZS_RING_H
#define ZS_RING_H

#include "zs_futex.h"
#include "zs_slots.h"

#define ZS_TAG_MASK ((UINT64_C(1) << 48) - 1)

static inline uint64_t zs_tag(uint64_t sequence, uint32_t slot)
{
    return sequence << 16 | slot;
}

/* How far a tag's sequence lies behind (< 0) or before (> 0) `sequence`, modulo 2^48. */
static inline int64_t zs_tag_distance(uint64_t tag, uint64_t sequence)
{
    return (int64_t)(((tag >> 16) - sequence) << 16) / 65536;
}

/* Where in the ring a sequence stands. */
static inline uint32_t zs_ring_index(const zs_segment *s, uint64_t sequence)
{
    return (uint32_t)(sequence & (s->ring_capacity - 1));
}

/* Wake every reader that says that it may be asleep. Returns the number of system calls, 0 or 1.
 *
 * The waker takes the bits, so a sleeper that died costs one call and not one for ever. Whoever set the bit that is taken and does
 * not sleep yet must not fall asleep any more: nobody would wake it. So the word that it will wait on moves after the bit is taken,
 * and a reader that loaded it after that sees that its bit is gone (zs_reader_park). */
static inline int zs_wake_parked(zs_segment *s)
{
    uint64_t parked = 0;
    for (uint32_t w = 0; w < s->reader_words; w++)
        if (zs_load(&s->parked[w], ZS_PARKED_LOAD) != 0) /* SYNC park: pairs with zs_reader_park */
            parked |= zs_exchange(&s->parked[w], 0, ZS_PARKED_RMW);
    if (parked == 0)
        return 0;
    zs_fetch_add(s->generation, 1, ZS_GENERATION_RMW); /* SYNC park */
    zs_futex_wake_all(s->generation);
    return 1;
}

/* Tell readers that something other than a sample happened: a seal, a new state. */
static inline void zs_bump_generation(zs_segment *s)
{
    zs_fetch_add(s->generation, 1, ZS_GENERATION_RMW); /* SYNC park */
    zs_wake_parked(s);
}

/* Make a loaned slot with `size` bytes of payload the next sample. Returns its sequence. Readers can take it from here on; those that
 * sleep are woken by zs_owner_announce. The caller keeps no right to write to the payload. */
static inline uint64_t zs_owner_place(zs_owner *o, uint32_t slot, uint64_t size, uint64_t published_ns)
{
    zs_segment *s = o->segment;
    zs_slot *entry = zs_slot_at(s, slot);
    uint64_t n = o->published + 1;
    uint32_t mask = s->ring_capacity - 1;
    zs_store(&entry->published_ns, published_ns, ZS_RELAXED);
    zs_store(&entry->size, size, ZS_RELAXED);
    zs_store(&entry->sequence, n, ZS_SEQUENCE_STORE);                 /* SYNC sequence */
    zs_store(&s->ring[n & mask], zs_tag(n, slot), ZS_RING_STORE);     /* SYNC ring */
    zs_store(s->published, n, ZS_PUBLISHED_STORE);                    /* SYNC published, SYNC join */
    o->ring_slots[n & mask] = (uint16_t)slot;
    o->state[slot] = ZS_COMMITTED;
    o->published = n;
    o->loans_out--;
    zs_count(&s->counters->published, 1);
    zs_count(&s->counters->bytes, size);
    return n;
}

/* Wake the readers that sleep, for everything that was placed. */
static inline void zs_owner_announce(zs_owner *o)
{
    zs_segment *s = o->segment;
    zs_fetch_add(s->generation, 1, ZS_GENERATION_RMW);                /* SYNC park, SYNC join */
    if (zs_wake_parked(s))
        zs_count(&s->counters->wakes, 1);
}

/* Withdraw the sample that the newest one has pushed out of the depth. */
static inline void zs_owner_retire_oldest(zs_owner *o)
{
    zs_segment *s = o->segment;
    uint64_t n = o->published;
    if (n - s->first_sequence >= s->depth) {
        uint32_t oldest = o->ring_slots[zs_ring_index(s, n - s->depth)];
        zs_slot_retire(s, oldest);
        zs_owner_retire(o, oldest);
    }
}

/* Publish a loaned slot with `size` bytes of payload. Returns its sequence. The caller keeps no right to write to the payload.
 *
 * `published_ns` is CLOCK_MONOTONIC. Afterwards exactly the newest `depth` samples can be taken.
 *
 * Several samples may be published as one batch: each is placed and retires the oldest, and they are announced together. An owner
 * announces after at most 64 samples, before it waits for anything, and, where it serves reliable readers, before it looks at
 * zs_owner_window_full again: a joiner finds the newest `published` by way of generation (SYNC join). Then `published` trails the
 * ring by at most one sample, and generation trails `published` by at most 64. Taking and parking need no more: a reader takes by
 * the ring, and looks at it between its parked bit and its sleep. */
static inline uint64_t zs_owner_commit(zs_owner *o, uint32_t slot, uint64_t size, uint64_t published_ns)
{
    uint64_t n = zs_owner_place(o, slot, size, published_ns);
    zs_owner_announce(o);
    zs_owner_retire_oldest(o);
    return n;
}

/* One subscriber's side of one segment. One thread at a time takes; zs_reader_release may be called from any. */
typedef struct zs_reader {
    zs_segment *segment;
    zs_peer *peer;
    uint64_t cursor;
    uint64_t taken;
    uint64_t lost;
    uint64_t skipped;
    uint32_t index;
    uint32_t epoch;
    uint32_t max_leases;
    uint32_t reliable;
    uint64_t released; /* shared between threads */
    uint32_t slot_count; /* slots whose pools are mapped; fewer than slot_limit while the owner may still add some */
    uint32_t *held;      /* [slot_limit] not 0 while this reader has a lease on the slot */
    /* Where slot 0 lies and how far it is to the next, or NULL: so that the payload's first line is on its way while the lease is
     * taken. Not for reading, so nothing depends on it. */
    const uint8_t *payload;
    uint64_t payload_stride;
} zs_reader;

enum zs_take {
    ZS_TAKE_NONE = 0,     /* nothing new */
    ZS_TAKE_LEASED,       /* *slot is ours until zs_reader_release */
    ZS_TAKE_TOO_MANY,     /* max_leases are held already */
    ZS_TAKE_EVICTED,      /* the owner has ended this reader's claim */
    ZS_TAKE_UNMAPPED,     /* the sample lies in a pool that is not mapped yet: map what the pool table says now, and take again */
    ZS_TAKE_CORRUPT       /* the control object holds what no owner writes */
};

#define ZS_MAX_LAPS 64

/* The oldest sequence that can still be taken when `published` is the newest. */
static inline uint64_t zs_oldest(const zs_segment *s, uint64_t published)
{
    uint64_t gone = published >= s->depth ? published - s->depth : 0;
    return gone + 1 > s->first_sequence ? gone + 1 : s->first_sequence;
}

/* Samples that are held now. Exact for the thread that takes, but for what others are releasing at this moment. */
static inline uint64_t zs_reader_leases(const zs_reader *r)
{
    return zs_load(&r->taken, ZS_RELAXED) - zs_load(&r->released, ZS_RELEASED_LOAD); /* SYNC released: pairs with zs_reader_release */
}

/* Whether `published` can be the newest sequence for a reader at `cursor`. No owner gets this far ahead; a flipped bit does. */
static inline int zs_reader_believes(uint64_t published, uint64_t cursor)
{
    return published - cursor < UINT64_C(1) << 46;
}

/* Move the cursor. A reliable reader's is what the owner waits for; any other only informs. */
static inline void zs_reader_move(zs_reader *r, uint64_t cursor)
{
    zs_store(&r->cursor, cursor, ZS_RELAXED);
    if (!r->reliable) {
        zs_store(&r->peer->cursor, cursor, ZS_RELAXED);
        return;
    }
    zs_store(&r->peer->cursor, cursor, ZS_CURSOR_STORE);    /* SYNC space: pairs with zs_owner_reliable_floor */
    if (zs_load(r->segment->waiting, ZS_WAITING_LOAD) != 0) {
        zs_fetch_add(r->segment->space, 1, ZS_SPACE_RMW);
        zs_futex_wake_all(r->segment->space);
    }
}

/* Lease sequence `c`, which ring entry `tag` names. ZS_TAKE_NONE: it has moved on. */
static inline enum zs_take zs_reader_lease(zs_reader *r, uint64_t tag, uint64_t c, uint32_t *slot)
{
    zs_segment *s = r->segment;
    uint32_t named = (uint32_t)(tag & 0xffff);
    /* A slot that we still read cannot hold a newer sample. Looked at before our bit is touched: clearing the bit again would end
     * the older lease. */
    if (named >= s->slot_limit || zs_load(&r->held[named], ZS_HELD_LOAD) != 0) /* SYNC held */
        return ZS_TAKE_CORRUPT;
    if (named >= r->slot_count)
        return ZS_TAKE_UNMAPPED;
    if (r->payload != NULL)
        __builtin_prefetch(r->payload + named * r->payload_stride);
    if (!zs_slot_lease(s, named, r->index, c))
        return ZS_TAKE_NONE;
    zs_store(&r->held[named], 1, ZS_RELAXED);
    zs_reader_move(r, c);
    zs_count(&r->taken, 1);
    zs_store(&r->peer->taken, r->taken, ZS_RELAXED);
    zs_store(&r->peer->leases, zs_reader_leases(r), ZS_RELAXED);
    *slot = named;
    return ZS_TAKE_LEASED;
}

static inline int zs_reader_is_evicted(const zs_reader *r)
{
    return zs_load(&r->segment->evicted[r->index], ZS_RELAXED) == r->epoch;
}

/* What forbids a take before it starts. */
static inline enum zs_take zs_reader_refuse(const zs_reader *r)
{
    if (zs_reader_is_evicted(r))
        return ZS_TAKE_EVICTED;
    if (zs_reader_leases(r) >= r->max_leases)
        return ZS_TAKE_TOO_MANY;
    return ZS_TAKE_NONE;
}

/* Lease the next sample in order. What is no longer there is counted in `lost` and jumped over. */
static inline enum zs_take zs_reader_take(zs_reader *r, uint32_t *slot)
{
    zs_segment *s = r->segment;
    for (int laps = 0;; laps++) {
        uint64_t c = r->cursor + 1;
        uint64_t tag = zs_load(&s->ring[zs_ring_index(s, c)], ZS_RING_LOAD); /* SYNC ring */
        int64_t distance = zs_tag_distance(tag, c);
        uint64_t published, oldest;
        enum zs_take result;
        if (distance < 0)
            return zs_reader_is_evicted(r) ? ZS_TAKE_EVICTED : ZS_TAKE_NONE;
        if (laps == 0) {
            result = zs_reader_refuse(r);
            if (result != ZS_TAKE_NONE)
                return result;
        }
        if (distance == 0) {
            result = zs_reader_lease(r, tag, c, slot);
            if (result != ZS_TAKE_NONE)
                return result;
        }
        /* Lapped: the sample is no longer among the newest `depth`. */
        published = zs_load(s->published, ZS_PUBLISHED_LOAD); /* SYNC published */
        oldest = zs_oldest(s, published);
        if (published < c || oldest <= c || !zs_reader_believes(published, c))
            return ZS_TAKE_CORRUPT; /* a lap proves published >= c + depth */
        if (laps >= ZS_MAX_LAPS)
            oldest = published; /* the owner outruns us: aim at the newest */
        r->lost += oldest - c;
        zs_store(&r->peer->lost, r->lost, ZS_RELAXED);
        zs_reader_move(r, oldest - 1);
    }
}

/* Lease the newest sample. What it jumps over is counted in `skipped`. */
static inline enum zs_take zs_reader_latest(zs_reader *r, uint32_t *slot)
{
    zs_segment *s = r->segment;
    uint64_t start = r->cursor;
    uint64_t tried = start;
    for (;;) {
        uint64_t published = zs_load(s->published, ZS_PUBLISHED_LOAD); /* SYNC published */
        uint64_t tag;
        enum zs_take result;
        if (published == start || published + 1 == start)
            /* The ring is written before `published`, so take may be ahead of it by one. */
            return zs_reader_is_evicted(r) ? ZS_TAKE_EVICTED : ZS_TAKE_NONE;
        if (published <= tried || !zs_reader_believes(published, start))
            return ZS_TAKE_CORRUPT; /* the newest sample was not there, and no newer one explains it */
        result = zs_reader_refuse(r);
        if (result != ZS_TAKE_NONE)
            return result;
        tag = zs_load(&s->ring[zs_ring_index(s, published)], ZS_RING_LOAD); /* SYNC ring */
        if (zs_tag_distance(tag, published) == 0) {
            result = zs_reader_lease(r, tag, published, slot);
            if (result == ZS_TAKE_LEASED) {
                r->skipped += published - start - 1;
                zs_store(&r->peer->skipped, r->skipped, ZS_RELAXED);
            }
            if (result != ZS_TAKE_NONE)
                return result;
        }
        tried = published;
    }
}

/* The newest sequence that has not been taken, and when it was published; 0 where there is none. A look, without a lease: both
 * may be out of date, and only order publishers among each other. */
static inline uint64_t zs_reader_peek(const zs_reader *r, uint64_t *published_ns)
{
    const zs_segment *s = r->segment;
    uint64_t published = zs_load(s->published, ZS_PUBLISHED_LOAD); /* SYNC published */
    uint32_t slot = (uint32_t)(zs_load(&s->ring[zs_ring_index(s, published)], ZS_RING_LOAD) & 0xffff); /* SYNC ring */
    if (published <= r->cursor || !zs_reader_believes(published, r->cursor) || slot >= s->slot_limit)
        return 0;
    *published_ns = zs_load(&zs_slot_at(s, slot)->published_ns, ZS_RELAXED);
    return published;
}

/* Jump over everything up to `sequence`, which zs_reader_peek gave. */
static inline void zs_reader_skip(zs_reader *r, uint64_t sequence)
{
    r->skipped += sequence - r->cursor;
    zs_store(&r->peer->skipped, r->skipped, ZS_RELAXED);
    zs_reader_move(r, sequence);
}

/* Whether zs_reader_take would find something, or find that something was lost. */
static inline int zs_reader_ready(const zs_reader *r)
{
    const zs_segment *s = r->segment;
    uint64_t c = zs_load(&r->cursor, ZS_RELAXED) + 1;
    return zs_tag_distance(zs_load(&s->ring[zs_ring_index(s, c)], ZS_RING_LOAD), c) >= 0; /* SYNC ring */
}

/* Enter a sample that was `waited_ns` old when it was taken into the latency histogram. By the thread that takes. */
static inline void zs_reader_count_latency(zs_reader *r, uint64_t waited_ns)
{
    uint32_t *bucket = &r->peer->latency[zs_latency_bucket(waited_ns)];
    zs_store(bucket, zs_load(bucket, ZS_RELAXED) + 1, ZS_RELAXED);
    if (waited_ns > zs_load(&r->peer->latency_max_ns, ZS_RELAXED))
        zs_store(&r->peer->latency_max_ns, waited_ns, ZS_RELAXED);
}

/* Count sequence `n` as lost and go on behind it; what lies between counts as skipped. For a sample whose pool is gone. */
static inline void zs_reader_lose(zs_reader *r, uint64_t n)
{
    r->skipped += n - 1 - r->cursor;
    zs_store(&r->peer->skipped, r->skipped, ZS_RELAXED);
    r->lost++;
    zs_store(&r->peer->lost, r->lost, ZS_RELAXED);
    zs_reader_move(r, n);
}

/* Count what an ended segment published and its ring does not have, once zs_reader_ready is false and the state has been seen to be
 * sealed or dead: no owner writes that, a flipped bit does. Afterwards zs_reader_ready may be true again, for a sample behind the gap.
 *
 * ZS_TAKE_NONE: unless it is, all that was published has been taken or counted. ZS_TAKE_CORRUPT: `published` and the newest entry of the
 * ring contradict each other, so no count can be believed. */
static inline enum zs_take zs_reader_finish(zs_reader *r)
{
    zs_segment *s = r->segment;
    uint64_t published = zs_load(s->published, ZS_PUBLISHED_LOAD); /* SYNC published */
    if (published <= r->cursor || zs_reader_ready(r))
        return ZS_TAKE_NONE; /* `published` may trail the ring by one */
    if (!zs_reader_believes(published, r->cursor) ||
        zs_tag_distance(zs_load(&s->ring[zs_ring_index(s, published)], ZS_RING_LOAD), published) != 0) /* SYNC ring */
        return ZS_TAKE_CORRUPT;
    while (r->cursor < published && !zs_reader_ready(r)) {
        uint64_t oldest = zs_oldest(s, published);
        uint64_t next = oldest > r->cursor + 2 ? oldest : r->cursor + 2;
        r->lost += next - 1 - r->cursor;
        zs_store(&r->peer->lost, r->lost, ZS_RELAXED);
        zs_reader_move(r, next - 1);
    }
    return ZS_TAKE_NONE;
}

/* End a lease. Any thread, no lock. */
static inline void zs_reader_release(zs_reader *r, uint32_t slot)
{
    zs_segment *s = r->segment;
    zs_store(&r->held[slot], 0, ZS_HELD_STORE); /* SYNC held: before the bit, or a freed slot could look held */
    zs_slot_release(s, slot, r->index);
    /* The mirror first: once the last lease is counted as given back, this index may be somebody else's. */
    zs_store(&r->peer->leases, zs_reader_leases(r) - 1, ZS_RELAXED);
    /* After the bit, or another thread's take could set one bit more than max_leases. */
    zs_fetch_add(&r->released, 1, ZS_RELEASED_RMW); /* SYNC released: pairs with zs_reader_leases */
    if (zs_load(s->waiting, ZS_WAITING_LOAD) != 0) { /* SYNC space */
        zs_fetch_add(s->space, 1, ZS_SPACE_RMW);
        zs_futex_wake_all(s->space);
    }
}

/* Say that this reader may fall asleep, and get the generation to sleep on. Look at the ring once more after this.
 *
 * SYNC park: our bit, then our load of generation, then of the ring; the owner: the ring, generation, then its load of parked.
 * Either it sees the bit and wakes us, or we see the new generation and do not sleep.
 *
 * Why the bit is looked at again: it may have been taken on behalf of a sample that we have already, by a waker that stands before
 * its wake. A bit that is there after generation was loaded is taken later, and generation moves after that. */
static inline uint32_t zs_reader_park(zs_reader *r)
{
    uint64_t *word = &r->segment->parked[r->index / 64];
    uint64_t bit = UINT64_C(1) << (r->index % 64);
    uint32_t generation;
    do {
        zs_fetch_or(word, bit, ZS_PARKED_RMW);
        generation = zs_load(r->segment->generation, ZS_GENERATION_LOAD);
    } while ((zs_load(word, ZS_RELAXED) & bit) == 0);
    return generation;
}

/* Nobody of this reader sleeps any more. Only the last sleeper may say so. */
static inline void zs_reader_unpark(zs_reader *r)
{
    uint64_t *word = &r->segment->parked[r->index / 64];
    uint64_t bit = UINT64_C(1) << (r->index % 64);
    if ((zs_load(word, ZS_RELAXED) & bit) != 0)
        zs_fetch_and(word, ~bit, ZS_PARKED_RMW);
}

#endif
