/* Beginning, end, forks; and the comparison with what the kernel says. */
#define _GNU_SOURCE
#include "bereft.h"
#include "callsites.h"
#include "lifetime/events.h"
#include "interpose.h"
#include "judge.h"
#include "listing.h"
#include "natural.h"
#include "owners.h"
#include "quarantine.h"
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

uint32_t shd_watch_arm_at SHD_HOT;
_Atomic int shd_watch_armed SHD_HOT;
static _Atomic int checking;
static uint16_t checkpoint_round;

int
shd_watch_make_room(const void *caller)
{
    (void)caller;
    int error = errno;
    int given = shd_quarantine_empty();
    if (given == 0) {
        static _Atomic int told;
        shd_place here;
        if (atomic_fetch_add(&told, 1) < 16 && shd_place_here(&here)) {
            struct rlimit limit = {0};
            getrlimit(RLIMIT_NOFILE, &limit);
            shd_subject nothing = {0};
            shd_record_event(&here, &nothing, SHD_EVENT_EXHAUSTED, 0, 0, 0,
                             (int64_t)limit.rlim_cur, 0, 1);
            shd_owners_soon(SHD_SOON_EXHAUSTED);
        }
        atomic_store(&shd_watch_armed, 1);
    }
    errno = error;
    return given > 0;
}

void
shd_watch_listed(void)
{
    shd_quarantine_hide();
}

void
shd_watch_lists(int fd)
{
    int error = errno;
    shd_watch_note_foreign(fd);
    errno = error;
}

/* --- what the kernel says -------------------------------------------------------- */

static int
kind_of(int fd)
{
    struct stat status;
    if (fstat(fd, &status) < 0) {
        return SHD_FD_UNKNOWN;
    }
    switch (status.st_mode & S_IFMT) {
    case S_IFREG:
        return SHD_FD_FILE;
    case S_IFDIR:
        return SHD_FD_DIRECTORY;
    case S_IFIFO:
        return SHD_FD_PIPE;
    case S_IFSOCK:
        return SHD_FD_SOCKET;
    case S_IFCHR:
        return isatty(fd) ? SHD_FD_TERMINAL : SHD_FD_FILE;
    default:
        return SHD_FD_UNKNOWN;
    }
}

void
shd_watch_note_foreign(int fd)
{
    shd_number *number = shd_number_make(fd);
    uint64_t word = number == NULL ? 0 : atomic_load(&number->word);
    int state = shd_word_state(word);
    if (number != NULL && state != SHD_NUMBER_OPEN && state != SHD_NUMBER_OURS
        && state != SHD_NUMBER_CLOSING) {
        number->natural = fd;
        number->slot = 0;
        atomic_store(&number->object, 0);
        shd_natural_take_at(fd, 0);
        shd_watch_count(1);
        atomic_store(&number->word,
                     shd_word(0, SHD_NUMBER_OPEN, SHD_OWNER_RAW, kind_of(fd)));
    }
}

/* Who opened it is not known; what, the kernel still knows.  NULL: nothing
 * that has a name. */
static const char *
name_of(int fd, int kind, char *name, size_t room)
{
    char link[40];
    if (kind != SHD_FD_FILE && kind != SHD_FD_DIRECTORY) {
        return NULL;
    }
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    long size = syscall(SYS_readlinkat, AT_FDCWD, link, name, room - 1);
    name[size > 0 ? size : 0] = 0;
    return name[0] == '/' ? name : NULL;
}

static int
note_late(int fd)
{
    shd_number *number = shd_number_make(fd);
    uint64_t word = number == NULL ? 0 : atomic_load(&number->word);
    int state = shd_word_state(word);
    if (number == NULL || state == SHD_NUMBER_OPEN || state == SHD_NUMBER_OURS
        || state == SHD_NUMBER_CLOSING || state == SHD_NUMBER_PARKED) {
        return 0;
    }
    char name[512];
    int kind = kind_of(fd);
    shd_watch_begin(fd, kind, SHD_OWNER_RAW,
                    name_of(fd, kind, name, sizeof(name)), 0, SHD_FLAG_LATE,
                    -1);
    return 1;
}

typedef struct {
    int begins; /* the watch does */
    int changes;
} look;

static int
look_at(long fd, void *arg)
{
    look *now = arg;
    if (now->begins) {
        shd_watch_note_foreign((int)fd);
    }
    else {
        now->changes += note_late((int)fd);
    }
    shd_number *number = shd_number_find((int)fd);
    if (number != NULL) {
        number->round = checkpoint_round;
    }
    return 0;
}

static int
end_missing(void)
{
    int changes = 0;
    int end = shd_numbers_end();
    for (int fd = 0; fd < end; fd++) {
        shd_number *number = shd_number_find(fd);
        if (number == NULL || number->round == checkpoint_round) {
            continue;
        }
        uint64_t word = atomic_load(&number->word);
        if (shd_word_state(word) != SHD_NUMBER_OPEN
            || syscall(SYS_fcntl, fd, F_GETFD) >= 0 || errno != EBADF
            || !atomic_compare_exchange_strong(
                &number->word, &word,
                shd_word_with_state(word, SHD_NUMBER_CLOSED))) {
            continue;
        }
        shd_bereft_note(fd, number, word);
        shd_watch_end_unseen(fd, number, word, SHD_ENDING_CLOSED);
        changes++;
    }
    return changes;
}

/* Calls that were under way when the watch stopped or began again are counted
 * twice or not at all. */
