/* Stacks: the calling thread's own frames, walked on demand. */
#ifndef SHD_UNWIND_H
#define SHD_UNWIND_H

#include "thread.h"

enum shd_walker {
    SHD_WALKER_BARE,   /* without the GIL */
    SHD_WALKER_HELD,   /* with it, perhaps in a signal handler */
    SHD_WALKER_ASKING, /* with it, where the interpreter may be asked */
};

/* Stack id of the caller, or 0.  Inside the recorder; `tstate` is the calling
 * thread's or NULL. */
uint32_t shd_unwind_capture(shd_thread *thread, PyThreadState *tstate,
                            enum shd_walker walker);

/* 1 when a module is being imported by one of the frames that the last
 * capture of this thread kept. */
static inline int
shd_unwind_importing(const shd_thread *thread)
{
    return thread->importing != 0;
}

/* The calling thread ends the interpreter: from now on, other threads that
 * have not got the GIL have no stacks.  With the GIL. */
void shd_unwind_ending(void);

/* Chooses the walk; compares the internal one with the public API once. */
int shd_unwind_start(void);

/* "frames" or "public" */
const char *shd_unwind_source(void);

#endif
