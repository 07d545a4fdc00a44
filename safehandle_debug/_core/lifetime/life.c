/* A handle's life: every change of the state word, and the release that
 * happens at most once.
 *
 * Whoever turns the word from not-closed to closed releases, and no one else.
 * The live table is claimed as well, so that a sweep and a late finalizer
 * cannot both release.  The CLOSE event is written before the resource goes:
 * a thread that gets the same number at once is then later in the order of
 * events, as it is in truth. */
#include "events.h"
#include "hook.h"
#include "watch/watch.h"

#include <errno.h>
#include <string.h>

static int
closed_error(const shd_handle *handle)
{
    PyErr_Format(shd_interp_error(SHD_ERROR_CLOSED),
                 "%.200s is closed (it held %lld)", Py_TYPE(handle)->tp_name,
                 (long long)handle->value);
    return -1;
}

static int
state_error(const shd_handle *handle)
{
    PyErr_Format(shd_interp_error(SHD_ERROR_STATE),
                 "%.200s is not initialised: call super().__init__() first",
                 Py_TYPE(handle)->tp_name);
    return -1;
}

/* --- the beginning ------------------------------------------------------- */

void
shd_life_acquire(shd_handle *handle, int64_t value, uint32_t slot,
                 PyObject *detail)
{
    uint64_t serial = shd_record_serial();
    const shd_kind *kind = shd_type_info_of(Py_TYPE(handle))->kind;
    handle->base.bits =
        (handle->base.bits & ~SHD_SERIAL_MASK) | serial | SHD_VALUED;
    handle->value = value;
    handle->slot = slot;
    if (shd_has(handle, SHD_OWNS)) {
        shd_interp *state = shd_interp_get();
        int64_t kept = kind->release ? value : (int64_t)(intptr_t)handle;
        shd_table_set(slot, kept,
                      shd_table_meta(serial, kind->number,
                                     state == NULL ? 0 : state->id));
    }
    shd_events_acquired(handle, detail);
}

int
shd_life_adopt(shd_handle *handle, int64_t value, PyObject *detail)
{
    uint32_t slot = shd_table_take();
    if (slot == 0) {
        PyErr_NoMemory();
        return -1;
    }
    shd_life_acquire(handle, value, slot, detail);
    return 0;
}

/* --- the end -------------------------------------------------------------- */

/* Takes the handle off the live table; 1 for the one who may release, who
   then owns `extra`. */
static int
leave(shd_handle *handle, void **extra)
{
    *extra = NULL;
    if (!shd_has(handle, SHD_VALUED)) {
        return 1;
    }
    int claimed = !shd_has(handle, SHD_OWNS)
                  || shd_table_claim(handle->slot, shd_serial(handle));
    shd_events_gone(handle);
    if (claimed && handle->slot) {
        *extra = shd_table_take_extra(handle->slot);
        shd_table_give(handle->slot);
    }
    handle->slot = 0;
    return claimed;
}

/* What the handle was made from: a strong reference taken out of `extra`. */
static shd_handle *
take_parent(shd_handle *handle, void *extra)
{
    const shd_kind *kind =
        extra == NULL ? NULL : shd_type_native_kind(Py_TYPE(handle));
    return kind == NULL || kind->parent == NULL ? NULL : kind->parent(extra);
}

void
shd_life_let_go(shd_handle *handle)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (shd_life_release(handle) < 0) {
        PyErr_WriteUnraisable((PyObject *)handle);
    }
    PyErr_Restore(type, value, traceback);
}

/* Drops the reference that a handle held of its parent; never raises. */
static void
let_go_of_parent(shd_handle *parent)
{
    if (parent != NULL) {
        shd_life_let_go(parent);
        Py_DECREF(parent);
    }
}

static void
leave_unreleased(shd_handle *handle)
{
    void *extra;
    leave(handle, &extra);
    shd_handle *parent = take_parent(handle, extra);
    shd_hook_forget_extra(handle, extra);
    let_go_of_parent(parent);
}

