/* Descriptors that are neither files nor sockets. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include "hooks.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

typedef int pidfd_open_function(pid_t pid, unsigned int flags);

SHD_REAL(pipe);
SHD_REAL(pipe2);
SHD_REAL(epoll_create);
SHD_REAL(epoll_create1);
SHD_REAL(eventfd);
SHD_REAL(timerfd_create);
SHD_REAL(signalfd);
SHD_REAL(inotify_init);
SHD_REAL(inotify_init1);
SHD_REAL(fanotify_init);
static pidfd_open_function *real_pidfd_open;

#define PIPE(call, ends)                                                      \
    do {                                                                      \
        int result = (call);                                                  \
        if (shd_watch_asleep()) {                                             \
            return result;                                                    \
        }                                                                     \
        if (SHD_UNLIKELY(result == -1) && shd_hook_retry(SHD_HERE)) {         \
            result = (call);                                                  \
        }                                                                     \
        if (result == 0) {                                                    \
            shd_watch_opened(ends[0], SHD_FD_PIPE, NULL, SHD_HERE);           \
            shd_watch_opened(ends[1], SHD_FD_PIPE, NULL, SHD_HERE);           \
        }                                                                     \
        return result;                                                        \
    } while (0)

static int
hook_pipe(int ends[2])
{
    PIPE(real_pipe(ends), ends);
}

static int
hook_pipe2(int ends[2], int flags)
{
    PIPE(real_pipe2(ends, flags), ends);
}

static int
hook_epoll_create(int size)
{
    SHD_CREATE(real_epoll_create(size), SHD_FD_EPOLL, NULL);
}

static int
hook_epoll_create1(int flags)
{
    SHD_CREATE(real_epoll_create1(flags), SHD_FD_EPOLL, NULL);
}

static int
hook_eventfd(unsigned int count, int flags)
{
    SHD_CREATE(real_eventfd(count, flags), SHD_FD_EVENT, NULL);
}

static int
hook_timerfd_create(clockid_t clock, int flags)
{
    SHD_CREATE(real_timerfd_create(clock, flags), SHD_FD_TIMER, NULL);
}

static int
hook_inotify_init(void)
{
    SHD_CREATE(real_inotify_init(), SHD_FD_INOTIFY, NULL);
}

static int
hook_inotify_init1(int flags)
{
    SHD_CREATE(real_inotify_init1(flags), SHD_FD_INOTIFY, NULL);
}

static int
hook_fanotify_init(unsigned int flags, unsigned int event_flags)
{
    SHD_CREATE(real_fanotify_init(flags, event_flags), SHD_FD_INOTIFY, NULL);
}

static int
hook_pidfd_open(pid_t pid, unsigned int flags)
{
    SHD_CREATE(real_pidfd_open(pid, flags), SHD_FD_PROCESS, NULL);
}

/* With a descriptor, it changes that one's mask. */
static int
hook_signalfd(int fd, const sigset_t *mask, int flags)
{
    if (fd == -1) {
        SHD_CREATE(real_signalfd(fd, mask, flags), SHD_FD_SIGNAL, NULL);
    }
    int result = real_signalfd(fd, mask, flags);
    if (SHD_UNLIKELY(result == -1) && errno == EBADF) {
        shd_hook_bad(fd, "signalfd", SHD_HERE);
    }
    return result;
}

const shd_hook shd_special_hooks[] = {
    SHD_HOOK(pipe),
    SHD_ALIAS(__pipe, pipe),
    SHD_HOOK(pipe2),
    SHD_HOOK(epoll_create),
    SHD_HOOK(epoll_create1),
    SHD_HOOK(eventfd),
    SHD_HOOK(timerfd_create),
    SHD_HOOK(signalfd),
    SHD_HOOK(inotify_init),
    SHD_HOOK(inotify_init1),
    SHD_HOOK(fanotify_init),
    SHD_HOOK(pidfd_open),
    {0},
};
