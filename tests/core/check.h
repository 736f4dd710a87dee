/* SPDX-License-Identifier: Apache-2.0
 *
 * check.h - checks for the test programs, and a macro that runs a test.
 *
 * A failed check prints its place, the name of the test and the condition, and ends the program.
 */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *check_test = "";

#define CHECK(condition)                                                                                                            \
    do {                                                                                                                            \
        if (!(condition)) {                                                                                                         \
            fprintf(stderr, "%s:%d: %s: check failed: %s\n", __FILE__, __LINE__, check_test, #condition);                                 \
            fflush(NULL);                                                                                                           \
            _exit(1);                                                                                                               \
        }                                                                                                                           \
    } while (0)

#define CHECK_EQUAL(left, right)                                                                                                    \
    do {                                                                                                                            \
        uint64_t check_left = (uint64_t)(left), check_right = (uint64_t)(right);                                                    \
        if (check_left != check_right) {                                                                                            \
            fprintf(stderr, "%s:%d: %s: %s is %" PRIu64 " (0x%" PRIx64 "), %s is %" PRIu64 " (0x%" PRIx64 ")\n", __FILE__,          \
                    __LINE__, check_test, #left, check_left, check_left, #right, check_right, check_right);                         \
            fflush(NULL);                                                                                                           \
            _exit(1);                                                                                                               \
        }                                                                                                                           \
    } while (0)

#define RUN(test)                                                                                                                   \
    do {                                                                                                                            \
        check_test = #test;                                                                                                         \
        if (getenv("CHECK_VERBOSE") != NULL)                                                                                        \
            fprintf(stderr, "%s\n", #test);                                                                                         \
        alarm(120); /* a test that hangs ends the program */                                                                        \
        test();                                                                                                                     \
        alarm(0);                                                                                                                   \
    } while (0)

#endif
