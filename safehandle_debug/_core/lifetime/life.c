/* A handle's life: every change of the state word, and the release that
 * happens at most once.
 *
 * Whoever turns the word from not-closed to closed releases, and no one else.
 * The live table is claimed as well, so that a sweep and a late finalizer
 * cannot both release.  The CLOSE event is written before the resource goes:
 * a thread that gets the same number at once is then later in the order of
 * events, as it is in truth. */
#include "events.h"
#include "recording/thread.h"

#include "watch/watch.h"

#include <errno.h>
#include <limits.h>
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

int
shd_life_finalizer_ending(const shd_handle *handle)
{
    return shd_has(handle, SHD_COLLECTED) || shd_critical_in_pass()
               ? SHD_ENDING_COLLECTED
               : SHD_ENDING_DROPPED;
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

static void
forget_extra(shd_handle *handle, void *extra)
{
    const shd_kind *kind =
        extra == NULL ? NULL : shd_type_native_kind(Py_TYPE(handle));
    if (kind != NULL && kind->forget != NULL) {
        kind->forget(extra);
    }
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
    forget_extra(handle, extra);
    let_go_of_parent(parent);
}

int
shd_life_is_invalid(shd_handle *handle, const shd_type_info *info)
{
    int64_t value = handle->value;
    switch (info->rule) {
    case SHD_RULE_ZERO_OR_MINUS_ONE:
        return value == 0 || value == -1;
    case SHD_RULE_MINUS_ONE:
        return value == -1;
    case SHD_RULE_FD:
        return value < 0 || value > INT_MAX;
    case SHD_RULE_PYTHON:
        break;
    }
    PyObject *answer =
        PyObject_GetAttrString((PyObject *)handle, "is_invalid");
    if (answer == NULL) {
        return -1;
    }
    int invalid = PyObject_IsTrue(answer);
    Py_DECREF(answer);
    return invalid;
}

/* Reports the current exception as nobody's: there is no caller to get it. An
   interrupt is not an error of the hook; it is delivered again. */
static void
report_unraisable(shd_handle *handle, const char *method)
{
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        PyErr_Clear();
        shd_critical_interrupted();
        return;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *where =
        PyObject_GetAttrString((PyObject *)Py_TYPE(handle), method);
    if (where == NULL) {
        PyErr_Clear();
    }
    PyErr_Restore(type, value, traceback);
    PyErr_WriteUnraisable(where);
    Py_XDECREF(where);
}

/* "OSError: [Errno 5] ..." of the current exception, which stays. */
static void
describe_exception(char *text, size_t size)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    PyObject *message = value == NULL ? NULL : PyObject_Str(value);
    const char *utf8 = message == NULL ? NULL : PyUnicode_AsUTF8(message);
    snprintf(text, size, "release_handle raised %.60s%s%.120s",
             type == NULL ? "?" : ((PyTypeObject *)type)->tp_name,
             utf8 != NULL && utf8[0] ? ": " : "", utf8 == NULL ? "" : utf8);
    Py_XDECREF(message);
    PyErr_Restore(type, value, traceback);
}

/* ctypes keeps an errno of its own for each thread; 0 when it is not there. */
static int
ctypes_errno(PyObject **module)
{
    *module = Py_XNewRef(shd_interp_loaded_module("_ctypes"));
    if (*module == NULL) {
        return 0;
    }
    PyObject *number = PyObject_CallMethod(*module, "get_errno", NULL);
    int value = number == NULL ? 0 : (int)PyLong_AsLong(number);
    if (number == NULL) {
        Py_CLEAR(*module);
    }
    Py_XDECREF(number);
    PyErr_Clear();
    return value;
}

