/* SPDX-License-Identifier: Apache-2.0
 *
 * The promises of the protocol under every schedule of two or three actors, on the shipped headers. See explore.h. */
#include "explore.h"

static world *w;
static zs_reader *readers[3];

/* Prepare the world for a run, with `count` readers that have not joined. */
static void reset_world(const world_options *options, int count, uint32_t max_leases, int reliable)
{
    explore.world = w;
    world_fill(w, options);
    for (int i = 0; i < count; i++)
        world_reset_reader(w, readers[i], (uint32_t)i * 31, max_leases, reliable);
}

static void make_world(const world_options *options)
{
    w = world_make(options);
    for (int i = 0; i < 3; i++)
        readers[i] = world_reader(w, 0, 1, 0);
}

static void finish(const char *what, uint64_t schedules)
{
    if (getenv("CHECK_VERBOSE") != NULL)
        fprintf(stderr, "    %s: %llu schedules, %llu steps\n", what, (unsigned long long)schedules, (unsigned long long)explore.steps);
    CHECK(schedules > 100);
    for (int i = 0; i < 3; i++)
        world_free_reader(readers[i]);
    world_free(w);
}

/* --- actors ------------------------------------------------------------------------------------------------------------------- */

static uint64_t to_publish, first_taken[3];
static int history_wanted;

/* Write a sample in two steps, so that a reader that should not read it sees a torn one. */
static uint32_t write_sample(uint64_t n)
{
    uint32_t slot = zs_owner_reserve(&w->owner, 0);
    uint64_t *words;
    CHECK(slot != ZS_NO_SLOT); /* spare_slots is the sum of the readers' max_leases */
    words = world_words(w, slot);
    ZS_STEP();
    words[0] = n;
    ZS_STEP();
    words[1] = ~n;
    return slot;
}

static void publish_sample(void)
{
    uint64_t n = w->owner.published + 1;
    uint32_t slot = write_sample(n);
    CHECK_EQUAL(zs_owner_commit(&w->owner, slot, 16, n), n);
    zs_owner_let_go(&w->owner, slot);
}

/* Publishes all samples as one batch. */
static void batching_publisher(void)
{
    for (uint64_t i = 0; i < to_publish; i++) {
        uint64_t n = w->owner.published + 1;
        uint32_t slot = write_sample(n);
        CHECK_EQUAL(zs_owner_place(&w->owner, slot, 16, n), n);
        zs_owner_retire_oldest(&w->owner);
        zs_owner_let_go(&w->owner, slot);
    }
    zs_owner_announce(&w->owner);
}

static void publisher(void)
{
    for (uint64_t i = 0; i < to_publish; i++)
        publish_sample();
}

/* Publishes as long as the window is not full. */
static void reliable_publisher(void)
{
    uint32_t index = 0;
    for (uint64_t i = 0; i < to_publish; i++)
        if (!zs_owner_window_full(&w->owner, &index))
            publish_sample();
}

/* While it is leased, the payload is that of the lease's sequence. */
static void check_payload(zs_reader *r, uint32_t slot)
{
    const uint64_t *words = world_words(w, slot);
    CHECK_EQUAL(words[0], r->cursor);
    ZS_STEP();
    CHECK_EQUAL(words[1], ~r->cursor);
    ZS_STEP();
    CHECK_EQUAL(words[0], r->cursor);
}

static void take_some(zs_reader *r, int tries, int newest)
{
    uint32_t slot;
    for (int i = 0; i < tries; i++) {
        uint64_t before = r->cursor;
        enum zs_take result = newest && i % 2 ? zs_reader_latest(r, &slot) : zs_reader_take(r, &slot);
        CHECK(result == ZS_TAKE_NONE || result == ZS_TAKE_LEASED);
        if (result == ZS_TAKE_NONE)
            continue;
        CHECK(r->cursor > before);
        CHECK_EQUAL(r->taken + r->lost + r->skipped, r->cursor);
        check_payload(r, slot);
        zs_reader_release(r, slot);
    }
}

