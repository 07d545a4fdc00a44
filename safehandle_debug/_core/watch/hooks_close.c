/* What gives a number back. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include "hooks.h"

#include <linux/close_range.h>
#include <unistd.h>
#include <utmp.h>

typedef int close_range_function(unsigned int first, unsigned int last,
                                 int flags);
typedef void closefrom_function(int low);

SHD_REAL(close);
SHD_REAL(login_tty);
static close_range_function *real_close_range;
static closefrom_function *real_closefrom;

static SHD_FAST int
hook_close(int fd)
{
    if (fd < 0 || shd_watch_asleep()) {
        return real_close(fd);
    }
    int result;
    switch (shd_watch_closing(fd, "close", SHD_OWNER_RAW, 1, SHD_HERE)) {
    case SHD_CALL:
        result = SHD_CLOSE(fd, real_close(fd));
        if (SHD_UNLIKELY(result == -1) && errno == EBADF) {
            shd_hook_bad(fd, "close", SHD_HERE);
        }
        return result;
    case SHD_DONE:
        return 0;
    default:
        errno = EBADF;
        return -1;
    }
}

static int
hook_close_range(unsigned int first, unsigned int last, int flags)
{
    int closes = first <= last && (flags & ~CLOSE_RANGE_UNSHARE) == 0;
    if (closes && !shd_watch_asleep()) {
        shd_watch_closing_range(first, last, SHD_HERE);
    }
    return real_close_range(first, last, flags);
}

static void
hook_closefrom(int low)
{
    if (!shd_watch_asleep()) {
        shd_watch_closing_range(low < 0 ? 0 : (unsigned int)low, ~0u,
                                SHD_HERE);
    }
    real_closefrom(low);
}

/* Moves the terminal to 0, 1 and 2, and closes it where it was. */
static int
hook_login_tty(int fd)
{
    if (shd_watch_asleep()) {
        return real_login_tty(fd);
    }
    if (!shd_hook_may_use(fd, "login_tty", SHD_HERE)) {
        return -1;
    }
    int result = real_login_tty(fd);
    if (result == 0 && fd > 2) {
        shd_watch_closing(fd, "login_tty", SHD_OWNER_RAW, 0, SHD_HERE);
    }
    return result;
}

const shd_hook shd_close_hooks[] = {
    SHD_HOOK(close),     SHD_ALIAS(__close, close), SHD_HOOK(close_range),
    SHD_HOOK(closefrom), SHD_HOOK(login_tty),       {0},
};
