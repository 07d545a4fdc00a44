/* Forks and ends: of interpreters, of the process. */
#ifndef SHD_PROCESS_H
#define SHD_PROCESS_H

#include "interp.h"

/* Registers the hooks of the process, once.  -1 with an exception. */
int shd_process_start(void);

/* Registers the end of the running interpreter.  -1 with an exception. */
int shd_process_watch_interp(shd_interp *state);

enum shd_sweep {
    SHD_SWEEP_NATIVE, /* by value, touching no object */
    SHD_SWEEP_PYTHON, /* handles with Python hooks only */
    SHD_SWEEP_ALL,
};

/* Releases what the interpreter's handles still hold; returns how many. */
int shd_process_sweep(int64_t interp, enum shd_sweep what);

#endif