static void taker_0(void)
{
    take_some(readers[0], 2, 0);
}
static void taker_1(void)
{
    take_some(readers[1], 2, 0);
}
static void taker_of_newest(void)
{
    take_some(readers[0], 3, 1);
}

/* Publishes all samples as copies of one batch. */
static void copying_publisher(void)
{
    uint64_t words[4][2];
    zs_samples samples = {.data = (const uint8_t *)words, .stride = 16, .size = 16, .capacity = 16};
    for (uint64_t i = 0; i < to_publish; i++) {
        words[i][0] = w->owner.published + 1 + i;
        words[i][1] = ~words[i][0];
    }
    CHECK_EQUAL(zs_owner_publish_copies(&w->owner, &samples, (uint32_t)to_publish, 1), to_publish);
}

/* Takes a batch of copies. */
static void copy_some(zs_reader *r)
{
    static const uint32_t first_slot = 0;
    char *data = (char *)w->payload;
    zs_payloads p = {&data, &w->slot_capacity, &first_slot, 1, w->slot_count};
    zs_copier c;
    uint64_t words[2], published_ns;
    zs_copier_begin(&c, r, &p, 16, 0);
    for (;;) {
        uint64_t before = r->cursor;
        enum zs_take result = zs_copier_next(&c, (uint8_t *)words, &published_ns);
        CHECK(result == ZS_TAKE_NONE || result == ZS_TAKE_COPIED);
        if (result == ZS_TAKE_NONE)
            break;
        CHECK(r->cursor > before);
        CHECK_EQUAL(words[0], r->cursor);
        CHECK_EQUAL(words[1], ~r->cursor);
    }
    zs_copier_settle(&c);
    CHECK_EQUAL(r->taken + r->lost + r->skipped, r->cursor);
}
static void copier(void)
{
    copy_some(readers[0]);
    copy_some(readers[0]);
}

/* --- retire and lease: no torn payload, taken + lost = published, exactly `depth` samples ------------------------------------- */

static const world_options tiny = {.depth = 1, .spare_slots = 1, .max_subscribers = 64};
static const world_options tiny_for_two = {.depth = 1, .spare_slots = 2, .max_subscribers = 64};

static void joined_readers(const world_options *options, int count)
{
    reset_world(options, count, 1, 0);
    for (int i = 0; i < count; i++)
        zs_reader_join(readers[i], &world_identity, 0, ZS_AFTER_HISTORY);
}
static void before_one(void)
{
    joined_readers(&tiny, 1);
    publish_sample();
}
static void before_two(void)
{
    joined_readers(&tiny_for_two, 2);
    publish_sample();
}

/* After the reader has taken the rest, each sample is taken or counted as lost, and no bit is set. */
static void check_drained(int count)
{
    uint32_t slot;
    for (int i = 0; i < count; i++) {
        zs_reader *r = readers[i];
        enum zs_take result;
        while ((result = zs_reader_take(r, &slot)) == ZS_TAKE_LEASED) {
            check_payload(r, slot);
            zs_reader_release(r, slot);
        }
        CHECK_EQUAL(result, ZS_TAKE_NONE);
        CHECK_EQUAL(r->cursor, w->owner.published);
        CHECK_EQUAL(r->taken + r->lost + r->skipped, w->owner.published);
        CHECK_EQUAL(zs_reader_leases(r), 0);
    }
    for (uint32_t i = 0; i < w->slot_count; i++)
        CHECK_EQUAL(*zs_slot_readers(&w->segment, i), 0);
}
static void after_one(void)
{
    check_drained(1);
}
static void after_two(void)
{
    check_drained(2);
}

static void leases_are_whole_and_counted(void)
{
    void (*const actors[])(void) = {publisher, taker_0};
    make_world(&tiny);
    to_publish = 3;
    finish("one reader", explore_all(3, before_one, after_one, actors, 2));
}

