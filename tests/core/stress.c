/* SPDX-License-Identifier: Apache-2.0
 *
 * stress.c - one owner and several readers in processes or in threads, on a small ring, with checksummed payload.
 *
 *   stress [--samples N] [--depth N] [--readers N] [--payload BYTES] [--leases N] [--seed N] [--threads] [--park | --block]
 *          [--batches] [--tickets]
 *
 * Each reader takes in order, keeps a few leases for a random time, and checks every word of the payload after the take and before
 * the release. From time to time the last reader is stopped with its leases, by SIGSTOP in processes, while the owner publishes
 * thousands of samples. At the end all readers take the rest. What must hold:
 *
 *   no sample is torn, repeated or out of order; taken + lost = published for every reader;
 *   the owner always finds a slot, because spare_slots is the sum of all max_leases.
 *
 * --park: readers sleep on the futex, and the owner waits for all of them after each sample. A reader that sleeps until its
 * deadline although there is a sample has missed its wake-up. --block: readers are reliable, and the owner sleeps while its window
 * is full. It must not miss a wake-up either, and no reader loses a sample.
 *
 * --batches: the owner publishes copies, up to ZS_BATCH in one call, and readers take copies in batches as often as leases.
 *
 * --tickets: readers make tickets of what they lease. Each redeems those of the others with a second reader, and keeps the sample
 * for a random time, which may be longer than its maker does. A redeemed sample is the one that the ticket names.
 *
 * The payload is plain memory, so with --threads ThreadSanitizer reports what the protocol does not order. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "world.h"

#define READERS_MAX 31 /* and as many readers of tickets */
#define LOST_WAKE_NS UINT64_C(10000000000)

static struct {
    uint64_t samples, seed;
    uint32_t depth, readers, payload, leases;
    int threads, park, block, batches, tickets;
} options = {.samples = 200000, .seed = 1, .depth = 2, .readers = 4, .payload = 256, .leases = 2};

/* Shared memory, one for each reader, on cache lines of its own. */
typedef struct report {
    uint32_t joined;
    uint32_t still; /* with --threads: instead of SIGSTOP */
    uint64_t at;          /* the last sequence taken */
    uint64_t got, lost, redeemed;
    uint64_t ticket; /* the tag of a sample that has a reference; 0: none yet */
    uint64_t space[10];
} report;

static world *w;
static report *reports;
static pid_t pids[READERS_MAX];

static uint64_t mix(uint64_t x)
{
    x ^= x >> 31, x *= UINT64_C(0x7fb5d329728ea185);
    x ^= x >> 27, x *= UINT64_C(0x81dadef4bc2dd44d);
    return x ^ x >> 33;
}

/* Each word differs from the same word of any other sample, so a mixture of two samples fails the check. */
static void fill(uint64_t *words, uint64_t sequence)
{
    for (uint32_t i = 0; i < options.payload / 8; i++)
        words[i] = mix(sequence * 1000003 + i);
}

static void check(const uint64_t *words, uint64_t sequence)
{
    for (uint32_t i = 0; i < options.payload / 8; i++)
        CHECK_EQUAL(words[i], mix(sequence * 1000003 + i));
}

/* Take copies in a batch, until the batch ends or at random. */
static void take_copies(zs_reader *r, uint64_t random)
{
    static const uint32_t first_slot = 0;
    uint64_t copy[512], ns, most = 1 + random % (2 * ZS_BATCH), count = 0;
    char *data = (char *)w->payload;
    zs_payloads payloads = {
        .data = &data, .capacity = &w->slot_capacity, .first_slot = &first_slot, .count = 1, .slot_count = w->slot_count};
    zs_copier c;
    zs_copier_begin(&c, r, &payloads, options.payload, 0);
    for (; count < most; count++) {
        uint64_t before = r->cursor, lost = r->lost;
        enum zs_take result = zs_copier_next(&c, (uint8_t *)copy, &ns);
        if (result != ZS_TAKE_COPIED) {
            CHECK(result == ZS_TAKE_NONE || result == ZS_TAKE_TOO_MANY);
            break;
        }
        CHECK_EQUAL(r->cursor - before - 1, r->lost - lost);
        check(copy, r->cursor);
        if (count % ZS_BATCH == ZS_BATCH - 1)
            zs_copier_settle(&c);
    }
    zs_copier_settle(&c);
}

/* What a reader keeps by a ticket of another one. */
typedef struct redeemed {
    zs_reader *reader;
    uint64_t sequence; /* 0: none */
    uint32_t slot;
    uint64_t count;
} redeemed;

static void release_redeemed(redeemed *kept)
{
    if (kept->sequence == 0)
        return;
    check(world_words(w, kept->slot), kept->sequence);
    zs_reader_release_redeemed(kept->reader, kept->slot);
    kept->sequence = 0;
}

