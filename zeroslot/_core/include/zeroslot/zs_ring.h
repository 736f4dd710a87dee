/* SPDX-License-Identifier: Apache-2.0
 *
 * zs_ring.h - commit by the owner; take, latest, release and park by a reader.
 *
 * A ring entry, also called a tag, is (sequence mod 2^48) << 16 | slot. A reader's cursor is the last sequence that it took or
 * passed. It only grows, so a reader leases a sequence at most once. The cursor in the peer table is a copy for the owner; the
 * reader never loads it.
 *
 * zs_reader_release, zs_reader_leases, zs_reader_ready and zs_reader_park are callable by any thread of the reader's process, the
 * other functions named zs_reader_* by one thread at a time.
 */
#ifndef ZS_RING_H
#define ZS_RING_H

#include "zs_futex.h"
#include "zs_slots.h"

#define ZS_TAG_MASK ((UINT64_C(1) << 48) - 1)

/* The ring entry for `sequence` in `slot`. */
static inline uint64_t zs_tag(uint64_t sequence, uint32_t slot)
{
    return sequence << 16 | slot;
}

/* A tag's sequence minus `sequence`, modulo 2^48: negative if the tag is older, positive if it is newer. */
static inline int64_t zs_tag_distance(uint64_t tag, uint64_t sequence)
{
    return (int64_t)(((tag >> 16) - sequence) << 16) / 65536;
}

/* The index of a sequence's ring entry. */
static inline uint32_t zs_ring_index(const zs_segment *s, uint64_t sequence)
{
    return (uint32_t)(sequence & (s->ring_capacity - 1));
}

/* Wake every reader whose parked bit is set. Returns the number of system calls, 0 or 1.
 *
 * The bits are cleared here, so a reader that died in its sleep costs one system call, not one for each commit. A reader whose bit
 * is cleared before it is asleep must not fall asleep, because no later commit would wake it. Therefore generation, on which it
 * will wait, is incremented after the bits are cleared: the reader either loaded the old generation, and its wait returns, or it
 * loaded the new one and then sees that its bit is clear (zs_reader_park). */
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

/* Wake readers for something other than a sample, such as a new state of the segment. */
static inline void zs_bump_generation(zs_segment *s)
{
    zs_fetch_add(s->generation, 1, ZS_GENERATION_RMW); /* SYNC park */
    zs_wake_parked(s);
}

/* Make a loaned slot with `size` bytes of payload the next sample. Returns its sequence. Readers can take the sample from here on,
 * so the owner must not write to the payload any more. zs_owner_announce wakes the readers that sleep. `flags` are enum
 * zs_slot_flags; those of the slot's last sample are gone. Callable by the owner only. */
static inline uint64_t zs_owner_place_flagged(zs_owner *o, uint32_t slot, uint64_t size, uint64_t published_ns, uint32_t flags,
                                              uint32_t crc)
{
    zs_segment *s = o->segment;
    zs_slot *entry = zs_slot_at(s, slot);
    uint64_t n = o->published + 1;
    uint32_t mask = s->ring_capacity - 1;
    zs_store(&entry->published_ns, published_ns, ZS_RELAXED);
    zs_store(&entry->size, size, ZS_RELAXED);
    zs_store(&entry->flags, flags, ZS_RELAXED);
    zs_store(&entry->crc, crc, ZS_RELAXED);
    zs_store(&entry->sequence, n, ZS_SEQUENCE_STORE);                 /* SYNC sequence */
    zs_store(&s->ring[n & mask], zs_tag(n, slot), ZS_RING_STORE);     /* SYNC ring */
    zs_store(s->published, n, ZS_PUBLISHED_STORE);                    /* SYNC published, SYNC join */
    o->ring_slots[n & mask] = (uint16_t)slot;
    o->state[slot] = ZS_COMMITTED;
    o->published = n;
    o->loans_out--;
    zs_count(&s->counters->published, 1);
    zs_count(&s->counters->bytes, size);
    zs_count(&o->pools[o->pool_of[slot]].entry->committed, 1);
    return n;
}