/* A depth of two: a reader that is overtaken in the middle of a commit must find `published` >= c + depth. */
static const world_options two_deep = {.depth = 2, .spare_slots = 1, .max_subscribers = 64};

static void before_two_deep(void)
{
    joined_readers(&two_deep, 1);
    publish_sample();
}

static void overtaken_reader_finds_published_far_enough(void)
{
    void (*const actors[])(void) = {publisher, taker_0};
    make_world(&two_deep);
    to_publish = 4;
    finish("two deep", explore_all(2, before_two_deep, after_one, actors, 2));
}

static void leases_of_two_readers_are_whole_and_counted(void)
{
    void (*const actors[])(void) = {publisher, taker_0, taker_1};
    make_world(&tiny_for_two);
    to_publish = 3;
    finish("two readers", explore_all(2, before_two, after_two, actors, 3));
}

/* --- growth: no slot of a pool that is not mapped is leased, and no sample is missed or taken twice --------------------------- */

static const world_options growing = {.depth = 2, .spare_slots = 1, .later_slots = 4, .pool_limit = 2, .max_subscribers = 64,
                                      .policy = ZS_BLOCK};
static uint32_t mapped_slots; /* of the pools that the reader has mapped */

static void before_growth(void)
{
    reset_world(&growing, 1, 1, 1);
    mapped_slots = readers[0]->slot_count = w->slot_count;
    zs_reader_join(readers[0], &world_identity, 0, ZS_AFTER_HISTORY);
    publish_sample();
}

static void growing_publisher(void)
{
    uint32_t index = 0;
    world_grow(w);
    for (uint64_t i = 0; i < to_publish; i++) {
        uint64_t n = w->owner.published + 1;
        uint32_t slot;
        uint64_t *words;
        if (zs_owner_window_full(&w->owner, &index))
            return;
        slot = zs_owner_reserve(&w->owner, i % 2 == 0); /* the first in the new pool */
        words = world_words(w, slot);
        words[0] = n;
        words[1] = ~n;
        zs_owner_commit(&w->owner, slot, 16, n);
        zs_owner_let_go(&w->owner, slot);
    }
}

/* Map what the pool table has. False: nothing new, so a sample in another slot would be corrupt. */
static int map_new_pools(zs_reader *r)
{
    zs_segment *s = r->segment;
    for (uint32_t k = 0; k < s->pool_limit && zs_load(&s->pools[k].state, ZS_ACQUIRE) != 0; k++)
        mapped_slots = s->pools[k].first_slot + s->pools[k].slot_count;
    if (mapped_slots == r->slot_count)
        return 0;
    r->slot_count = mapped_slots;
    return 1;
}

static void growing_reader(void)
{
    zs_reader *r = readers[0];
    for (int i = 0; i < 4; i++) {
        uint64_t before = r->cursor;
        uint32_t slot = UINT32_MAX;
        enum zs_take result = i == 3 ? zs_reader_latest(r, &slot) : zs_reader_take(r, &slot);
        if (result == ZS_TAKE_UNMAPPED) {
            CHECK_EQUAL(r->cursor, before);
            CHECK_EQUAL(r->peer->cursor, before);
            CHECK_EQUAL(zs_reader_leases(r), 0);
            CHECK(map_new_pools(r)); /* the table has the pool before the ring names a slot of it */
            result = zs_reader_take(r, &slot);
            CHECK_EQUAL(result, ZS_TAKE_LEASED);
        }
        if (result == ZS_TAKE_NONE)
            continue;
        CHECK_EQUAL(result, ZS_TAKE_LEASED);
        CHECK(slot < mapped_slots);
        CHECK(i == 3 || r->cursor == before + 1);
        check_payload(r, slot);
        zs_reader_release(r, slot);
    }
    CHECK_EQUAL(r->lost, 0);
}

static void after_growth(void)
{
    zs_reader *r = readers[0];
    map_new_pools(r);
    check_drained(1);
    CHECK_EQUAL(r->lost, 0);
    CHECK_EQUAL(r->taken + r->skipped, w->owner.published);
}

