/* What the files of hooks share.
 *
 * A hook is a function of libc's name and signature that calls libc's own and
 * tells the watch.  Nothing here takes a lock, allocates or changes errno
 * beyond what libc's function did.  The core's own calls are not hooked: what
 * these files call by name is libc's. */
#ifndef SHD_HOOKS_H
#define SHD_HOOKS_H

#include <features.h>

/* What programs pass in fact, NULL too, reaches libc as it came: the compiler
 * must not conclude from the headers what it cannot be. */
#undef __nonnull
#define __nonnull(parameters)

#include "interpose.h"
#include "recording/atomics.h"
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Where the program called; only in the hook's own frame. */
#define SHD_HERE __builtin_return_address(0)

#define SHD_UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* libc's function; NULL where libc lacks it, and then nobody calls the hook. */
#define SHD_REAL(name) static __typeof__(name) *real_##name

#define SHD_HOOK(name) {#name, (void *)hook_##name, (void **)&real_##name}
/* Another name of the same function of libc. */
#define SHD_ALIAS(alias, name)                                                \
    {#alias, (void *)hook_##name, (void **)&real_##name}

/* The groups; the last entry of each has no name. */
extern const shd_hook shd_open_hooks[];
extern const shd_hook shd_duplicate_hooks[];
extern const shd_hook shd_socket_hooks[];
extern const shd_hook shd_special_hooks[];
extern const shd_hook shd_stream_hooks[];
extern const shd_hook shd_close_hooks[];
extern const shd_hook shd_use_hooks[];
extern const shd_hook shd_guard_hooks[];
extern const shd_hook shd_path_hooks[];
extern const shd_hook shd_process_hooks[];
extern const shd_hook shd_clone_hooks[];
extern const shd_hook shd_raw_hooks[];

/* 1: what the program would call is libc's own open() and close().  In a process
 * of one thread, where nobody could cancel them, those are the system call and
 * nothing more; and after a system call, the way back through each function that
 * was on the way there is one that the processor has forgotten. */
extern int shd_hook_direct;

static inline int
shd_hook_is_direct(void)
{
    return SHD_SINGLE_THREADED && shd_hook_direct;
}

#if defined(__x86_64__)
static inline __attribute__((always_inline)) long
shd_hook_call(long number, long one, long two, long three, long four)
{
    register long fourth __asm__("r10") = four;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(one), "S"(two), "d"(three), "r"(fourth)
                     : "rcx", "r11", "memory");
    if (SHD_UNLIKELY(result < 0)) {
        errno = (int)-result;
        return -1;
    }
    return result;
}
#define SHD_MAY_CALL 1
#else
#define SHD_MAY_CALL 0
#define shd_hook_call(number, one, two, three, four) (-1)
#endif

/* libc's openat() and close(), the shortest way. */
#define SHD_OPENAT(folder, path, flags, mode, otherwise)                      \
    (SHD_MAY_CALL && shd_hook_is_direct()                                     \
         ? (int)shd_hook_call(SYS_openat, folder, (long)(path), flags, mode)  \
         : (otherwise))
#define SHD_CLOSE(fd, otherwise)                                              \
    (SHD_MAY_CALL && shd_hook_is_direct()                                     \
         ? (int)shd_hook_call(SYS_close, fd, 0, 0, 0)                         \
         : (otherwise))

/* The call failed for want of a number, and there is one now. */
static inline int
shd_hook_retry(const void *caller)
{
    return (errno == EMFILE || errno == ENFILE) && shd_watch_make_room(caller);
}

/* Returns from a hook what `call` returns, a new descriptor. */
#define SHD_CREATE(call, kind, path)                                          \
    do {                                                                      \
        int created = (call);                                                 \
        if (shd_watch_asleep()) {                                             \
            return created;                                                   \
        }                                                                     \
        if (SHD_UNLIKELY(created < 0) && shd_hook_retry(SHD_HERE)) {          \
            created = (call);                                                 \
        }                                                                     \
        if (created >= 0) {                                                   \
            shd_watch_opened(created, kind, path, SHD_HERE);                  \
        }                                                                     \
        return created;                                                       \
    } while (0)

/* The rest of the two below, for a path that may name a descriptor. */
int shd_hook_special_path(int folder, const char *path, int opens);

/* Whether a name in a folder is that of a parked number, and the folder that of
 * this process's descriptors. */
int shd_hook_is_hidden(int folder, const char *name);

