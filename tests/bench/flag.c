/* SPDX-License-Identifier: Apache-2.0
 *
 * flag.c - a hand-over without zeroslot: fill a number of bytes, store one flag, and load it on another processor.
 *
 *   flag SIZE ROUNDS        prints the median nanoseconds from the store to the load that sees it
 *
 * After the fill there is a pause of 20 us, as in inplace.py; then the clock is read and the flag is stored. */
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { DESTINATIONS = 14, SETTLE_NS = 20000 };

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Run on the n-th allowed processor, or on the only one. */
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

static int by_size(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

int main(int argc, char **argv)
{
    size_t size = argc > 1 ? strtoull(argv[1], NULL, 10) : 64;
    uint64_t rounds = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000;
    size_t words_at = (size * DESTINATIONS + 4095) / 4096 * 4096;
    char *memory = (char *)mmap(NULL, words_at + 8192 + rounds * 8, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t *flag, *stamp, *answer, *times;
    cpu_set_t allowed;
    if (memory == MAP_FAILED || sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return 1;
    memset(memory, 1, words_at + 8192 + rounds * 8);
    memset(memory + words_at, 0, 8192);
    flag = (uint64_t *)(void *)(memory + words_at), stamp = flag + 64, answer = flag + 128;
    times = (uint64_t *)(void *)(memory + words_at + 8192);
    if (fork() == 0) {
        pin(1, &allowed);
        for (uint64_t i = 1; i <= rounds; i++) {
            while (__atomic_load_n(flag, __ATOMIC_ACQUIRE) != i)
                ;
            times[i - 1] = now_ns() - __atomic_load_n(stamp, __ATOMIC_RELAXED);
            __atomic_store_n(answer, i, __ATOMIC_RELEASE);
        }
        _exit(0);
    }
    pin(0, &allowed);
    for (uint64_t i = 1; i <= rounds; i++) {
        uint64_t due;
        memset(memory + size * (i % DESTINATIONS), (int)i, size);
        for (due = now_ns() + SETTLE_NS; now_ns() < due;)
            ;
        __atomic_store_n(stamp, now_ns(), __ATOMIC_RELAXED);
        __atomic_store_n(flag, i, __ATOMIC_RELEASE);
        while (__atomic_load_n(answer, __ATOMIC_ACQUIRE) != i)
            ;
    }
    wait(NULL);
    qsort(times, rounds, sizeof *times, by_size);
    printf("%llu\n", (unsigned long long)times[rounds / 2]);
    return 0;
}
