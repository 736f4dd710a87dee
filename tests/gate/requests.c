/* SPDX-License-Identifier: Apache-2.0
 *
 * Valgrind's client requests as functions, for Python through ctypes. Outside valgrind they do nothing.
 */
#include <valgrind/callgrind.h>

void gate_begin(void)
{
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
}

void gate_end(const char *name)
{
    CALLGRIND_DUMP_STATS_AT(name);
    CALLGRIND_STOP_INSTRUMENTATION;
}
