/* SPDX-License-Identifier: Apache-2.0
 *
 * rejoin.pml - an owner that publishes, retires, evicts a reader and ends, and a reader that takes, is told of the eviction, and joins
 * again after its cursor, or counts what it missed if the owner has ended before.
 *
 * Promises: no sequence is taken twice or out of order; the count of losses never decreases; each eviction is reported once; when the
 * owner has ended and the reader has taken everything, taken + lost = published.
 *
 * A join may fail for a temporary reason, before anything has changed (a full table, no descriptor) or after the entry was filled (an
 * interruption). Then the registration is undone, and the record of the eviction stays. A change of the record and the change of the
 * counters that follows from it are one step.
 */
#ifndef DEPTH
#define DEPTH 2
#endif
#ifndef SAMPLES
#define SAMPLES 5
#endif
#ifndef EVICTIONS
#define EVICTIONS 2
#endif

byte published, retired;
bool attached, evicted; /* whether the reader is registered, and whether the owner has evicted it (the epochs are equal) */
bool ended;
byte evictions, told;
byte taken, lost;    /* the subscriber's counters */
byte newest;         /* ghost: the newest sequence that was taken */

active proctype owner()
{
    do
    :: published < SAMPLES ->
        published++;
        if
        :: published > DEPTH -> retired = published - DEPTH
        :: else -> skip
        fi
    :: atomic { evictions < EVICTIONS && attached && !evicted -> evicted = true; evictions++ }
    :: ended = true; break
    od
}

active proctype reader()
{
    byte cursor, start, seen, missed, oldest, here;
    bool over;
    attached = true;
    here = published; /* history 0: earlier samples do not count */
    cursor = here;
    lost = 0;
    start = here;
reading:
    do
    :: over = ended; /* the state first, then the ring */
        if
        :: evicted ->
            told++;
            attached = false;
            goto after_eviction
        :: else -> skip
        fi;
        atomic {
            if
            :: published > cursor ->
                oldest = (retired + 1 > cursor + 1 -> retired + 1 : cursor + 1);
                lost = lost + (oldest - (cursor + 1));
                cursor = oldest;
                assert(cursor > newest);
                newest = cursor;
                taken++;
                over = false
            :: else -> skip
            fi
        };
        if
        :: over && !evicted -> goto done
        :: over && evicted -> skip /* the eviction is reported first */
        :: else -> skip
        fi
    od;
after_eviction:
    /* The record says where to continue; missed samples are not counted yet. */
    do
    :: true -> skip /* an attempt that fails before anything has changed */
    :: !ended ->
        seen = published;
        missed = 0;
#ifdef REJOIN_FROM_HISTORY
        start = (seen > 1 -> seen - 1 : 0);
#else
        start = cursor;
#endif
#ifdef REJOIN_FROM_NOW
        start = seen;
#endif
        d_step { evicted = false; attached = true } /* another epoch */
#ifdef COUNTED_BEFORE_IT_IS_JOINED
        lost = lost + (retired > start -> retired - start : 0);
#endif
        if
        :: true -> /* interrupted: the registration is undone */
            attached = false
        :: true ->
            atomic {
                missed = (retired > start -> retired - start : 0);
#ifndef COUNTED_BEFORE_IT_IS_JOINED
                lost = lost + missed;
#endif
                cursor = start + missed
            };
            goto reading
        fi;
        assert(lost <= SAMPLES)
    :: ended ->
#ifndef FORGETS_WHAT_WAS_MISSED
        lost = lost + (published - cursor);
#endif
#ifdef COUNTS_THE_END_TWICE
        lost = lost + (published - cursor);
#endif
        goto done
    od;
done:
    assert(!ended || taken + lost == published - here);
    assert(told <= evictions)
}