static inline int
shd_hook_may_be_special(const char *path)
{
    if (path == NULL) {
        return 0;
    }
    if (path[0] != '/') {
        return path[0] >= '0' && path[0] <= '9';
    }
    return (path[1] == 'p' && path[2] == 'r')
           || (path[1] == 'd' && path[2] == 'e' && path[3] == 'v'
               && path[4] == '/' && (path[5] == 'f' || path[5] == '/'));
}

/* Before the entries of an open folder are read, by who does without libc. */
void shd_hook_listing(int folder);

/* Before a path is opened.  1: it is the folder of this process's descriptors,
 * in which there is nothing of ours now; it gets the number that it would.
 * -1: it is the name of a parked number, errno says that there is no such
 * file. */
static inline int
shd_hook_opening(int folder, const char *path)
{
    return SHD_UNLIKELY(shd_hook_may_be_special(path))
               ? shd_hook_special_path(folder, path, 1)
               : 0;
}

/* The same for a call that does not open. */
static inline int
shd_hook_names_parked(int folder, const char *path)
{
    return SHD_UNLIKELY(shd_hook_may_be_special(path))
           && shd_hook_special_path(folder, path, 0) < 0;
}

/* Whether a number is closed, be it parked or not; errno is kept. */
int shd_hook_is_dead(int fd);

/* EBADF came back.  Not told when the number is in order and only the wrong
 * one for the call: a write to what was opened for reading, O_PATH. */
void shd_hook_bad(int fd, const char *function, const void *caller);
/* ... from a call on two numbers. */
void shd_hook_bad_of_two(int one, int other, const char *function,
                         const void *caller);

/* A parked number answers this call otherwise than a closed one would.  0: the
 * hook returns -1, errno is set. */
static inline int
shd_hook_may_use(int fd, const char *function, const void *caller)
{
    if (SHD_UNLIKELY(shd_watch_is_parked(fd))) {
        shd_watch_bad(fd, function, caller);
        errno = EBADF;
        return 0;
    }
    return 1;
}

/* The same for a path below a folder's number; an absolute one leaves the
 * number out of account.  A path may itself be the name of a parked number. */
static inline int
shd_hook_may_use_in(int folder, const char *path, const char *function,
                    const void *caller)
{
    if (shd_hook_names_parked(folder, path)) {
        return 0;
    }
    if (SHD_UNLIKELY(shd_watch_is_parked(folder))
        && (path == NULL || path[0] != '/')) {
        return shd_hook_may_use(folder, function, caller);
    }
    return 1;
}

/* The same for calls that only ask whether the number is open. */
static inline int
shd_hook_may_probe(int fd, const char *path, const void *caller)
{
    if (shd_hook_names_parked(fd, path)) {
        return 0;
    }
    if (SHD_UNLIKELY(shd_watch_is_parked(fd))
        && (path == NULL || path[0] != '/')) {
        shd_watch_probed(fd, caller);
        errno = EBADF;
        return 0;
    }
    return 1;
}

/* 1 when dup2(from, to) will end what is at `to`: it does not if it fails. */
int shd_hook_will_replace(int from, int to);

/* The descriptors of a received message. */
struct msghdr;
void shd_hook_received(const struct msghdr *message, const void *caller);
/* 0: one of those that are to be sent is parked; errno is set. */
int shd_hook_may_send(const struct msghdr *message, const void *caller);
/* sendmsg() came back with EBADF. */
void shd_hook_bad_message(int fd, const struct msghdr *message,
                          const void *caller);

/* Before a call that may wait; what it returns goes to the second, after it.
 * A process of one thread has nobody who could close the number meanwhile. */
static inline int
shd_hook_begin_wait(int fd)
{
    if (SHD_SINGLE_THREADED) {
        return 0;
    }
    shd_watch_waiting(fd);
    return 1;
}
static inline void
shd_hook_end_wait(int began)
{
    if (began) {
        shd_watch_waiting(-1);
    }
}

/* What the assembly of hooks_raw.c must know of the table in hooks_syscall.c. */
#define SHD_RAW_CLONE 25
#define SHD_RAW_CLONE3 26

/* clone() returned, in the parent or in a child with its own memory.  `pidfd`:
 * where its descriptor is, if the flags ask for one. */
void shd_hook_cloned(long result, uint64_t flags, const int *pidfd,
                     const void *caller);

/* A child process that a wait call told of; `options`: of waitid(). */
void shd_hook_waited(pid_t pid, int status, const void *caller);
void shd_hook_waited_id(const siginfo_t *info, int options,
                        const void *caller);

#endif
