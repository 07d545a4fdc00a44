/* What to spawn, and what keeps it alive until that has happened. */
#ifndef SHD_ORDER_H
#define SHD_ORDER_H

#include "spawn.h"
#include "waiting.h"

typedef struct {
    shd_spawn_plan plan;
    PyObject *name, *cwd; /* as errors name them */
    PyObject *keep;       /* list of bytes */
    char **argv, **envp, **candidates;
    shd_fd_ref refs[3];
    int taken[3];
    shd_fd_ref *passed;
    int *passed_fds;
    Py_ssize_t passed_count;
} shd_order;

/* From the arguments of spawn(): 0, or -1 with an exception; shd_order_done()
 * follows in both cases. */
int shd_order_make(shd_order *order, PyObject *args, PyObject *kwargs);

/* The child's pid, or -1 with an exception. */
int shd_order_spawn(shd_order *order, int *pidfd);

/* Drops everything. Returns `result`, or -1 when giving a reference back
 * raised. */
int shd_order_done(shd_order *order, int result);

#endif
