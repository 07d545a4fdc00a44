/* Calls that name a file by its path.
 *
 * A descriptor has a name, too: /proc/self/fd/7, /dev/fd/7.  That of a parked
 * number answers as that of a closed one does: there is no such file. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include "hooks.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

typedef int xstat_function(int version, const char *path, struct stat *found);
typedef int fxstatat_function(int version, int folder, const char *path,
                              struct stat *found, int flags);
typedef ssize_t readlink_chk_function(const char *path, char *target,
                                      size_t size, size_t room);
typedef ssize_t readlinkat_chk_function(int folder, const char *path,
                                        char *target, size_t size,
                                        size_t room);
typedef char *realpath_chk_function(const char *path, char *found,
                                    size_t room);

SHD_REAL(stat);
SHD_REAL(lstat);
SHD_REAL(statfs);
SHD_REAL(statvfs);
SHD_REAL(access);
SHD_REAL(euidaccess);
SHD_REAL(readlink);
SHD_REAL(realpath);
SHD_REAL(canonicalize_file_name);
SHD_REAL(chdir);
SHD_REAL(chmod);
SHD_REAL(chown);
SHD_REAL(truncate);
SHD_REAL(utime);
SHD_REAL(utimes);
SHD_REAL(link);
SHD_REAL(pathconf);
SHD_REAL(getxattr);
SHD_REAL(setxattr);
SHD_REAL(listxattr);
SHD_REAL(removexattr);
static xstat_function *real___xstat, *real___lxstat;
static fxstatat_function *real___fxstatat;
static readlink_chk_function *real___readlink_chk;
static readlinkat_chk_function *real___readlinkat_chk;
static realpath_chk_function *real___realpath_chk;

/* --- the folder of descriptors ----------------------------------------------- */

/* A slash of the prefix stands for several. */
static const char *
after(const char *text, const char *prefix)
{
    for (; *prefix != '\0'; prefix++) {
        if (*text++ != *prefix) {
            return NULL;
        }
        while (*prefix == '/' && *text == '/') {
            text++;
        }
    }
    return text;
}

/* What follows a decimal number, which goes to `number`; NULL: none there. */
static const char *
after_number(const char *text, long *number)
{
    const char *digit = text;
    *number = 0;
    for (; *digit >= '0' && *digit <= '9' && *number < 1 << 30; digit++) {
        *number = *number * 10 + (*digit - '0');
    }
    return digit == text ? NULL : digit;
}

static const char *
after_process(const char *text)
{
    long number;
    const char *rest = after(text, "self");
    if (rest == NULL) {
        rest = after(text, "thread-self");
    }
    if (rest == NULL) {
        rest = after_number(text, &number);
        if (rest == NULL || number != getpid()) {
            return NULL;
        }
    }
    const char *task = after(rest, "/task/");
    return task == NULL ? rest : after_number(task, &number);
}

/* What follows the name of the folder of this process's descriptors, without
 * slashes; NULL: another folder. */
static const char *
after_folder(const char *path)
{
    const char *rest = after(path, "/dev/fd");
    if (rest == NULL) {
        rest = after(path, "/proc/");
        rest = rest == NULL ? NULL : after_process(rest);
        if (rest == NULL) {
            return NULL;
        }
        const char *info = after(rest, "/fdinfo");
        rest = info != NULL ? info : after(rest, "/fd");
    }
    if (rest == NULL || (*rest != '/' && *rest != '\0')) {
        return NULL;
    }
    while (*rest == '/') {
        rest++;
    }
    return rest;
}

static int
is_such_folder(int folder)
{
    char path[40], target[64];
    if (folder == AT_FDCWD) {
        snprintf(path, sizeof(path), "/proc/self/cwd");
    }
    else {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", folder);
    }
    long size =
        syscall(SYS_readlinkat, AT_FDCWD, path, target, sizeof(target) - 1);
    if (size <= 0) {
        return 0;
    }
    target[size] = '\0';
    const char *rest = after_folder(target);
    return rest != NULL && *rest == '\0';
}

static int
names_parked(const char *name)
{
    long number;
    const char *rest = after_number(name, &number);
    return rest != NULL && (*rest == '\0' || *rest == '/')
           && shd_watch_is_parked((int)number);
}

int
shd_hook_is_hidden(int folder, const char *name)
{
    if (name[0] < '0' || name[0] > '9' || shd_watch_asleep()
        || !names_parked(name)) {
        return 0;
    }
    int error = errno;
    int hidden = is_such_folder(folder);
    errno = error;
    return hidden;
}

void
shd_hook_listing(int folder)
{
    int error = errno;
    if (folder >= 0 && is_such_folder(folder)) {
        shd_watch_listed();
    }
    errno = error;
}

static int
names_list(const char *rest)
{
    return *rest == '\0' || strcmp(rest, ".") == 0;
}

__attribute__((cold)) int
shd_hook_special_path(int folder, const char *path, int opens)
{
    int hidden;
    if (path[0] != '/') {
        hidden = shd_hook_is_hidden(folder, path);
    }
    else {
        const char *rest = shd_watch_asleep() ? NULL : after_folder(path);
        if (rest != NULL && opens && names_list(rest)) {
            shd_watch_listed();
            return 1;
        }
        hidden = rest != NULL && names_parked(rest);
    }
    if (hidden) {
        errno = ENOENT;
    }
    return hidden ? -1 : 0;
}

