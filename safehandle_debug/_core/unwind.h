/* Stacks: the calling thread's own frames, walked on demand. */
#ifndef SHD_UNWIND_H
#define SHD_UNWIND_H

#include "thread.h"

/* Stack id of the caller, or 0.  Needs the GIL; keeps the current exception.
 * `index` is the interpreter's place on code objects. */
uint32_t shd_unwind_capture(shd_thread *thread, PyThreadState *tstate,
                            Py_ssize_t index);

/* 1 when a module is being imported by one of the frames that the last
 * capture of this thread walked. */
int shd_unwind_importing(const shd_thread *thread);

/* Chooses the walk; compares the internal one with the public API once. */
int shd_unwind_start(void);

/* "frames" or "public" */
const char *shd_unwind_source(void);

#endif
