/* Writing down what happened, from any thread, with or without the GIL.
 *
 * Nothing here takes a lock, allocates Python memory, runs Python code or
 * fails: what finds no room is counted as dropped.  errno is kept. */
#ifndef SHD_RECORD_H
#define SHD_RECORD_H

#include "thread.h"

/* Where the calling thread is. */
typedef struct {
    shd_thread *thread;
    uint32_t thread_id, task, test, stack;
    int importing; /* a module is being imported by one of its frames */
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
 * inside the recorder already (a signal handler).  With the GIL, the names of
 * thread and task are looked up; without it, those known before are used. */
int shd_place_here(shd_place *here);

/* The same without a stack: for what is counted only. */
int shd_place_bare(shd_place *here);

/* The next serial. */
uint64_t shd_record_serial(void);

/* ACQUIRE, and the live slot in the file. */
void shd_record_appeared(const shd_place *here, const shd_subject *subject,
                         int flags);

/* One event; pinned when it is a finding by itself. */
void shd_record_event(const shd_place *here, const shd_subject *subject,
                      int kind, uint32_t refs, int ending, int flags,
                      int64_t value, uint32_t detail, int pinned);

/* The live slot is free again.  After the CLOSE event. */
void shd_record_vanished(const shd_subject *subject);

#endif