/* The word says closed: writes the end and, when `perform`, gives back. */
static int
finish(shd_handle *handle, int perform, int ending, int flags)
{
    const shd_kind *kind = shd_type_info_of(Py_TYPE(handle))->kind;
    int64_t value = handle->value;
    int saved_errno = errno;
    int result = 0;
    if (perform && (!kind->release || kind->outside)
        && (flags & SHD_FLAG_FINALIZER) && shd_has(handle, SHD_VALUED)
        && shd_is_inherited(shd_serial(handle))
        && !shd_type_info_of(Py_TYPE(handle))->release_inherited) {
        /* The parent process still has it, and the release would reach beyond
           this one. */
        perform = 0;
        ending = SHD_ENDING_INHERITED;
    }
    if (shd_has(handle, SHD_VALUED)) {
        shd_events_emit(handle, SHD_EVENT_CLOSE, 0, ending, flags, value,
                        NULL);
    }
    void *extra;
    uint64_t outer = shd_watch_release_begins(handle->slot);
    int claimed = leave(handle, &extra);
    shd_handle *parent = take_parent(handle, extra);
    if (claimed && !perform) {
        shd_hook_forget_extra(handle, extra);
    }
    else if (claimed) {
        if (kind->release) {
            int error;
            if (shd_is_finalizing()) {
                error =
                    kind->release(value, extra); /* as in shd_hook_call() */
            }
            else {
                Py_BEGIN_ALLOW_THREADS
                error = kind->release(value, extra);
                Py_END_ALLOW_THREADS
            }
            if (error) {
                shd_events_emit(handle, SHD_EVENT_RELEASE_FAILED, 0, 0, flags,
                                error, strerror(error));
            }
        }
        else {
            result = shd_hook_call(handle, flags, extra);
        }
        if (shd_has(handle, SHD_RESETS)) {
            handle->value = -1;
        }
    }
    shd_watch_release_ended(outer);
    let_go_of_parent(parent);
    errno = saved_errno;
    return result;
}

/* --- the operations ------------------------------------------------------- */

int
shd_life_add_ref(shd_handle *handle)
{
    uint32_t state = atomic_load(&handle->state);
    do {
        if (state == 0) {
            return state_error(handle);
        }
        if (state & SHD_CLOSED) {
            shd_events_emit(handle, SHD_EVENT_USE_CLOSED, shd_refs(state), 0,
                            0, handle->value, NULL);
            return closed_error(handle);
        }
        if (shd_refs(state) == SHD_MOST_REFS) {
            shd_events_emit(handle, SHD_EVENT_OVERFLOW, SHD_MOST_REFS, 0, 0,
                            handle->value, NULL);
            PyErr_Format(shd_interp_error(SHD_ERROR_OVERFLOW),
                         "%.200s has %u references already",
                         Py_TYPE(handle)->tp_name, SHD_MOST_REFS);
            return -1;
        }
    } while (!atomic_compare_exchange_weak(&handle->state, &state,
                                           state + SHD_ONE_REF));
    shd_events_note(handle, SHD_EVENT_ADD_REF, shd_refs(state) + 1);
    return 0;
}

int
shd_life_release(shd_handle *handle)
{
    uint32_t state = atomic_load(&handle->state);
    uint32_t next;
    int perform;
    do {
        if (state == 0) {
            return state_error(handle);
        }
        if (shd_refs(state) == 0) {
            shd_events_emit(handle, SHD_EVENT_DOUBLE_RELEASE, 0, 0, 0,
                            handle->value, NULL);
            return closed_error(handle);
        }
        perform = 0;
        next = state - SHD_ONE_REF;
        if (shd_refs(next) == 0) {
            if (!(state & SHD_CLOSED)) {
                perform = shd_hook_decide(handle, 0);
                if (perform < 0) {
                    return -1;
                }
            }
            next |= SHD_CLOSED;
        }
    } while (!atomic_compare_exchange_weak(&handle->state, &state, next));

    if (shd_refs(next) || (state & SHD_CLOSED)) {
        shd_events_note(handle, SHD_EVENT_RELEASE, shd_refs(next));
        return 0;
    }
    if (!(state & SHD_DISPOSED)) {
        shd_events_emit(handle, SHD_EVENT_DOUBLE_RELEASE, 0, 0, 0,
                        handle->value, NULL);
    }
    else {
        shd_events_note(handle, SHD_EVENT_RELEASE, 0);
    }
    return finish(handle, perform,
                  shd_has(handle, SHD_DEFERRED_EXIT) ? SHD_ENDING_EXITED
                                                     : SHD_ENDING_CLOSED,
                  0);
}

