/* SPDX-License-Identifier: Apache-2.0
 *
 * zs_futex.h - sleeping on words in shared memory.
 *
 * Deadlines are in nanoseconds of CLOCK_MONOTONIC. A wait may return early for any reason and does not say which, so the caller
 * checks its condition again after each. Where the system has no futex, a wait is a short sleep: callers then work, with more
 * delay.
 */
#ifndef ZS_FUTEX_H
#define ZS_FUTEX_H

#include "zs_atomic.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <time.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define ZS_WAITV_MAX 128

/* CLOCK_MONOTONIC in nanoseconds. */
static inline uint64_t zs_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* The same clock at the kernel's last tick, at most some milliseconds old. Costs a fifth of zs_now_ns. */
static inline uint64_t zs_coarse_ns(void)
{
#if defined(CLOCK_MONOTONIC_COARSE)
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
#else
    return zs_now_ns();
#endif
}

static inline struct timespec zs_timespec(uint64_t ns)
{
    struct timespec t;
    t.tv_sec = (time_t)(ns / UINT64_C(1000000000));
    t.tv_nsec = (long)(ns % UINT64_C(1000000000));
    return t;
}

/* The layout of the kernel's struct futex_waitv (Linux 5.16), which older system headers lack. */
typedef struct zs_waitv {
    uint64_t value;
    uint64_t address;
    uint32_t flags;
    uint32_t reserved;
} zs_waitv;

/* Sleep for at most 200 us, and not beyond the deadline. */
static inline void zs_sleep_briefly(uint64_t deadline_ns)
{
    const uint64_t slice_ns = 200000;
    uint64_t now = zs_now_ns();
    struct timespec t;
    if (now >= deadline_ns)
        return;
    t = zs_timespec(deadline_ns - now < slice_ns ? deadline_ns - now : slice_ns);
    nanosleep(&t, NULL);
}

/* Sleep while *word == value, until woken or until the deadline. */
static inline void zs_futex_wait(uint32_t *word, uint32_t value, uint64_t deadline_ns)
{
#if defined(__linux__) && defined(SYS_futex)
    struct timespec deadline = zs_timespec(deadline_ns);
    const int wait_bitset = 9;
    ZS_STEP();
    syscall(SYS_futex, word, wait_bitset, value, &deadline, NULL, 0xffffffffu);
#else
    if (zs_load(word, ZS_RELAXED) == value)
        zs_sleep_briefly(deadline_ns);
#endif
}

/* Sleep while every words[i] == values[i], until woken on one of them or until the deadline. With more than ZS_WAITV_MAX words, on
 * kernels without FUTEX_WAITV and in sandboxes that forbid it, the wait is a short sleep. */
static inline void zs_futex_wait_any(uint32_t *const *words, const uint32_t *values, int count, uint64_t deadline_ns)
{
    if (count == 1) {
        zs_futex_wait(words[0], values[0], deadline_ns);
        return;
    }
    if (count > ZS_WAITV_MAX) {
        zs_sleep_briefly(deadline_ns);
        return;
    }
#if defined(__linux__)
    {
        const long futex_waitv = 449;
        const uint32_t size_u32 = 2; /* without FUTEX2_PRIVATE: the words are shared between processes */
        zs_waitv waiters[ZS_WAITV_MAX];
        struct timespec deadline = zs_timespec(deadline_ns);
        long result;
        for (int i = 0; i < count; i++) {
            waiters[i].value = values[i];
            waiters[i].address = (uint64_t)(uintptr_t)words[i];
            waiters[i].flags = size_u32;
            waiters[i].reserved = 0;
        }
        ZS_STEP();
        result = syscall(futex_waitv, waiters, (unsigned)count, 0u, &deadline, CLOCK_MONOTONIC);
        if (result >= 0 || (errno != ENOSYS && errno != EPERM))
            return;
    }
#endif
    zs_sleep_briefly(deadline_ns);
}

/* Wake all threads, of all processes, that sleep on the word. */
static inline void zs_futex_wake_all(uint32_t *word)
{
#if defined(__linux__) && defined(SYS_futex)
    const int wake = 1;
    ZS_STEP();
    syscall(SYS_futex, word, wake, INT_MAX, NULL, NULL, 0);
#else
    (void)word;
#endif
}

#endif
