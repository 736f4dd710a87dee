/* SPDX-License-Identifier: Apache-2.0
 *
 * Join, leave, the clearing of a dead reader's bits, and an owner that waits for reliable readers. */
#include "world.h"

static void join_fills_the_entry(void)
{
    const world_options options = {.max_subscribers = 130};
    world *w = world_make(&options);
    zs_segment *s = &w->segment;
    zs_reader *r = world_reader(w, 129, 5, 1);
    zs_peer *peer = zs_peer_at(s, 129);
    uint64_t before = zs_now_ns();
    zs_identity identity = world_identity;
    identity.time_namespace = 77;
    peer->epoch = 8;
    peer->taken = peer->lost = peer->skipped = peer->leases = peer->latency_max_ns = peer->latency[127] = 99;
    peer->announcement = peer->wake_kind = 99;
    zs_reader_join(r, &identity, 0, ZS_AFTER_HISTORY);
    CHECK_EQUAL(peer->epoch, 9);
    CHECK_EQUAL(peer->pid, 4711);
    CHECK_EQUAL(peer->start_time, 42);
    CHECK(memcmp(peer->name, world_identity.name, 32) == 0);
    CHECK(peer->attached_ns >= before && peer->attached_ns <= zs_now_ns());
    CHECK_EQUAL(peer->flags, ZS_PEER_RELIABLE);
    CHECK_EQUAL(peer->max_leases, 5);
    CHECK_EQUAL(peer->taken | peer->lost | peer->skipped | peer->leases | peer->latency_max_ns | peer->latency[127], 0);
    CHECK_EQUAL(peer->announcement | peer->wake_kind, 0);
    CHECK_EQUAL(peer->time_namespace, 77);
    CHECK_EQUAL(s->active[0], 0);
    CHECK_EQUAL(s->active[1], 0);
    CHECK_EQUAL(s->active[2], 2);
    CHECK_EQUAL(s->reliable[0] | s->reliable[1], 0);
    CHECK_EQUAL(s->reliable[2], 2);
    CHECK_EQUAL(*s->space, 1); /* a blocked owner looks again */
    zs_reader_leave(r);
    CHECK_EQUAL(s->active[2], 0);
    CHECK_EQUAL(*s->space, 2);
    world_free_reader(r);
    world_free(w);
}

static void epoch_zero_is_not_used(void)
{
    const world_options options = {0};
    world *w = world_make(&options);
    zs_reader *r = world_reader(w, 0, 1, 0);
    uint32_t slot;
    zs_peer_at(&w->segment, 0)->epoch = UINT32_MAX;
    zs_reader_join(r, &world_identity, 0, ZS_AFTER_HISTORY);
    CHECK_EQUAL(r->epoch, 1);
    world_publish(w);
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED); /* evicted[0] is 0 */
    world_free_reader(r);
    world_free(w);
}

/* The first sample taken, for every history, number of published samples and depth. */
static void history_is_clamped_to_published_samples(void)
{
    for (uint32_t depth = 1; depth <= 4; depth++)
        for (uint64_t first = 1; first <= 3; first += 2)
            for (uint32_t published = 0; published <= 9; published++)
                for (uint32_t history = 0; history <= depth; history++) {
                    const world_options options = {.depth = depth, .first_sequence = first};
                    world *w = world_make(&options);
                    zs_reader *r;
                    uint32_t slot, there = published < history ? published : history;
                    for (uint32_t i = 0; i < published; i++)
                        world_publish(w);
                    r = world_join(w, 0, 1, 0, history);
                    CHECK_EQUAL(r->cursor, first - 1 + published - there);
                    for (uint32_t i = 0; i < there; i++) {
                        CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED);
                        CHECK_EQUAL(zs_slot_at(r->segment, slot)->sequence, first + published - there + i);
                        zs_reader_release(r, slot);
                    }
                    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_NONE);
                    CHECK_EQUAL(r->lost, 0);
                    world_free_reader(r);
                    world_free(w);
                }
}

/* A publisher created after the subscription: samples that were retired before the join count as lost. */
static void join_from_the_first_sample_counts_lost_ones(void)
{
    const world_options options = {.depth = 2, .first_sequence = 50};
    world *w = world_make(&options);
    zs_reader *r = world_reader(w, 0, 1, 0);
    uint32_t slot;
    for (int i = 0; i < 7; i++)
        world_publish(w);
    CHECK(zs_reader_join(r, &world_identity, 0, 0));
    CHECK_EQUAL(r->cursor, 54);
    CHECK_EQUAL(r->lost, 5);
    CHECK_EQUAL(r->peer->lost, 5);
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED);
    CHECK_EQUAL(r->cursor, 55);
    CHECK_EQUAL(r->lost, 5);
    world_free_reader(r);
    world_free(w);
}

