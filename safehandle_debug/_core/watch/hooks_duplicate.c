/* What gives a descriptor another number. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include "hooks.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <unistd.h>

SHD_REAL(dup);
SHD_REAL(dup2);
SHD_REAL(dup3);
SHD_REAL(fcntl);

/* Returns from a hook what `call` returns, a duplicate of `from`, or where the
 * watch put it; not below `least`. */
#define DUPLICATE(call, from, least, function)                                \
    do {                                                                      \
        if (shd_watch_asleep()) {                                             \
            return (call);                                                    \
        }                                                                     \
        if (!shd_hook_may_use(from, function, SHD_HERE)) {                    \
            return -1;                                                        \
        }                                                                     \
        int copy = (call);                                                    \
        if (SHD_UNLIKELY(copy < 0) && shd_hook_retry(SHD_HERE)) {             \
            copy = (call);                                                    \
        }                                                                     \
        if (SHD_UNLIKELY(copy < 0 && errno == EBADF)) {                       \
            shd_hook_bad(from, function, SHD_HERE);                           \
        }                                                                     \
        if (copy >= 0) {                                                      \
            copy = shd_watch_duplicated(copy, from, least, SHD_HERE);         \
        }                                                                     \
        return copy;                                                          \
    } while (0)

static int
hook_dup(int fd)
{
    DUPLICATE(real_dup(fd), fd, 0, "dup");
}

/* --- onto a number of choice --------------------------------------------------- */

int
shd_hook_will_replace(int from, int to)
{
    int error = errno;
    struct rlimit limit;
    int will = from != to && to >= 0 && fcntl(from, F_GETFD) != -1
               && getrlimit(RLIMIT_NOFILE, &limit) == 0
               && (rlim_t)to < limit.rlim_cur;
    errno = error;
    return will;
}

/* Returns from a hook what `call` returns. */
#define REPLACE(call, from, to, function, is_probe)                           \
    do {                                                                      \
        if (shd_watch_asleep()) {                                             \
            return (call);                                                    \
        }                                                                     \
        if (is_probe ? !shd_hook_may_probe(from, NULL, SHD_HERE)              \
                     : !shd_hook_may_use(from, function, SHD_HERE)) {         \
            return -1;                                                        \
        }                                                                     \
        if (shd_watch_redirects(from, to)) {                                  \
            int redirected = (call);                                          \
            if (redirected >= 0) {                                            \
                shd_watch_redirected(from, to);                               \
            }                                                                 \
            else if (errno == EBADF) {                                        \
                shd_hook_bad(from, function, SHD_HERE);                       \
            }                                                                 \
            return redirected;                                                \
        }                                                                     \
        if (!shd_hook_will_replace(from, to)) {                               \
            int refused = (call);                                             \
            if (refused == -1 && errno == EBADF && !(is_probe)) {             \
                shd_hook_bad(from, function, SHD_HERE);                       \
            }                                                                 \
            return refused;                                                   \
        }                                                                     \
        shd_watch_replacing(to, from, function, SHD_HERE);                    \
        int replaced = (call);                                                \
        shd_watch_replaced(replaced, from, SHD_HERE);                         \
        return replaced;                                                      \
    } while (0)

static int
hook_dup2(int from, int to)
{
    REPLACE(real_dup2(from, to), from, to, "dup2", from == to);
}

static int
hook_dup3(int from, int to, int flags)
{
    if (flags & ~O_CLOEXEC) {
        return real_dup3(from, to, flags);
    }
    REPLACE(real_dup3(from, to, flags), from, to, "dup3", 0);
}

/* --- fcntl ------------------------------------------------------------------------ */

static int
hook_fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (shd_watch_asleep()) {
        return real_fcntl(fd, command, argument);
    }
    switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
        DUPLICATE(real_fcntl(fd, command, argument), fd,
                  (int)(intptr_t)argument, "fcntl");
    case F_GETFD:
    case F_GETFL:
        return shd_hook_may_probe(fd, NULL, SHD_HERE)
                   ? real_fcntl(fd, command, argument)
                   : -1;
    default:
        break;
    }
    if (!shd_hook_may_use(fd, "fcntl", SHD_HERE)) {
        return -1;
    }
    int waits = command == F_SETLKW || command == F_OFD_SETLKW;
    int began = waits && shd_hook_begin_wait(fd);
    int result = real_fcntl(fd, command, argument);
    shd_hook_end_wait(began);
    if (result == 0
        && (waits || command == F_SETLK || command == F_OFD_SETLK)) {
        shd_watch_locked(fd,
                         ((const struct flock *)argument)->l_type != F_UNLCK);
    }
    if (SHD_UNLIKELY(result == -1) && errno == EBADF) {
        shd_hook_bad(fd, "fcntl", SHD_HERE);
    }
    return result;
}

const shd_hook shd_duplicate_hooks[] = {
    SHD_HOOK(dup),
    SHD_HOOK(dup2),
    SHD_ALIAS(__dup2, dup2),
    SHD_HOOK(dup3),
    SHD_HOOK(fcntl),
    SHD_ALIAS(fcntl64, fcntl),
    SHD_ALIAS(__fcntl, fcntl),
    {0},
};
