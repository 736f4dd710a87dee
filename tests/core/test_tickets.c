/* SPDX-License-Identifier: Apache-2.0
 *
 * Tickets: which bytes they leave in the slot table, how long they are good, and how the leases of one reader share a bit. */
#include "world.h"

static const world_options options = {.depth = 1, .spare_slots = 1, .max_subscribers = 130};

static world *w;
static zs_reader *maker, *redeemer;
static uint32_t slot;

/* Sample 1 has been published, and the maker has leased it. */
static void begin(const world_options *chosen)
{
    w = world_make(chosen);
    maker = world_join(w, 3, 2, 0, 0);
    redeemer = world_reader(w, 129, 2, 0);
    zs_reader_join_for_tickets(redeemer, &world_identity);
    world_publish(w);
    CHECK_EQUAL(zs_reader_take(maker, &slot), ZS_TAKE_LEASED);
}

static void end(void)
{
    world_free_reader(maker);
    world_free_reader(redeemer);
    world_free(w);
}

static uint64_t *reference(void)
{
    return &zs_slot_at(&w->segment, slot)->reference;
}

static uint64_t *readers(int word)
{
    return zs_slot_readers(&w->segment, slot) + word;
}

static void join_sets_no_bit(void)
{
    begin(&options);
    zs_peer *peer = zs_peer_at(&w->segment, 129);
    CHECK_EQUAL(peer->pid, 4711);
    CHECK_EQUAL(peer->flags, ZS_PEER_TICKETS);
    CHECK_EQUAL(peer->max_leases, 2);
    CHECK_EQUAL(peer->cursor, 0);
    CHECK_EQUAL(peer->epoch, 1);
    CHECK_EQUAL(w->segment.active[2] | w->segment.reliable[2] | w->segment.parked[2], 0);
    zs_reader_leave(redeemer);
    CHECK_EQUAL(w->segment.active[2], 0);
    end();
}

static void ticket_is_the_reference_and_redeem_is_a_bit(void)
{
    begin(&options);
    CHECK_EQUAL(*reference(), 0);
    zs_slot_refer(&w->segment, slot, 1);
    CHECK_EQUAL(*reference(), 1);
    CHECK_EQUAL(zs_reader_redeem(redeemer, slot, 1), ZS_TAKE_LEASED);
    CHECK_EQUAL(*readers(0), 8);
    CHECK_EQUAL(*readers(2), 2);
    CHECK_EQUAL(redeemer->peer->leases, 1);
    CHECK_EQUAL(redeemer->peer->taken, 1);
    CHECK_EQUAL(zs_reader_leases(redeemer), 1);
    zs_reader_release_redeemed(redeemer, slot);
    CHECK_EQUAL(*readers(2), 0);
    CHECK_EQUAL(redeemer->peer->leases, 0);
    CHECK_EQUAL(*reference(), 1);
    end();
}

/* The newest `depth` and what is leased; after that, gone. */
static void ticket_is_good_while_its_lease_is_held(void)
{
    begin(&options);
    zs_slot_refer(&w->segment, slot, 1);
    for (int i = 0; i < 20; i++) {
        world_publish(w);
        CHECK_EQUAL(zs_slot_at(&w->segment, slot)->sequence, 0);
        CHECK_EQUAL(zs_reader_redeem(redeemer, slot, 1), ZS_TAKE_LEASED);
        zs_reader_release_redeemed(redeemer, slot);
    }
    world_use_every_slot(w);
    CHECK_EQUAL(zs_reader_redeem(redeemer, slot, 1), ZS_TAKE_LEASED);
    zs_reader_release_redeemed(redeemer, slot);
    zs_reader_release(maker, slot);
    world_use_every_slot(w);
    CHECK_EQUAL(zs_reader_redeem(redeemer, slot, 1), ZS_TAKE_NONE);
    CHECK_EQUAL(*readers(2), 0);
    CHECK_EQUAL(*reference(), 0);
    end();
}

