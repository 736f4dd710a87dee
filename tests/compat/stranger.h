/* SPDX-License-Identifier: Apache-2.0
 *
 * stranger.h - the common part of reader.c and writer.c: the numbers of idl/FORMAT.md, the checks, the locks and discovery.
 *
 * Written from FORMAT.md alone, as an independent implementation would be. It includes nothing of zeroslot, so the tests notice a
 * mistake in the document. The section numbers in the comments are those of the document. */
#ifndef STRANGER_H
#define STRANGER_H

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Section 3: sections. */
enum { PUBLISHED, GENERATION, PARKED, SPACE, WAITING, ACTIVE, RELIABLE, EVICTED, COUNTERS, PEERS, RING, SLOTS, POOL_GENERATION, POOLS,
       SCHEMA, SECTION_COUNT };

/* Section 4: offsets. */
enum { H_FORMAT = 8, H_HEADER_SIZE = 12, H_CONTROL_SIZE = 16, H_SEGMENT_ID = 24, H_TYPE_HASH = 32, H_DEPTH = 48, H_RING_CAPACITY = 52,
       H_SLOT_LIMIT = 56, H_POOL_LIMIT = 60, H_MAX_SUBSCRIBERS = 64, H_READER_WORDS = 68, H_SPARE_SLOTS = 72, H_MAX_LOANS = 76,
       H_FIRST_SEQUENCE = 80, H_SCHEMA_SIZE = 88, H_PEER_SIZE = 96, H_SLOT_SIZE = 100, H_READERS_AT = 104, H_PAYLOAD_KIND = 108,
       H_INCOMPAT = 112, H_OWNER_PID = 128, H_POLICY = 132, H_CREATED_REALTIME = 144, H_CREATED_MONOTONIC = 152,
       H_TIME_NAMESPACE = 160, H_OWNER_NAME = 176, H_SECTION_AT = 208, H_RESERVE_SLOTS = 328, H_STATE = 332, HEADER_SIZE = 384 };
enum { P_EPOCH = 0, P_PID = 4, P_NAME = 16, P_ATTACHED = 48, P_FLAGS = 56, P_MAX_LEASES = 60, P_ANNOUNCEMENT = 64, P_WAKE_KIND = 72,
       P_TIME_NAMESPACE = 80, P_CURSOR = 128, P_TAKEN = 136, P_LOST = 144, P_SKIPPED = 152, P_LEASES = 160, P_LATENCY = 256,
       PEER_SIZE = 768 };
enum { S_SEQUENCE = 0, S_PUBLISHED_NS = 8, S_SIZE = 16, S_REFERENCE = 24, S_FLAGS = 32, S_READERS = 56, SLOT_SIZE = 64 };
enum { K_CAPACITY = 0, K_FIRST_SLOT = 8, K_SLOT_COUNT = 12, K_STATE = 16, K_INODE = 24, POOL_SIZE = 64 };
enum { C_PUBLISHED = 0, C_BYTES = 8, COUNTERS_SIZE = 128 };
enum { CREATING, OPEN, SEALED, DEAD };
enum { EVICT, BLOCK, RAISE };
enum { ALIGN = 128, SLOT_ALIGN = 128, MAX_SLOTS = 65535, MAX_SUBSCRIBERS = 1024, MAX_POOLS = 16 };
static const uint8_t MAGIC[8] = {0x89, 'Z', 'S', 'L', 'O', 'T', '\r', '\n'};

/* Section 6: bytes to lock. */
enum { OWNER_BYTE = 0, CLEANER_BYTES = 2, READER_BYTE = 64 };

#define relaxed __ATOMIC_RELAXED
#define acquire __ATOMIC_ACQUIRE
#define release __ATOMIC_RELEASE
#define seq_cst __ATOMIC_SEQ_CST
#define u32_at(base, offset) ((uint32_t *)(void *)((uint8_t *)(base) + (offset)))
#define u64_at(base, offset) ((uint64_t *)(void *)((uint8_t *)(base) + (offset)))
#define load __atomic_load_n
#define store __atomic_store_n
#define fetch_or __atomic_fetch_or
#define fetch_and __atomic_fetch_and
#define fetch_add __atomic_fetch_add

typedef struct {
    uint8_t *memory;
    uint32_t first_slot, slot_count;
    uint64_t capacity, bytes;
} pool;

