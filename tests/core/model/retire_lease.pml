/* SPDX-License-Identifier: Apache-2.0
 *
 * retire_lease.pml - an owner that publishes and discards without ever waiting, and readers that take at the same time.
 *
 * Promises: a leased payload is complete and does not change; taken + lost = published; every lap makes progress, so a healthy segment
 * is never reported as corrupt; exactly DEPTH samples can be taken; a reserve finds a slot, at the latest in its second scan, while
 * the spare slots cover the leases. With fewer spare slots the owner waits.
 *
 * Sequences start at FIRST and tags are modulo 16, so that they wrap as tags modulo 2^48 would. A step of the model is one access to a
 * shared word; a ring entry is one word. Each -D below leaves out one rule.
 */
#ifndef DEPTH
#define DEPTH 1
#endif
#ifndef READERS
#define READERS 1
#endif
#ifndef SAMPLES
#define SAMPLES 5
#endif
#ifndef SPARE
#define SPARE READERS /* with max_leases = 1, enough for loans that never fail */
#endif
#define FIRST 11
#define LAST (FIRST + SAMPLES - 1)
#ifdef RING_HOLDS_THE_DEPTH_ONCE
#define CAPACITY DEPTH
#else
#define CAPACITY (2 * DEPTH)
#endif
#define SLOTS (DEPTH + 1 + SPARE) /* max_loans = 1 */
#define DISTANCE(tag, c) (((tag) - (c) + 40) % 16 - 8) /* -8 to 7 */
#define BIT(r) (1 << (r))

byte ring_tag[CAPACITY], ring_slot[CAPACITY];
byte sequence[SLOTS], readers[SLOTS];
byte half[SLOTS], other_half[SLOTS]; /* the payload */
byte published = FIRST - 1;
bool ready, finished;

active proctype owner()
{
    byte slot_of[CAPACITY], retired[SLOTS];
    byte retired_count, fresh = SLOTS, n = FIRST, slot, i, scans, oldest;
    bool found, discarded;
    d_step {
        i = 0;
        do
        :: i < CAPACITY ->
#ifdef RING_FILLED_WITH_ZERO
            ring_tag[i] = 0;
#else
            ring_tag[i] = (FIRST - 1) % 16;
#endif
            i++
        :: else -> break
        od;
        ready = true
    }
    do
    :: n <= LAST ->
        /* reserve */
        scans = 0;
        found = false;
        do
        :: found -> break
        :: !found && fresh > 0 -> d_step { fresh--; slot = fresh; found = true }
        :: !found && fresh == 0 ->
#if SPARE >= READERS
            assert(scans <= 1); /* one rescan is enough */
            scans++;
#endif
            i = retired_count;
            do
            :: i > 0 && !found ->
                i--;
                if
#ifdef RESERVE_IGNORES_READERS
                :: true ->
#else
                :: readers[retired[i]] == 0 ->
#endif
                    d_step {
                        slot = retired[i];
                        retired_count--;
                        retired[i] = retired[retired_count];
                        found = true
                    }
#ifndef RESERVE_IGNORES_READERS
                :: else -> skip
#endif
                fi
            :: else -> break
            od
        od;
        half[slot] = n;
        other_half[slot] = n;
        if
        :: !discarded && n > FIRST -> /* possibly, once: a loan that is discarded */
            d_step { discarded = true; retired[retired_count] = slot; retired_count++; slot = 0 }
            goto again
        :: true -> skip
        fi;
        /* commit */
#ifdef RING_BEFORE_SEQUENCE
        d_step { ring_tag[n % CAPACITY] = n % 16; ring_slot[n % CAPACITY] = slot }
        sequence[slot] = n;
#else
        sequence[slot] = n;
        d_step { ring_tag[n % CAPACITY] = n % 16; ring_slot[n % CAPACITY] = slot }
#endif
        published = n;
        if
        :: n - FIRST >= DEPTH -> oldest = slot_of[(n - DEPTH) % CAPACITY]
        :: else -> oldest = SLOTS
        fi;
        slot_of[n % CAPACITY] = slot;
        if
        :: oldest != SLOTS ->
#ifndef NOTHING_IS_RETIRED
            sequence[oldest] = 0;
#endif
            d_step { retired[retired_count] = oldest; retired_count++; oldest = 0 }
        :: else -> oldest = 0
        fi;
        n++;
again:  skip
    :: else -> break
    od;
    finished = true
}

proctype reader(byte r)
{
    byte cursor = FIRST - 1, got, lost, c, tag, slot, newest, oldest;
    short distance;
    ready;
    do
    ::  c = cursor + 1;
        d_step {
            tag = ring_tag[c % CAPACITY];
            slot = ring_slot[c % CAPACITY];
            distance = DISTANCE(tag, c % 16)
        }
        if
        :: distance < 0 ->
            if
            :: finished && tag == ring_tag[c % CAPACITY] -> break
            :: tag != ring_tag[c % CAPACITY] -> skip
            fi
        :: distance >= 0 ->
            if
            :: distance == 0 ->
#ifdef LEASE_LOOKS_BEFORE_ITS_BIT
                oldest = sequence[slot];
                readers[slot] = readers[slot] | BIT(r);
                if
                :: oldest == c ->
#else
                readers[slot] = readers[slot] | BIT(r);
                if
#ifdef LEASE_DOES_NOT_LOOK_AGAIN
                :: true ->
#else
                :: sequence[slot] == c ->
#endif
#endif
                    cursor = c;
                    got++;
                    assert(half[slot] == c);
                    assert(other_half[slot] == c);
                    assert(half[slot] == c); /* unchanged */
                    readers[slot] = readers[slot] & ~BIT(r);
                    goto next
#ifndef LEASE_DOES_NOT_LOOK_AGAIN
                :: else -> readers[slot] = readers[slot] & ~BIT(r)
#endif
                fi
            :: else -> skip
            fi;
            newest = published;
            assert(newest >= c); /* a lap proves published >= c + depth */
            oldest = newest - DEPTH + 1;
            assert(oldest > c);
            lost = lost + oldest - c;
            cursor = oldest - 1
        fi;
next:   skip;
        d_step { c = 0; tag = 0; slot = 0; newest = 0; oldest = 0; distance = 0 }
    od;
    assert(cursor == LAST);
    assert(got + lost == SAMPLES);
    /* exactly the newest DEPTH can be taken */
    d_step {
        c = 0;
        slot = 0;
        do
        :: slot < SLOTS ->
            if
            :: sequence[slot] != 0 -> assert(sequence[slot] + DEPTH > LAST); c++
            :: else -> skip
            fi;
            assert((readers[slot] & BIT(r)) == 0);
            slot++
        :: else -> break
        od;
        assert(c == DEPTH)
    }
}

init {
    atomic {
        run reader(0);
#if READERS > 1
        run reader(1)
#endif
    }
}
