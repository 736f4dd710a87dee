/* SPDX-License-Identifier: Apache-2.0
 *
 * park_wake.pml - two commits, and threads of one subscriber that sleep while there is no sample.
 *
 * Promises: no wake-up is lost. (In spin, a lost one is an invalid end state: a sleeper that is never woken.) There are as many system
 * calls as there were bits to clear, so that a sleeper that died costs one. Sleeps have no timeout here: the shipped code would also
 * wake after its timeout, and no promise relies on that.
 *
 * LOOKS is how a thread checks again after it has parked: it reads the ring (take), or only whether generation still has the value
 * that it captured before it checked (wait_for_change).
 */
#ifndef SAMPLES
#define SAMPLES 2
#endif
#ifndef SLEEPERS
#define SLEEPERS 1
#endif

byte ring;        /* the newest sample */
byte generation;
bool parked;      /* this subscriber's bit */
bool asleep[SLEEPERS + 1], dead;
byte sleepers;    /* threads that may be asleep, under the subscriber's mutex */
byte bits_set, wakes;

inline wake()
{
    d_step {
        wakes++;
        asleep[0] = false;
#if SLEEPERS > 1
        asleep[1] = false;
#endif
    }
}

active proctype owner()
{
    byte n = 1;
    bool taken;
    do
    :: n <= SAMPLES ->
        ring = n;
#ifdef WAKE_BEFORE_GENERATION
        taken = parked;
        generation++;
#else
        generation++;
        taken = parked;
#endif
        if
        :: taken ->
#ifdef WAKER_LEAVES_THE_BITS
            skip;
#else
            d_step { taken = parked; parked = false } /* one exchange */
#endif
            if
            :: taken ->
#ifndef WAKER_DOES_NOT_MOVE_GENERATION
                generation++;
#endif
                wake()
            :: else -> skip
            fi
        :: else -> skip
        fi;
        taken = false;
        n++
    :: else -> break
    od;
    /* A reader that died asleep costs one call, which clears its bit. */
    assert(wakes <= bits_set)
}

inline park(seen)
{
    /* Under the subscriber's mutex. Each step is separate, because the owner does not take that mutex. */
    sleepers++;
    do
    ::  d_step {
            if
            :: !parked -> parked = true; bits_set++
            :: else -> skip
            fi
        }
        seen = generation;
        if
#ifdef SLEEPER_DOES_NOT_CHECK_ITS_BIT
        :: true -> break
#else
        :: parked -> break
        :: else -> skip
#endif
        fi
    od
}

inline unpark()
{
    atomic {
        sleepers--;
        if
#ifdef ANY_SLEEPER_CLEARS_THE_BIT
        :: true -> parked = false
#else
        :: sleepers == 0 -> parked = false
        :: else -> skip
#endif
        fi
    }
}

/* The kernel compares and sleeps in one step. */
inline futex_wait(id, seen)
{
    atomic {
        if
        :: generation == seen -> asleep[id] = true
        :: else -> skip
        fi
    }
    !asleep[id] || dead
}

proctype taker(byte id)
{
    byte cursor, seen;
    do
    :: ring != cursor -> cursor = ring
    :: ring == cursor && cursor == SAMPLES -> break
    :: ring == cursor && cursor < SAMPLES ->
#ifdef SLEEPER_DOES_NOT_LOOK_AGAIN
        park(seen);
        futex_wait(id, seen);
#else
        park(seen);
        if
        :: ring == cursor -> futex_wait(id, seen)
        :: else -> skip
        fi;
#endif
        if
        :: dead -> goto gone
        :: else -> unpark()
        fi;
        seen = 0
    od;
gone: skip
}

proctype waiter_for_change(byte id)
{
    byte last, seen;
    do
    ::  last = generation;
        if
        :: ring == SAMPLES -> break
        :: else -> skip
        fi;
        park(seen);
        if
        :: seen == last -> futex_wait(id, last)
        :: else -> skip
        fi;
        if
        :: dead -> goto gone
        :: else -> unpark()
        fi;
        seen = 0; last = 0
    od;
gone: skip
}

init {
    atomic {
#ifdef CHANGE
        run waiter_for_change(0);
#else
        run taker(0);
#endif
#if SLEEPERS > 1
        run taker(1);
#endif
#ifdef DEATH
end:    (asleep[0]);
        dead = true
#endif
    }
}
