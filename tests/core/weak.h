/* SPDX-License-Identifier: Apache-2.0
 *
 * weak.h - a second backend of zs_atomic.h, which runs the shipped headers under the memory model of C11: loads may read stale
 * values.
 *
 * The model is RC11 without fences, which no header uses: C11 as repaired by Lahav et al. (PLDI 2017), where a load reads only
 * values that were stored before. Each word is a list of messages in modification order. An actor has a view: its position in the
 * list of each word. A load may read any message from that position on. A release store attaches its actor's view to the message,
 * and an acquire load adds it to its own. An RMW reads the last message, appends the next one, and passes on the attached view (a
 * release sequence). seq_cst accesses have one total order, which agrees with happens-before, modification order and the values
 * that were read: each access adds its edges to a graph, and a load cannot read a message that would close a cycle.
 *
 * The payload is not atomic. Its reads and writes carry vector clocks, and two that are not ordered are a data race, which is an
 * error in whatever order they took place. So the model also finds a store that could take effect before an earlier load of the
 * payload.
 *
 * A futex wait compares with any message that its actor may read, but not with one older than what the last waker of that word had
 * seen: futex(2) orders futex operations with each other, and promises nothing more.
 *
 * The search is that of explore.h. Each decision has a default answer (continue, read the newest message), and all runs with at
 * most `deviations` other answers are tried. There is a step before each access except relaxed stores: a switch before the step
 * that precedes such a store has the same effect.
 *
 * The orders are variables, defined in weak_orders.h, which is generated from zs_atomic.h. So one program tries all of them.
 */
#ifndef WEAK_H
#define WEAK_H

#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "weak_orders.h"

#include "zs_atomic.h"

static uint64_t weak_load(const void *word, int size, int order);
static void weak_store(void *word, int size, uint64_t value, int order);
enum weak_change { WEAK_ADD, WEAK_OR, WEAK_AND, WEAK_EXCHANGE, WEAK_REPLACE };
static uint64_t weak_rmw(void *word, int size, enum weak_change change, uint64_t value, int order);
static int weak_replace(uint64_t *word, uint64_t seen, uint64_t value, int order);
static long weak_syscall(long number, void *address, int operation, uint32_t value, ...);
static void weak_count(uint64_t *counter, uint64_t more);
static void weak_copy(void *to, const void *from, size_t size);

#undef zs_load
#undef zs_store
#undef zs_fetch_add
#undef zs_fetch_or
#undef zs_fetch_and
#undef zs_exchange
#undef zs_replace
#define zs_load(word, order) ((__typeof__(*(word) + 0))weak_load((word), (int)sizeof *(word), (order)))
#define zs_store(word, value, order) weak_store((word), (int)sizeof *(word), (uint64_t)(value), (order))
#define zs_fetch_add(word, value, order) weak_rmw((word), (int)sizeof *(word), WEAK_ADD, (uint64_t)(value), (order))
#define zs_fetch_or(word, value, order) weak_rmw((word), (int)sizeof *(word), WEAK_OR, (uint64_t)(value), (order))
#define zs_fetch_and(word, value, order) weak_rmw((word), (int)sizeof *(word), WEAK_AND, (uint64_t)(value), (order))
#define zs_exchange(word, value, order) weak_rmw((word), (int)sizeof *(word), WEAK_EXCHANGE, (uint64_t)(value), (order))
#define zs_replace(word, seen, value, order) weak_replace((word), (seen), (value), (order))
#define zs_count weak_count
#define ZS_COPY weak_copy
#define syscall(...) weak_syscall(__VA_ARGS__)

#include "world.h"

#undef syscall

#define WEAK_ACTORS 3
#define WEAK_WORDS 160
#define WEAK_MESSAGES 1024
#define WEAK_EVENTS 256
#define WEAK_PLAIN 16
#define WEAK_DECISIONS 4096

typedef struct weak_knowledge {
    uint8_t view[WEAK_WORDS];
    uint32_t clock[WEAK_ACTORS];
} weak_knowledge;

typedef struct weak_message {
    uint64_t value;
    int next;    /* in modification order */
    int carries; /* whether `known` is valid, for acquire loads */
    weak_knowledge known;
} weak_message;

