/* Parking: the number goes on existing, on a descriptor that answers nothing.
 *
 * dup3() over the closed number is the close and the parking in one step:
 * there is no moment at which another thread could get the number.
 *
 * The ring is a FIFO without a lock: who parks takes a ticket, and gives back
 * the number that it finds in the ticket's place.  Every so many tickets, one
 * makes room for the next ones too: several numbers are looked at and closed
 * by two system calls, where each alone takes two. */
#define _GNU_SOURCE
#include "quarantine.h"

#include "recording/atomics.h"
#include "sentinel.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MOST 65536
#define SELECT_SAFE 960 /* numbers stay below FD_SETSIZE, with some to spare */
#define SPARE 16        /* numbers left free below the limit */

#define FD_BITS 20 /* of a ring entry; the serial is above */

/* Numbers given back together, at most one in so many of those parked. */
#define MOST_AT_ONCE SHD_SENTINEL_AT_ONCE
#define SHARE 8

_Atomic int shd_watch_open SHD_HOT_COUNT;

static _Atomic uint64_t ring[MOST];
static _Atomic uint64_t ticket;
static _Atomic int parked;
_Atomic int shd_quarantine_size SHD_HOT; /* 0: nothing is parked any more */
static int places;       /* of the ring that may hold something */
static uint32_t at_once; /* 0 and 1: each alone */
static _Atomic int limit = 1024;
static int remote; /* some file system reports errors at close */

static int
close_raw(int fd)
{
    return (int)syscall(SYS_close, fd);
}

/* The entry's number, from PARKED to CLOSING for this call alone; -1 when it
 * is not what it was. */
static int
claim(uint64_t entry)
{
    int fd = (int)(entry & ((1u << FD_BITS) - 1));
    shd_number *number = entry == 0 ? NULL : shd_number_find(fd);
    uint64_t word = number == NULL ? 0 : atomic_load(&number->word);
    if (shd_word_state(word) != SHD_NUMBER_PARKED
        || shd_word_serial(word) != entry >> FD_BITS
        || !shd_swap(&number->word, &word,
                     shd_word_with_state(word, SHD_NUMBER_CLOSING))) {
        return -1;
    }
    shd_add_int(&parked, -1);
    return fd;
}

/* Unless somebody got the number as soon as it was free. */
static void
settle(uint64_t entry)
{
    shd_number *number = shd_number_find((int)(entry & ((1u << FD_BITS) - 1)));
    uint64_t word = atomic_load(&number->word);
    if (shd_word_state(word) == SHD_NUMBER_CLOSING
        && shd_word_serial(word) == entry >> FD_BITS) {
        shd_swap(&number->word, &word,
                 shd_word_with_state(word, SHD_NUMBER_CLOSED));
    }
}

/* Gives back what the numbers of the entries, which are claimed, are parked
 * on; how many that were. */
static int
give_back_claimed(const uint64_t *entries, const int *numbers, int count)
{
    int given = count;
    if (count > 1 && shd_sentinel_are_all(numbers, count)) {
        shd_sentinel_close_all(numbers, count);
    }
    else {
        given = 0;
        for (int i = 0; i < count; i++) {
            if (shd_sentinel_is(numbers[i])) {
                close_raw(numbers[i]);
                given++;
            }
        }
    }
    for (int i = 0; i < count; i++) {
        settle(entries[i]);
    }
    return given;
}

/* Empties `wanted` places of the ring, at most MOST_AT_ONCE; returns how many
 * numbers are free now because of us. */
static int
give_back(uint32_t size, uint64_t first, uint32_t wanted)
{
    uint64_t entries[MOST_AT_ONCE];
    int numbers[MOST_AT_ONCE];
    int count = 0;
    for (uint32_t i = 0; i < wanted; i++) {
        _Atomic uint64_t *place = &ring[(first + i) % size];
        if (atomic_load_explicit(place, memory_order_relaxed) == 0) {
            continue;
        }
        uint64_t entry = atomic_exchange(place, 0);
        int fd = claim(entry);
        if (fd < 0) {
            continue;
        }
        entries[count] = entry;
        int to = count++;
        for (; to > 0 && numbers[to - 1] > fd; to--) {
            numbers[to] = numbers[to - 1];
        }
        numbers[to] = fd;
    }
    return give_back_claimed(entries, numbers, count);
}

int
shd_quarantine_takes(int fd, int kind)
{
    if (atomic_load_explicit(&shd_quarantine_size, memory_order_relaxed) == 0
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
    uint32_t size = (uint32_t)atomic_load_explicit(&shd_quarantine_size,
                                                   memory_order_relaxed);
    int own = size == 0 ? -1
                        : shd_sentinel_fd(atomic_load_explicit(
                              &limit, memory_order_relaxed));
    if (own < 0 || own == fd || syscall(SYS_dup3, own, fd, O_CLOEXEC) != fd) {
        return 0;
    }
    atomic_store_explicit(&number->word,
                          shd_word_with_state(word, SHD_NUMBER_PARKED),
                          memory_order_release);
    shd_add_int(&parked, 1);
    uint64_t entry = shd_word_serial(word) << FD_BITS | (uint64_t)fd;
    uint64_t drawn = shd_add(&ticket, 1);
    uint64_t old = atomic_exchange(&ring[drawn % size], entry);
    int oldest = old == 0 ? -1 : claim(old);
    if (oldest >= 0) {
        give_back_claimed(&old, &oldest, 1);
    }
    if (at_once > 1 && drawn % at_once == 0) {
        give_back(size, drawn + 1, at_once);
    }
    if (atomic_load(&shd_quarantine_size) == 0) {
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
        shd_sentinel_is(wanted)
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
    uint32_t size = (uint32_t)places;
    for (uint32_t at = 0; at < size; at += MOST_AT_ONCE) {
        uint32_t left = size - at;
        given +=
            give_back(size, at, left < MOST_AT_ONCE ? left : MOST_AT_ONCE);
    }
    errno = error;
    return given;
}

void
shd_quarantine_hide(void)
{
    int error = errno;
    shd_quarantine_empty();
    shd_sentinel_drop();
    errno = error;
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
    places = size > places ? size : places;
    at_once = (uint32_t)size / SHARE;
    at_once = at_once < MOST_AT_ONCE ? at_once : MOST_AT_ONCE;
    shd_quarantine_refresh();
    atomic_store(&shd_quarantine_size, size);
}

void
shd_quarantine_stop(void)
{
    atomic_store(&shd_quarantine_size, 0);
    shd_quarantine_hide();
}

void
shd_quarantine_forked(void)
{
    shd_sentinel_forked();
    int end = shd_numbers_end(), open = 0;
    for (int fd = 0; fd < end; fd++) {
        shd_number *number = shd_number_find(fd);
        uint64_t word = number == NULL ? 0 : atomic_load(&number->word);
        int state = shd_word_state(word);
        if (state == SHD_NUMBER_CLOSING) {
            /* Whoever was closing it is not here to go on. */
            if (shd_sentinel_is(fd)) {
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
