/* SPDX-License-Identifier: Apache-2.0
 *
 * Large copies: every byte arrives, and none beside them changes, at every alignment and also where the ranges overlap.
 */
#include "zs_copy.h"

#include "check.h"

enum { MARGIN = 128 };

static uint8_t *patterned(size_t size)
{
    uint8_t *bytes = malloc(size);
    CHECK(bytes != NULL);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * 7 + (i >> 8) + (i >> 16));
    return bytes;
}

static void check_copy(void (*copy)(void *, const void *, size_t), size_t to, size_t from, size_t size)
{
    uint8_t *source = patterned(from + size), *target = malloc(to + size + MARGIN);
    CHECK(target != NULL);
    memset(target, 0xa5, to + size + MARGIN);
    copy(target + to, source + from, size);
    CHECK(memcmp(target + to, source + from, size) == 0);
    for (size_t i = 0; i < to; i++)
        CHECK_EQUAL(target[i], 0xa5);
    for (size_t i = 0; i < MARGIN; i++)
        CHECK_EQUAL(target[to + size + i], 0xa5);
    free(source);
    free(target);
}

static void every_byte_arrives_at_every_alignment(void)
{
    for (size_t to = 0; to < 65; to++)
        for (size_t size = 0; size < 260; size += 1 + size / 40)
            check_copy(zs_copy_streaming, to, size % 17, size);
    check_copy(zs_copy, 3, 5, ZS_STREAM_FROM - 1);
    check_copy(zs_copy, 3, 5, ZS_STREAM_FROM);
    check_copy(zs_copy, 64, 0, ZS_STREAM_FROM + 77);
}

static void ranges_may_overlap(void)
{
    for (int up = 0; up < 2; up++) {
        size_t size = ZS_STREAM_FROM + 100;
        uint8_t *bytes = patterned(size + 10), *expected = patterned(size + 10);
        zs_copy(bytes + (up ? 10 : 0), bytes + (up ? 0 : 10), size);
        CHECK(memcmp(bytes + (up ? 10 : 0), expected + (up ? 0 : 10), size) == 0);
        free(bytes);
        free(expected);
    }
}

int main(void)
{
    RUN(every_byte_arrives_at_every_alignment);
    RUN(ranges_may_overlap);
    return 0;
}
