/* Starting a program.
 *
 * clone(2) with CLONE_PIDFD gives the child's descriptor in the same step that
 * makes the child: its pid cannot have been reaped by somebody and given to
 * another process in between.  CLONE_VFORK holds this thread until the child
 * has exec'd or failed; CLONE_VM lets it say why in the plan, and makes the
 * cost independent of the parent's size.
 *
 * So the child runs in the parent's memory.  It makes system calls, nothing
 * else: through syscall(2), since libc's functions of the same name may be
 * watched in this process, and a watch would take the child's descriptors for
 * the parent's. */
#define _GNU_SOURCE
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4u
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#define STACK_SIZE ((size_t)64 * 1024)
#define MOST_DESCRIPTORS (1 << 20)

/* Instrumented code would describe this borrowed stack in tables that the
   parent goes on using. */
#define IN_CHILD __attribute__((no_sanitize("address", "undefined")))

/* With all signals blocked: what the parent catches must not run here. */
IN_CHILD static void
reset_signals(void)
{
    for (int number = 1; number < NSIG; number++) {
        struct sigaction action;
        if (sigaction(number, NULL, &action) < 0) {
            continue; /* libc's own */
        }
        /* The interpreter ignores these two; a program expects them. */
        int ours = number == SIGPIPE || number == SIGXFSZ;
        if (action.sa_handler != SIG_DFL
            && (action.sa_handler != SIG_IGN || ours)) {
            action.sa_handler = SIG_DFL;
            action.sa_flags = 0;
            sigaction(number, &action, NULL);
        }
    }
}

IN_CHILD static int
keep_over_exec(int fd)
{
    long flags = syscall(SYS_fcntl, fd, F_GETFD);
    if (flags < 0) {
        return -1;
    }
    return syscall(SYS_fcntl, fd, F_SETFD, flags & ~FD_CLOEXEC) < 0 ? -1 : 0;
}

IN_CHILD static int
arrange_descriptors(const shd_spawn_plan *plan)
{
    long standard[3];
    for (int i = 0; i < 3; i++) {
        standard[i] = plan->standard[i];
        if (standard[i] >= 0 && standard[i] < 3 && standard[i] != i) {
            /* Another one's turn would overwrite it. */
            standard[i] = syscall(SYS_fcntl, standard[i], F_DUPFD_CLOEXEC, 3);
            if (standard[i] < 0) {
                return -1;
            }
        }
    }
    if (syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC) < 0) {
        for (int fd = 3; fd < plan->limit; fd++) {
            syscall(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC);
        }
    }
    for (int i = 0; i < 3; i++) {
        if (standard[i] == i
                ? keep_over_exec(i) < 0
                : standard[i] >= 0
                      && syscall(SYS_dup3, standard[i], i, 0) < 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < plan->inherited_count; i++) {
        if (keep_over_exec(plan->inherited[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

IN_CHILD static int
child(void *argument)
{
    shd_spawn_plan *plan = argument;
    reset_signals();
    if (arrange_descriptors(plan) < 0) {
        goto failed;
    }
    if (plan->cwd != NULL && syscall(SYS_chdir, plan->cwd) < 0) {
        plan->error_in_cwd = 1;
        goto failed;
    }
    if (plan->new_session && syscall(SYS_setsid) < 0) {
        goto failed;
    }
    sigprocmask(SIG_SETMASK, &plan->mask, NULL);
    int error = 0;
    for (char *const *path = plan->candidates; *path != NULL; path++) {
        syscall(SYS_execve, *path, plan->argv, plan->envp);
        if (errno != ENOENT && errno != ENOTDIR) {
            error = errno; /* found, at least */
        }
    }
    errno = error ? error : errno;
failed:
    plan->error = errno ? errno : EINVAL;
    syscall(SYS_exit_group, 127);
    return 127;
}

static int
descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0
        || limit.rlim_cur > MOST_DESCRIPTORS) {
        return MOST_DESCRIPTORS;
    }
    return (int)limit.rlim_cur;
}

int
shd_spawn(shd_spawn_plan *plan, int *pidfd)
{
    char *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) {
        return -1;
    }
    plan->limit = descriptor_limit();
    plan->error = 0;
    plan->error_in_cwd = 0;
    *pidfd = -1;
    sigset_t every;
    sigfillset(&every);
    pthread_sigmask(SIG_BLOCK, &every, &plan->mask);
    int pid =
        clone(child, stack + STACK_SIZE,
              CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, plan, pidfd);
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &plan->mask, NULL);
    munmap(stack, STACK_SIZE);
    if (pid >= 0 && plan->error) {
        error = plan->error;
        siginfo_t info;
        while (waitid((idtype_t)P_PIDFD, (id_t)*pidfd, &info, WEXITED) < 0
               && errno == EINTR) {
        }
        close(*pidfd);
        pid = -1;
    }
    errno = error;
    return pid;
}