static void ticket_keeps_nothing(void)
{
    begin(&options);
    zs_slot_refer(&w->segment, slot, 1);
    zs_reader_release(maker, slot);
    world_publish(w);
    CHECK_EQUAL(*reference(), 1); /* good until the owner uses the slot again */
    world_use_every_slot(w);
    CHECK_EQUAL(*reference(), 0);
    end();
}

/* The owner was killed, or found a bit, between the two steps of zs_slot_close. */
static void ticket_is_good_while_the_owner_hesitates(void)
{
    begin(&options);
    zs_slot_refer(&w->segment, slot, 1);
    world_publish(w);
    *reference() |= ZS_REFERENCE_CLOSING;
    CHECK_EQUAL(zs_reader_redeem(redeemer, slot, 1), ZS_TAKE_LEASED);
    CHECK_EQUAL(*reference(), 1);
    zs_reader_release(maker, slot);
    CHECK(zs_slot_is_read(&w->segment, slot));
    CHECK(!zs_slot_close(&w->segment, slot));
    CHECK_EQUAL(*reference(), 1 | ZS_REFERENCE_CLOSING);
    zs_reader_release_redeemed(redeemer, slot);
    CHECK(zs_slot_close(&w->segment, slot));
    CHECK_EQUAL(*reference(), 0);
    CHECK_EQUAL(zs_reader_redeem(redeemer, slot, 1), ZS_TAKE_NONE);
    end();
}

static void withheld_slot_has_no_reference(void)
{
    begin(&options);
    zs_slot_refer(&w->segment, slot, 1);
    zs_reader_release(maker, slot);
    world_publish(w);
    while (zs_owner_withhold(&w->owner, 0))
        ;
    CHECK_EQUAL(*reference(), 0);
    CHECK_EQUAL(zs_reader_redeem(redeemer, slot, 1), ZS_TAKE_NONE);
    end();
}

static void tickets_of_one_sample_share_a_bit(void)
{
    begin(&options);
    zs_slot_refer(&w->segment, slot, 1);
    for (int i = 0; i < 5; i++)
        CHECK_EQUAL(zs_reader_redeem(redeemer, slot, 1), ZS_TAKE_LEASED);
    CHECK_EQUAL(zs_reader_leases(redeemer), 1);
    CHECK_EQUAL(redeemer->peer->taken, 1);
    CHECK_EQUAL(zs_reader_redeem(redeemer, slot, 2), ZS_TAKE_NONE); /* the bit is that of sample 1 */
    for (int i = 0; i < 4; i++) {
        zs_reader_release_redeemed(redeemer, slot);
        CHECK_EQUAL(*readers(2), 2);
    }
    zs_reader_release_redeemed(redeemer, slot);
    CHECK_EQUAL(*readers(2), 0);
    CHECK_EQUAL(zs_reader_leases(redeemer), 0);
    end();
}

static void leases_are_limited(void)
{
    const world_options two = {.depth = 4, .max_subscribers = 130};
    uint32_t slots[3];
    begin(&two);
    slots[0] = slot;
    for (int i = 1; i < 3; i++) {
        zs_reader_release(maker, slots[i - 1]);
        world_publish(w);
        CHECK_EQUAL(zs_reader_take(maker, &slots[i]), ZS_TAKE_LEASED);
    }
    for (uint32_t i = 0; i < 3; i++) {
        zs_slot_refer(&w->segment, slots[i], i + 1);
        CHECK_EQUAL(zs_reader_redeem(redeemer, slots[i], i + 1), i < 2 ? ZS_TAKE_LEASED : ZS_TAKE_TOO_MANY);
    }
    CHECK_EQUAL(zs_reader_redeem(redeemer, slots[0], 1), ZS_TAKE_LEASED); /* without another bit */
    end();
}