static void growth_misses_no_sample(void)
{
    void (*const actors[])(void) = {growing_publisher, growing_reader};
    make_world(&growing);
    to_publish = 2;
    finish("growth", explore_all(2, before_growth, after_growth, actors, 2));
}

static void latest_is_whole_and_counted(void)
{
    void (*const actors[])(void) = {publisher, taker_of_newest};
    make_world(&tiny);
    to_publish = 3;
    finish("latest", explore_all(3, before_one, after_one, actors, 2));
}

/* --- two threads of one subscriber: one takes, the other releases an earlier lease -------------------------------------------- */

static const world_options shared_hold = {.depth = 1, .spare_slots = 2, .max_subscribers = 64};
static uint32_t held_slot;

static void before_sharing(void)
{
    reset_world(&shared_hold, 1, 2, 0);
    zs_reader_join(readers[0], &world_identity, 0, ZS_AFTER_HISTORY);
    publish_sample();
    CHECK_EQUAL(zs_reader_take(readers[0], &held_slot), ZS_TAKE_LEASED);
    publish_sample();
}
static void releaser(void)
{
    zs_reader_release(readers[0], held_slot);
}

static void release_in_another_thread_frees_only_its_slot(void)
{
    void (*const actors[])(void) = {publisher, taker_0, releaser};
    make_world(&shared_hold);
    to_publish = 3;
    finish("hold sharing", explore_all(2, before_sharing, after_one, actors, 3));
}

/* Without a spare slot the owner reuses the released one at once, and the reader may find it before the release has returned. */
static const world_options no_spare = {.depth = 1, .max_subscribers = 64};

static void before_reuse(void)
{
    reset_world(&no_spare, 1, 2, 0);
    zs_reader_join(readers[0], &world_identity, 0, ZS_AFTER_HISTORY);
    publish_sample();
    CHECK_EQUAL(zs_reader_take(readers[0], &held_slot), ZS_TAKE_LEASED);
    publish_sample();
}
static void publisher_with_few_slots(void)
{
    for (int i = 0; i < 2; i++) {
        uint32_t slot = zs_owner_reserve(&w->owner, 0);
        if (slot == ZS_NO_SLOT)
            continue;
        world_words(w, slot)[0] = w->owner.published + 1;
        world_words(w, slot)[1] = ~(w->owner.published + 1);
        zs_owner_commit(&w->owner, slot, 16, 0);
        zs_owner_let_go(&w->owner, slot);
    }
}

static void reused_slot_never_looks_held(void)
{
    void (*const actors[])(void) = {publisher_with_few_slots, taker_0, releaser};
    make_world(&no_spare);
    finish("reuse", explore_all(3, before_reuse, after_one, actors, 3));
}

/* A reader with max_leases: it must not set more bits, or the owner may find no free slot. */
static const world_options at_the_limit = {.depth = 1, .spare_slots = 1, .max_subscribers = 64};

static void before_limit(void)
{
    reset_world(&at_the_limit, 1, 1, 0);
    zs_reader_join(readers[0], &world_identity, 0, ZS_AFTER_HISTORY);
    publish_sample();
    CHECK_EQUAL(zs_reader_take(readers[0], &held_slot), ZS_TAKE_LEASED);
    publish_sample();
}
static void taker_at_the_limit(void)
{
    uint32_t slot;
    for (int i = 0; i < 2; i++) {
        enum zs_take result = zs_reader_take(readers[0], &slot);
        CHECK(result == ZS_TAKE_TOO_MANY || result == ZS_TAKE_LEASED || result == ZS_TAKE_NONE);
        if (result == ZS_TAKE_LEASED)
            return; /* without a release */
    }
}
static void after_limit(void)
{
    CHECK(zs_reader_leases(readers[0]) <= 1);
}

static void reader_never_exceeds_max_leases(void)
{
    void (*const actors[])(void) = {publisher, taker_at_the_limit, releaser};
    make_world(&at_the_limit);
    to_publish = 2;
    finish("max_leases", explore_all(2, before_limit, after_limit, actors, 3));
}

