/* SafePipeHandle: both ends of a pipe, made before the call that opens it. */
#define _GNU_SOURCE
#include "events.h"

#include <fcntl.h>
#include <unistd.h>

static PyObject *
pipe_pair(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"flags", NULL};
    static PyObject *details[2];
    int flags = O_CLOEXEC;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|i:pair", names, &flags)) {
        return NULL;
    }
    PyObject *pair = PyTuple_New(2);
    if (pair == NULL) {
        return NULL;
    }
    uint32_t slots[2] = {0, 0};
    shd_handle *ends[2];
    for (int i = 0; i < 2; i++) {
        static const char *const words[] = {"read end", "write end"};
        if (details[i] == NULL) {
            details[i] = PyUnicode_InternFromString(words[i]);
        }
        ends[i] = shd_handle_blank((PyTypeObject *)type, -1);
        if (ends[i] == NULL) {
            goto error;
        }
        PyTuple_SET_ITEM(pair, i, (PyObject *)ends[i]);
        slots[i] = shd_table_take();
        if (slots[i] == 0) {
            PyErr_NoMemory();
            goto error;
        }
    }
    int numbers[2];
    if (pipe2(numbers, flags) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        goto error;
    }
    for (int i = 0; i < 2; i++) {
        shd_life_acquire(ends[i], numbers[i], slots[i], details[i]);
    }
    if (shd_events_settle(0) < 0) {
        Py_CLEAR(pair);
    }
    return pair;

error:
    for (int i = 0; i < 2; i++) {
        if (slots[i]) {
            shd_table_give(slots[i]);
        }
    }
    Py_DECREF(pair);
    return NULL;
}

PyDoc_STRVAR(pair_doc,
"pair($type, /, flags=os.O_CLOEXEC)\n--\n\n"
"Opens a pipe: pipe2(2). Returns (reader, writer).");
PyDoc_STRVAR(fileno_doc,
"fileno($self, /)\n--\n\n"
"The descriptor; raises HandleClosedError when closed.");

static PyMethodDef pipe_methods[] = {
    {"pair", (PyCFunction)(void (*)(void))pipe_pair,
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, pair_doc},
    {"fileno", shd_descriptor_fileno, METH_NOARGS, fileno_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(pipe_doc,
"SafePipeHandle(value=-1, owns_handle=True)\n--\n\n"
"One end of a pipe. The constructor adopts a descriptor; pair() opens both\n"
"ends. 0 is valid; below 0 and above INT_MAX is not.");

static PyType_Slot pipe_slots[] = {
    {Py_tp_doc, (void *)pipe_doc},
    {Py_tp_init, shd_native_init},
    {Py_tp_dealloc, shd_handle_dealloc},
    {Py_tp_methods, pipe_methods},
    {0, NULL},
};

static PyType_Spec pipe_spec = {
    .name = "safehandle_debug.SafePipeHandle",
    .basicsize = sizeof(shd_handle),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = pipe_slots,
};

int
shd_pipe_add(PyObject *module, shd_interp *state)
{
    static const shd_kind kind
        = {SHD_KIND_PIPE, "pipe", "fd", shd_descriptor_close, NULL};
    static const shd_native native = {&kind, SHD_RULE_FD};
    return shd_descriptor_add(module, &pipe_spec, state, &native);
}
