/* SPDX-License-Identifier: Apache-2.0
 *
 * ticket.pml - an owner that publishes, a reader that makes tickets of the samples it leases, and two readers that redeem them, make
 * tickets of what they redeemed, and pass those on.
 *
 * Promises: a redeemed payload is complete and does not change until the release, whenever the ticket is redeemed; a ticket can be
 * redeemed while its sample is among the newest DEPTH, and while the lease that made it is held, also after an attempt of the owner to
 * reuse the slot.
 *
 * SHARED: the two that redeem are threads of one process. They share a bit, and one lease of a slot counts for both.
 *
 * A step of the model is one access to a shared word. Each -D below leaves out one rule.
 */
#ifndef SAMPLES
#define SAMPLES 3
#endif
#define DEPTH 1
#ifndef SLOTS
#define SLOTS 2 /* max_loans = 1 and no spare slot: the owner waits for readers, so a slot that is free again is reused at once */
#endif
#define CLOSING 64
#define BIT(r) (1 << (r))
#ifdef SHARED
#define REDEEMER 1
#else
#define REDEEMER r
#endif

byte newest, newest_slot;
byte sequence[SLOTS], reference[SLOTS], readers[SLOTS];
byte half[SLOTS], other_half[SLOTS]; /* the payload */
byte kept[SAMPLES + 1]; /* leases that made a ticket of this sample, and are held */
bool finished;
byte held[SLOTS], sample[SLOTS]; /* private to the process with SHARED: leases of a slot, and of which sample */
bool mutex;
chan tickets = [2] of { byte, byte }; /* slot, sequence */

proctype owner()
{
    byte n = 1, slot, i, seen, previous = SLOTS;
    bool found, retired[SLOTS], used[SLOTS];
    do
    :: n <= SAMPLES ->
        found = false;
        i = 0;
        do
        :: found -> break
        :: !found && i < SLOTS ->
            if
            :: !used[i] -> d_step { used[i] = true; slot = i; found = true }
            :: used[i] && retired[i] && readers[i] == 0 ->
#ifdef CLOSES_NO_REFERENCE
                found = true;
#else
                if
                :: reference[i] == 0 -> found = true
                :: else ->
#ifdef CLOSES_AT_ONCE
                    reference[i] = 0;
                    if
                    :: readers[i] == 0 -> found = true
                    :: else -> skip
                    fi
#else
                    d_step { seen = reference[i] | CLOSING; reference[i] = seen }
#ifdef CLOSES_WITHOUT_A_SECOND_LOOK
                    if
                    :: true ->
#else
                    if
                    :: readers[i] == 0 ->
#endif
#ifdef CLOSES_WITHOUT_A_CHECK
                        reference[i] = 0;
                        found = true
#else
                        d_step {
                            if
                            :: reference[i] == seen -> reference[i] = 0; found = true
                            :: else -> skip
                            fi
                        }
#endif
#ifndef CLOSES_WITHOUT_A_SECOND_LOOK
                    :: else -> skip
#endif
                    fi
#endif
                fi;
#endif
                d_step {
                    if
                    :: found -> slot = i; retired[i] = false
                    :: else -> i++
                    fi;
                    seen = 0
                }
            :: else -> i++
            fi
        :: !found && i == SLOTS -> i = 0 /* until there is a free slot */
        od;
        half[slot] = n;
        other_half[slot] = n;
        sequence[slot] = n;
        d_step { newest = n; newest_slot = slot };
        if
        :: previous != SLOTS -> sequence[previous] = 0; retired[previous] = true
        :: else -> skip
        fi;
        d_step { previous = slot; n++; i = 0; slot = 0 }
    :: else -> break
    od;
    finished = true
}

inline make_ticket(s, number)
{
#ifndef TICKET_STORES_NO_REFERENCE
    reference[s] = number;
#endif
    kept[number]++;
    if
    :: atomic { nfull(tickets) -> tickets ! s, number }
    :: true -> skip
    fi
}

inline check_payload(s, number)
{
    assert(half[s] == number);
    assert(other_half[s] == number);
    assert(half[s] == number) /* unchanged */
}

proctype maker()
{
    byte slot, n, last;
end:
    do
    :: newest > last ->
        d_step { n = newest; slot = newest_slot; last = newest };
        readers[slot] = readers[slot] | BIT(0);
        if
        :: sequence[slot] == n ->
            make_ticket(slot, n);
            check_payload(slot, n);
            kept[n]--
        :: else -> skip
        fi;
        readers[slot] = readers[slot] & ~BIT(0);
        d_step { slot = 0; n = 0 }
    od
}

/* Whether this process may read sample n in slot `s`, as `good`. */
inline redeem(s, number)
{
#ifdef REDEEMS_BEFORE_ITS_BIT
    seen = reference[s];
    readers[s] = readers[s] | BIT(REDEEMER);
#else
    readers[s] = readers[s] | BIT(REDEEMER);
    seen = reference[s];
#endif
    do
    :: seen == (number | CLOSING) ->
#ifdef REDEEMS_WHAT_IS_BEING_CLOSED
        seen = number
#elif defined(REOPENS_WITHOUT_A_CHECK)
        reference[s] = number;
        seen = number
#else
        d_step {
            if
            :: reference[s] == (number | CLOSING) -> reference[s] = number; seen = number
            :: else -> seen = reference[s]
            fi
        }
#endif
    :: else -> break
    od;
    good = (seen == number);
    seen = 0
}

proctype redeemer(byte r)
{
    byte slot, n, seen;
    bool good;
end:
    do
    :: tickets ? slot, n ->
        if
        :: atomic { nfull(tickets) -> tickets ! slot, n } /* possibly: it is redeemed a second time */
        :: true -> skip
        fi;
#ifdef SHARED
        atomic { !mutex -> mutex = true };
        if
#ifdef SHARES_WITHOUT_A_LOOK
        :: held[slot] > 0 -> good = true
#else
        :: held[slot] > 0 -> good = (sample[slot] == n); assert(good || kept[n] == 0)
#endif
        :: else ->
            redeem(slot, n);
            if
            :: !good -> assert(kept[n] == 0); readers[slot] = readers[slot] & ~BIT(1)
            :: else -> skip
            fi
        fi;
        if
        :: good -> held[slot]++; sample[slot] = n
        :: else -> skip
        fi;
#else
        redeem(slot, n);
        if
        :: !good -> assert(kept[n] == 0); readers[slot] = readers[slot] & ~BIT(r)
        :: else -> skip
        fi;
#endif
        if
        :: !good ->
            assert(sequence[slot] != n);
#ifdef SHARED
            mutex = false
#endif
        :: good ->
#ifdef SHARED
            mutex = false;
#endif
            make_ticket(slot, n);
            check_payload(slot, n);
            kept[n]--;
#ifdef SHARED
#ifndef RELEASES_WITHOUT_THE_MUTEX
            atomic { !mutex -> mutex = true };
#endif
            held[slot]--;
            if
#ifdef FIRST_RELEASE_CLEARS_THE_BIT
            :: true ->
#else
            :: held[slot] == 0 ->
#endif
                readers[slot] = readers[slot] & ~BIT(1)
#ifndef FIRST_RELEASE_CLEARS_THE_BIT
            :: else -> skip
#endif
            fi;
#ifndef RELEASES_WITHOUT_THE_MUTEX
            mutex = false
#endif
#else
            readers[slot] = readers[slot] & ~BIT(r)
#endif
        fi;
        d_step { slot = 0; n = 0; good = false }
    od
}

init {
    atomic {
        run owner();
        run maker();
        run redeemer(1);
        run redeemer(2)
    }
}
