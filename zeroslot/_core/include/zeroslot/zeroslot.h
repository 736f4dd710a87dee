/* SPDX-License-Identifier: Apache-2.0
 *
 * zeroslot.h - the whole core: publish and subscribe in shared memory that is already mapped and locked.
 *
 * Header-only, C11 and C++17. No function allocates memory, reports an error other than by its result, or takes a lock. The
 * including program maps the objects, holds the file locks and serialises the calls as each function requires.
 * zeroslot/_core/README.md has an example and the reasons for each memory order, idl/FORMAT.md the format.
 */
#ifndef ZEROSLOT_H
#define ZEROSLOT_H

#include "zs_atomic.h"
#include "zs_batch.h"
#include "zs_copy.h"
#include "zs_crc.h"
#include "zs_futex.h"
#include "zs_layout.h"
#include "zs_peers.h"
#include "zs_ring.h"
#include "zs_slots.h"
#include "zs_strided.h"
#include "zs_tickets.h"

/* Fill a new control object of control_size zeroed bytes, and bind the segment to it. `h` has been through zs_layout_compute. The
 * state is ZS_CREATING until zs_segment_open. Callable by the owner only. */
static inline void zs_segment_create(zs_segment *s, void *control, const zs_header *h)
{
    zs_header written = *h;
    written.state = ZS_CREATING;
    memcpy(control, &written, sizeof written);
    zs_segment_bind(s, control, h);
    zs_store(s->published, h->first_sequence - 1, ZS_RELAXED);
    for (uint32_t i = 0; i < s->ring_capacity; i++)
        zs_store(&s->ring[i], zs_tag(h->first_sequence - 1, 0), ZS_RELAXED);
}

/* Open the segment, after its pools have been described: readers may attach. Callable by the owner only. SYNC ready. */
static inline void zs_segment_open(zs_segment *s)
{
    zs_store(&s->header->state, ZS_OPEN, ZS_READY_STORE);
}

/* The state, an enum zs_state. ZS_OPEN: everything that was written before zs_segment_open is visible. Callable by any thread. */
static inline uint32_t zs_segment_state(const zs_segment *s)
{
    return zs_load(&s->header->state, ZS_READY_LOAD); /* SYNC ready */
}

/* Describe pool `k`: `slot_count` slots of `slot_capacity` bytes, numbered from `first_slot`, in the object with this inode number
 * (0: not known). Callable by the owner only, in the order of the pools, also after the segment is open: a reader that meets a slot
 * beyond the pools that it has mapped reads the table again. Readers that sleep are woken, so that they map the pool now: once the
 * owner has ended, they cannot. zs_owner_add_pool follows, once the owner is initialised. */
static inline void zs_segment_add_pool(zs_segment *s, uint32_t k, uint32_t first_slot, uint32_t slot_count,
                                       uint64_t slot_capacity, uint64_t inode)
{
    zs_pool *pool = &s->pools[k];
    pool->slot_capacity = slot_capacity;
    pool->first_slot = first_slot;
    pool->slot_count = slot_count;
    pool->inode = inode;
    zs_store(&pool->state, 1, ZS_RELEASE);
    zs_fetch_add(s->pool_generation, 1, ZS_RELEASE);
    if (zs_segment_state(s) == ZS_OPEN)
        zs_bump_generation(s);
}

/* End the segment: no more samples will come. Readers take the samples that remain and stop waiting. `state` is ZS_SEALED, by the
 * owner, or ZS_DEAD, by a process that has found the owner dead. */
static inline void zs_segment_end(zs_segment *s, enum zs_state state)
{
    zs_store(&s->header->state, (uint32_t)state, ZS_READY_STORE); /* SYNC ready */
    zs_bump_generation(s);
}

#endif
