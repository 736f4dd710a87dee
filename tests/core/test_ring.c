/* SPDX-License-Identifier: Apache-2.0
 *
 * Take and latest: order, laps, exact counts of lost samples, tags that wrap, and rings that no owner writes. */
static void step(void);
#define ZS_STEP() step()
#include "world.h"

static void (*on_step)(void);

static void step(void)
{
    void (*call)(void) = on_step;
    on_step = NULL; /* the function takes steps, too */
    if (call != NULL)
        call();
    on_step = call;
}

static void expect_sample(zs_reader *r, uint64_t sequence, uint64_t lost)
{
    uint32_t slot = ZS_NO_SLOT;
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED);
    CHECK_EQUAL(r->cursor, sequence);
    CHECK_EQUAL(zs_slot_at(r->segment, slot)->sequence, sequence);
    CHECK_EQUAL(r->lost, lost);
    CHECK_EQUAL(r->peer->lost, lost);
    CHECK_EQUAL(r->peer->cursor, sequence);
    CHECK_EQUAL(r->held[slot], 1);
    CHECK_EQUAL(zs_slot_readers(r->segment, slot)[r->index / 64] >> r->index % 64 & 1, 1);
    zs_reader_release(r, slot);
    CHECK_EQUAL(r->held[slot], 0);
    CHECK_EQUAL(zs_slot_readers(r->segment, slot)[r->index / 64] >> r->index % 64 & 1, 0);
}

static void expect_nothing(zs_reader *r)
{
    uint32_t slot = 7777;
    uint64_t cursor = r->cursor;
    CHECK(!zs_reader_ready(r));
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_NONE);
    CHECK_EQUAL(slot, 7777);
    CHECK_EQUAL(r->cursor, cursor);
}

static void tag_distances_are_modulo_2_48(void)
{
    const uint64_t top = UINT64_C(1) << 48;
    CHECK(zs_tag_distance(zs_tag(5, 0xffff), 5) == 0);
    CHECK(zs_tag_distance(zs_tag(5, 0xffff), 6) == -1);
    CHECK(zs_tag_distance(zs_tag(9, 0), 5) == 4);
    CHECK(zs_tag_distance(zs_tag(top, 1), top) == 0);
    CHECK(zs_tag_distance(zs_tag(top + 3, 1), top - 1) == 4);
    CHECK(zs_tag_distance(zs_tag(top - 1, 1), top + 3) == -4);
    CHECK(zs_tag_distance(zs_tag(0, 0), top / 2 - 1) == -(int64_t)(top / 2 - 1));
    CHECK(zs_tag_distance(zs_tag(top / 2 - 1, 0), 0) == (int64_t)(top / 2 - 1));
}

/* Near every power of two at which a counter or a tag may wrap: samples in order, then a lap with an exact count. */
static void samples_come_in_order_for_extreme_sequences(void)
{
    static const uint64_t firsts[] = {1,
                                      2,
                                      (UINT64_C(1) << 32) - 3,
                                      (UINT64_C(1) << 47) - 3,
                                      (UINT64_C(1) << 47),
                                      (UINT64_C(1) << 48) - 3,
                                      (UINT64_C(1) << 48),
                                      (UINT64_C(1) << 62) - 1};
    for (size_t f = 0; f < sizeof firsts / sizeof firsts[0]; f++)
        for (uint32_t depth = 1; depth <= 4; depth++) {
            const uint64_t first = firsts[f];
            const world_options options = {.depth = depth, .spare_slots = 4, .first_sequence = first};
            world *w = world_make(&options);
            zs_reader *r = world_join(w, 3, 4, 0, 0);
            CHECK_EQUAL(r->cursor, first - 1);
            expect_nothing(r); /* the ring is filled with the tag of first - 1 */
            for (uint64_t n = first; n < first + 10; n++) {
                CHECK_EQUAL(world_publish(w), n);
                CHECK(zs_reader_ready(r));
                expect_sample(r, n, 0);
                expect_nothing(r);
            }
            for (uint32_t i = 0; i < depth + 3; i++)
                world_publish(w);
            for (uint32_t i = 0; i < depth; i++)
                expect_sample(r, first + 13 + i, 3);
            expect_nothing(r);
            CHECK_EQUAL(r->taken + r->lost, 10 + depth + 3);
            world_free_reader(r);
            world_free(w);
        }
}

