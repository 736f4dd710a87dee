/* SPDX-License-Identifier: Apache-2.0
 *
 * world.h - a segment in anonymous shared memory with its owner and readers, for the programs that test the core.
 *
 * All members are accessible, so tests can check the bytes. The memory is MAP_SHARED, so forked processes share it.
 */
#ifndef WORLD_H
#define WORLD_H

#include <string.h>
#include <sys/mman.h>

#include "check.h"
#include "zeroslot.h"

/* The value in a comment is used for 0. */
typedef struct world_options {
    uint32_t depth;            /* 2 */
    uint32_t max_loans;        /* 1 */
    uint32_t spare_slots;
    uint32_t max_subscribers;  /* 4 */
    uint64_t first_sequence;   /* 1 */
    uint64_t slot_capacity;    /* 128 */
    uint32_t reserve_slots;
    uint32_t pool_limit;       /* 1 */
    uint32_t later_slots;      /* slots of the pool that world_grow adds */
    uint32_t longer_by;        /* bytes, a multiple of 64, by which slot and peer entries are longer than in this version */
    uint32_t policy;
    int no_references;         /* an owner that does not close references */
} world_options;

typedef struct world {
    zs_header header;
    zs_segment segment;
    zs_owner owner;
    void *control;
    uint8_t *payload;
    void *memory;
    uint64_t slot_capacity;
    uint32_t slot_count;       /* of all pools */
} world;

static inline void *world_map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

/* Create the segment. If the world has one already, of the same options, its memory is zeroed and used again. */
static inline void world_fill(world *w, const world_options *options)
{
    uint64_t magic;
    zs_header *h = &w->header;
    memset(h, 0, sizeof *h);
    memcpy(h->magic, zs_magic, sizeof zs_magic);
    h->format = ZS_FORMAT;
    h->segment_id = UINT64_C(0x0123456789abcdef);
    h->depth = options->depth ? options->depth : 2;
    h->max_loans = options->max_loans ? options->max_loans : 1;
    h->spare_slots = options->spare_slots;
    h->reserve_slots = options->reserve_slots;
    h->slot_limit = h->depth + h->max_loans + h->spare_slots + h->reserve_slots + options->later_slots;
    h->pool_limit = options->pool_limit ? options->pool_limit : 1;
    h->max_subscribers = options->max_subscribers ? options->max_subscribers : 4;
    h->first_sequence = options->first_sequence ? options->first_sequence : 1;
    h->policy = options->policy;
    h->compat = options->no_references ? 0 : ZS_COMPAT_REFERENCES;
    zs_layout_compute(h);
    if (options->longer_by) {
        uint64_t next = h->header_size;
        h->slot_size += options->longer_by, h->readers_at += options->longer_by, h->peer_size += options->longer_by;
        for (int i = 0; i < ZS_SECTION_COUNT; i++) {
            h->section_at[i] = next;
            next = zs_round_up(next + zs_section_size(h, i), ZS_ALIGN);
        }
        h->control_size = next;
    }
    CHECK_EQUAL(zs_header_check(h, h->control_size), ZS_CHECK_OK);
    w->slot_count = h->slot_limit - options->later_slots;
    w->slot_capacity = options->slot_capacity ? options->slot_capacity : ZS_SLOT_ALIGN;
    if (w->control == NULL) {
        w->control = world_map(h->control_size);
        w->payload = (uint8_t *)world_map(w->slot_capacity * h->slot_limit);
        w->memory = calloc(1, zs_owner_memory(h->slot_limit, h->ring_capacity));
        CHECK(w->memory != NULL);
    } else {
        memset(w->control, 0, h->control_size);
        memset(w->memory, 0, zs_owner_memory(h->slot_limit, h->ring_capacity));
    }
    zs_segment_create(&w->segment, w->control, h);
    zs_segment_add_pool(&w->segment, 0, 0, w->slot_count, w->slot_capacity, 0);
    zs_segment_open(&w->segment);
    zs_owner_init(&w->owner, &w->segment, w->memory);
    zs_owner_add_pool(&w->owner, w->slot_count, w->slot_capacity, w->payload);
    memcpy(&magic, w->control, sizeof magic);
    CHECK_EQUAL(magic, UINT64_C(0x0a0d544f4c535a89));
}

