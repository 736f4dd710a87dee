/* SPDX-License-Identifier: Apache-2.0
 *
 * join_publish.pml - a reliable reader joins, with a history, while an owner with MAX_LOANS loans publishes.
 *
 * Promises: the reader misses no sample after the one where it starts. It starts no later than what was published when the join began,
 * less its history, and never before the first sequence. With a history of at most DEPTH - MAX_LOANS it loses no sample of it either.
 *
 * The owner's two threads reserve and commit in turn, each under the owner's mutex, so that loans are outstanding when the reader
 * joins. A sample can be taken until the commit that retires it; a reader that the owner waits for and that has not taken it then has
 * lost it.
 */
#ifndef DEPTH
#define DEPTH 3
#endif
#ifndef MAX_LOANS
#define MAX_LOANS 1
#endif
#ifndef HISTORY
#define HISTORY (DEPTH - MAX_LOANS)
#endif
#define FIRST 3
#define SAMPLES 7
#define LAST (FIRST + SAMPLES - 1)
#define NOTHING (FIRST - 1)

byte published = NOTHING, retired = NOTHING, loans_out;
byte cursor;       /* in the peer entry, where the owner reads it */
bool attached;
bool joined;
byte wanted;       /* the first sequence that the reader must get */
byte taken;        /* the last sequence that the reader has taken; private */

inline may_loan(answer)
{
    /* zs_owner_window_full: two loads. The owner's private state is not shared. */
    next = published + loans_out + 1;
#ifdef WINDOW_FORGETS_LOANS
    next = published + 1;
#endif
    if
    :: next < FIRST + DEPTH -> answer = true
    :: else ->
        answer = attached;
        if
        :: answer -> answer = (cursor >= next - DEPTH)
        :: else -> answer = true
        fi
    fi
}

active proctype owner()
{
    byte next;
    bool may;
    do
    :: published + loans_out < LAST && loans_out < MAX_LOANS ->
        may_loan(may);
        if
        :: may -> loans_out++
        :: else -> skip /* and checks again; block_space models the sleep */
        fi;
        next = 0; may = false
    :: loans_out > 0 ->
        published++;
        d_step {
            loans_out--;
            if
            :: published >= FIRST + DEPTH -> next = published - DEPTH
            :: else -> next = 0
            fi
        }
        if
        :: next != 0 ->
            retired = next;
            assert(!joined || wanted > next || taken >= next)
        :: else -> skip
        fi;
        next = 0
    :: published == LAST -> break
    od
}

#ifdef NO_CLAMP
#define AT(p) ((p) >= HISTORY -> (p) - HISTORY : 0)
#else
#define AT(p) ((p) >= NOTHING + HISTORY -> (p) - HISTORY : NOTHING)
#endif

active proctype joiner()
{
    byte before, seen;
    before = published;
#ifdef HIDES_ITS_HISTORY
    cursor = before;
#else
    cursor = AT(before);
#endif
#ifdef ACTIVE_LAST
    seen = published;
    d_step { cursor = AT(seen); taken = AT(seen) }
    attached = true;
#else
    attached = true;
#ifdef READS_PUBLISHED_FIRST
    seen = before;
#else
    seen = published;
#endif
    d_step { cursor = AT(seen); taken = AT(seen) }
#endif
    d_step {
        wanted = taken + 1;
        joined = true;
        assert(wanted > NOTHING);
        assert(seen != before || wanted <= before + 1)
    }
    assert(retired < wanted); /* it did not start with a loss */
    do
    :: published > taken ->
        assert(retired < taken + 1);
        taken++;
        cursor = taken
    :: taken == LAST -> break
    od
}