/* For every distance of the owner and the reader: taken + lost = published. */
static void every_lost_sample_is_counted(void)
{
    for (uint32_t depth = 1; depth <= 5; depth++)
        for (uint32_t ahead = 1; ahead < 40; ahead++) {
            const world_options options = {.depth = depth, .spare_slots = 4};
            world *w = world_make(&options);
            zs_reader *r = world_join(w, 0, 1, 0, 0);
            uint32_t there = ahead < depth ? ahead : depth;
            for (uint32_t i = 0; i < ahead; i++)
                world_publish(w);
            for (uint32_t i = 0; i < there; i++)
                expect_sample(r, ahead - there + 1 + i, ahead - there);
            expect_nothing(r);
            world_free_reader(r);
            world_free(w);
        }
}

static void sample_is_leased_once(void)
{
    const world_options options = {.depth = 4, .spare_slots = 4};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 0, 8, 0, 0);
    uint32_t a, b;
    world_publish(w);
    world_publish(w);
    CHECK_EQUAL(zs_reader_take(r, &a), ZS_TAKE_LEASED);
    CHECK_EQUAL(zs_reader_take(r, &b), ZS_TAKE_LEASED);
    CHECK(a != b);
    CHECK_EQUAL(zs_reader_take(r, &a), ZS_TAKE_NONE);
    CHECK_EQUAL(zs_reader_latest(r, &a), ZS_TAKE_NONE);
    CHECK_EQUAL(zs_reader_leases(r), 2);
    CHECK_EQUAL(r->peer->leases, 2);
    world_free_reader(r);
    world_free(w);
}

static void take_beyond_max_leases_changes_nothing(void)
{
    const world_options options = {.depth = 4, .spare_slots = 4};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 0, 2, 0, 0);
    uint32_t slots[3] = {0, 0, 7777};
    for (int i = 0; i < 3; i++)
        world_publish(w);
    CHECK_EQUAL(zs_reader_take(r, &slots[0]), ZS_TAKE_LEASED);
    CHECK_EQUAL(zs_reader_take(r, &slots[1]), ZS_TAKE_LEASED);
    CHECK_EQUAL(zs_reader_take(r, &slots[2]), ZS_TAKE_TOO_MANY);
    CHECK_EQUAL(zs_reader_latest(r, &slots[2]), ZS_TAKE_TOO_MANY);
    CHECK_EQUAL(slots[2], 7777);
    CHECK_EQUAL(r->cursor, 2);
    zs_reader_release(r, slots[0]);
    CHECK_EQUAL(zs_reader_take(r, &slots[2]), ZS_TAKE_LEASED);
    CHECK_EQUAL(r->cursor, 3);
    CHECK_EQUAL(r->lost, 0);
    world_free_reader(r);
    world_free(w);
}

static void evicted_reader_takes_no_more(void)
{
    const world_options options = {.depth = 4};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 1, 2, 0, 0);
    uint32_t slot;
    world_publish(w);
    w->segment.evicted[1] = r->epoch;
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_EVICTED);
    CHECK_EQUAL(zs_reader_latest(r, &slot), ZS_TAKE_EVICTED);
    CHECK_EQUAL(r->cursor, 0);
    zs_reader_join(r, &world_identity, 1, ZS_AFTER_HISTORY); /* another epoch at the same index, which is not evicted */
    expect_sample(r, 1, 0);
    world_free_reader(r);
    world_free(w);
}

