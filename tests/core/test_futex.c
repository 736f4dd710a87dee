/* SPDX-License-Identifier: Apache-2.0
 *
 * Sleeping on words: a wait returns at once on another value, when another process wakes it, or at the deadline.
 *
 * No test measures time: the alarm of the test ends a wait that is never woken. */
#include <sys/wait.h>

#include "world.h"

#define FOREVER UINT64_MAX

static void wait_returns_at_once_on_another_value(void)
{
    uint32_t word = 5, other = 6;
    uint32_t *words[2] = {&word, &other};
    const uint32_t first_differs[2] = {4, 6}, second_differs[2] = {5, 7};
    zs_futex_wait(&word, 4, FOREVER);
    zs_futex_wait_any(words, first_differs, 1, FOREVER);
    zs_futex_wait_any(words, first_differs, 2, FOREVER);
    zs_futex_wait_any(words, second_differs, 2, FOREVER);
}

static void deadline_is_absolute_and_kept(void)
{
    uint32_t word = 5, other = 6;
    uint32_t *words[2] = {&word, &other};
    const uint32_t values[2] = {5, 6};
    uint64_t deadline = zs_now_ns() + 2000000;
    zs_futex_wait(&word, 5, deadline);
    CHECK(zs_now_ns() >= deadline);
    zs_futex_wait(&word, 5, deadline); /* passed already */
    zs_futex_wait(&word, 5, 0);
    zs_futex_wait_any(words, values, 2, deadline);
    for (deadline = zs_now_ns() + 2000000; zs_now_ns() < deadline;) /* may return early without FUTEX_WAITV */
        zs_futex_wait_any(words, values, 2, deadline);
}

/* A child sleeps on `count` words; the parent changes word `through` and wakes the child. */
static void wakes_another_process(int count, int through)
{
    uint32_t *shared = (uint32_t *)world_map(4096);
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        uint32_t *words[3] = {&shared[0], &shared[32], &shared[64]};
        const uint32_t values[3] = {0, 0, 0};
        alarm(60);
        zs_fetch_add(&shared[128], 1, ZS_SEQ_CST);
        while (zs_load(&shared[32 * through], ZS_SEQ_CST) == 0)
            zs_futex_wait_any(words, values, count, FOREVER);
        _exit(0);
    }
    while (zs_load(&shared[128], ZS_SEQ_CST) == 0)
        zs_pause();
    for (int i = 0; i < 2000; i++)
        zs_pause(); /* the child usually sleeps by now; the test covers both cases */
    zs_store(&shared[32 * through], 1, ZS_SEQ_CST);
    zs_futex_wake_all(&shared[32 * through]);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    munmap(shared, 4096);
}

static void one_word_wakes_another_process(void)
{
    wakes_another_process(1, 0);
}

static void any_of_several_words_wakes_another_process(void)
{
    for (int i = 0; i < 3; i++)
        wakes_another_process(3, i);
}

static void far_deadlines_are_valid(void)
{
    struct timespec t = zs_timespec(FOREVER);
    CHECK(t.tv_sec > 0 && t.tv_nsec >= 0 && t.tv_nsec < 1000000000);
    t = zs_timespec(UINT64_C(12345678901));
    CHECK_EQUAL(t.tv_sec, 12);
    CHECK_EQUAL(t.tv_nsec, 345678901);
}

static void the_clock_is_monotonic(void)
{
    uint64_t last = zs_now_ns();
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    CHECK(last / 1000000000 <= (uint64_t)now.tv_sec);
    for (int i = 0; i < 1000; i++) {
        uint64_t next = zs_now_ns();
        CHECK(next >= last);
        last = next;
    }
}

int main(void)
{
    RUN(wait_returns_at_once_on_another_value);
    RUN(deadline_is_absolute_and_kept);
    RUN(one_word_wakes_another_process);
    RUN(any_of_several_words_wakes_another_process);
    RUN(far_deadlines_are_valid);
    RUN(the_clock_is_monotonic);
    return 0;
}
