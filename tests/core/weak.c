/* SPDX-License-Identifier: Apache-2.0
 *
 * Which memory orders are needed: the shipped headers under the model of weak.h, as they are and with one order weaker at a time.
 *
 *   weak                    nothing may go wrong as shipped, and something has to with every weaker order
 *   weak ORDER WEAKER       one of them, and the accesses that led there: weak ZS_LEASE_LOAD acquire
 *   weak let-go             the same for a wake-up that can be late (weak.md)
 *
 * An order is weakened by one step (seq_cst to acq_rel, acquire or release; those to what is below), and further where that goes
 * unnoticed. WEAK_MORE=1 looks one deviation further, for minutes; CHECK_VERBOSE=1 tells the number of runs. */
#include <sys/wait.h>

#include "weak.h"

static world *w;
static zs_reader *readers[2];
static uint64_t to_publish;
static uint32_t held_slot;

static void begin(const world_options *options)
{
    weak.world = w = world_make(options);
    for (int i = 0; i < 2; i++)
        readers[i] = world_reader(w, 0, 1, 0);
}

static void end(const char *what, uint64_t runs)
{
    if (getenv("CHECK_VERBOSE") != NULL)
        fprintf(stderr, "    %s: %llu runs, %llu of all are impossible, %llu steps\n", what, (unsigned long long)runs,
                (unsigned long long)weak.impossible, (unsigned long long)weak.steps);
    for (int i = 0; i < 2; i++)
        world_forget(readers[i]);
    world_end(w);
}

static void fresh(const world_options *options, int count, uint32_t max_leases, int reliable)
{
    world_fill(w, options);
    held_slot = ZS_NO_SLOT;
    for (int i = 0; i < count; i++) {
        uint32_t *held = readers[i]->held;
        memset(readers[i], 0, sizeof *readers[i]);
        memset(held, 0, w->slot_count * sizeof *held);
        readers[i]->held = held;
        readers[i]->segment = &w->segment;
        readers[i]->slot_count = w->slot_count;
        readers[i]->index = (uint32_t)i * 31;
        readers[i]->peer = zs_peer_at(&w->segment, readers[i]->index);
        readers[i]->max_leases = max_leases;
        readers[i]->reliable = (uint32_t)reliable;
    }
}

/* --- actors ------------------------------------------------------------------------------------------------------------------ */

static void publish_in(uint32_t slot)
{
    uint64_t n = w->owner.published + 1;
    weak_write_plain(world_words(w, slot), n);
    CHECK_EQUAL(zs_owner_commit(&w->owner, slot, n, n), n);
    zs_owner_let_go(&w->owner, slot);
}

/* Publishes what it finds slots for. */
static void publisher(void)
{
    for (uint64_t i = 0; i < to_publish; i++) {
        uint32_t slot = zs_owner_reserve(&w->owner);
        if (slot != ZS_NO_SLOT)
            publish_in(slot);
    }
}

static void use_and_release(zs_reader *r, uint32_t slot, uint64_t n)
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
        use_and_release(r, slot, r->cursor);
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
static void releaser(void)
{
    use_and_release(readers[0], held_slot, 1);
}

/* --- lease, ring, sequence, published ---------------------------------------------------------------------------------------- */

static const world_options tiny = {.depth = 1, .max_subscribers = 1};
static const world_options two_deep = {.depth = 2, .max_subscribers = 1};

static void one_is_there(const world_options *options)
{
    uint32_t slot;
    fresh(options, 1, 1, 0);
    zs_reader_join(readers[0], &world_someone, 0, ZS_AFTER_HISTORY);
    slot = zs_owner_reserve(&w->owner);
    publish_in(slot);
}
static void before_tiny(void)
{
    one_is_there(&tiny);
}
static void before_two_deep(void)
{
    one_is_there(&two_deep);
}

/* Whoever comes last finds an account of every sample, and no bit. */
static void drained(void)
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
    begin(&tiny);
    to_publish = 2;
    end("lease", weak_all(4, before_tiny, drained, actors, 2));
}

