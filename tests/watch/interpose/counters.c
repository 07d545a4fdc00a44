/* Counts calls of libc in a Python process: loaded with ctypes. */
#define _GNU_SOURCE
#include "interpose.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>

#define SHOWN __attribute__((visibility("default")))

enum {
    OPEN,
    OPEN64,
    CLOSE,
    SOCKET,
    PIPE2,
    MMAP,
    MMAP64,
    FOPEN64,
    FUNCTIONS
};

static _Atomic long counts[FUNCTIONS];
static void *originals[FUNCTIONS];

static int
mode_of(int flags, va_list rest)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0;
}

static int
counted_open(const char *path, int flags, ...)
{
    counts[OPEN]++;
    va_list rest;
    va_start(rest, flags);
    int mode = mode_of(flags, rest);
    va_end(rest);
    return ((int (*)(const char *, int, ...))originals[OPEN])(path, flags,
                                                              mode);
}

static int
counted_open64(const char *path, int flags, ...)
{
    counts[OPEN64]++;
    va_list rest;
    va_start(rest, flags);
    int mode = mode_of(flags, rest);
    va_end(rest);
    return ((int (*)(const char *, int, ...))originals[OPEN64])(path, flags,
                                                                mode);
}

static int
counted_close(int fd)
{
    counts[CLOSE]++;
    return ((int (*)(int))originals[CLOSE])(fd);
}

static int
counted_socket(int family, int type, int protocol)
{
    counts[SOCKET]++;
    return ((int (*)(int, int, int))originals[SOCKET])(family, type, protocol);
}

static int
counted_pipe2(int *ends, int flags)
{
    counts[PIPE2]++;
    return ((int (*)(int *, int))originals[PIPE2])(ends, flags);
}

static void *
counted_mmap(void *at, size_t size, int access, int flags, int fd, off_t from)
{
    counts[MMAP]++;
    return ((void *(*)(void *, size_t, int, int, int, off_t))originals[MMAP])(
        at, size, access, flags, fd, from);
}

static void *
counted_mmap64(void *at, size_t size, int access, int flags, int fd,
               off_t from)
{
    counts[MMAP64]++;
    return (
        (void *(*)(void *, size_t, int, int, int, off_t))originals[MMAP64])(
        at, size, access, flags, fd, from);
}

static FILE *
counted_fopen64(const char *path, const char *mode)
{
    counts[FOPEN64]++;
    return ((FILE * (*)(const char *, const char *)) originals[FOPEN64])(path,
                                                                         mode);
}

static const shd_hook hooks[FUNCTIONS] = {
    {"open", (void *)counted_open, &originals[OPEN]},
    {"open64", (void *)counted_open64, &originals[OPEN64]},
    {"close", (void *)counted_close, &originals[CLOSE]},
    {"socket", (void *)counted_socket, &originals[SOCKET]},
    {"pipe2", (void *)counted_pipe2, &originals[PIPE2]},
    {"mmap", (void *)counted_mmap, &originals[MMAP]},
    {"mmap64", (void *)counted_mmap64, &originals[MMAP64]},
    {"fopen64", (void *)counted_fopen64, &originals[FOPEN64]},
};

/* 0, or -1. */
SHOWN int
counters_start(void)
{
    char error[200];
    return shd_interpose_start(hooks, FUNCTIONS, error, sizeof(error));
}

SHOWN void
counters_stop(void)
{
    shd_interpose_stop();
}

SHOWN void
counters_verify(void)
{
    shd_interpose_verify();
}

SHOWN long
counters_slots(void)
{
    return (long)shd_interpose_slots();
}

SHOWN long
counters_foreign(void)
{
    return (long)shd_interpose_foreign();
}

/* Calls so far; -1: not counted. */
SHOWN long
counters_of(const char *name)
{
    for (int at = 0; at < FUNCTIONS; at++) {
        if (strcmp(hooks[at].name, name) == 0) {
            return counts[at];
        }
    }
    return -1;
}