typedef struct weak_word {
    void *address;
    int size, first, last, count;
    int woken; /* a futex wait reads no older message */
} weak_word;

/* A seq_cst access. Its position is 2t for the write of message t, and 2t + 1 for a read of it. */
typedef struct weak_event {
    int actor, word, position;
    uint32_t epoch;
    uint64_t before[WEAK_EVENTS / 64];
} weak_event;

typedef struct weak_plain_word {
    const void *address;
    int writer;
    uint32_t written, read[WEAK_ACTORS];
} weak_plain_word;

enum weak_state { WEAK_READY, WEAK_ASLEEP, WEAK_WAITING, WEAK_DONE };

typedef struct weak_actor {
    ucontext_t context;
    void (*run)(void);
    enum weak_state state;
    int asleep_on;
    int (*until)(void);
    uint8_t *stack;
    weak_knowledge known;
} weak_actor;

static struct {
    weak_actor actors[WEAK_ACTORS];
    weak_word words[WEAK_WORDS];
    weak_message messages[WEAK_MESSAGES];
    weak_event events[WEAK_EVENTS];
    weak_plain_word plain[WEAK_PLAIN];
    int16_t table[1024];
    ucontext_t home;
    int word_count, message_count, event_count, plain_count;
    int count, current, active, abandoned, deviations_left, decision, known;
    uint8_t answers[WEAK_DECISIONS], options[WEAK_DECISIONS];
    uint64_t runs, impossible, steps;
    const world *world; /* for the names of words */
} weak;

/* The accesses of the run, one in each line. In shared memory, so that the parent can print them after a failed check. */
static struct weak_log {
    size_t length;
    char text[1 << 16];
} *weak_log;

static void weak_note(const char *what, const void *address, uint64_t value, int order, const char *more);

/* --- decisions ---------------------------------------------------------------------------------------------------------------- */

static int weak_decide(int options)
{
    int i = weak.decision++;
    CHECK(i < WEAK_DECISIONS);
    if (i >= weak.known) {
        weak.known = i + 1;
        weak.answers[i] = 0;
    }
    weak.options[i] = (uint8_t)options;
    return weak.answers[i];
}

/* Answer 0 is the default; any other is a deviation. */
static int weak_deviate(int options)
{
    int answer;
    if (options <= 1 || weak.deviations_left == 0)
        return 0;
    answer = weak_decide(options);
    weak.deviations_left -= answer > 0;
    return answer;
}

static void weak_switch(int next)
{
    weak_actor *from = &weak.actors[weak.current], *to = &weak.actors[next];
    weak.current = next;
    to->state = WEAK_READY;
    if (from != to)
        swapcontext(&from->context, &to->context);
}

static void weak_step(void)
{
    int others[WEAK_ACTORS], count = 0, answer;
    weak.steps++;
    for (int i = 0; i < weak.count; i++)
        if (i != weak.current && weak.actors[i].state == WEAK_READY)
            others[count++] = i;
    answer = weak_deviate(count + 1);
    if (answer > 0)
        weak_switch(others[answer - 1]);
}

/* End a run that no execution of C11 corresponds to. */
static void weak_abandon(void)
{
    weak.abandoned = 1;
    swapcontext(&weak.actors[weak.current].context, &weak.home);
}

static void weak_yield(void)
{
    int ready[WEAK_ACTORS], count = 0, done = 1;
    for (int i = 0; i < weak.count; i++) {
        weak_actor *actor = &weak.actors[i];
        if (actor->state == WEAK_READY || (actor->state == WEAK_WAITING && actor->until()))
            ready[count++] = i;
        done &= actor->state == WEAK_DONE;
    }
    if (count == 0) {
        if (!done)
            fprintf(stderr, "%s: an actor sleeps forever\n", check_test);
        CHECK(done);
        swapcontext(&weak.actors[weak.current].context, &weak.home);
        return;
    }
    weak_switch(ready[count == 1 ? 0 : weak_decide(count)]);
}

/* Wait for a condition outside of the protocol. The view does not change. */
static void weak_await(int (*until)(void))
{
    weak_actor *self = &weak.actors[weak.current];
    while (!until()) {
        self->state = WEAK_WAITING;
        self->until = until;
        weak_yield();
    }
}

/* --- memory ------------------------------------------------------------------------------------------------------------------- */

