/* Children that are made without libc's handlers for a fork: _Fork(), clone().
 *
 * Such a child is a copy of this process that nobody told of it.  It is left
 * alone: its hooks sleep, nothing of it is written down, and the quarantine's
 * numbers are free there.  One that shares the memory cannot be told from the
 * thread that made it, unless that waits, as for a child of vfork(). */
#define _GNU_SOURCE
#include "hooks.h"

#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

typedef pid_t fork_function(void);
typedef int clone_function(int (*run)(void *), void *stack, int flags,
                           void *argument, ...);

static fork_function *real__Fork;
static clone_function *real_clone;

static pid_t
hook__Fork(void)
{
    pid_t pid = real__Fork();
    if (pid == 0) {
        shd_watch_left_alone(0);
    }
    if (pid > 0) {
        shd_watch_has_forked(pid);
        if (!shd_watch_asleep()) {
            shd_watch_child(pid, "_Fork", SHD_HERE);
        }
    }
    return pid;
}

void
shd_hook_cloned(long result, uint64_t flags, const int *pidfd,
                const void *caller)
{
    if (result == 0) {
        shd_watch_left_alone((flags & CLONE_FILES) != 0);
    }
    if (result > 0 && !(flags & CLONE_VM)) {
        shd_watch_has_forked((pid_t)result);
    }
    if (result <= 0 || flags & CLONE_THREAD || shd_watch_asleep()) {
        return;
    }
    if (!(flags & CLONE_PARENT)) {
        shd_watch_child((pid_t)result, "clone", caller);
    }
    if (flags & CLONE_PIDFD && pidfd != NULL) {
        shd_watch_opened(*pidfd, SHD_FD_PROCESS, NULL, caller);
    }
}

typedef struct {
    int (*run)(void *);
    void *argument;
    int flags;
} beginning;

/* The copy has the frame that made it, too. */
static int
begin_alone(void *given)
{
    const beginning *own = given;
    shd_watch_left_alone((own->flags & CLONE_FILES) != 0);
    return own->run(own->argument);
}

static int
hook_clone(int (*run)(void *), void *stack, int flags, void *argument, ...)
{
    va_list rest;
    va_start(rest, argument);
    pid_t *parent_id = va_arg(rest, pid_t *);
    void *storage = va_arg(rest, void *);
    pid_t *child_id = va_arg(rest, pid_t *);
    va_end(rest);
    beginning own = {run, argument, flags};
    if (run != NULL && !(flags & CLONE_VM)) {
        run = begin_alone;
        argument = &own;
    }
    int waits = (flags & (CLONE_VM | CLONE_VFORK | CLONE_THREAD))
                    == (CLONE_VM | CLONE_VFORK)
                && !shd_watch_asleep();
    if (waits) {
        shd_watch_vfork_begins();
    }
    int pid =
        real_clone(run, stack, flags, argument, parent_id, storage, child_id);
    if (waits) {
        shd_watch_vfork_ended(-1, SHD_HERE);
    }
    shd_hook_cloned(pid == 0 ? -1 : pid, (uint64_t)(unsigned int)flags,
                    parent_id, SHD_HERE);
    return pid;
}

const shd_hook shd_clone_hooks[] = {
    SHD_HOOK(_Fork),
    SHD_HOOK(clone),
    SHD_ALIAS(__clone, clone),
    {0},
};
