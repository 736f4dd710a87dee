/* SPDX-License-Identifier: Apache-2.0
 *
 * explore.h - runs the shipped headers under every schedule of two or three actors, which can be interrupted before each access to
 * shared memory, with a futex that wakes only the threads that the kernel must wake.
 *
 * Each actor is a coroutine. ZS_STEP precedes every shared access of the core; there the explorer may continue with another actor.
 * A schedule is a list of decisions. After each run, the last decision that has another possible answer is changed, and the run is
 * repeated with a new world. All schedules with at most `preemptions` switches away from a runnable actor are tried; most errors in
 * such protocols need one or two. Weak memory is not simulated: every access is visible to all actors at once.
 *
 * Include this before any header of the core. When all actors sleep, the program ends with an error: a wake-up was lost.
 */
#ifndef EXPLORE_H
#define EXPLORE_H

#include <stdint.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>
#include <sys/syscall.h>

static void explore_step(void);
static void explore_count(uint64_t *counter, uint64_t more);
static void explore_copy(void *to, const void *from, size_t size);
static long explore_syscall(long number, const void *address, int operation, uint32_t value, ...);
#define ZS_STEP() explore_step()

#include "zs_atomic.h"

#define zs_count explore_count
#define ZS_COPY explore_copy
#define syscall(...) explore_syscall(__VA_ARGS__)

#include "world.h"

#define EXPLORE_ACTORS 3
#define EXPLORE_DECISIONS 4096

enum explore_state { EXPLORE_READY, EXPLORE_ASLEEP, EXPLORE_WAITING, EXPLORE_DONE };

typedef struct explore_actor {
    ucontext_t context;
    void (*run)(void);
    enum explore_state state;
    const uint32_t *word;  /* on which it sleeps */
    int (*until)(void);    /* for which it waits */
    uint8_t *stack;
} explore_actor;

static struct {
    explore_actor actors[EXPLORE_ACTORS];
    ucontext_t home;
    int count, current, active, preemptions_left, decision, known;
    uint8_t answers[EXPLORE_DECISIONS], options[EXPLORE_DECISIONS];
    uint64_t schedules, steps;
    const world *world;    /* whose counters are no steps; NULL: all are */
} explore;

/* A copy of a payload is a step for each word. */
static void explore_copy(void *to, const void *from, size_t size)
{
    for (size_t at = 0; at < size; at += 8) {
        ZS_STEP();
        memcpy((uint8_t *)to + at, (const uint8_t *)from + at, 8);
    }
}

static int explore_decide(int options)
{
    int i = explore.decision++;
    CHECK(i < EXPLORE_DECISIONS);
    if (i >= explore.known) {
        explore.known = i + 1;
        explore.answers[i] = 0;
    }
    explore.options[i] = (uint8_t)options;
    return explore.answers[i];
}

static int explore_ready(const explore_actor *actor)
{
    return actor->state == EXPLORE_READY || (actor->state == EXPLORE_WAITING && actor->until());
}

/* Continue with actor `next`. Returns when another actor switches back. */
static void explore_switch(int next)
{
    explore_actor *from = &explore.actors[explore.current], *to = &explore.actors[next];
    explore.current = next;
    to->state = EXPLORE_READY;
    if (from != to)
        swapcontext(&from->context, &to->context);
}

static void explore_step(void)
{
    int others[EXPLORE_ACTORS], count = 0, answer;
    if (!explore.active)
        return;
    explore.steps++;
    if (explore.preemptions_left == 0)
        return;
    for (int i = 0; i < explore.count; i++)
        if (i != explore.current && explore.actors[i].state == EXPLORE_READY)
            others[count++] = i;
    if (count == 0)
        return;
    answer = explore_decide(count + 1);
    if (answer > 0) {
        explore.preemptions_left--;
        explore_switch(others[answer - 1]);
    }
}

