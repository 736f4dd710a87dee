/* SPDX-License-Identifier: Apache-2.0
 *
 * zs_slots.h - slots: reserve, discard and retire by the owner, lease and release by a reader.
 *
 *            reserve              commit               retire (sequence = 0)
 *     FREE ----------> LOANED ----------> COMMITTED ----------> RETIRED
 *      ^                 |                                         |
 *      |                 +--- discard ---> RETIRED                 |
 *      +---- no reader bit, no view in the owner's process --------+    (in reserve, or in withhold, which leaves it FREE)
 *
 * Why the state is in the owner's private memory: a reader can write every byte of the control object, and must not be able to make
 * the owner loan a slot twice. A reader can only keep a slot from being reused, by its bit, until it releases the slot or dies.
 *
 * Functions named zs_owner_* are callable by the owner only, by one thread at a time, except zs_owner_let_go, which any of its
 * threads may call.
 */
#ifndef ZS_SLOTS_H
#define ZS_SLOTS_H

#include "zs_atomic.h"
#include "zs_layout.h"

enum zs_slot_state { ZS_FREE = 0, ZS_LOANED = 1, ZS_COMMITTED = 2, ZS_RETIRED = 3 };

/* The owner's lists of one pool: parts of the arrays of zs_owner, so that adding a pool allocates nothing. */
typedef struct zs_owner_pool {
    zs_pool *entry;       /* in the pool table, for its counters only */
    uint8_t *payload;     /* of its first slot */
    uint64_t slot_capacity;
    uint32_t first_slot;
    uint32_t slot_count;
    uint32_t free_count;
    uint32_t retired_count;
    uint32_t withheld;    /* free slots that are not loaned: they replace slots that evicted readers still hold */
    uint16_t *free_slots; /* [slot_count] a stack: the slot used last is still in the cache */
    uint16_t *retired;    /* [slot_count] in no particular order */
} zs_owner_pool;

typedef struct zs_owner {
    zs_segment *segment;
    uint64_t published;   /* the newest sequence, of which the word in shared memory is a copy */
    uint32_t slot_count;  /* slots of all pools */
    uint32_t loans_out;
    uint32_t awaited;     /* announced reliable readers that have not joined: set by the program (zs_owner_await) */
    uint32_t pool_count;
    zs_owner_pool pools[ZS_MAX_POOLS];
    zs_owner_pool *by_capacity[ZS_MAX_POOLS]; /* [pool_count] from the smallest slots to the largest */
    uint16_t *ring_slots; /* [ring_capacity] the slot that each ring entry names */
    uint16_t *lists;      /* [2 * slot_limit] the lists of the pools */
    uint8_t *state;       /* [slot_limit] enum zs_slot_state */
    uint8_t *pool_of;     /* [slot_limit] the pool of each slot */
    uint32_t *held;       /* [slot_limit] not 0 while this process refers to the slot */
} zs_owner;

#define ZS_NO_SLOT UINT32_MAX

/* Bytes of private memory that zs_owner_init needs. */
static inline size_t zs_owner_memory(uint32_t slot_limit, uint32_t ring_capacity)
{
    return (size_t)slot_limit * (sizeof(uint32_t) + 2 * sizeof(uint16_t) + 2) + (size_t)ring_capacity * sizeof(uint16_t);
}

/* Initialise the owner of a new segment, without pools. `memory` has zs_owner_memory bytes for the segment's slot_limit and
 * ring_capacity, zeroed and aligned for uint32_t, and must outlive the owner. */
static inline void zs_owner_init(zs_owner *o, zs_segment *s, void *memory)
{
    o->segment = s;
    o->published = s->first_sequence - 1;
    o->slot_count = 0;
    o->loans_out = 0;
    o->awaited = 0;
    o->pool_count = 0;
    o->held = (uint32_t *)memory;
    o->lists = (uint16_t *)(void *)(o->held + s->slot_limit);
    o->ring_slots = o->lists + 2 * (size_t)s->slot_limit;
    o->state = (uint8_t *)(o->ring_slots + s->ring_capacity);
    o->pool_of = o->state + s->slot_limit;
}

/* Take over the next pool, with `slot_count` free slots, the first at `payload`. From here on they are loaned, so the pool table has the pool already
 * (zs_segment_add_pool). There are fewer than ZS_MAX_POOLS pools, and slot_limit has room for the slots. Callable by the owner only. */
