/* SPDX-License-Identifier: Apache-2.0
 *
 * The owner's slots, and the two halves of a lease: bytes before and after each step. */
#include "world.h"

static uint64_t *readers_of(const world *w, uint32_t slot)
{
    return zs_slot_readers(&w->segment, slot);
}

static void reserve_loans_each_slot_once(void)
{
    const world_options options = {.depth = 2, .spare_slots = 5};
    world *w = world_make(&options);
    uint8_t seen[8] = {0};
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t slot = zs_owner_reserve(&w->owner, 0);
        CHECK(slot < 8 && !seen[slot]);
        seen[slot] = 1;
        CHECK_EQUAL(w->owner.state[slot], ZS_LOANED);
        CHECK_EQUAL(w->owner.held[slot], 1);
        CHECK_EQUAL(w->owner.loans_out, i + 1);
    }
    CHECK_EQUAL(zs_owner_reserve(&w->owner, 0), ZS_NO_SLOT);
    CHECK_EQUAL(w->owner.loans_out, 8);
    world_free(w);
}

static void discard_frees_the_slot_without_publishing(void)
{
    const world_options options = {.depth = 1};
    world *w = world_make(&options);
    uint32_t a = zs_owner_reserve(&w->owner, 0), b = zs_owner_reserve(&w->owner, 0);
    zs_owner_discard(&w->owner, a);
    CHECK_EQUAL(w->owner.state[a], ZS_RETIRED);
    CHECK_EQUAL(w->owner.loans_out, 1);
    CHECK_EQUAL(*w->segment.published, 0);
    CHECK_EQUAL(*w->segment.generation, 0);
    CHECK_EQUAL(zs_slot_at(&w->segment, a)->sequence, 0);
    CHECK_EQUAL(w->segment.counters->discarded, 1);
    CHECK_EQUAL(zs_owner_reserve(&w->owner, 0), ZS_NO_SLOT); /* the loan is still viewed */
    zs_owner_let_go(&w->owner, a);
    CHECK_EQUAL(zs_owner_reserve(&w->owner, 0), a);
    CHECK(a != b);
    world_free(w);
}

static void commit_writes_these_bytes(void)
{
    const world_options options = {.depth = 2, .first_sequence = 7};
    world *w = world_make(&options);
    zs_segment *s = &w->segment;
    uint32_t slot = zs_owner_reserve(&w->owner, 0);
    zs_slot *entry = zs_slot_at(s, slot);
    CHECK_EQUAL(zs_owner_commit(&w->owner, slot, 48, 123456), 7);
    CHECK_EQUAL(entry->sequence, 7);
    CHECK_EQUAL(entry->published_ns, 123456);
    CHECK_EQUAL(entry->size, 48);
    CHECK_EQUAL(entry->reference | entry->flags | entry->crc | entry->source_time_ns | entry->user_id, 0);
    CHECK_EQUAL(entry->readers[0], 0);
    CHECK_EQUAL(s->ring[7 & 3], UINT64_C(7) << 16 | slot);
    CHECK_EQUAL(s->ring[6 & 3], UINT64_C(6) << 16);
    CHECK_EQUAL(*s->published, 7);
    CHECK_EQUAL(*s->generation, 1);
    CHECK_EQUAL(s->counters->published, 1);
    CHECK_EQUAL(s->counters->bytes, 48);
    CHECK_EQUAL(s->counters->wakes, 0);
    CHECK_EQUAL(w->owner.state[slot], ZS_COMMITTED);
    CHECK_EQUAL(w->owner.loans_out, 0);
    world_free(w);
}

/* Commit n retires n - depth and no other sample. */
static void commit_keeps_exactly_the_depth(void)
{
    for (uint32_t depth = 1; depth <= 5; depth++) {
        const world_options options = {.depth = depth, .spare_slots = 3, .first_sequence = 100};
        world *w = world_make(&options);
        for (uint64_t n = 100; n < 150; n++) {
            uint32_t there = 0;
            CHECK_EQUAL(world_publish(w), n);
            for (uint32_t i = 0; i < w->slot_count; i++) {
                uint64_t sequence = zs_slot_at(&w->segment, i)->sequence;
                if (sequence == 0)
                    continue;
                there++;
                CHECK(sequence <= n && sequence + depth > n);
                CHECK_EQUAL(w->owner.state[i], ZS_COMMITTED);
            }
            CHECK_EQUAL(there, n - 100 + 1 < depth ? n - 100 + 1 : depth);
        }
        world_free(w);
    }
}

