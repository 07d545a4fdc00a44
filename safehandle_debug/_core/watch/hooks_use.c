/* Reading, writing and the rest that a closed number answers with EBADF, be it
 * parked or not: the call is made, and what came back looked at. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include "hooks_use.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <termios.h>
#include <unistd.h>

typedef ssize_t read_chk_function(int fd, void *buffer, size_t size,
                                  size_t room);
typedef ssize_t pread_chk_function(int fd, void *buffer, size_t size,
                                   off_t offset, size_t room);
typedef ssize_t vector2_function(int fd, const struct iovec *parts, int count,
                                 off_t offset, int flags);
typedef int epoll_pwait2_function(int fd, struct epoll_event *events, int most,
                                  const struct timespec *timeout,
                                  const sigset_t *mask);

SHD_REAL(read);
SHD_REAL(write);
SHD_REAL(pread);
SHD_REAL(pwrite);
SHD_REAL(readv);
SHD_REAL(writev);
SHD_REAL(preadv);
SHD_REAL(pwritev);
SHD_REAL(lseek);
SHD_REAL(ioctl);
SHD_REAL(fsync);
SHD_REAL(fdatasync);
SHD_REAL(ftruncate);
SHD_REAL(flock);
SHD_REAL(lockf);
SHD_REAL(fchmod);
SHD_REAL(fchown);
SHD_REAL(futimens);
SHD_REAL(epoll_ctl);
SHD_REAL(epoll_wait);
SHD_REAL(epoll_pwait);
SHD_REAL(sendfile);
SHD_REAL(splice);
SHD_REAL(tee);
SHD_REAL(copy_file_range);
SHD_REAL(posix_fallocate);
SHD_REAL(posix_fadvise);
SHD_REAL(mmap);
SHD_REAL(eventfd_read);
SHD_REAL(eventfd_write);
SHD_REAL(fgetxattr);
SHD_REAL(fsetxattr);
SHD_REAL(flistxattr);
SHD_REAL(fremovexattr);
SHD_REAL(tcgetattr);
SHD_REAL(tcsetattr);
SHD_REAL(tcdrain);
SHD_REAL(tcflow);
SHD_REAL(tcflush);
SHD_REAL(tcsendbreak);
SHD_REAL(tcgetpgrp);
SHD_REAL(tcsetpgrp);
SHD_REAL(ttyname_r);
SHD_REAL(timerfd_settime);
SHD_REAL(timerfd_gettime);
SHD_REAL(inotify_add_watch);
SHD_REAL(inotify_rm_watch);
static read_chk_function *real___read_chk;
static pread_chk_function *real___pread_chk;
static vector2_function *real_preadv2, *real_pwritev2;
static epoll_pwait2_function *real_epoll_pwait2;

/* --- transfer -------------------------------------------------------------------- */

SHD_WAITING_USE(ssize_t, read, "read", fd, (int fd, void *buffer, size_t size),
                (fd, buffer, size))
SHD_WAITING_USE(ssize_t, __read_chk, "read", fd,
                (int fd, void *buffer, size_t size, size_t room),
                (fd, buffer, size, room))
SHD_WAITING_USE(ssize_t, readv, "readv", fd,
                (int fd, const struct iovec *parts, int count),
                (fd, parts, count))
SHD_USE(ssize_t, write, "write", fd, (int fd, const void *data, size_t size),
        (fd, data, size))
SHD_USE(ssize_t, writev, "writev", fd,
        (int fd, const struct iovec *parts, int count), (fd, parts, count))
SHD_USE(ssize_t, pread, "pread", fd,
        (int fd, void *buffer, size_t size, off_t offset),
        (fd, buffer, size, offset))
SHD_USE(ssize_t, __pread_chk, "pread", fd,
        (int fd, void *buffer, size_t size, off_t offset, size_t room),
        (fd, buffer, size, offset, room))
