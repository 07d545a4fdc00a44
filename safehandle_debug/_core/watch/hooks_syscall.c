/* Calls through libc's syscall(): uvloop closes so, and so are calls made that
 * libc has no function for yet.
 *
 * What concerns no descriptor and no child never comes here (hooks_raw.c). */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include "hooks.h"

#include <limits.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__LP64__) && (defined(__x86_64__) || defined(__aarch64__))

#define RAW_NUMBERS 512 /* in hooks_raw.c too */
#define USED __attribute__((used, visibility("hidden")))

USED long (*shd_real_syscall)(long number, ...);

typedef struct {
    long number, a, b, c, d, e, f;
    const void *caller;
    int kind;
} call;

static long
make(const call *it)
{
    return shd_real_syscall(it->number, it->a, it->b, it->c, it->d, it->e,
                            it->f);
}

static long
check_use(const call *it, long result, const char *function)
{
    if (SHD_UNLIKELY(result == -1) && errno == EBADF) {
        shd_hook_bad((int)it->a, function, it->caller);
    }
    return result;
}

static long
refuse(void)
{
    errno = EBADF;
    return -1;
}

/* --- what makes descriptors ----------------------------------------------------- */

static long
make_with_room(const call *it)
{
    long result = make(it);
    if (SHD_UNLIKELY(result == -1) && shd_hook_retry(it->caller)) {
        result = make(it);
    }
    return result;
}

static void
was_opened(const call *it, long fd, long path)
{
    if (fd >= 0) {
        shd_watch_opened((int)fd, it->kind, (const char *)path, it->caller);
    }
}

static long
open_path(const call *it)
{
    if (shd_hook_opening(AT_FDCWD, (const char *)it->a) < 0) {
        return -1;
    }
    long result = make_with_room(it);
    was_opened(it, result, it->a);
    return result;
}

static long
open_path_in(const call *it)
{
    if ((int)it->a >= 0
        && !shd_hook_may_use_in((int)it->a, (const char *)it->b, "openat",
                                it->caller)) {
        return -1;
    }
    if (shd_hook_opening((int)it->a, (const char *)it->b) < 0) {
        return -1;
    }
    long result = make_with_room(it);
    was_opened(it, result, it->b);
    return check_use(it, result, "openat");
}

static long
create(const call *it)
{
    long result = make_with_room(it);
    was_opened(it, result, 0);
    return result;
}

/* A new one, or a change of the one that is given. */
static long
create_or_change(const call *it)
{
    if ((int)it->a == -1) {
        return create(it);
    }
    return check_use(it, make(it), "signalfd");
}

static long
create_pair(const call *it, long ends)
{
    long result = make_with_room(it);
    if (result == 0) {
        was_opened(it, ((const int *)ends)[0], 0);
        was_opened(it, ((const int *)ends)[1], 0);
    }
    return result;
}

static long
create_pipe(const call *it)
{
    return create_pair(it, it->a);
}

static long
create_socket_pair(const call *it)
{
    return create_pair(it, it->d);
}

static long
accept_one(const call *it)
{
    long result = make_with_room(it);
    was_opened(it, result, 0);
    return check_use(it, result, "accept");
}

static long
receive(const call *it)
{
    long result = make(it);
    if (result >= 0) {
        shd_hook_received((const struct msghdr *)it->b, it->caller);
    }
    return check_use(it, result, "recvmsg");
}

/* --- what gives them other numbers ------------------------------------------------ */

static long
duplicate(const call *it)
{
    if (!shd_hook_may_use((int)it->a, "dup", it->caller)) {
        return -1;
    }
    long result = make_with_room(it);
    if (result >= 0) {
        shd_watch_duplicated((int)result, (int)it->a, INT_MAX, it->caller);
    }
    return check_use(it, result, "dup");
}

static long
replace(const call *it)
{
    int from = (int)it->a, to = (int)it->b;
    if (!shd_hook_may_use(from, "dup2", it->caller)) {
        return -1;
    }
    if (!shd_hook_will_replace(from, to)) {
        return check_use(it, make(it), "dup2");
    }
    shd_watch_replacing(to, from, "dup2", it->caller);
    long result = make(it);
    shd_watch_replaced((int)result, from, it->caller);
    return result;
}