/* For every earlier cursor and number of samples since: no sample comes twice, and retired ones count as lost. */
static void join_resumes_after_the_given_cursor(void)
{
    for (uint32_t depth = 1; depth <= 4; depth++)
        for (uint32_t max_loans = 1; max_loans <= depth; max_loans++)
            for (int reliable = 0; reliable <= 1; reliable++)
                for (uint64_t published = 0; published <= 9; published++)
                    for (uint64_t after = 0; after <= published; after++) {
                        const world_options options = {
                            .depth = depth, .max_loans = max_loans, .spare_slots = 1, .policy = ZS_RAISE, .first_sequence = 100};
                        world *w = world_make(&options);
                        zs_reader *r = world_reader(w, 0, 1, reliable);
                        uint64_t kept = reliable ? depth - max_loans : depth;
                        uint64_t there = published - after < kept ? published - after : kept;
                        uint32_t slot, index;
                        for (uint64_t i = 0; i < published; i++)
                            world_publish(w);
                        CHECK(zs_reader_join(r, &world_identity, 3, 99 + after));
                        CHECK(!zs_owner_window_full(&w->owner, &index)); /* the join makes no loan wait */
                        CHECK_EQUAL(r->lost, published - after - there);
                        for (uint64_t i = 0; i < there; i++) {
                            CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED);
                            CHECK_EQUAL(r->cursor, 100 + published - there + i);
                            zs_reader_release(r, slot);
                        }
                        CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_NONE);
                        CHECK_EQUAL(r->taken + r->lost, published - after);
                        world_free_reader(r);
                        world_free(w);
                    }
}

/* A reader may have taken a sample from the ring before `published` was stored. */
static void join_accepts_a_cursor_one_ahead_of_published(void)
{
    const world_options options = {.depth = 4};
    world *w = world_make(&options);
    zs_reader *r = world_reader(w, 0, 1, 0);
    uint32_t slot;
    world_publish(w);
    world_publish(w);
    CHECK(!zs_reader_join(r, &world_identity, 0, 4));
    CHECK(zs_reader_join(r, &world_identity, 0, 3));
    CHECK_EQUAL(r->cursor, 3);
    CHECK_EQUAL(r->lost, 0);
    world_publish(w);
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_NONE);
    world_publish(w);
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED);
    CHECK_EQUAL(r->cursor, 4);
    zs_reader_release(r, slot);
    *w->segment.published = UINT64_C(1) << 60;
    CHECK(!zs_reader_join(r, &world_identity, 0, 4));
    world_free_reader(r);
    world_free(w);
}

static void clear_removes_only_bits_of_the_dead_reader(void)
{
    const world_options options = {.depth = 4, .spare_slots = 4, .max_subscribers = 70};
    world *w = world_make(&options);
    zs_segment *s = &w->segment;
    zs_reader *dead = world_join(w, 65, 8, 1, 0), *alive = world_join(w, 66, 8, 1, 0), *other = world_join(w, 1, 8, 1, 0);
    uint32_t slot;
    for (int i = 0; i < 3; i++) {
        world_publish(w);
        CHECK_EQUAL(zs_reader_take(dead, &slot), ZS_TAKE_LEASED);
        CHECK_EQUAL(zs_reader_take(alive, &slot), ZS_TAKE_LEASED);
        CHECK_EQUAL(zs_reader_take(other, &slot), ZS_TAKE_LEASED);
    }
    zs_reader_park(dead);
    zs_reader_park(alive);
    CHECK_EQUAL(zs_peer_clear(s, 65), 3);
    CHECK_EQUAL(s->active[0], 2);
    CHECK_EQUAL(s->active[1], 4);
    CHECK_EQUAL(s->reliable[0], 2);
    CHECK_EQUAL(s->reliable[1], 4);
    CHECK_EQUAL(s->parked[1], 4);
    CHECK_EQUAL(zs_peer_at(s, 65)->leases, 0);
    for (uint32_t i = 0; i < w->slot_count; i++) {
        uint64_t expected = zs_slot_at(s, i)->sequence != 0;
        CHECK_EQUAL(zs_slot_readers(s, i)[0], expected << 1);
        CHECK_EQUAL(zs_slot_readers(s, i)[1], expected << 2);
    }
    CHECK_EQUAL(zs_peer_clear(s, 65), 0);
    world_free_reader(dead), world_free_reader(alive), world_free_reader(other);
    world_free(w);
}