static int
call_hook(shd_handle *handle, int flags, void *extra)
{
    if (shd_is_finalizing()
        && PyInterpreterState_Get() != PyInterpreterState_Main()) {
        /* A subinterpreter that nobody destroyed ends inside the main one:
           there, whoever gives up the GIL for a moment never gets it back,
           and CPython ends the thread.  No hook is worth that. */
        shd_events_emit(handle, SHD_EVENT_RELEASE_FAILED, 0, 0, flags, 0,
                        "its interpreter was never destroyed: the process "
                        "ended first");
        forget_extra(handle, extra);
        return 0;
    }
    shd_thread *thread = shd_thread_get();
    void *outer[2] = {NULL, NULL};
    if (thread != NULL) {
        outer[0] = thread->releasing;
        outer[1] = thread->releasing_extra;
        thread->releasing = handle;
        thread->releasing_extra = extra;
    }
    PyObject *type, *value, *traceback, *ctypes;
    PyErr_Fetch(&type, &value, &traceback);
    int saved_ctypes = ctypes_errno(&ctypes);
    char why[256] = "release_handle returned False";

    PyObject *result =
        PyObject_CallMethod((PyObject *)handle, "release_handle", NULL);
    if (thread != NULL) {
        forget_extra(handle, thread->releasing_extra);
        thread->releasing = outer[0];
        thread->releasing_extra = outer[1];
    }
    int answer = 1;
    if (result != NULL && result != Py_None) {
        answer = PyObject_IsTrue(result);
    }
    int raised = result == NULL || answer < 0;
    Py_XDECREF(result);
    if (raised) {
        describe_exception(why, sizeof(why));
    }
    if (raised || !answer) {
        PyObject *hook_type, *hook_value, *hook_traceback;
        PyErr_Fetch(&hook_type, &hook_value, &hook_traceback);
        shd_events_emit(handle, SHD_EVENT_RELEASE_FAILED, 0, 0, flags, 0, why);
        PyErr_Restore(hook_type, hook_value, hook_traceback);
    }
    if (raised && ((flags & SHD_FLAG_FINALIZER) || type != NULL)) {
        report_unraisable(handle, "release_handle");
        raised = 0;
    }
    if (ctypes != NULL) {
        PyObject *error_type, *error, *error_traceback;
        PyErr_Fetch(&error_type, &error, &error_traceback);
        Py_XDECREF(
            PyObject_CallMethod(ctypes, "set_errno", "i", saved_ctypes));
        PyErr_Restore(error_type, error, error_traceback);
        Py_DECREF(ctypes);
    }
    if (!raised) {
        PyErr_Restore(type, value, traceback);
    }
    return raised ? -1 : 0;
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
        forget_extra(handle, extra);
    }
    else if (claimed) {
        if (kind->release) {
            int error;
            if (shd_is_finalizing()) {
                error = kind->release(value, extra); /* as in call_hook() */
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
            result = call_hook(handle, flags, extra);
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

/* Whether the last reference releases: 1, 0, or -1 with an exception. */
static int
decide(shd_handle *handle, int flags)
{
    if (!shd_has(handle, SHD_OWNS)) {
        return 0;
    }
    const shd_type_info *info = shd_type_info_of(Py_TYPE(handle));
    if (info->rule != SHD_RULE_PYTHON) {
        return !shd_life_is_invalid(handle, info);
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    int invalid = shd_life_is_invalid(handle, info);
    if (invalid < 0 && (flags & SHD_FLAG_FINALIZER)) {
        report_unraisable(handle, "is_invalid");
        invalid = 0; /* releasing too much is told, releasing never is not */
    }
    if (invalid < 0) {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
        return -1;
    }
    PyErr_Restore(type, value, traceback);
    return !invalid;
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
                perform = decide(handle, 0);
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
                perform = decide(handle, flags);
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
    int perform = decide(handle, flags);
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

/* --- finalization --------------------------------------------------------- */

static int
is_open(const shd_handle *handle)
{
    uint32_t state = atomic_load(&handle->state);
    return state != 0 && !(state & (SHD_CLOSED | SHD_DISPOSED));
}

int
shd_life_call_dispose(shd_handle *handle, int disposing)
{
    if (shd_type_info_of(Py_TYPE(handle))->python_dispose) {
        PyObject *result =
            PyObject_CallMethod((PyObject *)handle, "dispose", "O",
                                disposing ? Py_True : Py_False);
        Py_XDECREF(result);
        return result == NULL ? -1 : 0;
    }
    int ending = !disposing ? shd_life_finalizer_ending(handle)
                 : shd_has(handle, SHD_EXITING) ? SHD_ENDING_EXITED
                                                : SHD_ENDING_CLOSED;
    return shd_has(handle, SHD_IS_CRITICAL)
               ? shd_life_close_critical(handle, ending, !disposing)
               : shd_life_dispose(handle, ending, !disposing);
}

int
shd_life_needs_finalizer(shd_handle *handle)
{
    const shd_type_info *info = shd_type_info_of(Py_TYPE(handle));
    if (!is_open(handle)) {
        /* A close that waits for a reference in the same garbage: the hook
           will run when that goes, and needs the object whole. */
        uint32_t state = atomic_load(&handle->state);
        return info->python_release && (state & SHD_DISPOSED)
               && !(state & SHD_CLOSED);
    }
    return info->python_release || info->python_dispose
           || info->python_finalize || info->python_invalid;
}

void
shd_life_finalize(shd_handle *handle)
{
    if (!is_open(handle)) {
        return;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    const shd_type_info *info = shd_type_info_of(Py_TYPE(handle));
    const char *method = "dispose";
    int result;
    if (info->python_finalize) {
        method = "finalize";
        PyObject *answer =
            PyObject_CallMethod((PyObject *)handle, method, NULL);
        Py_XDECREF(answer);
        result = answer == NULL ? -1 : 0;
    }
    else {
        result = shd_life_call_dispose(handle, 0);
    }
    if (result < 0) {
        report_unraisable(handle, method);
    }
    if (is_open(handle)) {
        /* An override that forgot its base: the resource must not pay. */
        int ending = shd_life_finalizer_ending(handle);
        result = shd_has(handle, SHD_IS_CRITICAL)
                     ? shd_life_close_critical(handle, ending, 1)
                     : shd_life_dispose(handle, ending, 1);
        if (result < 0) {
            report_unraisable(handle, "release_handle");
        }
    }
    PyErr_Restore(type, value, traceback);
}

void
shd_life_dealloc(shd_handle *handle)
{
    PyObject *type, *value, *traceback;
    const shd_kind *kind = shd_type_info_of(Py_TYPE(handle))->kind;
    if (is_open(handle)) {
        PyErr_Fetch(&type, &value, &traceback);
        if (kind->release && shd_has(handle, SHD_IS_CRITICAL)) {
            shd_life_close_critical(handle, shd_life_finalizer_ending(handle),
                                    1);
        }
        else if (kind->release) {
            shd_life_dispose(handle, shd_life_finalizer_ending(handle), 1);
        }
        else if (shd_has(handle, SHD_VALUED) && shd_has(handle, SHD_OWNS)) {
            shd_events_emit(handle, SHD_EVENT_RELEASE_FAILED, 0, 0,
                            SHD_FLAG_FINALIZER, 0,
                            "__del__ did not call super().__del__(), so "
                            "release_handle was never called");
        }
        PyErr_Restore(type, value, traceback);
    }
    if (handle->slot == 0) {
        return;
    }
    if (!shd_has(handle, SHD_OWNS)) {
        leave_unreleased(handle);
    }
    else if (!kind->release) {
        shd_entry *entry = shd_table_entry(handle->slot);
        uint64_t meta = atomic_load(&entry->meta);
        if (shd_table_serial(meta) == shd_serial(handle)) {
            entry->value = 0; /* open for ever: its hook needs the object */
        }
    }
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
        perform = decide(handle, SHD_FLAG_FINALIZER);
    } while (!atomic_compare_exchange_weak(&handle->state, &state,
                                           state | SHD_CLOSED | SHD_DISPOSED));
    handle->base.bits |= SHD_FINALIZED;
    finish(handle, perform > 0, SHD_ENDING_SWEPT, SHD_FLAG_FINALIZER);
}
