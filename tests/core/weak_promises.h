/* SPDX-License-Identifier: Apache-2.0
 *
 * weak_promises.h - the promises of the protocol, as small programs of two or three actors under the model of weak.h.
 *
 * Each test is named after its promise. `make_world` and `finish` enclose a search; `weak_all` runs it. */
#ifndef WEAK_PROMISES_H
#define WEAK_PROMISES_H

#include "weak.h"

static world *w;
static zs_reader *readers[2];
static uint64_t to_publish;
static uint32_t held_slot;

static void make_world(const world_options *options)
{
    weak.world = w = world_make(options);
    for (int i = 0; i < 2; i++)
        readers[i] = world_reader(w, 0, 1, 0);
}

static void finish(const char *what, uint64_t runs)
{
    if (getenv("CHECK_VERBOSE") != NULL)
        fprintf(stderr, "    %s: %llu runs, %llu of all runs impossible, %llu steps\n", what, (unsigned long long)runs,
                (unsigned long long)weak.impossible, (unsigned long long)weak.steps);
    for (int i = 0; i < 2; i++)
        world_free_reader(readers[i]);
    world_free(w);
}

static void reset_world(const world_options *options, int count, uint32_t max_leases, int reliable)
{
    world_fill(w, options);
    held_slot = ZS_NO_SLOT;
    for (int i = 0; i < count; i++)
        world_reset_reader(w, readers[i], (uint32_t)i * 31, max_leases, reliable);
}

/* --- actors ------------------------------------------------------------------------------------------------------------------- */

static void publish_in(uint32_t slot)
{
    uint64_t n = w->owner.published + 1;
    weak_write_plain(world_words(w, slot), n);
    CHECK_EQUAL(zs_owner_commit(&w->owner, slot, n, n), n);
    zs_owner_let_go(&w->owner, slot);
}

/* Publishes while there is a free slot. */
static void publisher(void)
{
    for (uint64_t i = 0; i < to_publish; i++) {
        uint32_t slot = zs_owner_reserve(&w->owner, 0);
        if (slot != ZS_NO_SLOT)
            publish_in(slot);
    }
}

static void check_and_release(zs_reader *r, uint32_t slot, uint64_t n)
{
    CHECK_EQUAL(weak_read_plain(world_words(w, slot)), n);
    CHECK_EQUAL(zs_load(&zs_slot_at(&w->segment, slot)->published_ns, ZS_RELAXED), n);
    zs_reader_release(r, slot);
}

static int take_one(zs_reader *r, int newest)
{
    uint32_t slot;
    enum zs_take result = newest ? zs_reader_latest(r, &slot) : zs_reader_take(r, &slot);
    CHECK(result == ZS_TAKE_NONE || result == ZS_TAKE_LEASED);
    CHECK_EQUAL(r->taken + r->lost + r->skipped, r->cursor);
    if (result == ZS_TAKE_LEASED)
        check_and_release(r, slot, r->cursor);
    return result == ZS_TAKE_LEASED;
}

static void taker(void)
{
    take_one(readers[0], 0);
}
static void taker_of_two(void)
{
    take_one(readers[0], 0);
    take_one(readers[0], 0);
}
static void taker_of_newest(void)
{
    take_one(readers[0], 1);
}
static void nothing_to_check(void)
{
}
static void releaser(void)
{
    check_and_release(readers[0], held_slot, 1);
}

/* --- lease, ring, sequence, published ----------------------------------------------------------------------------------------- */

static const world_options tiny = {.depth = 1, .max_subscribers = 1};
static const world_options two_deep = {.depth = 2, .max_subscribers = 1};

static void publish_first_sample(const world_options *options)
{
    uint32_t slot;
    reset_world(options, 1, 1, 0);
    zs_reader_join(readers[0], &world_identity, 0, ZS_AFTER_HISTORY);
    slot = zs_owner_reserve(&w->owner, 0);
    publish_in(slot);
}
static void before_tiny(void)
{
    publish_first_sample(&tiny);
}
static void before_two_deep(void)
{
    publish_first_sample(&two_deep);
}

