/* Whether a hook may do anything: what each thread is in the middle of. */
#define _GNU_SOURCE
#include "judge.h"
#include "listing.h"
#include "quarantine.h"
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Atomic int is_on; /* also where nobody sees it any more */

void
shd_inside_switch(int on)
{
    atomic_store(&is_on, on);
    atomic_store(&shd_on.watching, (uint32_t)on);
}

int
shd_inside_was_on(void)
{
    return atomic_load(&is_on);
}

void
shd_watch_vfork_begins(void)
{
    shd_here.busy |= SHD_BUSY_VFORK;
}

void
shd_watch_vfork_ended(pid_t child, const void *caller)
{
    shd_here.busy &= ~SHD_BUSY_VFORK;
    if (child > 0 && !shd_watch_asleep()) {
        shd_watch_enter();
        shd_watch_child(child, "vfork", caller);
        shd_watch_leave();
    }
}

void
shd_watch_left_alone(int shares_descriptors)
{
    shd_watch_vfork_begins();
    if (!shares_descriptors && shd_inside_was_on()) {
        shd_quarantine_hide();
    }
}

void
shd_inside_forked(void)
{
    atomic_store(&shd_on.watching, 1);
    shd_here.busy &= ~SHD_BUSY_VFORK;
    shd_here.waiters = NULL;
    int end = shd_numbers_end();
    for (int fd = 0; fd < end; fd++) {
        shd_number *number = shd_number_find(fd);
        if (number != NULL) {
            atomic_store_explicit(&number->waiters, 0, memory_order_relaxed);
        }
    }
}

/* --- waiting ------------------------------------------------------------------ */

void
shd_watch_waiting(int fd)
{
    if (shd_here.waiters != NULL) {
        __atomic_fetch_sub(shd_here.waiters, 1, __ATOMIC_RELAXED);
        shd_here.waiters = NULL;
    }
    shd_number *number = fd < 0 ? NULL : shd_number_find(fd);
    if (number != NULL) {
        shd_here.waiters = (uint16_t *)&number->waiters;
        __atomic_fetch_add(shd_here.waiters, 1, __ATOMIC_RELAXED);
    }
}

void
shd_watch_shut_down(int fd)
{
    shd_number *number = shd_number_find(fd);
    uint64_t word = number == NULL ? 0 : atomic_load(&number->word);
    if (shd_word_state(word) == SHD_NUMBER_OPEN) {
        atomic_compare_exchange_strong(&number->word, &word,
                                       word | SHD_WORD_SHUT);
    }
}

void
shd_watch_locked(int fd, int is_locked)
{
    shd_number *number = shd_number_find(fd);
    uint64_t word = number == NULL ? 0 : atomic_load(&number->word);
    if (shd_word_state(word) == SHD_NUMBER_OPEN
        && shd_word_owner(word) != SHD_OWNER_SQLITE) {
        atomic_compare_exchange_strong(&number->word, &word,
                                       is_locked ? word | SHD_WORD_LOCKED
                                                 : word & ~SHD_WORD_LOCKED);
    }
}

/* The kernel's word on what a thread does: "NR 0xARG ...", "running" or -1. */
static int
is_blocked_on(long thread, int fd)
{
    char path[64], text[128];
    snprintf(path, sizeof(path), "/proc/self/task/%ld/syscall", thread);
    int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return 0;
    }
    ssize_t size = syscall(SYS_read, file, text, sizeof(text) - 1);
    syscall(SYS_close, file);
    if (size <= 0) {
        return 0;
    }
    text[size] = 0;
    char *rest;
    long call = strtol(text, &rest, 10);
    if (rest == text || call < 0) {
        return 0;
    }
    switch (call) {
    case SYS_read:
    case SYS_readv:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_accept:
    case SYS_accept4:
        return (int)strtoul(rest, NULL, 16) == fd;
    default:
        return 0;
    }
}

static int
is_waiting_thread(long thread, void *fd)
{
    return is_blocked_on(thread, *(int *)fd);
}

int
shd_watch_somebody_waits(int fd, const shd_number *number, uint64_t word)
{
    return atomic_load_explicit(&number->waiters, memory_order_relaxed) != 0
           && !(word & SHD_WORD_SHUT)
           && shd_listing("/proc/self/task", is_waiting_thread, &fd) == 1;
}

/* --- using -------------------------------------------------------------------- */

int
shd_watch_is_parked(int fd)
{
    shd_number *number = shd_number_find(fd);
    if (number == NULL) {
        return 0;
    }
    int state = shd_word_state(
        atomic_load_explicit(&number->word, memory_order_acquire));
    return state == SHD_NUMBER_PARKED || state == SHD_NUMBER_OURS;
}

/* Who has been told that the number is closed acts on what it was told.
 * Unwatched, the answer might have been another one. */
void
shd_watch_probed(int fd, const void *caller)
{
    (void)caller;
    shd_number *number = shd_number_find(fd);
    if (number != NULL) {
        number->natural = -1;
    }
}

void
shd_watch_bad(int fd, const char *function, const void *caller)
{
    (void)caller;
    shd_number *number = shd_number_find(fd);
    if (number == NULL) {
        return;
    }
    int error = errno;
    uint64_t word = atomic_load(&number->word);
    int state = shd_word_state(word);
    int wrong =
        strcmp(function, "close") == 0 ? SHD_WRONG_CLOSE : SHD_WRONG_USE;
    /* EBADF also tells that a file is not open for writing. */
    if (state == SHD_NUMBER_PARKED
        || (state == SHD_NUMBER_CLOSED
            && syscall(SYS_fcntl, fd, F_GETFD) < 0)) {
        shd_judge_stale(fd, number, word, wrong, function);
    }
    errno = error;
}