typedef struct {
    uint8_t header[HEADER_SIZE]; /* the checked copy; none of it is loaded again */
    uint8_t *control;
    uint64_t mapped;             /* bytes of the mapping */
    int lock;                    /* the description with the locks; nothing is mapped through it */
    int probe;                   /* another description, for F_OFD_GETLK */
    char name[32];               /* of the control object, with its slash */
    pool pools[MAX_POOLS];
    uint32_t pool_count, slot_count;
    uint32_t depth, ring_capacity, slot_limit, pool_limit, max_subscribers, reader_words;
    uint32_t slot_size, peer_size, readers_at, max_loans, policy;
    uint64_t first_sequence;
} segment;

static inline void fail(const char *what)
{
    perror(what);
    exit(1);
}

static inline uint32_t field32(const uint8_t *header, int at)
{
    uint32_t value;
    memcpy(&value, header + at, 4);
    return value;
}

static inline uint64_t field64(const uint8_t *header, int at)
{
    uint64_t value;
    memcpy(&value, header + at, 8);
    return value;
}

static inline uint64_t section_at(const uint8_t *header, int i)
{
    return field64(header, H_SECTION_AT + 8 * i);
}

static inline uint8_t *section(const segment *s, int i)
{
    return s->control + section_at(s->header, i);
}

static inline uint64_t *ring_word(const segment *s, uint64_t n)
{
    return u64_at(section(s, RING), 8 * (n & (s->ring_capacity - 1)));
}

static inline uint8_t *slot_entry(const segment *s, uint32_t slot)
{
    return section(s, SLOTS) + (uint64_t)slot * s->slot_size;
}

static inline uint8_t *peer_entry(const segment *s, uint32_t r)
{
    return section(s, PEERS) + (uint64_t)r * s->peer_size;
}

static inline uint64_t *readers_word(const segment *s, uint32_t slot, uint32_t r)
{
    return u64_at(slot_entry(s, slot), s->readers_at + 8 * (r / 64));
}

/* The pool of a slot, or NULL. */
static inline pool *pool_of(segment *s, uint32_t slot)
{
    for (uint32_t k = 0; k < s->pool_count; k++)
        if (slot - s->pools[k].first_slot < s->pools[k].slot_count)
            return &s->pools[k];
    return NULL;
}

static inline uint32_t state_of(const segment *s)
{
    return load(u32_at(s->control, H_STATE), acquire);
}

/* --- time and sleep --- */

static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void wake_all(uint32_t *word)
{
    syscall(SYS_futex, word, 1 /* FUTEX_WAKE */, INT_MAX, NULL, NULL, 0);
}

/* Sleep while the word has this value, at most `ms` milliseconds. The caller then checks its condition again. */
static inline void sleep_on(uint32_t *word, uint32_t value, long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    syscall(SYS_futex, word, 0 /* FUTEX_WAIT */, value, &t, NULL, 0);
}

static inline void sleep_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* --- section 7: the words with a wake-up --- */

static inline void move_space(const segment *s)
{
    fetch_add(u32_at(section(s, SPACE), 0), 1, release);
    wake_all(u32_at(section(s, SPACE), 0));
}

static inline void wake(const segment *s)
{
    uint64_t taken = 0;
    for (uint32_t w = 0; w < s->reader_words; w++) {
        uint64_t *word = u64_at(section(s, PARKED), 8 * w);
        if (load(word, seq_cst) != 0)
            taken |= __atomic_exchange_n(word, 0, seq_cst);
    }
    if (taken != 0) {
        fetch_add(u32_at(section(s, GENERATION), 0), 1, seq_cst);
        wake_all(u32_at(section(s, GENERATION), 0));
    }
}

static inline void announce(const segment *s)
{
    fetch_add(u32_at(section(s, GENERATION), 0), 1, seq_cst);
    wake(s);
}

/* --- section 6: locks --- */

static inline struct flock bytes_of(short type, int first, int count)
{
    struct flock lock;
    memset(&lock, 0, sizeof lock);
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = first;
    lock.l_len = count;
    return lock;
}

