/* Child processes: handles that a wait gives back. */
#define _GNU_SOURCE
#include "lifetime/events.h"
#include "natural.h"
#include "state.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILDREN 8192

/* Also of children whose end sends no SIGCHLD. */
#define ANY_END (WEXITED | WNOHANG | WNOWAIT | __WALL)

typedef struct {
    _Atomic int64_t pid; /* 0: free, -1: being changed */
    uint64_t serial;
    uint32_t slot;
} child;

static child children[CHILDREN];
static _Atomic int count;

static shd_subject
subject_of(const child *which, pid_t pid)
{
    shd_subject subject = {
        .serial = which->serial,
        .value = pid,
        .type = shd_record_type("raw", "child", "pid"),
        .detail = 0,
        .slot = which->slot,
    };
    return subject;
}

void
shd_watch_child(pid_t pid, const char *how, const void *caller)
{
    (void)caller;
    int error = errno;
    shd_place here;
    if (pid <= 0 || atomic_load(&count) >= CHILDREN / 2
        || !shd_place_here(&here)) {
        errno = error;
        return;
    }
    uint32_t at = (uint32_t)pid % CHILDREN;
    int64_t is_free = 0;
    while (!atomic_compare_exchange_strong(&children[at].pid, &is_free, -1)) {
        at = (at + 1) % CHILDREN;
        is_free = 0;
    }
    atomic_fetch_add(&count, 1);
    child *mine = &children[at];
    mine->serial = shd_record_serial();
    mine->slot = shd_table_take();
    if (mine->slot != 0) {
        shd_table_set(mine->slot, pid,
                      shd_table_meta(mine->serial, SHD_KIND_WATCHED, 0));
    }
    shd_subject subject = subject_of(mine, pid);
    subject.detail = shd_record_detail(how);
    shd_record_appeared(&here, &subject,
                        here.importing ? SHD_FLAG_IMPORTING : 0);
    atomic_store(&mine->pid, pid);
    errno = error;
}

/* The child's entry, taken out of the table, or NULL.  Removal leaves holes:
 * the whole run is looked through. */
static child *
take_out(pid_t pid)
{
    for (uint32_t i = 0; i < CHILDREN && atomic_load(&count) > 0; i++) {
        child *each = &children[((uint32_t)pid + i) % CHILDREN];
        int64_t wanted = pid;
        if (atomic_load_explicit(&each->pid, memory_order_relaxed) == pid
            && atomic_compare_exchange_strong(&each->pid, &wanted, -1)) {
            return each;
        }
    }
    return NULL;
}

static void
end_child(child *which, pid_t pid, int ending, int flags)
{
    shd_subject subject = subject_of(which, pid);
    shd_place here;
    if (shd_place_here(&here)) {
        shd_record_event(&here, &subject, SHD_EVENT_CLOSE, 0, ending,
                         flags
                             | (shd_is_finalizing() ? SHD_FLAG_FINALIZING : 0),
                         pid, 0, 0);
    }
    shd_record_vanished(&subject);
    shd_watch_forget_entry(which->slot, which->serial);
    atomic_fetch_sub(&count, 1);
    atomic_store(&which->pid, 0);
}

void
shd_watch_reaped(pid_t pid, const void *caller)
{
    (void)caller;
    int error = errno;
    child *which = pid > 0 ? take_out(pid) : NULL;
    if (which != NULL) {
        end_child(which, pid, SHD_ENDING_CLOSED, 0);
    }
    errno = error;
}

void
shd_children_checkpoint(void)
{
    for (int i = 0; i < CHILDREN && atomic_load(&count) > 0; i++) {
        int64_t pid = atomic_load(&children[i].pid);
        if (pid <= 0) {
            continue;
        }
        siginfo_t info = {0};
        long result =
            syscall(SYS_waitid, P_PID, (int)pid, &info, ANY_END, NULL);
        /* Waited for out of our sight, or by nobody's need (SIGCHLD is
           ignored). */
        if (result < 0 && errno == ECHILD) {
            child *which = take_out((pid_t)pid);
            if (which != NULL) {
                end_child(which, (pid_t)pid, SHD_ENDING_CLOSED, SHD_FLAG_LATE);
            }
        }
    }
}

void
shd_children_end(void)
{
    shd_children_checkpoint();
    for (int i = 0; i < CHILDREN && atomic_load(&count) > 0; i++) {
        int64_t pid = atomic_load(&children[i].pid);
        siginfo_t info = {0};
        if (pid > 0
            && syscall(SYS_waitid, P_PID, (int)pid, &info, ANY_END, NULL) == 0
            && info.si_pid == 0) {
            /* Still running: it outlives its parent, as daemons do. */
            child *which = take_out((pid_t)pid);
            if (which != NULL) {
                end_child(which, (pid_t)pid, SHD_ENDING_INHERITED,
                          SHD_FLAG_LATE);
            }
        }
    }
}

void
shd_children_each(void (*visit)(const shd_subject *child, void *arg),
                  void *arg)
{
    for (int i = 0; i < CHILDREN && atomic_load(&count) > 0; i++) {
        int64_t pid = atomic_load(&children[i].pid);
        if (pid > 0) {
            const shd_subject subject = subject_of(&children[i], (pid_t)pid);
            visit(&subject, arg);
        }
    }
}

void
shd_children_forked(void)
{
    for (int i = 0; i < CHILDREN && atomic_load(&count) > 0; i++) {
        atomic_store(&children[i].pid, 0);
    }
    atomic_store(&count, 0);
}