SHD_USE(ssize_t, pwrite, "pwrite", fd,
        (int fd, const void *data, size_t size, off_t offset),
        (fd, data, size, offset))
SHD_USE(ssize_t, preadv, "preadv", fd,
        (int fd, const struct iovec *parts, int count, off_t offset),
        (fd, parts, count, offset))
SHD_USE(ssize_t, pwritev, "pwritev", fd,
        (int fd, const struct iovec *parts, int count, off_t offset),
        (fd, parts, count, offset))
SHD_USE(ssize_t, preadv2, "preadv2", fd,
        (int fd, const struct iovec *parts, int count, off_t offset,
         int flags),
        (fd, parts, count, offset, flags))
SHD_USE(ssize_t, pwritev2, "pwritev2", fd,
        (int fd, const struct iovec *parts, int count, off_t offset,
         int flags),
        (fd, parts, count, offset, flags))
SHD_USE_TWO(ssize_t, sendfile, "sendfile", to, from,
            (int to, int from, off_t *offset, size_t size),
            (to, from, offset, size))
SHD_USE_TWO(ssize_t, splice, "splice", from, to,
            (int from, off_t *start, int to, off_t *end, size_t size,
             unsigned int flags),
            (from, start, to, end, size, flags))
SHD_USE_TWO(ssize_t, tee, "tee", from, to,
            (int from, int to, size_t size, unsigned int flags),
            (from, to, size, flags))
SHD_USE_TWO(ssize_t, copy_file_range, "copy_file_range", from, to,
            (int from, off_t *start, int to, off_t *end, size_t size,
             unsigned int flags),
            (from, start, to, end, size, flags))

/* --- control ---------------------------------------------------------------------- */

static int
hook_ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    int result = real_ioctl(fd, request, argument);
    if (SHD_UNLIKELY(result == -1) && errno == EBADF) {
        shd_hook_bad(fd, "ioctl", SHD_HERE);
    }
    return result;
}

SHD_USE(off_t, lseek, "lseek", fd, (int fd, off_t offset, int whence),
        (fd, offset, whence))
SHD_USE(int, fsync, "fsync", fd, (int fd), (fd))
SHD_USE(int, fdatasync, "fdatasync", fd, (int fd), (fd))
SHD_USE(int, ftruncate, "ftruncate", fd, (int fd, off_t size), (fd, size))
/* Returns from a hook what `call` returns, which locks a file or unlocks it. */
#define LOCK(call, fd, function, is_lock, is_unlock)                          \
    do {                                                                      \
        if (shd_watch_asleep()) {                                             \
            return (call);                                                    \
        }                                                                     \
        int began = shd_hook_begin_wait(fd);                                  \
        int result = (call);                                                  \
        shd_hook_end_wait(began);                                             \
        if (SHD_UNLIKELY(result == -1) && errno == EBADF) {                   \
            shd_hook_bad(fd, function, SHD_HERE);                             \
        }                                                                     \
        if (result == 0 && ((is_lock) || (is_unlock))) {                      \
            shd_watch_locked(fd, is_lock);                                    \
        }                                                                     \
        return result;                                                        \
    } while (0)

static int
hook_flock(int fd, int operation)
{
    LOCK(real_flock(fd, operation), fd, "flock", !(operation & LOCK_UN),
         operation & LOCK_UN);
}

static int
hook_lockf(int fd, int command, off_t size)
{
    LOCK(real_lockf(fd, command, size), fd, "lockf",
         command == F_LOCK || command == F_TLOCK, command == F_ULOCK);
}

SHD_USE(int, fchmod, "fchmod", fd, (int fd, mode_t mode), (fd, mode))
SHD_USE(int, fchown, "fchown", fd, (int fd, uid_t owner, gid_t group),
        (fd, owner, group))
SHD_USE(int, futimens, "futimens", fd,
        (int fd, const struct timespec times[2]), (fd, times))
