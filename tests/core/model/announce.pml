/* SPDX-License-Identifier: Apache-2.0
 *
 * announce.pml - a reliable subscription is announced, and a publisher starts, in every order; the subscription may end at any moment.
 *
 * Promises: a subscription that was announced before the publisher's flink existed takes every sample from the first one, however
 * late its process joins. A publisher never waits for one that has joined and taken, was closed, has died or has refused it.
 *
 * The subscriber announces itself, looks for flinks, and joins in that look or later, when it has time. The publisher links its flink,
 * looks for announcements, and publishes; with a full window it looks for what has become of them. The join itself is in
 * join_publish.
 */
#define DEPTH 2
#define SAMPLES 4

bool announced;           /* the file exists, complete, and its lock is held */
bool refused;             /* the id of the segment stands in the file */
bool linked;
bool entry_has_id;        /* the subscriber's id stands in its peer entry */
bool joined;              /* its bit in `active` */
byte cursor;              /* in the peer entry */
byte published, retired;  /* sequences from 1 on */
bool was_first;           /* the announcement was complete before the flink existed */

active proctype subscriber()
{
    byte taken;
    bool sees_it;
#ifdef LOOKS_BEFORE_IT_ANNOUNCES
    sees_it = linked;
    atomic { announced = true; was_first = !linked };
#else
    atomic { announced = true; was_first = !linked };
    sees_it = linked;
#endif
    if
    :: sees_it -> skip
    :: else -> linked /* busy until then, and for as long as it likes */
    fi;
    if
    :: true -> skip
    :: true ->
        announced = false; /* closed, or killed: the lock falls */
        goto done
    :: true ->
#ifndef REFUSES_SILENTLY
        refused = true;
#endif
        goto done
    fi;
    /* The join. A subscription that did not see the flink in its first look wants everything. */
    entry_has_id = true;
#ifdef JOINS_LATER_THAN_IT_IS_WAITED_FOR
    cursor = (published >= DEPTH -> published - DEPTH + 1 : 0);
#else
    cursor = (sees_it -> published : 0);
#endif
    joined = true;
#ifdef JOINS_LATER_THAN_IT_IS_WAITED_FOR
    atomic { cursor = (published >= DEPTH -> published - DEPTH + 1 : 0); taken = cursor };
#else
    atomic { cursor = (sees_it -> published : 0); taken = cursor };
#endif
    assert(sees_it || !was_first || taken == 0); /* everything, from the first sample on */
    assert(retired <= taken);                    /* nothing of it was lost */
    do
    :: published > taken ->
        assert(retired <= taken);
        taken++;
        cursor = taken
    :: taken == SAMPLES -> break
    :: true -> joined = false; announced = false; break
    od;
done:
    skip
}

active proctype publisher()
{
    bool awaited;
#ifdef LOOKS_BEFORE_IT_LINKS
    awaited = announced;
    linked = true;
#else
    linked = true;
#ifndef DOES_NOT_LOOK
    awaited = announced && !refused;
#endif
#endif
    do
    :: published == SAMPLES -> break
    :: published < DEPTH -> published++
    :: published >= DEPTH && published < SAMPLES && !awaited && (!joined || cursor >= published + 1 - DEPTH) ->
        atomic { published++; retired = published - DEPTH }
    /* With a full window it looks again and again: has the subscription joined, refused, ended? */
#ifdef ANY_ENTRY_WILL_DO
    :: awaited && entry_has_id -> awaited = false
#else
    :: awaited && joined ->
        if
        :: entry_has_id -> awaited = false
        :: else -> skip
        fi
#endif
    :: awaited && refused -> awaited = false
#ifndef WAITS_FOR_THE_DEAD
    :: awaited && !announced -> awaited = false
#endif
    od
}