static void evicted_reader_redeems_nothing(void)
{
    begin(&options);
    zs_slot_refer(&w->segment, slot, 1);
    CHECK_EQUAL(zs_reader_redeem(redeemer, slot, 1), ZS_TAKE_LEASED);
    zs_owner_evict(&w->owner, 129);
    CHECK_EQUAL(zs_reader_redeem(redeemer, slot, 1), ZS_TAKE_EVICTED);
    zs_reader_release_redeemed(redeemer, slot);
    zs_reader_join_for_tickets(redeemer, &world_identity);
    CHECK_EQUAL(zs_reader_redeem(redeemer, slot, 1), ZS_TAKE_LEASED);
    end();
}

static void slots_that_do_not_exist_or_are_not_mapped_are_not_touched(void)
{
    begin(&options);
    zs_slot_refer(&w->segment, slot, 1);
    CHECK_EQUAL(zs_reader_redeem(redeemer, w->slot_count, 1), ZS_TAKE_NONE);
    CHECK_EQUAL(zs_reader_redeem(redeemer, UINT32_MAX, 1), ZS_TAKE_NONE);
    redeemer->slot_count = slot;
    CHECK_EQUAL(zs_reader_redeem(redeemer, slot, 1), ZS_TAKE_UNMAPPED);
    CHECK_EQUAL(*readers(2), 0);
    CHECK_EQUAL(zs_reader_leases(redeemer), 0);
    end();
}

/* Every value that others can leave in the word: the result is a lease or none, the bit agrees with it, and the owner goes on. */
static void references_may_hold_anything(void)
{
    const uint64_t values[] = {0, 1, 2, ZS_REFERENCE_CLOSING, ZS_REFERENCE_CLOSING | 1, ZS_REFERENCE_CLOSING | 2, UINT64_MAX, UINT64_MAX >> 1};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        begin(&options);
        *reference() = values[i];
        int good = (values[i] & ~ZS_REFERENCE_CLOSING) == 1;
        CHECK_EQUAL(zs_reader_redeem(redeemer, slot, 1), good ? ZS_TAKE_LEASED : ZS_TAKE_NONE);
        CHECK_EQUAL(*readers(2), good ? 2 : 0);
        if (good)
            zs_reader_release_redeemed(redeemer, slot);
        zs_reader_release(maker, slot);
        world_publish(w);
        world_use_every_slot(w);
        CHECK_EQUAL(*reference(), 0);
        end();
    }
}

/* Another owner's segment, which does not close references: good while the sample is among the newest, by its sequence. */
static void owner_without_references_is_not_relied_upon(void)
{
    const world_options old = {.depth = 1, .spare_slots = 1, .max_subscribers = 130, .no_references = 1};
    begin(&old);
    zs_slot_refer(&w->segment, slot, 1);
    CHECK_EQUAL(*reference(), 0);
    CHECK_EQUAL(zs_reader_redeem(redeemer, slot, 1), ZS_TAKE_LEASED);
    zs_reader_release_redeemed(redeemer, slot);
    world_publish(w);
    *reference() = 1;
    CHECK_EQUAL(zs_reader_redeem(redeemer, slot, 1), ZS_TAKE_NONE);
    end();
}

int main(void)
{
    RUN(join_sets_no_bit);
    RUN(ticket_is_the_reference_and_redeem_is_a_bit);
    RUN(ticket_is_good_while_its_lease_is_held);
    RUN(ticket_keeps_nothing);
    RUN(ticket_is_good_while_the_owner_hesitates);
    RUN(withheld_slot_has_no_reference);
    RUN(tickets_of_one_sample_share_a_bit);
    RUN(leases_are_limited);
    RUN(evicted_reader_redeems_nothing);
    RUN(slots_that_do_not_exist_or_are_not_mapped_are_not_touched);
    RUN(references_may_hold_anything);
    RUN(owner_without_references_is_not_relied_upon);
    return 0;
}
