/* SPDX-License-Identifier: Apache-2.0
 *
 * writer WHERE CAPACITY [depth N] [loans N] [spare N] [later N] [first N] [subscribers N] [policy N] [type HASH FILE]: a publisher,
 * written from idl/FORMAT.md alone.
 *
 * WHERE is a topic, or the path of a flink if it starts with `/`. CAPACITY is the size of a slot in bytes. HASH is the type hash in
 * hexadecimal, FILE has the schema section; without them the segment carries bytes. Each line of stdin is an order; each is
 * answered with one line of JSON:
 *
 *     publish HEX          commit this payload: its sequence, or {"error": ...} if there is no room
 *     block HEX            the same, but wait for room
 *     batch HEX HEX ...    commit these with one wake-up: the last sequence
 *     storm N              commit N samples as fast as there is room, each word of a sample its sequence: the last sequence
 *     grow CAPACITY        add a pool of `later` slots
 *     evict R              evict reader R
 *     reap                 clear the bits of dead readers: their number
 *     counts               [published, attached readers]
 *     seal                 seal the segment, remove the names, and end */
#include "stranger.h"

static segment s = {.lock = -1, .probe = -1};
static bell topic_bell;
static char flink[PATH_MAX], temporary[PATH_MAX], directory[PATH_MAX];
static uint8_t header[HEADER_SIZE];
static uint64_t published, capacity;
static uint32_t slots, later; /* `later`: the slots of the pool that `grow` adds */

/* The owner's private state: readers can write every byte of the control object, so the owner does not use it. */
enum { FREE, LOANED, COMMITTED, RETIRED };
static uint8_t *states;
static uint32_t *ring_slots;

static void put32(int at, uint32_t value)
{
    memcpy(header + at, &value, 4);
}

static void put64(int at, uint64_t value)
{
    memcpy(header + at, &value, 8);
}

static uint64_t round_up(uint64_t size, uint64_t alignment)
{
    return (size + alignment - 1) / alignment * alignment;
}

/* --- create --- */

/* Section 3: the sections, one after the other. */
static void lay_out(void)
{
    uint32_t ring = 2, depth = field32(header, H_DEPTH), words = (field32(header, H_MAX_SUBSCRIBERS) + 63) / 64;
    uint64_t next = HEADER_SIZE;
    while (ring < 2 * depth)
        ring *= 2;
    memcpy(header, MAGIC, 8);
    put32(H_FORMAT, 1);
    put32(H_HEADER_SIZE, HEADER_SIZE);
    put32(H_RING_CAPACITY, ring);
    put32(H_READER_WORDS, words);
    put32(H_PEER_SIZE, PEER_SIZE);
    put32(H_SLOT_SIZE, S_READERS + 8 * words <= ALIGN ? ALIGN : (uint32_t)round_up(S_READERS + 8 * words, 64));
    put32(H_READERS_AT, S_READERS);
    for (int i = 0; i < SECTION_COUNT; i++) {
        put64(H_SECTION_AT + 8 * i, next);
        next = round_up(next + section_bytes(header, i), ALIGN);
    }
    put64(H_CONTROL_SIZE, next);
}

/* Create an object and reserve its memory; for the control object, take the owner's lock. */
static uint8_t *new_object(const char *path, uint64_t size, int *fd)
{
    uint8_t *memory;
    *fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (*fd < 0)
        fail(path);
    if (strstr(path, "-p") == NULL && !lock_bytes(*fd, F_WRLCK, OWNER_BYTE, 1))
        fail("lock");
    if (posix_fallocate(*fd, 0, (off_t)size) != 0)
        fail("memory");
    memory = map_apart(*fd, size, 1);
    if (memory == NULL)
        fail("map");
    memset(memory, 0, size); /* so that no page faults occur later */
    return memory;
}