/* --- the calls ------------------------------------------------------------------ */

#define NAMED_IN(type, failed, name, folder, path, parameters, arguments)     \
    static type hook_##name parameters                                        \
    {                                                                         \
        if (SHD_UNLIKELY(shd_hook_names_parked(folder, path))) {              \
            return failed;                                                    \
        }                                                                     \
        return real_##name arguments;                                         \
    }
#define NAMED(type, failed, name, parameters, arguments)                      \
    NAMED_IN(type, failed, name, AT_FDCWD, path, parameters, arguments)

NAMED(int, -1, stat, (const char *path, struct stat *found), (path, found))
NAMED(int, -1, lstat, (const char *path, struct stat *found), (path, found))
NAMED(int, -1, __xstat, (int version, const char *path, struct stat *found),
      (version, path, found))
NAMED(int, -1, __lxstat, (int version, const char *path, struct stat *found),
      (version, path, found))
NAMED(int, -1, statfs, (const char *path, struct statfs *found), (path, found))
NAMED(int, -1, statvfs, (const char *path, struct statvfs *found),
      (path, found))
NAMED(int, -1, access, (const char *path, int mode), (path, mode))
NAMED(int, -1, euidaccess, (const char *path, int mode), (path, mode))
NAMED(ssize_t, -1, readlink, (const char *path, char *target, size_t size),
      (path, target, size))
NAMED(ssize_t, -1, __readlink_chk,
      (const char *path, char *target, size_t size, size_t room),
      (path, target, size, room))
NAMED(char *, NULL, realpath, (const char *path, char *found), (path, found))
NAMED(char *, NULL, __realpath_chk,
      (const char *path, char *found, size_t room), (path, found, room))
NAMED(char *, NULL, canonicalize_file_name, (const char *path), (path))
NAMED(int, -1, chdir, (const char *path), (path))
NAMED(int, -1, chmod, (const char *path, mode_t mode), (path, mode))
NAMED(int, -1, chown, (const char *path, uid_t owner, gid_t group),
      (path, owner, group))
NAMED(int, -1, truncate, (const char *path, off_t size), (path, size))
NAMED(int, -1, utime, (const char *path, const struct utimbuf *times),
      (path, times))
NAMED(int, -1, utimes, (const char *path, const struct timeval times[2]),
      (path, times))
NAMED(int, -1, link, (const char *path, const char *new), (path, new))
NAMED(long, -1, pathconf, (const char *path, int which), (path, which))
NAMED(ssize_t, -1, getxattr,
      (const char *path, const char *name, void *value, size_t size),
      (path, name, value, size))
NAMED(int, -1, setxattr,
      (const char *path, const char *name, const void *value, size_t size,
       int flags),
      (path, name, value, size, flags))
NAMED(ssize_t, -1, listxattr, (const char *path, char *list, size_t size),
      (path, list, size))
NAMED(int, -1, removexattr, (const char *path, const char *name), (path, name))

/* Older names of what hooks_guard.c has under newer ones. */
static int
hook___fxstatat(int version, int folder, const char *path, struct stat *found,
                int flags)
{
    if (!shd_watch_asleep() && !shd_hook_may_probe(folder, path, SHD_HERE)) {
        return -1;
    }
    return real___fxstatat(version, folder, path, found, flags);
}

static ssize_t
hook___readlinkat_chk(int folder, const char *path, char *target, size_t size,
                      size_t room)
{
    if (!shd_watch_asleep() && !shd_hook_may_probe(folder, path, SHD_HERE)) {
        return -1;
    }
    return real___readlinkat_chk(folder, path, target, size, room);
}

const shd_hook shd_path_hooks[] = {
    SHD_HOOK(stat),
    SHD_ALIAS(stat64, stat),
    SHD_HOOK(lstat),
    SHD_ALIAS(lstat64, lstat),
    SHD_HOOK(__xstat),
    SHD_ALIAS(__xstat64, __xstat),
    SHD_HOOK(__lxstat),
    SHD_ALIAS(__lxstat64, __lxstat),
    SHD_HOOK(__fxstatat),
    SHD_ALIAS(__fxstatat64, __fxstatat),
    SHD_HOOK(statfs),
    SHD_ALIAS(statfs64, statfs),
    SHD_HOOK(statvfs),
    SHD_ALIAS(statvfs64, statvfs),
    SHD_HOOK(access),
    SHD_HOOK(euidaccess),
    SHD_ALIAS(eaccess, euidaccess),
    SHD_HOOK(readlink),
    SHD_HOOK(__readlink_chk),
    SHD_HOOK(__readlinkat_chk),
    SHD_HOOK(realpath),
    SHD_HOOK(__realpath_chk),
    SHD_HOOK(canonicalize_file_name),
    SHD_HOOK(chdir),
    SHD_HOOK(chmod),
    SHD_HOOK(chown),
    SHD_HOOK(truncate),
    SHD_ALIAS(truncate64, truncate),
    SHD_HOOK(utime),
    SHD_HOOK(utimes),
    SHD_HOOK(link),
    SHD_HOOK(pathconf),
    SHD_HOOK(getxattr),
    SHD_HOOK(setxattr),
    SHD_HOOK(listxattr),
    SHD_HOOK(removexattr),
    {0},
};
