/* What Python code of a subclass decides and does: the hook, `is_invalid`, and
 * where their errors go.
 *
 * A hook runs at any moment, in the middle of other code's errors: it changes
 * neither the current exception nor ctypes' errno. */
#include "hook.h"

#include "events.h"
#include "recording/thread.h"

#include <limits.h>

void
shd_hook_forget_extra(shd_handle *handle, void *extra)
{
    const shd_kind *kind =
        extra == NULL ? NULL : shd_type_native_kind(Py_TYPE(handle));
    if (kind != NULL && kind->forget != NULL) {
        kind->forget(extra);
    }
}

/* --- errors --------------------------------------------------------------- */

void
shd_hook_report(shd_handle *handle, const char *method)
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

/* --- the hook ------------------------------------------------------------- */

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

int
shd_hook_call(shd_handle *handle, int flags, void *extra)
{
    if (shd_is_finalizing()
        && PyInterpreterState_Get() != PyInterpreterState_Main()) {
        /* A subinterpreter that nobody destroyed ends inside the main one:
           there, whoever gives up the GIL for a moment never gets it back,
           and CPython ends the thread.  No hook is worth that. */
        shd_events_emit(handle, SHD_EVENT_RELEASE_FAILED, 0, 0, flags, 0,
                        "its interpreter was never destroyed: the process "
                        "ended first");
        shd_hook_forget_extra(handle, extra);
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
        shd_hook_forget_extra(handle, thread->releasing_extra);
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
        shd_hook_report(handle, "release_handle");
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

/* --- is it worth a release? ------------------------------------------------ */

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

int
shd_hook_decide(shd_handle *handle, int flags)
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
        shd_hook_report(handle, "is_invalid");
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
