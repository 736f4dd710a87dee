/* SPDX-License-Identifier: Apache-2.0
 *
 * zs_fork.h - what a forked child must not inherit.
 *
 * A child has copies of the parent's handles, descriptors and mappings, but owns none of what they stand for. The fork generation
 * tells the two apart without a system call. In the child, before fork() returns:
 *
 * - Writable shared mappings become private ones, at the same addresses: whatever in the child still writes there (an array that
 *   numpy keeps, an address that C code has) reaches memory of its own. Checks in setters cannot do that.
 * - Descriptors are closed, and never unlocked: they share the parent's open file description, and an unlock would be the parent's;
 *   kept open, they would keep a dead parent's locks alive.
 *
 * Why files are opened, mapped, unmapped and closed under the lock that the fork takes: another thread may fork at any moment, and
 * what it finds open or mapped has to be in the lists. The holder of the lock never needs the interpreter's lock, which the
 * forking thread may have, and allocates nothing.
 */
#ifndef ZS_FORK_H
#define ZS_FORK_H

#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* F_OFD_SETLK, O_CLOEXEC and MAP_NORESERVE under -std=c11; has to come before the first system header */
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* One open file, to close in children. All zeros: never opened. */
typedef struct zs_descriptor {
    int fd; /* -1: closed */
    struct zs_descriptor *next;
    struct zs_descriptor **link;
} zs_descriptor;

/* One writable shared mapping, to make private in children. The descriptor outlives it. All zeros: never mapped. */
typedef struct zs_mapping {
    void *address;
    size_t size;
    const zs_descriptor *through;
    struct zs_mapping *next;
    struct zs_mapping **link; /* NULL: not listed */
} zs_mapping;

static uint64_t zs_fork_generation = 1;
static zs_descriptor *zs_descriptors;
static zs_mapping *zs_mappings;
static pthread_mutex_t zs_fork_lock = PTHREAD_MUTEX_INITIALIZER;

static void zs_fork_prepare(void)
{
    pthread_mutex_lock(&zs_fork_lock);
}

static void zs_fork_parent(void)
{
    pthread_mutex_unlock(&zs_fork_lock);
}

/* Put private memory in the place of a shared mapping. Pages that the child does not write go on to show what the parent writes.
 * Where that is refused (its memory is limited), or the descriptor is closed, the child may read and not write. */
static void zs_mapping_make_private(const zs_mapping *m)
{
    int how = MAP_FIXED | MAP_PRIVATE | MAP_NORESERVE;
    if (mmap(m->address, m->size, PROT_READ | PROT_WRITE, how, m->through->fd, 0) == MAP_FAILED)
        mprotect(m->address, m->size, PROT_READ);
}

/* Only what may be called after a fork of a process with threads: system calls. */
static void zs_fork_child(void)
{
    zs_fork_generation++;
    for (zs_mapping *m = zs_mappings; m != NULL; m = m->next) {
        zs_mapping_make_private(m);
        m->link = NULL;
    }
    zs_mappings = NULL;
    for (zs_descriptor *d = zs_descriptors; d != NULL; d = d->next) {
        close(d->fd);
        d->fd = -1;
    }
    zs_descriptors = NULL;
    pthread_mutex_unlock(&zs_fork_lock);
}

/* Once a process. */
static int zs_fork_watch(void)
{
    return pthread_atfork(zs_fork_prepare, zs_fork_parent, zs_fork_child);
}

/* Open a file; no child and no program that is started ever has it. False: errno tells why. */
static int zs_descriptor_open(zs_descriptor *d, const char *path, int flags, unsigned mode)
{
    int why;
    pthread_mutex_lock(&zs_fork_lock);
    d->fd = open(path, flags | O_CLOEXEC, mode);
    why = errno;
    if (d->fd >= 0) {
        d->next = zs_descriptors;
        d->link = &zs_descriptors;
        if (d->next != NULL)
            d->next->link = &d->next;
        zs_descriptors = d;
    }
    pthread_mutex_unlock(&zs_fork_lock);
    errno = why;
    return d->fd >= 0;
}

/* Close it, and free its locks. A second call, a call in a child, or for one that is all zeros does nothing.
 *
 * Why unlock: a process that is just being started may have a copy of the descriptor for a moment longer. */
static void zs_descriptor_close(zs_descriptor *d)
{
    struct flock all;
    memset(&all, 0, sizeof all);
    all.l_type = F_UNLCK;
    all.l_whence = SEEK_SET;
    if (d->link == NULL)
        return; /* never opened: its 0 is another file's */
    pthread_mutex_lock(&zs_fork_lock);
    if (d->fd >= 0) {
        *d->link = d->next;
        if (d->next != NULL)
            d->next->link = d->link;
        fcntl(d->fd, F_OFD_SETLK, &all);
        close(d->fd);
        d->fd = -1;
    }
    pthread_mutex_unlock(&zs_fork_lock);
}

/* Map the first `size` bytes of a file; in children a writable mapping becomes private. False: errno tells why. */
static int zs_mapping_map(zs_mapping *m, const zs_descriptor *through, size_t size, int writable)
{
    int why;
    pthread_mutex_lock(&zs_fork_lock);
    m->address = mmap(NULL, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, through->fd, 0);
    why = errno;
    if (m->address == MAP_FAILED) {
        m->address = NULL;
    } else {
        m->size = size;
        m->through = through;
        if (writable) {
            m->next = zs_mappings;
            m->link = &zs_mappings;
            if (m->next != NULL)
                m->next->link = &m->next;
            zs_mappings = m;
        }
    }
    pthread_mutex_unlock(&zs_fork_lock);
    errno = why;
    return m->address != NULL;
}

/* Unmap it, in the process that mapped it or in a child. Once; one that is all zeros is left alone. */
static void zs_mapping_unmap(zs_mapping *m)
{
    if (m->address == NULL)
        return;
    pthread_mutex_lock(&zs_fork_lock);
    if (m->link != NULL) {
        *m->link = m->next;
        if (m->next != NULL)
            m->next->link = m->link;
    }
    munmap(m->address, m->size);
    m->address = NULL;
    pthread_mutex_unlock(&zs_fork_lock);
}

#endif