/* Section 7, pools: the entry is written before its state, and its state before the ring names any of its slots. */
static void add_pool(uint32_t count, uint64_t bytes)
{
    char path[64];
    struct stat info;
    uint8_t *entry = section(&s, POOLS) + POOL_SIZE * s.pool_count;
    pool *p = &s.pools[s.pool_count];
    int fd;
    object_path(path, sizeof path, s.name, (int)s.pool_count);
    p->bytes = bytes * count;
    p->memory = new_object(path, p->bytes, &fd);
    if (fstat(fd, &info) != 0)
        fail(path);
    close(fd);
    p->capacity = *u64_at(entry, K_CAPACITY) = bytes;
    p->first_slot = *u32_at(entry, K_FIRST_SLOT) = s.slot_count;
    p->slot_count = *u32_at(entry, K_SLOT_COUNT) = count;
    *u64_at(entry, K_INODE) = (uint64_t)info.st_ino;
    store(u32_at(entry, K_STATE), 1, release);
    fetch_add(u32_at(section(&s, POOL_GENERATION), 0), 1, release);
    s.slot_count += count;
    s.pool_count++;
}

static void write_temporary(void)
{
    int fd = open(temporary, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, s.name, 20) != 20)
        fail(temporary);
    close(fd);
}

static void create(uint8_t *schema)
{
    char path[64];
    struct stat info;
    uint64_t id;
    if (getentropy(&id, sizeof id) != 0)
        fail("id");
    snprintf(s.name, sizeof s.name, "/zs-%016llx", (unsigned long long)id);
    if (*directory != 0) {
        make_directories(directory);
        snprintf(flink, sizeof flink, "%.4000s/%016llx.flink", directory, (unsigned long long)id);
    }
    snprintf(temporary, sizeof temporary, "%.*s.%.300s.%016llx.tmp", (int)(strrchr(flink, '/') + 1 - flink), flink,
             strrchr(flink, '/') + 1, (unsigned long long)id);
    write_temporary();

    put64(H_SEGMENT_ID, id);
    put32(H_OWNER_PID, (uint32_t)getpid());
    put64(H_CREATED_MONOTONIC, now_ns());
    memcpy(header + H_OWNER_NAME, "stranger", 8);
    lay_out();
    memcpy(s.header, header, HEADER_SIZE);
    object_path(path, sizeof path, s.name, -1);
    s.mapped = field64(header, H_CONTROL_SIZE);
    s.control = new_object(path, s.mapped, &s.lock);
    s.probe = open_regular(path, O_RDONLY);
    if (fstat(s.lock, &info) != 0 || info.st_nlink != 1)
        fail("the object was removed"); /* a cleaner removed the object; another name would be needed */
    bind_header(&s);

    memcpy(s.control, header, HEADER_SIZE); /* with state CREATING */
    published = s.first_sequence - 1;
    *u64_at(section(&s, PUBLISHED), 0) = published;
    for (uint32_t i = 0; i < s.ring_capacity; i++)
        *u64_at(section(&s, RING), 8 * i) = published << 16;
    add_pool(slots - later, capacity);
    if (schema != NULL)
        memcpy(section(&s, SCHEMA), schema, field64(header, H_SCHEMA_SIZE));
    free(schema);
    store(u32_at(s.control, H_STATE), OPEN, release);
    if (fstat(s.lock, &info) != 0 || info.st_nlink != 1)
        fail("the object was removed");
    if (link(temporary, flink) != 0)
        fail(flink);
    unlink(temporary);
    states = calloc(slots, 1);
    ring_slots = calloc(s.ring_capacity, sizeof *ring_slots);
}

/* --- samples --- */

/* Whether one more sample would retire one that a reliable reader has not taken. */
static int window_is_full(uint64_t next)
{
    if (s.policy == EVICT || next < s.first_sequence + s.depth)
        return 0;
    for (uint32_t r = 0; r < s.max_subscribers; r++) {
        uint64_t active = load(u64_at(section(&s, ACTIVE), 8 * (r / 64)), seq_cst);
        uint64_t reliable = load(u64_at(section(&s, RELIABLE), 8 * (r / 64)), relaxed);
        uint32_t ended = load(u32_at(section(&s, EVICTED), 4 * (int)r), relaxed);
        if ((active & reliable & UINT64_C(1) << r % 64) == 0 || (ended != 0 && ended == load(u32_at(peer_entry(&s, r), P_EPOCH), relaxed)))
            continue;
        if (load(u64_at(peer_entry(&s, r), P_CURSOR), seq_cst) < next - s.depth)
            return 1;
    }
    return 0;
}

