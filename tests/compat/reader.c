/* SPDX-License-Identifier: Apache-2.0
 *
 * reader WHERE [history N] [first] [reliable] [leases N]: a subscriber, written from idl/FORMAT.md alone.
 *
 * WHERE is a topic, or the path of a flink if it starts with `/`. Each line of stdin is an order; each is answered with one line of
 * JSON:
 *
 *     join      wait for a publisher and join it: {"index": ..., "epoch": ..., "cursor": ...}. A publisher that exists at the start
 *               is joined then
 *     take      {"sequence": ..., "payload": hex}, null: nothing new; {"error": ...}
 *     next      the same, and wait for a sample; {"ended": state} if no more will come
 *     drain     take all samples until the end: [taken, lost, samples whose words are not their sequence]
 *     hold      as take, and keep the lease;  release  end the oldest lease
 *     latest    as take, with the newest sample
 *     counts    [taken, lost, skipped, cursor]
 *     schema    the name of the type, from the schema section
 *     rejoin    leave, and join again from the same cursor
 *     leave
 *
 * reader check NAME: the result of the checks of section 5 for the segment with this control object. */
#include "stranger.h"

static segment s = {.lock = -1, .probe = -1};
static bell topic_bell;
static const char *where;
static uint32_t history, from_first, reliable, max_leases = 4;
static uint32_t r, epoch, held[64], held_count;
static uint8_t *holds; /* [slot_limit] whether this reader has a lease on the slot */
static uint64_t cursor, taken, lost, skipped;
static uint64_t after = UINT64_MAX; /* the cursor to continue from after an eviction */
static char ended[64][32]; /* control objects that were left; their flinks may still exist */
static unsigned ended_count;

static uint64_t bit(void)
{
    return UINT64_C(1) << r % 64;
}

/* --- join --- */

/* The cursor to start with if `published` is the newest sequence. Wanted samples that can no longer be taken count as lost. */
static uint64_t start(uint64_t published)
{
    uint64_t floor = s.first_sequence - 1, keeps = reliable ? s.depth - s.max_loans : s.depth;
    uint64_t wanted = after != UINT64_MAX ? after : from_first ? floor : published > history ? published - history : 0;
    uint64_t oldest = published > keeps ? published - keeps : 0;
    if (wanted < floor)
        wanted = floor;
    lost = wanted < oldest ? oldest - wanted : 0;
    return wanted + lost;
}

static void move_to(uint64_t sequence)
{
    cursor = sequence;
    store(u64_at(peer_entry(&s, r), P_CURSOR), cursor, reliable ? seq_cst : relaxed);
    if (reliable && load(u32_at(section(&s, WAITING), 0), seq_cst) != 0)
        move_space(&s);
}

static int join(void)
{
    uint8_t *peer;
    for (r = 0; r < s.max_subscribers && !lock_bytes(s.lock, F_WRLCK, READER_BYTE + (int)r, 1); r++)
        ;
    if (r == s.max_subscribers)
        return 0;
    clear_reader(&s, r);
    peer = peer_entry(&s, r);
    epoch = load(u32_at(peer, P_EPOCH), relaxed) + 1;
    epoch += epoch == 0;
    memset(peer + 4, 0, P_CURSOR - 4);
    *u32_at(peer, P_PID) = (uint32_t)getpid();
    memcpy(peer + P_NAME, "stranger", 8);
    *u64_at(peer, P_ATTACHED) = now_ns();
    *u32_at(peer, P_FLAGS) = reliable;
    *u32_at(peer, P_MAX_LEASES) = max_leases;
    store(u32_at(peer, P_EPOCH), epoch, relaxed);
    memset(peer + P_TAKEN, 0, PEER_SIZE - P_TAKEN);
    taken = skipped = 0;
    store(u64_at(peer, P_CURSOR), start(load(u64_at(section(&s, PUBLISHED), 0), acquire)), relaxed);
    if (reliable)
        fetch_or(u64_at(section(&s, RELIABLE), 8 * (r / 64)), bit(), relaxed);
    fetch_or(u64_at(section(&s, ACTIVE), 8 * (r / 64)), bit(), seq_cst);
    (void)load(u32_at(section(&s, GENERATION), 0), seq_cst);
    move_to(start(load(u64_at(section(&s, PUBLISHED), 0), acquire)));
    store(u64_at(peer, P_LOST), lost, relaxed);
    move_space(&s);
    holds = calloc(s.slot_limit, 1);
    held_count = 0;
    return 1;
}

