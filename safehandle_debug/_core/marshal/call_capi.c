/* The functions that other extensions get: see safehandle_debug.h. */
#include "call.h"

#include "../include/safehandle_debug.h"
#include "lifetime/events.h"

static shd_handle *
as_handle(PyObject *object)
{
    shd_interp *state = shd_interp_get();
    if (state != NULL && PyObject_TypeCheck(object, state->safe)) {
        return (shd_handle *)object;
    }
    PyErr_Format(object == Py_None ? shd_interp_error(SHD_ERROR_NULL)
                                   : PyExc_TypeError,
                 "a SafeHandle is needed, not %.200s",
                 object == Py_None ? "None" : Py_TYPE(object)->tp_name);
    return NULL;
}

static int
is_safe_handle(PyObject *object)
{
    shd_interp *state = shd_interp_get();
    return state != NULL && PyObject_TypeCheck(object, state->safe);
}

static int
add_ref(PyObject *object, int64_t *value)
{
    shd_handle *handle = as_handle(object);
    if (handle == NULL || shd_life_add_ref(handle) < 0) {
        return -1;
    }
    if (value != NULL) {
        *value = handle->value;
    }
    return 0;
}

static int
release(PyObject *object)
{
    shd_handle *handle = as_handle(object);
    return handle == NULL ? -1 : shd_events_settle(shd_life_release(handle));
}

static int64_t
value_of(PyObject *object)
{
    return ((shd_handle *)object)->value;
}

static PyObject *
prepare(PyTypeObject *type, uint32_t *ticket)
{
    shd_interp *state = shd_interp_get();
    if (state == NULL || !PyType_IsSubtype(type, state->safe)) {
        PyErr_Format(PyExc_TypeError, "%.200s is not a SafeHandle type",
                     type->tp_name);
        return NULL;
    }
    return (PyObject *)shd_handle_begin(type, -1, ticket);
}

static PyObject *
complete(PyObject *handle, uint32_t ticket, int64_t value, PyObject *detail)
{
    return shd_handle_complete((shd_handle *)handle, ticket, value, detail);
}

static PyObject *
abandon(PyObject *handle, uint32_t ticket)
{
    return shd_handle_abandon((shd_handle *)handle, ticket);
}

int
shd_call_capi_add(PyObject *module)
{
    static const SafeHandleDebug_API api = {
        .version = SAFEHANDLE_DEBUG_API_VERSION,
        .size = sizeof(SafeHandleDebug_API),
        .check = is_safe_handle,
        .add_ref = add_ref,
        .release = release,
        .value = value_of,
        .prepare = prepare,
        .complete = complete,
        .abandon = abandon,
    };
    PyObject *capsule =
        PyCapsule_New((void *)&api, SAFEHANDLE_DEBUG_CAPSULE, NULL);
    if (capsule == NULL) {
        return -1;
    }
    int result = PyModule_AddObjectRef(module, "_C_API", capsule);
    Py_DECREF(capsule);
    return result;
}
