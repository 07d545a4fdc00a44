/* The beginning and the end of a handle that is a number without an object,
 * each in one go.
 *
 * Every open() and close() of the program comes by here, just back from the
 * kernel or about to go there, with caches full of other things: what is short
 * and close together costs a fraction of the same work in pieces. */
#include "depot.h"
#include "parts.h"

#include <string.h>

#define BY_HAND 16 /* letters of a path that are compared one by one */

/* As shd_place_enter(); a forked child's file begins here. */
static inline int
enter(shd_place *here)
{
    PyThreadState *tstate = shd_thread_state();
    return shd_place_enter(here, tstate, 1)
           || (!shd_recording() && shd_record_begin_late()
               && shd_place_enter(here, tstate, 1));
}

/* STRING id of a path: often the one that the thread opened last. */
static inline uint32_t
path_id(shd_thread *thread, const char *path)
{
    if (thread->path == 0 || thread->path_epoch != shd_rec.epoch) {
        return shd_depot_new_path(thread, path);
    }
    const shd_data_head *known =
        (const shd_data_head *)(shd_rec.map + (uint64_t)thread->path * 8);
    const char *text = (const char *)(known + 1);
    uint32_t size = known->size, at = 0;
    /* Most differ soon, and some are short: that is done before a function
       is called. */
    while (at < size && at < BY_HAND && path[at] == text[at]) {
        at++;
    }
    int same = at == size
                   ? path[at] == 0
                   : at == BY_HAND
                         && strncmp(path + at, text + at, size - at) == 0
                         && path[size] == 0;
    return same ? thread->path : shd_depot_new_path(thread, path);
}

SHD_FAST int
shd_record_begun(shd_subject *subject, const char *path, int flags)
{
    shd_place here;
    if (!enter(&here)) {
        return 0;
    }
    if (path != NULL) {
        subject->detail = path_id(here.thread, path);
    }
    flags |= here.importing ? SHD_FLAG_IMPORTING : 0;
    flags |= here.finalizing ? SHD_FLAG_FINALIZING : 0;
    shd_record_set_up(&here, subject, flags);
    shd_thread_leave(here.thread);
    return 1;
}

SHD_FAST int
shd_record_ended(const shd_subject *subject, int ending)
{
    shd_place here;
    if (!enter(&here)) {
        return 0;
    }
    int flags = here.finalizing ? SHD_FLAG_FINALIZING : 0;
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