/* Loans can be committed in any order. */
static void loans_commit_in_any_order(void)
{
    const world_options options = {.depth = 2, .max_loans = 3};
    world *w = world_make(&options);
    for (int round = 0; round < 20; round++) {
        uint32_t loans[3];
        for (int i = 0; i < 3; i++)
            loans[i] = zs_owner_reserve(&w->owner, 0);
        for (int i = 2; i >= 0; i--) {
            CHECK(loans[i] != ZS_NO_SLOT);
            if ((round + i) % 4 == 0)
                zs_owner_discard(&w->owner, loans[i]);
            else
                zs_owner_commit(&w->owner, loans[i], 1, 1);
            zs_owner_let_go(&w->owner, loans[i]);
        }
        CHECK_EQUAL(w->owner.loans_out, 0);
    }
    world_free(w);
}

static void leased_slot_is_not_reused(void)
{
    const world_options options = {.depth = 1, .max_subscribers = 130};
    world *w = world_make(&options);
    uint32_t first, second;
    world_publish(w);
    first = (uint32_t)(w->segment.ring[1] & 0xffff);
    CHECK(zs_slot_lease(&w->segment, first, 129, 1));
    CHECK_EQUAL(readers_of(w, first)[0], 0);
    CHECK_EQUAL(readers_of(w, first)[1], 0);
    CHECK_EQUAL(readers_of(w, first)[2], 2);
    world_publish(w);
    CHECK_EQUAL(zs_slot_at(&w->segment, first)->sequence, 0); /* retired, and still read */
    CHECK_EQUAL(zs_owner_reserve(&w->owner, 0), ZS_NO_SLOT);
    zs_slot_release(&w->segment, first, 129);
    CHECK_EQUAL(readers_of(w, first)[2], 0);
    second = zs_owner_reserve(&w->owner, 0);
    CHECK_EQUAL(second, first);
    world_free(w);
}

/* Withheld slots become free when `withheld` is lowered, and retired slots can be withheld again. */
static void withheld_slots_are_not_reserved(void)
{
    const world_options options = {.depth = 1, .spare_slots = 3};
    world *w = world_make(&options);
    uint32_t slots[5];
    w->owner.pools[0].withheld = 2;
    for (int i = 0; i < 3; i++)
        slots[i] = zs_owner_reserve(&w->owner, 0);
    CHECK(slots[2] != ZS_NO_SLOT);
    CHECK_EQUAL(zs_owner_reserve(&w->owner, 0), ZS_NO_SLOT);
    CHECK(!zs_owner_withhold(&w->owner, 0)); /* all other slots are loaned */
    w->owner.pools[0].withheld = 1;
    slots[3] = zs_owner_reserve(&w->owner, 0);
    CHECK(slots[3] != ZS_NO_SLOT);
    CHECK_EQUAL(zs_owner_reserve(&w->owner, 0), ZS_NO_SLOT);
    zs_owner_discard(&w->owner, slots[0]);
    CHECK(!zs_owner_withhold(&w->owner, 0)); /* the loan is still viewed */
    zs_owner_let_go(&w->owner, slots[0]);
    CHECK(zs_owner_withhold(&w->owner, 0));
    CHECK_EQUAL(w->owner.state[slots[0]], ZS_FREE);
    CHECK_EQUAL(w->owner.pools[0].withheld, 2);
    CHECK_EQUAL(w->owner.pools[0].retired_count, 0);
    CHECK_EQUAL(zs_owner_reserve(&w->owner, 0), ZS_NO_SLOT);
    w->owner.pools[0].withheld = 0;
    CHECK_EQUAL(zs_owner_reserve(&w->owner, 0), slots[0]);
    slots[4] = zs_owner_reserve(&w->owner, 0);
    CHECK(slots[4] != ZS_NO_SLOT && slots[4] != slots[1] && slots[4] != slots[2] && slots[4] != slots[3]);
    CHECK_EQUAL(zs_owner_reserve(&w->owner, 0), ZS_NO_SLOT);
    world_free(w);
}

