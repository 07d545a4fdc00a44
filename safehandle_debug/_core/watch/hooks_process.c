/* Child processes, and what ends or replaces this one. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include "hooks.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* <spawn.h> would be the core's own. */
typedef int spawn_function(pid_t *pid, const char *path, const void *actions,
                           const void *attributes, char *const argv[],
                           char *const environment[]);
typedef int execveat_function(int folder, const char *path, char *const argv[],
                              char *const environment[], int flags);

SHD_REAL(fork);
static spawn_function *real_posix_spawn;
static spawn_function *real_posix_spawnp;
SHD_REAL(execve);
SHD_REAL(execv);
SHD_REAL(execvp);
SHD_REAL(execvpe);
SHD_REAL(fexecve);
static execveat_function *real_execveat;
SHD_REAL(execl);
SHD_REAL(execlp);
SHD_REAL(execle);
SHD_REAL(_exit);
SHD_REAL(_Exit);
SHD_REAL(wait);
SHD_REAL(waitpid);
SHD_REAL(wait3);
SHD_REAL(wait4);
SHD_REAL(waitid);

/* --- births ------------------------------------------------------------------- */

static pid_t
hook_fork(void)
{
    pid_t pid = real_fork();
    if (pid > 0) {
        shd_watch_has_forked(pid);
    }
    if (pid > 0 && !shd_watch_asleep()) {
        shd_watch_child(pid, "fork", SHD_HERE);
    }
    return pid;
}

#define SPAWN(pid, name, file, actions, attributes, argv, environment)        \
    do {                                                                      \
        pid_t child = -1;                                                     \
        int error = real_##name(&child, file, actions, attributes, argv,      \
                                environment);                                 \
        if (error == 0) {                                                     \
            if (pid != NULL) {                                                \
                *pid = child;                                                 \
            }                                                                 \
            if (!shd_watch_asleep()) {                                        \
                shd_watch_child(child, #name, SHD_HERE);                      \
            }                                                                 \
        }                                                                     \
        return error;                                                         \
    } while (0)

static int
hook_posix_spawn(pid_t *pid, const char *path, const void *actions,
                 const void *attributes, char *const argv[],
                 char *const environment[])
{
    SPAWN(pid, posix_spawn, path, actions, attributes, argv, environment);
}

static int
hook_posix_spawnp(pid_t *pid, const char *file, const void *actions,
                  const void *attributes, char *const argv[],
                  char *const environment[])
{
    SPAWN(pid, posix_spawnp, file, actions, attributes, argv, environment);
}

/* --- exec ------------------------------------------------------------------------- */

/* Returns from a hook what `call` returns, if it does.  `path`: of the
 * program, which may be a descriptor's name, or NULL. */
#define EXEC(path, call)                                                      \
    do {                                                                      \
        if (shd_watch_asleep()) {                                             \
            return (call);                                                    \
        }                                                                     \
        if (shd_hook_names_parked(AT_FDCWD, path)) {                          \
            return -1;                                                        \
        }                                                                     \
        shd_watch_exec();                                                     \
        int failed = (call);                                                  \
        shd_watch_exec_failed();                                              \
        return failed;                                                        \
    } while (0)

static int
hook_execve(const char *path, char *const argv[], char *const environment[])
{
    EXEC(path, real_execve(path, argv, environment));
}

static int
hook_execv(const char *path, char *const argv[])
{
    EXEC(path, real_execv(path, argv));
}

static int
hook_execvp(const char *file, char *const argv[])
{
    EXEC(file, real_execvp(file, argv));
}

static int
hook_execvpe(const char *file, char *const argv[], char *const environment[])
{
    EXEC(file, real_execvpe(file, argv, environment));
}

static int
hook_fexecve(int fd, char *const argv[], char *const environment[])
{
    if (!shd_watch_asleep() && !shd_hook_may_use(fd, "fexecve", SHD_HERE)) {
        return -1;
    }
    EXEC(NULL, real_fexecve(fd, argv, environment));
}

static int
hook_execveat(int folder, const char *path, char *const argv[],
              char *const environment[], int flags)
{
    if (!shd_watch_asleep()
        && !shd_hook_may_use_in(folder, path, "execveat", SHD_HERE)) {
        return -1;
    }
    EXEC(NULL, real_execveat(folder, path, argv, environment, flags));
}

/* The arguments from `first` up to the NULL as an array on the stack; `rest`
 * is behind it then. */
#define ARRAY_OF_ARGUMENTS(first, rest)                                       \
    va_list rest;                                                             \
    size_t count = first != NULL;                                             \
    va_start(rest, first);                                                    \
    while (count > 0 && va_arg(rest, char *) != NULL) {                       \
        count++;                                                              \
    }                                                                         \
    va_end(rest);                                                             \
    char *argv[count + 1];                                                    \
    argv[0] = (char *)first;                                                  \
    va_start(rest, first);                                                    \
    for (size_t i = 1; i <= count; i++) {                                     \
        argv[i] = va_arg(rest, char *);                                       \
    }