static void latest_counts_skipped_samples(void)
{
    const world_options options = {.depth = 2, .spare_slots = 4};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 0, 4, 0, 0);
    uint32_t slot;
    CHECK_EQUAL(zs_reader_latest(r, &slot), ZS_TAKE_NONE);
    for (int i = 0; i < 10; i++)
        world_publish(w);
    CHECK_EQUAL(zs_reader_latest(r, &slot), ZS_TAKE_LEASED);
    CHECK_EQUAL(r->cursor, 10);
    CHECK_EQUAL(r->skipped, 9); /* includes samples that could no longer be taken */
    CHECK_EQUAL(r->peer->skipped, 9);
    CHECK_EQUAL(r->lost, 0);
    CHECK_EQUAL(zs_reader_latest(r, &slot), ZS_TAKE_NONE);
    world_publish(w);
    CHECK_EQUAL(zs_reader_latest(r, &slot), ZS_TAKE_LEASED);
    CHECK_EQUAL(r->skipped, 9);
    for (int i = 0; i < 5; i++)
        world_publish(w);
    expect_sample(r, 15, 3);
    CHECK_EQUAL(zs_reader_latest(r, &slot), ZS_TAKE_LEASED);
    CHECK_EQUAL(r->cursor, 16);
    CHECK_EQUAL(r->skipped, 9);
    CHECK_EQUAL(r->taken + r->lost + r->skipped, 16);
    world_free_reader(r);
    world_free(w);
}

/* The state between the owner's store into the ring and its store of `published`, which remains if the owner dies there. */
static void latest_accepts_published_one_behind_the_ring(void)
{
    const world_options options = {.depth = 2};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 0, 4, 0, 0);
    uint32_t slot;
    world_publish(w);
    world_publish(w);
    *w->segment.published = 1;
    expect_sample(r, 1, 0);
    expect_sample(r, 2, 0);
    CHECK_EQUAL(zs_reader_latest(r, &slot), ZS_TAKE_NONE);
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_NONE);
    *w->segment.published = 2;
    CHECK_EQUAL(zs_reader_latest(r, &slot), ZS_TAKE_NONE);
    world_free_reader(r);
    world_free(w);
}

/* --- an owner that is faster than the reader ---------------------------------------------------------------------------------- */

static world *fast_owner;
static zs_reader *slow_reader;
static uint64_t last_cursor;
static int laps;
static int tries_of_newest;

/* Before each step of the reader the owner replaces all samples. `published` is always a multiple of the depth, 4, so the cursor
 * before the oldest sample is a multiple as well, and the cursor before the newest is not: that tells which of them a lap tries. */
static void replace_all_samples(void)
{
    if (slow_reader->cursor != last_cursor) {
        last_cursor = slow_reader->cursor;
        tries_of_newest += last_cursor % 4 == 3;
        laps += tries_of_newest == 0;
    }
    if (tries_of_newest > 3)
        return; /* enough: let the reader succeed */
    for (int i = 0; i < 4; i++)
        world_publish(fast_owner);
}

static void take_tries_the_newest_sample_after_64_laps(void)
{
    const world_options options = {.depth = 4, .spare_slots = 4};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 0, 1, 0, 0);
    uint32_t slot;
    fast_owner = w, slow_reader = r;
    replace_all_samples();
    on_step = replace_all_samples;
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED);
    on_step = NULL;
    CHECK_EQUAL(laps, ZS_MAX_LAPS);
    CHECK(tries_of_newest > 3);
    CHECK_EQUAL(r->cursor % 4, 0); /* the newest */
    CHECK_EQUAL(r->cursor, w->owner.published);
    CHECK_EQUAL(r->taken + r->lost, r->cursor); /* the count is exact */
    world_free_reader(r);
    world_free(w);
}

/* --- rings that no owner writes ----------------------------------------------------------------------------------------------- */