/* The pools are tried from the smallest slots that fit to the largest, in whatever order they were added. */
static void smallest_pool_with_a_free_slot_is_used(void)
{
    const world_options options = {.depth = 2, .later_slots = 2, .pool_limit = 3, .slot_capacity = 1024};
    world *w = world_make(&options);
    uint32_t slots[5];
    world_grow(w); /* 3 slots of 1024 bytes, then 2 of 2048 */
    CHECK_EQUAL(zs_owner_reserve_bytes(&w->owner, 2049), ZS_NO_SLOT);
    CHECK_EQUAL(zs_owner_reserve_bytes(&w->owner, UINT64_MAX), ZS_NO_SLOT);
    slots[0] = zs_owner_reserve_bytes(&w->owner, 1025);
    CHECK(slots[0] == 3 || slots[0] == 4);
    CHECK_EQUAL(w->segment.pools[0].passed_on, 0);
    for (int i = 1; i < 4; i++) {
        slots[i] = zs_owner_reserve_bytes(&w->owner, i == 1 ? 0 : 1024);
        CHECK(slots[i] < 3);
    }
    slots[4] = zs_owner_reserve_bytes(&w->owner, 1); /* of the larger ones */
    CHECK_EQUAL(slots[4], 7 - slots[0]);
    CHECK_EQUAL(w->segment.pools[0].passed_on, 1);
    CHECK_EQUAL(zs_owner_reserve_bytes(&w->owner, 1), ZS_NO_SLOT);
    zs_owner_commit(&w->owner, slots[4], 1, 1);
    CHECK_EQUAL(w->segment.pools[1].committed, 1);
    zs_owner_discard(&w->owner, slots[2]);
    zs_owner_let_go(&w->owner, slots[2]);
    CHECK_EQUAL(w->owner.pools[0].retired_count, 1);
    CHECK_EQUAL(w->owner.pools[1].retired_count, 0);
    CHECK_EQUAL(w->segment.pools[0].discarded, 1);
    CHECK_EQUAL(w->segment.pools[0].committed + w->segment.pools[1].discarded, 0);
    CHECK_EQUAL(zs_owner_reserve_bytes(&w->owner, 1025), ZS_NO_SLOT); /* never a slot that is too small */
    CHECK_EQUAL(zs_owner_reserve_bytes(&w->owner, 1), slots[2]);
    zs_owner_discard(&w->owner, slots[0]);
    zs_owner_let_go(&w->owner, slots[0]);
    CHECK_EQUAL(w->owner.pools[1].retired_count, 1);
    CHECK_EQUAL(w->segment.pools[1].discarded, 1);
    CHECK_EQUAL(zs_owner_reserve_bytes(&w->owner, 1025), slots[0]);
    world_free(w);
}

static void pools_are_ordered_by_capacity(void)
{
    const world_options options = {.depth = 2, .spare_slots = 40, .pool_limit = 16};
    const uint64_t capacities[] = {512, 4096, 128, 512, 65536};
    const uint32_t order[] = {2, 0, 3, 1, 4};
    world *w = world_make(&options);
    uint32_t first = 0;
    zs_owner_init(&w->owner, &w->segment, w->memory);
    for (uint32_t k = 0; k < 5; k++) {
        zs_owner_add_pool(&w->owner, 3 + k, capacities[k], w->payload + 1000 * k);
        CHECK_EQUAL(w->owner.pools[k].first_slot, first);
        for (uint32_t i = 0; i < 3 + k; i++)
            CHECK_EQUAL(w->owner.pool_of[first + i], k);
        CHECK((uint8_t *)zs_owner_payload(&w->owner, first + 2) == w->payload + 1000 * k + 2 * capacities[k]);
        first += 3 + k;
    }
    CHECK_EQUAL(w->owner.slot_count, first);
    for (int i = 0; i < 5; i++)
        CHECK(w->owner.by_capacity[i] == &w->owner.pools[order[i]]);
    CHECK(zs_owner_smallest_fit(&w->owner, 0) == &w->owner.pools[2]);
    CHECK(zs_owner_smallest_fit(&w->owner, 128) == &w->owner.pools[2]);
    CHECK(zs_owner_smallest_fit(&w->owner, 129) == &w->owner.pools[0]);
    CHECK(zs_owner_smallest_fit(&w->owner, 65536) == &w->owner.pools[4]);
    CHECK(zs_owner_smallest_fit(&w->owner, 65537) == NULL);
    world_free(w);
}

