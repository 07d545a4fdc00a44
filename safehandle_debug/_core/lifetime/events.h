/* From a handle's life to the recording. */
#ifndef SHD_EVENTS_H
#define SHD_EVENTS_H

#include "handle.h"
#include "recording/record.h"

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

void shd_events_acquired(shd_handle *handle, PyObject *detail);

/* `refs`: after the event.  `detail`: a sentence or NULL. */
void shd_events_emit(shd_handle *handle, int kind, uint32_t refs, int ending,
                     int flags, int64_t value, const char *detail);

/* The handle left the set of open ones: closed, transferred, swept. */
void shd_events_gone(shd_handle *handle);

/* ... and what it held stays open: the watch goes on with a bare number. */
void shd_events_passed_on(shd_handle *handle);

/* Stack id of the caller, 0 when not recording. */
uint32_t shd_events_capture(void);

/* Something that on_error= has still to say. */
extern int shd_unsettled;
int shd_events_say(int result);

/* What on_error= asks for after a problem.  Returns `result`, or -1 with an
 * exception. */
static inline int
shd_events_settle(int result)
{
    return shd_unsettled ? shd_events_say(result) : result;
}

/* The end of a method that returns None: NULL with an exception on -1. */
static inline PyObject *
shd_events_conclude(int result)
{
    if (shd_events_settle(result) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* An event that is no finding: written only when somebody listens. */
static inline void
shd_events_note(shd_handle *handle, int kind, uint32_t refs)
{
    if (shd_listening && shd_has(handle, SHD_VALUED)) {
        shd_events_emit(handle, kind, refs, 0, 0, handle->value, NULL);
    }
}

/* Whether the handle with this serial was acquired before the last fork. */
static inline int
shd_is_inherited(uint64_t serial)
{
    return serial <= shd_inherited_serials;
}

/* After fork, in the child. */
void shd_events_forked(void);

#endif