/* --- tickets: redeemed payload is whole, and a ticket is good while a lease that made one is held ------------------------------ */

static const world_options ticketed = {.depth = 1, .max_subscribers = 64}; /* a slot that is free again is used at once */
static int kept; /* leases of sample 1 that made a ticket */

/* readers[0] has leased sample 1 and made a ticket of it; the others redeem tickets. */
static void before_tickets(void)
{
    reset_world(&ticketed, 3, 1, 0);
    zs_reader_join(readers[0], &world_identity, 0, ZS_AFTER_HISTORY);
    zs_reader_join_for_tickets(readers[1], &world_identity);
    zs_reader_join_for_tickets(readers[2], &world_identity);
    publish_sample();
    CHECK_EQUAL(zs_reader_take(readers[0], &held_slot), ZS_TAKE_LEASED);
    zs_slot_refer(&w->segment, held_slot, 1);
    kept = 1;
}
static void before_late_tickets(void)
{
    before_tickets();
    kept = 0;
    zs_reader_release(readers[0], held_slot);
    publish_sample();
}
static void check_ticketed_payload(void)
{
    const uint64_t *words = world_words(w, held_slot);
    CHECK_EQUAL(words[0], 1);
    ZS_STEP();
    CHECK_EQUAL(words[1], ~UINT64_C(1));
    ZS_STEP();
    CHECK_EQUAL(words[0], 1);
}
static void maker(void)
{
    check_ticketed_payload();
    kept--;
    zs_reader_release(readers[0], held_slot);
}
/* Redeem the ticket, and make another one of the lease. */
static void redeem_with(zs_reader *r)
{
    int needed = kept;
    if (zs_reader_redeem(r, held_slot, 1) != ZS_TAKE_LEASED) {
        CHECK(!needed || !kept);
        return;
    }
    zs_slot_refer(&w->segment, held_slot, 1);
    kept++;
    check_ticketed_payload();
    kept--;
    zs_reader_release_redeemed(r, held_slot);
}
static void redeemer_1(void)
{
    redeem_with(readers[1]);
}
static void redeemer_2(void)
{
    redeem_with(readers[2]);
}
static void patient_publisher(void)
{
    for (uint64_t i = 0; i < to_publish; i++) {
        uint32_t slot = zs_owner_reserve(&w->owner, 0);
        if (slot == ZS_NO_SLOT)
            continue;
        world_words(w, slot)[0] = w->owner.published + 1;
        ZS_STEP();
        world_words(w, slot)[1] = ~(w->owner.published + 1);
        zs_owner_commit(&w->owner, slot, 16, 0);
        zs_owner_let_go(&w->owner, slot);
    }
}
static void after_tickets(void)
{
    for (uint32_t i = 0; i < w->slot_count; i++)
        CHECK_EQUAL(*zs_slot_readers(&w->segment, i), 0);
    publish_sample();
    publish_sample();
    world_use_every_slot(w);
    for (uint32_t i = 0; i < w->slot_count; i++)
        CHECK_EQUAL(zs_slot_at(&w->segment, i)->reference, 0); /* no slot is lost to a ticket */
    CHECK_EQUAL(zs_reader_redeem(readers[1], held_slot, 1), ZS_TAKE_NONE);
}

static void redeemed_payload_is_whole(void)
{
    void (*const actors[])(void) = {patient_publisher, maker, redeemer_1};
    make_world(&ticketed);
    to_publish = 3;
    finish("tickets", explore_all(2, before_tickets, after_tickets, actors, 3));
}

static void ticket_of_a_redeemed_sample_is_good_while_it_is_held(void)
{
    void (*const actors[])(void) = {patient_publisher, redeemer_1, redeemer_2};
    make_world(&ticketed);
    to_publish = 2;
    finish("tickets of tickets", explore_all(3, before_late_tickets, after_tickets, actors, 3));
}

/* --- park and wake ------------------------------------------------------------------------------------------------------------ */

