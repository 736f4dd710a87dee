/* SPDX-License-Identifier: Apache-2.0
 *
 * zeroslot.h - the whole core: publish and subscribe in shared memory that is already mapped and locked.
 *
 * Header-only, C11 and C++17. It never allocates, never raises and never takes a lock; whoever includes it maps the objects, holds
 * the file locks and serialises the calls as each function asks. See README.md in this folder and idl/FORMAT.md.
 */
#ifndef ZEROSLOT_H
#define ZEROSLOT_H

#include "zs_atomic.h"
#include "zs_futex.h"
#include "zs_layout.h"
#include "zs_peers.h"
#include "zs_ring.h"
#include "zs_slots.h"

/* Fill a new control object. `h` is complete but for what zs_layout_compute sets, `state` is stored last, by zs_segment_open. The
 * memory is zeroed and control_size bytes long. */
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

/* Describe pool `k`: `slot_count` slots of `slot_capacity` bytes that start with slot `first_slot`, in the object of this inode
 * number; 0 leaves it unsaid. Pools are added in order, also after the segment is open: a reader that finds a slot beyond those
 * that it knows looks at the table again. */
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
}

/* The segment is complete: attachers may enter. SYNC ready. */
static inline void zs_segment_open(zs_segment *s)
{
    zs_store(&s->header->state, ZS_OPEN, ZS_READY_STORE);
}

static inline uint32_t zs_segment_state(const zs_segment *s)
{
    return zs_load(&s->header->state, ZS_READY_LOAD); /* SYNC ready */
}

/* No more samples will come. Readers take what is there and stop waiting. */
static inline void zs_segment_end(zs_segment *s, enum zs_state state)
{
    zs_store(&s->header->state, (uint32_t)state, ZS_READY_STORE); /* SYNC ready */
    zs_bump_generation(s);
}

#endif
