/* Calls that a parked number would answer otherwise than a closed one: they
 * are refused before they are made. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include "hooks_use.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

typedef int fxstat_function(int version, int fd, struct stat *found);
typedef int statx_function(int folder, const char *path, int flags,
                           unsigned int mask, void *found);
typedef int renameat2_function(int from, const char *old, int to,
                               const char *new, unsigned int flags);

SHD_REAL(fstat);
SHD_REAL(fstatat);
SHD_REAL(fstatvfs);
SHD_REAL(fstatfs);
SHD_REAL(fchdir);
SHD_REAL(fpathconf);
SHD_REAL(mkdirat);
SHD_REAL(mkfifoat);
SHD_REAL(mknodat);
SHD_REAL(linkat);
SHD_REAL(unlinkat);
SHD_REAL(renameat);
SHD_REAL(readlinkat);
SHD_REAL(symlinkat);
SHD_REAL(faccessat);
SHD_REAL(fchmodat);
SHD_REAL(fchownat);
SHD_REAL(utimensat);
SHD_REAL(select);
SHD_REAL(pselect);
static fxstat_function *real___fxstat;
static statx_function *real_statx;
static renameat2_function *real_renameat2;

/* --- what is it? ---------------------------------------------------------------- */

SHD_PROBE(fstat, fd, NULL, (int fd, struct stat *found), (fd, found))
SHD_PROBE(__fxstat, fd, NULL, (int version, int fd, struct stat *found),
          (version, fd, found))

