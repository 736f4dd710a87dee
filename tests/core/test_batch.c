/* SPDX-License-Identifier: Apache-2.0
 *
 * Batches: copies that are published and copies that are taken are the same as single samples, one after the other. */
#include "world.h"

enum { SIZE = 24 };

static zs_payloads payloads_of(world *w)
{
    static const uint32_t first_slot = 0;
    static char *data;
    zs_payloads p = {.data = &data, .capacity = &w->slot_capacity, .first_slot = &first_slot, .count = 1, .slot_count = w->slot_count};
    data = (char *)w->payload;
    return p;
}

/* Publish samples with the numbers after `published`; each has its number in every word. `stride` is in bytes. */
static uint32_t publish(world *w, uint32_t count, ptrdiff_t stride)
{
    uint64_t words[2 * ZS_BATCH][SIZE / 8 + 1];
    zs_samples samples = {
        .data = (const uint8_t *)words, .stride = stride, .size = SIZE, .capacity = SIZE, .published_ns = 5000};
    CHECK(count <= ZS_BATCH);
    memset(words, 0xee, sizeof words);
    if (stride < 0)
        samples.data += -stride * (ptrdiff_t)(count - 1);
    for (uint32_t i = 0; i < count; i++)
        for (int k = 0; k < SIZE / 8; k++) {
            uint64_t n = w->owner.published + 1 + i;
            memcpy((uint8_t *)(uintptr_t)samples.data + (ptrdiff_t)i * stride + 8 * k, &n, 8);
        }
    return zs_owner_publish_copies(&w->owner, &samples, count, w->header.max_loans);
}

typedef struct copies {
    uint64_t words[300][SIZE / 8];
    uint64_t sequences[300];
    uint32_t count;
    enum zs_take result;
} copies;

/* Take copies of up to `most` samples, and check each one's content. */
static copies take(world *w, zs_reader *r, uint32_t most)
{
    copies found = {.result = ZS_TAKE_NONE};
    zs_payloads p = payloads_of(w);
    zs_copier c;
    uint64_t published_ns = 0;
    zs_copier_begin(&c, r, &p, SIZE, 0);
    while (found.count < most) {
        found.result = zs_copier_next(&c, (uint8_t *)found.words[found.count], &published_ns);
        if (found.result != ZS_TAKE_COPIED)
            break;
        for (int k = 0; k < SIZE / 8; k++)
            CHECK_EQUAL(found.words[found.count][k], r->cursor);
        CHECK_EQUAL(published_ns, 5000);
        found.sequences[found.count++] = r->cursor;
        if (found.count % ZS_BATCH == 0)
            zs_copier_settle(&c);
    }
    zs_copier_settle(&c);
    CHECK_EQUAL(r->peer->cursor, r->cursor);
    CHECK_EQUAL(r->peer->taken, r->taken);
    CHECK_EQUAL(r->peer->lost, r->lost);
    for (uint32_t i = 0; i < w->slot_count; i++)
        CHECK_EQUAL(zs_slot_readers(&w->segment, i)[0] >> r->index & 1, r->held[i]);
    return found;
}

static void published_copies_are_samples_in_order(void)
{
    static const ptrdiff_t strides[] = {SIZE, SIZE + 8, -SIZE, -SIZE - 8};
    for (size_t i = 0; i < sizeof strides / sizeof *strides; i++)
        for (uint32_t count = 0; count <= ZS_BATCH; count++) {
            const world_options options = {.depth = ZS_BATCH, .spare_slots = 2};
            world *w = world_make(&options);
            zs_reader *r = world_join(w, 0, 2, 0, 0);
            uint32_t slot;
            CHECK_EQUAL(publish(w, count, strides[i]), count);
            CHECK_EQUAL(*w->segment.published, count);
            CHECK_EQUAL(*w->segment.generation, count != 0);
            CHECK_EQUAL(w->segment.counters->published, count);
            CHECK_EQUAL(w->segment.counters->bytes, count * SIZE);
            CHECK_EQUAL(w->owner.loans_out, 0);
            for (uint64_t n = 1; n <= count; n++) {
                CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED);
                CHECK_EQUAL(r->cursor, n);
                CHECK_EQUAL(zs_slot_at(&w->segment, slot)->size, SIZE);
                CHECK_EQUAL(zs_slot_at(&w->segment, slot)->published_ns, 5000);
                for (int k = 0; k < SIZE / 8; k++)
                    CHECK_EQUAL(world_words(w, slot)[k], n);
                zs_reader_release(r, slot);
            }
            CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_NONE);
            world_free_reader(r);
            world_free(w);
        }
}