int
shd_life_dispose(shd_handle *handle, int ending, int finalizer)
{
    int flags = finalizer ? SHD_FLAG_FINALIZER : 0;
    uint32_t state = atomic_load(&handle->state);
    uint32_t next;
    int perform;
    do {
        if (state == 0) {
            return finalizer ? 0 : state_error(handle);
        }
        if ((state & SHD_DISPOSED) || shd_refs(state) == 0) {
            return 0;
        }
        perform = 0;
        next = (state - SHD_ONE_REF) | SHD_DISPOSED;
        if (shd_refs(next) == 0) {
            if (!(state & SHD_CLOSED)) {
                perform = shd_hook_decide(handle, flags);
                if (perform < 0) {
                    return -1;
                }
            }
            next |= SHD_CLOSED;
        }
    } while (!atomic_compare_exchange_weak(&handle->state, &state, next));

    if (state & SHD_CLOSED) {
        return 0;
    }
    if (shd_refs(next) == 0) {
        return finish(handle, perform, ending, flags);
    }
    if (ending == SHD_ENDING_EXITED) {
        handle->base.bits |= SHD_DEFERRED_EXIT;
    }
    if (shd_has(handle, SHD_VALUED)) {
        shd_events_emit(handle, SHD_EVENT_DISPOSE, shd_refs(next), ending,
                        flags, handle->value, NULL);
    }
    return 0;
}

int
shd_life_close_critical(shd_handle *handle, int ending, int finalizer)
{
    int flags = finalizer ? SHD_FLAG_FINALIZER : 0;
    uint32_t state = atomic_load(&handle->state);
    if (state == 0) {
        return finalizer ? 0 : state_error(handle);
    }
    if (state & SHD_CLOSED) {
        return 0;
    }
    int perform = shd_hook_decide(handle, flags);
    if (perform < 0) {
        return -1;
    }
    if (!atomic_compare_exchange_strong(&handle->state, &state,
                                        SHD_CLOSED | SHD_DISPOSED)) {
        return 0;
    }
    return finish(handle, perform, ending, flags);
}

int
shd_life_invalidate(shd_handle *handle)
{
    uint32_t state = atomic_load(&handle->state);
    if (state == 0) {
        return state_error(handle);
    }
    state = atomic_fetch_or(&handle->state, SHD_CLOSED);
    if (!(state & SHD_CLOSED) && shd_has(handle, SHD_VALUED)) {
        shd_events_emit(handle, SHD_EVENT_INVALIDATE, shd_refs(state),
                        SHD_ENDING_TRANSFERRED, 0, handle->value, NULL);
        leave_unreleased(handle);
        shd_events_passed_on(handle);
    }
    return 0;
}

void
shd_life_forget(shd_handle *handle)
{
    leave_unreleased(handle);
    handle->base.bits &= ~(SHD_VALUED | SHD_SERIAL_MASK);
}

int
shd_life_detach(shd_handle *handle)
{
    uint32_t state = atomic_load(&handle->state);
    do {
        if (state == 0) {
            return state_error(handle);
        }
        if (state & SHD_CLOSED) {
            return closed_error(handle);
        }
        const shd_kind *kind = shd_type_native_kind(Py_TYPE(handle));
        if (kind != NULL && kind->parent != NULL
            && shd_table_extra(handle->slot) != NULL) {
            PyErr_Format(shd_interp_error(SHD_ERROR_NOT_SUPPORTED),
                         "%.200s cannot be detached: it lives on another "
                         "handle",
                         Py_TYPE(handle)->tp_name);
            return -1;
        }
        uint32_t others = shd_refs(state) - !(state & SHD_DISPOSED);
        if (others) {
            PyErr_Format(shd_interp_error(SHD_ERROR_STATE),
                         "%.200s cannot be detached: %u references are out",
                         Py_TYPE(handle)->tp_name, others);
            return -1;
        }
    } while (!atomic_compare_exchange_weak(&handle->state, &state,
                                           SHD_CLOSED | SHD_DISPOSED));
    if (shd_has(handle, SHD_VALUED)) {
        shd_events_emit(handle, SHD_EVENT_CLOSE, 0, SHD_ENDING_TRANSFERRED, 0,
                        handle->value, NULL);
        leave_unreleased(handle);
        shd_events_passed_on(handle);
    }
    return 0;
}

void
shd_life_sweep(shd_handle *handle)
{
    uint32_t state = atomic_load(&handle->state);
    int perform;
    do {
        if (state == 0 || (state & SHD_CLOSED)) {
            return;
        }
        perform = shd_hook_decide(handle, SHD_FLAG_FINALIZER);
    } while (!atomic_compare_exchange_weak(&handle->state, &state,
                                           state | SHD_CLOSED | SHD_DISPOSED));
    handle->base.bits |= SHD_FINALIZED;
    finish(handle, perform > 0, SHD_ENDING_SWEPT, SHD_FLAG_FINALIZER);
}