static void redeem_one(redeemed *kept, uint64_t random)
{
    uint64_t tag = zs_load(&reports[random % options.readers].ticket, ZS_RELAXED);
    release_redeemed(kept);
    if (tag == 0)
        return;
    kept->slot = (uint32_t)(tag & 0xffff);
    switch (zs_reader_redeem(kept->reader, kept->slot, tag >> 16)) {
    case ZS_TAKE_LEASED:
        kept->sequence = tag >> 16;
        check(world_words(w, kept->slot), kept->sequence);
        kept->count++;
        break;
    case ZS_TAKE_NONE:
        break; /* it is gone */
    default:
        CHECK(0);
    }
}

static void *read_all(void *argument)
{
    uint32_t index = (uint32_t)(uintptr_t)argument;
    report *own = &reports[index];
    zs_reader *r = world_reader(w, index, options.leases, options.block);
    uint64_t random = mix(options.seed * 977 + index + 1) | 1;
    uint32_t slots[64];
    uint64_t sequences[64];
    uint32_t held = 0, idle = 0;
    redeemed kept = {.reader = world_reader(w, READERS_MAX + index, 1, 0)};
    if (options.tickets)
        zs_reader_join_for_tickets(kept.reader, &world_identity);
    zs_reader_join(r, &world_identity, 0, ZS_AFTER_HISTORY);
    CHECK_EQUAL(r->cursor, 0);
    zs_store(&own->joined, 1, ZS_RELEASE);
    for (;;) {
        uint64_t before = r->cursor, lost = r->lost;
        uint32_t slot, ended = zs_segment_state(&w->segment) != ZS_OPEN;
        enum zs_take result;
        while (zs_load(&own->still, ZS_RELAXED))
            sched_yield();
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        /* Release at random, and always at max_leases: the oldest or the newest first. */
        while (held > 0 && (held >= options.leases || random % 3 == 0)) {
            uint32_t i = random & 64 ? 0 : held - 1;
            check(world_words(w, slots[i]), sequences[i]);
            zs_reader_release(r, slots[i]);
            held--;
            slots[i] = slots[held], sequences[i] = sequences[held];
            random = random * 5 + 1;
        }
        if (options.tickets && random % 5 == 0)
            redeem_one(&kept, random >> 8);
        if (options.batches && (random & 32)) {
            take_copies(r, random >> 8);
            zs_store(&own->at, r->cursor, ZS_RELEASE);
        }
        result = zs_reader_take(r, &slot);
        if (result == ZS_TAKE_LEASED) {
            uint64_t n = zs_load(&zs_slot_at(&w->segment, slot)->sequence, ZS_RELAXED);
            CHECK(n == r->cursor || n == 0); /* 0: retired since, and still leased */
            CHECK(r->cursor > before);
            CHECK(options.batches || r->cursor - before - 1 == r->lost - lost);
            if (options.tickets && random % 3 == 0) {
                zs_slot_refer(&w->segment, slot, r->cursor);
                zs_store(&own->ticket, r->cursor << 16 | slot, ZS_RELAXED);
            }
            CHECK_EQUAL(zs_load(&zs_slot_at(&w->segment, slot)->size, ZS_RELAXED), options.payload);
            check(world_words(w, slot), r->cursor);
            slots[held] = slot, sequences[held] = r->cursor;
            held++;
            idle = 0;
            zs_store(&own->at, r->cursor, ZS_RELEASE);
            continue;
        }
        CHECK_EQUAL(result, ZS_TAKE_NONE);
        if (ended)
            break; /* the state was loaded before the ring, so no sample remains */
        if (options.park) {
            uint32_t seen = zs_reader_park(r);
            if (!zs_reader_ready(r) && zs_segment_state(&w->segment) == ZS_OPEN) {
                uint64_t deadline = zs_now_ns() + LOST_WAKE_NS;
                zs_futex_wait(w->segment.generation, seen, deadline);
                CHECK(zs_now_ns() < deadline || !zs_reader_ready(r)); /* slept although there was a sample */
            }
            zs_reader_unpark(r);
        } else if (++idle > 50) {
            sched_yield();
        } else {
            zs_pause();
        }
    }
    while (held > 0) {
        held--;
        check(world_words(w, slots[held]), sequences[held]);
        zs_reader_release(r, slots[held]);
    }
    CHECK_EQUAL(r->cursor, options.samples);
    CHECK_EQUAL(r->taken + r->lost, options.samples);
    CHECK(!options.block || r->lost == 0);
    CHECK_EQUAL(zs_reader_leases(r), 0);
    release_redeemed(&kept);
    CHECK_EQUAL(zs_reader_leases(kept.reader), 0);
    own->got = r->taken;
    own->lost = r->lost;
    own->redeemed = kept.count;
    zs_reader_leave(r);
    if (options.tickets)
        zs_reader_leave(kept.reader);
    world_free_reader(kept.reader);
    world_free_reader(r);
    return NULL;
}