static void ring_entry_beyond_the_slot_table_is_corrupt(void)
{
    const world_options options = {.depth = 2};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 0, 4, 0, 0);
    uint32_t slot;
    world_publish(w);
    for (uint32_t named = w->slot_count; named <= 0xffff; named += named < w->slot_count + 3 ? 1 : 997) {
        w->segment.ring[1] = zs_tag(1, named);
        CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_CORRUPT);
        CHECK_EQUAL(zs_reader_latest(r, &slot), ZS_TAKE_CORRUPT);
    }
    CHECK_EQUAL(r->cursor, 0);
    CHECK_EQUAL(zs_reader_leases(r), 0);
    world_free_reader(r);
    world_free(w);
}

/* A pool that the owner has added: a take changes nothing, and succeeds once the pool is mapped. */
static void sample_in_unmapped_pool_is_taken_once_mapped(void)
{
    const world_options options = {.depth = 4, .spare_slots = 2, .policy = ZS_BLOCK, .pool_limit = 2};
    world *w = world_make(&options);
    zs_segment *s = &w->segment;
    zs_reader *r = world_join(w, 1, 4, 1, 0);
    uint32_t slot, generation = *s->pool_generation;
    s->pools[0].slot_count = r->slot_count = 3;
    for (int i = 0; i < 3; i++) {
        world_publish(w);
        CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED);
        CHECK(slot < 3);
    }
    world_publish(w);
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_UNMAPPED);
        CHECK_EQUAL(zs_reader_latest(r, &slot), ZS_TAKE_UNMAPPED);
        CHECK(zs_reader_ready(r));
        CHECK_EQUAL(*zs_slot_readers(s, 3), 0);
        CHECK_EQUAL(r->peer->cursor, 3);
        CHECK_EQUAL(zs_reader_leases(r), 3);
    }
    zs_segment_add_pool(s, 1, 3, w->slot_count - 3, 256, 0);
    CHECK_EQUAL(*s->pool_generation, generation + 1);
    CHECK_EQUAL(s->pools[1].first_slot, 3);
    CHECK_EQUAL(s->pools[1].state, 1);
    r->slot_count = w->slot_count;
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED);
    CHECK_EQUAL(slot, 3);
    CHECK_EQUAL(r->cursor, 4);
    CHECK_EQUAL(r->lost + r->skipped, 0);
    world_free_reader(r);
    world_free(w);
}

/* The owner has removed the pool before the reader mapped it. */
static void sample_of_removed_pool_is_lost(void)
{
    const world_options options = {.depth = 4};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 0, 4, 0, 0);
    uint32_t slot;
    for (int i = 0; i < 3; i++)
        world_publish(w);
    zs_reader_lose(r, 1);
    CHECK_EQUAL(r->cursor, 1);
    CHECK_EQUAL(r->peer->lost, 1);
    zs_reader_lose(r, 3);
    CHECK_EQUAL(r->peer->cursor, 3);
    CHECK_EQUAL(r->peer->lost, 2);
    CHECK_EQUAL(r->peer->skipped, 1);
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_NONE);
    world_free_reader(r);
    world_free(w);
}

/* Entries of a later version, with unknown members before `readers` and after it. */
static void longer_slot_and_peer_entries_are_read(void)
{
    const world_options options = {.depth = 2, .spare_slots = 2, .max_subscribers = 70, .longer_by = 192};
    world *w = world_make(&options);
    zs_segment *s = &w->segment;
    zs_reader *r = world_join(w, 69, 4, 0, 0);
    CHECK_EQUAL(s->slot_size, 128 + 192);
    CHECK_EQUAL(s->readers_at, 56 + 192);
    CHECK_EQUAL(s->peer_size, 768 + 192);
    for (uint32_t i = 0; i < w->slot_count; i++)
        memset((uint8_t *)zs_slot_at(s, i) + 56, 0xff, 192);
    CHECK_EQUAL(zs_peer_at(s, 69)->max_leases, 4);
    for (uint64_t n = 1; n < 20; n++) {
        CHECK_EQUAL(world_publish(w), n);
        expect_sample(r, n, 0);
    }
    for (uint32_t i = 0; i < w->slot_count; i++)
        for (int at = 56; at < 56 + 192; at++)
            CHECK_EQUAL(((uint8_t *)zs_slot_at(s, i))[at], 0xff);
    world_free_reader(r);
    world_free(w);
}

