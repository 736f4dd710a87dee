/* SPDX-License-Identifier: Apache-2.0
 *
 * zs_atomic.h - every access to a word that two processes share, and every memory order.
 *
 * Why the orders stand here and not where they are used: an order is only right as one half of a pair. This table holds both
 * halves side by side, one row a label; the places that use them say `SYNC <label>`. A row can be overridden with -D, so that a
 * test can weaken one order at a time and see something break.
 *
 * Why compiler builtins and not <stdatomic.h>: the words lie in memory that several processes map, as plain integers of a
 * documented format, and C++ must be able to include this file. No stand-alone fences anywhere: TSan does not see them.
 */
#ifndef ZS_ATOMIC_H
#define ZS_ATOMIC_H

#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* clock_gettime and syscall under -std=c11; has to come before the first system header */
#endif
#include <stdint.h>

#define ZS_RELAXED __ATOMIC_RELAXED
#define ZS_ACQUIRE __ATOMIC_ACQUIRE
#define ZS_RELEASE __ATOMIC_RELEASE
#define ZS_SEQ_CST __ATOMIC_SEQ_CST

/* Called before every shared access. Nothing in a release build; tests kill the process here. */
#ifndef ZS_STEP
#define ZS_STEP() ((void)0)
#endif

/* SYNC ready: the creator's last store of `state` against the attacher's first load: a segment that is open is complete. */
#ifndef ZS_READY_STORE
#define ZS_READY_STORE ZS_RELEASE
#endif
#ifndef ZS_READY_LOAD
#define ZS_READY_LOAD ZS_ACQUIRE
#endif

/* SYNC ring: the payload, the slot's header and its sequence are written before the ring entry that names them. */
#ifndef ZS_RING_STORE
#define ZS_RING_STORE ZS_RELEASE
#endif
#ifndef ZS_RING_LOAD
#define ZS_RING_LOAD ZS_ACQUIRE
#endif

/* SYNC sequence: who reads a slot's number reads its payload, and whatever the owner did before it gave that number. */
#ifndef ZS_SEQUENCE_STORE
#define ZS_SEQUENCE_STORE ZS_RELEASE
#endif

/* SYNC published: who sees sequence n published finds ring[n], and everything retired before it as retired. */
#ifndef ZS_PUBLISHED_STORE
#define ZS_PUBLISHED_STORE ZS_RELEASE
#endif
#ifndef ZS_PUBLISHED_LOAD
#define ZS_PUBLISHED_LOAD ZS_ACQUIRE
#endif

/* SYNC lease: owner: sequence = 0, then loads readers. Reader: sets its bit, then loads sequence. Store-then-load on both
 * sides, so all four are seq_cst: at least one of the two sees the other. */
#ifndef ZS_RETIRE_STORE
#define ZS_RETIRE_STORE ZS_SEQ_CST
#endif
#ifndef ZS_RETIRE_LOAD
#define ZS_RETIRE_LOAD ZS_SEQ_CST
#endif
#ifndef ZS_LEASE_RMW
#define ZS_LEASE_RMW ZS_SEQ_CST
#endif
#ifndef ZS_LEASE_LOAD
#define ZS_LEASE_LOAD ZS_SEQ_CST
#endif

/* SYNC park: owner: generation += 1, then loads parked. Reader: sets its parked bit, then loads generation. */
#ifndef ZS_GENERATION_RMW
#define ZS_GENERATION_RMW ZS_SEQ_CST
#endif
#ifndef ZS_PARKED_LOAD
#define ZS_PARKED_LOAD ZS_SEQ_CST
#endif
#ifndef ZS_PARKED_RMW
#define ZS_PARKED_RMW ZS_SEQ_CST
#endif
#ifndef ZS_GENERATION_LOAD
#define ZS_GENERATION_LOAD ZS_SEQ_CST
#endif

/* SYNC space: owner: waiting += 1, then loads space and scans again. Reader: clears its bit or moves its cursor, then loads
 * waiting. `space` itself is no half of the store-then-load: an old value ends the wait at once, a new one has to show the room that
 * was made before it. */
#ifndef ZS_WAITING_RMW
#define ZS_WAITING_RMW ZS_SEQ_CST
#endif
#ifndef ZS_WAITING_LOAD
#define ZS_WAITING_LOAD ZS_SEQ_CST
#endif
#ifndef ZS_SPACE_RMW
#define ZS_SPACE_RMW ZS_RELEASE
#endif
#ifndef ZS_SPACE_LOAD
#define ZS_SPACE_LOAD ZS_ACQUIRE
#endif
#ifndef ZS_RELEASE_RMW
#define ZS_RELEASE_RMW ZS_SEQ_CST
#endif
#ifndef ZS_CURSOR_STORE
#define ZS_CURSOR_STORE ZS_SEQ_CST
#endif
#ifndef ZS_CURSOR_LOAD
#define ZS_CURSOR_LOAD ZS_SEQ_CST
#endif

/* SYNC join: joiner: sets its active bit, then loads generation and published. Owner: publishes, then loads active at the next
 * reserve. A reliable joiner is seen, or its cursor lies within the slack of max_loans. */
#ifndef ZS_ACTIVE_RMW
#define ZS_ACTIVE_RMW ZS_SEQ_CST
#endif
#ifndef ZS_ACTIVE_LOAD
#define ZS_ACTIVE_LOAD ZS_SEQ_CST
#endif

/* SYNC held: within one process, between the thread that drops the last reference to a slot and the one that takes or
 * reserves. The release half comes before the bit is cleared, so that a freed slot is never thought to be held.
 *
 * Not seq_cst, which costs every sample a locked instruction: a thread that waits for a slot whose last view another thread of this
 * process is just dropping may miss the wake. It looks again after its slice, of 1 to 20 ms. */
#ifndef ZS_HELD_STORE
#define ZS_HELD_STORE ZS_RELEASE
#endif
#ifndef ZS_HELD_LOAD
#define ZS_HELD_LOAD ZS_ACQUIRE
#endif

/* SYNC released: a lease counts as given back after its bit is cleared. */
#ifndef ZS_RELEASED_RMW
#define ZS_RELEASED_RMW ZS_RELEASE
#endif
#ifndef ZS_RELEASED_LOAD
#define ZS_RELEASED_LOAD ZS_ACQUIRE
#endif

#define zs_load(word, order) (ZS_STEP(), __atomic_load_n((word), (order)))
#define zs_store(word, value, order) (ZS_STEP(), __atomic_store_n((word), (value), (order)))
#define zs_fetch_add(word, value, order) (ZS_STEP(), __atomic_fetch_add((word), (value), (order)))
#define zs_fetch_or(word, value, order) (ZS_STEP(), __atomic_fetch_or((word), (value), (order)))
#define zs_fetch_and(word, value, order) (ZS_STEP(), __atomic_fetch_and((word), (value), (order)))
#define zs_exchange(word, value, order) (ZS_STEP(), __atomic_exchange_n((word), (value), (order)))

/* A counter that one thread at a time writes and anyone reads: no locked instruction. */
static inline void zs_count(uint64_t *counter, uint64_t more)
{
    zs_store(counter, zs_load(counter, ZS_RELAXED) + more, ZS_RELAXED);
}

/* Tell the processor that this is a spin. */
static inline void zs_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb");
#endif
}

#endif