SHD_USE_RETURNING(posix_fallocate, "posix_fallocate", fd,
                  (int fd, off_t offset, off_t size), (fd, offset, size))
SHD_USE_RETURNING(posix_fadvise, "posix_fadvise", fd,
                  (int fd, off_t offset, off_t size, int advice),
                  (fd, offset, size, advice))

SHD_USE(ssize_t, fgetxattr, "fgetxattr", fd,
        (int fd, const char *name, void *value, size_t size),
        (fd, name, value, size))
SHD_USE(int, fsetxattr, "fsetxattr", fd,
        (int fd, const char *name, const void *value, size_t size, int flags),
        (fd, name, value, size, flags))
SHD_USE(ssize_t, flistxattr, "flistxattr", fd,
        (int fd, char *names, size_t size), (fd, names, size))
SHD_USE(int, fremovexattr, "fremovexattr", fd, (int fd, const char *name),
        (fd, name))

static void *
hook_mmap(void *start, size_t size, int protection, int flags, int fd,
          off_t offset)
{
    void *result = real_mmap(start, size, protection, flags, fd, offset);
    if (SHD_UNLIKELY(result == MAP_FAILED) && errno == EBADF
        && !(flags & MAP_ANONYMOUS)) {
        shd_hook_bad(fd, "mmap", SHD_HERE);
    }
    return result;
}

/* --- terminals ---------------------------------------------------------------------- */

SHD_USE(int, tcgetattr, "tcgetattr", fd, (int fd, struct termios *settings),
        (fd, settings))
SHD_USE(int, tcsetattr, "tcsetattr", fd,
        (int fd, int when, const struct termios *settings),
        (fd, when, settings))
SHD_USE(int, tcdrain, "tcdrain", fd, (int fd), (fd))
SHD_USE(int, tcflow, "tcflow", fd, (int fd, int action), (fd, action))
SHD_USE(int, tcflush, "tcflush", fd, (int fd, int queue), (fd, queue))
SHD_USE(int, tcsendbreak, "tcsendbreak", fd, (int fd, int duration),
        (fd, duration))
SHD_USE(pid_t, tcgetpgrp, "tcgetpgrp", fd, (int fd), (fd))
SHD_USE(int, tcsetpgrp, "tcsetpgrp", fd, (int fd, pid_t group), (fd, group))
SHD_USE_RETURNING(ttyname_r, "ttyname_r", fd,
                  (int fd, char *name, size_t size), (fd, name, size))

/* --- events ------------------------------------------------------------------------- */

/* Taking a closed number out is what selectors do on purpose: it left by
 * itself when it was closed. */
static int
hook_epoll_ctl(int fd, int operation, int about, struct epoll_event *event)
{
    int result = real_epoll_ctl(fd, operation, about, event);
    if (SHD_UNLIKELY(result == -1) && errno == EBADF) {
        shd_hook_bad_of_two(fd, operation == EPOLL_CTL_DEL ? -1 : about,
                            "epoll_ctl", SHD_HERE);
    }
    return result;
}

SHD_USE(int, epoll_wait, "epoll_wait", fd,
        (int fd, struct epoll_event *events, int most, int timeout),
        (fd, events, most, timeout))
SHD_USE(int, epoll_pwait, "epoll_pwait", fd,
        (int fd, struct epoll_event *events, int most, int timeout,
         const sigset_t *mask),
        (fd, events, most, timeout, mask))
SHD_USE(int, epoll_pwait2, "epoll_pwait2", fd,
        (int fd, struct epoll_event *events, int most,
         const struct timespec *timeout, const sigset_t *mask),
        (fd, events, most, timeout, mask))
SHD_WAITING_USE(int, eventfd_read, "eventfd_read", fd,
                (int fd, eventfd_t *value), (fd, value))
SHD_USE(int, eventfd_write, "eventfd_write", fd, (int fd, eventfd_t value),
        (fd, value))