static void leave(int for_good)
{
    fetch_and(u64_at(section(&s, ACTIVE), 8 * (r / 64)), ~bit(), seq_cst);
    fetch_and(u64_at(section(&s, RELIABLE), 8 * (r / 64)), ~bit(), relaxed);
    move_space(&s);
    if (for_good)
        snprintf(ended[ended_count++ % 64], sizeof ended[0], "%s", s.name);
    free(holds);
    detach(&s); /* this also releases the lock; there are no leases */
}

static int was_left(const char *name)
{
    for (unsigned i = 0; i < ended_count && i < 64; i++)
        if (strcmp(ended[i], name) == 0)
            return 1;
    return 0;
}

/* Join the segment of this flink, unless it is gone, has ended, or was left before. */
static int join_flink(const char *path)
{
    char name[32];
    if (!read_flink(path, name) || was_left(name) || strcmp(attach(&s, name), "ok") != 0)
        return 0;
    if (state_of(&s) == OPEN && owner_lives(&s) && join())
        return 1;
    detach(&s);
    return 0;
}

static int join_any(void)
{
    return *where == '/' ? join_flink(where) : any_flink(where, join_flink);
}

static void wait_for_publisher(void)
{
    while (s.control == NULL) {
        uint32_t rung = topic_bell.word != NULL ? load(topic_bell.word, acquire) : 0;
        if (join_any())
            return;
        if (topic_bell.word != NULL)
            sleep_on(topic_bell.word, rung, 500);
        else
            sleep_ms(10);
    }
}

/* --- take --- */

static const uint8_t *payload_of(uint32_t slot, uint64_t *size)
{
    const pool *p = pool_of(&s, slot);
    *size = load(u64_at(slot_entry(&s, slot), S_SIZE), relaxed);
    return p == NULL || *size > p->capacity ? NULL : p->memory + (uint64_t)(slot - p->first_slot) * p->capacity;
}

static void release_slot(uint32_t slot)
{
    holds[slot] = 0;
    fetch_and(readers_word(&s, slot, r), ~bit(), seq_cst);
    store(u64_at(peer_entry(&s, r), P_LEASES), held_count, relaxed);
    if (load(u32_at(section(&s, WAITING), 0), seq_cst) != 0)
        move_space(&s);
}

enum { NOTHING, LEASED, GONE, LOST, EVICTED_NOW, CORRUPT, TOO_MANY };

/* Lease sequence c, which this tag names. GONE: it was retired. LOST: its pool was removed; the cursor is now c. */
static int lease(uint64_t tag, uint64_t c, uint32_t *slot)
{
    uint64_t *word;
    *slot = (uint32_t)(tag & 0xffff);
    if (*slot >= s.slot_limit)
        return CORRUPT;
    if (*slot >= s.slot_count) {
        const char *verdict = map_pools(&s);
        if (strcmp(verdict, "gone") == 0) {
            skipped += c - 1 - cursor; /* not 0 only for latest */
            lost++;
            store(u64_at(peer_entry(&s, r), P_LOST), lost, relaxed);
            move_to(c);
            return LOST;
        }
        if (strcmp(verdict, "ok") != 0 || *slot >= s.slot_count)
            return CORRUPT;
    }
    if (holds[*slot])
        return CORRUPT;
    word = readers_word(&s, *slot, r);
    fetch_or(word, bit(), seq_cst);
    if (load(u64_at(slot_entry(&s, *slot), S_SEQUENCE), seq_cst) == c) {
        holds[*slot] = 1;
        move_to(c);
        taken++;
        store(u64_at(peer_entry(&s, r), P_TAKEN), taken, relaxed);
        store(u64_at(peer_entry(&s, r), P_LEASES), held_count + 1, relaxed);
        return LEASED;
    }
    fetch_and(word, ~bit(), seq_cst);
    if (load(u32_at(section(&s, WAITING), 0), seq_cst) != 0)
        move_space(&s);
    return GONE;
}

static int64_t distance(uint64_t tag, uint64_t c)
{
    return (int64_t)(((tag >> 16) - c) << 16) / 65536;
}

