/* Which events may be those of some handle.
 *
 * Of each stretch of events in the order in which they were taken in, the
 * least and the greatest serial: what is old and open is mostly not among
 * those of what comes and goes, and its few events are found without looking
 * at all. */
#include "index.h"

#define EVENTS 1024 /* of a stretch */

bool
idx_stretches_note(idx_stretches *stretches, const shd_event *event)
{
    if (stretches->in_last == 0 || stretches->in_last == EVENTS) {
        if (stretches->count == stretches->room) {
            size_t room = stretches->room ? stretches->room * 2 : 64;
            idx_stretch *grown =
                realloc(stretches->all, room * sizeof(idx_stretch));
            if (grown == NULL) {
                return false;
            }
            stretches->all = grown;
            stretches->room = room;
        }
        stretches->all[stretches->count++] = (idx_stretch){
            .first = event->seq,
            .last = event->seq,
            .least = event->serial,
            .greatest = event->serial,
        };
        stretches->in_last = 0;
    }
    stretches->in_last++;
    idx_stretch *last = &stretches->all[stretches->count - 1];
    if (event->seq < last->first) {
        last->first = event->seq;
    }
    if (event->seq > last->last) {
        last->last = event->seq;
    }
    if (event->serial < last->least) {
        last->least = event->serial;
    }
    if (event->serial > last->greatest) {
        last->greatest = event->serial;
    }
    return true;
}

PyObject *
idx_stretches_of(const idx_stretches *stretches, uint64_t serial,
                 uint64_t until)
{
    PyObject *found = PyList_New(0);
    uint64_t first = 0, last = 0; /* seqs that are not in `found` yet */
    for (size_t at = 0; found != NULL && at <= stretches->count; at++) {
        bool over = at == stretches->count;
        const idx_stretch *here = &stretches->all[over ? 0 : at];
        if (!over
            && (serial < here->least || serial > here->greatest
                || here->first > until)) {
            continue;
        }
        if (!over && first != 0 && here->first <= last + 1) {
            first = here->first < first ? here->first : first;
            last = here->last > last ? here->last : last;
            continue;
        }
        if (first != 0) {
            PyObject *range = Py_BuildValue(
                "(KK)", (unsigned long long)(first - 1),
                (unsigned long long)(last < until ? last : until));
            if (range == NULL || PyList_Append(found, range) < 0) {
                Py_CLEAR(found);
            }
            Py_XDECREF(range);
        }
        if (!over) {
            first = here->first;
            last = here->last;
        }
    }
    return found;
}

void
idx_stretches_clear(idx_stretches *stretches)
{
    free(stretches->all);
    *stretches = (idx_stretches){0};
}