static void parking_taker(void)
{
    zs_reader *r = readers[0];
    uint32_t slot;
    while (r->cursor < to_publish + 1) {
        enum zs_take result = zs_reader_take(r, &slot);
        uint32_t seen;
        if (result == ZS_TAKE_LEASED) {
            zs_reader_release(r, slot);
            continue;
        }
        CHECK_EQUAL(result, ZS_TAKE_NONE);
        seen = zs_reader_park(r);
        if (!zs_reader_ready(r))
            zs_futex_wait(r->segment->generation, seen, UINT64_MAX);
        zs_reader_unpark(r);
    }
}

static void no_wake_up_is_lost(void)
{
    void (*const actors[])(void) = {publisher, parking_taker};
    make_world(&tiny);
    to_publish = 2;
    finish("park", explore_all(4, before_one, after_one, actors, 2));
}

/* Two threads of one subscriber sleep: only the last may clear the parked bit. */
static int sleepers, finished;

static void one_of_two_sleepers(void)
{
    zs_reader *r = readers[0];
    while (zs_load(r->segment->published, ZS_ACQUIRE) < to_publish + 1) {
        uint32_t seen;
        sleepers++;
        seen = zs_reader_park(r);
        if (zs_load(r->segment->published, ZS_ACQUIRE) < to_publish + 1)
            zs_futex_wait(r->segment->generation, seen, UINT64_MAX);
        if (--sleepers == 0)
            zs_reader_unpark(r);
    }
    finished++;
}
static void before_sleepers(void)
{
    before_one();
    sleepers = finished = 0;
}
static void after_sleepers(void)
{
    CHECK_EQUAL(finished, 2);
}

static void two_sleepers_of_one_subscriber_are_both_woken(void)
{
    void (*const actors[])(void) = {publisher, one_of_two_sleepers, one_of_two_sleepers};
    make_world(&tiny);
    to_publish = 2;
    finish("two sleepers", explore_all(2, before_sleepers, after_sleepers, actors, 3));
}

/* A wait for a change loads generation, checks, and sleeps on that value. It does not look at the ring again. */
static void waiter_for_change(void)
{
    zs_reader *r = readers[0];
    for (;;) {
        uint32_t last = zs_load(r->segment->generation, ZS_GENERATION_LOAD);
        if (zs_load(r->segment->published, ZS_ACQUIRE) == to_publish + 1)
            break;
        if (zs_reader_park(r) == last)
            zs_futex_wait(r->segment->generation, last, UINT64_MAX);
        zs_reader_unpark(r);
    }
}

static void no_change_is_missed(void)
{
    void (*const actors[])(void) = {publisher, waiter_for_change};
    make_world(&tiny);
    to_publish = 2;
    finish("change", explore_all(3, before_one, after_one, actors, 2));
}

/* --- batches: the same promises while generation is behind `published` -------------------------------------------------------- */

static void batches_are_whole_and_counted(void)
{
    void (*const actors[])(void) = {batching_publisher, taker_of_newest};
    make_world(&tiny);
    to_publish = 3;
    finish("batch", explore_all(3, before_one, after_one, actors, 2));
}

static void copies_are_whole_and_counted(void)
{
    void (*const published[])(void) = {copying_publisher, taker_of_newest};
    void (*const taken[])(void) = {publisher, copier};
    void (*const both[])(void) = {copying_publisher, copier};
    make_world(&tiny);
    to_publish = 3;
    finish("published copies", explore_all(3, before_one, after_one, published, 2));
    make_world(&tiny);
    finish("taken copies", explore_all(3, before_one, after_one, taken, 2));
    make_world(&tiny);
    finish("copies", explore_all(3, before_one, after_one, both, 2));
}

