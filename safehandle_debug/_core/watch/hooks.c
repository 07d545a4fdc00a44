/* The list of all hooks, and what several files of them need. */
#define _GNU_SOURCE
#include "hooks.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MOST_HOOKS 320

/* Names like open64 stand for the same function as open, and the calls that
 * are made without libc are decoded, where a long has 64 bits. */
#if defined(__LP64__)
static const shd_hook *const groups[] = {
    shd_open_hooks,    shd_duplicate_hooks, shd_socket_hooks,
    shd_special_hooks, shd_stream_hooks,    shd_close_hooks,
    shd_use_hooks,     shd_guard_hooks,     shd_process_hooks,
    shd_path_hooks,    shd_clone_hooks,     shd_raw_hooks,
};
#define GROUPS (sizeof(groups) / sizeof(*groups))
#else
static const shd_hook *const *groups;
#define GROUPS 0
#endif

const shd_hook *
shd_hooks(size_t *count)
{
    static shd_hook all[MOST_HOOKS];
    size_t found = 0;
    for (size_t group = 0; group < GROUPS; group++) {
        for (const shd_hook *each = groups[group]; each->name != NULL;
             each++) {
            if (found < MOST_HOOKS) {
                all[found++] = *each;
            }
        }
    }
    *count = found;
    return all;
}

int shd_hook_direct SHD_HOT;

void
shd_hooks_found(void)
{
    static const char *const names[] = {"open", "openat", "close"};
    shd_hook_direct = 1;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        shd_hook_direct &= shd_interpose_is_libc(names[i]);
    }
}

/* --- EBADF ------------------------------------------------------------------ */

int
shd_hook_is_dead(int fd)
{
    int error = errno;
    int dead = shd_watch_is_parked(fd) || fcntl(fd, F_GETFD) == -1;
    errno = error;
    return dead;
}

__attribute__((cold)) void
shd_hook_bad(int fd, const char *function, const void *caller)
{
    if (fd >= 0 && !shd_watch_asleep() && shd_hook_is_dead(fd)) {
        shd_watch_bad(fd, function, caller);
    }
}

__attribute__((cold)) void
shd_hook_bad_of_two(int one, int other, const char *function,
                    const void *caller)
{
    if (shd_watch_asleep()) {
        return;
    }
    if (one >= 0 && shd_hook_is_dead(one)) {
        shd_watch_bad(one, function, caller);
    }
    else if (other >= 0 && shd_hook_is_dead(other)) {
        shd_watch_bad(other, function, caller);
    }
}