/* The histogram and the maximum. */
static void latencies_are_counted(void)
{
    const world_options options = {0};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 0, 1, 0, 0);
    static const uint64_t ages[] = {3, 100, 100, 5000, 90};
    for (size_t i = 0; i < sizeof ages / sizeof *ages; i++)
        zs_reader_count_latency(r, ages[i]);
    CHECK_EQUAL(r->peer->latency[0], 1);
    CHECK_EQUAL(r->peer->latency[zs_latency_bucket(100)], 2);
    CHECK_EQUAL(r->peer->latency[zs_latency_bucket(90)], 1);
    CHECK_EQUAL(r->peer->latency[zs_latency_bucket(5000)], 1);
    CHECK_EQUAL(r->peer->latency_max_ns, 5000);
    world_free_reader(r);
    world_free(w);
}

/* One bit stands for one lease: the release of the first would end a second one. */
static void ring_entry_of_a_leased_slot_is_corrupt(void)
{
    const world_options options = {.depth = 2};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 2, 4, 0, 0);
    uint32_t slot, again;
    world_publish(w);
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED);
    world_publish(w);
    zs_slot_at(&w->segment, slot)->sequence = 2;
    w->segment.ring[2] = zs_tag(2, slot);
    CHECK_EQUAL(zs_reader_take(r, &again), ZS_TAKE_CORRUPT);
    CHECK_EQUAL(*zs_slot_readers(&w->segment, slot), 4); /* the older lease is intact */
    CHECK_EQUAL(r->held[slot], 1);
    CHECK_EQUAL(zs_reader_leases(r), 1);
    zs_reader_release(r, slot);
    CHECK_EQUAL(zs_reader_take(r, &again), ZS_TAKE_LEASED);
    world_free_reader(r);
    world_free(w);
}

static void lap_without_progress_is_corrupt(void)
{
    const world_options options = {.depth = 2};
    world *w = world_make(&options);
    zs_segment *s = &w->segment;
    zs_reader *r = world_join(w, 0, 4, 0, 0);
    uint32_t slot;
    s->ring[1] = zs_tag(5, 0); /* a newer tag, although nothing newer was published */
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_CORRUPT);
    *s->published = 2; /* two samples, both among the newest `depth` */
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_CORRUPT);
    s->ring[1] = zs_tag(1, 0); /* the right tag, for a slot that has another sequence */
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_CORRUPT);
    CHECK_EQUAL(*zs_slot_readers(s, 0), 0);
    CHECK_EQUAL(zs_reader_latest(r, &slot), ZS_TAKE_CORRUPT); /* the ring entry of `published` is older */
    CHECK_EQUAL(r->cursor, 0);
    CHECK_EQUAL(r->lost, 0);
    CHECK_EQUAL(zs_reader_leases(r), 0);
    world_free_reader(r);
    world_free(w);
}

/* One flipped bit in a tag or in `published` before the owner seals: each sample is taken or counted as lost, or the segment is
 * reported as corrupt. */