static inline void zs_owner_add_pool(zs_owner *o, uint32_t slot_count, uint64_t slot_capacity, void *payload)
{
    uint32_t k = o->pool_count, at = k;
    zs_owner_pool *p = &o->pools[k];
    p->entry = &o->segment->pools[k];
    p->payload = (uint8_t *)payload;
    p->slot_capacity = slot_capacity;
    p->first_slot = o->slot_count;
    p->slot_count = slot_count;
    p->free_count = slot_count;
    p->retired_count = 0;
    p->withheld = 0;
    p->free_slots = o->lists + 2 * (size_t)p->first_slot;
    p->retired = p->free_slots + slot_count;
    for (uint32_t i = 0; i < slot_count; i++) {
        p->free_slots[i] = (uint16_t)(p->first_slot + slot_count - 1 - i);
        o->pool_of[p->first_slot + i] = (uint8_t)k;
    }
    for (; at > 0 && o->by_capacity[at - 1]->slot_capacity > slot_capacity; at--)
        o->by_capacity[at] = o->by_capacity[at - 1];
    o->by_capacity[at] = p;
    o->slot_count += slot_count;
    o->pool_count++;
}

/* The bits of word `w` of `readers` that belong to an index below max_subscribers. The others are ignored: no reader would ever
 * clear them. */
static inline uint64_t zs_reader_bits(const zs_segment *s, uint32_t w)
{
    uint32_t left = s->max_subscribers - 64 * w;
    return left >= 64 ? UINT64_MAX : (UINT64_C(1) << left) - 1;
}

/* Whether any reader's bit is set in the slot. False, after zs_slot_retire: no reader has a lease on the slot, and none can get
 * one, so the owner may write to the payload. */
static inline int zs_slot_is_read(const zs_segment *s, uint32_t slot)
{
    uint64_t *readers = zs_slot_readers(s, slot);
    for (uint32_t w = 0; w < s->reader_words; w++)
        if ((zs_load(&readers[w], ZS_RETIRE_LOAD) & zs_reader_bits(s, w)) != 0) /* SYNC lease: pairs with zs_slot_lease */
            return 1;
    return 0;
}

/* Whether a retired slot that no reader's bit is set in may be used again; then no ticket of its sample can be redeemed any more.
 * False: a reader has just redeemed one. Its ticket, and those that it makes, remain good.
 *
 * SYNC reference: the closing bit is set before `readers` is loaded again. A reader that sets its own bit later sees the closing
 * bit, and removes it; then the reference has another value at the end, and the slot is not used.
 *
 * Why not 0 at once, and back when a bit is set: in between, a ticket whose lease is held could not be redeemed, and never again if
 * the owner were killed there. */
static inline int zs_slot_close(const zs_segment *s, uint32_t slot)
{
    uint64_t *reference = &zs_slot_at(s, slot)->reference;
    uint64_t seen = zs_load(reference, ZS_RELAXED); /* the bit of the reader that stored it was seen to be clear after that */
    if (seen == 0)
        return 1; /* no ticket was made of the sample */
    seen = zs_fetch_or(reference, ZS_REFERENCE_CLOSING, ZS_REFERENCE_RMW) | ZS_REFERENCE_CLOSING; /* SYNC reference: pairs with zs_slot_redeem */
    return !zs_slot_is_read(s, slot) && zs_replace(reference, seen, 0, ZS_RELAXED);
}

/* Remove and return a retired slot of a pool, without a reader's bit and without a view in this process. ZS_NO_SLOT: there is
 * none. */
static inline uint32_t zs_owner_unretire(zs_owner *o, zs_owner_pool *p)
{
    for (uint32_t i = p->retired_count; i-- > 0;) {
        uint32_t candidate = p->retired[i];
        if (zs_load(&o->held[candidate], ZS_HELD_LOAD) == 0 && /* SYNC held */
            !zs_slot_is_read(o->segment, candidate) && zs_slot_close(o->segment, candidate)) {
            p->retired[i] = p->retired[--p->retired_count];
            return candidate;
        }
    }
    return ZS_NO_SLOT;
}

/* Loan a slot of this pool: a free one, or a retired one that is no longer read or viewed. ZS_NO_SLOT: every slot of the pool is
 * loaned, committed, read, viewed or withheld. The owner may write to the payload until zs_owner_commit or zs_owner_discard. */
static inline uint32_t zs_owner_reserve_in(zs_owner *o, zs_owner_pool *p)
{
    uint32_t slot = p->free_count > p->withheld ? p->free_slots[--p->free_count] : zs_owner_unretire(o, p);
    if (slot == ZS_NO_SLOT)
        return ZS_NO_SLOT;
    o->state[slot] = ZS_LOANED;
    o->loans_out++;
    zs_store(&o->held[slot], 1, ZS_RELAXED);
    return slot;
}

/* The same for pool `k`. */
static inline uint32_t zs_owner_reserve(zs_owner *o, uint32_t k)
{
    return zs_owner_reserve_in(o, &o->pools[k]);
}

/* The pool with the smallest slots of at least `size` bytes. NULL: there is none. */
static inline zs_owner_pool *zs_owner_smallest_fit(const zs_owner *o, uint64_t size)
{
    for (uint32_t i = 0; i < o->pool_count; i++)
        if (o->by_capacity[i]->slot_capacity >= size)
            return o->by_capacity[i];
    return NULL;
}

/* Loan a slot of at least `size` bytes, of the pool with the smallest slots that has one free. ZS_NO_SLOT: no pool with large
 * enough slots has one. */