static long
probe(const call *it)
{
    return shd_hook_may_probe((int)it->a, NULL, it->caller) ? make(it) : -1;
}

static long
probe_path(const call *it)
{
    return shd_hook_names_parked(AT_FDCWD, (const char *)it->a) ? -1
                                                                : make(it);
}

static long
probe_path_in(const call *it)
{
    return shd_hook_may_probe((int)it->a, (const char *)it->b, it->caller)
               ? make(it)
               : -1;
}

static long
control(const call *it)
{
    if (it->b == F_DUPFD || it->b == F_DUPFD_CLOEXEC) {
        return duplicate(it);
    }
    if (it->b == F_GETFD || it->b == F_GETFL) {
        return probe(it);
    }
    return shd_hook_may_use((int)it->a, "fcntl", it->caller)
               ? check_use(it, make(it), "fcntl")
               : -1;
}

/* --- what uses and ends them --------------------------------------------------------- */

static long
use(const call *it)
{
    return check_use(it, make(it), "syscall");
}

static long
send_message(const call *it)
{
    const struct msghdr *message = (const struct msghdr *)it->b;
    if (!shd_hook_may_send(message, it->caller)) {
        return -1;
    }
    long result = make(it);
    if (SHD_UNLIKELY(result == -1) && errno == EBADF) {
        shd_hook_bad_message((int)it->a, message, it->caller);
    }
    return result;
}

static long
close_one(const call *it)
{
    int fd = (int)it->a;
    if (fd < 0) {
        return make(it);
    }
    long result;
    switch (shd_watch_closing(fd, "close", SHD_OWNER_RAW, 1, it->caller)) {
    case SHD_CALL:
        result = make(it);
        if (SHD_UNLIKELY(result == -1) && errno == EBADF) {
            shd_hook_bad(fd, "close", it->caller);
        }
        return result;
    case SHD_DONE:
        return 0;
    default:
        return refuse();
    }
}

/* Flag 2 takes a table of its own first, 4 only marks. */
static long
close_several(const call *it)
{
    unsigned int first = (unsigned int)it->a, last = (unsigned int)it->b;
    if (first <= last && ((unsigned int)it->c & ~2u) == 0) {
        shd_watch_closing_range(first, last, it->caller);
    }
    return make(it);
}

/* Nothing of ours is in the list of this process's descriptors. */
static long
list_folder(const call *it)
{
    shd_hook_listing((int)it->a);
    return check_use(it, make(it), "getdents64");
}

/* --- processes ------------------------------------------------------------------------ */

static long
wait_status(const call *it)
{
    int status = 0;
    call own = *it;
    if (own.b == 0) {
        own.b = (long)&status;
    }
    long result = make(&own);
    if (result > 0) {
        shd_hook_waited((pid_t)result, *(const int *)own.b, it->caller);
    }
    return result;
}

static long
wait_info(const call *it)
{
    siginfo_t info = {0};
    call own = *it;
    if (own.c == 0) {
        own.c = (long)&info;
    }
    long result = make(&own);
    if (result == 0) {
        shd_hook_waited_id((const siginfo_t *)own.c, (int)it->d, it->caller);
    }
    return result;
}

/* Only where the child goes on with a copy of this stack (hooks_raw.c). */
static long
clone_process(const call *it)
{
    long result = make(it);
    shd_hook_cloned(result, (uint64_t)it->a, (const int *)it->c, it->caller);
    return result;
}

static long
clone_as_told(const call *it)
{
    const uint64_t *told = (const uint64_t *)it->a;
    long result = make(it);
    shd_hook_cloned(result, told[0], (const int *)told[1], it->caller);
    return result;
}

#ifdef SYS_fork
static long
fork_process(const call *it)
{
    long result = make(it);
    shd_hook_cloned(result, 0, NULL, it->caller);
    return result;
}
#endif