/* Of what is below a folder, which uses its number; or of the number itself. */
#define PROBE_IN(name, parameters, arguments)                                 \
    static int hook_##name parameters                                         \
    {                                                                         \
        int is_use = path != NULL && *path != '\0';                           \
        if (!shd_watch_asleep()                                               \
            && !(is_use ? shd_hook_may_use_in(folder, path, #name, SHD_HERE)  \
                        : shd_hook_may_probe(folder, path, SHD_HERE))) {      \
            return -1;                                                        \
        }                                                                     \
        int result = real_##name arguments;                                   \
        if (SHD_UNLIKELY(result == -1) && errno == EBADF && is_use) {         \
            shd_hook_bad(folder, #name, SHD_HERE);                            \
        }                                                                     \
        return result;                                                        \
    }

PROBE_IN(fstatat,
         (int folder, const char *path, struct stat *found, int flags),
         (folder, path, found, flags))
PROBE_IN(statx,
         (int folder, const char *path, int flags, unsigned int mask,
          void *found),
         (folder, path, flags, mask, found))
SHD_GUARDED_USE(int, fstatvfs, fd, NULL, (int fd, struct statvfs *found),
                (fd, found))
SHD_GUARDED_USE(int, fstatfs, fd, NULL, (int fd, struct statfs *found),
                (fd, found))

SHD_GUARDED_USE(long, fpathconf, fd, NULL, (int fd, int which), (fd, which))

/* --- folders ------------------------------------------------------------------------ */

SHD_GUARDED_USE(int, fchdir, fd, NULL, (int fd), (fd))
SHD_GUARDED_USE(int, mkdirat, folder, path,
                (int folder, const char *path, mode_t mode),
                (folder, path, mode))
SHD_GUARDED_USE(int, mkfifoat, folder, path,
                (int folder, const char *path, mode_t mode),
                (folder, path, mode))
SHD_GUARDED_USE(int, mknodat, folder, path,
                (int folder, const char *path, mode_t mode, dev_t device),
                (folder, path, mode, device))
SHD_GUARDED_USE(int, unlinkat, folder, path,
                (int folder, const char *path, int flags),
                (folder, path, flags))
SHD_GUARDED_USE(ssize_t, readlinkat, folder, path,
                (int folder, const char *path, char *target, size_t size),
                (folder, path, target, size))
SHD_GUARDED_USE(int, symlinkat, folder, path,
                (const char *target, int folder, const char *path),
                (target, folder, path))
SHD_GUARDED_USE(int, faccessat, folder, path,
                (int folder, const char *path, int mode, int flags),
                (folder, path, mode, flags))
SHD_GUARDED_USE(int, fchmodat, folder, path,
                (int folder, const char *path, mode_t mode, int flags),
                (folder, path, mode, flags))
SHD_GUARDED_USE(int, fchownat, folder, path,
                (int folder, const char *path, uid_t owner, gid_t group,
                 int flags),
                (folder, path, owner, group, flags))
SHD_GUARDED_USE(int, utimensat, folder, path,
                (int folder, const char *path, const struct timespec times[2],
                 int flags),
                (folder, path, times, flags))

/* Two folders. */
#define GUARDED_TWO(name, from, old, to, new, parameters, arguments)          \
    static int hook_##name parameters                                         \
    {                                                                         \
        if (shd_watch_asleep()) {                                             \
            return real_##name arguments;                                     \
        }                                                                     \
        if (!shd_hook_may_use_in(from, old, #name, SHD_HERE)                  \
            || !shd_hook_may_use_in(to, new, #name, SHD_HERE)) {              \
            return -1;                                                        \
        }                                                                     \
        int result = real_##name arguments;                                   \
        if (SHD_UNLIKELY(result == -1) && errno == EBADF) {                   \
            shd_hook_bad_of_two(from, to, #name, SHD_HERE);                   \
        }                                                                     \
        return result;                                                        \
    }

GUARDED_TWO(renameat, from, old, to, new,
            (int from, const char *old, int to, const char *new),
            (from, old, to, new))
GUARDED_TWO(renameat2, from, old, to, new,
            (int from, const char *old, int to, const char *new,
             unsigned int flags),
            (from, old, to, new, flags))
GUARDED_TWO(linkat, from, old, to, new,
            (int from, const char *old, int to, const char *new, int flags),
            (from, old, to, new, flags))

/* --- select: a parked number would be readable for ever ------------------------- */

#define WORD_BITS (sizeof(fd_mask) * CHAR_BIT)

/* The lowest number of a set that is closed, or -1.  Sets may be larger than
 * an fd_set. */
static int
dead_in(const fd_set *set, int count, int parked_only)
{
    if (set == NULL) {
        return -1;
    }
    const fd_mask *words = (const fd_mask *)(const void *)set;
    for (int base = 0; base < count; base += (int)WORD_BITS) {
        unsigned long left = (unsigned long)words[(size_t)base / WORD_BITS];
        for (; left != 0; left &= left - 1) {
            int fd = base + __builtin_ctzl(left);
            if (fd < count
                && (shd_watch_is_parked(fd)
                    || (!parked_only && fcntl(fd, F_GETFD) == -1))) {
                return fd;
            }
        }
    }
    return -1;
}

static int
dead_in_any(int count, fd_set *const sets[3], int parked_only)
{
    int error = errno;
    int fd = -1;
    for (int i = 0; i < 3 && fd < 0; i++) {
        fd = dead_in(sets[i], count, parked_only);
    }
    errno = error;
    return fd;
}

/* Returns from a hook what `call` returns. */
#define SELECT(call, count, reads, writes, others, told)                      \
    do {                                                                      \
        if (shd_watch_asleep()) {                                             \
            return (call);                                                    \
        }                                                                     \
        fd_set *const sets[3] = {reads, writes, others};                      \
        int dead = dead_in_any(count, sets, 1);                               \
        if (SHD_UNLIKELY(dead >= 0)) {                                        \
            shd_watch_bad(dead, told, SHD_HERE);                              \
            errno = EBADF;                                                    \
            return -1;                                                        \
        }                                                                     \
        int result = (call);                                                  \
        if (SHD_UNLIKELY(result == -1) && errno == EBADF) {                   \
            shd_hook_bad(dead_in_any(count, sets, 0), told, SHD_HERE);        \
        }                                                                     \
        return result;                                                        \
    } while (0)

static int
hook_select(int count, fd_set *reads, fd_set *writes, fd_set *others,
            struct timeval *timeout)
{
    SELECT(real_select(count, reads, writes, others, timeout), count, reads,
           writes, others, "select");
}

static int
hook_pselect(int count, fd_set *reads, fd_set *writes, fd_set *others,
             const struct timespec *timeout, const sigset_t *mask)
{
    SELECT(real_pselect(count, reads, writes, others, timeout, mask), count,
           reads, writes, others, "pselect");
}

const shd_hook shd_guard_hooks[] = {
    SHD_HOOK(fstat),
    SHD_ALIAS(fstat64, fstat),
    SHD_HOOK(__fxstat),
    SHD_ALIAS(__fxstat64, __fxstat),
    SHD_HOOK(fstatat),
    SHD_ALIAS(fstatat64, fstatat),
    SHD_HOOK(statx),
    SHD_HOOK(fstatvfs),
    SHD_ALIAS(fstatvfs64, fstatvfs),
    SHD_HOOK(fstatfs),
    SHD_ALIAS(fstatfs64, fstatfs),
    SHD_HOOK(fchdir),
    SHD_HOOK(fpathconf),
    SHD_HOOK(mkdirat),
    SHD_HOOK(mkfifoat),
    SHD_HOOK(mknodat),
    SHD_HOOK(linkat),
    SHD_HOOK(renameat2),
    SHD_HOOK(unlinkat),
    SHD_HOOK(renameat),
    SHD_HOOK(readlinkat),
    SHD_HOOK(symlinkat),
    SHD_HOOK(faccessat),
    SHD_HOOK(fchmodat),
    SHD_HOOK(fchownat),
    SHD_HOOK(utimensat),
    SHD_HOOK(select),
    SHD_ALIAS(__select, select),
    SHD_HOOK(pselect),
    {0},
};