/* After the reader has taken the rest, each sample is taken or counted as lost, and no bit is set. */
static void check_drained(void)
{
    zs_reader *r = readers[0];
    while (take_one(r, 0))
        ;
    CHECK_EQUAL(r->cursor, w->owner.published);
    for (uint32_t i = 0; i < w->slot_count; i++)
        CHECK_EQUAL(*zs_slot_readers(&w->segment, i), 0);
}

static void leases_are_whole(void)
{
    void (*const actors[])(void) = {publisher, taker};
    make_world(&tiny);
    to_publish = 2;
    finish("lease", weak_all(4, before_tiny, check_drained, actors, 2));
}

static void overtaken_reader_finds_published_far_enough(void)
{
    void (*const actors[])(void) = {publisher, taker_of_two};
    make_world(&two_deep);
    to_publish = 3;
    finish("laps", weak_all(3, before_two_deep, check_drained, actors, 2));
}

static void newest_is_whole(void)
{
    void (*const actors[])(void) = {publisher, taker_of_newest};
    make_world(&tiny);
    to_publish = 2;
    finish("newest", weak_all(3, before_tiny, check_drained, actors, 2));
}

/* --- reference ---------------------------------------------------------------------------------------------------------------- */

/* readers[0] has leased sample 1, made a ticket of it, and released it. The sample is retired, and the next loan gets its slot. */
static const world_options ticketed = {.depth = 1, .max_subscribers = 64};
static int kept; /* leases of sample 1 that made a ticket */

static void before_tickets(void)
{
    reset_world(&ticketed, 2, 1, 0);
    zs_reader_join_for_tickets(readers[0], &world_identity);
    zs_reader_join_for_tickets(readers[1], &world_identity);
    held_slot = zs_owner_reserve(&w->owner, 0);
    publish_in(held_slot);
    zs_slot_refer(&w->segment, held_slot, 1);
    publish_in(zs_owner_reserve(&w->owner, 0));
    kept = 0;
}
static void redeem_one(zs_reader *r)
{
    int needed = kept;
    if (zs_reader_redeem(r, held_slot, 1) != ZS_TAKE_LEASED) {
        CHECK(!needed || !kept);
        return;
    }
    zs_slot_refer(&w->segment, held_slot, 1);
    kept++;
    CHECK_EQUAL(weak_read_plain(world_words(w, held_slot)), 1);
    kept--;
    zs_reader_release_redeemed(r, held_slot);
}
static void redeemer_0(void)
{
    redeem_one(readers[0]);
}
static void redeemer_1(void)
{
    redeem_one(readers[1]);
}
static void redeemed_payload_is_whole(void)
{
    void (*const one[])(void) = {publisher, redeemer_0};
    void (*const two[])(void) = {publisher, redeemer_0, redeemer_1};
    make_world(&ticketed);
    to_publish = 3;
    finish("ticket", weak_all(4, before_tickets, nothing_to_check, one, 2));
    make_world(&ticketed);
    to_publish = 2;
    finish("two tickets", weak_all(2, before_tickets, nothing_to_check, two, 3));
}

/* A ticket that is passed on without any synchronisation, between readers with bits in different words: the reference alone makes the
 * payload visible. */
static const world_options two_words = {.depth = 1, .max_subscribers = 65};
static uint64_t passed_on;

