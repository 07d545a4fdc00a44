/* What the module has for native calls: its types, and a few functions. */
#include "call.h"

#include <dlfcn.h>

static PyObject *
get_last_errno(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(shd_call_last_errno());
}

static PyObject *
native_address(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *library;
    const char *name;
    if (!PyArg_ParseTuple(args, "Os:native_address", &library, &name)) {
        return NULL;
    }
    PyObject *path = NULL;
    if (PySys_Audit("safehandle_debug.native_address", "Os", library, name)
        < 0) {
        return NULL;
    }
    if (library != Py_None && !PyUnicode_FSConverter(library, &path)) {
        return NULL;
    }
    /* Never closed: functions of it are in use for as long as anybody has
       them. */
    void *loaded =
        dlopen(path == NULL ? NULL : PyBytes_AS_STRING(path), RTLD_NOW);
    Py_XDECREF(path);
    void *address = loaded == NULL ? NULL : dlsym(loaded, name);
    if (address == NULL) {
        const char *why = dlerror();
        PyErr_SetString(loaded == NULL ? PyExc_OSError : PyExc_AttributeError,
                        why == NULL ? "the symbol's address is NULL" : why);
        return NULL;
    }
    return PyLong_FromVoidPtr(address);
}

static PyObject *
native_code(PyObject *Py_UNUSED(module), PyObject *type)
{
    shd_interp *state = shd_interp_get();
    if (state == NULL || !PyType_Check(type)
        || !PyType_IsSubtype((PyTypeObject *)type, state->handle)) {
        PyErr_Format(PyExc_TypeError, "%R is not a handle type", type);
        return NULL;
    }
    return PyUnicode_FromFormat("%c", shd_call_code_of((PyTypeObject *)type));
}

static PyMethodDef functions[] = {
    {"last_errno", get_last_errno, METH_NOARGS,
     PyDoc_STR("last_errno($module, /)\n--\n\n"
               "errno of this thread's last native call.")},
    {"native_address", native_address, METH_VARARGS,
     PyDoc_STR("native_address($module, library, name, /)\n--\n\n"
               "Address of a symbol; library None: what is loaded already.\n\n"
               "Raises OSError without the library, AttributeError without\n"
               "the symbol.")},
    {"native_code", native_code, METH_O,
     PyDoc_STR("native_code($module, handle_type, /)\n--\n\n"
               "The handle's type in C: 'i' for int, 'q' for intptr_t.")},
    {NULL, NULL, 0, NULL},
};

int
shd_call_add(PyObject *module, shd_interp *state)
{
    if (shd_call_function_add(module) < 0
        || PyModule_AddFunctions(module, functions) < 0
        || shd_cells_add(module) < 0 || shd_call_ctypes_add(state) < 0) {
        return -1;
    }
    return shd_call_capi_add(module);
}
