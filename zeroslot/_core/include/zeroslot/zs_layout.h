/* SPDX-License-Identifier: Apache-2.0
 *
 * zs_layout.h - the layout of the control object in format 1, and every constant of the format. idl/FORMAT.md describes the same in
 * words.
 *
 *      0  header                    written once; `state` last
 *         published                 u64                   sequence of the newest sample
 *         generation                u32                   futex word of readers that wait for samples
 *         parked                    u64[reader_words]     bit r: reader r may be asleep
 *         space                     u32                   futex word of owner threads that wait for space
 *         waiting                   u32                   number of owner threads that wait for space
 *         active                    u64[reader_words]     bit r: reader r has joined
 *         reliable                  u64[reader_words]     bit r: the owner waits for the cursor of reader r
 *         evicted                   u32[max_subscribers]  epoch of the reader that the owner evicted
 *         counters                  zs_counters
 *         peers                     zs_peer[max_subscribers]
 *         ring                      u64[ring_capacity]
 *         slots                     zs_slot, slot_size bytes apart
 *         pool_generation           u32                   incremented when a pool is added
 *         pools                     zs_pool[pool_limit]
 *         schema                    schema_size bytes
 *
 * Every section starts at a multiple of 128: processors fetch cache lines in pairs, and a reader that spins on one word would slow
 * the owner that writes its neighbour.
 *
 * Each structure is one table of (type, name, dimension, offset, size). The table defines the struct and asserts every offset,
 * every size, and their sum, so a forgotten or moved member does not compile.
 */
#ifndef ZS_LAYOUT_H
#define ZS_LAYOUT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ZS_FORMAT 1u
#define ZS_ALIGN 128u

/* Least distance of slot entries and of payload slots. With 128 bytes, a line that the owner writes is not fetched as the pair of a
 * line that a reader uses.
 *
 * One way of tests/core/pingpong.c, p50, on one machine: 145 ns with both 64 bytes apart, 97 ns with slot entries 128 bytes apart,
 * and the same with payload slots. On two virtual cores under other load (medians of 15, 41 and 31 interleaved rounds):
 *
 *     slot entries 64, payload 64       337  333  352 ns
 *     slot entries 128, payload 64      320  326  342
 *     slot entries 64, payload 128      340  338  355
 *     slot entries 128, payload 128     324  322  347
 *
 * Here the entries gain 2 to 5 %, and the payload slots nothing measurable. */
#define ZS_SLOT_ALIGN 128u

#define ZS_MAX_SLOTS 65535u
#define ZS_MAX_SUBSCRIBERS 1024u
#define ZS_MAX_POOLS 16u
#define ZS_MAX_CONTROL (UINT64_C(1) << 32)
#define ZS_MAX_POOL (UINT64_C(1) << 46)
#define ZS_READER_WORDS(subscribers) (((subscribers) + 63u) / 64u)

enum zs_state { ZS_CREATING = 0, ZS_OPEN = 1, ZS_SEALED = 2, ZS_DEAD = 3 };
enum zs_policy { ZS_EVICT = 0, ZS_BLOCK = 1, ZS_RAISE = 2 };
enum zs_payload { ZS_BYTES = 0, ZS_TYPED = 1 };
enum zs_peer_flags {
    ZS_PEER_RELIABLE = 1,
    ZS_PEER_TICKETS = 2 /* it redeems tickets, and has no cursor (zs_tickets.h) */
};
enum zs_slot_flags {
    ZS_SLOT_CRC = 1,     /* `crc` is the CRC-32C of the payload's `size` bytes */
    ZS_SLOT_METADATA = 2 /* a zs_metadata lies behind the payload, at ZS_METADATA_AT(size) */
};

/* Bits of `incompat` that this code supports. A segment with any other bit is refused. */
#define ZS_INCOMPAT_KNOWN UINT64_C(0)

/* Bits of `compat`. */
#define ZS_COMPAT_CRC UINT64_C(1)        /* every sample of the segment has ZS_SLOT_CRC */
#define ZS_COMPAT_REFERENCES UINT64_C(2) /* the owner closes references, so that tickets can be redeemed by them (zs_tickets.h) */

/* Bit of a slot's reference while the owner tries to use the slot again. */
#define ZS_REFERENCE_CLOSING (UINT64_C(1) << 63)