static void before_passing(void)
{
    publish_first_sample(&two_words);
    world_reset_reader(w, readers[1], 64, 1, 0);
    zs_reader_join_for_tickets(readers[1], &world_identity);
    passed_on = 0;
}
static void maker(void)
{
    uint32_t slot;
    if (zs_reader_latest(readers[0], &slot) != ZS_TAKE_LEASED)
        return;
    zs_slot_refer(&w->segment, slot, readers[0]->cursor);
    passed_on = readers[0]->cursor << 8 | slot;
    zs_reader_release(readers[0], slot);
}
static int is_passed_on(void)
{
    return passed_on != 0;
}
static void receiver(void)
{
    uint32_t slot;
    uint64_t n;
    weak_await(is_passed_on);
    slot = (uint32_t)(passed_on & 0xff), n = passed_on >> 8;
    if (zs_reader_redeem(readers[1], slot, n) != ZS_TAKE_LEASED)
        return;
    CHECK_EQUAL(weak_read_plain(world_words(w, slot)), n);
    zs_reader_release_redeemed(readers[1], slot);
}
static void ticket_passes_the_payload_on(void)
{
    void (*const actors[])(void) = {publisher, maker, receiver};
    make_world(&two_words);
    to_publish = 1;
    finish("passing", weak_all(2, before_passing, nothing_to_check, actors, 3));
}

/* --- held, released ----------------------------------------------------------------------------------------------------------- */

static void two_leases(const world_options *options, uint32_t max_leases)
{
    publish_first_sample(options);
    readers[0]->max_leases = max_leases;
    CHECK_EQUAL(zs_reader_take(readers[0], &held_slot), ZS_TAKE_LEASED);
}
static void before_release(void)
{
    two_leases(&tiny, 2);
    to_publish = 1;
    publisher();
    to_publish = 2;
}

/* One thread releases a lease of another one; the owner reuses the slot at once. */
static void released_slot_is_reused(void)
{
    void (*const actors[])(void) = {publisher, releaser, taker};
    make_world(&tiny);
    finish("release", weak_all(2, before_release, check_drained, actors, 3));
}

/* One spare slot for one lease: no loan fails. */
static const world_options spare = {.depth = 1, .spare_slots = 1, .max_subscribers = 1};

static void before_limit(void)
{
    two_leases(&spare, 1);
    publish_in(zs_owner_reserve(&w->owner, 0));
}
static void publisher_with_a_spare_slot(void)
{
    for (int i = 0; i < 2; i++) {
        uint32_t slot = zs_owner_reserve(&w->owner, 0);
        CHECK(slot != ZS_NO_SLOT);
        publish_in(slot);
    }
}
static void taker_without_release(void)
{
    uint32_t slot;
    enum zs_take result = zs_reader_take(readers[0], &slot);
    CHECK(result != ZS_TAKE_CORRUPT);
}

static void loan_never_fails_because_of_readers(void)
{
    void (*const actors[])(void) = {publisher_with_a_spare_slot, taker_without_release, releaser};
    make_world(&spare);
    finish("limit", weak_all(3, before_limit, nothing_to_check, actors, 3));
}

/* A slot that the owner's process views is not reused. */
static void viewer(void)
{
    CHECK_EQUAL(weak_read_plain(world_words(w, held_slot)), 1);
    zs_owner_let_go(&w->owner, held_slot);
}
static void before_view(void)
{
    reset_world(&tiny, 0, 1, 0);
    held_slot = zs_owner_reserve(&w->owner, 0);
    weak_write_plain(world_words(w, held_slot), 1);
    zs_owner_commit(&w->owner, held_slot, 1, 1);
}
static void own_views_are_whole(void)
{
    void (*const actors[])(void) = {publisher, viewer};
    make_world(&tiny);
    to_publish = 2;
    finish("views", weak_all(3, before_view, nothing_to_check, actors, 2));
}

/* --- park --------------------------------------------------------------------------------------------------------------------- */

static void parking_taker(void)
{
    zs_reader *r = readers[0];
    while (r->cursor < to_publish + 1) {
        uint32_t seen;
        if (take_one(r, 0))
            continue;
        seen = zs_reader_park(r);
        if (!zs_reader_ready(r))
            zs_futex_wait(r->segment->generation, seen, UINT64_MAX);
        zs_reader_unpark(r);
    }
}
static const world_options roomy = {.depth = 2, .spare_slots = 2, .max_subscribers = 1};
static void before_park(void)
{
    publish_first_sample(&roomy);
    take_one(readers[0], 0);
}

