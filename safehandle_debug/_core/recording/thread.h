/* What each thread keeps for itself: its place in the recording and the stack
 * it captured last.
 *
 * One pointer of thread-local storage; the rest is mapped on first use, so
 * that a thread that touches no handle costs nothing.
 *
 * Whoever reads or writes the recording's memory is marked as inside: a signal
 * handler that comes in between leaves it alone, and the memory is not
 * unmapped meanwhile. */
#ifndef SHD_THREAD_H
#define SHD_THREAD_H

#include "compat.h"
#include "here.h"
#include "interp.h"
#include "recorder.h"

#define SHD_WALK_FRAMES 4096 /* frames looked at, innermost first */
#define SHD_KEEP_FRAMES 1024 /* most that `frames=` may ask for */
#define SHD_WINDOW 16

typedef struct {
    const void *at; /* shd_frame_at() */
    PyCodeObject *code;
    uint32_t lasti;
} shd_walked;

/* A frame of the stack that was captured last.  `at` is compared, never
 * followed. */
typedef struct {
    const void *at;
    uint32_t id; /* of the stack that ends in this frame */
} shd_cached;

/* As long as it stays the same, so does the running task: entering and leaving
 * a context, as each step of a task does, counts. */
typedef struct {
    uint64_t tstate, context;
} shd_moment;

#define SHD_MOST_UNSURE 8

typedef struct {
    shd_event *event;
    shd_block_head *block; /* that it is in */
    uint64_t serial;
    uint32_t slot;
} shd_unsure;

#define SHD_STEPS 128

/* A stack that was found before: `parent` with one frame more. */
typedef struct {
    const void *at;
    uint32_t parent;
    uint32_t id; /* 0: none */
} shd_step;

/* What every event needs comes first. */
typedef struct shd_thread {
    _Atomic int inside;     /* see above */
    _Atomic uint32_t epoch; /* of the file that has ... */
    uint32_t id;            /* ... this THREAD id */
    int told;               /* its death will be */
    shd_writer writer;

    /* The task that ran at the last event with the GIL, and while it is sure
       to be the same. */
    uint32_t task, task_epoch;
    shd_moment task_moment;

    /* Events since that lack their task.  The next event with the GIL knows it
       if the moment is still the same. */
    int unsure;
    uint32_t unsure_epoch;
    shd_moment unsure_moment;

    uint32_t cached; /* valid entries of `cache` */
    uint32_t cached_epoch;
    uint64_t cached_deaths;
    uint32_t cached_skip;
    uint32_t importing;  /* entries up to the importer's frame, 0: none */
    uint32_t chained;    /* valid entries of `chain` */
    uint32_t kept;       /* frames that the stack of `chain` has */
    uint32_t path;       /* STRING id of the path opened last ... */
    uint32_t path_epoch; /* ... in the file of this epoch */

    int finalizers;  /* nested finalizers running on this thread */
    int interrupted; /* a KeyboardInterrupt waits for their end */

    void *releasing;       /* the handle whose Python hook runs now ... */
    void *releasing_extra; /* ... and what super().release_handle() needs */

    struct shd_thread *next; /* all threads */
    unsigned long ident;     /* threading.get_ident() */
    uint32_t native;         /* gettid() */
    _Atomic int gone;        /* set by the dying thread */
    _Atomic int unnamed;     /* the THREAD record lacks its name */

    shd_unsure unsure_events[SHD_MOST_UNSURE];
    shd_step steps[SHD_STEPS];
    _Alignas(64) const
        void *chain[SHD_KEEP_FRAMES]; /* shd_frame_at() of every frame */
    uint32_t chain_ids[SHD_KEEP_FRAMES + 1]; /* ... with its stack's id */
    shd_cached cache[SHD_KEEP_FRAMES + SHD_WINDOW]; /* outermost first */
    shd_walked walk[SHD_WALK_FRAMES];               /* innermost first */
    unsigned char text[SHD_BLOCK_SIZE];             /* being encoded */
} shd_thread;

_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "atomics are not locks");

shd_thread *shd_thread_make(void);

/* The calling thread's, or NULL when memory is out.  Keeps errno. */
static inline shd_thread *
shd_thread_get(void)
{
    shd_thread *thread = shd_here.thread;
    return thread != NULL ? thread : shd_thread_make();
}

/* 0 when the thread is inside already, or when nothing is recorded (any
 * more). */
static inline int
shd_thread_enter(shd_thread *thread)
{
    if (atomic_load_explicit(&thread->inside, memory_order_relaxed)) {
        return 0;
    }
    atomic_store_explicit(&thread->inside, 1, memory_order_relaxed);
    /* The other half of this fence is in shd_thread_all_outside(). */
    atomic_signal_fence(memory_order_seq_cst);
    if (shd_recording()) {
        return 1;
    }
    atomic_store_explicit(&thread->inside, 0, memory_order_relaxed);
    return 0;
}

static inline void
shd_thread_leave(shd_thread *thread)
{
    atomic_store_explicit(&thread->inside, 0, memory_order_release);
}

/* After the switch to be obeyed was stored: 1 once no other thread is inside
 * that has not seen it; 0 when that cannot be known. */
int shd_thread_all_outside(void);

/* Its THREAD id in the present recording; 0 when there is no room.  Without
 * the GIL, inside; `tstate` is the thread's Python state or NULL. */
uint32_t shd_thread_new_id(shd_thread *thread, const PyThreadState *tstate);
static inline uint32_t
shd_thread_id(shd_thread *thread, const PyThreadState *tstate)
{
    return atomic_load_explicit(&thread->epoch, memory_order_relaxed)
                   == shd_rec.epoch
               ? thread->id
               : shd_thread_new_id(thread, tstate);
}

/* Threads that have no name yet. */
extern _Atomic uint32_t shd_thread_unnamed;
uint32_t shd_thread_find_name(shd_thread *thread);

/* The same with the name that threading has for it.  With the GIL, outside. */
static inline uint32_t
shd_thread_named_id(shd_thread *thread)
{
    return thread->told
                   && atomic_load_explicit(&shd_thread_unnamed,
                                           memory_order_relaxed)
                          == 0
                   && atomic_load_explicit(&thread->epoch,
                                           memory_order_relaxed)
                          == shd_rec.epoch
               ? thread->id
               : shd_thread_find_name(thread);
}

/* STRING id of the name of the asyncio task that runs now, or 0.  With the
 * GIL, outside. */
uint32_t shd_thread_task(shd_thread *thread, shd_interp *state,
                         PyThreadState *tstate);

static inline shd_moment
shd_thread_moment(const PyThreadState *tstate)
{
    return (shd_moment){tstate->id, tstate->context_ver};
}

static inline int
shd_same_moment(shd_moment a, shd_moment b)
{
    return a.tstate == b.tstate && a.context == b.context;
}

/* The same without the GIL; -1 when it is not certain. */
static inline int64_t
shd_thread_known_task(const shd_thread *thread, const PyThreadState *tstate)
{
    if (tstate == NULL) {
        return 0;
    }
    return thread->task_epoch == shd_rec.epoch
                   && shd_same_moment(thread->task_moment,
                                      shd_thread_moment(tstate))
               ? (int64_t)thread->task
               : -1;
}

/* Names the threads that began without the GIL.  With the GIL. */
void shd_thread_name_all(void);

/* From now on nobody is asked for names any more. */
void shd_thread_stop_naming(void);

/* Gives up the blocks of threads that have ended; readers tell by them which
 * threads still run. */
void shd_thread_reap(void);

/* After fork, in the child: only the calling thread is left. */
void shd_thread_forked(void);

int shd_thread_start(void);

#endif
