/* SPDX-License-Identifier: Apache-2.0
 *
 * weak.c - which memory orders are needed: the shipped headers under the model of weak.h, unchanged and with one order weaker at a
 * time.
 *
 *   weak                    no promise may break as shipped, and one must break with each weaker order
 *   weak ORDER WEAKER       with one weaker order, print the accesses of the first run that breaks: weak ZS_LEASE_LOAD acquire
 *   weak let-go             the same for a wake-up that can be late (weak.md)
 *
 * An order is weakened by one step (seq_cst to acq_rel, acquire or release, and those to the orders below), and further if no
 * promise breaks. WEAK_MORE=1 tries one deviation more, which takes minutes; CHECK_VERBOSE=1 prints the number of runs. The
 * promises are in weak_promises.h, the programs that check the model itself in weak_litmus.h. */
#include <sys/wait.h>

#include "weak_litmus.h"
#include "weak_promises.h"

static void all_promises(void)
{
    RUN(model_matches_c11);
    RUN(open_segment_is_complete);
    RUN(leases_are_whole);
    RUN(newest_is_whole);
    RUN(overtaken_reader_finds_published_far_enough);
    RUN(redeemed_payload_is_whole);
    RUN(ticket_passes_the_payload_on);
    RUN(own_views_are_whole);
    RUN(no_release_is_missed);
    RUN(no_cursor_is_missed);
    RUN(no_leaving_is_missed);
    RUN(no_change_is_missed);
    RUN(no_wake_up_is_lost);
    RUN(reliable_joiner_misses_nothing);
    RUN(reliable_joiner_misses_nothing_of_a_batch);
    RUN(copies_are_whole);
    RUN(reliable_joiner_misses_nothing_of_published_copies);
    RUN(released_slot_is_reused);
    RUN(loan_never_fails_because_of_readers);
}

static const char *const order_names[] = {"relaxed", "consume", "acquire", "release", "acq_rel", "seq_cst"};

/* The orders one step below `order`, for the kind of access in which the name ends. -1: there are no more. */
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

/* Whether a promise breaks; `output` is the first line of its message. */
static int breaks(void (*promises)(void), char *output, size_t room)
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
    while ((count = read(ends[0], output + length, room - 1 - length)) > 0)
        length += (size_t)count;
    close(ends[0]);
    output[length] = 0;
    output[strcspn(output, "\n")] = 0;
    CHECK(waitpid(child, &status, 0) == child);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

/* Weaken one order step by step until a promise breaks. Returns the number of steps that broke none. */
static int weaken(int i, int order)
{
    int unnoticed = 0, next;
    char output[400];
    for (int which = 0; (next = weaker(weak_orders[i].name, order, which)) >= 0; which++) {
        int wrong;
        weak_orders[i].now = next;
        wrong = breaks(all_promises, output, sizeof output);
        weak_orders[i].now = weak_orders[i].shipped;
        if (!wrong || getenv("CHECK_VERBOSE") != NULL)
            printf("%-20s %s to %s: %s\n", weak_orders[i].name, order_names[order], order_names[next],
                   wrong ? output + strcspn(output, " ") : "NO promise breaks");
        if (!wrong)
            unnoticed += 1 + weaken(i, next);
    }
    return unnoticed;
}

/* Run the promises in a child, and print the accesses that led to a failed check. */
static int run_logged(void (*promises)(void))
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
        printf("no promise breaks\n");
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
    fprintf(stderr, "weak: unknown order %s\n", name);
    exit(2);
}

static void let_go(void)
{
    RUN(no_view_is_missed);
}

static void without_announce(void)
{
    RUN(reliable_joiner_misses_nothing_of_a_batch);
}

int main(int argc, char **argv)
{
    int unnoticed = 0, late;
    char output[400];
    if (argc == 2 && strcmp(argv[1], "let-go") == 0)
        return run_logged(let_go);
    if (argc == 3) {
        struct weak_order *order = order_named(argv[1]);
        for (int i = 0; i < 6; i++)
            if (strcmp(argv[2], order_names[i]) == 0)
                order->now = i;
        return run_logged(all_promises);
    }
    all_promises();
    printf("weak: as shipped, no promise breaks in %llu runs\n", (unsigned long long)weak.runs);
    late = breaks(let_go, output, sizeof output);
    order_named("ZS_HELD_STORE")->now = order_named("ZS_HELD_LOAD")->now = __ATOMIC_SEQ_CST;
    CHECK(!breaks(let_go, output, sizeof output));
    order_named("ZS_HELD_STORE")->now = order_named("ZS_HELD_STORE")->shipped;
    order_named("ZS_HELD_LOAD")->now = order_named("ZS_HELD_LOAD")->shipped;
    announces_batch = 0;
    CHECK(breaks(without_announce, output, sizeof output)); /* otherwise the rule is not needed */
    announces_batch = 1;
    if (late)
        printf("weak: a blocked owner may miss, until its next slice, that its own process drops a view (weak.md)\n");
    for (int i = 0; i < WEAK_ORDERS; i++)
        unnoticed += weaken(i, weak_orders[i].shipped);
    printf("weak: of %d orders, %d can be weaker without breaking a promise\n", WEAK_ORDERS, unnoticed);
    return unnoticed != 0;
}