/* Bytes of the control object at which open-file-description locks are taken. The owner locks ZS_OWNER_BYTE, a reader with index r
 * ZS_PEER_BYTE(r). A cleaner locks ZS_CLEANER_BYTES bytes from ZS_OWNER_BYTE on, so that a probe tells it from an owner by the
 * length. */
#define ZS_OWNER_BYTE 0
#define ZS_CLEANER_BYTES 2
#define ZS_FIRST_PEER_BYTE 64
#define ZS_PEER_BYTE(index) (ZS_FIRST_PEER_BYTE + (index))

/* The bell of a domain is an object of this size whose first word is the futex word. Its users hold a shared lock on
 * ZS_BELL_BYTE. */
#define ZS_BELL_SIZE 64u
#define ZS_BELL_BYTE 0

/* The sections in the order of their places. The value is the index into header.section_at. */
enum zs_section {
    ZS_AT_PUBLISHED,
    ZS_AT_GENERATION,
    ZS_AT_PARKED,
    ZS_AT_SPACE,
    ZS_AT_WAITING,
    ZS_AT_ACTIVE,
    ZS_AT_RELIABLE,
    ZS_AT_EVICTED,
    ZS_AT_COUNTERS,
    ZS_AT_PEERS,
    ZS_AT_RING,
    ZS_AT_SLOTS,
    ZS_AT_POOL_GENERATION,
    ZS_AT_POOLS,
    ZS_AT_SCHEMA
};
#define ZS_SECTION_COUNT 15

#define ZS_HEADER_FIELDS(X)                                                                                                         \
    X(uint8_t, magic, [8], 0, 8)                                                                                                    \
    X(uint32_t, format, , 8, 4)                                                                                                     \
    X(uint32_t, header_size, , 12, 4)                                                                                               \
    X(uint64_t, control_size, , 16, 8)                                                                                              \
    X(uint64_t, segment_id, , 24, 8)                                                                                                \
    X(uint8_t, type_hash, [16], 32, 16)                                                                                             \
    X(uint32_t, depth, , 48, 4)                                                                                                     \
    X(uint32_t, ring_capacity, , 52, 4)                                                                                             \
    X(uint32_t, slot_limit, , 56, 4)                                                                                                \
    X(uint32_t, pool_limit, , 60, 4)                                                                                                \
    X(uint32_t, max_subscribers, , 64, 4)                                                                                           \
    X(uint32_t, reader_words, , 68, 4)                                                                                              \
    X(uint32_t, spare_slots, , 72, 4)                                                                                               \
    X(uint32_t, max_loans, , 76, 4)                                                                                                 \
    X(uint64_t, first_sequence, , 80, 8)                                                                                            \
    X(uint64_t, schema_size, , 88, 8)                                                                                               \
    X(uint32_t, peer_size, , 96, 4)                                                                                                 \
    X(uint32_t, slot_size, , 100, 4)                                                                                                \
    X(uint32_t, readers_at, , 104, 4)                                                                                               \
    X(uint32_t, payload_kind, , 108, 4)                                                                                             \
    X(uint64_t, incompat, , 112, 8)                                                                                                 \
    X(uint64_t, compat, , 120, 8)                                                                                                   \
    X(uint32_t, owner_pid, , 128, 4)                                                                                                \
    X(uint32_t, policy, , 132, 4)                                                                                                   \
    X(uint64_t, owner_start_time, , 136, 8)                                                                                         \
    X(uint64_t, created_realtime_ns, , 144, 8)                                                                                      \
    X(uint64_t, created_monotonic_ns, , 152, 8)                                                                                     \
    X(uint64_t, time_namespace, , 160, 8)                                                                                           \
    X(uint64_t, max_period_ns, , 168, 8)                                                                                            \
    X(uint8_t, owner_name, [32], 176, 32)                                                                                           \
    X(uint64_t, section_at, [ZS_SECTION_COUNT], 208, 120)                                                                           \
    X(uint32_t, reserve_slots, , 328, 4)                                                                                            \
    X(uint32_t, state, , 332, 4)                                                                                                    \
    X(uint64_t, root_device, , 336, 8)                                                                                             \
    X(uint64_t, root_inode, , 344, 8)                                                                                              \
    X(uint8_t, reserved, [32], 352, 32)
#define ZS_HEADER_SIZE 384u
#define ZS_CONTROL_SIZE_AT 16u /* offset of control_size, to find out how much to map */