static int
hook_execl(const char *path, const char *first, ...)
{
    ARRAY_OF_ARGUMENTS(first, rest);
    va_end(rest);
    EXEC(path, execv(path, argv));
}

static int
hook_execlp(const char *file, const char *first, ...)
{
    ARRAY_OF_ARGUMENTS(first, rest);
    va_end(rest);
    EXEC(file, execvp(file, argv));
}

static int
hook_execle(const char *path, const char *first, ...)
{
    ARRAY_OF_ARGUMENTS(first, rest);
    char *const *environment = va_arg(rest, char *const *);
    va_end(rest);
    EXEC(path, execve(path, argv, environment));
}

/* --- ends ---------------------------------------------------------------------------- */

static void
hook__exit(int status)
{
    if (!shd_watch_asleep()) {
        shd_watch_leaving(status, SHD_HERE);
    }
    real__exit(status);
}

static void
hook__Exit(int status)
{
    if (!shd_watch_asleep()) {
        shd_watch_leaving(status, SHD_HERE);
    }
    real__Exit(status);
}

/* --- waiting for children ------------------------------------------------------------ */

void
shd_hook_waited(pid_t pid, int status, const void *caller)
{
    if (pid > 0 && (WIFEXITED(status) || WIFSIGNALED(status))
        && !shd_watch_asleep()) {
        shd_watch_reaped(pid, caller);
    }
}

/* Returns from a hook what `call` returns; it stores into `into`.  A child
 * that is asked for and is none any more was taken by the kernel (SIGCHLD
 * ignored) or behind libc's back. */
#define WAIT(call, status, into, asked)                                       \
    do {                                                                      \
        pid_t pid = (call);                                                   \
        if (pid > 0 && (status) != NULL) {                                    \
            *(status) = into;                                                 \
        }                                                                     \
        shd_hook_waited(pid, into, SHD_HERE);                                 \
        if (SHD_UNLIKELY(pid == -1) && errno == ECHILD && (asked) > 0         \
            && !shd_watch_asleep()) {                                         \
            shd_watch_reaped(asked, SHD_HERE);                                \
        }                                                                     \
        return pid;                                                           \
    } while (0)

static pid_t
hook_wait(int *status)
{
    int found = 0;
    WAIT(real_wait(&found), status, found, 0);
}

static pid_t
hook_waitpid(pid_t which, int *status, int options)
{
    int found = 0;
    WAIT(real_waitpid(which, &found, options), status, found, which);
}

static pid_t
hook_wait3(int *status, int options, struct rusage *usage)
{
    int found = 0;
    WAIT(real_wait3(&found, options, usage), status, found, 0);
}

static pid_t
hook_wait4(pid_t which, int *status, int options, struct rusage *usage)
{
    int found = 0;
    WAIT(real_wait4(which, &found, options, usage), status, found, which);
}

void
shd_hook_waited_id(const siginfo_t *info, int options, const void *caller)
{
    int ended = info->si_signo == SIGCHLD
                && (info->si_code == CLD_EXITED || info->si_code == CLD_KILLED
                    || info->si_code == CLD_DUMPED);
    if (ended && !(options & WNOWAIT) && !shd_watch_asleep()) {
        shd_watch_reaped(info->si_pid, caller);
    }
}

static int
hook_waitid(idtype_t type, id_t which, siginfo_t *info, int options)
{
    siginfo_t own = {0};
    siginfo_t *found = info != NULL ? info : &own;
    int result = real_waitid(type, which, found, options);
    if (result == 0) {
        shd_hook_waited_id(found, options, SHD_HERE);
    }
    else if (errno == ECHILD && type == P_PID && !shd_watch_asleep()) {
        shd_watch_reaped((pid_t)which, SHD_HERE);
    }
    return result;
}

const shd_hook shd_process_hooks[] = {
    SHD_HOOK(fork),
    SHD_ALIAS(__fork, fork),
    SHD_HOOK(posix_spawn),
    SHD_HOOK(posix_spawnp),
    SHD_HOOK(execve),
    SHD_HOOK(execv),
    SHD_HOOK(execvp),
    SHD_HOOK(execvpe),
    SHD_HOOK(fexecve),
    SHD_HOOK(execveat),
    SHD_HOOK(execl),
    SHD_HOOK(execlp),
    SHD_HOOK(execle),
    SHD_HOOK(_exit),
    SHD_HOOK(_Exit),
    SHD_HOOK(wait),
    SHD_ALIAS(__wait, wait),
    SHD_HOOK(waitpid),
    SHD_ALIAS(__waitpid, waitpid),
    SHD_HOOK(wait3),
    SHD_HOOK(wait4),
    SHD_HOOK(waitid),
    {0},
};
