/* Handle types in ctypes' own argtypes.
 *
 * from_param() gives ctypes an object that holds a reference of the handle.
 * ctypes keeps such an object until the call is over, and drops it where a
 * later argument is refused, so the reference lasts exactly as long as it has
 * to.  (An object with `_as_parameter_` would not do: ctypes drops it before
 * the call.)  ctypes itself is imported when this is first used. */
#include "call.h"

#include <string.h>

char
shd_call_code_of(PyTypeObject *type)
{
    static const char *const int_spaces[] = {"fd", "keyring"};
    for (int i = 0; i < 2; i++) {
        PyObject *key = PyUnicode_InternFromString(i == 0 ? "native_type"
                                                          : "handle_space");
        PyObject *found = key == NULL ? NULL : shd_type_lookup(type, key);
        Py_XDECREF(key);
        const char *text = found == NULL || !PyUnicode_Check(found)
                               ? NULL
                               : PyUnicode_AsUTF8(found);
        if (text == NULL) {
            PyErr_Clear();
            continue;
        }
        if (i == 0) {
            return strcmp(text, "int") == 0 ? 'i' : 'q';
        }
        for (size_t j = 0; j < Py_ARRAY_LENGTH(int_spaces); j++) {
            if (strcmp(text, int_spaces[j]) == 0) {
                return 'i';
            }
        }
    }
    return 'q';
}

static PyObject *
make_argument(shd_interp *state, shd_handle *handle)
{
    PyObject *held = NULL;
    if (!shd_has(handle, SHD_IS_CRITICAL)) {
        held = shd_hold_new(state, handle);
    }
    else if (shd_call_check_critical(handle) == 0) {
        held = Py_NewRef(handle);
    }
    if (held == NULL) {
        return NULL;
    }
    char code = shd_call_code_of(Py_TYPE(handle));
    PyObject *module =
        PyImport_ImportModule("safehandle_debug.marshal.argument");
    PyObject *result = NULL;
    if (module != NULL && shd_call_check_width(handle, code) == 0) {
        /* Read after the reference was taken. */
        result =
            PyObject_CallMethod(module, code == 'i' ? "make_int" : "make_word",
                                "OL", held, (long long)handle->value);
    }
    Py_XDECREF(module);
    Py_DECREF(held);
    return result;
}

static PyObject *
from_param(PyObject *type, PyObject *object)
{
    shd_interp *state = shd_interp_get();
    if (state != NULL && PyObject_TypeCheck(object, (PyTypeObject *)type)) {
        return make_argument(state, (shd_handle *)object);
    }
    const char *name = strrchr(((PyTypeObject *)type)->tp_name, '.');
    PyErr_Format(object == Py_None ? shd_interp_error(SHD_ERROR_NULL)
                                   : PyExc_TypeError,
                 "a %.200s is needed, not %.200s",
                 name == NULL ? ((PyTypeObject *)type)->tp_name : name + 1,
                 object == Py_None ? "None" : Py_TYPE(object)->tp_name);
    return NULL;
}

PyDoc_STRVAR(
    from_param_doc,
    "from_param($type, handle, /)\n--\n\n"
    "What ctypes asks of an entry of argtypes: the handle's value, with a\n"
    "reference that lasts until the call is over.\n\n"
    "Raises NullHandleError for None, HandleClosedError for a closed handle,\n"
    "TypeError for anything else that is no handle of this type.");

static PyMethodDef from_param_def = {"from_param", from_param,
                                     METH_O | METH_CLASS, from_param_doc};

int
shd_call_ctypes_add(shd_interp *state)
{
    PyObject *method = PyDescr_NewClassMethod(state->handle, &from_param_def);
    if (method == NULL) {
        return -1;
    }
    int result =
        PyDict_SetItemString(state->handle->tp_dict, "from_param", method);
    Py_DECREF(method);
    PyType_Modified(state->handle);
    return result;
}