#define ZS_COUNTERS_FIELDS(X)                                                                                                       \
    X(uint64_t, published, , 0, 8)                                                                                                  \
    X(uint64_t, bytes, , 8, 8)                                                                                                      \
    X(uint64_t, discarded, , 16, 8)                                                                                                 \
    X(uint64_t, no_free_slot, , 24, 8)                                                                                              \
    X(uint64_t, wakes, , 32, 8)                                                                                                     \
    X(uint64_t, reaped, , 40, 8)                                                                                                    \
    X(uint64_t, evicted, , 48, 8)                                                                                                   \
    X(uint64_t, blocked, , 56, 8)                                                                                                   \
    X(uint64_t, blocked_ns, , 64, 8)                                                                                                \
    X(uint8_t, reserved, [56], 72, 56)
#define ZS_COUNTERS_SIZE 128u

/* Latency buckets: four in each octave, from 16 ns on. Bucket 0 counts everything below, the last one has no upper bound. */
#define ZS_LATENCY_BUCKETS 128
#define ZS_PEER_FIELDS(X)                                                                                                           \
    X(uint32_t, epoch, , 0, 4)                                                                                                      \
    X(uint32_t, pid, , 4, 4)                                                                                                        \
    X(uint64_t, start_time, , 8, 8)                                                                                                 \
    X(uint8_t, name, [32], 16, 32)                                                                                                  \
    X(uint64_t, attached_ns, , 48, 8)                                                                                               \
    X(uint32_t, flags, , 56, 4)                                                                                                     \
    X(uint32_t, max_leases, , 60, 4)                                                                                                \
    X(uint64_t, announcement, , 64, 8)                                                                                              \
    X(uint32_t, wake_kind, , 72, 4)                                                                                                 \
    X(uint32_t, reserved_word, , 76, 4)                                                                                             \
    X(uint64_t, time_namespace, , 80, 8)                                                                                            \
    X(uint8_t, reserved, [40], 88, 40)                                                                                              \
    X(uint64_t, cursor, , 128, 8)                                                                                                   \
    X(uint64_t, taken, , 136, 8)                                                                                                    \
    X(uint64_t, lost, , 144, 8)                                                                                                     \
    X(uint64_t, skipped, , 152, 8)                                                                                                  \
    X(uint64_t, leases, , 160, 8)                                                                                                   \
    X(uint64_t, latency_max_ns, , 168, 8)                                                                                           \
    X(uint8_t, reserved_counts, [80], 176, 80)                                                                                      \
    X(uint32_t, latency, [ZS_LATENCY_BUCKETS], 256, 512)
#define ZS_PEER_SIZE 768u

/* `readers` has reader_words words, of which the struct declares one; header.slot_size is the distance to the next entry. A later
 * version may add members before `readers`, so code finds it at header.readers_at. */
#define ZS_SLOT_FIELDS(X)                                                                                                           \
    X(uint64_t, sequence, , 0, 8)                                                                                                   \
    X(uint64_t, published_ns, , 8, 8)                                                                                               \
    X(uint64_t, size, , 16, 8)                                                                                                      \
    X(uint64_t, reference, , 24, 8)                                                                                                 \
    X(uint32_t, flags, , 32, 4)                                                                                                     \
    X(uint32_t, crc, , 36, 4)                                                                                                       \
    X(uint64_t, source_time_ns, , 40, 8)                                                                                            \
    X(uint64_t, user_id, , 48, 8)                                                                                                   \
    X(uint64_t, readers, [1], 56, 8)
#define ZS_SLOT_SIZE 64u
#define ZS_READERS_AT 56u

#define ZS_POOL_FIELDS(X)                                                                                                           \
    X(uint64_t, slot_capacity, , 0, 8)                                                                                              \
    X(uint32_t, first_slot, , 8, 4)                                                                                                 \
    X(uint32_t, slot_count, , 12, 4)                                                                                                \
    X(uint32_t, state, , 16, 4)                                                                                                     \
    X(uint8_t, reserved, [4], 20, 4)                                                                                                \
    X(uint64_t, inode, , 24, 8)                                                                                                     \
    X(uint64_t, committed, , 32, 8)                                                                                                 \
    X(uint64_t, discarded, , 40, 8)                                                                                                 \
    X(uint64_t, passed_on, , 48, 8)                                                                                                 \
    X(uint64_t, no_free_slot, , 56, 8)
#define ZS_POOL_SIZE 64u