/* After each batch exactly the newest `depth` can be taken, and every other slot can be loaned. */
static void batch_retires_each_sample_in_turn(void)
{
    const world_options options = {.depth = 5, .spare_slots = 3};
    for (uint32_t count = 1; count <= 20; count++) {
        world *w = world_make(&options);
        uint32_t committed = 0;
        for (int i = 0; i < 4; i++)
            CHECK_EQUAL(publish(w, count, SIZE), count);
        for (uint32_t i = 0; i < w->slot_count; i++) {
            uint64_t n = zs_slot_at(&w->segment, i)->sequence;
            CHECK(n == 0 || (n + 5 > w->owner.published && n <= w->owner.published));
            committed += n != 0;
        }
        CHECK_EQUAL(committed, 4 * count < 5 ? 4 * count : 5);
        for (uint32_t i = committed; i < w->slot_count; i++)
            CHECK(zs_owner_reserve(&w->owner, 0) != ZS_NO_SLOT);
        CHECK_EQUAL(zs_owner_reserve(&w->owner, 0), ZS_NO_SLOT);
        world_free(w);
    }
}

static void batch_ends_where_no_slot_is_free(void)
{
    const world_options options = {.depth = 4, .spare_slots = 3};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 0, 8, 0, 0);
    uint32_t slots[8];
    CHECK_EQUAL(publish(w, 4, SIZE), 4);
    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(zs_reader_take(r, &slots[i]), ZS_TAKE_LEASED);
    CHECK_EQUAL(publish(w, 9, SIZE), 4); /* 8 slots: 4 leased, and 4 */
    CHECK_EQUAL(*w->segment.generation, 2);
    CHECK_EQUAL(publish(w, 1, SIZE), 0);
    CHECK_EQUAL(*w->segment.generation, 2);
    zs_reader_release(r, slots[2]);
    CHECK_EQUAL(publish(w, 9, SIZE), 9); /* one slot is enough */
    CHECK_EQUAL(*w->segment.published, 17);
    world_free_reader(r);
    world_free(w);
}

static void batch_stays_within_max_loans(void)
{
    const world_options options = {.depth = 4, .max_loans = 2};
    world *w = world_make(&options);
    uint32_t loan = zs_owner_reserve(&w->owner, 0);
    CHECK_EQUAL(publish(w, 9, SIZE), 9);
    zs_owner_reserve(&w->owner, 0);
    CHECK_EQUAL(publish(w, 1, SIZE), 0);
    zs_owner_commit(&w->owner, loan, SIZE, 5000);
    zs_owner_let_go(&w->owner, loan);
    CHECK_EQUAL(publish(w, 3, SIZE), 3);
    CHECK_EQUAL(w->owner.loans_out, 1);
    world_free(w);
}

/* The window of a reliable reader: a batch ends where a loan would have to wait, and announces before each look at the window. */
static void batch_ends_where_the_window_is_full(void)
{
    for (uint32_t depth = 1; depth <= 9; depth++)
        for (uint32_t max_loans = 1; max_loans <= depth; max_loans++)
            for (uint32_t loaned = 0; loaned < max_loans; loaned++) {
                const world_options options = {.depth = depth, .max_loans = max_loans, .policy = ZS_BLOCK};
                world *w = world_make(&options);
                zs_reader *r = world_join(w, 0, 1, 1, 0);
                uint32_t index = 7, loans[9], generation;
                for (uint32_t i = 0; i < loaned; i++)
                    loans[i] = zs_owner_reserve(&w->owner, 0);
                CHECK_EQUAL(publish(w, 20, SIZE), depth - loaned);
                generation = *w->segment.generation;
                CHECK_EQUAL(generation, (depth - loaned + max_loans - loaned - 1) / (max_loans - loaned));
                CHECK(zs_owner_window_full(&w->owner, &index));
                CHECK_EQUAL(zs_owner_room(&w->owner), 0);
                for (uint32_t taken = 1; taken <= depth - loaned; taken++) {
                    CHECK_EQUAL(take(w, r, 1).count, 1);
                    CHECK_EQUAL(zs_owner_room(&w->owner), taken);
                }
                CHECK_EQUAL(publish(w, 20, SIZE), depth - loaned);
                for (uint32_t i = 0; i < loaned; i++)
                    zs_owner_discard(&w->owner, loans[i]);
                CHECK_EQUAL(r->lost, 0);
                zs_reader_leave(r);
                CHECK_EQUAL(zs_owner_room(&w->owner), UINT64_MAX);
                CHECK_EQUAL(publish(w, 20, SIZE), 20);
                world_free_reader(r);
                world_free(w);
            }
}