static inline world *world_make(const world_options *options)
{
    world *w = (world *)calloc(1, sizeof *w);
    CHECK(w != NULL);
    world_fill(w, options);
    return w;
}

static inline void world_free(world *w)
{
    munmap(w->control, w->header.control_size);
    munmap(w->payload, w->slot_capacity * w->header.slot_limit);
    free(w->memory);
    free(w);
}

/* Set all members of a reader but `held`, which it keeps, to those of one that has not joined. */
static inline void world_reset_reader(world *w, zs_reader *r, uint32_t index, uint32_t max_leases, int reliable)
{
    uint32_t *held = r->held;
    uint64_t *redeemed = r->redeemed;
    memset(r, 0, sizeof *r);
    memset(held, 0, w->header.slot_limit * sizeof *held);
    r->segment = &w->segment;
    r->peer = zs_peer_at(&w->segment, index);
    r->index = index;
    r->max_leases = max_leases;
    r->reliable = (uint32_t)reliable;
    r->slot_count = w->slot_count;
    r->held = held;
    r->redeemed = redeemed;
}

/* A reader that has not joined. */
static inline zs_reader *world_reader(world *w, uint32_t index, uint32_t max_leases, int reliable)
{
    zs_reader *r = (zs_reader *)calloc(1, sizeof *r);
    CHECK(r != NULL);
    r->held = (uint32_t *)calloc(w->header.slot_limit, sizeof *r->held);
    r->redeemed = (uint64_t *)calloc(w->header.slot_limit, sizeof *r->redeemed);
    CHECK(r->held != NULL && r->redeemed != NULL);
    world_reset_reader(w, r, index, max_leases, reliable);
    return r;
}

/* Whether a counter is one that nothing but inspection reads: those of the owner and of its pools. */
static inline int world_is_for_inspection(const zs_segment *s, const uint64_t *counter)
{
    uintptr_t at = (uintptr_t)counter, counters = (uintptr_t)s->counters, pools = (uintptr_t)s->pools;
    return (at >= counters && at < counters + ZS_COUNTERS_SIZE) || (at >= pools && at < pools + s->pool_limit * ZS_POOL_SIZE);
}

static const zs_identity world_identity = {4711, 42, "reader", 0, 0};

static inline zs_reader *world_join(world *w, uint32_t index, uint32_t max_leases, int reliable, uint32_t history)
{
    zs_reader *r = world_reader(w, index, max_leases, reliable);
    zs_reader_join(r, &world_identity, history, ZS_AFTER_HISTORY);
    return r;
}

static inline void world_free_reader(zs_reader *r)
{
    free(r->held);
    free(r->redeemed);
    free(r);
}

/* Publish one sample, and drop the owner's reference to its slot. */
static inline uint64_t world_publish(world *w)
{
    uint32_t slot = zs_owner_reserve(&w->owner, 0);
    uint64_t n;
    CHECK(slot != ZS_NO_SLOT);
    n = zs_owner_commit(&w->owner, slot, 8, 1000 + w->owner.published);
    zs_owner_let_go(&w->owner, slot);
    return n;
}

/* Add a pool of the later slots, of twice the capacity. Each of its slots still has the memory of one of the first pool. */
static inline void world_grow(world *w)
{
    uint32_t more = w->header.slot_limit - w->slot_count;
    zs_segment_add_pool(&w->segment, 1, w->slot_count, more, 2 * w->slot_capacity, 0);
    zs_owner_add_pool(&w->owner, more, 2 * w->slot_capacity, w->payload + w->slot_count * w->slot_capacity);
    w->slot_count += more;
}

/* Loan every slot that can be loaned, and discard them. */
static inline void world_use_every_slot(world *w)
{
    uint32_t slots[64], count = 0;
    while ((slots[count] = zs_owner_reserve(&w->owner, 0)) != ZS_NO_SLOT)
        count++;
    while (count > 0) {
        zs_owner_discard(&w->owner, slots[--count]);
        zs_owner_let_go(&w->owner, slots[count]);
    }
}

/* The payload of a slot. */
static inline uint64_t *world_words(const world *w, uint32_t slot)
{
    return (uint64_t *)(void *)(w->payload + w->slot_capacity * slot);
}

#endif
