/* What each thread keeps for itself: its place in the recording and the stack
 * it captured last.
 *
 * One pointer of thread-local storage; the rest is mapped on first use, so
 * that a thread that touches no handle costs nothing. */
#ifndef SHD_THREAD_H
#define SHD_THREAD_H

#include "compat.h"
#include "interp.h"
#include "recorder.h"

#define SHD_WALK_FRAMES 4096 /* frames looked at, innermost first */
#define SHD_KEEP_FRAMES 1024 /* most that `frames=` may ask for */
#define SHD_WINDOW 16

typedef struct {
    PyCodeObject *code; /* compared, never followed once the walk is over */
    uint32_t lasti;
    uint32_t id; /* in the cache: of the stack that ends in this frame */
} shd_walked;

typedef struct shd_thread {
    struct shd_thread *next; /* all threads, under the GIL */
    _Atomic int gone;        /* set by the dying thread, without the GIL */
    shd_writer writer;
    uint32_t id;    /* THREAD id ... */
    uint32_t epoch; /* ... in the file of this epoch */

    int finalizers;  /* nested finalizers running on this thread */
    int interrupted; /* a KeyboardInterrupt waits for their end */

    void *releasing;       /* the handle whose Python hook runs now ... */
    void *releasing_extra; /* ... and what super().release_handle() needs */

    uint32_t cached; /* valid entries of `cache` */
    uint32_t cached_epoch;
    uint64_t cached_deaths;
    uint32_t cached_skip;
    shd_walked cache[SHD_KEEP_FRAMES + SHD_WINDOW]; /* outermost first */
    shd_walked walk[SHD_WALK_FRAMES];               /* innermost first */
} shd_thread;

/* The calling thread's, or NULL when memory is out.  Needs the GIL. */
shd_thread *shd_thread_get(void);

/* Its THREAD id in the present recording; 0 when there is no room. */
uint32_t shd_thread_id(shd_thread *thread);

/* STRING id of the name of the asyncio task that runs now, or 0. */
uint32_t shd_thread_task(shd_interp *state);

/* Gives up the blocks of threads that have ended; readers tell by them which
 * threads still run. */
void shd_thread_reap(void);

/* After fork, in the child: only the calling thread is left. */
void shd_thread_forked(void);

int shd_thread_start(void);

#endif
