/* How handles end that nobody closed: their finalizer, and the last resort
 * when their memory goes. */
#include "events.h"
#include "hook.h"

int
shd_life_finalizer_ending(const shd_handle *handle)
{
    return shd_has(handle, SHD_COLLECTED) || shd_critical_in_pass()
               ? SHD_ENDING_COLLECTED
               : SHD_ENDING_DROPPED;
}

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
        shd_hook_report(handle, method);
    }
    if (is_open(handle)) {
        /* An override that forgot its base: the resource must not pay. */
        int ending = shd_life_finalizer_ending(handle);
        result = shd_has(handle, SHD_IS_CRITICAL)
                     ? shd_life_close_critical(handle, ending, 1)
                     : shd_life_dispose(handle, ending, 1);
        if (result < 0) {
            shd_hook_report(handle, "release_handle");
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
        shd_life_forget(handle);
    }
    else if (!kind->release) {
        shd_entry *entry = shd_table_entry(handle->slot);
        uint64_t meta = atomic_load(&entry->meta);
        if (shd_table_serial(meta) == shd_serial(handle)) {
            entry->value = 0; /* open for ever: its hook needs the object */
        }
    }
}