static void laps_are_believed(void)
{
    void (*const actors[])(void) = {publisher, taker_of_two};
    begin(&two_deep);
    to_publish = 3;
    end("laps", weak_all(3, before_two_deep, drained, actors, 2));
}

static void newest_is_whole(void)
{
    void (*const actors[])(void) = {publisher, taker_of_newest};
    begin(&tiny);
    to_publish = 2;
    end("newest", weak_all(3, before_tiny, drained, actors, 2));
}

/* --- held, released ---------------------------------------------------------------------------------------------------------- */

static void two_leases(const world_options *options, uint32_t max_leases)
{
    one_is_there(options);
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

/* One thread releases what another one took; the slot comes back at once. */
static void a_released_slot_comes_back(void)
{
    void (*const actors[])(void) = {publisher, releaser, taker};
    begin(&tiny);
    end("release", weak_all(2, before_release, drained, actors, 3));
}

/* The spare slot covers the only lease: no loan fails. */
static const world_options spare = {.depth = 1, .spare_slots = 1, .max_subscribers = 1};

static void before_limit(void)
{
    two_leases(&spare, 1);
    publish_in(zs_owner_reserve(&w->owner));
}
static void publisher_that_never_fails(void)
{
    for (int i = 0; i < 2; i++) {
        uint32_t slot = zs_owner_reserve(&w->owner);
        CHECK(slot != ZS_NO_SLOT);
        publish_in(slot);
    }
}
static void taker_who_keeps(void)
{
    uint32_t slot;
    enum zs_take result = zs_reader_take(readers[0], &slot);
    CHECK(result != ZS_TAKE_CORRUPT);
}
static void nothing_to_judge(void)
{
}

static void a_loan_never_fails_because_of_readers(void)
{
    void (*const actors[])(void) = {publisher_that_never_fails, taker_who_keeps, releaser};
    begin(&spare);
    end("limit", weak_all(3, before_limit, nothing_to_judge, actors, 3));
}

/* A view in the owner's process keeps the slot of its own sample. */
static void viewer(void)
{
    CHECK_EQUAL(weak_read_plain(world_words(w, held_slot)), 1);
    zs_owner_let_go(&w->owner, held_slot);
}
static void before_view(void)
{
    fresh(&tiny, 0, 1, 0);
    held_slot = zs_owner_reserve(&w->owner);
    weak_write_plain(world_words(w, held_slot), 1);
    zs_owner_commit(&w->owner, held_slot, 1, 1);
}
static void own_views_are_whole(void)
{
    void (*const actors[])(void) = {publisher, viewer};
    begin(&tiny);
    to_publish = 2;
    end("views", weak_all(3, before_view, nothing_to_judge, actors, 2));
}

/* --- park -------------------------------------------------------------------------------------------------------------------- */

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
    one_is_there(&roomy);
    take_one(readers[0], 0);
}

static void no_wake_up_is_lost(void)
{
    void (*const actors[])(void) = {publisher, parking_taker};
    begin(&roomy);
    to_publish = 2;
    end("park", weak_all(3, before_park, drained, actors, 2));
}

/* Whoever saw a generation has seen what came before it; and a wait on it does not look at the ring. */
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
    begin(&roomy);
    to_publish = 1;
    end("change", weak_all(4, before_park, drained, actors, 2));
}

/* --- space ------------------------------------------------------------------------------------------------------------------- */

static const world_options blocking = {.depth = 1, .max_subscribers = 1, .policy = ZS_BLOCK};