static int started_again;

static void
count_again(void)
{
    int before = atomic_load(&shd_watch_open);
    int open = 0;
    int end = shd_numbers_end();
    for (int fd = 0; fd < end; fd++) {
        shd_number *number = shd_number_find(fd);
        open +=
            number != NULL
            && shd_word_state(atomic_load(&number->word)) == SHD_NUMBER_OPEN;
    }
    atomic_compare_exchange_strong(&shd_watch_open, &before, open);
}

int
shd_watch_reconcile(void)
{
    if (!shd_watch_running() || atomic_exchange(&checking, 1)) {
        return 0;
    }
    int error = errno;
    shd_watch_enter();
    shd_judge_settle();
    shd_interpose_again();
    shd_quarantine_refresh();
    checkpoint_round++;
    look now = {0, 0};
    if (shd_listing("/proc/self/fd", look_at, &now) == 0) {
        now.changes += end_missing();
    }
    if (started_again) {
        count_again();
    }
    shd_children_checkpoint();
    shd_watch_leave();
    atomic_store(&checking, 0);
    errno = error;
    return now.changes;
}

/* --- beginning and end -------------------------------------------------------------- */

/* Of an earlier watch nothing is known any more: numbers came and went since.
 * Only what a SafeHandle still holds is certain.  What a thread is just closing
 * is left to it. */
static void
forget_earlier(void)
{
    shd_bereft_start();
    int end = shd_numbers_end();
    for (int fd = 0; fd < end; fd++) {
        shd_number *number = shd_number_find(fd);
        uint64_t word = number == NULL ? 0 : atomic_load(&number->word);
        int state = shd_word_state(word);
        if (state == SHD_NUMBER_CLOSING || state == SHD_NUMBER_OURS) {
            continue;
        }
        started_again |= word != 0;
        int is_open = syscall(SYS_fcntl, fd, F_GETFD) >= 0;
        if (state == SHD_NUMBER_OPEN && is_open
            && shd_watch_is_held(number, word)) {
            if (number->natural < 0) {
                number->natural = fd;
                shd_natural_take_at(fd, shd_word_serial(word));
            }
            continue;
        }
        if (number != NULL
            && atomic_compare_exchange_strong(&number->word, &word, 0)
            && state == SHD_NUMBER_OPEN) {
            shd_watch_end_unseen(fd, number, word,
                                 is_open ? SHD_ENDING_TRANSFERRED
                                         : SHD_ENDING_CLOSED);
        }
    }
}

int
shd_watch_start(int quarantine, uint32_t arm)
{
    if (shd_watch_running()) {
        return 0;
    }
    shd_watch_arm_at = arm;
    atomic_store(&shd_watch_armed, arm == 0);
    checkpoint_round++;
    shd_natural_kept = quarantine > 0;
    forget_earlier();
    look now = {1, 0};
    shd_listing("/proc/self/fd", look_at, &now);
    shd_quarantine_start(quarantine);
    char why[256];
    size_t count;
    const shd_hook *hooks = shd_hooks(&count);
    if (shd_interpose_start(hooks, count, why, sizeof(why)) < 0) {
        shd_quarantine_stop();
        PyErr_SetString(PyExc_OSError, why);
        return -1;
    }
    shd_hooks_found();
    shd_on_start();
    shd_inside_switch(1);
    shd_leaving_start();
    if (shd_owners_start() < 0) {
        shd_watch_stop();
        return -1;
    }
    if (shd_recording()) {
        shd_rec.header->watch = 1;
    }
    return 0;
}

void
shd_watch_stop(void)
{
    if (!shd_watch_running()) {
        return;
    }
    shd_watch_reconcile();
    shd_owners_stop();
    shd_inside_switch(0);
    shd_interpose_stop();
    shd_quarantine_stop();
}

void
shd_watch_finish(void)
{
    if (shd_watch_running()) {
        shd_watch_reconcile();
        shd_watch_enter();
        shd_children_end();
        shd_watch_tell_locks();
        shd_watch_leave();
        shd_quarantine_hide();
    }
}

void
shd_watch_forked(void)
{
    if (!shd_inside_was_on()) {
        return;
    }
    shd_inside_forked();
    atomic_store(&checking, 0);
    shd_judge_forked();
    shd_quarantine_forked();
    /* What other threads were just opening is the parent's, too. */
    look now = {1, 0};
    shd_listing("/proc/self/fd", look_at, &now);
    shd_children_forked();
    shd_leaving_forked();
    shd_owners_forked();
}

void
shd_watch_leaving(int status, const void *caller)
{
    if (shd_recording() && shd_rec.pid == getpid()) {
        shd_watch_enter();
        shd_judge_settle();
        /* A signal handler in C that ends the process may have come in the
           middle of anything; os._exit() comes between two instructions. */
        if (caller != NULL && shd_callsites_is_python(caller)) {
            shd_leaving_judge();
        }
        shd_watch_leave();
        shd_rec.header->abrupt = 1;
        shd_recorder_mark_ended(status);
    }
}

void
shd_watch_exec(void)
{
    shd_watch_leaving(SHD_STATUS_UNKNOWN, NULL);
}

void
shd_watch_exec_failed(void)
{
    if (shd_recording() && shd_rec.pid == getpid()) {
        shd_rec.header->abrupt = 0;
        __atomic_store_n(&shd_rec.header->ended, SHD_ENDED_RUNNING,
                         __ATOMIC_RELEASE);
    }
}
