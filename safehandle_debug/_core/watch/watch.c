/* A number gets a handle: opened, duplicated, found. */
#define _GNU_SOURCE
#include "bereft.h"
#include "callsites.h"
#include "lifetime/events.h"
#include "judge.h"
#include "natural.h"
#include "quarantine.h"
#include "state.h"

#include <errno.h>

const char *
shd_watch_kind_name(int kind)
{
    static const char *const names[SHD_FD_KINDS] = {
        [SHD_FD_FILE] = "file",          [SHD_FD_DIRECTORY] = "directory",
        [SHD_FD_PIPE] = "pipe",          [SHD_FD_SOCKET] = "socket",
        [SHD_FD_EPOLL] = "epoll",        [SHD_FD_EVENT] = "eventfd",
        [SHD_FD_TIMER] = "timerfd",      [SHD_FD_SIGNAL] = "signalfd",
        [SHD_FD_INOTIFY] = "inotify",    [SHD_FD_MEMORY] = "memfd",
        [SHD_FD_PROCESS] = "pidfd",      [SHD_FD_TERMINAL] = "terminal",
        [SHD_FD_UNKNOWN] = "descriptor", [SHD_FD_SAME] = "descriptor",
    };
    return names[kind];
}

_Atomic uint64_t shd_watch_types[SHD_OWNERS][SHD_FD_KINDS];

uint32_t
shd_watch_new_type(int owner, int kind)
{
    static const char *const owners[SHD_OWNERS] = {
        [SHD_OWNER_RAW] = "raw",        [SHD_OWNER_FILEIO] = "FileIO",
        [SHD_OWNER_SOCKET] = "socket",  [SHD_OWNER_MMAP] = "mmap",
        [SHD_OWNER_EPOLL] = "epoll",    [SHD_OWNER_SCANDIR] = "scandir",
        [SHD_OWNER_SQLITE] = "sqlite3", [SHD_OWNER_FILE] = "FILE",
        [SHD_OWNER_DIR] = "DIR",        [SHD_OWNER_SAFEHANDLE] = "SafeHandle",
    };
    uint64_t epoch = shd_rec.epoch;
    uint32_t id =
        shd_record_type(owners[owner], shd_watch_kind_name(kind), "fd");
    atomic_store_explicit(&shd_watch_types[owner][kind], epoch << 32 | id,
                          memory_order_relaxed);
    return id;
}

/* --- a handle begins -------------------------------------------------------- */

/* The record says open, and the kernel gave the number out again. */
void
shd_watch_end_unseen(int fd, shd_number *number, uint64_t word, int ending)
{
    shd_natural_give(number->natural, shd_word_serial(word));
    shd_watch_count(-1);
    if (word & SHD_WORD_BARE) {
        shd_record_bare(0, -1);
        return;
    }
    if (shd_word_owner(word) == SHD_OWNER_SAFEHANDLE
        || shd_word_serial(word) == 0) {
        return; /* its object has the last word */
    }
    shd_subject subject = shd_judge_subject(fd, number, word);
    shd_place here;
    if (shd_place_bare(&here)) {
        shd_record_event(&here, &subject, SHD_EVENT_CLOSE, 0, ending,
                         SHD_FLAG_LATE, fd, 0, 0);
    }
    shd_record_vanished(&subject);
    shd_watch_clear_entry(number, subject.serial);
}

/* Whether this one gets an event: at `sampled` one in so many, before the
 * watch is armed none. */
static int
is_recorded(uint64_t serial)
{
    return atomic_load_explicit(&shd_watch_armed, memory_order_relaxed)
           && (shd_rec.settings.level == SHD_LEVEL_FULL || !shd_recording()
               || (uint32_t)serial % shd_rec.settings.sample == 0);
}