static void blocking_publisher(void)
{
    uint32_t index = 0;
    for (uint64_t i = 0; i < to_publish; i++) {
        uint32_t slot = zs_owner_window_full(&w->owner, &index) ? ZS_NO_SLOT : zs_owner_reserve(&w->owner);
        if (slot == ZS_NO_SLOT) {
            uint32_t seen = zs_owner_block_begin(&w->segment);
            for (;;) {
                if (!zs_owner_window_full(&w->owner, &index))
                    slot = zs_owner_reserve(&w->owner);
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

/* The only other slot is released. */
static void before_full(void)
{
    two_leases(&tiny, 1);
    publish_in(zs_owner_reserve(&w->owner));
}
static void no_release_is_missed(void)
{
    void (*const actors[])(void) = {blocking_publisher, releaser};
    begin(&tiny);
    to_publish = 1;
    end("space", weak_all(5, before_full, nothing_to_judge, actors, 2));
}

/* A reliable cursor moves. */
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
    fresh(&blocking, 1, 1, 1);
    zs_reader_join(readers[0], &world_someone, 0, ZS_AFTER_HISTORY);
    publish_in(zs_owner_reserve(&w->owner));
}
static void no_cursor_is_missed(void)
{
    void (*const actors[])(void) = {blocking_publisher, reliable_taker};
    begin(&blocking);
    to_publish = 1;
    end("window", weak_all(3, before_window, nothing_to_judge, actors, 2));
}

static void leaver(void)
{
    zs_reader_leave(readers[0]);
}
static void no_leaving_is_missed(void)
{
    void (*const actors[])(void) = {blocking_publisher, leaver};
    begin(&blocking);
    to_publish = 1;
    end("leave", weak_all(5, before_window, nothing_to_judge, actors, 2));
}

/* A view in the owner's process falls as zs_owner_let_go and a look at `waiting`. That store is a release and the look may come
 * before it, so this promise holds with seq_cst only; see weak.md. */
static void viewer_who_tells(void)
{
    zs_owner_let_go(&w->owner, held_slot);
    if (zs_load(w->segment.waiting, ZS_WAITING_LOAD) != 0)
        zs_bump_space(&w->segment);
}
static void before_full_of_views(void)
{
    before_view();
    publish_in(zs_owner_reserve(&w->owner));
}
static void no_view_is_missed(void)
{
    void (*const actors[])(void) = {blocking_publisher, viewer_who_tells};
    begin(&tiny);
    to_publish = 1;
    end("let go", weak_all(4, before_full_of_views, nothing_to_judge, actors, 2));
}

/* --- join -------------------------------------------------------------------------------------------------------------------- */

static const world_options joinable = {.depth = 2, .spare_slots = 1, .max_subscribers = 1, .policy = ZS_BLOCK};
static uint64_t published_before, first_cursor;
static uint32_t history;
static int announces = 1;

static void patient_publisher(void)
{
    uint32_t index = 0;
    for (uint64_t i = 0; i < to_publish; i++)
        if (!zs_owner_window_full(&w->owner, &index)) {
            uint32_t slot = zs_owner_reserve(&w->owner);
            CHECK(slot != ZS_NO_SLOT);
            publish_in(slot);
        }
}
static void before_join(void)
{
    fresh(&joinable, 1, 1, 1);
    for (uint64_t i = 0; i < published_before; i++)
        publish_in(zs_owner_reserve(&w->owner));
}
static void joiner(void)
{
    CHECK(zs_reader_join(readers[0], &world_someone, history, ZS_AFTER_HISTORY));
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
static void a_reliable_joiner_misses_nothing(void)
{
    void (*const actors[])(void) = {patient_publisher, joiner};
    for (history = 0; history <= 1; history++) {
        begin(&joinable);
        published_before = 2;
        to_publish = 3;
        end("join", weak_all(3, before_join, after_join, actors, 2));
    }
}

/* A batch of as many samples as may be loaned at once, and one more sample: a window that was looked at before the batch was announced
 * would let the last one retire what the joiner still needs. */
static const world_options batchable = {.depth = 2, .max_loans = 2, .spare_slots = 1, .max_subscribers = 1, .policy = ZS_BLOCK};

static void batching_publisher(void)
{
    uint32_t slots[2], index = 0;
    for (int i = 0; i < 2; i++) {
        if (zs_owner_window_full(&w->owner, &index))
            return;
        slots[i] = zs_owner_reserve(&w->owner);
    }
    for (int i = 0; i < 2; i++) {
        uint64_t n = w->owner.published + 1;
        weak_write_plain(world_words(w, slots[i]), n);
        CHECK_EQUAL(zs_owner_place(&w->owner, slots[i], n, n), n);
        zs_owner_retire_oldest(&w->owner);
        zs_owner_let_go(&w->owner, slots[i]);
    }
    if (announces)
        zs_owner_announce(&w->owner);
    for (uint64_t i = 0; i < to_publish; i++)
        if (!zs_owner_window_full(&w->owner, &index))
            publish_in(zs_owner_reserve(&w->owner));
}
static void before_batch(void)
{
    fresh(&batchable, 1, 1, 1);
    for (uint64_t i = 0; i < published_before; i++)
        publish_in(zs_owner_reserve(&w->owner));
}
static void a_reliable_joiner_misses_nothing_of_a_batch(void)
{
    void (*const actors[])(void) = {batching_publisher, joiner};
    history = 0;
    begin(&batchable);
    published_before = 2;
    to_publish = 1;
    end("batch", weak_all(3, before_batch, after_join, actors, 2));
}

/* --- ready ------------------------------------------------------------------------------------------------------------------- */

static uint64_t contents;

static void before_ready(void)
{
    fresh(&tiny, 0, 1, 0);
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
static void an_open_segment_is_complete(void)
{
    void (*const actors[])(void) = {creator, attacher};
    begin(&tiny);
    end("ready", weak_all(4, before_ready, nothing_to_judge, actors, 2));
}

/* --- the model itself: what is allowed and what is not, in the small programs that everybody knows ---------------------------- */

static uint32_t x, y, seen[3], outcome;
static int litmus_store, litmus_load;
static uint64_t outcomes; /* a bit for each that was seen */

static void before_litmus(void)
{
    x = y = seen[0] = seen[1] = seen[2] = 0;
}
static void after_litmus(void)
{
    outcome = seen[0] | seen[1] << 2 | seen[2] << 4;
    outcomes |= UINT64_C(1) << outcome;
}
static void store_x_load_y(void)
{
    zs_store(&x, 1, litmus_store);
    seen[0] = zs_load(&y, litmus_load);
}
static void store_y_load_x(void)
{
    zs_store(&y, 1, litmus_store);
    seen[1] = zs_load(&x, litmus_load);
}
static void change_y_load_x(void)
{
    zs_fetch_add(&y, 1, litmus_store);
    seen[1] = zs_load(&x, litmus_load);
}
static void store_x_store_y(void)
{
    zs_store(&x, 1, ZS_RELAXED);
    zs_store(&y, 1, litmus_store);
}
static void load_y_load_x(void)
{
    seen[0] = zs_load(&y, litmus_load);
    seen[1] = zs_load(&x, ZS_RELAXED);
}
static void load_x_twice(void)
{
    seen[0] = zs_load(&x, ZS_RELAXED);
    seen[1] = zs_load(&x, ZS_RELAXED);
}
static void change_y(void)
{
    if (zs_fetch_add(&y, 1, ZS_RELAXED) == 0)
        seen[2] = 1; /* before the store, which is lost then */
}
static void load_two_of_y_load_x(void)
{
    seen[0] = zs_load(&y, litmus_load);
    seen[1] = zs_load(&x, ZS_RELAXED);
}
static void change_x(void)
{
    seen[2] += zs_fetch_add(&x, 1, ZS_RELAXED);
}
static void change_x_too(void)
{
    seen[1] += zs_fetch_add(&x, 1, ZS_RELAXED);
}
static uint64_t litmus(int store, int load, void (*const *actors)(void), int count)
{
    litmus_store = store;
    litmus_load = load;
    outcomes = 0;
    weak_all(4, before_litmus, after_litmus, actors, count);
    return outcomes;
}
#define SEEN(a, b, c) (UINT64_C(1) << ((a) | (b) << 2 | (c) << 4))

static void the_model_is_that_of_c11(void)
{
    void (*const store_buffering[])(void) = {store_x_load_y, store_y_load_x};
    void (*const rmw_buffering[])(void) = {store_x_load_y, change_y_load_x};
    void (*const message_passing[])(void) = {store_x_store_y, load_y_load_x};
    void (*const coherence[])(void) = {change_x, load_x_twice};
    void (*const atomicity[])(void) = {change_x, change_x_too};
    void (*const release_sequence[])(void) = {store_x_store_y, load_two_of_y_load_x, change_y};
    begin(&tiny);
    CHECK_EQUAL(litmus(ZS_SEQ_CST, ZS_SEQ_CST, store_buffering, 2), SEEN(0, 1, 0) | SEEN(1, 0, 0) | SEEN(1, 1, 0));
    CHECK((litmus(ZS_RELEASE, ZS_SEQ_CST, store_buffering, 2) & SEEN(0, 0, 0)) != 0);
    CHECK((litmus(ZS_SEQ_CST, ZS_ACQUIRE, store_buffering, 2) & SEEN(0, 0, 0)) != 0);
    CHECK((litmus(ZS_SEQ_CST, ZS_SEQ_CST, rmw_buffering, 2) & SEEN(0, 0, 0)) == 0);
    CHECK((litmus(ZS_RELEASE, ZS_SEQ_CST, rmw_buffering, 2) & SEEN(0, 0, 0)) != 0);
    CHECK_EQUAL(litmus(ZS_RELEASE, ZS_ACQUIRE, message_passing, 2), SEEN(0, 0, 0) | SEEN(0, 1, 0) | SEEN(1, 1, 0));
    CHECK((litmus(ZS_RELAXED, ZS_ACQUIRE, message_passing, 2) & SEEN(1, 0, 0)) != 0);
    CHECK((litmus(ZS_RELEASE, ZS_RELAXED, message_passing, 2) & SEEN(1, 0, 0)) != 0);
    CHECK_EQUAL(litmus(ZS_RELAXED, ZS_RELAXED, coherence, 2), SEEN(0, 0, 0) | SEEN(0, 1, 0) | SEEN(1, 1, 0));
    CHECK_EQUAL(litmus(ZS_RELAXED, ZS_RELAXED, atomicity, 2), SEEN(0, 1, 0) | SEEN(0, 0, 1));
    CHECK((litmus(ZS_RELEASE, ZS_ACQUIRE, release_sequence, 3) & (SEEN(2, 0, 0) | SEEN(2, 0, 1))) == 0);
    CHECK((litmus(ZS_RELEASE, ZS_ACQUIRE, release_sequence, 3) & SEEN(2, 1, 0)) != 0);
    end("litmus", weak.runs);
}

/* --- all of them, for every order -------------------------------------------------------------------------------------------- */

static void all_promises(void)
{
    RUN(the_model_is_that_of_c11);
    RUN(an_open_segment_is_complete);
    RUN(leases_are_whole);
    RUN(newest_is_whole);
    RUN(laps_are_believed);
    RUN(own_views_are_whole);
    RUN(no_release_is_missed);
    RUN(no_cursor_is_missed);
    RUN(no_leaving_is_missed);
    RUN(no_change_is_missed);
    RUN(no_wake_up_is_lost);
    RUN(a_reliable_joiner_misses_nothing);
    RUN(a_reliable_joiner_misses_nothing_of_a_batch);
    RUN(a_released_slot_comes_back);
    RUN(a_loan_never_fails_because_of_readers);
}

static const char *const order_names[] = {"relaxed", "consume", "acquire", "release", "acq_rel", "seq_cst"};

/* One step down: what stands right below an order, for the kind of access that the name ends in. */
static int weaker(const char *name, int order, int which)
{
    const char *kind = strrchr(name, '_') + 1;
    if (order == __ATOMIC_SEQ_CST && which == 0)
        return *kind == 'L' ? __ATOMIC_ACQUIRE : *kind == 'S' ? __ATOMIC_RELEASE : __ATOMIC_ACQ_REL;
    if (order == __ATOMIC_ACQ_REL && which < 2)
        return which == 0 ? __ATOMIC_ACQUIRE : __ATOMIC_RELEASE;
    if ((order == __ATOMIC_ACQUIRE || order == __ATOMIC_RELEASE) && which == 0)
        return __ATOMIC_RELAXED;
    return -1;
}

/* Whether something goes wrong with these promises, and what. */
static int goes_wrong(void (*promises)(void), char *says, size_t room)
{
    int ends[2], status;
    ssize_t count;
    size_t length = 0;
    pid_t child;
    CHECK(pipe(ends) == 0);
    fflush(NULL);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        dup2(ends[1], 2);
        unsetenv("CHECK_VERBOSE");
        promises();
        _exit(0);
    }
    close(ends[1]);
    while ((count = read(ends[0], says + length, room - 1 - length)) > 0)
        length += (size_t)count;
    close(ends[0]);
    says[length] = 0;
    says[strcspn(says, "\n")] = 0;
    CHECK(waitpid(child, &status, 0) == child);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

/* Weaken one order step by step, as far as nothing goes wrong. Returns how many steps went unnoticed. */
static int descend(int i, int order)
{
    int unnoticed = 0, next;
    char says[400];
    for (int which = 0; (next = weaker(weak_orders[i].name, order, which)) >= 0; which++) {
        int wrong;
        weak_orders[i].now = next;
        wrong = goes_wrong(all_promises, says, sizeof says);
        weak_orders[i].now = weak_orders[i].shipped;
        if (!wrong || getenv("CHECK_VERBOSE") != NULL)
            printf("%-20s %s to %s: %s\n", weak_orders[i].name, order_names[order], order_names[next],
                   wrong ? says + strcspn(says, " ") : "NOTHING goes wrong");
        if (!wrong)
            unnoticed += 1 + descend(i, next);
    }
    return unnoticed;
}

/* In a child, with the accesses that led to a failed check. */
static int told(void (*promises)(void))
{
    int status;
    pid_t child;
    weak_log = (struct weak_log *)world_map(sizeof *weak_log);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        promises();
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        printf("nothing goes wrong\n");
        return 0;
    }
    fputs(weak_log->text, stdout);
    return 1;
}

static struct weak_order *order_named(const char *name)
{
    for (int i = 0; i < WEAK_ORDERS; i++)
        if (strcmp(name, weak_orders[i].name) == 0)
            return &weak_orders[i];
    fprintf(stderr, "weak: there is no order %s\n", name);
    exit(2);
}

static void let_go(void)
{
    RUN(no_view_is_missed);
}

static void unannounced(void)
{
    RUN(a_reliable_joiner_misses_nothing_of_a_batch);
}

int main(int argc, char **argv)
{
    int unnoticed = 0, late;
    char says[400];
    if (argc == 2 && strcmp(argv[1], "let-go") == 0)
        return told(let_go);
    if (argc == 3) {
        struct weak_order *order = order_named(argv[1]);
        for (int i = 0; i < 6; i++)
            if (strcmp(argv[2], order_names[i]) == 0)
                order->now = i;
        return told(all_promises);
    }
    all_promises();
    printf("weak: as shipped, nothing goes wrong in %llu runs\n", (unsigned long long)weak.runs);
    late = goes_wrong(let_go, says, sizeof says);
    order_named("ZS_HELD_STORE")->now = order_named("ZS_HELD_LOAD")->now = __ATOMIC_SEQ_CST;
    CHECK(!goes_wrong(let_go, says, sizeof says));
    order_named("ZS_HELD_STORE")->now = order_named("ZS_HELD_STORE")->shipped;
    order_named("ZS_HELD_LOAD")->now = order_named("ZS_HELD_LOAD")->shipped;
    announces = 0;
    CHECK(goes_wrong(unannounced, says, sizeof says)); /* or the rule would not be needed */
    announces = 1;
    if (late)
        printf("weak: a blocked owner may miss that its own process lets a slot go, until its next slice (weak.md)\n");
    for (int i = 0; i < WEAK_ORDERS; i++)
        unnoticed += descend(i, weak_orders[i].shipped);
    printf("weak: of %d orders, %d can be weaker without anything going wrong\n", WEAK_ORDERS, unnoticed);
    return unnoticed != 0;
}
