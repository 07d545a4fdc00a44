/* What all descriptor types share: close(2), fileno() and the constructor. */
#include "lifetime/events.h"
#include "watch/watch.h"

#include <errno.h>
#include <limits.h>
#include <unistd.h>

int
shd_descriptor_close(int64_t value, void *Py_UNUSED(extra))
{
    /* Never retried: on Linux the number is free again even after EINTR, and
       may be somebody else's by the second call. */
    if (shd_watch_close((int)value) == 0 || errno == EINTR) {
        return 0;
    }
    return errno;
}

int
shd_dir_fd_converter(PyObject *number, void *dir_fd)
{
    if (number == Py_None) {
        return 1;
    }
    int value = PyObject_AsFileDescriptor(number);
    if (value == -1) {
        return 0;
    }
    *(int *)dir_fd = value;
    return 1;
}

PyObject *
shd_descriptor_fileno(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    shd_handle *handle = (shd_handle *)self;
    if (atomic_load(&handle->state) & SHD_CLOSED) {
        PyErr_Format(shd_interp_error(SHD_ERROR_CLOSED),
                     "%.200s is closed (it held %lld)", Py_TYPE(self)->tp_name,
                     (long long)handle->value);
        return NULL;
    }
    return PyLong_FromLongLong(handle->value);
}

static int
parse(PyObject *args, PyObject *kwargs, int64_t *value, int *owns)
{
    static char *names[] = {"value", "owns_handle", NULL};
    return PyArg_ParseTupleAndKeywords(args, kwargs, "|O&p", names,
                                       shd_value_converter, value, owns)
               ? 0
               : -1;
}

int
shd_native_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    shd_handle *handle = (shd_handle *)self;
    int64_t value = -1;
    int owns = 1;
    if (parse(args, kwargs, &value, &owns) < 0) {
        return -1;
    }
    return shd_handle_init_value(handle, -1, value, owns);
}

/* Exact native types take this way round tp_new and tp_init; Python
   subclasses do not inherit it. */
PyObject *
shd_native_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf,
                      PyObject *kwnames)
{
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    int64_t value = -1;
    int owns = 1;
    if (kwnames == NULL && nargs <= 2) {
        if (nargs > 0 && !shd_value_converter(args[0], &value)) {
            return NULL;
        }
        if (nargs > 1 && (owns = PyObject_IsTrue(args[1])) < 0) {
            return NULL;
        }
    }
    else {
        PyObject *tuple = PyTuple_New(nargs);
        PyObject *kwargs = PyDict_New();
        int failed = tuple == NULL || kwargs == NULL;
        for (Py_ssize_t i = 0; !failed && i < nargs; i++) {
            PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
        }
        Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
        for (Py_ssize_t i = 0; !failed && i < named; i++) {
            failed = PyDict_SetItem(kwargs, PyTuple_GET_ITEM(kwnames, i),
                                    args[nargs + i])
                     < 0;
        }
        failed = failed || parse(tuple, kwargs, &value, &owns) < 0;
        Py_XDECREF(tuple);
        Py_XDECREF(kwargs);
        if (failed) {
            return NULL;
        }
    }
    shd_handle *handle =
        (shd_handle *)shd_handle_new((PyTypeObject *)type, NULL, NULL);
    if (handle != NULL && shd_handle_init_value(handle, -1, value, owns) < 0) {
        Py_CLEAR(handle);
    }
    return (PyObject *)handle;
}

PyObject *
shd_descriptor_conclude(shd_handle *handle, uint32_t slot, int fd,
                        PyObject *detail)
{
    if (fd >= 0) {
        return shd_handle_complete(handle, slot, fd, detail);
    }
    PyErr_SetFromErrno(PyExc_OSError);
    return shd_handle_abandon(handle, slot);
}

int
shd_descriptor_add(PyObject *module, PyType_Spec *spec, shd_interp *state,
                   const shd_native *native)
{
    PyTypeObject *type = shd_type_make(module, spec, state->safe_zero);
    if (type == NULL) {
        return -1;
    }
    type->tp_vectorcall = shd_native_vectorcall;
    int result = shd_type_mark(type, native);
    Py_DECREF(type);
    return result;
}