static int is_read(uint32_t slot)
{
    for (uint32_t w = 0; w < s.reader_words; w++) {
        uint32_t left = s.max_subscribers - 64 * w;
        uint64_t real = left >= 64 ? UINT64_MAX : (UINT64_C(1) << left) - 1;
        if ((load(readers_word(&s, slot, 64 * w), seq_cst) & real) != 0)
            return 1;
    }
    return 0;
}

static int reserve(uint32_t *slot, uint64_t size)
{
    if (window_is_full(published + 1))
        return 0;
    for (*slot = 0; *slot < s.slot_count; (*slot)++)
        if (size <= pool_of(&s, *slot)->capacity && (states[*slot] == FREE || (states[*slot] == RETIRED && !is_read(*slot)))) {
            store(u64_at(slot_entry(&s, *slot), S_REFERENCE), 0, seq_cst);
            if (states[*slot] == RETIRED && is_read(*slot))
                continue;
            states[*slot] = LOANED;
            return 1;
        }
    return 0;
}

static void count(int offset, uint64_t more)
{
    uint64_t *word = u64_at(section(&s, COUNTERS), offset);
    store(word, load(word, relaxed) + more, relaxed);
}

static void place(uint32_t slot, uint64_t size)
{
    uint8_t *entry = slot_entry(&s, slot);
    uint64_t n = published + 1;
    store(u64_at(entry, S_PUBLISHED_NS), now_ns(), relaxed);
    store(u64_at(entry, S_SIZE), size, relaxed);
    store(u32_at(entry, S_FLAGS), 0, relaxed);
    store(u64_at(entry, S_SEQUENCE), n, release);
    store(ring_word(&s, n), n << 16 | slot, release);
    store(u64_at(section(&s, PUBLISHED), 0), n, release);
    published = n;
    states[slot] = COMMITTED;
    ring_slots[n & (s.ring_capacity - 1)] = slot;
    count(C_PUBLISHED, 1);
    count(C_BYTES, size);
}

static void retire(void)
{
    if (published - s.first_sequence >= s.depth) {
        uint32_t oldest = ring_slots[(published - s.depth) & (s.ring_capacity - 1)];
        store(u64_at(slot_entry(&s, oldest), S_SEQUENCE), 0, seq_cst);
        states[oldest] = RETIRED;
    }
}

static uint64_t size_of(const char *hex)
{
    return strcspn(hex, " ") / 2;
}

static uint64_t fill(uint32_t slot, const char *hex)
{
    pool *p = pool_of(&s, slot);
    for (uint64_t i = 0; i < size_of(hex); i++) {
        unsigned byte;
        sscanf(hex + 2 * i, "%2x", &byte);
        p->memory[(slot - p->first_slot) * p->capacity + i] = (uint8_t)byte;
    }
    return size_of(hex);
}

static uint32_t reap(void)
{
    char path[64];
    uint32_t reaped = 0;
    int own;
    object_path(path, sizeof path, s.name, -1);
    own = open_regular(path, O_RDWR); /* a description without locks, because GETLK does not report own locks */
    for (uint32_t r = 0; r < s.max_subscribers; r++) {
        uint64_t bit = UINT64_C(1) << r % 64;
        int left = (load(u64_at(section(&s, ACTIVE), 8 * (r / 64)), seq_cst) & bit) != 0;
        for (uint32_t slot = 0; slot < s.slot_limit && !left; slot++)
            left = (load(readers_word(&s, slot, r), relaxed) & bit) != 0;
        if (left && !reader_lives(&s, r) && lock_bytes(own, F_WRLCK, READER_BYTE + (int)r, 1)) {
            clear_reader(&s, r);
            lock_bytes(own, F_UNLCK, READER_BYTE + (int)r, 1);
            reaped++;
        }
    }
    close(own);
    move_space(&s);
    return reaped;
}