/* The same for a sample without flags. */
static inline uint64_t zs_owner_place(zs_owner *o, uint32_t slot, uint64_t size, uint64_t published_ns)
{
    return zs_owner_place_flagged(o, slot, size, published_ns, 0, 0);
}

/* Wake the readers that sleep, for all samples placed since the last call. Callable by the owner only. */
static inline void zs_owner_announce(zs_owner *o)
{
    zs_segment *s = o->segment;
    zs_fetch_add(s->generation, 1, ZS_GENERATION_RMW);                /* SYNC park, SYNC join */
    if (zs_wake_parked(s))
        zs_count(&s->counters->wakes, 1);
}

/* Withdraw the sample that is no longer among the newest `depth`, if there is one. Called once after each zs_owner_place, by the
 * owner. Its slot is the first that the next loan tries, and readers have its payload in their caches: fetched here, the line arrives
 * while the program prepares that sample. */
static inline void zs_owner_retire_oldest(zs_owner *o)
{
    zs_segment *s = o->segment;
    uint64_t n = o->published;
    if (n - s->first_sequence >= s->depth) {
        uint32_t oldest = o->ring_slots[zs_ring_index(s, n - s->depth)];
        zs_slot_retire(s, oldest);
        zs_owner_retire(o, oldest);
        zs_prefetch_write(zs_owner_payload(o, oldest));
    }
}

/* Publish a loaned slot with `size` bytes of payload. Returns its sequence. Afterwards exactly the newest `depth` samples can be
 * taken, and the owner must not write to the payload any more. `published_ns` is CLOCK_MONOTONIC. Callable by the owner only.
 *
 * Several samples can be published as one batch: place each and retire the oldest, then announce them together. The owner announces
 * after at most 64 samples, before it waits for anything, and, with reliable readers, before it calls zs_owner_window_full again: a
 * joining reader relies on generation to see the newest `published` (SYNC join). So `published` is at most one sample behind the
 * ring, and generation at most 64 behind `published`. Take and park are correct with that: take reads the ring, and a reader looks
 * at the ring again between the store of its parked bit and its sleep. */
static inline uint64_t zs_owner_commit(zs_owner *o, uint32_t slot, uint64_t size, uint64_t published_ns)
{
    uint64_t n = zs_owner_place(o, slot, size, published_ns);
    zs_owner_announce(o);
    zs_owner_retire_oldest(o);
    return n;
}

/* A subscriber's private state for one segment. */
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
    uint32_t announced;  /* it has announced itself before the owner's segment could be found (zs_owner_await) */
    uint64_t released;   /* leases that have ended; written by any thread */
    uint32_t slot_count; /* slots whose pools are mapped; fewer than slot_limit while the owner may still add pools */
    uint32_t *held;      /* [slot_limit] not 0 while this reader has a lease on the slot; of a reader of tickets, how many */
    uint64_t *redeemed;  /* [slot_limit] of a reader of tickets: the sequence of each lease; otherwise NULL */
    /* The payload of slot 0 and the distance to the next, or NULL. Only for prefetching the payload's first line during a take: a
     * wrong value costs time and breaks nothing. */
    const uint8_t *payload;
    uint64_t payload_stride;
} zs_reader;

enum zs_take {
    ZS_TAKE_NONE = 0,     /* nothing new */
    ZS_TAKE_LEASED,       /* *slot is leased until zs_reader_release */
    ZS_TAKE_COPIED,       /* only of zs_copier_next: the sample has been copied */
    ZS_TAKE_TOO_MANY,     /* the reader has max_leases leases already */
    ZS_TAKE_EVICTED,      /* the owner has evicted this reader */
    ZS_TAKE_UNMAPPED,     /* the sample is in a pool that is not mapped: read the pool table, map the new pools, take again */
    ZS_TAKE_CORRUPT       /* the control object has content that no owner writes */
};