static uint64_t weak_peek(const void *address, int size)
{
    uint64_t value = 0;
    memcpy(&value, address, (size_t)size); /* little-endian, as the format is */
    return value;
}

static int weak_new_message(uint64_t value)
{
    int m = weak.message_count++;
    CHECK(m < WEAK_MESSAGES);
    weak.messages[m].value = value;
    weak.messages[m].next = -1;
    weak.messages[m].carries = 0;
    return m;
}

static int weak_word_at(const void *address, int size)
{
    unsigned slot = (unsigned)((uintptr_t)address >> 2) * 2654435761u >> 22;
    weak_word *word;
    while (weak.table[slot] != 0) {
        word = &weak.words[weak.table[slot] - 1];
        if (word->address == address) {
            CHECK(word->size == size);
            return weak.table[slot] - 1;
        }
        slot = (slot + 1) % 1024;
    }
    CHECK(weak.word_count < WEAK_WORDS);
    word = &weak.words[weak.word_count++];
    weak.table[slot] = (int16_t)weak.word_count;
    word->address = (void *)(uintptr_t)address;
    word->size = size;
    word->first = word->last = weak_new_message(weak_peek(address, size));
    word->count = 1;
    word->woken = 0;
    return weak.word_count - 1;
}

static weak_knowledge *weak_self(void)
{
    return &weak.actors[weak.current].known;
}

static void weak_merge(weak_knowledge *to, const weak_knowledge *from)
{
    for (int i = 0; i < weak.word_count; i++)
        if (from->view[i] > to->view[i])
            to->view[i] = from->view[i];
    for (int i = 0; i < WEAK_ACTORS; i++)
        if (from->clock[i] > to->clock[i])
            to->clock[i] = from->clock[i];
}