static int refused(void)
{
    if (load(u32_at(section(&s, EVICTED), 4 * (int)r), relaxed) == epoch)
        return EVICTED_NOW;
    return held_count >= max_leases ? TOO_MANY : NOTHING;
}

static int take(uint32_t *slot)
{
    for (int laps = 0;; laps++) {
        uint64_t c = cursor + 1, published, oldest;
        uint64_t tag = load(ring_word(&s, c), acquire);
        int64_t d = distance(tag, c);
        int result = refused();
        if (d < 0)
            return result == EVICTED_NOW ? result : NOTHING;
        if (result != NOTHING)
            return result;
        if (d == 0 && (result = lease(tag, c, slot)) == LOST)
            continue;
        if (d == 0 && result != GONE)
            return result;
        published = load(u64_at(section(&s, PUBLISHED), 0), acquire);
        oldest = published >= s.depth ? published - s.depth + 1 : 1;
        if (oldest < s.first_sequence)
            oldest = s.first_sequence;
        if (published - c >= UINT64_C(1) << 46 || oldest <= c)
            return CORRUPT;
        if (laps >= 64)
            oldest = published;
        lost += oldest - c;
        store(u64_at(peer_entry(&s, r), P_LOST), lost, relaxed);
        move_to(oldest - 1);
    }
}

static int latest(uint32_t *slot)
{
    uint64_t began = cursor, published = began, tried, tag;
    for (;;) {
        int result;
        tried = published;
        published = load(u64_at(section(&s, PUBLISHED), 0), acquire);
        result = refused();
        if (published == began || published + 1 == began)
            return result == EVICTED_NOW ? result : NOTHING;
        if (published <= tried || published - began >= UINT64_C(1) << 46)
            return CORRUPT;
        if (result != NOTHING)
            return result;
        tag = load(ring_word(&s, published), acquire);
        if (distance(tag, published) == 0 && (result = lease(tag, published, slot)) != GONE) {
            if (result == LEASED) {
                skipped += published - began - 1;
                store(u64_at(peer_entry(&s, r), P_SKIPPED), skipped, relaxed);
            }
            if (result == LOST) {
                published = began = cursor;
                continue;
            }
            return result;
        }
    }
}

/* Section 7, end: the owner is dead. */
static void mark_dead(void)
{
    char path[64];
    int own;
    object_path(path, sizeof path, s.name, -1);
    own = open_regular(path, O_RDWR);
    if (own < 0)
        return;
    if ((lock_bytes(own, F_WRLCK, OWNER_BYTE, CLEANER_BYTES) || !owner_lives(&s)) && state_of(&s) == OPEN) {
        store(u32_at(s.control, H_STATE), DEAD, release);
        announce(&s);
    }
    close(own);
}

/* Sleep until there is a sample, or the segment has ended. At most 500 ms at a time, because a dead owner wakes no reader. */
static void wait_for_sample(void)
{
    uint64_t *word = u64_at(section(&s, PARKED), 8 * (r / 64));
    uint32_t *generation = u32_at(section(&s, GENERATION), 0);
    uint32_t seen;
    do {
        fetch_or(word, bit(), seq_cst);
        seen = load(generation, seq_cst);
    } while ((load(word, relaxed) & bit()) == 0);
    if (distance(load(ring_word(&s, cursor + 1), acquire), cursor + 1) < 0 && state_of(&s) == OPEN) {
        sleep_on(generation, seen, 500);
        if (load(generation, seq_cst) == seen && !owner_lives(&s))
            mark_dead();
    }
    fetch_and(word, ~bit(), seq_cst);
}

static int answer(int result, uint32_t slot)
{
    static const char *const errors[] = {"", "", "", "", "evicted", "corrupt", "too many leases"};
    uint64_t size;
    const uint8_t *payload;
    if (result == NOTHING)
        say("null");
    else if (result != LEASED)
        say("{\"error\": \"%s\"}", errors[result]);
    else if ((payload = payload_of(slot, &size)) == NULL)
        say("{\"error\": \"corrupt\"}");
    else {
        printf("{\"sequence\": %llu, \"payload\": \"", (unsigned long long)cursor);
        for (uint64_t i = 0; i < size; i++)
            printf("%02x", payload[i]);
        say("\"}");
    }
    return result == LEASED;
}