/* Stop the last reader, or let it continue. */
static void set_last_reader_still(int still)
{
    uint32_t last = options.readers - 1;
    if (options.threads)
        zs_store(&reports[last].still, (uint32_t)still, ZS_RELAXED);
    else
        CHECK(kill(pids[last], still ? SIGSTOP : SIGCONT) == 0);
}

/* Sleep until the window has room for a loan. */
static void wait_for_room(void)
{
    uint32_t index;
    while (zs_owner_window_full(&w->owner, &index)) {
        uint32_t seen = zs_owner_block_begin(&w->segment);
        if (zs_owner_window_full(&w->owner, &index)) {
            uint64_t deadline = zs_now_ns() + LOST_WAKE_NS;
            zs_futex_wait(w->segment.space, seen, deadline);
            CHECK(zs_now_ns() < deadline || zs_owner_window_full(&w->owner, &index)); /* slept although the window had room */
        }
        zs_owner_block_end(&w->segment);
    }
}

static uint32_t reserve(void)
{
    uint32_t slot;
    if (options.block)
        wait_for_room();
    slot = zs_owner_reserve(&w->owner, 0);
    CHECK(slot != ZS_NO_SLOT);
    return slot;
}

/* Publish copies of the samples from `n` on, in one call or, where the window is full, in several; the last sequence. */
static uint64_t write_batch(uint64_t n, uint64_t random)
{
    static uint64_t words[ZS_BATCH * 512];
    uint64_t count = 1 + random % ZS_BATCH, done = 0;
    if (count > options.samples - n + 1)
        count = options.samples - n + 1;
    for (uint64_t i = 0; i < count; i++)
        fill(words + i * options.payload / 8, n + i);
    while (done < count) {
        zs_samples samples = {.data = (const uint8_t *)words + done * options.payload,
                              .stride = (ptrdiff_t)options.payload,
                              .size = options.payload,
                              .capacity = options.payload,
                              .published_ns = n + done};
        if (options.block)
            wait_for_room();
        done += zs_owner_publish_copies(&w->owner, &samples, (uint32_t)(count - done), 1);
        CHECK(options.block || done == count); /* there is always a slot */
    }
    return n + count - 1;
}

static void write_all(void)
{
    uint64_t random = mix(options.seed) | 1, stopped_at = 0;
    for (uint64_t n = 1; n <= options.samples; n++) {
        uint32_t slot = reserve();
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        if (random % 16 == 0) { /* a discarded loan */
            fill(world_words(w, slot), random);
            zs_owner_discard(&w->owner, slot);
            zs_owner_let_go(&w->owner, slot);
            slot = reserve();
        }
        if (options.batches && random % 2 == 0) {
            zs_owner_discard(&w->owner, slot);
            zs_owner_let_go(&w->owner, slot);
            n = write_batch(n, random >> 16);
        } else {
            fill(world_words(w, slot), n);
            CHECK_EQUAL(zs_owner_commit(&w->owner, slot, options.payload, n), n);
            zs_owner_let_go(&w->owner, slot);
        }
        CHECK_EQUAL(w->owner.published, n);
        if (options.park) {
            for (uint32_t i = 0; i < options.readers; i++)
                while (zs_load(&reports[i].at, ZS_ACQUIRE) != n)
                    sched_yield();
            for (uint64_t spin = random % 512; spin > 0; spin--)
                zs_pause(); /* the readers are about to sleep */
        } else if (!options.block) {
            if (stopped_at == 0 && (random >> 32) % 20000 == 0) {
                stopped_at = n;
                set_last_reader_still(1);
            } else if (stopped_at != 0 && n - stopped_at > 3000) {
                stopped_at = 0;
                set_last_reader_still(0);
            }
            if (random % (options.batches ? 4 : 64) == 1)
                sched_yield(); /* or, on few processors, the readers would hardly run in between */
        }
    }
    if (stopped_at != 0)
        set_last_reader_still(0);
    zs_segment_end(&w->segment, ZS_SEALED);
}

/* A reader that ends before the segment is sealed has failed, and has printed the reason. */
static void on_child(int signal)
{
    if (zs_segment_state(&w->segment) == ZS_OPEN)
        _exit(signal == SIGCHLD);
}