/* How often one take tries again after the owner has overtaken it, before it takes the newest sample instead of the oldest. */
#define ZS_MAX_LAPS 64

/* The oldest sequence that can still be taken when `published` is the newest. */
static inline uint64_t zs_oldest(const zs_segment *s, uint64_t published)
{
    uint64_t gone = published >= s->depth ? published - s->depth : 0;
    return gone + 1 > s->first_sequence ? gone + 1 : s->first_sequence;
}

/* The number of leases. For the thread that takes, it may still include leases that other threads are just releasing. */
static inline uint64_t zs_reader_leases(const zs_reader *r)
{
    return zs_load(&r->taken, ZS_RELAXED) - zs_load(&r->released, ZS_RELEASED_LOAD); /* SYNC released: pairs with zs_reader_release */
}

/* Whether `published` can be the newest sequence for a reader at `cursor`. No owner gets 2^46 samples ahead; a corrupted word
 * can. */
static inline int zs_published_is_plausible(uint64_t published, uint64_t cursor)
{
    return published - cursor < UINT64_C(1) << 46;
}

/* Set the cursor. The owner waits for the cursors of reliable readers, so for them this also wakes a blocked owner. Otherwise the
 * copy in the peer table is only information. */
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

/* Count one more lease. */
static inline void zs_reader_count_lease(zs_reader *r)
{
    zs_count(&r->taken, 1);
    zs_store(&r->peer->taken, r->taken, ZS_RELAXED);
    zs_store(&r->peer->leases, zs_reader_leases(r), ZS_RELAXED);
}

/* ZS_TAKE_NONE: the reader may set its bit in this slot, which a ring entry names.
 *
 * A slot that this reader has leased cannot hold a newer sample. Checked before the bit is set, because a failed lease clears the
 * bit again, and that would end the older lease. */
static inline enum zs_take zs_reader_check_slot(const zs_reader *r, uint32_t slot)
{
    if (slot >= r->segment->slot_limit || zs_load(&r->held[slot], ZS_HELD_LOAD) != 0) /* SYNC held */
        return ZS_TAKE_CORRUPT;
    return slot < r->slot_count ? ZS_TAKE_NONE : ZS_TAKE_UNMAPPED;
}

/* Lease sequence `c` in the slot that ring entry `tag` names. ZS_TAKE_NONE: the owner has retired the sample since. */
static inline enum zs_take zs_reader_lease(zs_reader *r, uint64_t tag, uint64_t c, uint32_t *slot)
{
    zs_segment *s = r->segment;
    uint32_t named = (uint32_t)(tag & 0xffff);
    enum zs_take checked = zs_reader_check_slot(r, named);
    if (checked != ZS_TAKE_NONE)
        return checked;
    if (r->payload != NULL)
        __builtin_prefetch(r->payload + named * r->payload_stride);
    if (!zs_slot_lease(s, named, r->index, c))
        return ZS_TAKE_NONE;
    zs_store(&r->held[named], 1, ZS_RELAXED);
    zs_reader_move(r, c);
    zs_reader_count_lease(r);
    *slot = named;
    return ZS_TAKE_LEASED;
}

/* Whether the owner has evicted this reader. */
static inline int zs_reader_is_evicted(const zs_reader *r)
{
    return zs_load(&r->segment->evicted[r->index], ZS_RELAXED) == r->epoch;
}

/* The reason why this reader may not take: ZS_TAKE_EVICTED or ZS_TAKE_TOO_MANY. ZS_TAKE_NONE: it may. */
static inline enum zs_take zs_reader_refuse(const zs_reader *r)
{
    if (zs_reader_is_evicted(r))
        return ZS_TAKE_EVICTED;
    if (zs_reader_leases(r) >= r->max_leases)
        return ZS_TAKE_TOO_MANY;
    return ZS_TAKE_NONE;
}

/* Continue after the owner has overtaken the reader: sequence `c`, the next one, is no longer among the newest `depth`. What is gone
 * is counted in `lost`. `laps` is how often that has happened in this call. ZS_TAKE_NONE: look again. */