/* What is withheld of one pool is not replaced by slots of another. */
static void withheld_slots_are_those_of_their_pool(void)
{
    const world_options options = {.depth = 1, .spare_slots = 1, .later_slots = 2, .pool_limit = 2};
    world *w = world_make(&options);
    world_grow(w);
    CHECK(zs_owner_withhold(&w->owner, 1));
    CHECK(zs_owner_withhold(&w->owner, 1));
    CHECK(!zs_owner_withhold(&w->owner, 1));
    CHECK_EQUAL(w->owner.pools[0].withheld, 0);
    CHECK_EQUAL(zs_owner_reserve(&w->owner, 1), ZS_NO_SLOT);
    CHECK_EQUAL(zs_owner_reserve_bytes(&w->owner, 129), ZS_NO_SLOT);
    CHECK(zs_owner_reserve_bytes(&w->owner, 128) < 3);
    w->owner.pools[1].withheld = 1;
    CHECK(zs_owner_reserve_bytes(&w->owner, 129) >= 3);
    world_free(w);
}

/* No reader would ever clear a bit beyond max_subscribers. */
static void bits_beyond_max_subscribers_are_ignored(void)
{
    for (uint32_t subscribers = 63; subscribers <= 65; subscribers++) {
        const world_options options = {.depth = 1, .max_subscribers = subscribers};
        world *w = world_make(&options);
        uint32_t last = (subscribers - 1) / 64, first;
        uint64_t unused = subscribers % 64 ? UINT64_MAX << (subscribers % 64) : 0;
        world_publish(w);
        first = (uint32_t)(w->segment.ring[1] & 0xffff);
        readers_of(w, first)[last] = ~(UINT64_C(1) << ((subscribers - 1) % 64)); /* all bits but that of the last reader */
        world_publish(w);
        CHECK_EQUAL(zs_owner_reserve(&w->owner, 0), subscribers == 65 ? first : ZS_NO_SLOT);
        readers_of(w, first)[last] = unused;
        if (subscribers != 65)
            CHECK_EQUAL(zs_owner_reserve(&w->owner, 0), first);
        world_free(w);
    }
}

/* A lease succeeds only on the given sequence. A failed one leaves no bit, and changes no bit of another reader. */
static void failed_lease_changes_no_bits(void)
{
    const world_options options = {.depth = 2};
    world *w = world_make(&options);
    world_publish(w);
    uint32_t slot = (uint32_t)(w->segment.ring[1] & 0xffff);
    uint64_t *readers = readers_of(w, slot);
    *readers = 0x8;
    CHECK(!zs_slot_lease(&w->segment, slot, 0, 2));
    CHECK_EQUAL(*readers, 0x8);
    CHECK(zs_slot_lease(&w->segment, slot, 0, 1));
    CHECK_EQUAL(*readers, 0x9);
    zs_slot_retire(&w->segment, slot);
    CHECK_EQUAL(*readers, 0x9);
    CHECK(!zs_slot_lease(&w->segment, slot, 2, 1));
    CHECK_EQUAL(*readers, 0x9);
    zs_slot_release(&w->segment, slot, 3);
    CHECK_EQUAL(*readers, 0x1);
    world_free(w);
}

/* A commit stores all flags anew: a slot that is used again has none of those that its last sample had. */
static void commit_replaces_the_flags(void)
{
    const world_options options = {.depth = 1};
    world *w = world_make(&options);
    uint32_t slot = zs_owner_reserve(&w->owner, 0);
    zs_slot *entry = zs_slot_at(&w->segment, slot);
    zs_owner_place_flagged(&w->owner, slot, 8, 1, ZS_SLOT_CRC | ZS_SLOT_METADATA, 4711);
    zs_owner_retire_oldest(&w->owner);
    zs_owner_let_go(&w->owner, slot);
    CHECK_EQUAL(entry->flags, 3);
    CHECK_EQUAL(entry->crc, 4711);
    world_publish(w);
    CHECK_EQUAL(zs_owner_reserve(&w->owner, 0), slot);
    zs_owner_commit(&w->owner, slot, 8, 1);
    CHECK_EQUAL(entry->flags, 0);
    world_free(w);
}