static void batch_wakes_sleeping_readers(void)
{
    void (*const takes[])(void) = {batching_publisher, parking_taker};
    void (*const waits[])(void) = {batching_publisher, waiter_for_change};
    void (*const copies[])(void) = {copying_publisher, parking_taker};
    make_world(&tiny);
    to_publish = 2;
    finish("copies, park", explore_all(3, before_one, after_one, copies, 2));
    make_world(&tiny);
    finish("batch, park", explore_all(4, before_one, after_one, takes, 2));
    make_world(&tiny);
    finish("batch, change", explore_all(3, before_one, after_one, waits, 2));
}

/* --- block and space ---------------------------------------------------------------------------------------------------------- */

static const world_options blocking = {.depth = 1, .max_subscribers = 64, .policy = ZS_BLOCK};

static void blocking_publisher(void)
{
    uint32_t index = 0;
    for (uint64_t i = 0; i < to_publish; i++) {
        uint32_t slot = zs_owner_window_full(&w->owner, &index) ? ZS_NO_SLOT : zs_owner_reserve(&w->owner, 0);
        while (slot == ZS_NO_SLOT) {
            uint32_t seen = zs_owner_block_begin(&w->segment);
            if (!zs_owner_window_full(&w->owner, &index))
                slot = zs_owner_reserve(&w->owner, 0);
            if (slot == ZS_NO_SLOT)
                zs_futex_wait(w->segment.space, seen, UINT64_MAX);
            zs_owner_block_end(&w->segment);
        }
        zs_owner_commit(&w->owner, slot, 0, 0);
        zs_owner_let_go(&w->owner, slot);
    }
}

static int something_to_take(void)
{
    return (*w->segment.published) > readers[0]->cursor;
}
static void reliable_taker(void)
{
    zs_reader *r = readers[0];
    uint32_t slot;
    while (r->cursor < to_publish) {
        explore_await(something_to_take);
        CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED);
        CHECK_EQUAL(r->lost, 0);
        zs_reader_release(r, slot);
    }
}
static void before_blocking(void)
{
    reset_world(&blocking, 1, 1, 1);
    zs_reader_join(readers[0], &world_identity, 0, ZS_AFTER_HISTORY);
}
static void after_blocking(void)
{
    CHECK_EQUAL(w->owner.published, to_publish);
    CHECK_EQUAL(readers[0]->taken, to_publish);
}

static void no_space_wake_up_is_lost(void)
{
    void (*const actors[])(void) = {blocking_publisher, reliable_taker};
    make_world(&blocking);
    to_publish = 3;
    finish("block", explore_all(3, before_blocking, after_blocking, actors, 2));
}

/* Batches of both sides, each of which sleeps where it cannot go on. An owner that slept before it announced its samples, or a reader
 * that slept before it settled its copies, would never be woken. */
static const world_options blocking_batches = {.depth = 2, .max_loans = 2, .max_subscribers = 64, .policy = ZS_BLOCK};

static void blocking_copying_publisher(void)
{
    uint64_t words[4][2];
    zs_samples samples = {.data = (const uint8_t *)words, .stride = 16, .size = 16, .capacity = 16};
    for (uint64_t i = 0; i < to_publish; i++) {
        words[i][0] = 1 + i;
        words[i][1] = ~words[i][0];
    }
    for (uint64_t done = 0; done < to_publish;) {
        uint32_t count = (uint32_t)(to_publish - done), seen;
        samples.data = (const uint8_t *)words[done];
        done += zs_owner_publish_copies(&w->owner, &samples, count, 2);
        if (done == to_publish)
            break;
        seen = zs_owner_block_begin(&w->segment);
        if (zs_owner_room(&w->owner) == 0)
            zs_futex_wait(w->segment.space, seen, UINT64_MAX);
        zs_owner_block_end(&w->segment);
    }
}
static void parking_copier(void)
{
    zs_reader *r = readers[0];
    while (r->cursor < to_publish) {
        uint64_t before = r->cursor;
        uint32_t seen;
        copy_some(r);
        CHECK_EQUAL(r->lost, 0);
        if (r->cursor != before)
            continue;
        seen = zs_reader_park(r);
        if (!zs_reader_ready(r))
            zs_futex_wait(r->segment->generation, seen, UINT64_MAX);
        zs_reader_unpark(r);
    }
}
static void before_blocking_batches(void)
{
    reset_world(&blocking_batches, 1, 1, 1);
    zs_reader_join(readers[0], &world_identity, 0, ZS_AFTER_HISTORY);
}

