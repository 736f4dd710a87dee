/* SPDX-License-Identifier: Apache-2.0
 *
 * zs_batch.h - many samples in one call: publish copies by the owner, copies of samples by a reader.
 *
 * A batch is a sequence of single samples: order, loss, the window of reliable readers and the limit of loans are the same. What is
 * done once for up to ZS_BATCH samples is what no reader needs for each of them: the owner's check of the window, generation and the
 * wake-up, the counters; the reader's copy of its cursor, its counters, and its look at `waiting`.
 *
 * Why a copy is made under a lease, with the reader's bit, and not between two loads of `sequence`: the payload is plain memory, and a
 * plain load that races with a store of the owner is undefined in C, whatever is discarded afterwards.
 *
 * Why a reader looks at `published` once, when a batch begins, and takes no newer samples: a reader that is as fast as the owner would
 * read the ring line that the owner is writing for each sample, and a transfer of the line costs both of them more than a sample does.
 *
 * Why lines are fetched ahead: each atomic read-modify-write waits for the stores before it, so without that the transfers of a
 * sample's lines from the other processor come one after the other.
 */
#ifndef ZS_BATCH_H
#define ZS_BATCH_H

#include "zs_atomic.h"
#include "zs_crc.h"
#include "zs_peers.h"

/* The most samples of which readers are not told, that is, between two calls of zs_owner_announce. */
#ifndef ZS_BATCH
#define ZS_BATCH 64
#endif

/* How many samples ahead lines are fetched; that many ring entries are one line. */
#define ZS_AHEAD 8

/* Copies of payloads. Tests observe them. */
#ifndef ZS_COPY
#define ZS_COPY(to, from, size) memcpy((to), (from), (size))
#endif

/* How many more loans the window of reliable readers has room for, besides the present ones. UINT64_MAX: no reader limits them.
 * 0: as zs_owner_window_full says. Samples that were placed are announced before this is called. Callable by the owner only. */
static inline uint64_t zs_owner_room(const zs_owner *o)
{
    const zs_segment *s = o->segment;
    uint32_t index;
    uint64_t floor, used = o->published + o->loans_out;
    if (s->policy == ZS_EVICT)
        return UINT64_MAX;
    floor = zs_owner_floor(o, &index);
    if (floor == UINT64_MAX)
        return UINT64_MAX;
    /* A cursor outside of these is not one of a correct reader. */
    if (floor < s->first_sequence - 1)
        floor = s->first_sequence - 1;
    if (floor > o->published)
        floor = o->published;
    return floor + s->depth > used ? floor + s->depth - used : 0;
}

/* Fetch the lines that samples `first` to `first + ZS_AHEAD - 1` from now will be written to. A slot that is retired is the next one
 * to be loaned, unless a reader holds it. */
static inline void zs_owner_fetch_ahead(const zs_owner *o, uint64_t first)
{
    const zs_segment *s = o->segment;
    uint64_t n = o->published + first;
    uint64_t end = n + ZS_AHEAD;
    zs_prefetch_write(&s->ring[zs_ring_index(s, end - 1)]);
    for (; n < end; n++) {
        uint32_t slot = o->ring_slots[zs_ring_index(s, n - 1 - s->depth)];
        zs_prefetch_write(zs_slot_at(s, slot));
        zs_prefetch_write(zs_owner_payload(o, slot));
    }
}

/* What zs_owner_publish_copies copies: samples of `size` bytes in private memory, `stride` bytes apart, and published_ns of all of
 * them. `capacity`: the bytes that each needs in its slot. `crc`: each gets ZS_SLOT_CRC. */
typedef struct zs_samples {
    const uint8_t *data;
    ptrdiff_t stride;
    uint64_t size;
    uint64_t capacity;
    uint64_t published_ns;
    int crc;
} zs_samples;

/* Publish copies of the first `count` samples. Returns how many; all of them are announced. Fewer than `count`: the window is full,
 * `max_loans` are out, or no slot is free. `count` is at most ZS_BATCH. Callable by the owner only.
 *
 * With reliable readers, as many samples are published after one check of the window as loans could have been out at that moment:
 * that is how far behind a joining reader can be that the check did not see (SYNC join). */