static int weak_acquires(int order)
{
    return order == __ATOMIC_ACQUIRE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

static int weak_releases(int order)
{
    return order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

static int weak_in(const uint64_t *set, int event)
{
    return (int)(set[event / 64] >> (event % 64) & 1);
}

static void weak_add_before(uint64_t *set, int event)
{
    for (int w = 0; w < WEAK_EVENTS / 64; w++)
        set[w] |= weak.events[event].before[w];
    set[event / 64] |= UINT64_C(1) << (event % 64);
}

/* Add a seq_cst access of the current actor, whose clock is `clock`, to the total order. 0: there is no such order. */
static int weak_place(int word, int position, const uint32_t *clock, int commit)
{
    uint64_t before[WEAK_EVENTS / 64] = {0};
    int n = weak.event_count, after[WEAK_EVENTS], after_count = 0;
    for (int i = 0; i < n; i++) {
        const weak_event *e = &weak.events[i];
        if (e->actor == weak.current || clock[e->actor] >= e->epoch || (e->word == word && e->position < position)) {
            if (!weak_in(before, i))
                weak_add_before(before, i);
        } else if (e->word == word && e->position > position) {
            after[after_count++] = i;
        }
    }
    for (int i = 0; i < after_count; i++)
        if (weak_in(before, after[i]))
            return 0;
    if (!commit)
        return 1;
    CHECK(n < WEAK_EVENTS);
    weak.events[n].actor = weak.current;
    weak.events[n].word = word;
    weak.events[n].position = position;
    weak.events[n].epoch = weak_self()->clock[weak.current];
    memcpy(weak.events[n].before, before, sizeof before);
    weak.event_count++;
    for (int i = 0; i < after_count; i++)
        for (int j = 0; j < n; j++)
            if (j == after[i] || weak_in(weak.events[j].before, after[i]))
                weak_add_before(weak.events[j].before, n);
    return 1;
}

/* The clock of the actor after a load of a message with this order. */
static void weak_clock_after(const weak_message *m, int order, uint32_t *clock)
{
    memcpy(clock, weak_self()->clock, sizeof weak_self()->clock);
    if (m->carries && weak_acquires(order))
        for (int i = 0; i < WEAK_ACTORS; i++)
            if (m->known.clock[i] > clock[i])
                clock[i] = m->known.clock[i];
}

/* The name of a word, for the log. */
static const char *weak_name(const void *address, char *name, size_t room)
{
    const uint8_t *at = (const uint8_t *)address, *base = (const uint8_t *)weak.world->control;
    const zs_segment *s = &weak.world->segment;
    static const char *const sections[] = {"published", "generation", "parked", "space", "waiting", "active", "reliable", "evicted",
                                           "counters", "peer", "ring", "slot", "pool_generation", "pools", "schema"};
    size_t offset = (size_t)(at - base);
    snprintf(name, room, "private %p", address);
    if (at < base || offset >= weak.world->header.control_size)
        return name;
    snprintf(name, room, "header+%zu", offset);
    for (int i = 0; i < ZS_SECTION_COUNT; i++)
        if (offset >= weak.world->header.section_at[i]) {
            size_t inside = offset - weak.world->header.section_at[i];
            if (i == ZS_AT_RING)
                snprintf(name, room, "ring[%zu]", inside / 8);
            else if (i == ZS_AT_SLOTS)
                snprintf(name, room, "slot[%zu].%s", inside / s->slot_size,
                         inside % s->slot_size == 0 ? "sequence" : inside % s->slot_size == s->readers_at ? "readers" : "other");
            else if (i == ZS_AT_PEERS)
                snprintf(name, room, "peer[%zu].%s", inside / s->peer_size, inside % s->peer_size == offsetof(zs_peer, cursor) ? "cursor" : "other");
            else
                snprintf(name, room, "%s", sections[i]);
        }
    return name;
}

static void weak_note(const char *what, const void *address, uint64_t value, int order, const char *more)
{
    static const char *const orders[] = {"relaxed", "consume", "acquire", "release", "acq_rel", "seq_cst"};
    char name[64];
    if (weak_log == NULL || weak_log->length + 200 > sizeof weak_log->text)
        return;
    weak_log->length += (size_t)snprintf(weak_log->text + weak_log->length, 200, "%*s%c: %s %s %#llx %s%s\n", weak.current * 4, "",
                                         'A' + weak.current, what, weak_name(address, name, sizeof name), (unsigned long long)value,
                                         order < 0 ? "" : orders[order], more);
}

/* Read one message of a word, no older than `oldest`. */
static uint64_t weak_read(int w, int oldest, int order)
{
    weak_word *word = &weak.words[w];
    weak_knowledge *self = weak_self();
    int from = self->view[w] > oldest ? self->view[w] : oldest;
    int possible[64], at[64], count = 0, chosen;
    uint32_t clock[WEAK_ACTORS];
    weak_message *m;
    for (int i = 0, message = word->first; message >= 0; i++, message = weak.messages[message].next) {
        if (i < from)
            continue;
        if (order == __ATOMIC_SEQ_CST) {
            weak_clock_after(&weak.messages[message], order, clock);
            if (!weak_place(w, 2 * i + 1, clock, 0))
                continue;
        }
        CHECK(count < 64);
        possible[count] = message;
        at[count++] = i;
    }
    if (count == 0) {
        weak_abandon();
        return 0;
    }
    chosen = count - 1 - weak_deviate(count);
    m = &weak.messages[possible[chosen]];
    if (order == __ATOMIC_SEQ_CST) {
        weak_clock_after(m, order, clock);
        weak_place(w, 2 * at[chosen] + 1, clock, 1);
    }
    self->view[w] = (uint8_t)at[chosen];
    weak_note("load", word->address, m->value, order, chosen + 1 < count ? ", stale" : "");
    if (m->carries && weak_acquires(order))
        weak_merge(self, &m->known);
    return m->value;
}

static void weak_append(int w, uint64_t value, int order, const weak_message *follows)
{
    weak_word *word = &weak.words[w];
    weak_knowledge *self = weak_self();
    int message = weak_new_message(value);
    weak_message *m = &weak.messages[message];
    weak.messages[word->last].next = message;
    word->last = message;
    CHECK(word->count < 255);
    self->view[w] = (uint8_t)word->count++;
    if (weak_releases(order)) {
        m->carries = 1;
        m->known = *self;
    }
    if (follows != NULL && follows->carries) {
        if (!m->carries) {
            memset(&m->known, 0, sizeof m->known);
            m->carries = 1;
        }
        weak_merge(&m->known, &follows->known);
    }
    if (weak_releases(order))
        self->clock[weak.current]++;
    memcpy(word->address, &value, (size_t)word->size); /* the newest value is in memory, too */
}

static uint64_t weak_load(const void *address, int size, int order)
{
    if (!weak.active)
        return weak_peek(address, size);
    weak_step();
    return weak_read(weak_word_at(address, size), 0, order);
}

static void weak_store(void *address, int size, uint64_t value, int order)
{
    int w;
    if (!weak.active) {
        memcpy(address, &value, (size_t)size);
        return;
    }
    if (order != __ATOMIC_RELAXED)
        weak_step();
    w = weak_word_at(address, size);
    if (order == __ATOMIC_SEQ_CST && !weak_place(w, 2 * weak.words[w].count, weak_self()->clock, 1))
        weak_abandon();
    weak_append(w, value, order, NULL);
    weak_note("store", address, value, order, "");
}

static uint64_t weak_rmw(void *address, int size, enum weak_change change, uint64_t value, int order)
{
    uint64_t old, new, mask = size == 8 ? ~UINT64_C(0) : (UINT64_C(1) << (8 * size)) - 1;
    uint32_t clock[WEAK_ACTORS];
    weak_knowledge *self = weak_self();
    weak_message *read;
    int w = 0;
    if (weak.active) {
        if (change != WEAK_REPLACE)
            weak_step();
        self = weak_self();
        w = weak_word_at(address, size);
        old = weak.messages[weak.words[w].last].value;
    } else {
        old = weak_peek(address, size);
    }
    switch (change) {
    case WEAK_ADD: new = (old + value) & mask; break;
    case WEAK_OR: new = old | (value & mask); break;
    case WEAK_AND: new = old & value; break;
    default: new = value & mask; break;
    }
    if (!weak.active) {
        memcpy(address, &new, (size_t)size);
        return old;
    }
    read = &weak.messages[weak.words[w].last];
    weak_clock_after(read, order, clock);
    if (order == __ATOMIC_SEQ_CST && !weak_place(w, 2 * weak.words[w].count, clock, 1))
        weak_abandon();
    self->view[w] = (uint8_t)(weak.words[w].count - 1);
    if (read->carries && weak_acquires(order))
        weak_merge(self, &read->known);
    weak_append(w, new, order, read);
    weak_note("change", address, new, order, "");
    return old;
}

/* A failed one changes nothing, also not what its actor knows: less than what C11 allows it to learn. */
static int weak_replace(uint64_t *word, uint64_t seen, uint64_t value, int order)
{
    uint64_t newest = weak_peek(word, 8);
    if (weak.active) {
        weak_step();
        newest = weak.messages[weak.words[weak_word_at(word, 8)].last].value;
    }
    if (newest != seen)
        return 0;
    weak_rmw(word, 8, WEAK_REPLACE, value, order);
    return 1;
}

/* Counters have one writer. Those in shared memory take no part in the protocol, so they are not simulated. */
static void weak_count(uint64_t *counter, uint64_t more)
{
    if (weak.active && !world_is_for_inspection(&weak.world->segment, counter))
        weak_store(counter, 8, *counter + more, __ATOMIC_RELAXED);
    else
        *counter += more;
}

static long weak_syscall(long number, void *address, int operation, uint32_t value, ...)
{
    int w;
    CHECK_EQUAL(number, SYS_futex);
    if (!weak.active)
        return 0;
    weak_step();
    w = weak_word_at(address, 4);
    if (operation == 1) {
        weak_note("wake", address, 0, -1, "");
        if (weak_self()->view[w] > weak.words[w].woken)
            weak.words[w].woken = weak_self()->view[w];
        for (int i = 0; i < weak.count; i++)
            if (weak.actors[i].state == WEAK_ASLEEP && weak.actors[i].asleep_on == w)
                weak.actors[i].state = WEAK_READY;
        return 0;
    }
    CHECK_EQUAL(operation, 9);
    if (weak_read(w, weak.words[w].woken, __ATOMIC_RELAXED) != value)
        return -1;
    weak_note("sleep", address, value, -1, "");
    weak.actors[weak.current].state = WEAK_ASLEEP;
    weak.actors[weak.current].asleep_on = w;
    weak_yield();
    return 0;
}

/* --- plain memory ------------------------------------------------------------------------------------------------------------- */

static weak_plain_word *weak_plain_at(const void *address)
{
    weak_plain_word *p;
    for (int i = 0; i < weak.plain_count; i++)
        if (weak.plain[i].address == address)
            return &weak.plain[i];
    CHECK(weak.plain_count < WEAK_PLAIN);
    p = &weak.plain[weak.plain_count++];
    memset(p, 0, sizeof *p);
    p->address = address;
    return p;
}

static void weak_write_plain(uint64_t *address, uint64_t value)
{
    if (weak.active) {
        weak_plain_word *p = weak_plain_at(address);
        int data_race = weak_self()->clock[p->writer] < p->written;
        for (int i = 0; i < WEAK_ACTORS; i++)
            data_race |= weak_self()->clock[i] < p->read[i];
        CHECK(!data_race);
        weak_note("write payload", address, value, -1, "");
        p->writer = weak.current;
        p->written = weak_self()->clock[weak.current];
    }
    *address = value;
}

static uint64_t weak_read_plain(const uint64_t *address)
{
    if (weak.active) {
        weak_plain_word *p = weak_plain_at(address);
        int data_race = weak_self()->clock[p->writer] < p->written;
        CHECK(!data_race);
        weak_note("read payload", address, *address, -1, "");
        p->read[weak.current] = weak_self()->clock[weak.current];
    }
    return *address;
}

static int weak_is_payload(const void *address)
{
    const uint8_t *byte = (const uint8_t *)address;
    return byte >= weak.world->payload && byte < weak.world->payload + weak.world->slot_capacity * weak.world->slot_count;
}

/* Copy one word into a payload, or out of one. The size is 8, or that of a sample whose size is its number. */
static void weak_copy(void *to, const void *from, size_t size)
{
    uint64_t value;
    (void)size;
    if (weak_is_payload(from))
        value = weak_read_plain((const uint64_t *)from);
    else
        memcpy(&value, from, 8);
    if (weak_is_payload(to))
        weak_write_plain((uint64_t *)to, value);
    else
        memcpy(to, &value, 8);
}

/* --- the search --------------------------------------------------------------------------------------------------------------- */

static void weak_main(void)
{
    for (;;) {
        weak.actors[weak.current].run();
        weak.actors[weak.current].state = WEAK_DONE;
        weak_yield();
    }
}

static void weak_begin(int i, void (*run)(void))
{
    enum { STACK = 1 << 17 };
    weak_actor *actor = &weak.actors[i];
    if (actor->stack == NULL)
        actor->stack = (uint8_t *)world_map(STACK);
    actor->run = run;
    actor->state = WEAK_READY;
    memset(&actor->known, 0, sizeof actor->known);
    actor->known.clock[i] = 1;
    getcontext(&actor->context);
    actor->context.uc_stack.ss_sp = actor->stack;
    actor->context.uc_stack.ss_size = STACK;
    actor->context.uc_link = NULL;
    makecontext(&actor->context, weak_main, 0);
}

/* Try every run with at most `deviations` deviations, plus WEAK_MORE of the environment. `before` prepares the world, `after`
 * checks it. Returns the number of runs. */
static uint64_t weak_all(int deviations, void (*before)(void), void (*after)(void), void (*const *actors)(void), int count)
{
    uint64_t began = weak.runs;
    const char *more = getenv("WEAK_MORE");
    if (more != NULL)
        deviations += atoi(more);
    weak.known = 0;
    weak.count = count;
    for (;;) {
        int last;
        weak.active = weak.abandoned = 0;
        weak.decision = 0;
        weak.deviations_left = deviations;
        weak.word_count = weak.message_count = weak.event_count = weak.plain_count = 0;
        memset(weak.table, 0, sizeof weak.table);
        before();
        if (weak_log != NULL)
            weak_log->length = 0;
        for (int i = 0; i < count; i++)
            weak_begin(i, actors[i]);
        weak.active = 1;
        weak.current = weak_decide(count);
        swapcontext(&weak.home, &weak.actors[weak.current].context);
        weak.active = 0;
        weak.runs++;
        if (weak.abandoned)
            weak.impossible++;
        else
            after();
        for (last = weak.decision; last-- > 0;)
            if (weak.answers[last] + 1 < weak.options[last])
                break;
        if (last < 0)
            return weak.runs - began;
        weak.answers[last]++;
        weak.known = last + 1;
    }
}

#endif
