/* SPDX-License-Identifier: Apache-2.0
 *
 * block_space.pml - an owner that blocks for a slot or for a reliable cursor, and a reader that makes room.
 *
 * Promise: no wake-up of the owner is lost. (In spin, a lost one is an invalid end state: an owner that is never woken.)
 * Slots: the reader holds each and releases them; the owner needs `ROUNDS` of them. Window: the reader's cursor, which the owner may
 * lead by one. Two threads of the owner may block at the same time.
 */
#ifndef ROUNDS
#define ROUNDS 2
#endif
#ifndef OWNERS
#define OWNERS 1
#endif

byte space, waiting;
bool asleep[OWNERS + 1];
byte held = ROUNDS;   /* slots with the reader's bit */
byte got;             /* slots that the owner has reserved; it scans under its mutex */
byte cursor, published;
bool attached = true;

#define FREE (ROUNDS - held - got)
#define WINDOW_FULL (attached && published >= cursor + 1)

inline bump()
{
    space++;
    d_step {
        asleep[0] = false;
#if OWNERS > 1
        asleep[1] = false;
#endif
    }
}

inline tell()
{
    if
    :: waiting != 0 -> bump()
    :: else -> skip
    fi
}

inline look()
{
    atomic {
        if
#ifdef WINDOW
        :: !WINDOW_FULL -> published++; found = true
#else
        :: FREE > 0 -> got++; found = true
#endif
        :: else -> found = false
        fi
    }
}

proctype owner(byte id; byte rounds)
{
    bool found;
    byte seen;
    do
    :: rounds > 0 ->
        look();
        if
        :: !found ->
#ifndef CHECKS_BEFORE_WAITING_IS_RAISED
            waiting++;
#endif
            do
#ifdef SPACE_IS_READ_AFTER_THE_LOOK
            ::  look();
                seen = space;
#else
            ::  seen = space;
                look();
#endif
                if
                :: found -> break
                :: else -> skip
                fi;
#ifdef CHECKS_BEFORE_WAITING_IS_RAISED
                waiting++;
#endif
                atomic {
                    if
                    :: space == seen -> asleep[id] = true
                    :: else -> skip
                    fi
                }
                !asleep[id];
#ifdef CHECKS_BEFORE_WAITING_IS_RAISED
                waiting--;
#endif
            od;
#ifndef CHECKS_BEFORE_WAITING_IS_RAISED
            waiting--;
#endif
        :: else -> skip
        fi;
        seen = 0;
        rounds--
    :: else -> break
    od
}

proctype reader()
{
#ifdef WINDOW
    do
    :: published > cursor ->
#ifdef LEAVES
        if
        :: true -> attached = false;
#ifndef LEAVE_WITHOUT_WAKE
            bump();
#endif
            break
        :: true -> skip
        fi;
#endif
#ifdef WAITING_IS_READ_BEFORE_THE_ROOM
        if
        :: waiting != 0 -> cursor++; bump()
        :: else -> cursor++
        fi
#else
        cursor++;
#ifndef CURSOR_WITHOUT_WAKE
        tell()
#endif
#endif
    :: cursor == ROUNDS -> break
    od
#else
    do
    :: held > 0 ->
#ifdef WAITING_IS_READ_BEFORE_THE_ROOM
        if
        :: waiting != 0 -> held--; bump()
        :: else -> held--
        fi
#else
        held--;
#ifndef RELEASE_WITHOUT_WAKE
        tell()
#endif
#endif
    :: else -> break
    od
#endif
}

init {
    atomic {
#if OWNERS > 1
        run owner(0, 1);
        run owner(1, ROUNDS - 1);
#else
        run owner(0, ROUNDS);
#endif
        run reader()
    }
}