static inline uint32_t zs_owner_publish_copies(zs_owner *o, const zs_samples *samples, uint32_t count, uint32_t max_loans)
{
    const zs_segment *s = o->segment;
    const uint8_t *from = samples->data;
    uint32_t published = 0, announced = 0;
    uint64_t room = 0;
    zs_owner_fetch_ahead(o, 1);
    for (; published < count; published++, room--, from += samples->stride) {
        uint32_t slot, flags = 0, crc = 0;
        if (room == 0) {
            if (announced < published)
                zs_owner_announce(o);
            announced = published;
            room = o->loans_out < max_loans ? zs_owner_room(o) : 0;
            if (s->policy != ZS_EVICT && room > max_loans - o->loans_out)
                room = max_loans - o->loans_out;
            if (room == 0)
                break;
        }
        if (published % ZS_AHEAD == 0)
            zs_owner_fetch_ahead(o, 1 + ZS_AHEAD);
        slot = zs_owner_reserve_bytes(o, samples->capacity);
        if (slot == ZS_NO_SLOT)
            break;
        ZS_COPY(zs_owner_payload(o, slot), from, samples->size);
        if (samples->crc) {
            flags = ZS_SLOT_CRC;
            crc = zs_crc32c(from, samples->size);
        }
        zs_owner_place_flagged(o, slot, samples->size, samples->published_ns, flags, crc);
        zs_owner_retire_oldest(o);
        zs_owner_let_go(o, slot);
    }
    if (announced < published)
        zs_owner_announce(o);
    return published;
}

/* Where a reader has mapped the payloads of a segment's first `slot_count` slots: pool k, one of `count`, has slots of capacity[k]
 * bytes from first_slot[k] on, and its first one is at data[k]. */
typedef struct zs_payloads {
    char *const *data;
    const uint64_t *capacity;
    const uint32_t *first_slot;
    uint32_t count;
    uint32_t slot_count;
} zs_payloads;

/* The payload of a slot below slot_count, and in *capacity how many bytes it has. */
static inline uint8_t *zs_payload_at(const zs_payloads *p, uint32_t slot, uint64_t *capacity)
{
    uint32_t k = 0;
    while (k + 1 < p->count && slot >= p->first_slot[k + 1])
        k++;
    *capacity = p->capacity[k];
    return (uint8_t *)p->data[k] + (size_t)(slot - p->first_slot[k]) * p->capacity[k];
}

/* A batch of copies of one reader's samples. */
typedef struct zs_copier {
    zs_reader *reader;
    zs_payloads payloads;
    uint64_t size;       /* bytes of each copy */
    int verify;          /* whether each sample is compared with its CRC */
    uint64_t last;       /* the newest sequence that the batch may include */
    uint64_t settled;    /* the reader's cursor at the last zs_copier_settle */
    uint64_t copied;     /* since then */
    uint64_t sampled_ns; /* when the sample was published that enters the latency histogram; 0: none does */
    /* The ring entries of two lines: one that is being copied, and one whose samples are being fetched. */
    uint64_t tags[2][ZS_AHEAD];
    uint32_t tag_count[2];
    uint32_t now, at;    /* tags[now][at] is the next one */
    uint64_t looked;     /* the sequence of the last one */
    uint64_t reached;    /* the cursor for which these four are valid */
} zs_copier;

/* Begin a batch of copies of `size` bytes: of at most the samples that are published now. */
static inline void zs_copier_begin(zs_copier *c, zs_reader *r, const zs_payloads *p, uint64_t size, int verify)
{
    uint64_t published = zs_load(r->segment->published, ZS_PUBLISHED_LOAD); /* SYNC published */
    c->reader = r;
    c->payloads = *p;
    c->size = size;
    c->verify = verify;
    /* `published` may be one behind the ring, and stays so if the owner dies there. */
    c->last = published > r->cursor && zs_published_is_plausible(published, r->cursor) ? published : r->cursor + 1;
    c->settled = r->cursor;
    c->reached = ~r->cursor; /* no entries yet */
    c->copied = c->sampled_ns = 0;
}

/* The most samples that the batch can still copy. */
static inline uint64_t zs_copier_left(const zs_copier *c)
{
    return c->last > c->reader->cursor ? c->last - c->reader->cursor : 0;
}

/* Load the next ring entries, and fetch the lines of what they name. */
static inline void zs_copier_look(zs_copier *c, uint32_t which)
{
    const zs_reader *r = c->reader;
    const zs_segment *s = r->segment;
    uint64_t *tags = c->tags[which];
    uint64_t capacity;
    uint32_t count = 0;
    while (count < ZS_AHEAD && c->looked < c->last)
        tags[count++] = zs_load(&s->ring[zs_ring_index(s, ++c->looked)], ZS_RING_LOAD); /* SYNC ring */
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = (uint32_t)(tags[i] & 0xffff);
        if (slot < c->payloads.slot_count) {
            zs_prefetch_write(zs_slot_at(s, slot));
            zs_prefetch(zs_payload_at(&c->payloads, slot, &capacity));
        }
    }
    c->tag_count[which] = count;
}