/* Wait for room. At most 20 ms at a time, because a reader that dies wakes no owner. */
static uint32_t reserve_blocking(uint64_t size)
{
    uint32_t *space = u32_at(section(&s, SPACE), 0), *waiting = u32_at(section(&s, WAITING), 0);
    uint32_t slot, seen;
    fetch_add(waiting, 1, seq_cst);
    for (;;) {
        seen = load(space, acquire);
        if (reserve(&slot, size))
            break;
        sleep_on(space, seen, 20);
        if (load(space, acquire) == seen)
            reap();
    }
    fetch_add(waiting, (uint32_t)-1, seq_cst);
    return slot;
}

static void publish(const char *hex, int wait)
{
    uint32_t slot;
    if (wait)
        slot = reserve_blocking(size_of(hex));
    else if (!reserve(&slot, size_of(hex))) {
        say("{\"error\": \"no room\"}");
        return;
    }
    place(slot, fill(slot, hex));
    announce(&s);
    retire();
    say("%llu", (unsigned long long)published);
}

static void batch(const char *hex)
{
    uint32_t slot, unannounced = 0;
    for (; hex != NULL; hex = strchr(hex, ' ')) {
        hex += *hex == ' ';
        if (unannounced == 64 || (unannounced > 0 && s.policy != EVICT)) { /* before reserve loads ACTIVE */
            announce(&s);
            unannounced = 0;
        }
        if (!reserve(&slot, size_of(hex)))
            break;
        place(slot, fill(slot, hex));
        retire();
        unannounced++;
    }
    if (unannounced > 0)
        announce(&s);
    say("%llu", (unsigned long long)published);
}

static void storm(uint64_t samples)
{
    for (uint64_t i = 0; i < samples; i++) {
        uint32_t slot = reserve_blocking(capacity);
        for (uint64_t at = 0; at < capacity; at += 8)
            *u64_at(pool_of(&s, slot)->memory, (slot - pool_of(&s, slot)->first_slot) * capacity + at) = published + 1;
        place(slot, capacity);
        announce(&s);
        retire();
    }
    say("%llu", (unsigned long long)published);
}

static unsigned attached(void)
{
    unsigned found = 0;
    for (uint32_t r = 0; r < s.max_subscribers; r++)
        if ((load(u64_at(section(&s, ACTIVE), 8 * (r / 64)), seq_cst) & UINT64_C(1) << r % 64) != 0 &&
            reader_lives(&s, r))
            found++;
    return found;
}

static void seal(void)
{
    char path[64];
    rename(flink, temporary);
    store(u32_at(s.control, H_STATE), SEALED, release);
    announce(&s);
    for (int k = (int)s.pool_count - 1; k >= -1; k--) { /* the control object last */
        object_path(path, sizeof path, s.name, k);
        unlink(path);
    }
    unlink(temporary);
    if (*directory != 0)
        remove_empty(directory);
    close(s.lock);
    if (topic_bell.word != NULL) {
        bell_ring(&topic_bell);
        bell_leave(&topic_bell);
    }
}

/* Whether this is the flink of a live publisher with another type. */
static int has_other_type(const char *path)
{
    char name[32];
    segment other;
    int differs;
    if (strcmp(path, flink) == 0 || !read_flink(path, name) || strcmp(attach(&other, name), "ok") != 0)
        return 0;
    differs = state_of(&other) == OPEN && owner_lives(&other) &&
              (field32(other.header, H_PAYLOAD_KIND) != field32(header, H_PAYLOAD_KIND) ||
               memcmp(other.header + H_TYPE_HASH, header + H_TYPE_HASH, 16) != 0);
    detach(&other);
    return differs;
}

static uint8_t *read_schema(const char *path, uint64_t *size)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t *bytes;
    if (fd < 0 || fstat(fd, &info) != 0)
        fail(path);
    bytes = malloc((size_t)info.st_size);
    if (bytes == NULL || read(fd, bytes, (size_t)info.st_size) != info.st_size)
        fail(path);
    close(fd);
    *size = (uint64_t)info.st_size;
    return bytes;
}

