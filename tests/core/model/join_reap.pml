/* SPDX-License-Identifier: Apache-2.0
 *
 * join_reap.pml - one index of the peer table: readers that join with it, hold a slot, leave or die, and reapers.
 *
 * Promises: two readers never hold the index at the same time. The bits of a live reader (active, parked, its bit in a slot) are never
 * cleared by another process, also while only a lease is left. What a dead reader left is cleared before the next reader fills the
 * entry, and at the latest by the end.
 *
 * The lock on the byte belongs to an open file description. The kernel releases it when the description is closed for the last time,
 * also by death. Description 0 does not exist. Reader r uses description r; a reaper has one of its own.
 */
#ifndef READERS
#define READERS 2
#endif
#define REAPER (READERS + 1)

byte lock;            /* the description that holds the byte */
byte entry;           /* the reader that filled the peer entry */
byte active_of, parked_of, slot_of; /* the reader that set the bit; shared memory has only the bit. 0: clear */
byte holder;          /* ghost: the reader that has the index, by its own state */
bool dead[READERS + 3];
bool gone[READERS + 3]; /* has closed its description */
bool child_has_it;    /* a forked child inherited the description of reader 1 */
short done;

inline try_lock(description, answer)
{
    atomic {
        if
        :: lock == 0 || lock == description -> lock = description; answer = true
        :: else -> answer = false
        fi
    }
}

/* Three RMWs. The bit of another live reader must not be cleared. */
inline clear(by)
{
    atomic { assert(active_of == 0 || active_of == by || dead[active_of]); active_of = 0 };
    atomic { assert(parked_of == 0 || parked_of == by || dead[parked_of]); parked_of = 0 };
    atomic { assert(slot_of == 0 || slot_of == by || dead[slot_of]); slot_of = 0 }
}

proctype reader(byte r)
{
    bool mine;
    try_lock(r, mine);
    if
    :: !mine -> goto out /* the code tries the next index */
    :: else -> skip
    fi;
    atomic { assert(holder == 0 || dead[holder]); holder = r }
    if
    :: true -> goto die
    :: true -> skip
    fi;
#ifndef JOINER_DOES_NOT_CLEAR
    clear(r);
#endif
    assert(active_of == 0 && parked_of == 0 && slot_of == 0);
    entry = r;
    active_of = r;
    if
    :: true -> goto die
    :: true -> skip
    fi;
    slot_of = r;   /* takes a sample */
    parked_of = r; /* and waits for another */
    assert(lock == r && holder == r && entry == r);
    assert(active_of == r && slot_of == r);
    if
    :: true -> goto die
    :: true -> skip
    fi;
    /* close, while a view of the sample is still alive */
    parked_of = 0;
    active_of = 0;
#ifdef LOCK_FALLS_WITH_THE_CLOSE
    atomic { holder = 0; lock = 0 }
#endif
    if
    :: true -> goto die
    :: true -> skip
    fi;
    assert(slot_of == r); /* the payload of a live view does not change */
    slot_of = 0;
#ifndef LOCK_FALLS_WITH_THE_CLOSE
    atomic {
        holder = 0;
        if
        :: lock == r && !(r == 1 && child_has_it) -> lock = 0
        :: else -> skip
        fi;
        gone[r] = true
    }
#endif
    goto out;
die:
    atomic {
        dead[r] = true;
        gone[r] = true;
        if
        :: holder == r -> holder = 0
        :: else -> skip
        fi;
        if
        :: lock == r && !(r == 1 && child_has_it) -> lock = 0 /* the kernel */
        :: else -> skip
        fi
    }
out:
    done++
}

/* The owner's process when it has no free slot, or gc: probes, then locks through a separate description, and clears. */
proctype reaper(byte description; byte rounds)
{
    bool mine;
    do
    :: rounds > 0 ->
        rounds--;
        if
#if defined(PROBES_THROUGH_THE_READERS_DESCRIPTION) || defined(REAPER_USES_THE_READERS_DESCRIPTION)
        :: (lock == 0 || lock == 1) && (active_of != 0 || parked_of != 0 || slot_of != 0) ->
#else
        :: lock == 0 && (active_of != 0 || parked_of != 0 || slot_of != 0) ->
#endif
#ifdef PROBES_THROUGH_THE_READERS_DESCRIPTION
            assert(lock == 0); /* the count of subscribers relies on this */
#endif
#ifdef REAPER_TAKES_NO_LOCK
            clear(REAPER)
#else
            try_lock(description, mine);
            if
            :: mine ->
                clear(REAPER);
                atomic { lock = 0 }
            :: else -> skip
            fi
#endif
        :: else -> skip
        fi
    :: else -> break
    od;
    done++
}

#ifdef FORKS
/* A child of reader 1, which inherits its description and closes it. */
proctype child()
{
end:
    atomic { holder == 1 && !dead[1] && !gone[1]; child_has_it = true; done-- }
#ifdef CHILD_UNLOCKS
    atomic {
        if
        :: lock == 1 -> lock = 0 /* F_UNLCK, which also releases the parent's lock */
        :: else -> skip
        fi
    }
#endif
#ifndef CHILD_KEEPS_THE_DESCRIPTION
    atomic {
        child_has_it = false;
        if
        :: lock == 1 && gone[1] -> lock = 0
        :: else -> skip
        fi
    }
#endif
    done++
}
#endif

init {
    atomic {
        run reader(1);
#if READERS > 1
        run reader(2);
#endif
#if READERS > 2
        run reader(3);
#endif
#ifdef REAPER_USES_THE_READERS_DESCRIPTION
        run reaper(1, 2);
#else
        run reaper(REAPER, 2);
#endif
#ifdef FORKS
        run child();
#endif
    }
    (done == READERS + 1); /* and the child, if there is one */
    /* the next reader finds nothing after its clear, and no live reader has a bit */
    assert(lock == 0 && holder == 0);
    atomic {
        assert(active_of == 0 || dead[active_of]);
        assert(slot_of == 0 || dead[slot_of]);
        assert(parked_of == 0 || dead[parked_of])
    }
}
