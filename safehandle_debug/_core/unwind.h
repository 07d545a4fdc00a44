/* Stacks: the calling thread's own frames, walked on demand. */
#ifndef SHD_UNWIND_H
#define SHD_UNWIND_H

#include "thread.h"

/* Stack id of the caller, or 0.  Inside the recorder; `tstate` is the calling
 * thread's, and `held` tells whether it has the GIL. */
uint32_t shd_unwind_capture(shd_thread *thread, PyThreadState *tstate,
                            int held);

/* 1 when a module is being imported by one of the frames that the last
 * capture of this thread kept. */
static inline int
shd_unwind_importing(const shd_thread *thread)
{
    return thread->importing != 0;
}

/* From now on threads that have not got the GIL have no stacks: the
 * interpreter is about to free their frames. */
void shd_unwind_stop_bare(void);

/* Chooses the walk; compares the internal one with the public API once. */
int shd_unwind_start(void);

/* "frames" or "public" */
const char *shd_unwind_source(void);

#endif