/* What a publisher says of one sample besides its payload. */
#define ZS_METADATA_FIELDS(X)                                                                                                       \
    X(uint16_t, content_type_size, , 0, 2)                                                                                          \
    X(uint16_t, producer_size, , 2, 2)                                                                                              \
    X(uint16_t, user_size, , 4, 2)                                                                                                  \
    X(uint16_t, user_is_text, , 6, 2)                                                                                               \
    X(uint8_t, content_type, [32], 8, 32)                                                                                           \
    X(uint8_t, producer, [32], 40, 32)                                                                                              \
    X(uint8_t, user, [512], 72, 512)
#define ZS_METADATA_SIZE 584u

/* The content of an announcement, a file by which a subscription is known before it joins. The ids of the segments that the
 * subscription has refused follow, 8 bytes each. */
#define ZS_ANNOUNCEMENT_FIELDS(X)                                                                                                   \
    X(uint8_t, magic, [8], 0, 8)                                                                                                    \
    X(uint32_t, format, , 8, 4)                                                                                                     \
    X(uint32_t, header_size, , 12, 4)                                                                                               \
    X(uint64_t, id, , 16, 8)                                                                                                        \
    X(uint32_t, pid, , 24, 4)                                                                                                       \
    X(uint32_t, flags, , 28, 4)                                                                                                     \
    X(uint64_t, start_time, , 32, 8)                                                                                                \
    X(uint64_t, time_namespace, , 40, 8)                                                                                            \
    X(uint32_t, history, , 48, 4)                                                                                                   \
    X(uint32_t, max_leases, , 52, 4)                                                                                                \
    X(uint8_t, type_hash, [16], 56, 16)                                                                                             \
    X(uint8_t, name, [32], 72, 32)                                                                                                  \
    X(uint8_t, reserved, [24], 104, 24)
#define ZS_ANNOUNCEMENT_SIZE 128u

/* Where the metadata of a sample of `size` bytes begins, from the start of its slot. */
#define ZS_METADATA_AT(size) (((size) + 7) / 8 * 8)

#ifdef __cplusplus
#define ZS_STATIC_ASSERT(condition, text) static_assert(condition, text)
#else
#define ZS_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif

