/* SPDX-License-Identifier: Apache-2.0
 *
 * batches.pml - an owner publishes batches to a reliable reader that takes batches; each sleeps where it cannot go on.
 *
 * Promises: no wake-up is lost on either side, and the reader misses no sample, although samples are announced, and cursors stored,
 * once for several samples.
 *
 * The owner looks at its window once for up to MAX_LOANS samples. The reader joins at any moment, and sees `published` there.
 */
#ifndef DEPTH
#define DEPTH 3
#endif
#ifndef MAX_LOANS
#define MAX_LOANS 2
#endif
#ifndef BATCH
#define BATCH MAX_LOANS /* samples for one look at the window */
#endif
#define SAMPLES 6

byte published, retired;
byte generation, space; /* futex words */
bool parked, waiting, attached, joined, reader_sleeps, owner_sleeps;
byte cursor;            /* in the peer entry */
byte taken;             /* private */

inline announce()
{
    generation++;
    if
    :: parked -> d_step { parked = false; generation++; reader_sleeps = false }
    :: else
    fi
}

/* How many samples the window has room for, at most BATCH. */
inline look(room)
{
    if
    :: !attached -> room = BATCH
    :: else -> room = (cursor + DEPTH > published -> cursor + DEPTH - published : 0)
    fi;
    if
    :: room > BATCH -> room = BATCH
    :: else
    fi
}

active proctype owner()
{
    byte room, seen, done;
    bool unannounced;
    do
    :: done == SAMPLES -> break
    :: else ->
        look(room);
        if
        :: room == 0 ->
#ifndef WAITS_BEFORE_IT_ANNOUNCES
            if
            :: unannounced -> announce(); unannounced = false
            :: else
            fi;
#endif
            waiting = true;
            seen = space;
            look(room);
            if
            :: room == 0 ->
                atomic { if :: space == seen -> owner_sleeps = true :: else fi };
                !owner_sleeps
            :: else
            fi;
            waiting = false
        :: else
        fi;
        do
        :: room > 0 && done < SAMPLES ->
            done++; published = done; unannounced = true;
            if
            :: done > DEPTH ->
                retired = done - DEPTH;
                assert(!joined || taken >= retired)
            :: else
            fi;
            room--
        :: else -> break
        od;
#ifndef ANNOUNCES_AT_THE_END_ONLY
        if
        :: unannounced -> announce(); unannounced = false
        :: else
        fi
#endif
    od;
    if
    :: unannounced -> announce()
    :: else
    fi
}

active proctype reader()
{
    byte seen, last;
    cursor = (published > DEPTH - MAX_LOANS -> published - (DEPTH - MAX_LOANS) : 0);
    attached = true;
    last = published;
    d_step {
        taken = (last > DEPTH - MAX_LOANS -> last - (DEPTH - MAX_LOANS) : 0);
        cursor = taken;
        joined = true
    }
    d_step { space++; owner_sleeps = false }
    assert(retired <= taken);
    do
    :: taken == SAMPLES -> break
    :: else ->
        last = published;
        if
        :: last > taken ->
            do
            :: taken < last -> assert(retired < taken + 1); taken++
            :: else -> break
            od;
            /* settle */
            cursor = taken;
#ifndef SETTLES_WITHOUT_WAKE
            if
            :: waiting -> d_step { space++; owner_sleeps = false }
            :: else
            fi
#endif
        :: else ->
            do /* as zs_reader_park: until the bit is still set after generation was loaded */
            :: parked = true;
                seen = generation;
                if
                :: parked -> break
                :: else
                fi
            od;
            if
            :: published > taken
            :: else ->
                atomic { if :: generation == seen -> reader_sleeps = true :: else fi };
                !reader_sleeps
            fi;
            parked = false
        fi
    od
}
