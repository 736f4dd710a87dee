/* SPDX-License-Identifier: Apache-2.0
 *
 * The layout of the control object, and the check of invalid headers. */
#include "world.h"

static zs_header header_of(uint32_t depth, uint32_t slot_limit, uint32_t max_subscribers, uint64_t schema_size)
{
    zs_header h;
    memset(&h, 0, sizeof h);
    memcpy(h.magic, zs_magic, sizeof zs_magic);
    h.format = ZS_FORMAT;
    h.depth = depth;
    h.slot_limit = slot_limit;
    h.pool_limit = 1;
    h.max_subscribers = max_subscribers;
    h.max_loans = 1;
    h.first_sequence = 1;
    h.schema_size = schema_size;
    zs_layout_compute(&h);
    return h;
}

/* The numbers of the worked example in FORMAT.md: depth 8, 42 slots, 64 subscribers, a schema of 1000 bytes. */
static void layout_matches_the_format_document(void)
{
    static const uint64_t expected[ZS_SECTION_COUNT] = {384,  512,  640,  768,   896,   1024,  1152, 1280,
                                                        1536, 1664, 50816, 50944, 56320, 56448, 56576};
    zs_header h = header_of(8, 42, 64, 1000);
    CHECK_EQUAL(h.header_size, 384);
    CHECK_EQUAL(h.ring_capacity, 16);
    CHECK_EQUAL(h.reader_words, 1);
    CHECK_EQUAL(h.peer_size, 768);
    CHECK_EQUAL(h.slot_size, 128);
    CHECK_EQUAL(h.readers_at, 56);
    for (int i = 0; i < ZS_SECTION_COUNT; i++)
        CHECK_EQUAL(h.section_at[i], expected[i]);
    CHECK_EQUAL(h.control_size, 57600);
    CHECK_EQUAL(zs_header_check(&h, h.control_size), ZS_CHECK_OK);
}