static long
run(const call *it)
{
    int is_at = it->number == SYS_execveat;
    if (shd_hook_names_parked(is_at ? (int)it->a : AT_FDCWD,
                              (const char *)(is_at ? it->b : it->a))) {
        return -1;
    }
    shd_watch_exec();
    long result = make(it);
    shd_watch_exec_failed();
    return result;
}

static long
leave(const call *it)
{
    shd_watch_leaving((int)it->a, NULL);
    return make(it);
}

/* --- which is which --------------------------------------------------------------------- */

enum action {
    LEFT_ALONE,
    OPENS,
    OPENS_IN,
    CREATES,
    CREATES_OR_CHANGES,
    PIPES,
    PAIRS,
    ACCEPTS,
    RECEIVES,
    DUPLICATES,
    REPLACES,
    CONTROLS,
    PROBES,
    PROBES_PATH,
    PROBES_PATH_IN,
    USES,
    SENDS,
    CLOSES,
    CLOSES_SEVERAL,
    WAITS,
    WAITS_INFO,
    RUNS,
    LEAVES,
    FORKS,
    LISTS,
    CLONES,  /* SHD_RAW_CLONE */
    CLONES3, /* SHD_RAW_CLONE3 */
};
_Static_assert(CLONES == SHD_RAW_CLONE && CLONES3 == SHD_RAW_CLONE3,
               "known to the assembly");

static long (*const doing[])(const call *) = {
    [OPENS] = open_path,
    [OPENS_IN] = open_path_in,
    [CREATES] = create,
    [CREATES_OR_CHANGES] = create_or_change,
    [PIPES] = create_pipe,
    [PAIRS] = create_socket_pair,
    [ACCEPTS] = accept_one,
    [RECEIVES] = receive,
    [DUPLICATES] = duplicate,
    [REPLACES] = replace,
    [CONTROLS] = control,
    [PROBES] = probe,
    [PROBES_PATH] = probe_path,
    [PROBES_PATH_IN] = probe_path_in,
    [USES] = use,
    [SENDS] = send_message,
    [CLOSES] = close_one,
    [CLOSES_SEVERAL] = close_several,
    [WAITS] = wait_status,
    [WAITS_INFO] = wait_info,
    [RUNS] = run,
    [LEAVES] = leave,
#ifdef SYS_fork
    [FORKS] = fork_process,
#endif
    [LISTS] = list_folder,
    [CLONES] = clone_process,
    [CLONES3] = clone_as_told,
};

typedef struct {
    unsigned char action; /* looked at by the assembly */
    unsigned char kind;
} raw_call;

