/* The descriptor watch: what every hook tells it, and what it decides.
 *
 *   hooks_*.c  →  watch.c  →  numbers.c    who has which number
 *                         →  quarantine.c  closed numbers, parked
 *                         →  natural.c     numbers as they would be unwatched
 *                         →  owners.c      file and socket objects
 *                         →  ../record.h   events
 *
 * All functions may be called from any thread, with or without the GIL, in a
 * process that has no Python any more; they keep errno, take no lock and
 * allocate nothing that malloc() manages. */
#ifndef SHD_WATCH_H
#define SHD_WATCH_H

#include "recording/format.h"
#include "recording/here.h"
#include "interpose.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What a descriptor is, as reports name it.  The order is that of
 * shd_watch_kind_name(). */
enum shd_fd_kind {
    SHD_FD_FILE,
    SHD_FD_DIRECTORY,
    SHD_FD_PIPE,
    SHD_FD_SOCKET,
    SHD_FD_EPOLL,
    SHD_FD_EVENT,
    SHD_FD_TIMER,
    SHD_FD_SIGNAL,
    SHD_FD_INOTIFY,
    SHD_FD_MEMORY,  /* memfd, shm_open */
    SHD_FD_PROCESS, /* pidfd */
    SHD_FD_TERMINAL,
    SHD_FD_UNKNOWN, /* received, or seen late */
    SHD_FD_SAME,    /* as the one that it was duplicated from */
    SHD_FD_KINDS,
};

const char *shd_watch_kind_name(int kind);

/* Who owns a number.  RAW: whoever has the integer.  NOBODY: a library that
 * keeps it as long as the process lives; not to be judged. */
enum shd_owner {
    SHD_OWNER_NOBODY = -1,
    SHD_OWNER_RAW = 0,
    SHD_OWNER_FILEIO,
    SHD_OWNER_SOCKET,
    SHD_OWNER_MMAP,
    SHD_OWNER_EPOLL,
    SHD_OWNER_SCANDIR, /* a DIR* of os.scandir or os.listdir */
    SHD_OWNER_SQLITE,  /* libsqlite3 */
    SHD_OWNER_FILE,    /* a FILE* of C */
    SHD_OWNER_DIR,     /* a DIR* of C */
    SHD_OWNER_SAFEHANDLE,
    SHD_OWNERS,
};

/* --- to be asked first by every hook ------------------------------------- */

/* `busy` of shd_here: nested calls of this thread into the watch, and a child by
 * vfork() that runs in its memory. */
#define SHD_BUSY_VFORK (1 << 16)

/* 1 when the hook must do nothing but call the original: the watch is off,
 * this thread is inside it already, or this is a vfork child. */
static inline int
shd_watch_asleep(void)
{
    return !atomic_load_explicit(&shd_on.watching, memory_order_relaxed)
           || shd_here.busy != 0;
}

/* Marks the thread as being inside; the originals are called outside. */
static inline void
shd_watch_enter(void)
{
    shd_here.busy++;
}

static inline void
shd_watch_leave(void)
{
    shd_here.busy--;
}

/* --- creating: after the call --------------------------------------------- */

/* `path`: what was opened, or NULL.  `caller`: the return address of the
 * hook.  Nothing happens for fd < 0. */
void shd_watch_opened(int fd, int kind, const char *path, const void *caller);

/* `from` keeps its own life; kind and detail are taken from it.  Returns the
 * number: a copy of a standard stream is a way to ask for the lowest free one,
 * and gets the one that it would get unwatched, if that is at least `least`. */
int shd_watch_duplicated(int fd, int from, int least, const void *caller);

/* FILE* and DIR*: the number has this owner from now on. */
void shd_watch_owned(int fd, enum shd_owner owner, const void *caller);

/* 1 when a call that failed with EMFILE or ENFILE is worth a second try:
 * parked numbers were given back.  0 records that descriptors are exhausted. */
int shd_watch_make_room(const void *caller);

/* --- closing: before the call --------------------------------------------- */

enum shd_verdict {
    SHD_CALL,   /* call the original */
    SHD_DONE,   /* closed already (parked): the hook returns 0 */
    SHD_REFUSE, /* the number is dead: the hook returns -1, errno EBADF */
};

/* `how` is a literal: "close", "fclose", "closerange", ...  `owner`: on whose
 * behalf (fclose: FILE, closedir: DIR), RAW: judged by `caller`.  For what
 * cannot be done by parking (fclose, closedir) `may_park` is 0: SHD_DONE is
 * never answered. */
