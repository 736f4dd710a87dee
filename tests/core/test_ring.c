/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking from the ring: order, laps, loss counted exactly, wrapping tags, and rings that no owner writes. */
static void step(void);
#define ZS_STEP() step()
#include "world.h"

static void (*on_step)(void);

static void step(void)
{
    void (*call)(void) = on_step;
    on_step = NULL; /* what it does takes steps of its own */
    if (call != NULL)
        call();
    on_step = call;
}

static void expect(zs_reader *r, uint64_t sequence, uint64_t lost)
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

/* The same life at every edge that a counter has: everything in order, then a lap with an exact count. */
static void samples_come_in_order_at_every_edge(void)
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
            expect_nothing(r); /* the ring is filled with the tag before the first */
            for (uint64_t n = first; n < first + 10; n++) {
                CHECK_EQUAL(world_publish(w), n);
                CHECK(zs_reader_ready(r));
                expect(r, n, 0);
                expect_nothing(r);
            }
            for (uint32_t i = 0; i < depth + 3; i++)
                world_publish(w);
            for (uint32_t i = 0; i < depth; i++)
                expect(r, first + 13 + i, 3);
            expect_nothing(r);
            CHECK_EQUAL(r->taken + r->lost, 10 + depth + 3);
            world_forget(r);
            world_end(w);
        }
}

/* However far the owner is ahead, got + lost = published. */
static void every_lap_is_counted_exactly(void)
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
                expect(r, ahead - there + 1 + i, ahead - there);
            expect_nothing(r);
            world_forget(r);
            world_end(w);
        }
}

static void a_sample_is_leased_once(void)
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
    world_forget(r);
    world_end(w);
}

static void too_many_leases_are_refused_and_change_nothing(void)
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
    world_forget(r);
    world_end(w);
}

static void an_evicted_reader_takes_no_more(void)
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
    zs_reader_join(r, &world_someone, 1, ZS_AFTER_HISTORY); /* a new life at the same index is not the one that was ended */
    expect(r, 1, 0);
    world_forget(r);
    world_end(w);
}

static void latest_jumps_and_counts_what_it_skipped(void)
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
    CHECK_EQUAL(r->skipped, 9); /* also what was no longer there: it was not wanted */
    CHECK_EQUAL(r->peer->skipped, 9);
    CHECK_EQUAL(r->lost, 0);
    CHECK_EQUAL(zs_reader_latest(r, &slot), ZS_TAKE_NONE);
    world_publish(w);
    CHECK_EQUAL(zs_reader_latest(r, &slot), ZS_TAKE_LEASED);
    CHECK_EQUAL(r->skipped, 9);
    for (int i = 0; i < 5; i++)
        world_publish(w);
    expect(r, 15, 3);
    CHECK_EQUAL(zs_reader_latest(r, &slot), ZS_TAKE_LEASED);
    CHECK_EQUAL(r->cursor, 16);
    CHECK_EQUAL(r->skipped, 9);
    CHECK_EQUAL(r->taken + r->lost + r->skipped, 16);
    world_forget(r);
    world_end(w);
}

/* An owner that stands between its store into the ring and its store of `published`: what take gave is not newer than what
 * latest may see, only earlier. Also how an owner leaves the segment that dies there. */
static void latest_bears_a_published_that_trails_the_ring(void)
{
    const world_options options = {.depth = 2};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 0, 4, 0, 0);
    uint32_t slot;
    world_publish(w);
    world_publish(w);
    *w->segment.published = 1;
    expect(r, 1, 0);
    expect(r, 2, 0);
    CHECK_EQUAL(zs_reader_latest(r, &slot), ZS_TAKE_NONE);
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_NONE);
    *w->segment.published = 2;
    CHECK_EQUAL(zs_reader_latest(r, &slot), ZS_TAKE_NONE);
    world_forget(r);
    world_end(w);
}

/* --- an owner that is faster than the reader ------------------------------------------------------------------------------- */

static world *outrun;
static zs_reader *outrun_by;
static uint64_t outrun_cursor;
static int outrun_laps;
static int outrun_aimed_at_newest;

/* The owner replaces everything before each of the reader's steps. Published stays a multiple of the depth, 4, so the cursor before
 * the oldest is one too, and the cursor before the newest is not. */
static void publish_all_anew(void)
{
    if (outrun_by->cursor != outrun_cursor) {
        outrun_cursor = outrun_by->cursor;
        outrun_aimed_at_newest += outrun_cursor % 4 == 3;
        outrun_laps += outrun_aimed_at_newest == 0;
    }
    if (outrun_aimed_at_newest > 3)
        return; /* mercy */
    for (int i = 0; i < 4; i++)
        world_publish(outrun);
}