/* zs_owner_room is 0 if and only if zs_owner_window_full, for every cursor, those of no reader included. */
static void room_agrees_with_the_full_window(void)
{
    const world_options options = {.depth = 3, .max_loans = 2, .policy = ZS_RAISE, .first_sequence = 5};
    for (uint64_t published = 4; published < 14; published++)
        for (uint64_t cursor = 0; cursor < 18; cursor++) {
            world *w = world_make(&options);
            zs_reader *r = world_join(w, 1, 1, 1, 0);
            uint32_t index;
            w->owner.published = published;
            for (uint32_t loans = 0; loans < 5; loans++) {
                w->owner.loans_out = loans;
                r->peer->cursor = cursor == 17 ? UINT64_MAX - 1 : cursor;
                if (cursor >= 4 && cursor <= published)
                    CHECK_EQUAL(zs_owner_room(&w->owner) == 0, zs_owner_window_full(&w->owner, &index));
                CHECK(zs_owner_room(&w->owner) <= 3);
            }
            world_free_reader(r);
            world_free(w);
        }
}

static void published_copies_have_a_crc(void)
{
    const world_options options = {.depth = 4, .spare_slots = 2};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 0, 2, 0, 0);
    zs_payloads p = payloads_of(w);
    uint64_t words[2] = {1, 2}, to, published_ns;
    zs_samples samples = {.data = (const uint8_t *)words, .stride = 8, .size = 8, .capacity = 8, .published_ns = 1, .crc = 1};
    zs_copier c;
    CHECK_EQUAL(zs_owner_publish_copies(&w->owner, &samples, 2, 1), 2);
    samples.crc = 0;
    CHECK_EQUAL(zs_owner_publish_copies(&w->owner, &samples, 1, 1), 1);
    zs_copier_begin(&c, r, &p, 8, 1);
    CHECK_EQUAL(zs_copier_next(&c, (uint8_t *)&to, &published_ns), ZS_TAKE_COPIED);
    CHECK_EQUAL(to, 1);
    world_words(w, (uint32_t)(w->segment.ring[2] & 0xffff))[0] ^= 4;
    CHECK_EQUAL(zs_copier_next(&c, (uint8_t *)&to, &published_ns), ZS_TAKE_CORRUPT);
    world_words(w, (uint32_t)(w->segment.ring[2] & 0xffff))[0] ^= 4;
    zs_copier_begin(&c, r, &p, 8, 1);
    CHECK_EQUAL(zs_copier_next(&c, (uint8_t *)&to, &published_ns), ZS_TAKE_COPIED);
    CHECK_EQUAL(zs_copier_next(&c, (uint8_t *)&to, &published_ns), ZS_TAKE_CORRUPT); /* it has none */
    zs_copier_settle(&c);
    CHECK_EQUAL(r->cursor, 2);
    CHECK_EQUAL(*zs_slot_readers(&w->segment, (uint32_t)(w->segment.ring[3] & 0xffff)), 0);
    world_free_reader(r);
    world_free(w);
}