static inline enum zs_take zs_reader_lap(zs_reader *r, uint64_t c, int laps)
{
    uint64_t published = zs_load(r->segment->published, ZS_PUBLISHED_LOAD); /* SYNC published */
    uint64_t oldest = zs_oldest(r->segment, published);
    if (published < c || oldest <= c || !zs_published_is_plausible(published, c))
        return ZS_TAKE_CORRUPT; /* with a correct owner, published >= c + depth here */
    if (laps >= ZS_MAX_LAPS)
        oldest = published; /* the owner is faster: try the newest sample */
    r->lost += oldest - c;
    zs_store(&r->peer->lost, r->lost, ZS_RELAXED);
    zs_reader_move(r, oldest - 1);
    return ZS_TAKE_NONE;
}

/* Lease the next sample in order. Samples that can no longer be taken are passed over and counted in `lost`. Any result other than
 * ZS_TAKE_LEASED leaves *slot alone. */
static inline enum zs_take zs_reader_take(zs_reader *r, uint32_t *slot)
{
    zs_segment *s = r->segment;
    for (int laps = 0;; laps++) {
        uint64_t c = r->cursor + 1;
        uint64_t tag = zs_load(&s->ring[zs_ring_index(s, c)], ZS_RING_LOAD); /* SYNC ring */
        int64_t distance = zs_tag_distance(tag, c);
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
        result = zs_reader_lap(r, c, laps);
        if (result != ZS_TAKE_NONE)
            return result;
    }
}

/* Lease the newest sample. Samples that are passed over are counted in `skipped`. Any result other than ZS_TAKE_LEASED leaves *slot
 * alone. */
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
            /* The owner stores the ring entry before `published`, so a take can be one ahead of `published`. */
            return zs_reader_is_evicted(r) ? ZS_TAKE_EVICTED : ZS_TAKE_NONE;
        if (published <= tried || !zs_published_is_plausible(published, start))
            return ZS_TAKE_CORRUPT; /* the newest sample could not be leased, although no newer one was published */
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

/* The newest sequence, and in *published_ns when it was published. 0: it has been taken. No lease is made, so the values may be out
 * of date; they serve only to decide which of several publishers to take from. */
static inline uint64_t zs_reader_peek(const zs_reader *r, uint64_t *published_ns)
{
    const zs_segment *s = r->segment;
    uint64_t published = zs_load(s->published, ZS_PUBLISHED_LOAD); /* SYNC published */
    uint32_t slot = (uint32_t)(zs_load(&s->ring[zs_ring_index(s, published)], ZS_RING_LOAD) & 0xffff); /* SYNC ring */
    if (published <= r->cursor || !zs_published_is_plausible(published, r->cursor) || slot >= s->slot_limit)
        return 0;
    *published_ns = zs_load(&zs_slot_at(s, slot)->published_ns, ZS_RELAXED);
    return published;
}

/* Pass over all samples up to `sequence`, a result of zs_reader_peek, and count them in `skipped`. */
static inline void zs_reader_skip(zs_reader *r, uint64_t sequence)
{
    r->skipped += sequence - r->cursor;
    zs_store(&r->peer->skipped, r->skipped, ZS_RELAXED);
    zs_reader_move(r, sequence);
}

/* Whether zs_reader_take would find a sample, or a loss. */
static inline int zs_reader_ready(const zs_reader *r)
{
    const zs_segment *s = r->segment;
    uint64_t c = zs_load(&r->cursor, ZS_RELAXED) + 1;
    return zs_tag_distance(zs_load(&s->ring[zs_ring_index(s, c)], ZS_RING_LOAD), c) >= 0; /* SYNC ring */
}

/* One take in this many is counted in the latency histogram. */
#define ZS_SAMPLED 64