/* A late reader may set its bit in a slot that is loaned again. */
static void late_bit_does_not_affect_commit(void)
{
    const world_options options = {.depth = 1};
    world *w = world_make(&options);
    world_publish(w);
    uint32_t old = (uint32_t)(w->segment.ring[1] & 0xffff);
    world_publish(w);
    CHECK_EQUAL(zs_owner_reserve(&w->owner, 0), old);
    *readers_of(w, old) |= 4; /* the first half of a late zs_slot_lease(…, 2, 1) */
    CHECK_EQUAL(zs_owner_commit(&w->owner, old, 8, 1), 3);
    zs_owner_let_go(&w->owner, old);
    CHECK(zs_slot_lease(&w->segment, old, 1, 3));
    CHECK_EQUAL(*readers_of(w, old), 6);
    *readers_of(w, old) &= ~UINT64_C(4); /* its second half */
    CHECK_EQUAL(*readers_of(w, old), 2);
    CHECK_EQUAL(zs_slot_at(&w->segment, old)->sequence, 3);
    world_free(w);
}

/* A slot is not loaned again while a view in the owner's process refers to it. */
static void slot_viewed_by_the_owner_is_not_reused(void)
{
    const world_options options = {.depth = 1, .spare_slots = 1};
    world *w = world_make(&options);
    uint32_t viewed = zs_owner_reserve(&w->owner, 0);
    zs_owner_commit(&w->owner, viewed, 1, 1);
    for (int i = 0; i < 10; i++) {
        uint32_t slot = zs_owner_reserve(&w->owner, 0);
        CHECK(slot != viewed && slot != ZS_NO_SLOT);
        zs_owner_commit(&w->owner, slot, 1, 1);
        zs_owner_let_go(&w->owner, slot);
    }
    zs_owner_let_go(&w->owner, viewed);
    uint32_t one = zs_owner_reserve(&w->owner, 0), other = zs_owner_reserve(&w->owner, 0);
    CHECK((one == viewed) != (other == viewed));
    world_free(w);
}

/* The owner uses its private copies only. */
static void owner_ignores_corrupt_shared_memory(void)
{
    const world_options options = {.depth = 2, .spare_slots = 2};
    world *w = world_make(&options);
    zs_segment *s = &w->segment;
    for (int round = 0; round < 50; round++) {
        world_publish(w);
        for (uint32_t i = 0; i < s->ring_capacity; i++)
            s->ring[i] = UINT64_MAX;
        *s->published = UINT64_MAX;
        s->header->depth = UINT32_MAX;
        s->header->slot_limit = UINT32_MAX;
        s->header->ring_capacity = 0;
        for (uint32_t i = 0; i < w->slot_count; i++) {
            zs_slot_at(s, i)->sequence = UINT64_MAX;
            zs_slot_at(s, i)->reference = zs_slot_at(s, i)->size = UINT64_MAX;
        }
    }
    CHECK_EQUAL(world_publish(w), 51);
    CHECK_EQUAL(w->owner.published, 51);
    world_free(w);
}

static void private_memory_is_enough_for_the_largest_segment(void)
{
    const world_options options = {.depth = 32767, .spare_slots = 32767, .slot_capacity = 8};
    world *w = world_make(&options);
    CHECK_EQUAL(w->slot_count, 65535);
    uint8_t *end = (uint8_t *)w->memory + zs_owner_memory(w->slot_count, w->segment.ring_capacity);
    CHECK(w->owner.pool_of + w->slot_count == end);
    for (int i = 0; i < 70000; i++)
        world_publish(w);
    CHECK_EQUAL(w->owner.published, 70000);
    world_free(w);
}

int main(void)
{
    RUN(reserve_loans_each_slot_once);
    RUN(discard_frees_the_slot_without_publishing);
    RUN(commit_writes_these_bytes);
    RUN(commit_replaces_the_flags);
    RUN(commit_keeps_exactly_the_depth);
    RUN(loans_commit_in_any_order);
    RUN(leased_slot_is_not_reused);
    RUN(bits_beyond_max_subscribers_are_ignored);
    RUN(withheld_slots_are_not_reserved);
    RUN(withheld_slots_are_those_of_their_pool);
    RUN(smallest_pool_with_a_free_slot_is_used);
    RUN(pools_are_ordered_by_capacity);
    RUN(failed_lease_changes_no_bits);
    RUN(late_bit_does_not_affect_commit);
    RUN(slot_viewed_by_the_owner_is_not_reused);
    RUN(owner_ignores_corrupt_shared_memory);
    RUN(private_memory_is_enough_for_the_largest_segment);
    return 0;
}
