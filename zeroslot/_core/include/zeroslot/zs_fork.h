/* SPDX-License-Identifier: Apache-2.0
 *
 * zs_fork.h - the descriptors and mappings that a forked child must not inherit.
 *
 * A child has copies of the parent's handles, descriptors and mappings, and owns none of the locks and slots behind them. The fork
 * generation tells parent and child apart without a system call. In the child, before fork() returns:
 *
 * - Each writable shared mapping is replaced by a private one at the same address. Code in the child that still writes there
 *   (through a numpy array, or an address held by C code) writes to the child's own memory. Checks in setters cannot prevent that.
 * - Each descriptor is closed without an unlock. It shares the parent's open file description, so an unlock would release the
 *   parent's lock; left open, it would keep the lock after the parent's death.
 *
 * Why files are opened, mapped, unmapped and closed under a lock that fork() takes too: another thread may fork at any moment, and
 * everything that is open or mapped then must be in the lists. While it has this lock, a thread allocates nothing and does not wait
 * for the interpreter's lock, which the forking thread may hold.
 */
#ifndef ZS_FORK_H
#define ZS_FORK_H

#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* F_OFD_SETLK, O_CLOEXEC and MAP_NORESERVE under -std=c11; must precede the first system header */
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* One open file, closed in children. All zeros: never opened. */
typedef struct zs_descriptor {
    int fd; /* -1: closed */
    struct zs_descriptor *next;
    struct zs_descriptor **link;
} zs_descriptor;

/* One mapping; a writable one becomes private in children. The descriptor must outlive it. All zeros: never mapped. */
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

/* Replace a shared mapping by a private one at the same address. Pages that the child has not written still show the parent's
 * writes. Where mmap fails (a memory limit, a closed descriptor), the mapping becomes read-only. */
static void zs_mapping_make_private(const zs_mapping *m)
{
    int flags = MAP_FIXED | MAP_PRIVATE | MAP_NORESERVE;
    if (mmap(m->address, m->size, PROT_READ | PROT_WRITE, flags, m->through->fd, 0) == MAP_FAILED)
        mprotect(m->address, m->size, PROT_READ);
}

/* The handler in the child. It makes system calls only, as is required after a fork of a process with threads. */
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

/* Install the handlers, once in a process. Returns 0, or the error number of pthread_atfork. */
static int zs_fork_watch(void)
{
    return pthread_atfork(zs_fork_prepare, zs_fork_parent, zs_fork_child);
}

/* Put an open descriptor into the list. Under the lock. */
static void zs_descriptor_list(zs_descriptor *d)
{
    d->next = zs_descriptors;
    d->link = &zs_descriptors;
    if (d->next != NULL)
        d->next->link = &d->next;
    zs_descriptors = d;
}

/* Open a file that is closed in children and across exec. False: errno has the reason. Callable by any thread. */
static int zs_descriptor_open(zs_descriptor *d, const char *path, int flags, unsigned mode)
{
    int error;
    pthread_mutex_lock(&zs_fork_lock);
    d->fd = open(path, flags | O_CLOEXEC, mode);
    error = errno;
    if (d->fd >= 0)
        zs_descriptor_list(d);
    pthread_mutex_unlock(&zs_fork_lock);
    errno = error;
    return d->fd >= 0;
}

/* The same for a new eventfd, which does not block. A child must not have it: what it writes, the parent would read. */
static int zs_descriptor_open_event(zs_descriptor *d)
{
    int error;
    pthread_mutex_lock(&zs_fork_lock);
    d->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    error = errno;
    if (d->fd >= 0)
        zs_descriptor_list(d);
    pthread_mutex_unlock(&zs_fork_lock);
    errno = error;
    return d->fd >= 0;
}

/* Unlock and close a descriptor. A second call, a call in a child, and a call for one that is all zeros do nothing.
 *
 * Why unlock: a process that is just being started may have a copy of the descriptor until its exec, and the copy would keep the
 * lock. */
static void zs_descriptor_close(zs_descriptor *d)
{
    struct flock all;
    memset(&all, 0, sizeof all);
    all.l_type = F_UNLCK;
    all.l_whence = SEEK_SET;
    if (d->link == NULL)
        return; /* never opened: fd is 0, another file's descriptor */
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

/* Bytes of a huge page. A mapping of as many or more begins at a multiple of them, so that a huge page of the object needs one entry
 * of the page table. Where huge pages are larger (64 KiB pages), this costs nothing. */
#define ZS_HUGE_PAGE ((size_t)2 << 20)

/* mmap of a file from its start; MAP_FAILED and errno. */
static void *zs_mapping_place(int fd, size_t size, int protection)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t whole = (size + page - 1) / page * page;
    size_t head;
    uint8_t *reserved;
    void *placed;
    if (size < ZS_HUGE_PAGE || whole < size)
        return mmap(NULL, size, protection, MAP_SHARED, fd, 0);
    reserved = (uint8_t *)mmap(NULL, whole + ZS_HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if ((void *)reserved == MAP_FAILED)
        return MAP_FAILED;
    head = (size_t)(0 - (uintptr_t)reserved) % ZS_HUGE_PAGE;
    placed = mmap(reserved + head, size, protection, MAP_SHARED | MAP_FIXED, fd, 0);
    if (placed == MAP_FAILED) {
        int error = errno;
        munmap(reserved, whole + ZS_HUGE_PAGE);
        errno = error;
        return MAP_FAILED;
    }
    if (head > 0)
        munmap(reserved, head);
    munmap(reserved + head + whole, ZS_HUGE_PAGE - head);
    return placed;
}

/* Map the first `size` bytes of a file. In children a writable mapping becomes private. False: errno has the reason. */
static int zs_mapping_map(zs_mapping *m, const zs_descriptor *through, size_t size, int writable)
{
    int error;
    pthread_mutex_lock(&zs_fork_lock);
    m->address = zs_mapping_place(through->fd, size, writable ? PROT_READ | PROT_WRITE : PROT_READ);
    error = errno;
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
    errno = error;
    return m->address != NULL;
}

/* Unmap a mapping, in the process that mapped it or in a child. A second call, and a call for one that is all zeros, do nothing. */
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