#define ZS_MEMBER(type, name, dimension, offset, size) type name dimension;
#define ZS_MEMBER_SIZE(type, name, dimension, offset, size) +(size)
#define ZS_STRUCT(name, FIELDS, bytes)                                                                                              \
    typedef struct name {                                                                                                           \
        FIELDS(ZS_MEMBER)                                                                                                           \
    } name;                                                                                                                         \
    ZS_STATIC_ASSERT(sizeof(name) == (bytes), #name " has another size");                                                           \
    ZS_STATIC_ASSERT((0 FIELDS(ZS_MEMBER_SIZE)) == (bytes), #name " does not add up")

ZS_STRUCT(zs_header, ZS_HEADER_FIELDS, ZS_HEADER_SIZE);
ZS_STRUCT(zs_counters, ZS_COUNTERS_FIELDS, ZS_COUNTERS_SIZE);
ZS_STRUCT(zs_peer, ZS_PEER_FIELDS, ZS_PEER_SIZE);
ZS_STRUCT(zs_slot, ZS_SLOT_FIELDS, ZS_SLOT_SIZE);
ZS_STRUCT(zs_pool, ZS_POOL_FIELDS, ZS_POOL_SIZE);
ZS_STRUCT(zs_metadata, ZS_METADATA_FIELDS, ZS_METADATA_SIZE);
ZS_STRUCT(zs_announcement, ZS_ANNOUNCEMENT_FIELDS, ZS_ANNOUNCEMENT_SIZE);

#define ZS_ASSERT_MEMBER(structure, name, offset, size)                                                                             \
    ZS_STATIC_ASSERT(offsetof(structure, name) == (offset), #structure "." #name " is at another offset");                         \
    ZS_STATIC_ASSERT(sizeof(((structure *)0)->name) == (size), #structure "." #name " has another size");
#define ZS_ASSERT_HEADER(type, name, dimension, offset, size) ZS_ASSERT_MEMBER(zs_header, name, offset, size)
#define ZS_ASSERT_COUNTERS(type, name, dimension, offset, size) ZS_ASSERT_MEMBER(zs_counters, name, offset, size)
#define ZS_ASSERT_PEER(type, name, dimension, offset, size) ZS_ASSERT_MEMBER(zs_peer, name, offset, size)
#define ZS_ASSERT_SLOT(type, name, dimension, offset, size) ZS_ASSERT_MEMBER(zs_slot, name, offset, size)
#define ZS_ASSERT_POOL(type, name, dimension, offset, size) ZS_ASSERT_MEMBER(zs_pool, name, offset, size)
#define ZS_ASSERT_METADATA(type, name, dimension, offset, size) ZS_ASSERT_MEMBER(zs_metadata, name, offset, size)
#define ZS_ASSERT_ANNOUNCEMENT(type, name, dimension, offset, size) ZS_ASSERT_MEMBER(zs_announcement, name, offset, size)
ZS_HEADER_FIELDS(ZS_ASSERT_HEADER)
ZS_COUNTERS_FIELDS(ZS_ASSERT_COUNTERS)
ZS_PEER_FIELDS(ZS_ASSERT_PEER)
ZS_SLOT_FIELDS(ZS_ASSERT_SLOT)
ZS_POOL_FIELDS(ZS_ASSERT_POOL)
ZS_METADATA_FIELDS(ZS_ASSERT_METADATA)
ZS_ANNOUNCEMENT_FIELDS(ZS_ASSERT_ANNOUNCEMENT)

ZS_STATIC_ASSERT(offsetof(zs_header, control_size) == ZS_CONTROL_SIZE_AT, "control_size is at another offset");

static const uint8_t zs_magic[8] = {0x89, 0x5A, 0x53, 0x4C, 0x4F, 0x54, 0x0D, 0x0A};

/* A mapped control object: a pointer to each section, and the configuration. Both come from one checked copy of the header; the
 * configuration is never loaded from shared memory again, because any process that can write there could change it after the
 * check. */
typedef struct zs_segment {
    zs_header *header;
    uint64_t *published;
    uint32_t *generation;
    uint64_t *parked;
    uint32_t *space;
    uint32_t *waiting;
    uint64_t *active;
    uint64_t *reliable;
    uint32_t *evicted;
    zs_counters *counters;
    uint8_t *peers;
    uint64_t *ring;
    uint8_t *slots;
    uint32_t *pool_generation;
    zs_pool *pools;
    uint8_t *schema;
    uint64_t first_sequence;
    uint64_t schema_size;
    uint64_t time_namespace;
    uint64_t compat;
    uint32_t depth;
    uint32_t ring_capacity;
    uint32_t slot_limit;
    uint32_t pool_limit;
    uint32_t max_subscribers;
    uint32_t reader_words;
    uint32_t spare_slots;
    uint32_t max_loans;
    uint32_t slot_size;
    uint32_t peer_size;
    uint32_t readers_at;
    uint32_t policy;
} zs_segment;

/* `size` rounded up to a multiple of `alignment`. */
static inline uint64_t zs_round_up(uint64_t size, uint64_t alignment)
{
    return (size + alignment - 1) / alignment * alignment;
}

/* The smallest power of two that is at least twice the depth. Why twice: a newer tag in the ring entry of a sequence, or another
 * sequence in its slot, then proves that the sample is no longer among the newest `depth`. */
static inline uint32_t zs_ring_capacity_for(uint32_t depth)
{
    uint32_t capacity = 2;
    while (capacity < 2 * depth)
        capacity *= 2;
    return capacity;
}

/* Distance of slot entries: ZS_SLOT_ALIGN for up to 576 subscribers, 192 for more. With 256 a control object without its schema
 * could exceed 64 KiB + 256 bytes for each slot + 768 bytes for each subscriber. */
static inline uint32_t zs_slot_size_for(uint32_t reader_words)
{
    uint32_t size = ZS_READERS_AT + 8u * reader_words;
    return size <= ZS_SLOT_ALIGN ? ZS_SLOT_ALIGN : (uint32_t)zs_round_up(size, 64);
}

/* The latency bucket of a sample that was taken `ns` after it was published. Bucket i > 0 starts at
 * (4 + (i - 1) % 4) << ((i - 1) / 4 + 2). */
static inline uint32_t zs_latency_bucket(uint64_t ns)
{
    uint32_t octave, bucket;
    if (ns < 16)
        return 0;
    octave = 63u - (uint32_t)__builtin_clzll(ns);
    bucket = 4 * (octave - 4) + (uint32_t)(ns >> (octave - 2) & 3) + 1;
    return bucket < ZS_LATENCY_BUCKETS ? bucket : ZS_LATENCY_BUCKETS - 1;
}

/* Bytes of a section, without the padding after it. */
static inline uint64_t zs_section_size(const zs_header *h, int section)
{
    switch (section) {
    case ZS_AT_PARKED:
    case ZS_AT_ACTIVE:
    case ZS_AT_RELIABLE: return 8u * (uint64_t)h->reader_words;
    case ZS_AT_EVICTED: return 4u * (uint64_t)h->max_subscribers;
    case ZS_AT_COUNTERS: return ZS_COUNTERS_SIZE;
    case ZS_AT_PEERS: return (uint64_t)h->peer_size * h->max_subscribers;
    case ZS_AT_RING: return 8u * (uint64_t)h->ring_capacity;
    case ZS_AT_SLOTS: return (uint64_t)h->slot_size * h->slot_limit;
    case ZS_AT_POOLS: return (uint64_t)ZS_POOL_SIZE * h->pool_limit;
    case ZS_AT_SCHEMA: return h->schema_size;
    default: return 8; /* one word */
    }
}

/* Whether the counts of a header are within the limits of the format. If so, no product or sum of them overflows 64 bits.
 *
 * Entries of the slot table and of the peer table may be longer than in this version, because a later one may add members. */
static inline int zs_counts_valid(const zs_header *h)
{
    return h->depth >= 1 && h->slot_limit >= 1 && h->slot_limit <= ZS_MAX_SLOTS && h->depth <= h->slot_limit &&
           h->ring_capacity >= 2 && (h->ring_capacity & (h->ring_capacity - 1)) == 0 && h->ring_capacity >= 2 * h->depth &&
           h->ring_capacity <= 4 * ZS_MAX_SLOTS && h->pool_limit >= 1 && h->pool_limit <= ZS_MAX_POOLS &&
           h->max_subscribers >= 1 && h->max_subscribers <= ZS_MAX_SUBSCRIBERS &&
           h->reader_words == ZS_READER_WORDS(h->max_subscribers) && h->peer_size >= ZS_PEER_SIZE && h->peer_size % 64 == 0 &&
           h->slot_size % 64 == 0 && h->readers_at >= ZS_READERS_AT && h->readers_at % 8 == 0 &&
           (uint64_t)h->readers_at + 8 * (uint64_t)h->reader_words <= h->slot_size && h->first_sequence >= 1 &&
           h->first_sequence < (UINT64_C(1) << 62) && h->max_loans <= ZS_MAX_SLOTS && h->spare_slots <= ZS_MAX_SLOTS &&
           h->reserve_slots <= ZS_MAX_SLOTS && h->schema_size < ZS_MAX_CONTROL && h->policy <= ZS_RAISE;
}

/* Set the place of each section, header_size, control_size, and the counts that follow from others: ring_capacity, reader_words,
 * peer_size, slot_size, readers_at. The other counts must be valid. */
static inline void zs_layout_compute(zs_header *h)
{
    uint64_t next = ZS_HEADER_SIZE;
    h->ring_capacity = zs_ring_capacity_for(h->depth);
    h->reader_words = ZS_READER_WORDS(h->max_subscribers);
    h->peer_size = ZS_PEER_SIZE;
    h->slot_size = zs_slot_size_for(h->reader_words);
    h->readers_at = ZS_READERS_AT;
    for (int i = 0; i < ZS_SECTION_COUNT; i++) {
        h->section_at[i] = next;
        next = zs_round_up(next + zs_section_size(h, i), ZS_ALIGN);
    }
    h->header_size = ZS_HEADER_SIZE;
    h->control_size = next;
}

enum zs_check {
    ZS_CHECK_OK = 0,
    ZS_CHECK_NOT_A_SEGMENT,  /* another magic: an object of another program, or one not written yet */
    ZS_CHECK_OTHER_FORMAT,   /* a zeroslot segment of a format that this code cannot read */
    ZS_CHECK_INCOMPATIBLE,   /* this format, with bits of `incompat` that this code does not support */
    ZS_CHECK_CORRUPT         /* counts, offsets or sizes that the format does not allow */
};

/* Check a private copy of a header against the size of the object from which it was copied. ZS_CHECK_OK permits zs_segment_bind.
 *
 * Sections may be further apart than in this version, and the header may be longer, because a later minor version may add members.
 * A section that overlaps another one, is misaligned or ends beyond the object is refused. */
static inline enum zs_check zs_header_check(const zs_header *h, uint64_t object_size)
{
    const uint64_t *at = h->section_at;
    uint64_t end;
    if (memcmp(h->magic, zs_magic, sizeof zs_magic) != 0)
        return ZS_CHECK_NOT_A_SEGMENT;
    if (h->format != ZS_FORMAT)
        return ZS_CHECK_OTHER_FORMAT;
    if ((h->incompat & ~ZS_INCOMPAT_KNOWN) != 0)
        return ZS_CHECK_INCOMPATIBLE;
    if (h->header_size < ZS_HEADER_SIZE || h->header_size % ZS_ALIGN != 0 || h->control_size > ZS_MAX_CONTROL ||
        h->control_size > object_size || h->header_size > h->control_size || !zs_counts_valid(h))
        return ZS_CHECK_CORRUPT;
    end = h->header_size;
    for (int i = 0; i < ZS_SECTION_COUNT; i++) {
        if (at[i] % ZS_ALIGN != 0 || at[i] < end || at[i] > h->control_size)
            return ZS_CHECK_CORRUPT;
        end = at[i] + zs_section_size(h, i);
        if (end > h->control_size)
            return ZS_CHECK_CORRUPT;
    }
    return ZS_CHECK_OK;
}

/* Bind a segment to a mapped control object. `h` is the private copy of its header, for which zs_header_check returned
 * ZS_CHECK_OK. */
static inline void zs_segment_bind(zs_segment *s, void *control, const zs_header *h)
{
    uint8_t *base = (uint8_t *)control;
    s->header = (zs_header *)control;
    s->published = (uint64_t *)(void *)(base + h->section_at[ZS_AT_PUBLISHED]);
    s->generation = (uint32_t *)(void *)(base + h->section_at[ZS_AT_GENERATION]);
    s->parked = (uint64_t *)(void *)(base + h->section_at[ZS_AT_PARKED]);
    s->space = (uint32_t *)(void *)(base + h->section_at[ZS_AT_SPACE]);
    s->waiting = (uint32_t *)(void *)(base + h->section_at[ZS_AT_WAITING]);
    s->active = (uint64_t *)(void *)(base + h->section_at[ZS_AT_ACTIVE]);
    s->reliable = (uint64_t *)(void *)(base + h->section_at[ZS_AT_RELIABLE]);
    s->evicted = (uint32_t *)(void *)(base + h->section_at[ZS_AT_EVICTED]);
    s->counters = (zs_counters *)(void *)(base + h->section_at[ZS_AT_COUNTERS]);
    s->peers = base + h->section_at[ZS_AT_PEERS];
    s->ring = (uint64_t *)(void *)(base + h->section_at[ZS_AT_RING]);
    s->slots = base + h->section_at[ZS_AT_SLOTS];
    s->pool_generation = (uint32_t *)(void *)(base + h->section_at[ZS_AT_POOL_GENERATION]);
    s->pools = (zs_pool *)(void *)(base + h->section_at[ZS_AT_POOLS]);
    s->schema = base + h->section_at[ZS_AT_SCHEMA];
    s->first_sequence = h->first_sequence;
    s->schema_size = h->schema_size;
    s->time_namespace = h->time_namespace;
    s->compat = h->compat;
    s->depth = h->depth;
    s->ring_capacity = h->ring_capacity;
    s->slot_limit = h->slot_limit;
    s->pool_limit = h->pool_limit;
    s->max_subscribers = h->max_subscribers;
    s->reader_words = h->reader_words;
    s->spare_slots = h->spare_slots;
    s->max_loans = h->max_loans;
    s->slot_size = h->slot_size;
    s->peer_size = h->peer_size;
    s->readers_at = h->readers_at;
    s->policy = h->policy;
}

/* The entry of a slot. `slot` is below slot_limit. */
static inline zs_slot *zs_slot_at(const zs_segment *s, uint32_t slot)
{
    return (zs_slot *)(void *)(s->slots + (size_t)slot * s->slot_size);
}

/* The reader bits of a slot, reader_words words. */
static inline uint64_t *zs_slot_readers(const zs_segment *s, uint32_t slot)
{
    return (uint64_t *)(void *)(s->slots + (size_t)slot * s->slot_size + s->readers_at);
}

/* The peer table's entry of a reader. `index` is below max_subscribers. */
static inline zs_peer *zs_peer_at(const zs_segment *s, uint32_t index)
{
    return (zs_peer *)(void *)(s->peers + (size_t)index * s->peer_size);
}

#endif