static void obey(const char *order)
{
    if (strncmp(order, "publish ", 8) == 0)
        publish(order + 8, 0);
    else if (strncmp(order, "block ", 6) == 0)
        publish(order + 6, 1);
    else if (strncmp(order, "batch ", 6) == 0)
        batch(order + 6);
    else if (strncmp(order, "storm ", 6) == 0)
        storm(strtoull(order + 6, NULL, 10));
    else if (strncmp(order, "evict ", 6) == 0) {
        int r = atoi(order + 6);
        store(u32_at(section(&s, EVICTED), 4 * r), load(u32_at(peer_entry(&s, (uint32_t)r), P_EPOCH), relaxed), relaxed);
        say("true");
    } else if (strncmp(order, "grow ", 5) == 0) {
        add_pool(later, round_up(strtoull(order + 5, NULL, 10), SLOT_ALIGN));
        say("true");
    } else if (strcmp(order, "reap") == 0)
        say("%u", (unsigned)reap());
    else if (strcmp(order, "counts") == 0)
        say("[%llu, %u]", (unsigned long long)published, attached());
    else
        say("{\"error\": \"no such order\"}");
}

int main(int argc, char **argv)
{
    uint8_t *schema = NULL;
    uint64_t schema_size = 0;
    char *order;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (argc < 3)
        return 2;
    capacity = round_up(strtoull(argv[2], NULL, 10), SLOT_ALIGN);
    put32(H_DEPTH, 2);
    put32(H_MAX_LOANS, 1);
    put32(H_SPARE_SLOTS, 4);
    put32(H_MAX_SUBSCRIBERS, 8);
    put32(H_POOL_LIMIT, 1);
    put64(H_FIRST_SEQUENCE, 1);
    for (int i = 3; i + 1 < argc; i += 2) {
        const char *what = argv[i];
        uint32_t value = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        if (strcmp(what, "type") == 0 && i + 2 < argc) {
            for (int k = 0; k < 16; k++) {
                unsigned byte;
                sscanf(argv[i + 1] + 2 * k, "%2x", &byte);
                header[H_TYPE_HASH + k] = (uint8_t)byte;
            }
            schema = read_schema(argv[i + 2], &schema_size);
            put64(H_SCHEMA_SIZE, schema_size);
            put32(H_PAYLOAD_KIND, 1);
            i++;
        } else if (strcmp(what, "first") == 0) {
            put64(H_FIRST_SEQUENCE, strtoull(argv[i + 1], NULL, 10));
        } else if (strcmp(what, "later") == 0) {
            later = value;
            put32(H_POOL_LIMIT, 2);
        } else
            put32(strcmp(what, "depth") == 0         ? H_DEPTH
                  : strcmp(what, "loans") == 0       ? H_MAX_LOANS
                  : strcmp(what, "spare") == 0       ? H_SPARE_SLOTS
                  : strcmp(what, "subscribers") == 0 ? H_MAX_SUBSCRIBERS
                                                     : H_POLICY,
                  value);
    }
    slots = field32(header, H_DEPTH) + field32(header, H_MAX_LOANS) + field32(header, H_SPARE_SLOTS);
    put32(H_SLOT_LIMIT, slots);
    if (*argv[1] == '/')
        snprintf(flink, sizeof flink, "%s", argv[1]);
    else {
        topic_directory(directory, sizeof directory, argv[1]);
        bell_use(&topic_bell);
        if (any_flink(argv[1], has_other_type)) {
            bell_leave(&topic_bell);
            free(schema);
            say("{\"error\": \"other type\"}");
            return 0;
        }
    }
    create(schema);
    if (topic_bell.word != NULL) {
        if (any_flink(argv[1], has_other_type)) { /* a publisher that was created at the same time */
            seal();
            say("{\"error\": \"other type\"}");
            return 0;
        }
        bell_ring(&topic_bell);
    }
    say("\"%s\"", s.name);
    while ((order = next_order()) != NULL && strcmp(order, "seal") != 0)
        obey(order);
    seal();
    if (order != NULL)
        say("true");
    return 0;
}