/* Count a sample that was taken `waited_ns` after it was published in the latency histogram. Callable by the thread that takes. */
static inline void zs_reader_count_latency(zs_reader *r, uint64_t waited_ns)
{
    uint32_t *bucket = &r->peer->latency[zs_latency_bucket(waited_ns)];
    zs_store(bucket, zs_load(bucket, ZS_RELAXED) + 1, ZS_RELAXED);
    if (waited_ns > zs_load(&r->peer->latency_max_ns, ZS_RELAXED))
        zs_store(&r->peer->latency_max_ns, waited_ns, ZS_RELAXED);
}

/* Count sequence `n` as lost and continue after it; samples before it count as skipped. For a sample whose pool has been
 * removed. */
static inline void zs_reader_lose(zs_reader *r, uint64_t n)
{
    r->skipped += n - 1 - r->cursor;
    zs_store(&r->peer->skipped, r->skipped, ZS_RELAXED);
    r->lost++;
    zs_store(&r->peer->lost, r->lost, ZS_RELAXED);
    zs_reader_move(r, n);
}

/* Account for the samples of an ended segment. Call when the state has been seen as ZS_SEALED or ZS_DEAD and zs_reader_ready is
 * false. Samples up to `published` whose ring entries are missing, which only corruption can cause, are counted in `lost`.
 *
 * ZS_TAKE_NONE: if zs_reader_ready is true again, there is a sample after the gap; otherwise every published sample has been taken
 * or counted. ZS_TAKE_CORRUPT: `published` and the newest ring entry contradict each other, so the number of lost samples is not
 * known. */
static inline enum zs_take zs_reader_finish(zs_reader *r)
{
    zs_segment *s = r->segment;
    uint64_t published = zs_load(s->published, ZS_PUBLISHED_LOAD); /* SYNC published */
    if (published <= r->cursor || zs_reader_ready(r))
        return ZS_TAKE_NONE; /* `published` may be one behind the ring */
    if (!zs_published_is_plausible(published, r->cursor) ||
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

/* End a lease. The payload may change from here on. Callable by any thread, without a lock; wakes a blocked owner. */
static inline void zs_reader_release(zs_reader *r, uint32_t slot)
{
    zs_segment *s = r->segment;
    zs_store(&r->held[slot], 0, ZS_HELD_STORE); /* SYNC held: before the bit, or a slot that is free again could look held */
    zs_slot_release(s, slot, r->index);
    /* The peer entry first: once the last lease is counted as released, another reader may use this index. */
    zs_store(&r->peer->leases, zs_reader_leases(r) - 1, ZS_RELAXED);
    /* After the bit, or a take in another thread could set more bits than max_leases. */
    zs_fetch_add(&r->released, 1, ZS_RELEASED_RMW); /* SYNC released: pairs with zs_reader_leases */
    if (zs_load(s->waiting, ZS_WAITING_LOAD) != 0) { /* SYNC space */
        zs_fetch_add(s->space, 1, ZS_SPACE_RMW);
        zs_futex_wake_all(s->space);
    }
}

/* Set the parked bit and return the generation on which to sleep. After this, and before the sleep, the caller calls
 * zs_reader_ready.
 *
 * SYNC park: the reader sets its bit, then loads generation, then the ring; the owner stores the ring entry, increments generation,
 * then loads `parked`. Either the owner sees the bit and wakes the reader, or the reader sees the new generation or the sample.
 *
 * Why the bit is checked after the load: an owner may have cleared it for an earlier sample and not have made its wake call yet. If
 * the bit is still set after generation was loaded, it is cleared later, and generation is incremented after that. */
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

/* Clear the parked bit. Callable by the last of the reader's threads that stops sleeping, because they share the bit. */
static inline void zs_reader_unpark(zs_reader *r)
{
    uint64_t *word = &r->segment->parked[r->index / 64];
    uint64_t bit = UINT64_C(1) << (r->index % 64);
    if ((zs_load(word, ZS_RELAXED) & bit) != 0)
        zs_fetch_and(word, ~bit, ZS_PARKED_RMW);
}

#endif
