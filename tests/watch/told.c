/* The watch as the hooks see it, for their tests: writes down what it is told
 * and answers as the test says. */
#define _GNU_SOURCE
#include "watch/hooks.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

static const char *const kinds[] = {
    "file",    "directory", "pipe",       "socket",  "epoll",
    "eventfd", "timerfd",   "signalfd",   "inotify", "memfd",
    "pidfd",   "terminal",  "descriptor", "same",
};
static const char *const owners[] = {
    "raw",     "FileIO",  "socket", "mmap", "epoll",
    "scandir", "sqlite3", "FILE",   "DIR",  "SafeHandle",
};

static char text[65536];
static size_t used;
static const void *last_caller;

EXPORTED int told_rooms, told_verdict;
EXPORTED unsigned char told_parked[1024];

static void
tell(const void *caller, const char *format, ...)
{
    int error = errno;
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text + used, sizeof(text) - used, format, arguments);
    va_end(arguments);
    if (size > 0 && used + (size_t)size < sizeof(text)) {
        used += (size_t)size;
    }
    last_caller = caller;
    errno = error;
}

EXPORTED const char *
told(void)
{
    static char copy[sizeof(text)];
    memcpy(copy, text, sizeof(text));
    memset(text, 0, sizeof(text));
    used = 0;
    return copy;
}

/* The file that holds the newest caller. */
EXPORTED const char *
told_by(void)
{
    Dl_info info;
    return dladdr(last_caller, &info) != 0 ? info.dli_fname : "";
}

/* Fills in the originals; returns the replacement, NULL for an unknown name. */
EXPORTED void *
hook_of(const char *name)
{
    size_t count;
    const shd_hook *hooks = shd_hooks(&count);
    void *found = NULL;
    shd_hooks_found();
    for (size_t i = 0; i < count; i++) {
        *hooks[i].original = dlsym(RTLD_DEFAULT, hooks[i].name);
        if (name != NULL && strcmp(name, hooks[i].name) == 0) {
            found = hooks[i].replacement;
        }
    }
    return found;
}

EXPORTED const char *
hook_name(size_t index)
{
    size_t count;
    const shd_hook *hooks = shd_hooks(&count);
    return index < count ? hooks[index].name : NULL;
}

/* A child by vfork() that runs a program, writes about itself or ends. */
EXPORTED int
vfork_and_run(const char *path, int fd)
{
    pid_t (*fork_it)(void) = (pid_t (*)(void))hook_of("vfork");
    int (*close_it)(int) = (int (*)(int))hook_of("close");
    int (*run)(const char *, char *const[], char *const[]) =
        (int (*)(const char *, char *const[], char *const[]))hook_of("execve");
    void (*leave)(int) = (void (*)(int))hook_of("_exit");
    volatile int guard = 0x5afe;
    pid_t pid = fork_it();
    if (pid == 0) {
        char *argv[] = {(char *)path, NULL};
        close_it(fd);
        run(path, argv, argv + 1);
        leave(guard == 0x5afe ? 66 : 67);
    }
    int status;
    if (pid == -1 || guard != 0x5afe || waitpid(pid, &status, 0) != pid
        || !WIFEXITED(status)) {
        return -1;
    }
    return WEXITSTATUS(status);
}

/* --- watch.h ---------------------------------------------------------------- */

_Alignas(SHD_PAGE_SIZE) shd_switches shd_on = {.watching = 1};
_Thread_local _Alignas(64) struct shd_here shd_here
    __attribute__((tls_model("initial-exec")));

int
shd_interpose_is_libc(const char *name)
{
    return name != NULL;
}

/* Where it is said whether the hooks are awake. */
EXPORTED void *
told_switch(void)
{
    return (void *)&shd_on.watching;
}

void
shd_watch_opened(int fd, int kind, const char *path, const void *caller)
{
    tell(caller, "opened %d %s %s\n", fd, kinds[kind], path ? path : "-");
}

int
shd_watch_duplicated(int fd, int from, int least, const void *caller)
{
    (void)least;
    tell(caller, "duplicated %d from %d\n", fd, from);
    return fd;
}

void
shd_watch_owned(int fd, enum shd_owner owner, const void *caller)
{
    tell(caller, "owned %d %s\n", fd, owners[owner]);
}

int
shd_watch_make_room(const void *caller)
{
    tell(caller, "make room\n");
    return told_rooms > 0 && told_rooms--;
}

enum shd_verdict
shd_watch_closing(int fd, const char *how, enum shd_owner owner, int may_park,
                  const void *caller)
{
    tell(caller, "closing %d %s %s%s\n", fd, how, owners[owner],
         may_park ? "" : " stays");
    return (enum shd_verdict)told_verdict;
}

void
shd_watch_replacing(int fd, int from, const char *how, const void *caller)
{
    tell(caller, "replacing %d from %d %s\n", fd, from, how);
}

void
shd_watch_replaced(int result, int from, const void *caller)
{
    tell(caller, "replaced %d from %d\n", result, from);
}

int
shd_watch_redirects(int from, int to)
{
    return from > 2 && to == 2;
}

void
shd_watch_redirected(int from, int to)
{
    tell(NULL, "redirected %d from %d\n", to, from);
}

void
shd_watch_closing_range(unsigned int first, unsigned int last,
                        const void *caller)
{
    tell(caller, "closing %u to %u\n", first, last);
}

int
shd_watch_is_parked(int fd)
{
    return fd >= 0 && (size_t)fd < sizeof(told_parked) && told_parked[fd];
}

void
shd_watch_locked(int fd, int is_locked)
{
    (void)fd;
    (void)is_locked;
}

void
shd_watch_probed(int fd, const void *caller)
{
    (void)fd;
    (void)caller;
}

void
shd_watch_bad(int fd, const char *function, const void *caller)
{
    tell(caller, "bad %d %s\n", fd, function);
}

void
shd_watch_waiting(int fd)
{
    tell(NULL, fd >= 0 ? "waiting %d\n" : "over\n", fd);
}

void
shd_watch_shut_down(int fd)
{
    tell(NULL, "shut down %d\n", fd);
}

void
shd_watch_listed(void)
{
    tell(NULL, "listed\n");
}

void
shd_watch_lists(int fd)
{
    tell(NULL, "lists %d\n", fd);
}

void
shd_watch_child(pid_t pid, const char *how, const void *caller)
{
    tell(caller, "child %d %s\n", (int)pid, how);
}

void
shd_watch_has_forked(pid_t pid)
{
    (void)pid;
}

void
shd_watch_reaped(pid_t pid, const void *caller)
{
    tell(caller, "reaped %d\n", (int)pid);
}

/* The tests' child processes say it to their parent. */
void
shd_watch_leaving(int status, const void *caller)
{
    (void)caller;
    dprintf(2, "leaving %d\n", status);
}

void
shd_watch_exec(void)
{
    dprintf(2, "exec\n");
}

void
shd_watch_exec_failed(void)
{
    tell(NULL, "exec failed\n");
}

void
shd_watch_left_alone(int shares_descriptors)
{
    tell(NULL, "alone%s\n", shares_descriptors ? " with descriptors" : "");
    shd_here.busy = SHD_BUSY_VFORK;
}

void
shd_watch_vfork_begins(void)
{
    tell(NULL, "vfork\n");
    shd_here.busy = SHD_BUSY_VFORK;
}

void
shd_watch_vfork_ended(pid_t child, const void *caller)
{
    shd_here.busy = 0;
    tell(caller, "child %s vfork\n", child > 0 ? "N" : "none");
}