static void floor_is_the_slowest_reliable_reader(void)
{
    const world_options options = {.depth = 8, .policy = ZS_BLOCK, .max_subscribers = 100};
    world *w = world_make(&options);
    zs_segment *s = &w->segment;
    uint32_t index = 12345, slot;
    zs_reader *unreliable = world_join(w, 0, 1, 0, 0), *slow = world_join(w, 99, 1, 1, 0), *fast = world_join(w, 5, 1, 1, 0);
    for (int i = 0; i < 3; i++)
        world_publish(w);
    CHECK_EQUAL(zs_owner_reliable_floor(s, &index), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(zs_reader_take(fast, &slot), ZS_TAKE_LEASED);
        zs_reader_release(fast, slot);
    }
    CHECK_EQUAL(zs_reader_take(slow, &slot), ZS_TAKE_LEASED);
    CHECK_EQUAL(zs_owner_reliable_floor(s, &index), 1); /* a sample counts once taken, whether released or not */
    CHECK_EQUAL(index, 99);
    s->evicted[99] = slow->epoch;
    CHECK_EQUAL(zs_owner_reliable_floor(s, &index), 2);
    CHECK_EQUAL(index, 5);
    zs_reader_leave(fast);
    CHECK_EQUAL(zs_owner_reliable_floor(s, &index), UINT64_MAX);
    s->active[1] |= UINT64_C(1) << 63, s->reliable[1] |= UINT64_C(1) << 63; /* a bit beyond max_subscribers belongs to no reader */
    CHECK_EQUAL(zs_owner_reliable_floor(s, &index), UINT64_MAX);
    world_free_reader(unreliable), world_free_reader(slow), world_free_reader(fast);
    world_free(w);
}

/* The window is full if one more loan, committed after the present ones, would retire a sample that the reader has not taken. */
static void window_counts_present_loans(void)
{
    for (uint32_t out = 0; out <= 3; out++) {
        const world_options options = {.depth = 4, .max_loans = 4, .spare_slots = 4, .policy = ZS_BLOCK, .first_sequence = 1000};
        world *w = world_make(&options);
        zs_reader *r = world_join(w, 3, 1, 1, 0);
        uint32_t index = 99, slot, loans[4];
        while (w->owner.published - 999 + out < 4) {
            CHECK(!zs_owner_window_full(&w->owner, &index));
            world_publish(w);
        }
        for (uint32_t i = 0; i < out; i++)
            loans[i] = zs_owner_reserve(&w->owner, 0);
        CHECK(zs_owner_window_full(&w->owner, &index));
        CHECK_EQUAL(index, 3);
        for (uint32_t i = 0; i < out; i++) {
            zs_owner_commit(&w->owner, loans[i], 1, 1);
            zs_owner_let_go(&w->owner, loans[i]);
        }
        CHECK(zs_owner_window_full(&w->owner, &index));
        for (uint64_t n = 1000; n < 1004; n++) { /* none of them is lost */
            CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED);
            CHECK_EQUAL(r->cursor, n);
            CHECK_EQUAL(r->lost, 0);
            CHECK(!zs_owner_window_full(&w->owner, &index));
            zs_reader_release(r, slot);
        }
        world_free_reader(r);
        world_free(w);
    }
}

/* The owner waits for an announced reader as for one that has taken nothing, and the reader gets every sample when it joins. */
static void announced_reader_loses_nothing(void)
{
    const world_options options = {.depth = 4, .max_loans = 2, .spare_slots = 2, .policy = ZS_BLOCK, .first_sequence = 1000};
    world *w = world_make(&options);
    zs_identity identity = world_identity;
    zs_reader *r = world_reader(w, 3, 1, 1);
    uint32_t index = 99, slot;
    zs_owner_await(&w->owner, 1);
    for (int i = 0; i < 4; i++) {
        CHECK(!zs_owner_window_full(&w->owner, &index));
        CHECK_EQUAL(zs_owner_room(&w->owner), (uint64_t)(4 - i));
        world_publish(w);
    }
    CHECK(zs_owner_window_full(&w->owner, &index));
    CHECK_EQUAL(index, ZS_NO_READER);
    CHECK_EQUAL(zs_owner_room(&w->owner), 0);
    identity.announcement = 4711;
    r->announced = 1;
    CHECK(zs_reader_join(r, &identity, 0, 0));
    CHECK_EQUAL(r->peer->announcement, 4711);
    CHECK_EQUAL(r->lost, 0);
    zs_owner_await(&w->owner, 0);
    CHECK(zs_owner_window_full(&w->owner, &index));
    CHECK_EQUAL(index, 3);
    for (uint64_t n = 1000; n < 1004; n++) {
        CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED);
        CHECK_EQUAL(r->cursor, n);
        CHECK(!zs_owner_window_full(&w->owner, &index));
        zs_reader_release(r, slot);
    }
    world_free_reader(r);
    world_free(w);
}

