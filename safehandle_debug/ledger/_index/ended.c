/* The handles that ended last, in a ring. */
#include "index.h"

#include <string.h>

#define LEAST_ROOM 64
#define LEFT (1u << 31) /* of `version`: closed by the interpreter's end */

static bool
grow(idx_ended *ended)
{
    size_t room = ended->room ? ended->room * 2 : LEAST_ROOM;
    if (room > ended->most) {
        room = ended->most;
    }
    /* It has not gone round yet: it only does at its full size. */
    shd_live *slots = realloc(ended->slots, room * sizeof(shd_live));
    if (slots == NULL) {
        return false;
    }
    ended->slots = slots;
    uint64_t *ticks = realloc(ended->ticks, room * sizeof(uint64_t));
    if (ticks == NULL) {
        return false;
    }
    ended->ticks = ticks;
    ended->room = room;
    return true;
}

bool
idx_ended_note(idx_ended *ended, const shd_live *handle,
               const shd_event *close)
{
    if (ended->most == 0) {
        return true;
    }
    if (ended->count == ended->room && ended->room < ended->most
        && !grow(ended)) {
        return false;
    }
    size_t at;
    if (ended->count < ended->room) {
        at = ended->count++;
    }
    else {
        at = ended->first;
        ended->first = (ended->first + 1) % ended->room;
    }
    unsigned ending = close->ending;
    if (ending == 0) {
        ending = close->kind == SHD_EVENT_INVALIDATE ? SHD_ENDING_TRANSFERRED
                                                     : SHD_ENDING_CLOSED;
    }
    bool finalized =
        ending == SHD_ENDING_DROPPED || ending == SHD_ENDING_COLLECTED;
    bool left = close->kind == SHD_EVENT_CLOSE
                && !(close->flags & SHD_FLAG_BORROWED)
                && (ending == SHD_ENDING_SWEPT
                    || (finalized && close->flags & SHD_FLAG_FINALIZING));
    shd_live *slot = &ended->slots[at];
    *slot = *handle;
    slot->flags &= ~IDX_DISPOSED;
    slot->refs = 0;
    slot->last_stack = close->stack;
    slot->version =
        ending << IDX_STATE_ENDING | (left ? LEFT | IDX_LEFT : IDX_OVER);
    if (close->flags & SHD_FLAG_FINALIZING) {
        slot->flags |= SHD_FLAG_FINALIZING;
    }
    ended->ticks[at] = close->ticks;
    return true;
}

PyObject *
idx_ended_packed(const idx_ended *ended, bool left)
{
    size_t wanted = 0;
    for (size_t at = 0; at < ended->count; at++) {
        wanted += !left || ended->slots[at].version & LEFT;
    }
    PyObject *slots = PyBytes_FromStringAndSize(
        NULL, (Py_ssize_t)(wanted * sizeof(shd_live)));
    PyObject *ticks = PyBytes_FromStringAndSize(
        NULL, (Py_ssize_t)(wanted * sizeof(uint64_t)));
    if (slots == NULL || ticks == NULL) {
        Py_XDECREF(slots);
        Py_XDECREF(ticks);
        return NULL;
    }
    shd_live *slot = (shd_live *)PyBytes_AS_STRING(slots);
    uint64_t *closed = (uint64_t *)PyBytes_AS_STRING(ticks);
    for (size_t number = 0; number < ended->count; number++) {
        size_t at = (ended->first + number) % ended->count;
        if (!left || ended->slots[at].version & LEFT) {
            *slot = ended->slots[at];
            slot->version &= ~LEFT;
            if (!left) {
                slot->version |= IDX_OVER;
            }
            slot++;
            *closed++ = ended->ticks[at];
        }
    }
    return Py_BuildValue("(NN)", slots, ticks);
}

void
idx_ended_clear(idx_ended *ended)
{
    free(ended->slots);
    free(ended->ticks);
    *ended = (idx_ended){0};
}
