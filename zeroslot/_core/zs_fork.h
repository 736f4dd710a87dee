/* SPDX-License-Identifier: Apache-2.0
 *
 * zs_fork.h - what a forked child must not inherit.
 *
 * A child has copies of the parent's handles and descriptors, but owns none of what they stand for. The fork generation tells the
 * two apart without a system call. The descriptors that hold locks are closed in the child, and never unlocked: they share the
 * parent's open file description, and an unlock would be the parent's; kept open, they would keep a dead parent's locks alive.
 */
#ifndef ZS_FORK_H
#define ZS_FORK_H

#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

/* One descriptor to close in children. Linked in while it is open. */
typedef struct zs_descriptor {
    int fd; /* -1: closed */
    struct zs_descriptor *next;
    struct zs_descriptor **link;
} zs_descriptor;

static uint64_t zs_fork_generation = 1;
static zs_descriptor *zs_descriptors;
static pthread_mutex_t zs_descriptors_lock = PTHREAD_MUTEX_INITIALIZER;

static void zs_fork_prepare(void)
{
    pthread_mutex_lock(&zs_descriptors_lock);
}

static void zs_fork_parent(void)
{
    pthread_mutex_unlock(&zs_descriptors_lock);
}

static void zs_fork_child(void)
{
    zs_fork_generation++;
    for (zs_descriptor *d = zs_descriptors; d != NULL; d = d->next) {
        if (d->fd >= 0)
            close(d->fd);
        d->fd = -1;
    }
    zs_descriptors = NULL;
    pthread_mutex_unlock(&zs_descriptors_lock);
}

/* Once a process. */
static int zs_fork_watch(void)
{
    return pthread_atfork(zs_fork_prepare, zs_fork_parent, zs_fork_child);
}

static void zs_descriptor_open(zs_descriptor *d, int fd)
{
    d->fd = fd;
    pthread_mutex_lock(&zs_descriptors_lock);
    d->next = zs_descriptors;
    d->link = &zs_descriptors;
    if (d->next != NULL)
        d->next->link = &d->next;
    zs_descriptors = d;
    pthread_mutex_unlock(&zs_descriptors_lock);
}

/* Closing frees the locks of the description. A second call, a call in a child, or for one that is all zeros does nothing. */
static void zs_descriptor_close(zs_descriptor *d)
{
    int fd;
    if (d->link == NULL)
        return; /* never opened: its 0 is no descriptor of ours */
    pthread_mutex_lock(&zs_descriptors_lock);
    fd = d->fd;
    d->fd = -1;
    if (fd >= 0) {
        *d->link = d->next;
        if (d->next != NULL)
            d->next->link = d->link;
    }
    pthread_mutex_unlock(&zs_descriptors_lock);
    if (fd >= 0)
        close(fd);
}

#endif
