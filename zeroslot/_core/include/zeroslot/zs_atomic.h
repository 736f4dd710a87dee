/* SPDX-License-Identifier: Apache-2.0
 *
 * zs_atomic.h - every access to a word that two processes share, and every memory order.
 *
 * Why the orders are defined here and not where they are used: an order is correct only together with the one it pairs with. Each
 * group below holds both sides of one pair, and the code that uses them is marked `SYNC <label>`. Each order can be overridden with
 * -D, so that a test can weaken one at a time and observe a failure.
 *
 * Why compiler builtins and not <stdatomic.h>: the words are plain integers of a documented format in memory that several processes
 * map, and C++ must be able to include this file. There are no stand-alone fences, because ThreadSanitizer does not support them.
 */
#ifndef ZS_ATOMIC_H
#define ZS_ATOMIC_H

#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* clock_gettime and syscall under -std=c11; must precede the first system header */
#endif
#include <stdint.h>

#define ZS_RELAXED __ATOMIC_RELAXED
#define ZS_ACQUIRE __ATOMIC_ACQUIRE
#define ZS_RELEASE __ATOMIC_RELEASE
#define ZS_SEQ_CST __ATOMIC_SEQ_CST

/* Called before every shared access. Empty as shipped; tests switch actors or kill the process here. */
#ifndef ZS_STEP
#define ZS_STEP() ((void)0)
#endif

/* SYNC ready: the owner stores `state` after it has written everything else; a reader loads it first. A segment that reads as open
 * is complete. */
#ifndef ZS_READY_STORE
#define ZS_READY_STORE ZS_RELEASE
#endif
#ifndef ZS_READY_LOAD
#define ZS_READY_LOAD ZS_ACQUIRE
#endif

/* SYNC ring: the owner writes the payload, the slot entry and its sequence before the ring entry that names the slot. */
#ifndef ZS_RING_STORE
#define ZS_RING_STORE ZS_RELEASE
#endif
#ifndef ZS_RING_LOAD
#define ZS_RING_LOAD ZS_ACQUIRE
#endif

/* SYNC sequence: a reader that loads a slot's sequence also sees the payload, and everything that the owner did before that
 * store. */
#ifndef ZS_SEQUENCE_STORE
#define ZS_SEQUENCE_STORE ZS_RELEASE
#endif

/* SYNC published: a reader that loads n from `published` also sees the ring entry of n, and every slot retired before n. */
#ifndef ZS_PUBLISHED_STORE
#define ZS_PUBLISHED_STORE ZS_RELEASE
#endif
#ifndef ZS_PUBLISHED_LOAD
#define ZS_PUBLISHED_LOAD ZS_ACQUIRE
#endif

/* SYNC lease: the owner stores sequence = 0, then loads `readers`; a reader sets its bit, then loads sequence. Each side stores,
 * then loads the other's word, so all four are seq_cst: at least one side sees the other's store. */
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

/* SYNC reference: the owner sets the closing bit of a slot's reference, then loads `readers` again; a reader that redeems a ticket
 * sets its bit, then loads the reference. As with lease, at least one side sees the other's store. The store of a reference also
 * makes the payload visible to a reader that loads it. */
#ifndef ZS_REFERENCE_STORE
#define ZS_REFERENCE_STORE ZS_RELEASE
#endif
#ifndef ZS_REFERENCE_RMW
#define ZS_REFERENCE_RMW ZS_SEQ_CST
#endif
#ifndef ZS_REFERENCE_LOAD
#define ZS_REFERENCE_LOAD ZS_SEQ_CST
#endif

/* SYNC park: the owner increments generation, then loads `parked`; a reader sets its parked bit, then loads generation. */
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

/* SYNC space: a blocked owner increments `waiting`, loads `space` and scans again; a reader clears its bit or stores its cursor,
 * then loads `waiting`. `space` does not take part in the store-then-load pair: an old value makes the futex wait return at once,
 * and a new one must make the freed slot or the cursor visible, for which acquire and release suffice. */
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

/* SYNC join: a joining reader sets its active bit, then loads generation and published; the owner publishes, then loads `active`
 * before its next loan. Either the owner sees the bit, or the reader's cursor is at most max_loans samples behind. */
#ifndef ZS_ACTIVE_RMW
#define ZS_ACTIVE_RMW ZS_SEQ_CST
#endif
#ifndef ZS_ACTIVE_LOAD
#define ZS_ACTIVE_LOAD ZS_SEQ_CST
#endif

/* SYNC held: within one process, between the thread that drops the last reference to a slot and the one that takes or reserves it.
 * A reader stores `held` before it clears its bit, so that a slot that is free again never looks held.
 *
 * Not seq_cst, which would cost every sample a locked instruction. The price: a thread that waits for a slot while another thread
 * of the process drops the last view of it may miss that wake. It looks again when its slice of 1 to 20 ms ends. */
#ifndef ZS_HELD_STORE
#define ZS_HELD_STORE ZS_RELEASE
#endif
#ifndef ZS_HELD_LOAD
#define ZS_HELD_LOAD ZS_ACQUIRE
#endif

/* SYNC released: a lease is counted as released after its bit has been cleared. */
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
#define zs_replace(word, seen, value, order) (ZS_STEP(), zs_compare_exchange((word), (seen), (value), (order)))

/* Store `value` if the word is `seen`; whether it was. A failed one is a relaxed load. */
static inline int zs_compare_exchange(uint64_t *word, uint64_t seen, uint64_t value, int order)
{
    return __atomic_compare_exchange_n(word, &seen, value, 0, order, ZS_RELAXED);
}

/* Add to a counter that one thread at a time writes and any thread reads. Needs no locked instruction. */
static inline void zs_count(uint64_t *counter, uint64_t more)
{
    zs_store(counter, zs_load(counter, ZS_RELAXED) + more, ZS_RELAXED);
}

/* Fetch a line that will be read, or written. On x86 the builtin without -mprfchw would fetch a line that will be written as one that
 * will be read, and the write would fetch it once more. */
#define zs_prefetch(line) __builtin_prefetch(line)
static inline void zs_prefetch_write(const void *line)
{
#if defined(__x86_64__) || defined(__i386__)
    __asm__ __volatile__("prefetchw %0" : : "m"(*(const char *)line));
#else
    __builtin_prefetch(line, 1);
#endif
}

/* Hint to the processor that this is a spin loop. */
static inline void zs_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb");
#endif
}

#endif