static void flipped_bit_loses_no_sample_uncounted(void)
{
    const world_options options = {.depth = 4, .spare_slots = 2, .first_sequence = 1000};
    int counted = 0, corrupt = 0, harmless = 0;
    for (uint32_t taken = 0; taken <= 4; taken++)
        for (uint32_t word = 0; word <= 4; word++)
            for (int bit = word == 4 ? 0 : 16; bit < 64; bit++) {
                world *w = world_make(&options);
                zs_reader *r = world_join(w, 0, 1, 0, 0);
                enum zs_take result = ZS_TAKE_NONE;
                uint32_t slot;
                for (int i = 0; i < 4; i++)
                    world_publish(w);
                for (uint32_t i = 0; i < taken; i++) {
                    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED);
                    zs_reader_release(r, slot);
                }
                *(word == 4 ? w->segment.published : &w->segment.ring[zs_ring_index(&w->segment, 1000 + word)]) ^= UINT64_C(1) << bit;
                zs_segment_end(&w->segment, ZS_SEALED);
                do {
                    while (zs_reader_ready(r) && (result = zs_reader_take(r, &slot)) == ZS_TAKE_LEASED)
                        zs_reader_release(r, slot);
                    if (result != ZS_TAKE_CORRUPT)
                        result = zs_reader_finish(r);
                } while (result != ZS_TAKE_CORRUPT && zs_reader_ready(r));
                if (result != ZS_TAKE_CORRUPT) {
                    CHECK_EQUAL(r->taken + r->lost, 4);
                    CHECK_EQUAL(r->peer->lost, r->lost);
                    CHECK(r->lost <= 1);
                }
                corrupt += result == ZS_TAKE_CORRUPT;
                counted += result != ZS_TAKE_CORRUPT && r->lost == 1;
                harmless += result != ZS_TAKE_CORRUPT && r->lost == 0;
                world_free_reader(r);
                world_free(w);
            }
    CHECK(corrupt > 0 && counted > 0 && harmless > 0);
}

/* For any content of the shared words, take and latest return, and lease only slots that exist and are not leased already. */
static void take_returns_for_any_bytes(void)
{
    const world_options options = {.depth = 2, .spare_slots = 2};
    world *w = world_make(&options);
    zs_segment *s = &w->segment;
    uint64_t random = 88172645463325252u;
    for (int round = 0; round < 30000; round++) {
        zs_reader *r;
        world_fill(w, &options);
        r = world_join(w, 0, 3, 0, 0);
        for (int i = 0; i < round % 7; i++)
            world_publish(w);
        for (int k = 0; k < 1 + round % 3; k++) {
            uint64_t *words[] = {s->published, &s->ring[round / 8 % s->ring_capacity], &zs_slot_at(s, (uint32_t)round / 4 % w->slot_count)->sequence,
                                 zs_slot_readers(s, 0)};
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            *words[random % 4] ^= round % 2 ? UINT64_C(1) << (random >> 58) : random;
        }
        for (int i = 0; i < 6; i++) {
            uint32_t slot = UINT32_MAX;
            enum zs_take result = i % 3 == 2 ? zs_reader_latest(r, &slot) : zs_reader_take(r, &slot);
            CHECK(result <= ZS_TAKE_CORRUPT);
            if (result == ZS_TAKE_LEASED) {
                CHECK(slot < w->slot_count);
                CHECK_EQUAL(r->held[slot], 1);
                CHECK(zs_reader_leases(r) <= 3);
            }
        }
        world_free_reader(r);
    }
    world_free(w);
}

int main(void)
{
    RUN(tag_distances_are_modulo_2_48);
    RUN(samples_come_in_order_for_extreme_sequences);
    RUN(every_lost_sample_is_counted);
    RUN(sample_is_leased_once);
    RUN(take_beyond_max_leases_changes_nothing);
    RUN(evicted_reader_takes_no_more);
    RUN(latest_counts_skipped_samples);
    RUN(latest_accepts_published_one_behind_the_ring);
    RUN(take_tries_the_newest_sample_after_64_laps);
    RUN(ring_entry_beyond_the_slot_table_is_corrupt);
    RUN(sample_in_unmapped_pool_is_taken_once_mapped);
    RUN(sample_of_removed_pool_is_lost);
    RUN(longer_slot_and_peer_entries_are_read);
    RUN(latencies_are_counted);
    RUN(ring_entry_of_a_leased_slot_is_corrupt);
    RUN(lap_without_progress_is_corrupt);
    RUN(flipped_bit_loses_no_sample_uncounted);
    RUN(take_returns_for_any_bytes);
    return 0;
}
