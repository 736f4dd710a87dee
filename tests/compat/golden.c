/* SPDX-License-Identifier: Apache-2.0
 *
 * golden CONTROL POOL: writes a segment to two files, with the same bytes at each run.
 *
 * Publishes each line of stdin as one sample and prints its sequence; seals the segment at the end. Times and process ids are
 * fixed, so the control object can be compared with committed bytes. */
#include "zeroslot.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static void *map(const char *path, uint64_t size)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    void *memory = MAP_FAILED;
    if (fd >= 0 && ftruncate(fd, (off_t)size) == 0)
        memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        perror(path);
        exit(1);
    }
    return memory;
}

int main(int argc, char **argv)
{
    static const char name[] = "Golden", idl[] = "struct Golden { octet data[40]; };", json[] = "{\"title\": \"Golden\"}";
    const uint32_t lengths[3] = {sizeof name - 1, sizeof idl - 1, sizeof json - 1};
    const zs_identity identity = {4711, 99, "reader", 4026531834, 0};
    enum { SLOTS = 4, CAPACITY = 128 };
    zs_header h;
    zs_segment s;
    zs_owner o;
    zs_reader r;
    uint8_t *control, *payload, *schema;
    char line[CAPACITY];
    if (argc != 3)
        return 2;
    memset(&h, 0, sizeof h);
    memcpy(h.magic, zs_magic, sizeof h.magic);
    h.format = ZS_FORMAT;
    h.segment_id = UINT64_C(0x0123456789abcdef);
    for (uint8_t i = 0; i < 16; i++)
        h.type_hash[i] = (uint8_t)(0xf0 + i);
    h.depth = 2;
    h.slot_limit = SLOTS;
    h.pool_limit = 1;
    h.max_subscribers = 70;
    h.spare_slots = 1;
    h.max_loans = 1;
    h.first_sequence = (UINT64_C(1) << 48) - 1;
    h.schema_size = sizeof lengths + lengths[0] + lengths[1] + lengths[2];
    h.owner_pid = 1234;
    h.owner_start_time = 5678;
    h.payload_kind = ZS_TYPED;
    h.created_realtime_ns = UINT64_C(1700000000000000000);
    h.created_monotonic_ns = UINT64_C(1000000000);
    h.policy = ZS_BLOCK;
    h.time_namespace = 4026531834;
    h.max_period_ns = 20000000;
    memcpy(h.owner_name, "golden", 6);
    zs_layout_compute(&h);
    control = (uint8_t *)map(argv[1], h.control_size);
    payload = (uint8_t *)map(argv[2], (uint64_t)SLOTS * CAPACITY);
    zs_segment_create(&s, control, &h);
    zs_segment_add_pool(&s, 0, 0, SLOTS, CAPACITY, 0);
    schema = s.schema;
    memcpy(schema, lengths, sizeof lengths), schema += sizeof lengths;
    memcpy(schema, name, lengths[0]), schema += lengths[0];
    memcpy(schema, idl, lengths[1]), schema += lengths[1];
    memcpy(schema, json, lengths[2]);
    zs_segment_open(&s);
    zs_owner_init(&o, &s, calloc(1, zs_owner_memory(SLOTS, s.ring_capacity)));
    zs_owner_add_pool(&o, SLOTS, CAPACITY, payload);

    memset(&r, 0, sizeof r);
    r.segment = &s;
    r.index = 69;
    r.max_leases = 3;
    r.reliable = 1;
    r.slot_count = SLOTS;
    r.held = (uint32_t *)calloc(SLOTS, sizeof *r.held);
    zs_reader_join(&r, &identity, 0, ZS_AFTER_HISTORY);
    r.peer->attached_ns = UINT64_C(2000000000);
    puts("open");
    fflush(stdout);

    while (fgets(line, sizeof line, stdin) != NULL) {
        uint32_t slot = zs_owner_reserve(&o, 0), taken;
        size_t size = strcspn(line, "\n");
        if (slot == ZS_NO_SLOT)
            return 1;
        memcpy(payload + (size_t)slot * CAPACITY, line, size);
        printf("%llu\n", (unsigned long long)zs_owner_commit(&o, slot, size, UINT64_C(3000000000) + o.published));
        zs_owner_let_go(&o, slot);
        if (zs_reader_take(&r, &taken) != ZS_TAKE_LEASED)
            return 1;
        zs_reader_release(&r, taken);
        fflush(stdout);
    }
    zs_segment_end(&s, ZS_SEALED);
    return 0;
}
