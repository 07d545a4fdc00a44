/* What numbers are parked on.
 *
 * An O_PATH descriptor of a memfd: read, write, ioctl and the like answer EBADF
 * on it, as on a closed number, and /proc shows its name. */
#define _GNU_SOURCE
#include "sentinel.h"

#include "numbers.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NAME "shd-quarantine"
#define F_DUPFD_QUERY_ 1027

static _Atomic int sentinel = -1;
static _Atomic int making;
static int query_works;
static dev_t sentinel_dev;
static ino_t sentinel_ino;

static int
close_raw(int fd)
{
    return (int)syscall(SYS_close, fd);
}

/* Our descriptor stays out of the way of those who expect low numbers. */
static int
move_high(int fd, int most)
{
    int at = most > 1024 ? 1008 : most - 4;
    int high = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, at);
    if (high < 0) {
        return fd;
    }
    close_raw(fd);
    return high;
}

static int
open_sentinel(int limit)
{
    char path[40];
    int memory = (int)syscall(SYS_memfd_create, NAME, MFD_CLOEXEC);
    int fd = -1;
    if (memory >= 0) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
        fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_PATH | O_CLOEXEC);
        close_raw(memory);
    }
    if (fd < 0) {
        fd = (int)syscall(SYS_openat, AT_FDCWD, "/dev/null",
                          O_PATH | O_CLOEXEC);
    }
    if (fd < 0) {
        return -1;
    }
    fd = move_high(fd, limit);
    struct stat status;
    if (fstat(fd, &status) < 0) {
        close_raw(fd);
        return -1;
    }
    sentinel_dev = status.st_dev;
    sentinel_ino = status.st_ino;
    query_works = syscall(SYS_fcntl, fd, F_DUPFD_QUERY_, fd) == 1;
    shd_number *number = shd_number_make(fd);
    if (number != NULL) {
        atomic_store(&number->word, shd_word(0, SHD_NUMBER_OURS, 0, 0));
    }
    return fd;
}

int
shd_sentinel_fd(int limit)
{
    int fd = atomic_load_explicit(&sentinel, memory_order_acquire);
    if (fd >= 0) {
        return fd;
    }
    if (atomic_exchange(&making, 1)) {
        return -1;
    }
    fd = atomic_load(&sentinel);
    if (fd < 0) {
        int error = errno;
        fd = open_sentinel(limit);
        errno = error;
        atomic_store_explicit(&sentinel, fd, memory_order_release);
    }
    atomic_store(&making, 0);
    return fd;
}

/* Where /proc cannot be read. */
static int
is_same_file(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && status.st_dev == sentinel_dev
           && status.st_ino == sentinel_ino;
}

int
shd_sentinel_is(int fd)
{
    int own = atomic_load_explicit(&sentinel, memory_order_acquire);
    if (own >= 0 && query_works
        && syscall(SYS_fcntl, fd, F_DUPFD_QUERY_, own) == 1) {
        return 1;
    }
    char path[40], target[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    long size =
        syscall(SYS_readlinkat, AT_FDCWD, path, target, sizeof(target) - 1);
    target[size > 0 ? size : 0] = 0;
    return strncmp(target, "/memfd:" NAME, sizeof("/memfd:" NAME) - 1) == 0
           || (size <= 0 && is_same_file(fd));
}

int
shd_sentinel_are_all(const int *numbers, int count)
{
    struct pollfd asked[SHD_SENTINEL_AT_ONCE];
    const struct timespec no_time = {0};
    for (int i = 0; i < count; i++) {
        asked[i] = (struct pollfd){.fd = numbers[i]};
    }
    if (syscall(SYS_ppoll, asked, count, &no_time, NULL, 0) != count) {
        return 0;
    }
    for (int i = 0; i < count; i++) {
        if (asked[i].revents != POLLNVAL) {
            return 0;
        }
    }
    return 1;
}

static void
close_each(int first, int last)
{
#ifdef SYS_close_range
    if (first < last && syscall(SYS_close_range, first, last, 0) == 0) {
        return;
    }
#endif
    for (int fd = first; fd <= last; fd++) {
        close_raw(fd);
    }
}

void
shd_sentinel_close_all(const int *numbers, int count)
{
    for (int first = 0, last; first < count; first = last + 1) {
        last = first;
        while (last + 1 < count && numbers[last + 1] == numbers[last] + 1) {
            last++;
        }
        close_each(numbers[first], numbers[last]);
    }
}

void
shd_sentinel_drop(void)
{
    int fd = atomic_exchange(&sentinel, -1);
    shd_number *number = fd < 0 ? NULL : shd_number_find(fd);
    if (number != NULL) {
        atomic_store(&number->word, 0);
        close_raw(fd);
    }
}

int
shd_sentinel_lost(int fd)
{
    return atomic_compare_exchange_strong(&sentinel, &fd, -1);
}

void
shd_sentinel_forked(void)
{
    atomic_store(&making, 0);
}
