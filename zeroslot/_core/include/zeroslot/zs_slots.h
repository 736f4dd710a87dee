/* SPDX-License-Identifier: Apache-2.0
 *
 * zs_slots.h - the owner's side of the slots: reserve, discard, retire; and the two halves of a lease.
 *
 *            reserve              commit               retire (sequence = 0)
 *     FREE ----------> LOANED ----------> COMMITTED ----------> RETIRED
 *      ^                 |                                         |
 *      |                 +--- discard ---> RETIRED                 |
 *      +---- no reader bit, no view in the owner's process --------+    (by reserve, or by withhold to stay FREE)
 *
 * The state is the owner's own and not in shared memory: a reader can write every byte of the control object, and may not be able
 * to make the owner hand out a slot twice. What readers can do is hold a slot back (their bit) for as long as they live.
 *
 * One thread at a time calls the owner's functions; zs_owner_let_go may be called from any.
 */
#ifndef ZS_SLOTS_H
#define ZS_SLOTS_H

#include "zs_atomic.h"
#include "zs_layout.h"

enum zs_slot_state { ZS_FREE = 0, ZS_LOANED = 1, ZS_COMMITTED = 2, ZS_RETIRED = 3 };

typedef struct zs_owner {
    zs_segment *segment;
    uint64_t published;   /* the newest sequence; the word in shared memory only mirrors it */
    uint32_t slot_count;
    uint32_t loans_out;
    uint32_t free_count;
    uint32_t withheld;    /* so many of the free ones are not given out: they replace what an evicted reader still holds */
    uint32_t retired_count;
    uint16_t *ring_slots; /* [ring_capacity] which slot holds the sequence at that place */
    uint16_t *free_slots; /* [slot_count] a stack: the slot used last is the warmest */
    uint16_t *retired;    /* [slot_count] in no order */
    uint8_t *state;       /* [slot_count] enum zs_slot_state */
    uint32_t *held;       /* [slot_count] not 0 while something in this process refers to the slot */
} zs_owner;

#define ZS_NO_SLOT UINT32_MAX

/* Bytes of private memory that zs_owner_init wants. */
static inline size_t zs_owner_memory(uint32_t slot_count, uint32_t ring_capacity)
{
    return (size_t)slot_count * (sizeof(uint32_t) + 2 * sizeof(uint16_t) + 1) + (size_t)ring_capacity * sizeof(uint16_t);
}

/* `memory` is zs_owner_memory bytes, zeroed and aligned for uint32_t, and outlives the owner. All slots are free. */
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

/* The bits of word `w` of a slot's readers that can be somebody's. The others are noise, and hold nothing back: nobody would ever
 * clear them. */
static inline uint64_t zs_reader_bits(const zs_segment *s, uint32_t w)
{
    uint32_t left = s->max_subscribers - 64 * w;
    return left >= 64 ? UINT64_MAX : (UINT64_C(1) << left) - 1;
}

/* Whether any reader has its bit in the slot. */
static inline int zs_slot_is_read(const zs_segment *s, uint32_t slot)
{
    uint64_t *readers = zs_slot_readers(s, slot);
    for (uint32_t w = 0; w < s->reader_words; w++)
        if ((zs_load(&readers[w], ZS_RETIRE_LOAD) & zs_reader_bits(s, w)) != 0) /* SYNC lease: pairs with zs_slot_lease */
            return 1;
    return 0;
}

/* Take a slot off the retired ones that nobody reads any more, or ZS_NO_SLOT. */
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

/* Take a free slot, or a retired one that nobody reads any more. ZS_NO_SLOT: every one is loaned, committed, read or withheld. */
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

/* Keep one more slot back. False: every one is loaned, committed or read. */
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

/* Put a slot where zs_owner_reserve finds it again. */
static inline void zs_owner_retire(zs_owner *o, uint32_t slot)
{
    o->state[slot] = ZS_RETIRED;
    o->retired[o->retired_count++] = (uint16_t)slot;
}

/* Give a loan back without publishing it. Views that still refer to it keep the slot from being reused. */
static inline void zs_owner_discard(zs_owner *o, uint32_t slot)
{
    o->loans_out--;
    zs_count(&o->segment->counters->discarded, 1);
    zs_owner_retire(o, slot);
}

/* The last reference in this process to a slot is gone. Any thread. */
static inline void zs_owner_let_go(zs_owner *o, uint32_t slot)
{
    zs_store(&o->held[slot], 0, ZS_HELD_STORE); /* SYNC held */
}

/* Withdraw the sample of a slot, so that nobody can lease it any more. Who holds a lease keeps it.
 *
 * SYNC lease: our 0 is stored before zs_slot_is_read loads the readers. Either that load sees a reader's bit, or the reader's
 * load of `sequence`, which follows its bit, sees the 0. */
static inline void zs_slot_retire(const zs_segment *s, uint32_t slot)
{
    zs_store(&zs_slot_at(s, slot)->sequence, 0, ZS_RETIRE_STORE);
}

/* Take one lease on sequence `n` of this slot, as reader `index`.
 *
 * False: the slot has moved on between the moment its number was read and now. Not an error; the reader looks again. Its bit is
 * clear again, and it has not touched the payload, which may be in the middle of being rewritten.
 *
 * The caller holds no lease on this slot: the bit is one, and could not say of whom. */
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

/* End the lease of reader `index`. The payload may change from here on. Any thread. */
static inline void zs_slot_release(const zs_segment *s, uint32_t slot, uint32_t index)
{
    uint64_t *word = zs_slot_readers(s, slot) + index / 64;
    zs_fetch_and(word, ~(UINT64_C(1) << (index % 64)), ZS_RELEASE_RMW); /* SYNC space: pairs with zs_owner_block_begin */
}

#endif