/* The ring entry after the reader's cursor, which is below c->last. */
static inline uint64_t zs_copier_tag(zs_copier *c)
{
    if (c->reached != c->reader->cursor) { /* the beginning, a lap, or a take by another thread */
        c->reached = c->looked = c->reader->cursor;
        c->tag_count[0] = c->tag_count[1] = c->now = c->at = 0;
    }
    if (c->at == c->tag_count[c->now]) {
        c->now = !c->now;
        c->at = 0;
        if (c->tag_count[c->now] == 0)
            zs_copier_look(c, c->now);
        zs_copier_look(c, !c->now);
    }
    return c->tags[c->now][c->at++];
}

/* Whether a leased slot carries the CRC of its payload. */
static inline int zs_slot_verify(const zs_slot *entry, const uint8_t *payload, uint64_t size)
{
    return (zs_load(&entry->flags, ZS_RELAXED) & ZS_SLOT_CRC) != 0 &&
           zs_load(&entry->crc, ZS_RELAXED) == zs_crc32c(payload, size);
}

/* Copy the next sample in order to `to`. Samples that can no longer be taken are passed over and counted in `lost`.
 *
 * ZS_TAKE_COPIED: the reader's cursor is its sequence, *published_ns its time, and no lease is left. ZS_TAKE_NONE: the batch is
 * complete. Anything else: nothing was copied, and zs_reader_take has the same result, or leases a sample with a wrong size or CRC; the
 * batch ends. zs_copier_settle follows after at most ZS_BATCH copies, and after the last call. */
static inline enum zs_take zs_copier_next(zs_copier *c, uint8_t *to, uint64_t *published_ns)
{
    zs_reader *r = c->reader;
    const zs_segment *s = r->segment;
    enum zs_take result = zs_reader_refuse(r);
    for (int laps = 0; result == ZS_TAKE_NONE && r->cursor < c->last; laps++) {
        uint64_t n = r->cursor + 1;
        uint64_t tag = zs_copier_tag(c);
        uint32_t slot = (uint32_t)(tag & 0xffff);
        int64_t distance = zs_tag_distance(tag, n);
        if (distance < 0)
            return ZS_TAKE_NONE;
        if (distance == 0) {
            result = zs_reader_check_slot(r, slot);
            if (result != ZS_TAKE_NONE)
                return result;
            if (slot >= c->payloads.slot_count)
                return ZS_TAKE_UNMAPPED;
            if (zs_slot_lease(s, slot, r->index, n)) {
                const zs_slot *entry = zs_slot_at(s, slot);
                uint64_t capacity, size = zs_load(&entry->size, ZS_RELAXED);
                const uint8_t *payload = zs_payload_at(&c->payloads, slot, &capacity);
                if (size < c->size || size > capacity || (c->verify && !zs_slot_verify(entry, payload, size))) {
                    zs_slot_release(s, slot, r->index);
                    return ZS_TAKE_CORRUPT;
                }
                *published_ns = zs_load(&entry->published_ns, ZS_RELAXED);
                ZS_COPY(to, payload, c->size);
                zs_slot_release(s, slot, r->index);
                zs_store(&r->cursor, n, ZS_RELAXED);
                c->reached = n;
                c->copied++;
                if ((r->taken + c->copied) % ZS_SAMPLED == 0)
                    c->sampled_ns = *published_ns;
                return ZS_TAKE_COPIED;
            }
        }
        result = zs_reader_lap(r, n, laps);
        c->last = r->cursor + s->depth;
    }
    return result;
}

/* Store in the peer entry what the reader has copied since the last call, and wake a blocked owner. */
static inline void zs_copier_settle(zs_copier *c)
{
    zs_reader *r = c->reader;
    if (r->cursor == c->settled)
        return;
    zs_count(&r->taken, c->copied);
    zs_fetch_add(&r->released, c->copied, ZS_RELEASED_RMW); /* SYNC released */
    zs_store(&r->peer->taken, r->taken, ZS_RELAXED);
    zs_reader_move(r, r->cursor);
    if (!r->reliable && zs_load(r->segment->waiting, ZS_WAITING_LOAD) != 0) /* SYNC space: after the bits */
        zs_bump_space(r->segment);
    c->settled = r->cursor;
    c->copied = 0;
}

#endif