static void evict_policy_never_waits(void)
{
    const world_options options = {.depth = 2, .policy = ZS_EVICT};
    world *w = world_make(&options);
    zs_reader *r = world_join(w, 0, 1, 1, 0);
    uint32_t index = 0;
    for (int i = 0; i < 10; i++) {
        CHECK(!zs_owner_window_full(&w->owner, &index));
        world_publish(w);
    }
    world_free_reader(r);
    world_free(w);
}

/* Readers increment `space` only while an owner waits; otherwise they make no system call. */
static void readers_wake_only_a_waiting_owner(void)
{
    const world_options options = {.depth = 2, .policy = ZS_BLOCK};
    world *w = world_make(&options);
    zs_segment *s = &w->segment;
    zs_reader *r = world_join(w, 0, 2, 1, 0), *unreliable = world_join(w, 1, 2, 0, 0);
    uint32_t slot, space = *s->space;
    world_publish(w);
    world_publish(w);
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED);
    zs_reader_release(r, slot);
    CHECK_EQUAL(*s->space, space);
    CHECK_EQUAL(zs_owner_block_begin(s), space);
    CHECK_EQUAL(*s->waiting, 1);
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED); /* the cursor of a reliable reader */
    CHECK_EQUAL(*s->space, space + 1);
    zs_reader_release(r, slot); /* and its slot */
    CHECK_EQUAL(*s->space, space + 2);
    CHECK_EQUAL(zs_reader_take(unreliable, &slot), ZS_TAKE_LEASED); /* the owner does not wait for this cursor */
    CHECK_EQUAL(*s->space, space + 2);
    zs_reader_release(unreliable, slot);
    CHECK_EQUAL(*s->space, space + 3);
    zs_owner_block_end(s);
    CHECK_EQUAL(*s->waiting, 0);
    world_free_reader(r), world_free_reader(unreliable);
    world_free(w);
}

/* A wake clears the parked bits, so a reader that died in its sleep costs one system call. */
static void dead_sleeper_costs_one_system_call(void)
{
    const world_options options = {.depth = 2, .max_subscribers = 200};
    world *w = world_make(&options);
    zs_segment *s = &w->segment;
    zs_reader *r = world_join(w, 199, 1, 0, 0);
    CHECK_EQUAL(zs_reader_park(r), 0);
    CHECK_EQUAL(s->parked[3], UINT64_C(1) << 7);
    world_publish(w);
    CHECK_EQUAL(s->parked[3], 0);
    CHECK_EQUAL(s->counters->wakes, 1);
    world_publish(w);
    CHECK_EQUAL(s->counters->wakes, 1);
    CHECK_EQUAL(*s->generation, 3); /* two samples and one wake, so that a reader that is about to sleep does not */
    CHECK_EQUAL(zs_reader_park(r), 3);
    zs_reader_unpark(r);
    CHECK_EQUAL(s->parked[3], 0);
    zs_reader_unpark(r);
    world_publish(w);
    CHECK_EQUAL(s->counters->wakes, 1);
    world_free_reader(r);
    world_free(w);
}

int main(void)
{
    RUN(join_fills_the_entry);
    RUN(epoch_zero_is_not_used);
    RUN(history_is_clamped_to_published_samples);
    RUN(join_from_the_first_sample_counts_lost_ones);
    RUN(join_resumes_after_the_given_cursor);
    RUN(join_accepts_a_cursor_one_ahead_of_published);
    RUN(clear_removes_only_bits_of_the_dead_reader);
    RUN(floor_is_the_slowest_reliable_reader);
    RUN(window_counts_present_loans);
    RUN(announced_reader_loses_nothing);
    RUN(evict_policy_never_waits);
    RUN(readers_wake_only_a_waiting_owner);
    RUN(dead_sleeper_costs_one_system_call);
    return 0;
}