/* For every distance of the owner and the reader, and every size of a batch: the same samples and losses as with single takes. */
static void copies_are_the_samples_that_single_takes_lease(void)
{
    for (uint32_t depth = 1; depth <= 33; depth += depth < 4 ? 1 : 7)
        for (uint32_t ahead = 0; ahead < 80; ahead++)
            for (uint32_t most = 1; most < 60; most += most < 20 ? 1 : 13) {
                const world_options options = {.depth = depth, .spare_slots = 4};
                world *w = world_make(&options);
                zs_reader *batches = world_join(w, 0, 1, 0, 0);
                zs_reader *singles = world_join(w, 1, 1, 0, 0);
                for (uint32_t left = ahead; left > 0; left -= left < 50 ? left : 50)
                    CHECK(publish(w, left < 50 ? left : 50, SIZE) > 0);
                for (;;) {
                    copies found = take(w, batches, most);
                    for (uint32_t i = 0; i < found.count; i++) {
                        uint32_t slot;
                        CHECK_EQUAL(zs_reader_take(singles, &slot), ZS_TAKE_LEASED);
                        CHECK_EQUAL(singles->cursor, found.sequences[i]);
                        zs_reader_release(singles, slot);
                    }
                    CHECK_EQUAL(batches->lost, singles->lost);
                    CHECK_EQUAL(batches->taken, singles->taken);
                    CHECK_EQUAL(zs_reader_leases(batches), 0);
                    if (found.count == 0)
                        break;
                }
                CHECK_EQUAL(batches->cursor, ahead);
                CHECK(!zs_reader_ready(batches));
                world_free_reader(batches);
                world_free_reader(singles);
                world_free(w);
            }
}

/* What is published after the beginning waits for the next batch, so a batch ends however fast the owner is. */
static void batch_ends_with_the_sample_that_was_newest(void)
{
    const world_options options = {.depth = 40, .spare_slots = 4};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 0, 1, 0, 0);
    zs_payloads p = payloads_of(w);
    zs_copier c;
    uint64_t words[SIZE / 8], published_ns;
    uint32_t count = 0;
    CHECK_EQUAL(publish(w, 30, SIZE), 30);
    zs_copier_begin(&c, r, &p, SIZE, 0);
    CHECK_EQUAL(zs_copier_left(&c), 30);
    while (zs_copier_next(&c, (uint8_t *)words, &published_ns) == ZS_TAKE_COPIED) {
        count++;
        CHECK_EQUAL(zs_copier_left(&c), 30 - count);
        CHECK_EQUAL(publish(w, 1, SIZE), 1);
    }
    zs_copier_settle(&c);
    CHECK_EQUAL(count, 30);
    CHECK_EQUAL(take(w, r, 300).count, 30);
    CHECK_EQUAL(r->lost, 0);
    world_free_reader(r);
    world_free(w);
}

/* The owner died between its stores into the ring and into `published`. */
static void sample_that_only_the_ring_shows_is_copied(void)
{
    const world_options options = {.depth = 4};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 0, 1, 0, 0);
    CHECK_EQUAL(publish(w, 1, SIZE), 1);
    CHECK_EQUAL(publish(w, 1, SIZE), 1);
    *w->segment.published = 1;
    CHECK_EQUAL(take(w, r, 9).count, 1);
    CHECK_EQUAL(take(w, r, 9).count, 1);
    CHECK_EQUAL(take(w, r, 9).count, 0);
    CHECK_EQUAL(r->cursor, 2);
    world_free_reader(r);
    world_free(w);
}

static void batch_of_a_reader_that_may_not_take_is_empty(void)
{
    const world_options options = {.depth = 4, .spare_slots = 4};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 1, 2, 0, 0);
    uint32_t slots[2];
    copies found;
    CHECK_EQUAL(publish(w, 4, SIZE), 4);
    CHECK_EQUAL(zs_reader_take(r, &slots[0]), ZS_TAKE_LEASED);
    CHECK_EQUAL(take(w, r, 2).count, 2); /* one lease of two is left for the copies */
    CHECK_EQUAL(zs_reader_take(r, &slots[1]), ZS_TAKE_LEASED);
    CHECK_EQUAL(publish(w, 1, SIZE), 1);
    found = take(w, r, 2);
    CHECK_EQUAL(found.count, 0);
    CHECK_EQUAL(found.result, ZS_TAKE_TOO_MANY);
    zs_reader_release(r, slots[0]);
    w->segment.evicted[1] = r->epoch;
    found = take(w, r, 2);
    CHECK_EQUAL(found.count, 0);
    CHECK_EQUAL(found.result, ZS_TAKE_EVICTED);
    CHECK_EQUAL(r->cursor, 4);
    world_free_reader(r);
    world_free(w);
}