/* Something else was known of the number. */
static __attribute__((noinline)) void
end_old(int fd, shd_number *number, uint64_t old)
{
    int error = errno;
    if (shd_word_state(old) == SHD_NUMBER_OPEN) {
        shd_bereft_note(fd, number, old);
        shd_watch_end_unseen(fd, number, old, SHD_ENDING_CLOSED);
    }
    shd_quarantine_forget(number, old);
    errno = error;
}

static inline __attribute__((always_inline)) void
begin(int fd, int kind, int owner, const char *path, uint32_t detail,
      int flags, int natural)
{
    shd_number *number = shd_number_make(fd);
    if (number == NULL) {
        return;
    }
    uint64_t old = atomic_load_explicit(&number->word, memory_order_acquire);
    if (shd_word_state(old) == SHD_NUMBER_OPEN
        || shd_word_state(old) == SHD_NUMBER_PARKED) {
        end_old(fd, number, old);
    }
    uint64_t serial = shd_record_serial();
    if (natural < 0) {
        natural = shd_natural_take(serial);
    }
    else {
        shd_natural_take_at(natural, serial);
    }
    shd_watch_count(1);
    number->natural = natural;
    number->slot = 0;
    number->detail = 0;
    number->epoch = shd_rec.epoch;
    number->second = 0;
    atomic_store_explicit(&number->object, 0, memory_order_relaxed);
    uint64_t word = shd_word(serial, SHD_NUMBER_OPEN, owner, kind);
    if (flags & SHD_FLAG_LATE) {
        word |= SHD_WORD_LATE;
    }
    if (!is_recorded(serial)) {
        word |= SHD_WORD_BARE;
        shd_record_bare(serial, 1);
    }
    else {
        /* A forked child's file begins here: its ids are others. */
        shd_record_ready();
        number->epoch = shd_rec.epoch;
        if (number->kept == 0) {
            number->kept = shd_table_take();
        }
        number->slot = number->kept;
        if (number->slot != 0) {
            shd_table_fill(number->slot, fd,
                           shd_table_meta(serial, SHD_KIND_WATCHED, 0));
        }
        number->detail = detail;
        shd_subject subject = shd_judge_subject(fd, number, word);
        shd_record_begun(&subject, path, flags);
        number->detail = subject.detail;
    }
    atomic_store_explicit(&number->word, word, memory_order_release);
}

void
shd_watch_begin(int fd, int kind, int owner, const char *path, uint32_t detail,
                int flags, int natural)
{
    begin(fd, kind, owner, path, detail, flags, natural);
}

SHD_FAST void
shd_watch_opened(int fd, int kind, const char *path, const void *caller)
{
    if (fd < 0 || shd_callsites_note(caller)) {
        return;
    }
    int owner = shd_callsites_opener(caller);
    shd_judge_next(-1, 0);
    if (owner == SHD_OWNER_NOBODY) {
        shd_watch_note_foreign(fd);
        return;
    }
    begin(fd, kind, owner, path, 0, 0, -1);
}

void
shd_watch_begin_like(int fd, int from, int natural)
{
    int kind = SHD_FD_UNKNOWN;
    uint32_t detail = 0;
    shd_number *source = shd_number_find(from);
    if (source != NULL) {
        uint64_t word = atomic_load(&source->word);
        if (shd_word_state(word) == SHD_NUMBER_OPEN) {
            kind = shd_word_kind(word);
            detail = source->epoch == shd_rec.epoch ? source->detail : 0;
        }
    }
    shd_watch_begin(fd, kind, SHD_OWNER_RAW, NULL, detail, 0, natural);
}

int
shd_watch_duplicated(int fd, int from, int least, const void *caller)
{
    if (fd < 0 || shd_callsites_note(caller)) {
        return fd;
    }
    shd_judge_next(-1, 0);
    shd_watch_copied(from);
    if (from <= 2) {
        int natural = shd_natural_lowest();
        if (natural >= least && natural < fd) {
            fd = shd_quarantine_take_over(fd, natural);
        }
    }
    shd_watch_begin_like(fd, from, -1);
    return fd;
}
