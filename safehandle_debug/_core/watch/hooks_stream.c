/* C's own owners of a descriptor: FILE and DIR.
 *
 * The numbers that libc opens and closes inside of them do not pass the other
 * hooks. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include "hooks.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/types.h>

SHD_REAL(fopen);
SHD_REAL(fdopen);
SHD_REAL(freopen);
SHD_REAL(fclose);
SHD_REAL(tmpfile);
SHD_REAL(popen);
SHD_REAL(pclose);
SHD_REAL(opendir);
SHD_REAL(fdopendir);
SHD_REAL(closedir);
SHD_REAL(readdir);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
SHD_REAL(readdir_r);
#pragma GCC diagnostic pop

/* -1 for a stream that has no descriptor. */
static int
number_of(FILE *stream)
{
    int error = errno;
    int fd = stream == NULL ? -1 : fileno(stream);
    errno = error;
    return fd;
}

static int
number_of_folder(DIR *folder)
{
    int error = errno;
    int fd = folder == NULL ? -1 : dirfd(folder);
    errno = error;
    return fd;
}

static void
stream_opened(FILE *stream, int kind, const char *path, const void *caller)
{
    int fd = number_of(stream);
    if (fd < 0) {
        return;
    }
    shd_watch_opened(fd, kind, path, caller);
    shd_watch_owned(fd, SHD_OWNER_FILE, caller);
}

#define OPEN_STREAM(call, kind, path)                                         \
    do {                                                                      \
        if (SHD_UNLIKELY(shd_hook_opening(AT_FDCWD, path) < 0)) {             \
            return NULL;                                                      \
        }                                                                     \
        FILE *stream = (call);                                                \
        if (shd_watch_asleep()) {                                             \
            return stream;                                                    \
        }                                                                     \
        if (SHD_UNLIKELY(stream == NULL) && shd_hook_retry(SHD_HERE)) {       \
            stream = (call);                                                  \
        }                                                                     \
        stream_opened(stream, kind, path, SHD_HERE);                          \
        return stream;                                                        \
    } while (0)

static FILE *
hook_fopen(const char *path, const char *mode)
{
    OPEN_STREAM(real_fopen(path, mode), SHD_FD_FILE, path);
}

static FILE *
hook_tmpfile(void)
{
    OPEN_STREAM(real_tmpfile(), SHD_FD_FILE, NULL);
}

static FILE *
hook_popen(const char *command, const char *mode)
{
    OPEN_STREAM(real_popen(command, mode), SHD_FD_PIPE, NULL);
}

static FILE *
hook_fdopen(int fd, const char *mode)
{
    if (shd_watch_asleep()) {
        return real_fdopen(fd, mode);
    }
    if (!shd_hook_may_use(fd, "fdopen", SHD_HERE)) {
        return NULL;
    }
    FILE *stream = real_fdopen(fd, mode);
    if (stream != NULL) {
        shd_watch_owned(fd, SHD_OWNER_FILE, SHD_HERE);
    }
    else if (errno == EBADF) {
        shd_hook_bad(fd, "fdopen", SHD_HERE);
    }
    return stream;
}

/* --- ends -------------------------------------------------------------------- */

/* The stream goes whatever its number was; a stale one is refused, as it
 * would be if nothing were parked there. */
#define END_STREAM(call, fd, how, owner)                                      \
    do {                                                                      \
        if ((fd) < 0) {                                                       \
            return (call);                                                    \
        }                                                                     \
        enum shd_verdict verdict =                                            \
            shd_watch_closing(fd, how, owner, 0, SHD_HERE);                   \
        int result = (call);                                                  \
        if (SHD_UNLIKELY(verdict == SHD_REFUSE)) {                            \
            errno = EBADF;                                                    \
            result = -1;                                                      \
        }                                                                     \
        return result;                                                        \
    } while (0)

static int
hook_fclose(FILE *stream)
{
    int fd = shd_watch_asleep() ? -1 : number_of(stream);
    END_STREAM(real_fclose(stream), fd, "fclose", SHD_OWNER_FILE);
}