/* Counters that only inspection reads take no part in the protocol, so no actor is interrupted there. */
static void explore_count(uint64_t *counter, uint64_t more)
{
    if (explore.world != NULL && world_is_for_inspection(&explore.world->segment, counter))
        *counter += more;
    else
        zs_store(counter, zs_load(counter, ZS_RELAXED) + more, ZS_RELAXED);
}

/* Switch to another actor, because the current one sleeps, waits or is done. */
static void explore_yield(void)
{
    int ready[EXPLORE_ACTORS], count = 0, done = 1;
    for (int i = 0; i < explore.count; i++) {
        if (explore_ready(&explore.actors[i]))
            ready[count++] = i;
        done &= explore.actors[i].state == EXPLORE_DONE;
    }
    if (count == 0) {
        if (!done)
            fprintf(stderr, "%s: an actor sleeps forever, schedule %llu\n", check_test, (unsigned long long)explore.schedules);
        CHECK(done);
        swapcontext(&explore.actors[explore.current].context, &explore.home);
        return;
    }
    explore_switch(ready[count == 1 ? 0 : explore_decide(count)]);
}

/* Wait for a condition outside of the protocol, without a step. */
static void explore_await(int (*until)(void))
{
    explore_actor *self = &explore.actors[explore.current];
    while (!until()) {
        self->state = EXPLORE_WAITING;
        self->until = until;
        explore_yield();
    }
}

/* The simulated futex. */
static long explore_syscall(long number, const void *address, int operation, uint32_t value, ...)
{
    const uint32_t *word = (const uint32_t *)address;
    CHECK_EQUAL(number, SYS_futex);
    if (operation == 1) {
        for (int i = 0; i < explore.count; i++)
            if (explore.actors[i].state == EXPLORE_ASLEEP && explore.actors[i].word == word)
                explore.actors[i].state = EXPLORE_READY;
        return 0;
    }
    CHECK_EQUAL(operation, 9);
    if (__atomic_load_n(word, __ATOMIC_SEQ_CST) != value)
        return -1;
    explore.actors[explore.current].state = EXPLORE_ASLEEP;
    explore.actors[explore.current].word = word;
    explore_yield();
    return 0;
}

static void explore_main(void)
{
    for (;;) {
        explore.actors[explore.current].run();
        explore.actors[explore.current].state = EXPLORE_DONE;
        explore_yield();
    }
}

static void explore_begin(explore_actor *actor, void (*run)(void))
{
    enum { STACK = 1 << 18 };
    if (actor->stack == NULL)
        actor->stack = (uint8_t *)world_map(STACK);
    actor->run = run;
    actor->state = EXPLORE_READY;
    getcontext(&actor->context);
    actor->context.uc_stack.ss_sp = actor->stack;
    actor->context.uc_stack.ss_size = STACK;
    actor->context.uc_link = NULL;
    makecontext(&actor->context, explore_main, 0);
}

/* Run the actors under every schedule. `before` prepares the world, `after` checks it. Returns the number of schedules. */
static uint64_t explore_all(int preemptions, void (*before)(void), void (*after)(void), void (*const *actors)(void), int count)
{
    uint64_t began = explore.schedules;
    explore.known = 0;
    explore.count = count;
    for (;;) {
        int last;
        explore.active = 0;
        explore.decision = 0;
        explore.preemptions_left = preemptions;
        before();
        for (int i = 0; i < count; i++)
            explore_begin(&explore.actors[i], actors[i]);
        explore.active = 1;
        explore.current = explore_decide(count);
        swapcontext(&explore.home, &explore.actors[explore.current].context);
        explore.active = 0;
        explore.schedules++;
        after();
        for (last = explore.decision; last-- > 0;)
            if (explore.answers[last] + 1 < explore.options[last])
                break;
        if (last < 0)
            return explore.schedules - began;
        explore.answers[last]++;
        explore.known = last + 1;
    }
}

#endif
