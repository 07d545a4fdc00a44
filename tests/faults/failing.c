/* Makes the nth call of one libc function fail, in one thread, on demand.
 *
 * Preloaded into the program under test, which arms and disarms it by ctypes.
 * All wrapped functions take integers and pointers only, so one form of
 * wrapper, that passes on seven registers or stack words, does for all of
 * them, variadic ones included. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define REAL_FIRST 1 /* what it does is done, then it says that it failed */
#define IS_CLOSE 2
#define CLOSE_ON_EXEC 02000000 /* <fcntl.h> declares what is defined here */

static __thread char armed[32]; /* function name; "" counts none */
static __thread long nth;       /* which call fails, from 1; 0: none */
static __thread int error;
static __thread long calls;  /* of the armed function since it was armed */
static __thread long strays; /* close() calls on numbers that were not open */

void
failing_arm(const char *name, long which, int number)
{
    strncpy(armed, name, sizeof(armed) - 1);
    nth = which;
    error = number;
    calls = strays = 0;
}

/* Calls of the armed function so far; nothing is armed any more. */
long
failing_disarm(void)
{
    armed[0] = 0;
    return calls;
}

long
failing_strays(void)
{
    return strays;
}

/* 1 when this call is to fail. */
static int
fails(const char *name)
{
    return armed[0] && strcmp(armed, name) == 0 && ++calls == nth;
}

static long
pass(void **real, const char *name, int how, long a, long b, long c, long d,
     long e, long f, long g)
{
    if (*real == NULL) {
        *real = dlsym(RTLD_NEXT, name);
    }
    int failing = fails(name);
    if (failing && !(how & REAL_FIRST)) {
        errno = error;
        return -1;
    }
    long (*call)(long, long, long, long, long, long, long)
        = (long (*)(long, long, long, long, long, long, long))*real;
    long result = call(a, b, c, d, e, f, g);
    if ((how & IS_CLOSE) && (int)result < 0 && errno == EBADF) {
        strays++;
    }
    if (failing) {
        errno = error;
        return -1;
    }
    return result;
}

#define WRAP(name, how)                                                       \
    long name(long a, long b, long c, long d, long e, long f, long g)         \
    {                                                                         \
        static void *real;                                                    \
        return pass(&real, #name, how, a, b, c, d, e, f, g);                  \
    }

WRAP(accept4, 0)
WRAP(clone, 0)
WRAP(close, REAL_FIRST | IS_CLOSE)
WRAP(epoll_create1, 0)
WRAP(epoll_ctl, 0)
WRAP(eventfd, 0)
WRAP(fcntl, 0)
WRAP(fcntl64, 0)
WRAP(flock, 0)
WRAP(fstat, 0)
WRAP(fstat64, 0)
WRAP(fstatat64, 0)
WRAP(ftruncate, 0)
WRAP(ftruncate64, 0)
WRAP(inotify_add_watch, 0)
WRAP(inotify_init1, 0)
WRAP(lstat64, 0)
WRAP(memfd_create, 0)
WRAP(mmap, 0)
WRAP(mmap64, 0)
WRAP(munmap, REAL_FIRST)
WRAP(open, 0)
WRAP(open64, 0)
WRAP(openat, 0)
WRAP(openat64, 0)
WRAP(pipe2, 0)
WRAP(poll, 0)
WRAP(ppoll, 0)
WRAP(posix_fallocate, 0)
WRAP(read, 0)
WRAP(readlink, 0)
WRAP(shm_open, 0)
WRAP(shm_unlink, REAL_FIRST)
WRAP(socket, 0)
WRAP(socketpair, 0)
WRAP(syscall, 0)
WRAP(timerfd_create, 0)
WRAP(timerfd_settime, 0)
WRAP(unlink, 0)
WRAP(waitid, 0)
WRAP(write, 0)

/* Native functions for the calls under test: another file in place of the one
 * given, and a descriptor's flags (or whatever fcntl(2) is asked). */
int
failing_reopen(int *fd)
{
    int opened = (int)open64((long)"/dev/null", CLOSE_ON_EXEC, 0, 0, 0, 0, 0);
    if (opened >= 0) {
        *fd = opened;
    }
    return opened < 0 ? -1 : 0;
}

int
failing_flags(const int request[2])
{
    return (int)fcntl(request[0], request[1], 0, 0, 0, 0, 0);
}

/* dlsym() itself allocates: these cannot be looked up by it. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);

/* OpenSSL's own allocations are left alone: libcrypto 3.0 follows a null
 * pointer when some of them fail while it loads a provider. */
static int
is_openssl(const void *caller)
{
    Dl_info object;
    return dladdr(caller, &object) && object.dli_fname
           && strstr(object.dli_fname, "/libcrypto.so");
}

static int
has_memory(const char *name, const void *caller)
{
    if (strcmp(armed, name) == 0 && !is_openssl(caller) && fails(name)) {
        errno = ENOMEM;
        return 0;
    }
    return 1;
}

#define HAS_MEMORY(name) has_memory(name, __builtin_return_address(0))

void *
malloc(size_t size)
{
    return HAS_MEMORY("malloc") ? __libc_malloc(size) : NULL;
}

void *
calloc(size_t count, size_t size)
{
    return HAS_MEMORY("calloc") ? __libc_calloc(count, size) : NULL;
}

void *
realloc(void *memory, size_t size)
{
    return HAS_MEMORY("realloc") ? __libc_realloc(memory, size) : NULL;
}
