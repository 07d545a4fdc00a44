/* SafePipeHandle: both ends of a pipe, made before the call that opens it. */
#define _GNU_SOURCE
#include "lifetime/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A pipe made from a socket handle has the socket's number and no descriptor
   of its own: it keeps the socket open. */
typedef struct {
    shd_handle *socket; /* strong, with a reference; NULL once taken */
} pipe_extra;

static int
pipe_release(int64_t value, void *extra)
{
    if (extra == NULL) {
        return shd_descriptor_close(value, NULL);
    }
    free(extra);
    return 0;
}

static shd_handle *
pipe_parent(void *extra)
{
    shd_handle *socket = ((pipe_extra *)extra)->socket;
    ((pipe_extra *)extra)->socket = NULL;
    return socket;
}

/* --- acquisition --------------------------------------------------------------- */

static PyObject *
pipe_pair(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"flags", NULL};
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
    PyObject *details[2] = {NULL, NULL};
    for (int i = 0; i < 2; i++) {
        details[i] = PyUnicode_FromString(i ? "write end" : "read end");
        if (details[i] == NULL) {
            goto error;
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
        Py_DECREF(details[i]);
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
        Py_XDECREF(details[i]);
    }
    Py_DECREF(pair);
    return NULL;
}

static PyObject *
pipe_fifo(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"path", "flags", NULL};
    PyObject *path, *encoded;
    int flags = O_RDONLY;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|i:fifo", names, &path,
                                     &flags)) {
        return NULL;
    }
    if (!PyUnicode_FSConverter(path, &encoded)) {
        return NULL;
    }
    PyObject *name = PyUnicode_DecodeFSDefaultAndSize(
        PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded));
    PyObject *result = NULL;
    uint32_t slot;
    shd_handle *handle = NULL;
    if (name != NULL
        && PySys_Audit("open", "OOi", path, Py_None, flags) == 0) {
        handle = shd_handle_begin((PyTypeObject *)type, -1, &slot);
    }
    if (handle != NULL) {
        int fd;
        do {
            Py_BEGIN_ALLOW_THREADS
            fd = open(PyBytes_AS_STRING(encoded), flags | O_CLOEXEC);
            Py_END_ALLOW_THREADS
        } while (fd < 0 && errno == EINTR && PyErr_CheckSignals() == 0);
        struct stat status;
        if (fd >= 0 && (fstat(fd, &status) < 0 || !S_ISFIFO(status.st_mode))) {
            close(fd);
            fd = -1;
            errno = EINVAL; /* a name, but not of a pipe */
        }
        if (fd >= 0) {
            result = shd_handle_complete(handle, slot, fd, name);
        }
        else {
            if (!PyErr_Occurred()) {
                PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, name);
            }
            shd_handle_abandon(handle, slot);
        }
    }
    Py_XDECREF(name);
    Py_DECREF(encoded);
    return result;
}

static PyObject *
pipe_from_socket(PyObject *type, PyObject *argument)
{
    if (argument == Py_None) {
        PyErr_SetString(shd_interp_error(SHD_ERROR_NULL),
                        "from_socket() needs a SafeSocketHandle, not None");
        return NULL;
    }
    const shd_kind *kind = shd_type_native_kind(Py_TYPE(argument));
    if (kind == NULL || kind->number != SHD_KIND_SOCKET) {
        PyErr_Format(PyExc_TypeError,
                     "from_socket() needs a SafeSocketHandle, not %.200s",
                     Py_TYPE(argument)->tp_name);
        return NULL;
    }
    shd_handle *socket = (shd_handle *)argument;
    PyObject *detail = PyUnicode_FromFormat(
        "socket #%llu", (unsigned long long)shd_serial(socket));
    pipe_extra *extra = calloc(1, sizeof(*extra));
    PyObject *result = NULL;
    uint32_t slot;
    shd_handle *handle = NULL;
    if (extra == NULL) {
        PyErr_NoMemory();
    }
    else if (detail != NULL) {
        handle = shd_handle_begin((PyTypeObject *)type, -1, &slot);
    }
    if (handle != NULL && shd_table_set_extra(slot, extra) < 0) {
        PyErr_NoMemory();
        shd_handle_abandon(handle, slot);
        handle = NULL;
    }
    if (handle != NULL) {
        if (shd_life_add_ref(socket) == 0) {
            extra->socket = (shd_handle *)Py_NewRef(socket);
            extra = NULL;
            handle->base.bits |= SHD_SHARES_NUMBER;
            result = shd_handle_complete(handle, slot, socket->value, detail);
        }
        else {
            shd_table_take_extra(slot);
            shd_handle_abandon(handle, slot);
        }
    }
    free(extra);
    Py_XDECREF(detail);
    return result;
}

PyDoc_STRVAR(fifo_doc,
"fifo($type, /, path, flags=os.O_RDONLY)\n--\n\n"
"Opens a named pipe; waits for the other end unless os.O_NONBLOCK is given.\n"
"\n"
"Raises OSError; EINVAL when the name is not a pipe's.");
PyDoc_STRVAR(from_socket_doc,
"from_socket($type, socket, /)\n--\n\n"
"A pipe handle on a SafeSocketHandle's descriptor, which it keeps open: the\n"
"socket closes after the pipe.\n\n"
"Raises HandleClosedError when the socket is closed.");
PyDoc_STRVAR(pair_doc,
"pair($type, /, flags=os.O_CLOEXEC)\n--\n\n"
"Opens a pipe: pipe2(2). Returns (reader, writer).");
PyDoc_STRVAR(fileno_doc,
"fileno($self, /)\n--\n\n"
"The descriptor; raises HandleClosedError when closed.");

static PyMethodDef pipe_methods[] = {
    {"pair", (PyCFunction)(void (*)(void))pipe_pair,
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, pair_doc},
    {"fifo", (PyCFunction)(void (*)(void))pipe_fifo,
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, fifo_doc},
    {"from_socket", pipe_from_socket, METH_O | METH_CLASS, from_socket_doc},
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
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = pipe_slots,
};

int
shd_pipe_add(PyObject *module, shd_interp *state)
{
    static const shd_kind kind = {
        .number = SHD_KIND_PIPE,
        .name = "pipe",
        .space = "fd",
        .release = pipe_release,
        .forget = free,
        .parent = pipe_parent,
    };
    static const shd_native native = {&kind, SHD_RULE_FD};
    return shd_descriptor_add(module, &pipe_spec, state, &native);
}
