/* SPDX-License-Identifier: Apache-2.0
 *
 * floors.c - what the machine and the C core cost without Python: the least that anything on this machine can take.
 *
 *   floors line COUNT ROUNDS     COUNT cache lines, each 128 bytes from the next, go back and forth between two processors
 *   floors memcpy SIZE ROUNDS    a copy of SIZE bytes, to the same place again and again, and to 14 places in turn
 *   floors core ROUNDS           the core in one process: reserve, write, commit; take, read, release; a clock read; a locked add
 *
 * Prints one JSON object of nanoseconds. */
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "world.h"

enum { APART = 128, PLACES = 14, BATCH = 200, MOST = 1 << 20 };

static uint64_t times[MOST];
static volatile uint64_t sink;

static int by_size(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* The value that `part` of the first `count` times are not above. They are sorted. */
static double at(uint64_t count, double part)
{
    uint64_t n = (uint64_t)(part * (double)count);
    return (double)times[n >= count ? count - 1 : n];
}

static double median_of(uint64_t count)
{
    qsort(times, count, sizeof *times, by_size);
    return at(count, 0.5);
}

static void pin(int n, const cpu_set_t *allowed)
{
    cpu_set_t one;
    n = CPU_COUNT(allowed) > 1 ? n : 0;
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, allowed) && n-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(i, &one);
            (void)sched_setaffinity(0, sizeof one, &one);
            return;
        }
}

/* Write `value` into all lines of a direction, the last one with release. */
static void give(uint64_t *lines, uint64_t count, uint64_t value)
{
    for (uint64_t k = 1; k < count; k++)
        __atomic_store_n(lines + k * (APART / 8), value, __ATOMIC_RELAXED);
    __atomic_store_n(lines, value, __ATOMIC_RELEASE);
}

/* Wait for the value in the first line, and read the others. */
static void await(uint64_t *lines, uint64_t count, uint64_t value)
{
    uint64_t spins = 0;
    while (__atomic_load_n(lines, __ATOMIC_ACQUIRE) != value)
        if (++spins % 100000 == 0)
            sched_yield(); /* both may run on one processor */
    for (uint64_t k = 1; k < count; k++)
        CHECK_EQUAL(__atomic_load_n(lines + k * (APART / 8), __ATOMIC_RELAXED), value);
}

static void lines(uint64_t count, uint64_t rounds)
{
    uint64_t *there = (uint64_t *)world_map(65536), *back = there + 4096, warm = rounds / 10;
    cpu_set_t allowed;
    pid_t child;
    CHECK(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        pin(1, &allowed);
        for (uint64_t i = 1; i <= rounds; i++)
            await(there, count, i), give(back, count, i);
        _exit(0);
    }
    pin(0, &allowed);
    for (uint64_t i = 1; i <= rounds; i++) {
        uint64_t began = zs_now_ns();
        give(there, count, i), await(back, count, i);
        times[i - 1] = zs_now_ns() - began;
    }
    waitpid(child, NULL, 0);
    memmove(times, times + warm, (rounds - warm) * sizeof *times);
    rounds -= warm;
    (void)median_of(rounds);
    printf("{\"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p99_9\": %.1f, \"max\": %.1f}\n", at(rounds, 0.5) / 2, at(rounds, 0.9) / 2,
           at(rounds, 0.99) / 2, at(rounds, 0.999) / 2, at(rounds, 1) / 2);
}

static double copies(uint8_t *source, uint8_t *targets, size_t size, uint64_t places, uint64_t rounds)
{
    for (uint64_t i = 0; i < rounds; i++) {
        uint8_t *target = targets + size * (i % places);
        uint64_t began = zs_now_ns();
        memcpy(target, source, size);
        times[i] = zs_now_ns() - began;
        sink = target[size - 1];
    }
    return median_of(rounds);
}

static void copying(size_t size, uint64_t rounds)
{
    uint8_t *source = (uint8_t *)world_map(size), *targets = (uint8_t *)world_map(size * PLACES);
    memset(source, 1, size);
    memset(targets, 2, size * PLACES);
    printf("{\"same\": %.1f, ", copies(source, targets, size, 1, rounds));
    printf("\"in turn\": %.1f}\n", copies(source, targets, size, PLACES, rounds));
}

static world *w;
static zs_reader *r;

static void send_one(uint64_t value)
{
    uint32_t slot = zs_owner_reserve(&w->owner, 0);
    world_words(w, slot)[7] = value;
    zs_owner_commit(&w->owner, slot, 64, zs_now_ns());
    zs_owner_let_go(&w->owner, slot);
}

static void receive_one(uint64_t value)
{
    uint32_t slot;
    CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_LEASED);
    CHECK_EQUAL(world_words(w, slot)[7], value);
    zs_reader_release(r, slot);
}

static void step_send(uint64_t i) { send_one(i); }
static void step_both(uint64_t i) { send_one(i), receive_one(i); }
static void step_clock(uint64_t i) { (void)i, sink = zs_now_ns(); }
static void step_add(uint64_t i) { static uint64_t word; (void)__atomic_fetch_add(&word, i, __ATOMIC_SEQ_CST); }
static void step_poll(uint64_t i) { uint32_t slot; (void)i; CHECK_EQUAL(zs_reader_take(r, &slot), ZS_TAKE_NONE); }

/* Nanoseconds of one step: the median over `rounds` batches. */
static double each(void (*step)(uint64_t), uint64_t rounds)
{
    for (uint64_t round = 0; round < rounds; round++) {
        uint64_t began = zs_now_ns();
        for (uint64_t i = 0; i < BATCH; i++)
            step(i);
        times[round] = zs_now_ns() - began;
    }
    return median_of(rounds) / BATCH;
}

static void core(uint64_t rounds)
{
    const world_options options = {.depth = 8, .spare_slots = 8};
    double send;
    w = world_make(&options);
    send = each(step_send, rounds);
    r = world_join(w, 0, 1, 0, 0);
    printf("{\"send\": %.1f, \"send and receive\": %.1f, ", send, each(step_both, rounds));
    printf("\"empty take\": %.1f, \"clock\": %.1f, ", each(step_poll, rounds), each(step_clock, rounds));
    printf("\"locked add\": %.1f}\n", each(step_add, rounds));
    world_free_reader(r);
    world_free(w);
}

int main(int argc, char **argv)
{
    uint64_t last = argc > 2 ? strtoull(argv[argc - 1], NULL, 10) : 0;
    if (last == 0 || last > MOST)
        return 2;
    if (argc == 4 && strcmp(argv[1], "line") == 0)
        lines(strtoull(argv[2], NULL, 10), last);
    else if (argc == 4 && strcmp(argv[1], "memcpy") == 0)
        copying(strtoull(argv[2], NULL, 10), last);
    else if (argc == 3 && strcmp(argv[1], "core") == 0)
        core(last);
    else
        return 2;
    return 0;
}
