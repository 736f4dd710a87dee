/* SPDX-License-Identifier: Apache-2.0
 *
 * stepper.c - kills a process at its k-th instruction, or before its k-th system call; or holds it there.
 *
 *     instructions PID K    or    calls PID K    or    hold PID K          one line a victim, on stdin
 *
 * Between two SIGUSR1 that the victim sends itself lies what is measured. The answer is "ready" when the victim may go on, and then,
 * when it is dead and all that it held is free: "killed K", or "finished N" for one that came to the second mark after N.
 * "denied" where the system allows no tracing.
 *
 * One that is held before its K-th system call stands still and lives: "held K", or "populates K" where that call is an madvise. At the
 * line "on" it goes on, untraced, as does one that has come to the second mark ("finished N"). At the line "watch" it goes on, and
 * "gone" tells that it has come to the mark or has died.
 *
 * Why the marks are signals: they stop a traced process by themselves, on every machine, and change nothing in it. Why it traces and
 * does not put breakpoints: the code that runs is the code that ships, byte for byte.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>

static void say(const char *what, long number)
{
    if (number < 0)
        printf("%s\n", what);
    else
        printf("%s %ld\n", what, number);
    fflush(stdout);
}

/* Both on one processor: a step is then a switch between the two, and not a wake-up of another processor, which takes twice as long.
 * Where that is not allowed it is only slower. */
static void share_processor(pid_t victim, const cpu_set_t *all)
{
    cpu_set_t here;
    int processor;
    (void)sched_setaffinity(0, sizeof *all, all); /* wherever there is room now */
    processor = sched_getcpu();
    CPU_ZERO(&here);
    CPU_SET(processor < 0 ? 0 : (unsigned)processor, &here);
    if (sched_setaffinity(0, sizeof here, &here) == 0)
        (void)sched_setaffinity(victim, sizeof here, &here);
}

/* Go on in the given way until the next stop. Returns 0 when the victim is gone, its stop signal otherwise. */
static int go_on(enum __ptrace_request how, pid_t victim, int deliver)
{
    int status;
    if (ptrace(how, victim, NULL, (void *)(long)deliver) != 0 && errno != ESRCH) {
        perror("ptrace");
        exit(1);
    }
    if (waitpid(victim, &status, __WALL) < 0 || !WIFSTOPPED(status))
        return 0;
    return WSTOPSIG(status) | (status >> 16 == PTRACE_EVENT_STOP ? 0x100 : 0);
}

enum { MARK = SIGUSR1, CALL = SIGTRAP | 0x80 };

/* Run up to the next mark. False: it is gone. */
static int run_to_mark(pid_t victim)
{
    int stopped = 0;
    for (;;) {
        stopped = go_on(PTRACE_CONT, victim, stopped & 0x100 || stopped == SIGTRAP ? 0 : stopped);
        if (stopped == 0 || stopped == MARK)
            return stopped == MARK;
    }
}

/* From a mark on, `limit` instructions, or to the entry of system call number `limit`. Returns how many were counted; *finished
 * tells whether the second mark came before. */
static long step(pid_t victim, int calls, long limit, int *finished)
{
    long count = 0;
    int entering = 1, deliver = 0;
    *finished = 0;
    while (calls || count < limit) {
        int stopped = go_on(calls ? PTRACE_SYSCALL : PTRACE_SINGLESTEP, victim, deliver);
        deliver = 0;
        if (stopped == 0)
            return -1;
        if (stopped == MARK) {
            *finished = 1;
            break;
        }
        if (calls && stopped == CALL) {
            if (entering && count++ == limit)
                return limit;
            entering = !entering;
        } else if (!calls && stopped == SIGTRAP) {
            count++;
        } else if (stopped < 0x100) {
            deliver = stopped;
        }
    }
    return count;
}

/* Whether the system call that it stands before is an madvise. */
static int before_madvise(pid_t victim)
{
    struct __ptrace_syscall_info info;
    memset(&info, 0, sizeof info);
    return ptrace(PTRACE_GET_SYSCALL_INFO, victim, (void *)sizeof info, &info) > 0 && info.entry.nr == SYS_madvise;
}

int main(void)
{
    char what[32], word[32];
    int pid;
    long limit;
    cpu_set_t all;
    CPU_ZERO(&all);
    (void)sched_getaffinity(0, sizeof all, &all);
    while (scanf("%31s %d %ld", what, &pid, &limit) == 3) {
        int hold = strcmp(what, "hold") == 0, calls = hold || strcmp(what, "calls") == 0, finished = 0, status;
        long count;
        pid_t victim = (pid_t)pid;
        if (ptrace(PTRACE_SEIZE, victim, NULL, (void *)(long)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)) != 0 ||
            ptrace(PTRACE_INTERRUPT, victim, NULL, NULL) != 0 || waitpid(victim, &status, __WALL) < 0) {
            say("denied", -1);
            continue;
        }
        if (!calls)
            share_processor(victim, &all);
        say("ready", -1);
        count = run_to_mark(victim) ? step(victim, calls, limit, &finished) : -1;
        if (hold && count >= 0) {
            int watch, there = 1;
            say(finished ? "finished" : before_madvise(victim) ? "populates" : "held", count);
            if (!finished && scanf("%31s", word) != 1)
                return 0; /* and EXITKILL ends it */
            watch = !finished && strcmp(word, "watch") == 0;
            if (watch)
                there = run_to_mark(victim);
            if (there && ptrace(PTRACE_DETACH, victim, NULL, NULL) != 0)
                perror("ptrace");
            if (watch)
                say("gone", -1);
            continue;
        }
        kill(victim, SIGKILL);
        while (waitpid(victim, &status, __WALL) == victim && !WIFEXITED(status) && !WIFSIGNALED(status))
            ;
        if (count < 0)
            say("lost", -1);
        else
            say(finished ? "finished" : "killed", count);
    }
    return 0;
}
