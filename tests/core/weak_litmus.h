/* SPDX-License-Identifier: Apache-2.0
 *
 * weak_litmus.h - a check of the model of weak.h itself, by the usual litmus tests of C11.
 *
 * Each test is two or three short programs on two words. It states which outcomes occur, or must not. */
#ifndef WEAK_LITMUS_H
#define WEAK_LITMUS_H

#include "weak_promises.h"

static uint32_t x, y, seen[3], outcome;
static int litmus_store, litmus_load;
static uint64_t outcomes; /* a bit for each outcome that occurred */

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
        seen[2] = 1; /* before the store */
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

static void model_matches_c11(void)
{
    void (*const store_buffering[])(void) = {store_x_load_y, store_y_load_x};
    void (*const rmw_buffering[])(void) = {store_x_load_y, change_y_load_x};
    void (*const message_passing[])(void) = {store_x_store_y, load_y_load_x};
    void (*const coherence[])(void) = {change_x, load_x_twice};
    void (*const atomicity[])(void) = {change_x, change_x_too};
    void (*const release_sequence[])(void) = {store_x_store_y, load_y_load_x, change_y};
    make_world(&tiny);
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
    finish("litmus", weak.runs);
}

#endif
