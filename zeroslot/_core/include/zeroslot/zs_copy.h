/* SPDX-License-Identifier: Apache-2.0
 *
 * zs_copy.h - copying a large payload into a slot.
 *
 * Why stores that go around the caches (non-temporal) from ZS_STREAM_FROM to ZS_STREAM_BELOW bytes: an ordinary store first loads
 * the line that it overwrites, and a slot that was used several samples ago is no longer in a cache. The price: a reader finds
 * nothing of the sample in the cache that the processors share, which for 1 MB costs more than it saves.
 *
 * GB/s on two virtual processors of an AMD EPYC with 32 MiB of shared cache, under other load, destinations that rotate over 16
 * slots (4 from 64 MB on); medians. "both": the copy, and one reader that reads all of it afterwards.
 *
 *                      memcpy: copy  read  both     around the caches: copy  read  both
 *       1 MB                  13.1  48     10                         20.0  18     9.6
 *       6.2 MB                10.8  24      6.7                       16.1  17     7.2
 *      64 MB                   2.1   3.3    1.2                        3.1   3.5   1.5
 *     256 MB                   3.7   3.8    1.75                       3.6   3.9   1.75
 *
 * The C library's memcpy goes around the caches itself from some size on, which depends on the processor, and then in a better
 * order. Elsewhere than on x86-64 memcpy is used for all sizes. `python -m tests.bench copies` prints these figures for another machine.
 */
#ifndef ZS_COPY_H
#define ZS_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define ZS_STREAM_FROM ((size_t)4 << 20)
#define ZS_STREAM_BELOW ((size_t)128 << 20)

/* Copy `size` bytes with stores that go around the caches, if the processor has them. The ranges do not overlap. Everything is
 * stored before a later store of this thread, as after memcpy: a sample may be committed. */
static inline void zs_copy_streaming(void *to, const void *from, size_t size)
{
#if defined(__SSE2__)
    uint8_t *target = (uint8_t *)to;
    const uint8_t *source = (const uint8_t *)from;
    size_t head = (size_t)(0 - (uintptr_t)target) % 64;
    if (head > size)
        head = size;
    memcpy(target, source, head);
    for (target += head, source += head, size -= head; size >= 64; target += 64, source += 64, size -= 64) {
        __m128i a = _mm_loadu_si128((const __m128i *)(const void *)source);
        __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(source + 16));
        __m128i c = _mm_loadu_si128((const __m128i *)(const void *)(source + 32));
        __m128i d = _mm_loadu_si128((const __m128i *)(const void *)(source + 48));
        _mm_stream_si128((__m128i *)(void *)target, a);
        _mm_stream_si128((__m128i *)(void *)(target + 16), b);
        _mm_stream_si128((__m128i *)(void *)(target + 32), c);
        _mm_stream_si128((__m128i *)(void *)(target + 48), d);
    }
    memcpy(target, source, size);
    _mm_sfence(); /* a release store, such as that of a commit, orders ordinary stores only */
#else
    memcpy(to, from, size);
#endif
}

/* Copy `size` bytes in the way that is best for so many. The ranges may overlap. */
static inline void zs_copy(void *to, const void *from, size_t size)
{
    uintptr_t target = (uintptr_t)to, source = (uintptr_t)from;
    if (size >= ZS_STREAM_FROM && size < ZS_STREAM_BELOW && (target >= source + size || source >= target + size))
        zs_copy_streaming(to, from, size);
    else
        memmove(to, from, size);
}

#endif
