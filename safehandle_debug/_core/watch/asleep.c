/* The watch until it is there: asleep.  watch.c takes its place, and this file
 * goes with it. */
#include "watch.h"

#define UNTIL_THEN __attribute__((weak))

UNTIL_THEN int
shd_watch_asleep(void)
{
    return 1;
}

#define NOTHING(name, ...)                                                    \
    UNTIL_THEN void shd_watch_##name(__VA_ARGS__)                             \
    {                                                                         \
    }

#pragma GCC diagnostic ignored "-Wunused-parameter"
NOTHING(opened, int fd, int kind, const char *path, const void *caller)
NOTHING(duplicated, int fd, int from, const void *caller)
NOTHING(owned, int fd, enum shd_owner owner, const void *caller)
NOTHING(replacing, int fd, int from, const char *how, const void *caller)
NOTHING(replaced, int result, int from, const void *caller)
NOTHING(closing_range, unsigned int first, unsigned int last,
        const void *caller)
NOTHING(bad, int fd, const char *function, const void *caller)
NOTHING(waiting, int fd)
NOTHING(shut_down, int fd)
NOTHING(listed, void)
NOTHING(child, pid_t pid, const char *how, const void *caller)
NOTHING(reaped, pid_t pid, const void *caller)
NOTHING(leaving, int status)
NOTHING(exec, void)
NOTHING(enter, void)
NOTHING(leave, void)
NOTHING(let_go, int fd, const void *object)
NOTHING(taken, int fd, enum shd_owner owner, const void *object,
        uint64_t since)
NOTHING(exec_failed, void)
NOTHING(vfork_begins, void)
NOTHING(vfork_ended, pid_t child, const void *caller)

UNTIL_THEN int
shd_watch_make_room(const void *caller)
{
    return 0;
}

UNTIL_THEN enum shd_verdict
shd_watch_closing(int fd, const char *how, enum shd_owner owner, int may_park,
                  const void *caller)
{
    return SHD_CALL;
}

UNTIL_THEN int
shd_watch_is_parked(int fd)
{
    return 0;
}