static int
hook_pclose(FILE *stream)
{
    int fd = shd_watch_asleep() ? -1 : number_of(stream);
    END_STREAM(real_pclose(stream), fd, "pclose", SHD_OWNER_FILE);
}

/* Closes the stream's descriptor even when it fails, but keeps the number for
 * the new file. */
static FILE *
hook_freopen(const char *path, const char *mode, FILE *stream)
{
    if (shd_watch_asleep()) {
        return real_freopen(path, mode, stream);
    }
    int fd = number_of(stream);
    if (fd >= 0) {
        shd_watch_closing(fd, "freopen", SHD_OWNER_FILE, 0, SHD_HERE);
    }
    FILE *again = real_freopen(path, mode, stream);
    stream_opened(again, SHD_FD_FILE, path, SHD_HERE);
    return again;
}

/* --- folders --------------------------------------------------------------------- */

static void
folder_opened(DIR *folder, const char *path, int lists_us, const void *caller)
{
    int fd = number_of_folder(folder);
    if (fd < 0) {
        return;
    }
    if (lists_us) {
        shd_watch_lists(fd);
        return;
    }
    shd_watch_opened(fd, SHD_FD_DIRECTORY, path, caller);
    shd_watch_owned(fd, SHD_OWNER_DIR, caller);
}

static DIR *
hook_opendir(const char *path)
{
    int lists_us = shd_hook_opening(AT_FDCWD, path);
    if (SHD_UNLIKELY(lists_us < 0)) {
        return NULL;
    }
    DIR *folder = real_opendir(path);
    if (shd_watch_asleep()) {
        return folder;
    }
    if (SHD_UNLIKELY(folder == NULL) && shd_hook_retry(SHD_HERE)) {
        folder = real_opendir(path);
    }
    folder_opened(folder, path, lists_us, SHD_HERE);
    return folder;
}

static DIR *
hook_fdopendir(int fd)
{
    if (shd_watch_asleep()) {
        return real_fdopendir(fd);
    }
    if (!shd_hook_may_use(fd, "fdopendir", SHD_HERE)) {
        return NULL;
    }
    DIR *folder = real_fdopendir(fd);
    if (folder != NULL) {
        shd_watch_owned(fd, SHD_OWNER_DIR, SHD_HERE);
    }
    else if (errno == EBADF) {
        shd_hook_bad(fd, "fdopendir", SHD_HERE);
    }
    return folder;
}

/* What was parked since the folder was opened is in the list, and closed. */
static struct dirent *
hook_readdir(DIR *folder)
{
    struct dirent *entry;
    do {
        entry = real_readdir(folder);
    } while (entry != NULL
             && shd_hook_is_hidden(number_of_folder(folder), entry->d_name));
    return entry;
}

static int
hook_readdir_r(DIR *folder, struct dirent *entry, struct dirent **result)
{
    int error;
    do {
        error = real_readdir_r(folder, entry, result);
    } while (error == 0 && *result != NULL
             && shd_hook_is_hidden(number_of_folder(folder), entry->d_name));
    return error;
}

static int
hook_closedir(DIR *folder)
{
    int fd = shd_watch_asleep() ? -1 : number_of_folder(folder);
    END_STREAM(real_closedir(folder), fd, "closedir", SHD_OWNER_DIR);
}

const shd_hook shd_stream_hooks[] = {
    SHD_HOOK(fopen),
    SHD_ALIAS(fopen64, fopen),
    SHD_HOOK(tmpfile),
    SHD_ALIAS(tmpfile64, tmpfile),
    SHD_HOOK(popen),
    SHD_HOOK(fdopen),
    SHD_HOOK(fclose),
    SHD_HOOK(pclose),
    SHD_HOOK(freopen),
    SHD_ALIAS(freopen64, freopen),
    SHD_HOOK(opendir),
    SHD_HOOK(fdopendir),
    SHD_HOOK(closedir),
    SHD_HOOK(readdir),
    SHD_ALIAS(readdir64, readdir),
    SHD_HOOK(readdir_r),
    SHD_ALIAS(readdir64_r, readdir_r),
    {0},
};