static void no_wake_up_is_lost(void)
{
    void (*const actors[])(void) = {publisher, parking_taker};
    make_world(&roomy);
    to_publish = 2;
    finish("park", weak_all(3, before_park, check_drained, actors, 2));
}

/* A load of generation makes earlier samples visible, so a wait for a change need not look at the ring again. */
static void waiter_for_change(void)
{
    zs_reader *r = readers[0];
    for (;;) {
        uint32_t last = zs_load(r->segment->generation, ZS_GENERATION_LOAD);
        if (zs_reader_ready(r))
            break;
        if (zs_reader_park(r) == last)
            zs_futex_wait(r->segment->generation, last, UINT64_MAX);
        zs_reader_unpark(r);
    }
}

static void no_change_is_missed(void)
{
    void (*const actors[])(void) = {publisher, waiter_for_change};
    make_world(&roomy);
    to_publish = 1;
    finish("change", weak_all(4, before_park, check_drained, actors, 2));
}

/* --- space -------------------------------------------------------------------------------------------------------------------- */

static const world_options blocking = {.depth = 1, .max_subscribers = 1, .policy = ZS_BLOCK};

static void blocking_publisher(void)
{
    uint32_t index = 0;
    for (uint64_t i = 0; i < to_publish; i++) {
        uint32_t slot = zs_owner_window_full(&w->owner, &index) ? ZS_NO_SLOT : zs_owner_reserve(&w->owner, 0);
        if (slot == ZS_NO_SLOT) {
            uint32_t seen = zs_owner_block_begin(&w->segment);
            for (;;) {
                if (!zs_owner_window_full(&w->owner, &index))
                    slot = zs_owner_reserve(&w->owner, 0);
                if (slot != ZS_NO_SLOT)
                    break;
                zs_futex_wait(w->segment.space, seen, UINT64_MAX);
                seen = zs_load(w->segment.space, ZS_SPACE_LOAD);
            }
            zs_owner_block_end(&w->segment);
        }
        publish_in(slot);
    }
}

/* The owner waits for the release of the only other slot. */
static void before_full(void)
{
    two_leases(&tiny, 1);
    publish_in(zs_owner_reserve(&w->owner, 0));
}
static void no_release_is_missed(void)
{
    void (*const actors[])(void) = {blocking_publisher, releaser};
    make_world(&tiny);
    to_publish = 1;
    finish("space", weak_all(5, before_full, nothing_to_check, actors, 2));
}

/* The owner waits for the cursor of a reliable reader. */
static int something_to_take(void)
{
    return *w->segment.published > readers[0]->cursor;
}
static void reliable_taker(void)
{
    zs_reader *r = readers[0];
    while (r->cursor < to_publish + 1) {
        weak_await(something_to_take);
        take_one(r, 0);
        CHECK_EQUAL(r->lost, 0);
    }
}
static void before_window(void)
{
    reset_world(&blocking, 1, 1, 1);
    zs_reader_join(readers[0], &world_identity, 0, ZS_AFTER_HISTORY);
    publish_in(zs_owner_reserve(&w->owner, 0));
}
static void no_cursor_is_missed(void)
{
    void (*const actors[])(void) = {blocking_publisher, reliable_taker};
    make_world(&blocking);
    to_publish = 1;
    finish("window", weak_all(3, before_window, nothing_to_check, actors, 2));
}

static void leaver(void)
{
    zs_reader_leave(readers[0]);
}
static void no_leaving_is_missed(void)
{
    void (*const actors[])(void) = {blocking_publisher, leaver};
    make_world(&blocking);
    to_publish = 1;
    finish("leave", weak_all(5, before_window, nothing_to_check, actors, 2));
}

