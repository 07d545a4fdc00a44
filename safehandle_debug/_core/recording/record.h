/* Writing down what happened, from any thread, with or without the GIL.
 *
 * Nothing here takes a lock, allocates Python memory, runs Python code or
 * fails: what finds no room is counted as dropped.  errno is kept. */
#ifndef SHD_RECORD_H
#define SHD_RECORD_H

#include "thread.h"

/* Where the calling thread is; good for the events of one moment. */
typedef struct {
    shd_thread *thread;
    uint32_t thread_id, task, test, stack;
    uint32_t epoch; /* the ids are of this recording */
    int importing;  /* a module is being imported by one of its frames */
    int finalizing; /* the interpreter ends */
    int unsure;     /* `task` is 0 because nobody could be asked, at ... */
    shd_moment moment;
} shd_place;

/* What an event is about: a handle, with or without an object. */
typedef struct {
    uint64_t serial;
    int64_t value;
    uint32_t type;   /* TYPE id */
    uint32_t detail; /* STRING id, 0: none */
    uint32_t slot;   /* live slot, 0: none */
} shd_subject;

/* 0 when nothing can be recorded: not recording, memory out, or the thread is
 * inside the recorder already (a signal handler).  Names of thread and task
 * are those known before: also with the GIL, this may be a signal handler that
 * interrupted the interpreter anywhere. */
int shd_place_here(shd_place *here);

/* The same where the interpreter may be asked for the names, if this thread
 * has the GIL: what called us is no signal handler. */
int shd_place_asked(shd_place *here);

/* As shd_place_here() without a stack: for what is counted only. */
int shd_place_bare(shd_place *here);

/* As shd_place_asked() for a caller that has the GIL. */
int shd_place_held(shd_place *here, PyThreadState *tstate);

/* TYPE and STRING ids for a subject, 0 when there is no room; good for places
 * of the same epoch.  `utf8` may be NULL. */
uint32_t shd_record_type(const char *name, const char *kind,
                         const char *space);
uint32_t shd_record_detail(const char *utf8);

/* The newest serial, and the next one. */
extern _Atomic uint64_t shd_newest_serial;
uint64_t shd_record_serial(void);

/* ACQUIRE, and the live slot in the file. */
void shd_record_appeared(const shd_place *here, const shd_subject *subject,
                         int flags);

/* Where this thread is, and shd_record_appeared(), in one go: of a handle
 * without an object.  `path`: its detail, or NULL.  0: nothing was recorded. */
int shd_record_begun(shd_subject *subject, const char *path, int flags);

/* The same for its end: CLOSE and shd_record_vanished().  Its entry in the live
 * table is claimed already, and given back after. */
int shd_record_ended(const shd_subject *subject, int ending);

/* Instead of ACQUIRE, of a handle of which no event is written: the header's
 * counts. */
void shd_record_counted(uint64_t serial);

/* The same of a number's handle, and instead of CLOSE.  `serial`: of a new one,
 * or 0. */
void shd_record_bare(uint64_t serial, int by);

/* One event; pinned when it is a finding by itself.  `detail` and `value` are
 * the event's, not the subject's. */
void shd_record_event(const shd_place *here, const shd_subject *subject,
                      int kind, uint32_t refs, int ending, int flags,
                      int64_t value, uint32_t detail, int pinned);

/* The same in one, for a caller that has the GIL: here, and now.
 * `only_recorded`: nothing when no ACQUIRE was recorded; `late`: flags for
 * that case. */
void shd_record_held(PyThreadState *tstate, const shd_subject *subject,
                     int kind, uint32_t refs, int ending, int flags,
                     int64_t value, uint32_t detail, int pinned,
                     int only_recorded, int late);

/* The handle has another type now (an owner): the live slot's. */
void shd_record_retyped(const shd_subject *subject);

/* The live slot is free again.  After the CLOSE event, and before the slot is
 * given back to the live table: whoever takes it next writes here. */
void shd_record_vanished(const shd_subject *subject);

/* CLOSE and, with an errno, RELEASE_FAILED of an entry that was swept, and the
 * end of its live slot: needs no place, and no Python any more. */
void shd_record_swept(uint32_t slot, uint64_t serial, int64_t value,
                      int error);

/* --- what switches it (with the GIL, but for the first) ------------------- */

/* Whether events may be written; a forked child begins its file here. */
int shd_record_begin_late(void);
static inline int
shd_record_ready(void)
{
    return shd_recording() || shd_record_begin_late();
}

/* Whether anybody may read what is written; at least, a child's file is to be
 * begun. */
extern int shd_listening;

/* After recording was started or stopped: a child forked before does not
 * begin a file of its own any more. */
void shd_record_listen(void);

/* After fork, in the child: serials up to shd_inherited_serials are the
 * parent's. */
extern uint64_t shd_inherited_serials;
void shd_record_forked(void);

/* Name of the running test, "" for none. */
void shd_record_set_test(const char *name);

/* probe.c: the addresses of what tests call; -1 with an exception. */
int shd_probe_add(PyObject *module);

/* The header's counts once more, exactly. */
void shd_record_count_live(void);

#endif
