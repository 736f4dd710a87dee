/* SPDX-License-Identifier: Apache-2.0
 *
 * clock.c - the realtime clock as a test sets it: preloaded into a process, it adds to it what stands in a file.
 *
 * $ZEROSLOT_TEST_CLOCK names the file: an int64 of nanoseconds, which may change at any time. The monotonic clock is as it is. The
 * kernel is asked itself, so that nothing of the C library has to be found first.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t *added;

__attribute__((constructor)) static void find_the_file(void)
{
    const char *path = getenv("ZEROSLOT_TEST_CLOCK");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    void *mapped = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *added, PROT_READ, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) {
        perror("ZEROSLOT_TEST_CLOCK");
        abort();
    }
    close(fd);
    added = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI)) {
        int64_t stepped = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + __atomic_load_n(added, __ATOMIC_RELAXED);
        now->tv_sec = (time_t)(stepped / 1000000000);
        now->tv_nsec = (long)(stepped % 1000000000);
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0)
        return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now)
{
    struct timespec precise;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0)
        return (time_t)-1;
    if (now != NULL)
        *now = precise.tv_sec;
    return precise.tv_sec;
}