static void ring_holds_twice_the_depth(void)
{
    static const uint32_t expected[][2] = {{1, 2}, {2, 4}, {3, 8}, {4, 8}, {5, 16}, {8, 16}, {9, 32}, {32768, 65536}, {65535, 131072}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        CHECK_EQUAL(zs_ring_capacity_for(expected[i][0]), expected[i][1]);
}

static void slot_size_grows_with_reader_words(void)
{
    CHECK_EQUAL(zs_slot_size_for(1), 128);
    CHECK_EQUAL(zs_slot_size_for(9), 128);
    CHECK_EQUAL(zs_slot_size_for(10), 192);
    CHECK_EQUAL(zs_slot_size_for(16), 192);
    CHECK_EQUAL(ZS_READER_WORDS(1), 1);
    CHECK_EQUAL(ZS_READER_WORDS(64), 1);
    CHECK_EQUAL(ZS_READER_WORDS(65), 2);
    CHECK_EQUAL(ZS_READER_WORDS(1024), 16);
}

/* Sections are in order, aligned and apart for all allowed counts. */
static void sections_never_overlap(void)
{
    static const uint32_t depths[] = {1, 2, 3, 7, 64, 1000, 65535};
    static const uint32_t subscribers[] = {1, 63, 64, 65, 1024};
    for (size_t d = 0; d < sizeof depths / sizeof depths[0]; d++)
        for (size_t m = 0; m < sizeof subscribers / sizeof subscribers[0]; m++) {
            zs_header h = header_of(depths[d], depths[d] + (depths[d] < 65000 ? 9 : 0), subscribers[m], d * 1001);
            uint64_t end = h.header_size;
            for (int i = 0; i < ZS_SECTION_COUNT; i++) {
                CHECK(h.section_at[i] % ZS_ALIGN == 0 && h.section_at[i] >= end);
                end = h.section_at[i] + zs_section_size(&h, i);
            }
            CHECK(end <= h.control_size && h.control_size < end + ZS_ALIGN);
            CHECK_EQUAL(zs_header_check(&h, h.control_size), ZS_CHECK_OK);
        }
}

/* At most 64 KiB, 256 bytes for each slot and 768 bytes for each possible subscriber, with the ring and all padding. */
static void control_object_stays_small(void)
{
    static const uint32_t subscribers[] = {1, 64, 65, 576, 577, 640, 1024};
    for (size_t m = 0; m < sizeof subscribers / sizeof subscribers[0]; m++)
        for (uint32_t depth = 1; depth < 65535; depth += depth < 4200 ? 1 : 61)
            CHECK(header_of(depth, depth + 1, subscribers[m], 0).control_size <= 65536 + 256 * (uint64_t)(depth + 1) + 768 * (uint64_t)subscribers[m]);
}

static void foreign_objects_differ_from_corrupt_ones(void)
{
    zs_header h = header_of(8, 42, 64, 1000);
    for (int i = 0; i < 8; i++) {
        zs_header other = h;
        other.magic[i] ^= 1;
        CHECK_EQUAL(zs_header_check(&other, h.control_size), ZS_CHECK_NOT_A_SEGMENT);
    }
    memset(&h, 0, sizeof h);
    CHECK_EQUAL(zs_header_check(&h, 1u << 20), ZS_CHECK_NOT_A_SEGMENT);
    for (uint32_t format = 0; format < 4; format++) {
        h = header_of(8, 42, 64, 1000);
        h.format = format;
        h.depth = 0; /* the other members may mean something else in another format */
        CHECK_EQUAL(zs_header_check(&h, h.control_size), format == ZS_FORMAT ? ZS_CHECK_CORRUPT : ZS_CHECK_OTHER_FORMAT);
    }
}

/* An unknown bit may change the meaning of any member, so it is reported before invalid members are. */
static void unknown_incompat_bit_is_refused(void)
{
    for (int i = 0; i < 64; i++) {
        zs_header h = header_of(8, 42, 64, 1000);
        h.compat = UINT64_C(1) << i;
        CHECK_EQUAL(zs_header_check(&h, h.control_size), ZS_CHECK_OK);
        h.incompat = UINT64_C(1) << i;
        CHECK_EQUAL(zs_header_check(&h, h.control_size), ZS_CHECK_INCOMPATIBLE);
        h.depth = 0;
        CHECK_EQUAL(zs_header_check(&h, h.control_size), ZS_CHECK_INCOMPATIBLE);
    }
}

/* Four buckets in each octave, which start according to the formula of FORMAT.md. */
static void latency_buckets_start_as_documented(void)
{
    CHECK_EQUAL(zs_latency_bucket(0), 0);
    CHECK_EQUAL(zs_latency_bucket(15), 0);
    for (uint32_t i = 1; i < ZS_LATENCY_BUCKETS; i++) {
        uint64_t begins = (uint64_t)(4 + (i - 1) % 4) << ((i - 1) / 4 + 2);
        CHECK_EQUAL(zs_latency_bucket(begins), i);
        CHECK_EQUAL(zs_latency_bucket(begins - 1), i - 1);
    }
    CHECK_EQUAL(zs_latency_bucket(UINT64_MAX), ZS_LATENCY_BUCKETS - 1);
}

static void longer_header_and_gaps_are_accepted(void)
{
    zs_header h = header_of(8, 42, 64, 1000);
    h.header_size += 128;
    h.control_size += 4096 * ZS_SECTION_COUNT;
    for (int i = 0; i < ZS_SECTION_COUNT; i++)
        h.section_at[i] += 4096u * (unsigned)(i + 1) - 128u;
    CHECK_EQUAL(zs_header_check(&h, h.control_size), ZS_CHECK_OK);
    CHECK_EQUAL(zs_header_check(&h, h.control_size + 1), ZS_CHECK_OK);
    CHECK_EQUAL(zs_header_check(&h, h.control_size - 1), ZS_CHECK_CORRUPT);
}

/* Entries of a later version, with more members before and after `readers`. */
static void longer_entries_are_accepted(void)
{
    zs_header h = header_of(8, 42, 64, 1000);
    uint64_t shift = 0;
    h.slot_size += 192, h.peer_size += 64, h.readers_at = 312;
    for (int i = ZS_AT_PEERS + 1; i < ZS_SECTION_COUNT; i++) {
        shift = i <= ZS_AT_SLOTS ? 64u * 64u : 64u * 64u + 42u * 192u;
        h.section_at[i] += zs_round_up(shift, ZS_ALIGN);
    }
    h.control_size += zs_round_up(shift, ZS_ALIGN);
    CHECK_EQUAL(zs_header_check(&h, h.control_size), ZS_CHECK_OK);
    h.readers_at = 320;
    CHECK_EQUAL(zs_header_check(&h, h.control_size), ZS_CHECK_CORRUPT);
}

#define CORRUPT(member, value)                                                                                                      \
    do {                                                                                                                            \
        zs_header wrong = h;                                                                                                        \
        wrong.member = (value);                                                                                                     \
        CHECK_EQUAL(zs_header_check(&wrong, h.control_size), ZS_CHECK_CORRUPT);                                                     \
    } while (0)

static void every_invalid_field_is_refused(void)
{
    const zs_header h = header_of(8, 42, 64, 1000);
    CORRUPT(header_size, 0);
    CORRUPT(header_size, ZS_HEADER_SIZE - 128);
    CORRUPT(header_size, ZS_HEADER_SIZE + 1);
    CORRUPT(header_size, ZS_HEADER_SIZE + 128); /* the first section would start inside of it */
    CORRUPT(header_size, UINT32_MAX);
    CORRUPT(header_size, UINT32_MAX - 127);
    CORRUPT(control_size, 0);
    CORRUPT(control_size, h.control_size + 1);
    CORRUPT(control_size, h.control_size - 128);
    CORRUPT(control_size, UINT64_MAX);
    CORRUPT(control_size, ZS_MAX_CONTROL + 1);
    CORRUPT(depth, 0);
    CORRUPT(depth, 9); /* more than half of the ring */
    CORRUPT(depth, h.slot_limit + 1);
    CORRUPT(depth, UINT32_C(0x80000004)); /* twice of it would wrap to 8 */
    CORRUPT(depth, UINT32_MAX);
    CORRUPT(ring_capacity, 0);
    CORRUPT(ring_capacity, 1);
    CORRUPT(ring_capacity, 8);
    CORRUPT(ring_capacity, 17);
    CORRUPT(ring_capacity, 32); /* would overlap the slots */
    CORRUPT(ring_capacity, UINT32_C(0x80000000));
    CORRUPT(slot_limit, 0);
    CORRUPT(slot_limit, 7);
    CORRUPT(slot_limit, 64);
    CORRUPT(slot_limit, 65536);
    CORRUPT(slot_limit, UINT32_MAX);
    CORRUPT(pool_limit, 0);
    CORRUPT(pool_limit, ZS_MAX_POOLS + 1);
    CORRUPT(pool_limit, UINT32_MAX);
    CORRUPT(max_subscribers, 0);
    CORRUPT(max_subscribers, 65);
    CORRUPT(max_subscribers, 1025);
    CORRUPT(max_subscribers, UINT32_MAX); /* (n + 63) / 64 would wrap to 0 */
    CORRUPT(reader_words, 0);
    CORRUPT(reader_words, 2);
    CORRUPT(reader_words, UINT32_MAX);
    CORRUPT(spare_slots, 65536);
    CORRUPT(spare_slots, UINT32_MAX);
    CORRUPT(max_loans, 65536);
    CORRUPT(max_loans, UINT32_MAX);
    CORRUPT(first_sequence, 0);
    CORRUPT(first_sequence, UINT64_C(1) << 62);
    CORRUPT(first_sequence, UINT64_MAX);
    CORRUPT(schema_size, h.control_size);
    CORRUPT(schema_size, 1025); /* one byte beyond the end */
    CORRUPT(schema_size, UINT64_MAX);
    CORRUPT(peer_size, 0);
    CORRUPT(peer_size, 640);
    CORRUPT(peer_size, 767);
    CORRUPT(peer_size, 800);
    CORRUPT(peer_size, 832); /* would overlap the ring */
    CORRUPT(peer_size, UINT32_MAX - 63);
    CORRUPT(slot_size, 0);
    CORRUPT(slot_size, 32);
    CORRUPT(slot_size, 96);
    CORRUPT(slot_size, 192); /* would overlap the pools */
    CORRUPT(slot_size, UINT32_MAX);
    CORRUPT(readers_at, 0);
    CORRUPT(readers_at, 48);
    CORRUPT(readers_at, 60);
    CORRUPT(readers_at, 128); /* the last word would belong to the next slot */
    CORRUPT(readers_at, UINT32_MAX - 7); /* with 8 more it would wrap to 0 */
    CORRUPT(reserve_slots, 65536);
    CORRUPT(policy, ZS_RAISE + 1);
    for (int i = 0; i < ZS_SECTION_COUNT; i++) {
        CORRUPT(section_at[i], 0);
        CORRUPT(section_at[i], h.section_at[i] - 128);
        CORRUPT(section_at[i], h.section_at[i] + 1);
        CORRUPT(section_at[i], h.section_at[i] + 8);
        CORRUPT(section_at[i], h.control_size + 128);
        CORRUPT(section_at[i], UINT64_MAX);
        CORRUPT(section_at[i], UINT64_MAX - 127);
        if (i + 1 < ZS_SECTION_COUNT)
            CORRUPT(section_at[i], h.section_at[i + 1] + 128);
    }
}

/* For any bytes: if a header passes the check, its sections are within the object. */
static void random_headers_pass_only_if_they_fit(void)
{
    const zs_header h = header_of(8, 42, 64, 1000);
    uint64_t random = 88172645463325252u;
    int passed = 0;
    for (int round = 0; round < 200000; round++) {
        zs_header wrong = h;
        uint8_t *bytes = (uint8_t *)&wrong;
        for (int k = 0; k < 1 + round % 3; k++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            bytes[12 + random % (ZS_HEADER_SIZE - 12)] ^= (uint8_t)(1u << (random >> 60 & 7));
        }
        if (zs_header_check(&wrong, h.control_size) != ZS_CHECK_OK)
            continue;
        passed++;
        for (int i = 0; i < ZS_SECTION_COUNT; i++)
            CHECK(wrong.section_at[i] >= ZS_HEADER_SIZE && wrong.section_at[i] % ZS_ALIGN == 0 &&
                  wrong.section_at[i] + zs_section_size(&wrong, i) <= h.control_size);
        CHECK((uint64_t)wrong.slot_limit * wrong.slot_size <= h.control_size);
        CHECK((uint64_t)wrong.readers_at + 8 * wrong.reader_words <= wrong.slot_size);
        CHECK(wrong.reader_words * 64 >= wrong.max_subscribers && 2 * wrong.depth <= wrong.ring_capacity);
    }
    CHECK(passed > 1000); /* identifiers and names may have any value */
}

static void new_segment_has_these_bytes(void)
{
    const world_options options = {.depth = 2, .spare_slots = 1, .first_sequence = UINT64_C(1) << 32};
    world *w = world_make(&options);
    zs_segment *s = &w->segment;
    CHECK_EQUAL(*s->published, 0xffffffff);
    CHECK_EQUAL(*s->generation, 0);
    for (uint32_t i = 0; i < s->ring_capacity; i++)
        CHECK_EQUAL(s->ring[i], UINT64_C(0xffffffff0000));
    for (uint32_t i = 0; i < w->slot_count; i++) {
        CHECK_EQUAL(zs_slot_at(s, i)->sequence, 0);
        CHECK_EQUAL(zs_slot_at(s, i)->reference, 0);
        CHECK_EQUAL(*zs_slot_readers(s, i), 0);
    }
    CHECK_EQUAL(s->pools[0].slot_count, 4);
    CHECK_EQUAL(s->pools[0].slot_capacity, 128);
    CHECK_EQUAL(*s->pool_generation, 1);
    CHECK_EQUAL(s->pools[0].state, 1);
    CHECK_EQUAL(zs_segment_state(s), ZS_OPEN);
    world_free(w);
}

/* `state` is the last store of creation; until then it is ZS_CREATING. */
static void segment_is_not_open_before_it_is_complete(void)
{
    zs_header h = header_of(2, 4, 4, 0);
    zs_segment s;
    uint8_t *control = (uint8_t *)world_map(h.control_size);
    h.state = ZS_OPEN;
    zs_segment_create(&s, control, &h);
    CHECK_EQUAL(zs_segment_state(&s), ZS_CREATING);
    zs_segment_add_pool(&s, 0, 0, 4, 128, 0);
    CHECK_EQUAL(zs_segment_state(&s), ZS_CREATING);
    zs_segment_open(&s);
    CHECK_EQUAL(zs_segment_state(&s), ZS_OPEN);
    zs_segment_end(&s, ZS_SEALED);
    CHECK_EQUAL(zs_segment_state(&s), ZS_SEALED);
    CHECK_EQUAL(*s.generation, 1);
    munmap(control, h.control_size);
}

int main(void)
{
    RUN(layout_matches_the_format_document);
    RUN(ring_holds_twice_the_depth);
    RUN(slot_size_grows_with_reader_words);
    RUN(sections_never_overlap);
    RUN(control_object_stays_small);
    RUN(foreign_objects_differ_from_corrupt_ones);
    RUN(unknown_incompat_bit_is_refused);
    RUN(latency_buckets_start_as_documented);
    RUN(longer_header_and_gaps_are_accepted);
    RUN(longer_entries_are_accepted);
    RUN(every_invalid_field_is_refused);
    RUN(random_headers_pass_only_if_they_fit);
    RUN(new_segment_has_these_bytes);
    RUN(segment_is_not_open_before_it_is_complete);
    return 0;
}