static void batch_ends_before_a_sample_that_is_not_mapped(void)
{
    const world_options options = {.depth = 8, .spare_slots = 2, .pool_limit = 2};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 1, 4, 0, 0);
    copies found;
    r->slot_count = 3;
    CHECK_EQUAL(publish(w, 5, SIZE), 5);
    CHECK_EQUAL(take(w, r, 9).count, 3);
    found = take(w, r, 9);
    CHECK_EQUAL(found.result, ZS_TAKE_UNMAPPED);
    CHECK_EQUAL(found.count, 0);
    r->slot_count = w->slot_count;
    CHECK_EQUAL(take(w, r, 9).count, 2);
    world_free_reader(r);
    world_free(w);
}

/* A size that is too small for the type, or too large for the slot: the copies before it are kept, and nothing else is. */
static void batch_ends_before_a_sample_of_a_wrong_size(void)
{
    const uint64_t sizes[] = {0, SIZE - 1, 129, UINT64_MAX};
    for (int i = 0; i < 4; i++) {
        const world_options options = {.depth = 8, .spare_slots = 2};
        world *w = world_make(&options);
        zs_reader *r = world_join(w, 1, 4, 0, 0);
        copies found;
        CHECK_EQUAL(publish(w, 5, SIZE), 5);
        zs_slot_at(&w->segment, (uint32_t)(w->segment.ring[3] & 0xffff))->size = sizes[i];
        found = take(w, r, 9);
        CHECK_EQUAL(found.count, 2);
        CHECK_EQUAL(found.result, ZS_TAKE_CORRUPT);
        CHECK_EQUAL(r->cursor, 2);
        world_free_reader(r);
        world_free(w);
    }
}

static void ring_entry_of_a_leased_slot_is_not_copied(void)
{
    const world_options options = {.depth = 2};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 2, 4, 0, 0);
    uint32_t slot;
    CHECK_EQUAL(publish(w, 1, SIZE), 1);
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED);
    CHECK_EQUAL(publish(w, 1, SIZE), 1);
    zs_slot_at(&w->segment, slot)->sequence = 2;
    w->segment.ring[2] = zs_tag(2, slot);
    CHECK_EQUAL(take(w, r, 9).result, ZS_TAKE_CORRUPT);
    CHECK_EQUAL(*zs_slot_readers(&w->segment, slot), 4);
    CHECK_EQUAL(r->cursor, 1);
    world_free_reader(r);
    world_free(w);
}

/* Another thread takes between two copies. */
static void batch_continues_after_a_take_in_between(void)
{
    const world_options options = {.depth = 40, .spare_slots = 4};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 0, 4, 0, 0);
    zs_payloads p = payloads_of(w);
    zs_copier c;
    uint64_t words[SIZE / 8], published_ns, expected = 0;
    uint32_t slot;
    CHECK_EQUAL(publish(w, 40, SIZE), 40);
    zs_copier_begin(&c, r, &p, SIZE, 0);
    while (zs_copier_next(&c, (uint8_t *)words, &published_ns) == ZS_TAKE_COPIED) {
        CHECK_EQUAL(words[0], ++expected);
        if (expected % 3 == 0) {
            CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED);
            CHECK_EQUAL(world_words(w, slot)[0], ++expected);
            zs_reader_release(r, slot);
        }
    }
    zs_copier_settle(&c);
    CHECK_EQUAL(expected, 40);
    CHECK_EQUAL(r->taken, 40);
    CHECK_EQUAL(zs_reader_leases(r), 0);
    world_free_reader(r);
    world_free(w);
}

static void settled_batch_wakes_a_blocked_owner(void)
{
    for (int reliable = 0; reliable < 2; reliable++) {
        const world_options options = {.depth = 8, .policy = ZS_BLOCK};
        world *w = world_make(&options);
        zs_reader *r = world_join(w, 0, 1, reliable, 0);
        uint32_t space;
        CHECK_EQUAL(publish(w, 5, SIZE), 5);
        space = *w->segment.space;
        CHECK_EQUAL(take(w, r, 2).count, 2);
        CHECK_EQUAL(*w->segment.space, space);
        zs_owner_block_begin(&w->segment);
        CHECK_EQUAL(take(w, r, 2).count, 2);
        CHECK_EQUAL(*w->segment.space, space + 1);
        take(w, r, 0);
        CHECK_EQUAL(*w->segment.space, space + 1);
        world_free_reader(r);
        world_free(w);
    }
}

