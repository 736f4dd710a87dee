/* SPDX-License-Identifier: Apache-2.0
 *
 * The ways to copy a sample, and to compute its CRC. Prints one line for each size: bytes, then nanoseconds, medians of ROUNDS:
 * memcpy, and reading all of the copy; zs_copy_streaming, and reading all of the copy; the CRC by table and by zs_crc32c.
 *
 *     copies ROUNDS
 */
#include "zs_copy.h"
#include "zs_crc.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { WAYS = 6, MOST_ROUNDS = 1001 };

static volatile uint64_t sink;

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void read_all(const uint8_t *data, size_t size)
{
    uint64_t sums[4] = {0, 0, 0, 0}, words[4];
    for (size_t i = 0; i + 32 <= size; i += 32) {
        memcpy(words, data + i, sizeof words);
        for (int k = 0; k < 4; k++)
            sums[k] ^= words[k];
    }
    sink = sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(size_t size, size_t slots, int rounds)
{
    static double times[WAYS][MOST_ROUNDS];
    uint8_t *source = (uint8_t *)malloc(size);
    uint8_t *pool = (uint8_t *)mmap(NULL, size * slots, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (source == NULL || pool == MAP_FAILED)
        exit(1);
    memset(source, 7, size);
    memset(pool, 1, size * slots);
    for (int round = 0, slot = 0; round < rounds; round++) {
        double began, copied, ended;
        for (int way = 0; way < 2; way++) {
            uint8_t *target = pool + (size_t)slot++ % slots * size;
            began = now_ns();
            if (way == 0)
                memcpy(target, source, size);
            else
                zs_copy_streaming(target, source, size);
            copied = now_ns();
            read_all(target, size);
            ended = now_ns();
            times[2 * way][round] = copied - began;
            times[2 * way + 1][round] = ended - copied;
        }
        began = now_ns();
        sink = round < 3 ? zs_crc_by_table(0, source, size) : 0;
        copied = now_ns();
        sink = zs_crc32c(source, size);
        ended = now_ns();
        times[4][round] = round < 3 ? copied - began : times[4][round - 3];
        times[5][round] = ended - copied;
    }
    printf("%zu", size);
    for (int way = 0; way < WAYS; way++) {
        qsort(times[way], (size_t)rounds, sizeof(double), compare);
        printf(" %.0f", times[way][rounds / 2]);
    }
    printf("\n");
    munmap(pool, size * slots);
    free(source);
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 101;
    if (rounds < 5 || rounds > MOST_ROUNDS)
        return 2;
    measure((size_t)1 << 20, 16, rounds);
    measure(6220800, 16, rounds);
    measure((size_t)64 << 20, 4, rounds < 21 ? rounds / 2 + 1 : 11);
    measure((size_t)256 << 20, 4, rounds < 21 ? 3 : 7);
    return 0;
}
