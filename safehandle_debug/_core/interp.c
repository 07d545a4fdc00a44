/* The list of interpreters. */
#include "interp.h"

static shd_interp *first;
shd_interp *shd_interp_latest;

shd_interp *
shd_interp_find(PyInterpreterState *interp)
{
    for (shd_interp *state = first; state != NULL; state = state->next) {
        if (state->interp == interp) {
            shd_interp_latest = state;
            return state;
        }
    }
    return NULL;
}

static int
load_modules(shd_interp *state)
{
    static const char *const names[SHD_ERRORS] = {
        [SHD_ERROR_CLOSED] = "HandleClosedError",
        [SHD_ERROR_NULL] = "NullHandleError",
        [SHD_ERROR_NOT_SUPPORTED] = "HandleNotSupportedError",
        [SHD_ERROR_OVERFLOW] = "HandleOverflowError",
        [SHD_ERROR_STATE] = "HandleStateError",
        [SHD_ERROR_RECORDING] = "RecordingError",
    };
    PyObject *gc = PyImport_ImportModule("gc");
    state->gc_callbacks =
        gc == NULL ? NULL : PyObject_GetAttrString(gc, "callbacks");
    Py_XDECREF(gc);
    PyObject *module = state->gc_callbacks == NULL
                           ? NULL
                           : PyImport_ImportModule("safehandle_debug.errors");
    if (module == NULL) {
        return -1;
    }
    for (int i = 0; i < SHD_ERRORS; i++) {
        state->errors[i] = PyObject_GetAttrString(module, names[i]);
        if (state->errors[i] == NULL) {
            Py_DECREF(module);
            return -1;
        }
    }
    Py_DECREF(module);
    return 0;
}

shd_interp *
shd_interp_make(void)
{
    shd_interp *state = shd_interp_get();
    if (state != NULL) {
        return state;
    }
    state = PyMem_RawCalloc(1, sizeof(*state));
    if (state == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    state->interp = PyInterpreterState_Get();
    state->id = PyInterpreterState_GetID(state->interp);
    if (load_modules(state) < 0) {
        for (int i = 0; i < SHD_ERRORS; i++) {
            Py_XDECREF(state->errors[i]);
        }
        Py_XDECREF(state->gc_callbacks);
        PyMem_RawFree(state);
        return NULL;
    }
    state->modules = Py_XNewRef(PyImport_GetModuleDict());
    state->next = first;
    first = state;
    return state;
}

PyObject *
shd_interp_loaded_module(const char *name)
{
    shd_interp *state = shd_interp_get();
    if (state == NULL || state->modules == NULL
        || !PyDict_CheckExact(state->modules)) {
        return NULL;
    }
    PyObject *module = PyDict_GetItemString(state->modules, name);
    return module != NULL && PyModule_Check(module) ? module : NULL;
}

PyObject *
shd_interp_error(enum shd_error error)
{
    shd_interp *state = shd_interp_get();
    return state == NULL ? PyExc_RuntimeError : state->errors[error];
}

void
shd_interp_end(shd_interp *state)
{
    shd_interp **at = &first;
    while (*at != state) {
        at = &(*at)->next;
    }
    *at = state->next;
    if (shd_interp_latest == state) {
        shd_interp_latest = NULL;
    }
    Py_CLEAR(state->modules);
    Py_CLEAR(state->gc_callbacks);
    for (int i = 0; i < SHD_ERRORS; i++) {
        Py_CLEAR(state->errors[i]);
    }
    Py_CLEAR(state->provenance_reader);
    Py_CLEAR(state->critical_finalizer);
    Py_CLEAR(state->handle);
    Py_CLEAR(state->safe);
    Py_CLEAR(state->safe_zero);
    Py_CLEAR(state->hold);
    PyMem_RawFree(state->queue);
    PyMem_RawFree(state);
}
