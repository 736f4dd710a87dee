/* SPDX-License-Identifier: Apache-2.0
 *
 * steps.h - the hook of the stepped binding: before its k-th access to shared memory the process is killed, or stopped.
 *
 * Put before every source by `-include` when tests/fault/stepped.py builds its own copy of the binding; the shipped one never sees
 * this file. The variables are set and read by name, through ctypes.
 */
#ifndef ZS_TEST_STEPS_H
#define ZS_TEST_STEPS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <signal.h>
#include <unistd.h>

#define ZS_TEST_VISIBLE __attribute__((visibility("default")))

ZS_TEST_VISIBLE long zs_test_kill_at = -1; /* -1: steps are not counted */
ZS_TEST_VISIBLE long zs_test_steps = 0;
ZS_TEST_VISIBLE long zs_test_signal = SIGKILL; /* or SIGSTOP */

static inline void zs_test_step(void)
{
    if (zs_test_kill_at >= 0 && __atomic_fetch_add(&zs_test_steps, 1, __ATOMIC_RELAXED) == zs_test_kill_at)
        kill(getpid(), (int)zs_test_signal); /* SIGKILL does not return, SIGSTOP when the process is continued */
}
#define ZS_STEP() zs_test_step()

#endif