static void after_64_laps_the_newest_is_aimed_at(void)
{
    const world_options options = {.depth = 4, .spare_slots = 4};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 0, 1, 0, 0);
    uint32_t slot;
    outrun = w, outrun_by = r;
    publish_all_anew();
    on_step = publish_all_anew;
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED);
    on_step = NULL;
    CHECK_EQUAL(outrun_laps, ZS_MAX_LAPS);
    CHECK(outrun_aimed_at_newest > 3);
    CHECK_EQUAL(r->cursor % 4, 0); /* the newest */
    CHECK_EQUAL(r->cursor, w->owner.published);
    CHECK_EQUAL(r->taken + r->lost, r->cursor); /* exact through all of it */
    world_forget(r);
    world_end(w);
}

/* --- rings that no owner writes ------------------------------------------------------------------------------------------- */

static void a_ring_that_names_a_slot_beyond_the_table_is_corrupt(void)
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
    world_forget(r);
    world_end(w);
}

/* A pool that the owner has added since: nothing has happened to the sample, and it is taken once the pool is mapped. */
static void a_sample_in_an_unmapped_pool_waits(void)
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
    world_forget(r);
    world_end(w);
}

/* The owner has removed the pool before this reader could map it. */
static void a_sample_whose_pool_is_gone_is_lost(void)
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
    world_forget(r);
    world_end(w);
}

/* Entries of a later version: members before `readers` that this one does not know, and more behind. */
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
        expect(r, n, 0);
    }
    for (uint32_t i = 0; i < w->slot_count; i++)
        for (int at = 56; at < 56 + 192; at++)
            CHECK_EQUAL(((uint8_t *)zs_slot_at(s, i))[at], 0xff);
    world_forget(r);
    world_end(w);
}

/* Counted by the bucket and by the largest. */
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
    world_forget(r);
    world_end(w);
}

/* The bit of a slot belongs to one lease: a second one would be ended by the release of the first. */
static void a_ring_that_names_a_held_slot_is_corrupt(void)
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
    CHECK_EQUAL(*zs_slot_readers(&w->segment, slot), 4); /* the older lease stands */
    CHECK_EQUAL(r->held[slot], 1);
    CHECK_EQUAL(zs_reader_leases(r), 1);
    zs_reader_release(r, slot);
    CHECK_EQUAL(zs_reader_take(r, &again), ZS_TAKE_LEASED);
    world_forget(r);
    world_end(w);
}

static void a_lap_without_progress_is_corrupt(void)
{
    const world_options options = {.depth = 2};
    world *w = world_make(&options);
    zs_segment *s = &w->segment;
    zs_reader *r = world_join(w, 0, 4, 0, 0);
    uint32_t slot;
    s->ring[1] = zs_tag(5, 0); /* newer, but nothing newer was published */
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_CORRUPT);
    *s->published = 2; /* two are, and both of them are within the depth */
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_CORRUPT);
    s->ring[1] = zs_tag(1, 0); /* the right tag, on a slot that holds another sample */
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_CORRUPT);
    CHECK_EQUAL(*zs_slot_readers(s, 0), 0);
    CHECK_EQUAL(zs_reader_latest(r, &slot), ZS_TAKE_CORRUPT); /* published names an entry that is older */
    CHECK_EQUAL(r->cursor, 0);
    CHECK_EQUAL(r->lost, 0);
    CHECK_EQUAL(zs_reader_leases(r), 0);
    world_forget(r);
    world_end(w);
}

/* Any one bit of the ring's tags, or of `published`, flipped before the owner seals: each sample is taken or counted, or the reader is
 * told that the segment is corrupt. */
static void a_flipped_bit_before_the_end_loses_nothing_silently(void)
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
                world_forget(r);
                world_end(w);
            }
    CHECK(corrupt > 0 && counted > 0 && harmless > 0);
}

/* Whatever stands in the shared words, taking ends, and names only slots that exist and that are not held. */
static void any_bytes_end_in_an_answer(void)
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
        world_forget(r);
    }
    world_end(w);
}

int main(void)
{
    RUN(tag_distances_are_modulo_2_48);
    RUN(samples_come_in_order_at_every_edge);
    RUN(every_lap_is_counted_exactly);
    RUN(a_sample_is_leased_once);
    RUN(too_many_leases_are_refused_and_change_nothing);
    RUN(an_evicted_reader_takes_no_more);
    RUN(latest_jumps_and_counts_what_it_skipped);
    RUN(latest_bears_a_published_that_trails_the_ring);
    RUN(after_64_laps_the_newest_is_aimed_at);
    RUN(a_ring_that_names_a_slot_beyond_the_table_is_corrupt);
    RUN(a_sample_in_an_unmapped_pool_waits);
    RUN(a_sample_whose_pool_is_gone_is_lost);
    RUN(longer_slot_and_peer_entries_are_read);
    RUN(latencies_are_counted);
    RUN(a_ring_that_names_a_held_slot_is_corrupt);
    RUN(a_lap_without_progress_is_corrupt);
    RUN(a_flipped_bit_before_the_end_loses_nothing_silently);
    RUN(any_bytes_end_in_an_answer);
    return 0;
}