/* One sample in 64 enters the histogram, as with single takes. */
static void every_64th_copy_is_sampled(void)
{
    const world_options options = {.depth = 60, .spare_slots = 4};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 0, 1, 0, 0);
    zs_payloads p = payloads_of(w);
    uint64_t words[SIZE / 8], published_ns;
    uint32_t sampled = 0;
    for (int round = 0; round < 32; round++) {
        zs_copier c;
        CHECK_EQUAL(publish(w, 50, SIZE), 50);
        zs_copier_begin(&c, r, &p, SIZE, 0);
        while (zs_copier_next(&c, (uint8_t *)words, &published_ns) == ZS_TAKE_COPIED)
            ;
        zs_copier_settle(&c);
        CHECK(c.sampled_ns == 0 || c.sampled_ns == 5000);
        sampled += c.sampled_ns != 0;
        CHECK_EQUAL(sampled, r->taken / 64);
    }
    world_free_reader(r);
    world_free(w);
}

/* For any content of the shared words, a batch ends, and leaves no bit and no lease. */
static void batch_returns_for_any_bytes(void)
{
    const world_options options = {.depth = 3, .spare_slots = 2};
    world *w = world_make(&options);
    zs_segment *s = &w->segment;
    uint64_t random = 88172645463325252u;
    for (int round = 0; round < 30000; round++) {
        zs_reader *r;
        world_fill(w, &options);
        r = world_join(w, 0, 3, 0, 0);
        if (round % 7)
            publish(w, (uint32_t)round % 7, SIZE);
        for (int k = 0; k < 1 + round % 3; k++) {
            zs_slot *entry = zs_slot_at(s, (uint32_t)round / 4 % w->slot_count);
            uint64_t *words[] = {s->published, &s->ring[round / 8 % s->ring_capacity], &entry->sequence, &entry->size};
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            *words[random % 4] ^= round % 2 ? UINT64_C(1) << (random >> 58) : random;
        }
        for (int i = 0; i < 3; i++) {
            zs_payloads p = payloads_of(w);
            zs_copier c;
            uint64_t data[SIZE / 8], published_ns;
            int count = 0;
            zs_copier_begin(&c, r, &p, SIZE, 0);
            while (count < 100 && zs_copier_next(&c, (uint8_t *)data, &published_ns) == ZS_TAKE_COPIED)
                count++;
            zs_copier_settle(&c);
            CHECK(count <= 7);
            CHECK_EQUAL(zs_reader_leases(r), 0);
            for (uint32_t slot = 0; slot < w->slot_count; slot++)
                CHECK_EQUAL(*zs_slot_readers(s, slot), 0);
        }
        world_free_reader(r);
    }
    world_free(w);
}

int main(void)
{
    RUN(published_copies_are_samples_in_order);
    RUN(batch_retires_each_sample_in_turn);
    RUN(batch_ends_where_no_slot_is_free);
    RUN(batch_stays_within_max_loans);
    RUN(batch_ends_where_the_window_is_full);
    RUN(room_agrees_with_the_full_window);
    RUN(published_copies_have_a_crc);
    RUN(copies_are_the_samples_that_single_takes_lease);
    RUN(batch_ends_with_the_sample_that_was_newest);
    RUN(sample_that_only_the_ring_shows_is_copied);
    RUN(batch_of_a_reader_that_may_not_take_is_empty);
    RUN(batch_ends_before_a_sample_that_is_not_mapped);
    RUN(batch_ends_before_a_sample_of_a_wrong_size);
    RUN(ring_entry_of_a_leased_slot_is_not_copied);
    RUN(batch_continues_after_a_take_in_between);
    RUN(settled_batch_wakes_a_blocked_owner);
    RUN(every_64th_copy_is_sampled);
    RUN(batch_returns_for_any_bytes);
    return 0;
}