static void no_wake_up_between_batches_is_lost(void)
{
    void (*const actors[])(void) = {blocking_copying_publisher, parking_copier};
    make_world(&blocking_batches);
    to_publish = 4;
    finish("batches, block", explore_all(2, before_blocking_batches, after_blocking, actors, 2));
}

/* A reader leaves while the owner waits for its cursor. */
static void leaver(void)
{
    zs_reader_leave(readers[0]);
}
static void after_leaving(void)
{
    CHECK_EQUAL(w->owner.published, to_publish);
}

static void leave_unblocks_the_owner(void)
{
    void (*const actors[])(void) = {blocking_publisher, leaver};
    make_world(&blocking);
    to_publish = 3;
    finish("leave", explore_all(4, before_blocking, after_leaving, actors, 2));
}

/* --- join and publish --------------------------------------------------------------------------------------------------------- */

static const world_options joinable = {.depth = 3, .max_loans = 1, .spare_slots = 1, .max_subscribers = 64, .policy = ZS_BLOCK};
static uint64_t published_before;

static void before_join(void)
{
    reset_world(&joinable, 1, 1, 1);
    for (uint64_t i = 0; i < published_before; i++)
        publish_sample();
}
static void joiner(void)
{
    zs_reader_join(readers[0], &world_identity, (uint32_t)history_wanted, ZS_AFTER_HISTORY);
    first_taken[0] = readers[0]->cursor + 1;
}
/* The reader starts at most `history` samples before what was published at the join, and misses nothing from there on. */
static void after_join(void)
{
    uint64_t latest = published_before + 1 > (uint64_t)history_wanted ? published_before + 1 - (uint64_t)history_wanted : 1;
    if (history_wanted > 0 && w->owner.published == published_before)
        CHECK(first_taken[0] <= latest);
    uint32_t slot;
    uint64_t n = first_taken[0];
    while (zs_reader_take(readers[0], &slot) == ZS_TAKE_LEASED) {
        CHECK_EQUAL(readers[0]->cursor, n++);
        CHECK_EQUAL(readers[0]->lost, 0);
        zs_reader_release(readers[0], slot);
    }
    CHECK_EQUAL(n, w->owner.published + 1);
}

static void reliable_joiner_misses_nothing(void)
{
    void (*const actors[])(void) = {reliable_publisher, joiner};
    for (published_before = 0; published_before <= 6; published_before++)
        for (history_wanted = 0; history_wanted <= 2; history_wanted++) {
            make_world(&joinable);
            to_publish = 6;
            finish("join", explore_all(2, before_join, after_join, actors, 2));
        }
}

int main(void)
{
    RUN(leases_are_whole_and_counted);
    RUN(overtaken_reader_finds_published_far_enough);
    RUN(leases_of_two_readers_are_whole_and_counted);
    RUN(growth_misses_no_sample);
    RUN(latest_is_whole_and_counted);
    RUN(release_in_another_thread_frees_only_its_slot);
    RUN(reused_slot_never_looks_held);
    RUN(reader_never_exceeds_max_leases);
    RUN(redeemed_payload_is_whole);
    RUN(ticket_of_a_redeemed_sample_is_good_while_it_is_held);
    RUN(no_wake_up_is_lost);
    RUN(no_change_is_missed);
    RUN(two_sleepers_of_one_subscriber_are_both_woken);
    RUN(batches_are_whole_and_counted);
    RUN(copies_are_whole_and_counted);
    RUN(batch_wakes_sleeping_readers);
    RUN(no_space_wake_up_is_lost);
    RUN(no_wake_up_between_batches_is_lost);
    RUN(leave_unblocks_the_owner);
    RUN(reliable_joiner_misses_nothing);
    return 0;
}
