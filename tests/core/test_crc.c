/* SPDX-License-Identifier: Apache-2.0
 *
 * CRC-32C: the vectors of RFC 3720, and both ways of computing it compared.
 */
#include "zs_crc.h"

#include "check.h"

enum { LARGEST = 4 * 3 * 4096 + 100 };

/* RFC 3720, B.4, and the check value of the CRC catalogues. */
static void vectors_are_known(void)
{
    static const uint8_t command[48] = {0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0,
                                        0, 0, 0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0};
    uint8_t bytes[32];
    CHECK_EQUAL(zs_crc32c("", 0), 0);
    CHECK_EQUAL(zs_crc32c("123456789", 9), 0xE3069283);
    memset(bytes, 0, sizeof bytes);
    CHECK_EQUAL(zs_crc32c(bytes, 32), 0x8A9136AA);
    memset(bytes, 0xff, sizeof bytes);
    CHECK_EQUAL(zs_crc32c(bytes, 32), 0x62A8AB43);
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)i;
    CHECK_EQUAL(zs_crc32c(bytes, 32), 0x46DD794E);
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)(31 - i);
    CHECK_EQUAL(zs_crc32c(bytes, 32), 0x113FDB5C);
    CHECK_EQUAL(zs_crc32c(command, sizeof command), 0xD9963A56);
}

/* Every length around the edges of words and streams, at every alignment of a word. */
static void both_ways_are_equal(void)
{
    uint8_t *bytes = malloc(LARGEST + 8);
    CHECK(bytes != NULL);
    for (size_t i = 0; i < LARGEST + 8; i++)
        bytes[i] = (uint8_t)(i * i % 251 + (i >> 9));
    for (size_t at = 0; at < 8; at++)
        for (size_t size = 0; size <= LARGEST; size += size < 64 || size % 4096 > 4090 || size % 4096 < 10 ? 1 : 997)
            CHECK_EQUAL(zs_crc32c(bytes + at, size), (uint32_t)~zs_crc_by_table(UINT32_MAX, bytes + at, size));
    free(bytes);
}

int main(void)
{
    RUN(vectors_are_known);
    RUN(both_ways_are_equal);
    return 0;
}
