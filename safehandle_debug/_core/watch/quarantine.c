/* Parking: the number goes on existing, on a descriptor that answers nothing.
 *
 * The sentinel is an O_PATH descriptor of a memfd: read, write, ioctl and the
 * like answer EBADF on it, as on a closed number, and /proc shows its name.
 * dup3() over the closed number is the close and the parking in one step:
 * there is no moment at which another thread could get the number.
 *
 * The ring is a FIFO without a lock: who parks takes a ticket, and gives back
 * the number that it finds in the ticket's place. */
#define _GNU_SOURCE
#include "quarantine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define NAME "shd-quarantine"
#define MOST 65536
#define SELECT_SAFE 960 /* numbers stay below FD_SETSIZE, with some to spare */
#define SPARE 16        /* numbers left free below the limit */
#define F_DUPFD_QUERY_ 1027

#define FD_BITS 20 /* of a ring entry; the serial is above */

_Atomic int shd_watch_open;

static _Atomic uint64_t ring[MOST];
static _Atomic uint32_t ticket;
static _Atomic int parked;
static _Atomic int ring_size; /* 0: nothing is parked any more */
static int places;            /* of the ring that may hold something */
static _Atomic int sentinel = -1;
static _Atomic int making;
static _Atomic int limit = 1024;
static int remote; /* some file system reports errors at close */
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
move_high(int fd)
{
    int most = atomic_load(&limit);
    int at = most > 1024 ? 1008 : most - 4;
    int high = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, at);
    if (high < 0) {
        return fd;
    }
    close_raw(fd);
    return high;
}

static int
open_sentinel(void)
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
    fd = move_high(fd);
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

/* Our descriptor, or -1. */
static int
sentinel_fd(void)
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
        fd = open_sentinel();
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

/* Whether `fd` is a sentinel still, and nobody put something there behind
 * libc's back.  A sentinel that was given up meanwhile is known by its name.*/
static int
is_ours(int fd)
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

/* 1 when the number is free now because of us. */
static int
give_back(uint64_t entry)
{
    int fd = (int)(entry & ((1u << FD_BITS) - 1));
    uint64_t serial = entry >> FD_BITS;
    shd_number *number = entry == 0 ? NULL : shd_number_find(fd);
    if (number == NULL) {
        return 0;
    }
    uint64_t word = atomic_load(&number->word);
    if (shd_word_state(word) != SHD_NUMBER_PARKED
        || shd_word_serial(word) != serial
        || !atomic_compare_exchange_strong(
            &number->word, &word,
            shd_word_with_state(word, SHD_NUMBER_CLOSING))) {
        return 0;
    }
    atomic_fetch_sub(&parked, 1);
    int given = is_ours(fd);
    if (given) {
        close_raw(fd);
    }
    uint64_t closing = shd_word_with_state(word, SHD_NUMBER_CLOSING);
    atomic_compare_exchange_strong(
        &number->word, &closing, shd_word_with_state(word, SHD_NUMBER_CLOSED));
    return given;
}

int
shd_quarantine_takes(int fd, int kind)
{
    if (atomic_load_explicit(&ring_size, memory_order_relaxed) == 0
        || fd <= 2) {
        return 0;
    }
    int used = atomic_load_explicit(&shd_watch_open, memory_order_relaxed)
               + atomic_load_explicit(&parked, memory_order_relaxed);
    int most = atomic_load_explicit(&limit, memory_order_relaxed) - SPARE;
    if (used >= (most < SELECT_SAFE ? most : SELECT_SAFE)) {
        return 0;
    }
    if (remote && kind == SHD_FD_FILE) {
        /* dup3() would swallow the error with which close() tells that data
           did not reach the server. */
        struct statfs system;
        if (fstatfs(fd, &system) < 0) {
            return 0;
        }
        switch ((uint32_t)system.f_type) {
        case 0x6969:     /* NFS */
        case 0x65735546: /* FUSE */
        case 0xFF534D42: /* CIFS */
        case 0xFE534D42: /* SMB2 */
        case 0x517B:     /* SMB */
        case 0x01021997: /* 9P */
        case 0x00C36400: /* Ceph */
        case 0x5346414F: /* AFS */
            return 0;
        default:
            break;
        }
    }
    return 1;
}

int
shd_quarantine_park(int fd, shd_number *number, uint64_t word)
{
    uint32_t size =
        (uint32_t)atomic_load_explicit(&ring_size, memory_order_relaxed);
    int own = size == 0 ? -1 : sentinel_fd();
    if (own < 0 || own == fd || syscall(SYS_dup3, own, fd, O_CLOEXEC) != fd) {
        return 0;
    }
    atomic_store_explicit(&number->word,
                          shd_word_with_state(word, SHD_NUMBER_PARKED),
                          memory_order_release);
    atomic_fetch_add(&parked, 1);
    uint32_t place = atomic_fetch_add(&ticket, 1) % size;
    uint64_t entry = shd_word_serial(word) << FD_BITS | (uint64_t)fd;
    give_back(atomic_exchange(&ring[place], entry));
    if (atomic_load(&ring_size) == 0) {
        shd_quarantine_hide(); /* it was emptied before this one came */
    }
    return 1;
}

