/* What opens a path, or makes a file without one. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include "hooks.h"

#include <fcntl.h>
#include <pty.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Not in every version of the headers. */
typedef int open_2_function(const char *path, int flags);
typedef int openat_2_function(int folder, const char *path, int flags);

SHD_REAL(open);
SHD_REAL(openat);
SHD_REAL(creat);
SHD_REAL(memfd_create);
SHD_REAL(shm_open);
SHD_REAL(mkstemp);
SHD_REAL(mkostemp);
SHD_REAL(mkstemps);
SHD_REAL(mkostemps);
SHD_REAL(openpty);
SHD_REAL(forkpty);
SHD_REAL(posix_openpt);
static int (*real_getpt)(void);
static open_2_function *real___open_2;
static openat_2_function *real___openat_2;

/* O_TMPFILE holds O_DIRECTORY's bit. */
#define IS_SET(flags, flag) (((flags) & (flag)) == (flag))
#define TAKES_MODE(flags) ((flags) & O_CREAT || IS_SET(flags, O_TMPFILE))
#define KIND_OF(flags)                                                        \
    (IS_SET(flags, O_TMPFILE) || !((flags) & O_DIRECTORY) ? SHD_FD_FILE       \
                                                          : SHD_FD_DIRECTORY)

#define MODE_AFTER(flags, mode)                                               \
    mode_t mode = 0;                                                          \
    if (TAKES_MODE(flags)) {                                                  \
        va_list arguments;                                                    \
        va_start(arguments, flags);                                           \
        mode = va_arg(arguments, mode_t);                                     \
        va_end(arguments);                                                    \
    }

#define OPEN(call, flags, path)                                               \
    do {                                                                      \
        if (SHD_UNLIKELY(shd_hook_opening(AT_FDCWD, path) < 0)) {             \
            return -1;                                                        \
        }                                                                     \
        int opened = (call);                                                  \
        if (shd_watch_asleep()) {                                             \
            return opened;                                                    \
        }                                                                     \
        if (SHD_UNLIKELY(opened < 0) && shd_hook_retry(SHD_HERE)) {           \
            opened = (call);                                                  \
        }                                                                     \
        if (opened >= 0) {                                                    \
            shd_watch_opened(opened, KIND_OF(flags), path, SHD_HERE);         \
        }                                                                     \
        return opened;                                                        \
    } while (0)

static SHD_FAST int
hook_open(const char *path, int flags, ...)
{
    MODE_AFTER(flags, mode);
    OPEN(SHD_OPENAT(AT_FDCWD, path, flags, mode, real_open(path, flags, mode)),
         flags, path);
}

static int
hook___open_2(const char *path, int flags)
{
    OPEN(real___open_2(path, flags), flags, path);
}

static int
hook_creat(const char *path, mode_t mode)
{
    OPEN(real_creat(path, mode), O_CREAT, path);
}

/* A parked folder would answer ENOTDIR. */
static int
may_open_in(int folder, const char *path, const void *caller)
{
    return shd_watch_asleep() || folder < 0
           || shd_hook_may_use_in(folder, path, "openat", caller);
}

static void
openat_failed(int fd, int folder, const void *caller)
{
    if (SHD_UNLIKELY(fd == -1) && errno == EBADF) {
        shd_hook_bad(folder, "openat", caller);
    }
}

#define OPEN_IN(folder, call, flags, path)                                    \
    do {                                                                      \
        if (!may_open_in(folder, path, SHD_HERE)) {                           \
            return -1;                                                        \
        }                                                                     \
        if (SHD_UNLIKELY(shd_hook_opening(folder, path) < 0)) {               \
            return -1;                                                        \
        }                                                                     \
        int opened = (call);                                                  \
        if (shd_watch_asleep()) {                                             \
            return opened;                                                    \
        }                                                                     \
        if (SHD_UNLIKELY(opened < 0) && shd_hook_retry(SHD_HERE)) {           \
            opened = (call);                                                  \
        }                                                                     \
        openat_failed(opened, folder, SHD_HERE);                              \
        if (opened >= 0) {                                                    \
            shd_watch_opened(opened, KIND_OF(flags), path, SHD_HERE);         \
        }                                                                     \
        return opened;                                                        \
    } while (0)

static int
hook_openat(int folder, const char *path, int flags, ...)
{
    MODE_AFTER(flags, mode);
    OPEN_IN(folder,
            SHD_OPENAT(folder, path, flags, mode,
                       real_openat(folder, path, flags, mode)),
            flags, path);
}

static int
hook___openat_2(int folder, const char *path, int flags)
{
    OPEN_IN(folder, real___openat_2(folder, path, flags), flags, path);
}