static void taking(int (*how)(uint32_t *), int keep)
{
    uint32_t slot = 0;
    int result = how(&slot);
    if (answer(result, slot)) {
        if (keep)
            held[held_count++] = slot;
        else
            release_slot(slot);
    }
}

static void next(void)
{
    uint32_t slot = 0;
    int result;
    wait_for_publisher();
    while ((result = take(&slot)) == NOTHING && state_of(&s) == OPEN)
        wait_for_sample();
    if (result == NOTHING && (result = take(&slot)) == NOTHING) { /* the state was loaded after the ring: take once more */
        say("{\"ended\": %u}", (unsigned)state_of(&s));
        leave(1);
    } else if (answer(result, slot))
        release_slot(slot);
}

static int is_own_sequence(uint32_t slot)
{
    uint64_t size;
    const uint8_t *payload = payload_of(slot, &size);
    for (uint64_t at = 0; payload != NULL && at + 8 <= size; at += 8)
        if (field64(payload, (int)at) != cursor)
            return 0;
    return payload != NULL;
}

static void drain(void)
{
    unsigned long long wrong = 0;
    uint32_t slot;
    for (;;) {
        int result = take(&slot);
        if (result == NOTHING && state_of(&s) == OPEN)
            wait_for_sample();
        else if (result == NOTHING && (result = take(&slot)) == NOTHING)
            break;
        if (result == LEASED) {
            wrong += !is_own_sequence(slot);
            release_slot(slot);
        } else if (result != NOTHING)
            wrong++;
    }
    say("[%llu, %llu, %llu]", (unsigned long long)taken, (unsigned long long)lost, wrong);
    leave(1);
}

static void obey(const char *order)
{
    if (strcmp(order, "join") == 0) {
        wait_for_publisher();
        say("{\"index\": %u, \"epoch\": %u, \"cursor\": %llu}", (unsigned)r, (unsigned)epoch, (unsigned long long)cursor);
    } else if (strcmp(order, "rejoin") == 0) {
        after = cursor;
        leave(0);
        say(join_any() ? "true" : "false");
        after = UINT64_MAX;
    } else if (strcmp(order, "take") == 0)
        taking(take, 0);
    else if (strcmp(order, "hold") == 0)
        taking(take, 1);
    else if (strcmp(order, "drain") == 0)
        drain();
    else if (strcmp(order, "latest") == 0)
        taking(latest, 0);
    else if (strcmp(order, "next") == 0)
        next();
    else if (strcmp(order, "release") == 0) {
        uint32_t slot = held[0];
        memmove(held, held + 1, --held_count * sizeof held[0]);
        release_slot(slot);
        say("true");
    } else if (strcmp(order, "counts") == 0)
        say("[%llu, %llu, %llu, %llu]", (unsigned long long)taken, (unsigned long long)lost, (unsigned long long)skipped,
            (unsigned long long)cursor);
    else if (strcmp(order, "schema") == 0)
        say("\"%.*s\"", (int)*u32_at(section(&s, SCHEMA), 0), (const char *)section(&s, SCHEMA) + 12);
    else if (strcmp(order, "leave") == 0) {
        leave(1);
        say("true");
    } else
        say("{\"error\": \"no such order\"}");
}

int main(int argc, char **argv)
{
    char *order;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (argc == 3 && strcmp(argv[1], "check") == 0) {
        say("\"%s\"", attach(&s, argv[2]));
        return 0;
    }
    if (argc < 2)
        return 2;
    where = argv[1];
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "first") == 0)
            from_first = 1;
        else if (strcmp(argv[i], "reliable") == 0)
            reliable = 1;
        else if (strcmp(argv[i], "history") == 0 && i + 1 < argc)
            history = (uint32_t)atoi(argv[++i]);
        else if (strcmp(argv[i], "leases") == 0 && i + 1 < argc)
            max_leases = (uint32_t)atoi(argv[++i]);
        else
            return 2;
    }
    if (*where != '/') {
        bell_use(&topic_bell);
        join_any();
        /* A publisher that this first listing does not have started after the subscription: read it from its first sample. */
        from_first = 1;
    }
    say("\"ready\"");
    while ((order = next_order()) != NULL)
        obey(order);
    if (s.control != NULL)
        leave(1);
    if (topic_bell.word != NULL)
        bell_leave(&topic_bell);
    return 0;
}
