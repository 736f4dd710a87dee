/* SPDX-License-Identifier: Apache-2.0
 *
 * Counts what a thread asks of malloc and its relatives. A library for LD_PRELOAD; Python calls the two functions below through
 * ctypes. Python's own allocator takes small objects from its arenas, so what reaches malloc is what is large, or is not Python's.
 *
 * Why __libc_malloc and not dlsym: dlsym allocates. glibc alone has these names.
 */
#include <errno.h>
#include <stddef.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static __thread int counting;
static __thread unsigned long counted;

void allocations_begin(void)
{
    counted = 0;
    counting = 1;
}

unsigned long allocations_end(void)
{
    counting = 0;
    return counted;
}

void *malloc(size_t size)
{
    counted += (unsigned long)counting;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    counted += (unsigned long)counting;
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    counted += (unsigned long)counting;
    return __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size)
{
    counted += (unsigned long)counting;
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
    void *found = memalign(alignment, size);
    if (found == NULL)
        return ENOMEM;
    *memory = found;
    return 0;
}