SHD_USE(int, timerfd_settime, "timerfd_settime", fd,
        (int fd, int flags, const struct itimerspec *value,
         struct itimerspec *old),
        (fd, flags, value, old))
SHD_USE(int, timerfd_gettime, "timerfd_gettime", fd,
        (int fd, struct itimerspec *value), (fd, value))
SHD_USE(int, inotify_add_watch, "inotify_add_watch", fd,
        (int fd, const char *path, uint32_t mask), (fd, path, mask))
SHD_USE(int, inotify_rm_watch, "inotify_rm_watch", fd, (int fd, int which),
        (fd, which))

const shd_hook shd_use_hooks[] = {
    SHD_HOOK(read),
    SHD_ALIAS(__read, read),
    SHD_HOOK(__read_chk),
    SHD_HOOK(readv),
    SHD_HOOK(write),
    SHD_ALIAS(__write, write),
    SHD_HOOK(writev),
    SHD_HOOK(pread),
    SHD_ALIAS(pread64, pread),
    SHD_HOOK(__pread_chk),
    SHD_ALIAS(__pread64_chk, __pread_chk),
    SHD_HOOK(pwrite),
    SHD_ALIAS(pwrite64, pwrite),
    SHD_HOOK(preadv),
    SHD_ALIAS(preadv64, preadv),
    SHD_HOOK(pwritev),
    SHD_ALIAS(pwritev64, pwritev),
    SHD_HOOK(preadv2),
    SHD_ALIAS(preadv64v2, preadv2),
    SHD_HOOK(pwritev2),
    SHD_ALIAS(pwritev64v2, pwritev2),
    SHD_HOOK(sendfile),
    SHD_ALIAS(sendfile64, sendfile),
    SHD_HOOK(splice),
    SHD_HOOK(tee),
    SHD_HOOK(copy_file_range),
    SHD_HOOK(ioctl),
    SHD_HOOK(lseek),
    SHD_ALIAS(lseek64, lseek),
    SHD_ALIAS(__lseek, lseek),
    SHD_HOOK(fsync),
    SHD_HOOK(fdatasync),
    SHD_HOOK(ftruncate),
    SHD_ALIAS(ftruncate64, ftruncate),
    SHD_HOOK(flock),
    SHD_HOOK(lockf),
    SHD_ALIAS(lockf64, lockf),
    SHD_HOOK(fchmod),
    SHD_HOOK(fchown),
    SHD_HOOK(futimens),
    SHD_HOOK(posix_fallocate),
    SHD_ALIAS(posix_fallocate64, posix_fallocate),
    SHD_HOOK(posix_fadvise),
    SHD_ALIAS(posix_fadvise64, posix_fadvise),
    SHD_HOOK(fgetxattr),
    SHD_HOOK(fsetxattr),
    SHD_HOOK(flistxattr),
    SHD_HOOK(fremovexattr),
    SHD_HOOK(tcgetattr),
    SHD_HOOK(tcsetattr),
    SHD_HOOK(tcdrain),
    SHD_HOOK(tcflow),
    SHD_HOOK(tcflush),
    SHD_HOOK(tcsendbreak),
    SHD_HOOK(tcgetpgrp),
    SHD_HOOK(tcsetpgrp),
    SHD_HOOK(ttyname_r),
    SHD_HOOK(mmap),
    SHD_ALIAS(mmap64, mmap),
    SHD_HOOK(epoll_ctl),
    SHD_HOOK(epoll_wait),
    SHD_HOOK(epoll_pwait),
    SHD_HOOK(epoll_pwait2),
    SHD_HOOK(eventfd_read),
    SHD_HOOK(eventfd_write),
    SHD_HOOK(timerfd_settime),
    SHD_HOOK(timerfd_gettime),
    SHD_HOOK(inotify_add_watch),
    SHD_HOOK(inotify_rm_watch),
    {0},
};