static int
hook_memfd_create(const char *name, unsigned int flags)
{
    SHD_CREATE(real_memfd_create(name, flags), SHD_FD_MEMORY, name);
}

static int
hook_shm_open(const char *name, int flags, mode_t mode)
{
    SHD_CREATE(real_shm_open(name, flags, mode), SHD_FD_MEMORY, name);
}

/* --- temporary files --------------------------------------------------------- */

/* A failed call may have filled in the name already; the next one asks for
 * the letters again. */
static int
letters_again(char *template, int suffix)
{
    size_t size = strlen(template);
    if (suffix < 0 || size < (size_t)suffix + 6) {
        return 0;
    }
    memset(template + size - (size_t)suffix - 6, 'X', 6);
    return 1;
}

#define MAKE_TEMPORARY(call, template, suffix)                                \
    do {                                                                      \
        int made = (call);                                                    \
        if (shd_watch_asleep()) {                                             \
            return made;                                                      \
        }                                                                     \
        if (SHD_UNLIKELY(made < 0) && shd_hook_retry(SHD_HERE)                \
            && letters_again(template, suffix)) {                             \
            made = (call);                                                    \
        }                                                                     \
        if (made >= 0) {                                                      \
            shd_watch_opened(made, SHD_FD_FILE, template, SHD_HERE);          \
        }                                                                     \
        return made;                                                          \
    } while (0)

static int
hook_mkstemp(char *template)
{
    MAKE_TEMPORARY(real_mkstemp(template), template, 0);
}

static int
hook_mkostemp(char *template, int flags)
{
    MAKE_TEMPORARY(real_mkostemp(template, flags), template, 0);
}

static int
hook_mkstemps(char *template, int suffix)
{
    MAKE_TEMPORARY(real_mkstemps(template, suffix), template, suffix);
}

static int
hook_mkostemps(char *template, int suffix, int flags)
{
    MAKE_TEMPORARY(real_mkostemps(template, suffix, flags), template, suffix);
}

/* --- terminals ----------------------------------------------------------------- */

static int
hook_posix_openpt(int flags)
{
    SHD_CREATE(real_posix_openpt(flags), SHD_FD_TERMINAL, "/dev/ptmx");
}

static int
hook_getpt(void)
{
    SHD_CREATE(real_getpt(), SHD_FD_TERMINAL, "/dev/ptmx");
}

static int
hook_openpty(int *master, int *slave, char *name,
             const struct termios *settings, const struct winsize *size)
{
    int result = real_openpty(master, slave, name, settings, size);
    if (shd_watch_asleep()) {
        return result;
    }
    if (SHD_UNLIKELY(result == -1) && shd_hook_retry(SHD_HERE)) {
        result = real_openpty(master, slave, name, settings, size);
    }
    if (result == 0) {
        shd_watch_opened(*master, SHD_FD_TERMINAL, NULL, SHD_HERE);
        shd_watch_opened(*slave, SHD_FD_TERMINAL, NULL, SHD_HERE);
    }
    return result;
}

/* The slave's descriptor does not outlive the call in the parent. */
static int
hook_forkpty(int *master, char *name, const struct termios *settings,
             const struct winsize *size)
{
    pid_t pid = real_forkpty(master, name, settings, size);
    if (pid > 0 && !shd_watch_asleep()) {
        shd_watch_opened(*master, SHD_FD_TERMINAL, NULL, SHD_HERE);
        shd_watch_child(pid, "forkpty", SHD_HERE);
    }
    return pid;
}

const shd_hook shd_open_hooks[] = {
    SHD_HOOK(open),
    SHD_ALIAS(open64, open),
    SHD_ALIAS(__open, open),
    SHD_ALIAS(__open64, open),
    SHD_HOOK(__open_2),
    SHD_ALIAS(__open64_2, __open_2),
    SHD_HOOK(openat),
    SHD_ALIAS(openat64, openat),
    SHD_HOOK(__openat_2),
    SHD_ALIAS(__openat64_2, __openat_2),
    SHD_HOOK(creat),
    SHD_ALIAS(creat64, creat),
    SHD_HOOK(memfd_create),
    SHD_HOOK(shm_open),
    SHD_HOOK(mkstemp),
    SHD_ALIAS(mkstemp64, mkstemp),
    SHD_HOOK(mkostemp),
    SHD_ALIAS(mkostemp64, mkostemp),
    SHD_HOOK(mkstemps),
    SHD_ALIAS(mkstemps64, mkstemps),
    SHD_HOOK(mkostemps),
    SHD_ALIAS(mkostemps64, mkostemps),
    SHD_HOOK(posix_openpt),
    SHD_HOOK(getpt),
    SHD_HOOK(openpty),
    SHD_HOOK(forkpty),
    {0},
};