/* When the last view in the owner's process goes, zs_owner_let_go stores `held` (release), then `waiting` is loaded. The load may
 * take effect before the store, so this promise needs seq_cst, which the headers do not use there: see weak.md. */
static void viewer_that_wakes(void)
{
    zs_owner_let_go(&w->owner, held_slot);
    if (zs_load(w->segment.waiting, ZS_WAITING_LOAD) != 0)
        zs_bump_space(&w->segment);
}
static void before_full_of_views(void)
{
    before_view();
    publish_in(zs_owner_reserve(&w->owner, 0));
}
static void no_view_is_missed(void)
{
    void (*const actors[])(void) = {blocking_publisher, viewer_that_wakes};
    make_world(&tiny);
    to_publish = 1;
    finish("let go", weak_all(4, before_full_of_views, nothing_to_check, actors, 2));
}

/* --- join --------------------------------------------------------------------------------------------------------------------- */

static const world_options joinable = {.depth = 2, .spare_slots = 1, .max_subscribers = 1, .policy = ZS_BLOCK};
static uint64_t published_before, first_cursor;
static uint32_t history;
static int announces_batch = 1;

static void reliable_publisher(void)
{
    uint32_t index = 0;
    for (uint64_t i = 0; i < to_publish; i++)
        if (!zs_owner_window_full(&w->owner, &index)) {
            uint32_t slot = zs_owner_reserve(&w->owner, 0);
            CHECK(slot != ZS_NO_SLOT);
            publish_in(slot);
        }
}
static void before_join(void)
{
    reset_world(&joinable, 1, 1, 1);
    for (uint64_t i = 0; i < published_before; i++)
        publish_in(zs_owner_reserve(&w->owner, 0));
}
static void joiner(void)
{
    CHECK(zs_reader_join(readers[0], &world_identity, history, ZS_AFTER_HISTORY));
    first_cursor = readers[0]->cursor;
}
static void after_join(void)
{
    zs_reader *r = readers[0];
    CHECK(first_cursor + history <= w->owner.published || first_cursor == 0);
    CHECK(first_cursor + history >= published_before);
    while (zs_load(&r->cursor, ZS_RELAXED) < w->owner.published) {
        uint32_t slot;
        CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED);
        CHECK_EQUAL(r->lost, 0);
        zs_reader_release(r, slot);
    }
}
static void reliable_joiner_misses_nothing(void)
{
    void (*const actors[])(void) = {reliable_publisher, joiner};
    for (history = 0; history <= 1; history++) {
        make_world(&joinable);
        published_before = 2;
        to_publish = 3;
        finish("join", weak_all(3, before_join, after_join, actors, 2));
    }
}

/* A batch of max_loans samples, and one more sample. If the owner checked its window before it announced the batch, the last commit
 * could retire a sample that the joining reader has not taken. */
static const world_options batchable = {.depth = 2, .max_loans = 2, .spare_slots = 1, .max_subscribers = 1, .policy = ZS_BLOCK};

static void batching_publisher(void)
{
    uint32_t slots[2], index = 0;
    for (int i = 0; i < 2; i++) {
        if (zs_owner_window_full(&w->owner, &index))
            return;
        slots[i] = zs_owner_reserve(&w->owner, 0);
    }
    for (int i = 0; i < 2; i++) {
        uint64_t n = w->owner.published + 1;
        weak_write_plain(world_words(w, slots[i]), n);
        CHECK_EQUAL(zs_owner_place(&w->owner, slots[i], n, n), n);
        zs_owner_retire_oldest(&w->owner);
        zs_owner_let_go(&w->owner, slots[i]);
    }
    if (announces_batch)
        zs_owner_announce(&w->owner);
    for (uint64_t i = 0; i < to_publish; i++)
        if (!zs_owner_window_full(&w->owner, &index))
            publish_in(zs_owner_reserve(&w->owner, 0));
}
static void before_batch(void)
{
    reset_world(&batchable, 1, 1, 1);
    for (uint64_t i = 0; i < published_before; i++)
        publish_in(zs_owner_reserve(&w->owner, 0));
}
static void reliable_joiner_misses_nothing_of_a_batch(void)
{
    void (*const actors[])(void) = {batching_publisher, joiner};
    history = 0;
    make_world(&batchable);
    published_before = 2;
    to_publish = 1;
    finish("batch", weak_all(3, before_batch, after_join, actors, 2));
}