static inline uint32_t zs_owner_reserve_bytes(zs_owner *o, uint64_t size)
{
    for (uint32_t i = 0; i < o->pool_count; i++) {
        zs_owner_pool *p = o->by_capacity[i];
        uint32_t slot = p->slot_capacity >= size ? zs_owner_reserve_in(o, p) : ZS_NO_SLOT;
        if (slot == ZS_NO_SLOT)
            continue;
        if (i > 0 && o->by_capacity[i - 1]->slot_capacity >= size)
            zs_count(&zs_owner_smallest_fit(o, size)->entry->passed_on, 1);
        return slot;
    }
    return ZS_NO_SLOT;
}

/* Withhold one more slot of pool `k` from zs_owner_reserve. False: every slot of the pool that is not withheld is loaned,
 * committed, read or viewed. */
static inline int zs_owner_withhold(zs_owner *o, uint32_t k)
{
    zs_owner_pool *p = &o->pools[k];
    if (p->free_count == p->withheld) {
        uint32_t slot = zs_owner_unretire(o, p);
        if (slot == ZS_NO_SLOT)
            return 0;
        o->state[slot] = ZS_FREE;
        p->free_slots[p->free_count++] = (uint16_t)slot;
    }
    p->withheld++;
    return 1;
}

/* The payload of a slot. */
static inline void *zs_owner_payload(const zs_owner *o, uint32_t slot)
{
    const zs_owner_pool *p = &o->pools[o->pool_of[slot]];
    return p->payload + (slot - p->first_slot) * p->slot_capacity;
}

/* Put a slot on its pool's list of retired ones, where zs_owner_reserve finds it. */
static inline void zs_owner_retire(zs_owner *o, uint32_t slot)
{
    zs_owner_pool *p = &o->pools[o->pool_of[slot]];
    o->state[slot] = ZS_RETIRED;
    p->retired[p->retired_count++] = (uint16_t)slot;
}

/* Undo zs_owner_reserve. Views that refer to the slot keep it from being reused until zs_owner_let_go. */
static inline void zs_owner_unreserve(zs_owner *o, uint32_t slot)
{
    o->loans_out--;
    zs_owner_retire(o, slot);
}

/* End a loan without publishing it. Views that still refer to the slot keep it from being reused until zs_owner_let_go. */
static inline void zs_owner_discard(zs_owner *o, uint32_t slot)
{
    zs_count(&o->segment->counters->discarded, 1);
    zs_count(&o->pools[o->pool_of[slot]].entry->discarded, 1);
    zs_owner_unreserve(o, slot);
}

/* Call when the last reference of this process to a loaned or committed slot is dropped. Callable by any thread of the owner. */
static inline void zs_owner_let_go(zs_owner *o, uint32_t slot)
{
    zs_store(&o->held[slot], 0, ZS_HELD_STORE); /* SYNC held */
}

/* Withdraw the sample of a slot: no reader can lease it from here on, and leases that exist remain valid. Callable by the owner
 * only.
 *
 * SYNC lease: this store of 0 precedes the load of `readers` in zs_slot_is_read. Either that load sees a reader's bit, or the
 * reader's load of `sequence`, after it set the bit, sees the 0. */
static inline void zs_slot_retire(const zs_segment *s, uint32_t slot)
{
    zs_store(&zs_slot_at(s, slot)->sequence, 0, ZS_RETIRE_STORE);
}

/* Take one lease on sequence `n` of this slot, as reader `index`.
 *
 * True: the payload does not change until zs_slot_release. False: the slot no longer holds sequence `n`, because the owner has
 * retired it since the ring entry was read. Not an error: the reader looks at the ring again. The bit is clear again; the payload
 * must not be read, because the owner may be writing to it.
 *
 * The reader must not hold a lease on this slot already: one bit cannot stand for two leases. */
static inline int zs_slot_lease(const zs_segment *s, uint32_t slot, uint32_t index, uint64_t n)
{
    zs_slot *entry = zs_slot_at(s, slot);
    uint64_t *word = zs_slot_readers(s, slot) + index / 64;
    uint64_t bit = UINT64_C(1) << (index % 64);
    zs_fetch_or(word, bit, ZS_LEASE_RMW);                       /* SYNC lease: pairs with zs_slot_retire */
    if (zs_load(&entry->sequence, ZS_LEASE_LOAD) == n)          /* SYNC sequence */
        return 1;
    zs_fetch_and(word, ~bit, ZS_RELEASE_RMW);
    return 0;
}

/* End the lease of reader `index`. The payload may change from here on. Callable by any thread of the reader. */
static inline void zs_slot_release(const zs_segment *s, uint32_t slot, uint32_t index)
{
    uint64_t *word = zs_slot_readers(s, slot) + index / 64;
    zs_fetch_and(word, ~(UINT64_C(1) << (index % 64)), ZS_RELEASE_RMW); /* SYNC space: pairs with zs_owner_block_begin */
}

#endif