/* End the program if nothing was published for a minute: a wake-up was lost, or a reader does not terminate. */
static void on_alarm(int signal)
{
    static uint64_t last;
    static const char text[] = "stress: no progress\n";
    uint64_t published = zs_load(w->segment.published, ZS_RELAXED);
    if (published == last && write(2, text, sizeof text - 1) != 0)
        _exit(signal == SIGALRM);
    last = published;
    alarm(60);
}

static void parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        uint64_t number = strtoull(value, NULL, 10);
        if (strcmp(argv[i], "--threads") == 0) {
            options.threads = 1;
            continue;
        }
        if (strcmp(argv[i], "--processes") == 0)
            continue;
        if (strcmp(argv[i], "--park") == 0) {
            options.park = 1;
            continue;
        }
        if (strcmp(argv[i], "--block") == 0) {
            options.block = 1;
            continue;
        }
        if (strcmp(argv[i], "--batches") == 0) {
            options.batches = 1;
            continue;
        }
        if (strcmp(argv[i], "--tickets") == 0) {
            options.tickets = 1;
            continue;
        }
        i++;
        if (strcmp(argv[i - 1], "--samples") == 0)
            options.samples = number;
        else if (strcmp(argv[i - 1], "--seed") == 0)
            options.seed = number;
        else if (strcmp(argv[i - 1], "--depth") == 0)
            options.depth = (uint32_t)number;
        else if (strcmp(argv[i - 1], "--readers") == 0)
            options.readers = (uint32_t)number;
        else if (strcmp(argv[i - 1], "--payload") == 0)
            options.payload = (uint32_t)number / 8 * 8;
        else if (strcmp(argv[i - 1], "--leases") == 0)
            options.leases = (uint32_t)number;
        else {
            fprintf(stderr, "stress: unknown option %s; see the top of stress.c\n", argv[i - 1]);
            exit(2);
        }
    }
    if (options.readers < 1 || options.readers > READERS_MAX || options.depth < 1 || options.samples < 1 || options.payload < 8 ||
        options.payload > 4096 || options.leases < 1 || options.leases > 64) {
        fprintf(stderr, "stress: an option is out of range\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    pthread_t threads[READERS_MAX];
    uint64_t began, got = 0, lost = 0, by_ticket = 0;
    parse(argc, argv);
    check_test = options.threads ? "threads" : "processes";
    w = world_make(&(const world_options){.depth = options.depth,
                                          .spare_slots = options.readers * (options.leases + (options.tickets ? 1 : 0)),
                                          .max_subscribers = 64,
                                          .slot_capacity = zs_round_up(options.payload, ZS_SLOT_ALIGN),
                                          .policy = options.block ? ZS_BLOCK : ZS_EVICT});
    reports = (report *)world_map(sizeof *reports * READERS_MAX);
    signal(SIGALRM, on_alarm);
    alarm(60);
    sigaction(SIGCHLD, &(const struct sigaction){.sa_handler = on_child, .sa_flags = SA_NOCLDSTOP | SA_RESTART}, NULL);
    for (uint32_t i = 0; i < options.readers; i++) {
        if (options.threads) {
            CHECK(pthread_create(&threads[i], NULL, read_all, (void *)(uintptr_t)i) == 0);
        } else if ((pids[i] = fork()) == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            read_all((void *)(uintptr_t)i);
            _exit(0);
        }
    }
    for (uint32_t i = 0; i < options.readers; i++)
        while (!zs_load(&reports[i].joined, ZS_ACQUIRE))
            sched_yield();
    began = zs_now_ns();
    write_all();
    for (uint32_t i = 0; i < options.readers; i++) {
        int status = 0;
        if (options.threads)
            pthread_join(threads[i], NULL);
        else
            CHECK(waitpid(pids[i], &status, 0) == pids[i] && status == 0);
        CHECK_EQUAL(reports[i].got + reports[i].lost, options.samples);
        got += reports[i].got, lost += reports[i].lost, by_ticket += reports[i].redeemed;
    }
    CHECK(!options.tickets || by_ticket > 0);
    for (uint32_t i = 0; i < w->slot_count; i++)
        CHECK_EQUAL(*zs_slot_readers(&w->segment, i), 0);
    printf("stress %s%s%s%s: %" PRIu64 " samples, depth %u, %u readers: got %" PRIu64 ", lost %" PRIu64 ", by ticket %" PRIu64
           ", wakes %" PRIu64 ", %.1f s\n",
           check_test, options.park ? " parked" : "", options.block ? " blocking" : "", options.batches ? " in batches" : "",
           options.samples, options.depth, options.readers, got, lost, by_ticket, w->segment.counters->wakes,
           (double)(zs_now_ns() - began) / 1e9);
    munmap(reports, sizeof *reports * READERS_MAX);
    world_free(w);
    return 0;
}