enum shd_verdict shd_watch_closing(int fd, const char *how,
                                   enum shd_owner owner, int may_park,
                                   const void *caller);

/* dup2 and dup3 onto `fd`: before the call.  Whatever is there ends. */
void shd_watch_replacing(int fd, int from, const char *how,
                         const void *caller);
/* ... after it; `result` as returned. */
void shd_watch_replaced(int result, int from, const void *caller);

/* 1 when dup2(from, to) points a standard stream elsewhere and ends nobody's
 * handle: those tell shd_watch_redirected() instead, once it is done. */
int shd_watch_redirects(int from, int to);
void shd_watch_redirected(int from, int to);

/* close_range, closefrom: before the call. */
void shd_watch_closing_range(unsigned int first, unsigned int last,
                             const void *caller);

/* --- using ------------------------------------------------------------------ */

/* 1 when the number is parked, or our own: calls that would succeed on the parked
 * descriptor (fstat, fcntl, dup, select, ...) answer EBADF instead. */
int shd_watch_is_parked(int fd);

/* A call on `fd` came back with EBADF, or was refused for a parked number.
 * `function`: a literal.  A probe (fstat, F_GETFD) does not come here. */
void shd_watch_bad(int fd, const char *function, const void *caller);

/* A parked number was asked for, and the answer is that it is closed. */
void shd_watch_probed(int fd, const void *caller);

/* Around calls that may block: closing under them is told.  `fd` -1: over. */
void shd_watch_waiting(int fd);

/* shutdown(2) was called: whoever waits on it is being told. */
void shd_watch_shut_down(int fd);

/* The file that it is open on was locked by it, or unlocked. */
void shd_watch_locked(int fd, int is_locked);

/* Before the program lists /proc/self/fd: nothing of ours may be in it. */
void shd_watch_listed(void);

/* It has opened that folder as `fd`, which will be in the list: whoever closes
 * all that it has found there closes a number that is closed by then. */
void shd_watch_lists(int fd);

/* --- child processes --------------------------------------------------------- */

void shd_watch_child(pid_t pid, const char *how, const void *caller);
void shd_watch_reaped(pid_t pid, const void *caller);

/* Also said by the parent, before it goes on: the child may not have run yet
 * when somebody looks who is left. */
void shd_watch_has_forked(pid_t pid);

/* --- ends --------------------------------------------------------------------- */

/* exec and _exit: before the call; exec that failed: after it.  `caller`: who
 * called _exit(), or NULL. */
void shd_watch_leaving(int status, const void *caller);
void shd_watch_exec(void);
void shd_watch_exec_failed(void);

/* vfork: set by the hook in the parent before the child runs in its memory. */
void shd_watch_vfork_begins(void);
void shd_watch_vfork_ended(pid_t child, const void *caller);

/* In a child that has a copy of the memory and was told of by nobody.  Its
 * descriptors are its own, or its parent's too. */
void shd_watch_left_alone(int shares_descriptors);

/* --- switching (module.c, with the GIL) ----------------------------------------- */

/* 0, or -1 with an exception. */
int shd_watch_start(int quarantine, uint32_t arm);
void shd_watch_stop(void);

/* Compares with /proc/self/fd; returns how many differences were recorded. */
int shd_watch_reconcile(void);

/* --- what the core itself does ------------------------------------------------- */

/* A SafeHandle owns the number from now on / does so no more, and the number
 * stays open.  `slot`: its entry in the live table. */
void shd_watch_adopted(int fd, uint64_t serial, uint32_t slot);
void shd_watch_released(int fd, uint64_t serial);

/* Around a SafeHandle's release: its number is closed only if it is still the
 * one that the object took.  `slot` as above; the answer goes to the second. */
uint64_t shd_watch_release_begins(uint32_t slot);
void shd_watch_release_ended(uint64_t outer);

/* close(2) for SafeHandles: parks where it should, and leaves alone what the
 * number has become if somebody else closed it.  As close(2). */
int shd_watch_close(int fd);

/* After fork, in the child. */
void shd_watch_forked(void);

/* The process ends: the last look. */
void shd_watch_finish(void);

/* --- owners.c tells (with the GIL) ------------------------------------------- */

/* A Python object took `fd` over or let go of it.  `since`: newest serial when
 * its constructor began; what appeared later was opened by it. */
void shd_watch_taken(int fd, enum shd_owner owner, const void *object,
                     uint64_t since);
void shd_watch_let_go(int fd, const void *object);

/* hooks.c: the list, for shd_interpose_start(). */
const shd_hook *shd_hooks(size_t *count);
/* Their originals are known now. */
void shd_hooks_found(void);

#endif
