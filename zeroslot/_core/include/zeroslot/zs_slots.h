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

typedef struct zs_owner {
    zs_segment *segment;
    uint64_t published;   /* the newest sequence, of which the word in shared memory is a copy */
    uint32_t slot_count;
    uint32_t loans_out;
    uint32_t free_count;
    uint32_t withheld;    /* free slots that are not loaned: they replace slots that evicted readers still hold */
    uint32_t retired_count;
    uint16_t *ring_slots; /* [ring_capacity] the slot that each ring entry names */
    uint16_t *free_slots; /* [slot_count] a stack: the slot used last is still in the cache */
    uint16_t *retired;    /* [slot_count] in no particular order */
    uint8_t *state;       /* [slot_count] enum zs_slot_state */
    uint32_t *held;       /* [slot_count] not 0 while this process refers to the slot */
} zs_owner;

#define ZS_NO_SLOT UINT32_MAX

/* Bytes of private memory that zs_owner_init needs. */
static inline size_t zs_owner_memory(uint32_t slot_count, uint32_t ring_capacity)
{
    return (size_t)slot_count * (sizeof(uint32_t) + 2 * sizeof(uint16_t) + 1) + (size_t)ring_capacity * sizeof(uint16_t);
}

/* Initialise the owner of a new segment; all slots are free. `memory` has zs_owner_memory bytes, zeroed and aligned for uint32_t,
 * and must outlive the owner. */
static inline void zs_owner_init(zs_owner *o, zs_segment *s, uint32_t slot_count, void *memory)
{
    uint32_t *held = (uint32_t *)memory;
    uint16_t *words = (uint16_t *)(void *)(held + slot_count);
    o->segment = s;
    o->published = s->first_sequence - 1;
    o->slot_count = slot_count;
    o->loans_out = 0;
    o->retired_count = 0;
    o->withheld = 0;
    o->held = held;
    o->free_slots = words;
    o->retired = words + slot_count;
    o->ring_slots = words + 2 * (size_t)slot_count;
    o->state = (uint8_t *)(o->ring_slots + s->ring_capacity);
    o->free_count = slot_count;
    for (uint32_t i = 0; i < slot_count; i++)
        o->free_slots[i] = (uint16_t)(slot_count - 1 - i);
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

/* Remove and return a retired slot without a reader's bit and without a view in this process. ZS_NO_SLOT: there is none. */
static inline uint32_t zs_owner_unretire(zs_owner *o)
{
    for (uint32_t i = o->retired_count; i-- > 0;) {
        uint32_t candidate = o->retired[i];
        if (zs_load(&o->held[candidate], ZS_HELD_LOAD) == 0 && /* SYNC held */
            !zs_slot_is_read(o->segment, candidate)) {
            o->retired[i] = o->retired[--o->retired_count];
            return candidate;
        }
    }
    return ZS_NO_SLOT;
}

/* Loan a slot: a free one, or a retired one that is no longer read or viewed. ZS_NO_SLOT: every slot is loaned, committed, read,
 * viewed or withheld. The owner may write to the payload until zs_owner_commit or zs_owner_discard. */
static inline uint32_t zs_owner_reserve(zs_owner *o)
{
    uint32_t slot = o->free_count > o->withheld ? o->free_slots[--o->free_count] : zs_owner_unretire(o);
    if (slot == ZS_NO_SLOT)
        return ZS_NO_SLOT;
    o->state[slot] = ZS_LOANED;
    o->loans_out++;
    zs_store(&o->held[slot], 1, ZS_RELAXED);
    return slot;
}

/* Withhold one more slot from zs_owner_reserve. False: every slot that is not withheld is loaned, committed, read or viewed. */
static inline int zs_owner_withhold(zs_owner *o)
{
    if (o->free_count == o->withheld) {
        uint32_t slot = zs_owner_unretire(o);
        if (slot == ZS_NO_SLOT)
            return 0;
        o->state[slot] = ZS_FREE;
        o->free_slots[o->free_count++] = (uint16_t)slot;
    }
    o->withheld++;
    return 1;
}

/* Put a slot on the list of retired ones, where zs_owner_reserve finds it. */
static inline void zs_owner_retire(zs_owner *o, uint32_t slot)
{
    o->state[slot] = ZS_RETIRED;
    o->retired[o->retired_count++] = (uint16_t)slot;
}

/* End a loan without publishing it. Views that still refer to the slot keep it from being reused until zs_owner_let_go. */
static inline void zs_owner_discard(zs_owner *o, uint32_t slot)
{
    o->loans_out--;
    zs_count(&o->segment->counters->discarded, 1);
    zs_owner_retire(o, slot);
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
