/* From a handle's life to the recording. */
#ifndef SHD_EVENTS_H
#define SHD_EVENTS_H

#include "handle.h"

enum shd_on_error {
    SHD_ON_ERROR_RECORD,
    SHD_ON_ERROR_WARN,
    SHD_ON_ERROR_RAISE,
    SHD_ON_ERROR_ABORT,
};

extern enum shd_on_error shd_on_error;
extern int shd_mirror_tracemalloc;

/* Number of events that are findings by themselves. */
extern uint64_t shd_problems;

/* Serials: counted at every level. */
extern uint64_t shd_newest_serial;

/* Newest serial at the last fork, 0 in a process that was not forked. */
extern uint64_t shd_inherited_serials;

/* Name of the running test as text, "" for none. */
void shd_events_set_test(const char *name);

void shd_events_acquired(shd_handle *handle, PyObject *detail);

/* `refs`: after the event.  `detail`: a sentence or NULL. */
void shd_events_emit(shd_handle *handle, int kind, uint32_t refs, int ending,
                     int flags, int64_t value, const char *detail);

/* The handle left the set of open ones: closed, transferred, swept. */
void shd_events_gone(shd_handle *handle);

/* Of an entry whose object is gone or must not be touched. */
void shd_events_swept(uint32_t slot, uint64_t serial, int64_t value,
                      int error);

/* Stack id of the caller, 0 when not recording. */
uint32_t shd_events_capture(void);

/* What on_error= asks for after a problem.  Returns `result`, or -1 with an
 * exception. */
int shd_events_settle(int result);

/* Whether the handle with this serial was acquired before the last fork. */
static inline int
shd_is_inherited(uint64_t serial)
{
    return serial <= shd_inherited_serials;
}

/* After fork, in the child. */
void shd_events_forked(void);

#endif