USED const raw_call shd_raw_calls[RAW_NUMBERS] = {
    [SYS_close] = {CLOSES, 0},
    [SYS_openat] = {OPENS_IN, SHD_FD_FILE},
    [SYS_socket] = {CREATES, SHD_FD_SOCKET},
    [SYS_socketpair] = {PAIRS, SHD_FD_SOCKET},
    [SYS_accept] = {ACCEPTS, SHD_FD_SOCKET},
    [SYS_accept4] = {ACCEPTS, SHD_FD_SOCKET},
    [SYS_pipe2] = {PIPES, SHD_FD_PIPE},
    [SYS_dup] = {DUPLICATES, 0},
    [SYS_dup3] = {REPLACES, 0},
    [SYS_fcntl] = {CONTROLS, 0},
    [SYS_memfd_create] = {CREATES, SHD_FD_MEMORY},
    [SYS_epoll_create1] = {CREATES, SHD_FD_EPOLL},
    [SYS_eventfd2] = {CREATES, SHD_FD_EVENT},
    [SYS_timerfd_create] = {CREATES, SHD_FD_TIMER},
    [SYS_signalfd4] = {CREATES_OR_CHANGES, SHD_FD_SIGNAL},
    [SYS_inotify_init1] = {CREATES, SHD_FD_INOTIFY},
    [SYS_fanotify_init] = {CREATES, SHD_FD_INOTIFY},
    [SYS_perf_event_open] = {CREATES, SHD_FD_UNKNOWN},
    [SYS_open_by_handle_at] = {CREATES, SHD_FD_FILE},
    [SYS_userfaultfd] = {CREATES, SHD_FD_UNKNOWN},
    [SYS_recvmsg] = {RECEIVES, 0},
    [SYS_sendmsg] = {SENDS, 0},
    [SYS_read] = {USES, 0},
    [SYS_write] = {USES, 0},
    [SYS_pread64] = {USES, 0},
    [SYS_pwrite64] = {USES, 0},
    [SYS_readv] = {USES, 0},
    [SYS_writev] = {USES, 0},
    [SYS_preadv] = {USES, 0},
    [SYS_pwritev] = {USES, 0},
    [SYS_ioctl] = {USES, 0},
    [SYS_recvfrom] = {USES, 0},
    [SYS_sendto] = {USES, 0},
    [SYS_fstat] = {PROBES, 0},
    [SYS_newfstatat] = {PROBES_PATH_IN, 0},
    [SYS_statx] = {PROBES_PATH_IN, 0},
    [SYS_readlinkat] = {PROBES_PATH_IN, 0},
    [SYS_faccessat] = {PROBES_PATH_IN, 0},
    [SYS_wait4] = {WAITS, 0},
    [SYS_waitid] = {WAITS_INFO, 0},
    [SYS_execve] = {RUNS, 0},
    [SYS_execveat] = {RUNS, 0},
    [SYS_exit_group] = {LEAVES, 0},
    [SYS_getdents64] = {LISTS, 0},
    [SYS_clone] = {CLONES, 0},
#ifdef SYS_clone3
    [SYS_clone3] = {CLONES3, 0},
#endif
#ifdef SYS_fork
    [SYS_fork] = {FORKS, 0},
#endif
#ifdef SYS_open
    [SYS_open] = {OPENS, SHD_FD_FILE},
    [SYS_creat] = {OPENS, SHD_FD_FILE},
    [SYS_pipe] = {PIPES, SHD_FD_PIPE},
    [SYS_dup2] = {REPLACES, 0},
    [SYS_stat] = {PROBES_PATH, 0},
    [SYS_lstat] = {PROBES_PATH, 0},
    [SYS_access] = {PROBES_PATH, 0},
    [SYS_readlink] = {PROBES_PATH, 0},
    [SYS_epoll_create] = {CREATES, SHD_FD_EPOLL},
    [SYS_eventfd] = {CREATES, SHD_FD_EVENT},
    [SYS_signalfd] = {CREATES_OR_CHANGES, SHD_FD_SIGNAL},
    [SYS_inotify_init] = {CREATES, SHD_FD_INOTIFY},
#endif
#ifdef SYS_close_range
    [SYS_close_range] = {CLOSES_SEVERAL, 0},
#endif
#ifdef SYS_faccessat2
    [SYS_faccessat2] = {PROBES_PATH_IN, 0},
#endif
#ifdef SYS_openat2
    [SYS_openat2] = {OPENS_IN, SHD_FD_FILE},
#endif
#ifdef SYS_pidfd_open
    [SYS_pidfd_open] = {CREATES, SHD_FD_PROCESS},
#endif
#ifdef SYS_pidfd_getfd
    [SYS_pidfd_getfd] = {CREATES, SHD_FD_UNKNOWN},
#endif
#ifdef SYS_pidfd_send_signal
    [SYS_pidfd_send_signal] = {USES, 0},
#endif
#ifdef SYS_io_uring_setup
    [SYS_io_uring_setup] = {CREATES, SHD_FD_UNKNOWN},
    [SYS_io_uring_enter] = {USES, 0},
#endif
};

/* In place of syscall(), for the numbers in the table. */
USED long
shd_raw_call(long number, long a, long b, long c, long d, long e, long f,
             const void *caller)
{
    raw_call known = shd_raw_calls[number];
    call it = {number, a, b, c, d, e, f, caller, known.kind};
    return shd_watch_asleep() ? make(&it) : doing[known.action](&it);
}

#endif
