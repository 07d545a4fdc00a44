/* The beginning and the end of a handle that is a number without an object,
 * each in one go.
 *
 * Every open() and close() of the program comes by here, just back from the
 * kernel or about to go there, with caches full of other things: what is short
 * and close together costs a fraction of the same work in pieces. */
#include "depot.h"
#include "parts.h"

int
shd_record_begun(shd_subject *subject, const char *path, int flags)
{
    shd_place here;
    if (!shd_record_ready()) {
        return 0;
    }
    PyThreadState *tstate = shd_thread_state();
    if (!shd_place_enter(&here, tstate, 1)) {
        return 0;
    }
    if (path != NULL) {
        subject->detail = shd_depot_path(here.thread, path);
    }
    flags |= here.importing ? SHD_FLAG_IMPORTING : 0;
    flags |= shd_is_finalizing() ? SHD_FLAG_FINALIZING : 0;
    shd_record_set_up(&here, subject, flags);
    shd_thread_leave(here.thread);
    return 1;
}

int
shd_record_ended(const shd_subject *subject, int ending)
{
    shd_place here;
    if (!shd_record_ready()) {
        return 0;
    }
    PyThreadState *tstate = shd_thread_state();
    if (!shd_place_enter(&here, tstate, 1)) {
        return 0;
    }
    int flags = shd_is_finalizing() ? SHD_FLAG_FINALIZING : 0;
    if (ending == SHD_ENDING_DROPPED || ending == SHD_ENDING_COLLECTED) {
        flags |= SHD_FLAG_FINALIZER;
    }
    shd_live *live = shd_record_slot(subject->slot, subject->serial);
    shd_record_repeat_if_dropped(&here, subject, SHD_EVENT_CLOSE, flags, 0,
                                 live);
    shd_record_write(&here, subject, SHD_EVENT_CLOSE, 0, ending, flags,
                     subject->value, 0, 0);
    shd_record_count_open(shd_rec.header);
    if (live != NULL) {
        shd_record_free(live);
    }
    shd_thread_leave(here.thread);
    return 1;
}
