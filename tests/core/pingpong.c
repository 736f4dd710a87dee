/* SPDX-License-Identifier: Apache-2.0
 *
 * pingpong.c - the speed of the machine and of the core without Python: the baselines of `zeroslot bench`.
 *
 *   pingpong [--ring | --futex | --publish] [--json] [--rounds N]        default: all three
 *
 * ring     64-byte samples go back and forth between two processes on two processors, through two segments; both spin on take.
 *          The payload is written in place, and its last word is read. One way is half of a round trip.
 * futex    one word in each direction, with FUTEX_WAIT and FUTEX_WAKE only.
 * publish  reserve and commit in a loop, 64 bytes written, without a reader and with 32 readers that have joined and do not take.
 *
 * Prints nanoseconds; with --json one object in each line. */
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "world.h"

enum { PAYLOAD = 64 };

static uint64_t rounds;
static int as_json;

static int by_size(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* Print the percentiles of one way, half of each of `count` round trips. */
static void print_one_way(const char *what, uint64_t *round_trips_ns, uint64_t count)
{
    double p50, p99;
    qsort(round_trips_ns, count, sizeof *round_trips_ns, by_size);
    p50 = (double)round_trips_ns[count / 2] / 2, p99 = (double)round_trips_ns[count - 1 - count / 100] / 2;
    if (as_json)
        printf("{\"what\": \"%s\", \"rounds\": %" PRIu64 ", \"p50_ns\": %.1f, \"p99_ns\": %.1f}\n", what, count, p50, p99);
    else
        printf("%-20s one way p50 %8.1f ns   p99 %8.1f ns\n", what, p50, p99);
}

static cpu_set_t allowed;

/* Run on the n-th allowed processor, or on the only one. */
static void pin(int n)
{
    cpu_set_t one;
    n = CPU_COUNT(&allowed) > 1 ? n : 0;
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &allowed) && n-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(i, &one);
            (void)sched_setaffinity(0, sizeof one, &one);
            return;
        }
}

static pid_t start(void (*other)(void))
{
    pid_t child;
    fflush(NULL);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        pin(1);
        other();
        _exit(0);
    }
    return child;
}

static void finish(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/* --- the ring ----------------------------------------------------------------------------------------------------------------- */

static world *there, *back;

static void send_sample(world *w, uint64_t value)
{
    uint32_t slot = zs_owner_reserve(&w->owner, 0);
    uint64_t *words = world_words(w, slot);
    for (int i = 0; i < PAYLOAD / 8; i++)
        words[i] = value;
    zs_owner_commit(&w->owner, slot, PAYLOAD, value);
    zs_owner_let_go(&w->owner, slot);
}

static uint64_t receive_sample(zs_reader *r, const world *w)
{
    uint32_t slot;
    uint64_t value, spins = 0;
    enum zs_take result;
    while ((result = zs_reader_take(r, &slot)) == ZS_TAKE_NONE)
        if (++spins % 10000 == 0)
            sched_yield(); /* both may run on one processor */
    CHECK_EQUAL(result, ZS_TAKE_LEASED);
    value = world_words(w, slot)[PAYLOAD / 8 - 1];
    zs_reader_release(r, slot);
    return value;
}

static zs_reader *joined;

static void echo_samples(void)
{
    for (uint64_t i = 0; i < rounds; i++)
        send_sample(back, receive_sample(joined, there));
}

static void ring(void)
{
    const world_options options = {.depth = 8, .spare_slots = 8};
    uint64_t *times = (uint64_t *)malloc(rounds * sizeof *times), warm = rounds / 10;
    zs_reader *r;
    pid_t child;
    CHECK(times != NULL);
    there = world_make(&options);
    back = world_make(&options);
    joined = world_join(there, 0, 1, 0, 0);
    r = world_join(back, 0, 1, 0, 0);
    child = start(echo_samples);
    for (uint64_t i = 0; i < rounds; i++) {
        uint64_t began = zs_now_ns();
        send_sample(there, i);
        CHECK_EQUAL(receive_sample(r, back), i);
        times[i] = zs_now_ns() - began;
    }
    finish(child);
    print_one_way("ring", times + warm, rounds - warm);
    free(times);
    world_free_reader(r), world_free_reader(joined);
    world_free(there), world_free(back);
}

/* --- the futex ---------------------------------------------------------------------------------------------------------------- */

static uint32_t *words; /* one for each direction, on different cache lines */

static void give(uint32_t *word, uint32_t value)
{
    zs_store(word, value, ZS_SEQ_CST);
    zs_futex_wake_all(word);
}

static void await_value(uint32_t *word, uint32_t value)
{
    uint32_t seen;
    while ((seen = zs_load(word, ZS_SEQ_CST)) != value)
        zs_futex_wait(word, seen, UINT64_MAX);
}

static void echo_words(void)
{
    for (uint32_t i = 1; i <= rounds; i++) {
        await_value(&words[0], i);
        give(&words[64], i);
    }
}

static void futex(void)
{
    uint64_t *times = (uint64_t *)malloc(rounds * sizeof *times), warm = rounds / 10;
    pid_t child;
    CHECK(times != NULL);
    words = (uint32_t *)world_map(4096);
    child = start(echo_words);
    for (uint32_t i = 1; i <= rounds; i++) {
        uint64_t began = zs_now_ns();
        give(&words[0], i);
        await_value(&words[64], i);
        times[i - 1] = zs_now_ns() - began;
    }
    finish(child);
    print_one_way("futex", times + warm, rounds - warm);
    free(times);
    munmap(words, 4096);
}

/* --- publishing --------------------------------------------------------------------------------------------------------------- */

static void publish(uint32_t readers)
{
    const world_options options = {.depth = 8, .spare_slots = 32, .max_subscribers = 64};
    world *w = world_make(&options);
    double best = 1e18;
    zs_reader *joined_readers[64];
    for (uint32_t i = 0; i < readers; i++)
        joined_readers[i] = world_join(w, i, 4, 0, 0);
    for (int block = 0; block < 20; block++) {
        uint64_t began = zs_now_ns();
        double each;
        for (uint64_t i = 0; i < rounds; i++)
            send_sample(w, i);
        each = (double)(zs_now_ns() - began) / (double)rounds;
        best = each < best ? each : best;
    }
    if (as_json)
        printf("{\"what\": \"publish\", \"readers\": %u, \"rounds\": %" PRIu64 ", \"best_ns\": %.1f}\n", readers, rounds, best);
    else
        printf("publish, %2u readers  each %8.1f ns\n", readers, best);
    for (uint32_t i = 0; i < readers; i++)
        world_free_reader(joined_readers[i]);
    world_free(w);
}

int main(int argc, char **argv)
{
    uint64_t wanted = 0;
    int choice = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            as_json = 1;
        else if (strcmp(argv[i], "--ring") == 0)
            choice |= 1;
        else if (strcmp(argv[i], "--futex") == 0)
            choice |= 2;
        else if (strcmp(argv[i], "--publish") == 0)
            choice |= 4;
        else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
            wanted = strtoull(argv[++i], NULL, 10);
        else {
            fprintf(stderr, "pingpong: unknown option %s; see the top of pingpong.c\n", argv[i]);
            return 2;
        }
    }
    choice = choice ? choice : 7;
    CHECK(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
    pin(0);
    if (choice & 1) {
        rounds = wanted ? wanted : 300000;
        ring();
    }
    if (choice & 2) {
        rounds = wanted ? wanted : 20000;
        futex();
    }
    if (choice & 4) {
        rounds = wanted ? wanted : 200000;
        publish(0);
        publish(32);
    }
    return 0;
}