int
shd_quarantine_take_over(int fd, int wanted)
{
    shd_number *number = wanted <= 2 ? NULL : shd_number_find(wanted);
    uint64_t word = number == NULL ? 0 : atomic_load(&number->word);
    if (shd_word_state(word) != SHD_NUMBER_PARKED
        || !atomic_compare_exchange_strong(
            &number->word, &word,
            shd_word_with_state(word, SHD_NUMBER_CLOSING))) {
        return fd;
    }
    int flags = (int)syscall(SYS_fcntl, fd, F_GETFD);
    int moved =
        is_ours(wanted)
        && syscall(SYS_dup3, fd, wanted, flags & FD_CLOEXEC ? O_CLOEXEC : 0)
               == wanted;
    atomic_fetch_sub(&parked, 1);
    atomic_store(&number->word, shd_word_with_state(word, SHD_NUMBER_CLOSED));
    if (!moved) {
        return fd;
    }
    close_raw(fd);
    return wanted;
}

void
shd_quarantine_forget(shd_number *number, uint64_t word)
{
    if (shd_word_state(word) == SHD_NUMBER_PARKED
        && atomic_compare_exchange_strong(
            &number->word, &word,
            shd_word_with_state(word, SHD_NUMBER_CLOSED))) {
        atomic_fetch_sub(&parked, 1);
    }
}

int
shd_quarantine_empty(void)
{
    int error = errno;
    int given = 0;
    for (int i = 0; i < places; i++) {
        if (atomic_load_explicit(&ring[i], memory_order_relaxed) != 0) {
            given += give_back(atomic_exchange(&ring[i], 0));
        }
    }
    errno = error;
    return given;
}

void
shd_quarantine_hide(void)
{
    int error = errno;
    shd_quarantine_empty();
    int fd = atomic_exchange(&sentinel, -1);
    shd_number *number = fd < 0 ? NULL : shd_number_find(fd);
    if (number != NULL) {
        atomic_store(&number->word, 0);
        close_raw(fd);
    }
    errno = error;
}

int
shd_quarantine_lost(int fd)
{
    return atomic_compare_exchange_strong(&sentinel, &fd, -1);
}

/* Whether a file system is mounted whose close() may fail late. */
static int
has_remote_mounts(void)
{
    static const char *const names[] = {" nfs",  " nfs4", " fuse", " cifs",
                                        " smb3", " 9p",   " ceph", " afs"};
    char text[4096 + 1];
    int fd = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/mounts",
                          O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 1;
    }
    int found = 0;
    size_t kept = 0; /* tail of the last piece: a name may be cut */
    ssize_t got;
    while (
        !found
        && (got = syscall(SYS_read, fd, text + kept, sizeof(text) - 1 - kept))
               > 0) {
        size_t size = kept + (size_t)got;
        text[size] = 0;
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
            found |= strstr(text, names[i]) != NULL;
        }
        kept = size < 8 ? size : 8;
        memmove(text, text + size - kept, kept);
    }
    close_raw(fd);
    return found;
}

void
shd_quarantine_refresh(void)
{
    struct rlimit bound;
    if (getrlimit(RLIMIT_NOFILE, &bound) == 0) {
        atomic_store(&limit, bound.rlim_cur > 1 << FD_BITS
                                 ? 1 << FD_BITS
                                 : (int)bound.rlim_cur);
    }
    remote = has_remote_mounts();
}

void
shd_quarantine_start(int size)
{
    size = size < MOST ? size : MOST;
    places = size > places ? size : places;
    shd_quarantine_refresh();
    atomic_store(&ring_size, size);
}

void
shd_quarantine_stop(void)
{
    atomic_store(&ring_size, 0);
    shd_quarantine_hide();
}

void
shd_quarantine_forked(void)
{
    atomic_store(&making, 0);
    int end = shd_numbers_end(), open = 0;
    for (int fd = 0; fd < end; fd++) {
        shd_number *number = shd_number_find(fd);
        uint64_t word = number == NULL ? 0 : atomic_load(&number->word);
        int state = shd_word_state(word);
        if (state == SHD_NUMBER_CLOSING) {
            /* Whoever was closing it is not here to go on. */
            if (is_ours(fd)) {
                close_raw(fd);
            }
            state = syscall(SYS_fcntl, fd, F_GETFD) >= 0 ? SHD_NUMBER_OPEN
                                                         : SHD_NUMBER_CLOSED;
            atomic_store(&number->word, shd_word_with_state(word, state));
        }
        open += state == SHD_NUMBER_OPEN;
    }
    atomic_store(&shd_watch_open, open);
    shd_quarantine_hide();
}

int
shd_quarantine_parked(void)
{
    return atomic_load(&parked);
}
