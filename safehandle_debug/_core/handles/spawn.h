/* Starting a program: fork and exec in one step, with a pidfd from its first
 * moment. */
#ifndef SHD_SPAWN_H
#define SHD_SPAWN_H

#include <signal.h>
#include <stddef.h>

typedef struct {
    char *const *candidates; /* paths to try in turn, NULL at the end */
    char *const *argv;
    char *const *envp;
    const char *cwd;      /* NULL: as it is */
    int standard[3];      /* become 0, 1, 2; -1: as they are */
    const int *inherited; /* keep their numbers in the child */
    size_t inherited_count;
    int new_session;
    /* Filled in: */
    int limit; /* above the highest descriptor there can be */
    sigset_t mask;
    int error;        /* errno of the child's failure, 0 when it runs */
    int error_in_cwd; /* it is the folder that is wrong */
} shd_spawn_plan;

/* The new child's pid, its descriptor in *pidfd; -1 with errno, also when the
 * child could not exec: it is reaped then.  No Python; the caller keeps the
 * GIL so that nobody changes what the plan points to. */
int shd_spawn(shd_spawn_plan *plan, int *pidfd);

#endif