static inline int lock_bytes(int fd, short type, int first, int count)
{
    struct flock lock = bytes_of(type, first, count);
    return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

/* The length of the lock on this byte; 0: there is none. `fd` must hold no lock. */
static inline long lock_length(int fd, int byte)
{
    struct flock lock = bytes_of(F_WRLCK, byte, 1);
    if (fcntl(fd, F_OFD_GETLK, &lock) != 0)
        fail("lock");
    return lock.l_type == F_UNLCK ? 0 : (long)lock.l_len;
}

static inline int reader_lives(const segment *s, uint32_t r)
{
    return lock_length(s->probe, READER_BYTE + (int)r) != 0;
}

/* A longer lock is a cleaner's, which can get it only if the owner is dead. */
static inline int owner_lives(const segment *s)
{
    return lock_length(s->probe, OWNER_BYTE) == 1;
}

/* Section 1: only a regular file is an object. */
static inline int open_regular(const char *path, int flags)
{
    struct stat info;
    int fd = open(path, flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (fd >= 0 && (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))) {
        close(fd);
        errno = EINVAL;
        return -1;
    }
    return fd;
}

/* Section 6: map through another description, because a mapping keeps the locks of its description. */
static inline uint8_t *map_apart(int fd, uint64_t size, int writable)
{
    char path[32];
    void *memory = MAP_FAILED;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (fd >= 0) {
        memory = mmap(NULL, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
        close(fd);
    }
    return memory == MAP_FAILED ? NULL : (uint8_t *)memory;
}

static inline void object_path(char *path, size_t size, const char *name, int pool)
{
    if (pool < 0)
        snprintf(path, size, "/dev/shm%s", name);
    else
        snprintf(path, size, "/dev/shm%s-p%d", name, pool);
}

/* --- section 5: checks --- */

static inline uint64_t section_bytes(const uint8_t *h, int i)
{
    switch (i) {
    case PARKED: case ACTIVE: case RELIABLE: return 8 * (uint64_t)field32(h, H_READER_WORDS);
    case EVICTED: return 4 * (uint64_t)field32(h, H_MAX_SUBSCRIBERS);
    case COUNTERS: return COUNTERS_SIZE;
    case PEERS: return (uint64_t)field32(h, H_PEER_SIZE) * field32(h, H_MAX_SUBSCRIBERS);
    case RING: return 8 * (uint64_t)field32(h, H_RING_CAPACITY);
    case SLOTS: return (uint64_t)field32(h, H_SLOT_SIZE) * field32(h, H_SLOT_LIMIT);
    case POOLS: return (uint64_t)POOL_SIZE * field32(h, H_POOL_LIMIT);
    case SCHEMA: return field64(h, H_SCHEMA_SIZE);
    default: return 8;
    }
}

/* The result of the checks of a copied header; `size` is that of the object. */
static inline const char *verdict_of(const uint8_t *h, uint64_t size)
{
    uint32_t depth = field32(h, H_DEPTH), ring = field32(h, H_RING_CAPACITY), slots = field32(h, H_SLOT_LIMIT);
    uint32_t subscribers = field32(h, H_MAX_SUBSCRIBERS), words = field32(h, H_READER_WORDS), readers_at = field32(h, H_READERS_AT);
    uint64_t end = field32(h, H_HEADER_SIZE), control_size = field64(h, H_CONTROL_SIZE);
    if (memcmp(h, MAGIC, 8) != 0)
        return "not a segment";
    if (field32(h, H_FORMAT) != 1)
        return "other format";
    if (field64(h, H_INCOMPAT) != 0)
        return "unknown incompat bits";
    if (end < HEADER_SIZE || end % ALIGN != 0 || end > control_size || control_size > size || control_size > UINT64_C(4294967296) ||
        slots < 1 || slots > MAX_SLOTS || depth < 1 || depth > slots || ring < 2 || (ring & (ring - 1)) != 0 || ring < 2 * depth ||
        ring > 4 * MAX_SLOTS || field32(h, H_POOL_LIMIT) < 1 || field32(h, H_POOL_LIMIT) > MAX_POOLS || subscribers < 1 ||
        subscribers > MAX_SUBSCRIBERS || words != (subscribers + 63) / 64 || field32(h, H_PEER_SIZE) < PEER_SIZE ||
        field32(h, H_PEER_SIZE) % 64 != 0 || field32(h, H_SLOT_SIZE) % 64 != 0 || readers_at < S_READERS || readers_at % 8 != 0 ||
        (uint64_t)readers_at + 8 * (uint64_t)words > field32(h, H_SLOT_SIZE) || field32(h, H_MAX_LOANS) > MAX_SLOTS ||
        field32(h, H_SPARE_SLOTS) > MAX_SLOTS || field32(h, H_RESERVE_SLOTS) > MAX_SLOTS || field64(h, H_FIRST_SEQUENCE) < 1 ||
        field64(h, H_FIRST_SEQUENCE) >= UINT64_C(1) << 62 || field64(h, H_SCHEMA_SIZE) >= UINT64_C(4294967296) ||
        field32(h, H_POLICY) > RAISE)
        return "corrupt";
    for (int i = 0; i < SECTION_COUNT; i++) {
        uint64_t at = section_at(h, i);
        if (at % ALIGN != 0 || at < end || at > control_size)
            return "corrupt";
        end = at + section_bytes(h, i);
        if (end > control_size)
            return "corrupt";
    }
    return "ok";
}

/* Map the next pool of the table, whose state is ready. */
static inline const char *map_pool(segment *s, const uint8_t *entry)
{
    char path[64];
    struct stat info;
    pool *p = &s->pools[s->pool_count];
    const char *verdict = "ok";
    uint64_t inode = field64(entry, K_INODE);
    int fd;
    p->capacity = field64(entry, K_CAPACITY);
    p->first_slot = field32(entry, K_FIRST_SLOT);
    p->slot_count = field32(entry, K_SLOT_COUNT);
    object_path(path, sizeof path, s->name, (int)s->pool_count);
    fd = open_regular(path, O_RDONLY);
    if (fd < 0)
        return "gone";
    if (fstat(fd, &info) != 0)
        fail(path);
    p->bytes = (uint64_t)info.st_size;
    if (p->capacity == 0 || p->capacity % SLOT_ALIGN != 0 || p->slot_count == 0 || p->slot_count > s->slot_limit - s->slot_count ||
        p->capacity > (UINT64_C(1) << 46) / p->slot_count || p->capacity * p->slot_count != p->bytes || p->first_slot != s->slot_count ||
        (inode != 0 && inode != (uint64_t)info.st_ino))
        verdict = "corrupt";
    else if ((p->memory = map_apart(fd, p->bytes, 0)) == NULL)
        fail(path);
    close(fd);
    if (strcmp(verdict, "ok") == 0) {
        s->slot_count += p->slot_count;
        s->pool_count++;
    }
    return verdict;
}

/* Map the pools that are ready and not mapped yet. */
static inline const char *map_pools(segment *s)
{
    const char *verdict = "ok";
    while (strcmp(verdict, "ok") == 0 && s->pool_count < s->pool_limit) {
        uint8_t *entry = section(s, POOLS) + POOL_SIZE * s->pool_count;
        if (load(u32_at(entry, K_STATE), acquire) == 0)
            break;
        verdict = map_pool(s, entry);
    }
    return verdict;
}

/* Copy the configuration from s->header. */
static inline void bind_header(segment *s)
{
    const uint8_t *h = s->header;
    s->depth = field32(h, H_DEPTH);
    s->ring_capacity = field32(h, H_RING_CAPACITY);
    s->slot_limit = field32(h, H_SLOT_LIMIT);
    s->pool_limit = field32(h, H_POOL_LIMIT);
    s->max_subscribers = field32(h, H_MAX_SUBSCRIBERS);
    s->reader_words = field32(h, H_READER_WORDS);
    s->slot_size = field32(h, H_SLOT_SIZE);
    s->peer_size = field32(h, H_PEER_SIZE);
    s->readers_at = field32(h, H_READERS_AT);
    s->max_loans = field32(h, H_MAX_LOANS);
    s->policy = field32(h, H_POLICY);
    s->first_sequence = field64(h, H_FIRST_SEQUENCE);
}

static inline void detach(segment *s)
{
    if (s->control != NULL)
        munmap(s->control, s->mapped);
    for (uint32_t k = 0; k < s->pool_count; k++)
        munmap(s->pools[k].memory, s->pools[k].bytes);
    if (s->lock >= 0)
        close(s->lock);
    if (s->probe >= 0)
        close(s->probe);
    memset(s, 0, sizeof *s);
    s->lock = s->probe = -1;
}

/* Attach to a segment by the name of its control object. With any result but "ok", nothing is attached. */
static inline const char *attach(segment *s, const char *name)
{
    char path[64], id[17];
    struct stat info;
    const char *verdict;
    uint64_t size, stated = 0;
    memset(s, 0, sizeof *s);
    s->lock = s->probe = -1;
    snprintf(s->name, sizeof s->name, "%s", name);
    object_path(path, sizeof path, name, -1);
    s->lock = open_regular(path, O_RDWR);
    if (s->lock < 0)
        return "gone";
    s->probe = open_regular(path, O_RDONLY);
    if (s->probe < 0 || fstat(s->lock, &info) != 0 || info.st_size < HEADER_SIZE ||
        pread(s->lock, &stated, sizeof stated, H_CONTROL_SIZE) != sizeof stated) {
        detach(s);
        return "unfinished";
    }
    size = (uint64_t)info.st_size;
    s->mapped = stated < HEADER_SIZE ? HEADER_SIZE : stated < size ? stated : size;
    s->control = map_apart(s->lock, s->mapped, 1);
    if (s->control == NULL)
        fail(path);
    verdict = state_of(s) == CREATING ? "unfinished" : NULL;
    if (verdict == NULL) {
        memcpy(s->header, s->control, HEADER_SIZE);
        verdict = verdict_of(s->header, size);
    }
    snprintf(id, sizeof id, "%016llx", (unsigned long long)field64(s->header, H_SEGMENT_ID));
    if (strcmp(verdict, "ok") == 0 && strcmp(id, name + 4) != 0)
        verdict = "other id";
    if (strcmp(verdict, "ok") == 0) {
        bind_header(s);
        verdict = map_pools(s);
        if (strcmp(verdict, "ok") == 0 && s->pool_count == 0)
            verdict = "corrupt";
    }
    if (strcmp(verdict, "ok") != 0)
        detach(s);
    return verdict;
}

/* Section 7, reap: the caller holds lock byte 64 + r. */
static inline void clear_reader(const segment *s, uint32_t r)
{
    uint64_t bit = UINT64_C(1) << r % 64;
    fetch_and(u64_at(section(s, ACTIVE), 8 * (r / 64)), ~bit, seq_cst);
    fetch_and(u64_at(section(s, RELIABLE), 8 * (r / 64)), ~bit, relaxed);
    fetch_and(u64_at(section(s, PARKED), 8 * (r / 64)), ~bit, seq_cst);
    for (uint32_t slot = 0; slot < s->slot_limit; slot++)
        fetch_and(readers_word(s, slot, r), ~bit, seq_cst);
}

/* --- section 9: discovery --- */

static inline void root_directory(char *path, size_t size)
{
    const char *chosen = getenv("ZEROSLOT_DIR");
    if (chosen != NULL && *chosen != 0)
        snprintf(path, size, "%s", chosen);
    else
        snprintf(path, size, "/dev/shm/zeroslot-%u", (unsigned)geteuid());
}

static inline void domain_directory(char *path, size_t size)
{
    const char *domain = getenv("ZEROSLOT_DOMAIN");
    root_directory(path, size);
    snprintf(path + strlen(path), size - strlen(path), "/%s", domain != NULL && *domain != 0 ? domain : "default");
}

static inline void topic_directory(char *path, size_t size, const char *topic)
{
    domain_directory(path, size);
    snprintf(path + strlen(path), size - strlen(path), "/%s", topic);
}

static inline void make_directories(const char *path)
{
    char part[PATH_MAX];
    snprintf(part, sizeof part, "%s", path);
    for (char *c = part + 1; *c != 0; c++)
        if (*c == '/') {
            *c = 0;
            mkdir(part, 0700);
            *c = '/';
        }
    mkdir(part, 0700);
}

/* Remove empty directories up to the root, and the root itself unless ZEROSLOT_DIR names it. */
static inline void remove_empty(const char *path)
{
    char part[PATH_MAX], root[PATH_MAX];
    const char *chosen = getenv("ZEROSLOT_DIR");
    root_directory(root, sizeof root);
    snprintf(part, sizeof part, "%s", path);
    while (strncmp(part, root, strlen(root)) == 0 && !(strcmp(part, root) == 0 && chosen != NULL && *chosen != 0)) {
        if (rmdir(part) != 0)
            return;
        *strrchr(part, '/') = 0;
    }
}

/* Whether the text starts with so many hexadecimal digits. */
static inline int is_hex(const char *text, int digits)
{
    for (int i = 0; i < digits; i++)
        if (strchr("0123456789abcdef", text[i]) == NULL || text[i] == 0)
            return 0;
    return 1;
}

static inline int read_flink(const char *path, char name[32])
{
    int fd = open_regular(path, O_RDONLY);
    ssize_t got = fd < 0 ? -1 : read(fd, name, 31);
    if (fd >= 0)
        close(fd);
    if (got != 20 || memcmp(name, "/zs-", 4) != 0 || !is_hex(name + 4, 16))
        return 0;
    name[20] = 0;
    return 1;
}

/* Whether is_so() is true for one of the topic's flinks. */
static inline int any_flink(const char *topic, int (*is_so)(const char *path))
{
    char directory[PATH_MAX], path[PATH_MAX];
    struct dirent *entry;
    DIR *listing;
    int found = 0;
    topic_directory(directory, sizeof directory, topic);
    listing = opendir(directory);
    while (!found && listing != NULL && (entry = readdir(listing)) != NULL)
        if (strlen(entry->d_name) == 22 && is_hex(entry->d_name, 16) && strcmp(entry->d_name + 16, ".flink") == 0 &&
            snprintf(path, sizeof path, "%s/%s", directory, entry->d_name) < (int)sizeof path)
            found = is_so(path);
    if (listing != NULL)
        closedir(listing);
    return found;
}

typedef struct {
    char path[PATH_MAX];
    int fd;
    uint32_t *word;
} bell;

static inline int bell_name(char *path, size_t size, int n)
{
    domain_directory(path, size);
    return snprintf(path + strlen(path), size - strlen(path), n == 0 ? "/.bell" : "/.bell.%d", n);
}

/* Whether this bell can be used. */
static inline int bell_open(bell *b)
{
    struct stat info;
    for (;;) {
        int locked;
        b->fd = open_regular(b->path, O_RDWR);
        if (b->fd < 0 && errno == ENOENT)
            b->fd = open_regular(b->path, O_RDWR | O_CREAT);
        if (b->fd < 0)
            return 0;
        locked = lock_bytes(b->fd, F_RDLCK, 0, 1);
        if (locked && fstat(b->fd, &info) == 0 && info.st_nlink > 0)
            break;
        close(b->fd);
        if (!locked)
            return 0;
    }
    if (info.st_size < 64 && posix_fallocate(b->fd, 0, 64) != 0)
        fail("bell");
    b->word = (uint32_t *)(void *)map_apart(b->fd, 64, 1);
    if (b->word == NULL)
        fail("bell");
    return 1;
}

static inline void bell_use(bell *b)
{
    char directory[PATH_MAX];
    domain_directory(directory, sizeof directory);
    for (int n = 0;; n = (n + 1) % 100) {
        make_directories(directory); /* each time, because a leaving process removes it if it is empty */
        bell_name(b->path, sizeof b->path, n);
        if (bell_open(b))
            return;
    }
}

static inline void bell_ring(bell *b)
{
    fetch_add(b->word, 1, seq_cst);
    wake_all(b->word);
    for (int n = 0; n < 100; n++) {
        char path[PATH_MAX];
        struct stat info;
        uint32_t *word;
        int fd;
        bell_name(path, sizeof path, n);
        fd = strcmp(path, b->path) == 0 ? -1 : open_regular(path, O_RDWR);
        if (fd < 0)
            continue;
        if (fstat(fd, &info) == 0 && info.st_size >= 64 && info.st_blocks > 0 &&
            (word = (uint32_t *)(void *)map_apart(fd, 64, 1)) != NULL) {
            fetch_add(word, 1, seq_cst);
            wake_all(word);
            munmap(word, 64);
        }
        close(fd);
    }
}

static inline void bell_leave(bell *b)
{
    char path[PATH_MAX];
    munmap(b->word, 64);
    close(b->fd);
    for (int n = 0; n < 100; n++) {
        struct stat here, there;
        int fd;
        bell_name(path, sizeof path, n);
        fd = open_regular(path, O_RDWR);
        if (fd < 0)
            continue;
        if (lock_bytes(fd, F_WRLCK, 0, 1) && fstat(fd, &here) == 0 && stat(path, &there) == 0 && here.st_ino == there.st_ino)
            unlink(path);
        close(fd);
    }
    domain_directory(path, sizeof path);
    remove_empty(path);
}

/* --- the test: each line is an order, each answer is a line of JSON --- */

/* An order without the line end and the quotes of JSON. NULL: the test has closed the pipe. */
static inline char *next_order(void)
{
    static char line[1 << 16];
    if (fgets(line, sizeof line, stdin) == NULL)
        return NULL;
    line[strcspn(line, "\n")] = 0;
    if (*line != '"')
        return line;
    line[strlen(line) - 1] = 0;
    return line + 1;
}

static inline void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

#endif
