/* SPDX-License-Identifier: Apache-2.0
 *
 * zs_tickets.h - tickets: a reader names a sample that it has leased, and another reader leases the same sample by that name.
 *
 * A ticket is a segment, a slot and a sequence. A reader that makes one stores the sequence in the slot's `reference`. It stays
 * there until the owner uses the slot again, which it does not do while any reader's bit is set in the slot. So a ticket can be
 * redeemed while its sample is among the newest `depth`, and while the lease that made it is held. A ticket keeps nothing.
 *
 * Why the reader that makes the ticket stores the reference, and not the owner: samples without tickets then cost the owner one load
 * of a cache line that it needs anyway, and those with tickets two more accesses when the slot is used again (zs_slot_close). The
 * owner does not depend on the value: any that is not 0 makes it look at `readers` once more.
 *
 * A reader of tickets holds the lock of an index and has a peer entry, as every reader. It takes no samples in order: it has no
 * cursor and no bit in `active`, so the owner neither counts it nor waits for it. Tickets of one sample share one lease in a reader.
 */
#ifndef ZS_TICKETS_H
#define ZS_TICKETS_H

#include "zs_peers.h"

/* Store the reference of a slot on which the caller has a lease: its sample of sequence `n` can be redeemed from here on. Callable by
 * any thread that keeps the lease. */
static inline void zs_slot_refer(const zs_segment *s, uint32_t slot, uint64_t n)
{
    if ((s->compat & ZS_COMPAT_REFERENCES) != 0)
        zs_store(&zs_slot_at(s, slot)->reference, n, ZS_REFERENCE_STORE); /* SYNC reference: pairs with zs_slot_redeem */
}

/* Lease the sample of sequence `n` in this slot by its reference, as reader `index`, whose bit is not set in the slot.
 *
 * True: the payload does not change until zs_slot_release. False: the sample is gone. The bit is clear again, and the payload must
 * not be read.
 *
 * Why the payload cannot change: the owner uses the slot again only after it has set the closing bit, has loaded `readers` as 0, and
 * has then found the reference as it was. If the load here gives `n`, it precedes the closing bit, and the owner sees our bit; or the
 * closing bit was removed, and the owner finds another reference.
 *
 * The loop ends: an owner that sees our bit sets no closing bit. It is limited because others can write to the word. */
static inline int zs_slot_redeem(const zs_segment *s, uint32_t slot, uint32_t index, uint64_t n)
{
    uint64_t *reference = &zs_slot_at(s, slot)->reference;
    uint64_t *word = zs_slot_readers(s, slot) + index / 64;
    uint64_t bit = UINT64_C(1) << (index % 64);
    zs_fetch_or(word, bit, ZS_LEASE_RMW); /* SYNC reference: pairs with zs_slot_close */
    for (int tries = 0; tries < ZS_MAX_LAPS; tries++) {
        uint64_t seen = zs_load(reference, ZS_REFERENCE_LOAD); /* SYNC reference */
        if (seen == n || (seen == (n | ZS_REFERENCE_CLOSING) && zs_replace(reference, seen, n, ZS_RELAXED)))
            return 1;
        if (seen != (n | ZS_REFERENCE_CLOSING))
            break;
    }
    zs_fetch_and(word, ~bit, ZS_RELEASE_RMW);
    return 0;
}

/* Join as reader r->index to redeem tickets. The caller holds the lock of that index, has called zs_peer_clear for it, and has set
 * segment, index, max_leases, slot_count, held and redeemed; the rest is set here. zs_reader_leave ends it. */
static inline void zs_reader_join_for_tickets(zs_reader *r, const zs_identity *identity)
{
    r->reliable = 0;
    r->cursor = 0;
    zs_reader_fill_entry(r, identity, ZS_PEER_TICKETS);
    zs_store(&r->peer->cursor, 0, ZS_RELAXED);
}

/* Lease the sample of sequence `n`, below 2^63, in a slot. ZS_TAKE_NONE: it is gone. A sample that this reader has leased already is
 * leased once more, without another bit. Callable by one thread at a time, and not while another one releases. */
static inline enum zs_take zs_reader_redeem(zs_reader *r, uint32_t slot, uint64_t n)
{
    zs_segment *s = r->segment;
    uint32_t held;
    if (zs_reader_is_evicted(r))
        return ZS_TAKE_EVICTED;
    if (slot >= s->slot_limit)
        return ZS_TAKE_NONE;
    held = zs_load(&r->held[slot], ZS_RELAXED);
    if (held != 0) {
        if (r->redeemed[slot] != n)
            return ZS_TAKE_NONE; /* the slot has held another sample since, and keeps it while it is leased */
        zs_store(&r->held[slot], held + 1, ZS_RELAXED);
        return ZS_TAKE_LEASED;
    }
    if (zs_reader_leases(r) >= r->max_leases)
        return ZS_TAKE_TOO_MANY;
    if (slot >= r->slot_count)
        return ZS_TAKE_UNMAPPED;
    if (!((s->compat & ZS_COMPAT_REFERENCES) != 0 ? zs_slot_redeem(s, slot, r->index, n) : zs_slot_lease(s, slot, r->index, n)))
        return ZS_TAKE_NONE;
    r->redeemed[slot] = n;
    zs_store(&r->held[slot], 1, ZS_RELAXED);
    zs_reader_count_lease(r);
    return ZS_TAKE_LEASED;
}

/* End a lease of zs_reader_redeem. The bit is cleared with the last one of the slot. Callable by one thread at a time. */
static inline void zs_reader_release_redeemed(zs_reader *r, uint32_t slot)
{
    uint32_t held = zs_load(&r->held[slot], ZS_RELAXED);
    if (held > 1)
        zs_store(&r->held[slot], held - 1, ZS_RELAXED);
    else
        zs_reader_release(r, slot);
}

#endif
