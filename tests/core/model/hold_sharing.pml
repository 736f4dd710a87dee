/* SPDX-License-Identifier: Apache-2.0
 *
 * hold_sharing.pml - two threads of one subscriber take samples under its mutex and pass their leases to a third thread, which releases
 * them without a lock, while the owner publishes and reuses slots.
 *
 * Promises: each bit belongs to exactly one lease, so the payload of a lease does not change until the lease is released; a healthy
 * segment is never reported as corrupt (a slot that is free again never looks held); there are never more than MAX_LEASES bits set,
 * since otherwise the owner's loan could fail because of readers.
 *
 * VIEWS: something in the owner's process still refers to a published sample and reads or writes it; the slot is not reused meanwhile.
 *
 * CORRUPT: a faulty process writes the name of a held slot into a ring entry, once. The take that finds it is an error, and the lease
 * keeps its payload.
 */
#ifndef SAMPLES
#define SAMPLES 4
#endif
#define MAX_LEASES 2
#define SPARE 1 /* fewer than the leases: the owner waits, so a released slot is reused at once */
#define SLOTS (1 + 1 + SPARE)
#define CAPACITY 2

byte ring_tag[CAPACITY], ring_slot[CAPACITY], sequence[SLOTS], payload[SLOTS], published;
bool is_read[SLOTS];    /* this subscriber's bit */
bool held[SLOTS];     /* private to its process */
byte taken, released, cursor, bits;
bool mutex, finished, corrupted;
bool viewed[SLOTS];    /* private to the owner's process */
chan loaned = [SLOTS] of { byte, byte };
chan handed = [MAX_LEASES] of { byte, byte }; /* slot, sequence */

proctype owner()
{
    byte n = 1, slot, used, old, older = SLOTS, i;
    bool retired[SLOTS], found;
    do
    :: n <= SAMPLES ->
        found = false;
        i = 0;
        if
        :: used < SLOTS -> atomic { slot = used; used++; found = true }
        :: else ->
            do
            :: found -> break
            :: !found && i < SLOTS ->
                if
#ifdef RESERVE_IGNORES_OWN_VIEWS
                :: retired[i] && !is_read[i] ->
#else
                :: retired[i] && !viewed[i] && !is_read[i] ->
#endif
                    atomic { slot = i; retired[i] = false; found = true }
                :: else -> i++
                fi
            :: !found && i == SLOTS -> i = 0 /* until there is a free slot */
            od
        fi;
        payload[slot] = n;
#ifdef VIEWS
        viewed[slot] = true;
#endif
        sequence[slot] = n;
        d_step { ring_tag[n % CAPACITY] = n; ring_slot[n % CAPACITY] = slot };
        published = n;
#ifdef VIEWS
        loaned ! slot, n;
#endif
        if
        :: older != SLOTS -> sequence[older] = 0; retired[older] = true
        :: else -> skip
        fi;
        d_step { older = slot; n++; i = 0 }
    :: else -> break
    od;
    finished = true
}

inline clear_bit(s)
{
    d_step {
        if
        :: is_read[s] -> bits--; is_read[s] = false
        :: else -> skip
        fi
    }
}

proctype taker()
{
    byte c, tag, slot, newest;
    do
    ::  atomic { !mutex -> mutex = true };
        c = cursor + 1;
        d_step { tag = ring_tag[c % CAPACITY]; slot = ring_slot[c % CAPACITY] };
        if
        :: tag < c || taken - released >= MAX_LEASES -> goto out
        :: else -> skip
        fi;
        if
        :: tag == c ->
#ifndef HELD_SLOT_IS_LEASED_AGAIN
            if
            :: held[slot] -> assert(corrupted); mutex = false; goto end /* CorruptSegmentError */
            :: else -> skip
            fi;
#endif
            atomic {
                if
                :: !is_read[slot] -> is_read[slot] = true; bits++; assert(bits <= MAX_LEASES)
                :: else -> skip
                fi
            }
            if
            :: sequence[slot] == c ->
                held[slot] = true;
#ifndef SEQUENCE_IS_LEASED_TWICE
                cursor = c;
#endif
                taken++;
                handed ! slot, c;
                goto out
            :: else -> clear_bit(slot)
            fi
        :: else -> skip
        fi;
        newest = published;
        if
        :: newest < c + 1 -> assert(corrupted); mutex = false; goto end
        :: else -> cursor = newest - 1
        fi;
out:    skip;
        d_step { mutex = false; c = 0; tag = 0; slot = 0; newest = 0 }
        if
        :: finished && (cursor >= SAMPLES || corrupted) -> break
        :: else -> (ring_tag[(cursor + 1) % CAPACITY] > cursor && taken - released < MAX_LEASES) ||
                   (finished && (cursor >= SAMPLES || corrupted))
        fi
    od;
end: skip
}

proctype releaser()
{
    byte slot, n;
end:
    do
    :: handed ? slot, n ->
        assert(payload[slot] == n);
        assert(payload[slot] == n); /* unchanged */
#ifdef LEASE_COUNT_FALLS_BEFORE_THE_BIT
        released++;
#endif
#ifdef HELD_FALLS_AFTER_THE_BIT
        clear_bit(slot);
        held[slot] = false;
#else
        held[slot] = false;
        clear_bit(slot);
#endif
#ifndef LEASE_COUNT_FALLS_BEFORE_THE_BIT
        released++;
#endif
        d_step { slot = 0; n = 0 }
    od
}

#ifdef VIEWS
proctype viewer()
{
    byte slot, n;
end:
    do
    :: loaned ? slot, n ->
        assert(payload[slot] == n);
        viewed[slot] = false;
        d_step { slot = 0; n = 0 }
    od
}
#endif

#ifdef CORRUPT
/* Writes a ring entry that looks like the next sample of the reader. */
proctype stray()
{
    byte s;
    end:
    if
    :: atomic { held[0] -> s = 0 }
    :: atomic { held[1] -> s = 1 }
    :: atomic { held[2] -> s = 2 }
    fi;
    atomic { corrupted = true; ring_tag[(cursor + 1) % CAPACITY] = cursor + 1; ring_slot[(cursor + 1) % CAPACITY] = s }
}
#endif

init {
    atomic {
        run owner();
        run taker();
#ifdef TWO_TAKERS
        run taker();
#endif
        run releaser();
#ifdef VIEWS
        run viewer();
#endif
#ifdef CORRUPT
        run stray()
#endif
    }
}