/* --- batches ------------------------------------------------------------------------------------------------------------------ */

static void copying_publisher(void)
{
    uint64_t words[2] = {w->owner.published + 1, w->owner.published + 2};
    zs_samples samples = {(const uint8_t *)words, 8, 8, 8, 0, 0};
    zs_owner_publish_copies(&w->owner, &samples, (uint32_t)to_publish, w->header.max_loans);
}

static void copier(void)
{
    static const uint32_t first_slot = 0;
    char *data = (char *)w->payload;
    zs_payloads p = {&data, &w->slot_capacity, &first_slot, 1, w->slot_count};
    zs_reader *r = readers[0];
    zs_copier c;
    uint64_t value, published_ns;
    enum zs_take result;
    zs_copier_begin(&c, r, &p, 0, 0);
    result = zs_copier_next(&c, (uint8_t *)&value, &published_ns);
    CHECK(result == ZS_TAKE_NONE || result == ZS_TAKE_COPIED);
    if (result == ZS_TAKE_COPIED)
        CHECK_EQUAL(value, r->cursor);
    zs_copier_settle(&c);
    CHECK_EQUAL(r->taken + r->lost + r->skipped, r->cursor);
}

static void check_emptied(void)
{
    uint32_t slot;
    while (zs_reader_take(readers[0], &slot) == ZS_TAKE_LEASED)
        zs_reader_release(readers[0], slot);
    CHECK_EQUAL(readers[0]->cursor, w->owner.published);
}

static void copies_are_whole(void)
{
    void (*const taken[])(void) = {publisher, copier};
    void (*const both[])(void) = {copying_publisher, copier};
    make_world(&tiny);
    to_publish = 2;
    finish("taken copies", weak_all(3, before_tiny, check_emptied, taken, 2));
    make_world(&tiny);
    finish("copies", weak_all(3, before_tiny, check_emptied, both, 2));
}

/* The reader joins while the owner publishes a batch of as many samples as max_loans, and looks at its window again. */
static void copying_publisher_of_two_batches(void)
{
    copying_publisher();
    to_publish = 1;
    copying_publisher();
    to_publish = 2;
}
static void before_copies(void)
{
    to_publish = 2;
    before_batch();
}
static void reliable_joiner_misses_nothing_of_published_copies(void)
{
    void (*const actors[])(void) = {copying_publisher_of_two_batches, joiner};
    history = 0;
    make_world(&batchable);
    published_before = 2;
    finish("join, copies", weak_all(3, before_copies, after_join, actors, 2));
}

/* --- ready -------------------------------------------------------------------------------------------------------------------- */

static uint64_t contents;

static void before_ready(void)
{
    reset_world(&tiny, 0, 1, 0);
    w->segment.header->state = ZS_CREATING;
}
static void creator(void)
{
    weak_write_plain(&contents, 7);
    zs_segment_open(&w->segment);
}
static void attacher(void)
{
    for (int i = 0; i < 2; i++)
        if (zs_segment_state(&w->segment) == ZS_OPEN)
            CHECK_EQUAL(weak_read_plain(&contents), 7);
}
static void open_segment_is_complete(void)
{
    void (*const actors[])(void) = {creator, attacher};
    make_world(&tiny);
    finish("ready", weak_all(4, before_ready, nothing_to_check, actors, 2));
}

#endif
