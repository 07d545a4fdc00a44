/* SafeInotifyHandle: inotify(7).
 *
 * It waits with shd_wait_poll() and then reads without blocking, so that
 * timeouts and signals are the same as for every other wait. */
#define _GNU_SOURCE
#include "lifetime/events.h"
#include "waiting.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

static PyObject *
inotify_create(PyObject *type, PyObject *Py_UNUSED(ignored))
{
    uint32_t slot;
    shd_handle *handle = shd_handle_begin((PyTypeObject *)type, -1, &slot);
    if (handle == NULL) {
        return NULL;
    }
    return shd_descriptor_conclude(
        handle, slot, inotify_init1(IN_CLOEXEC | IN_NONBLOCK), NULL);
}

static PyObject *
inotify_add(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"path", "mask", NULL};
    PyObject *path, *encoded;
    unsigned int mask;
    shd_fd_ref ref;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OI:add_watch", names,
                                     &path, &mask)
        || !PyUnicode_FSConverter(path, &encoded)) {
        return NULL;
    }
    int watch = -1;
    if (shd_fd_take(self, &ref) == 0) {
        int error;
        Py_BEGIN_ALLOW_THREADS
        watch = inotify_add_watch(ref.fd, PyBytes_AS_STRING(encoded), mask);
        error = errno;
        Py_END_ALLOW_THREADS
        if (watch < 0) {
            errno = error;
            PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
        }
        watch = shd_fd_drop(&ref, watch);
    }
    Py_DECREF(encoded);
    return watch < 0 ? NULL : PyLong_FromLong(watch);
}

static PyObject *
inotify_remove(PyObject *self, PyObject *number)
{
    shd_fd_ref ref;
    long watch = PyLong_AsLong(number);
    if (watch == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (watch < INT_MIN || watch > INT_MAX) {
        watch = -1; /* the kernel says that there is no such watch */
    }
    if (shd_fd_take(self, &ref) < 0) {
        return NULL;
    }
    int result = inotify_rm_watch(ref.fd, (int)watch);
    if (result < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
    }
    if (shd_fd_drop(&ref, result) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

#define EVENTS_SIZE 65536

/* Waits and reads whole events: bytes, 0 at the deadline, -1 with an
   exception. */
static ssize_t
read_some(int fd, char *buffer, shd_deadline deadline)
{
    for (;;) {
        int ready = shd_wait_readable(fd, deadline);
        if (ready <= 0) {
            return ready;
        }
        ssize_t size;
        Py_BEGIN_ALLOW_THREADS
        size = read(fd, buffer, EVENTS_SIZE);
        Py_END_ALLOW_THREADS
        if (size >= 0) {
            return size;
        }
        if (errno != EAGAIN && errno != EINTR) {
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
        if (shd_deadline_passed(deadline)) {
            return 0;
        }
    }
}

static PyObject *
event_list(const char *buffer, ssize_t size)
{
    PyObject *list = PyList_New(0);
    ssize_t at = 0;
    while (list != NULL && at < size) {
        struct inotify_event event = {.len = UINT32_MAX};
        size_t left = (size_t)(size - at);
        if (left >= sizeof(event)) {
            memcpy(&event, buffer + at, sizeof(event));
            left -= sizeof(event);
        }
        if (event.len > left) {
            errno = EINVAL; /* not from an inotify instance */
            PyErr_SetFromErrno(PyExc_OSError);
            Py_CLEAR(list);
            break;
        }
        const char *name = buffer + at + sizeof(event);
        at += (ssize_t)(sizeof(event) + event.len);
        PyObject *text = PyUnicode_DecodeFSDefaultAndSize(
            name, (Py_ssize_t)strnlen(name, event.len));
        PyObject *entry = text == NULL
                              ? NULL
                              : Py_BuildValue("iIIN", event.wd, event.mask,
                                              event.cookie, text);
        if (entry == NULL || PyList_Append(list, entry) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(entry);
    }
    return list;
}

static PyObject *
inotify_read(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", NULL};
    shd_deadline deadline = SHD_FOREVER;
    shd_fd_ref ref;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O&:read_events", names,
                                     shd_deadline_converter, &deadline)) {
        return NULL;
    }
    char *buffer = PyMem_Malloc(EVENTS_SIZE);
    if (buffer == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *list = NULL;
    if (shd_fd_take(self, &ref) == 0) {
        ssize_t size = read_some(ref.fd, buffer, deadline);
        if (shd_fd_drop(&ref, size < 0 ? -1 : 0) == 0) {
            list = event_list(buffer, size);
        }
    }
    PyMem_Free(buffer);
    return list;
}

PyDoc_STRVAR(inotify_create_doc,
"create($type, /)\n--\n\n"
"Makes an inotify instance: inotify_init1(2), close-on-exec, non-blocking.");
PyDoc_STRVAR(add_watch_doc,
"add_watch($self, /, path, mask)\n--\n\n"
"Watches a file or folder; returns the watch's number.");
PyDoc_STRVAR(remove_watch_doc,
"remove_watch($self, watch, /)\n--\n\n"
"Ends a watch; an event with the bit IGNORED follows.");
PyDoc_STRVAR(read_events_doc,
"read_events($self, /, timeout=None)\n--\n\n"
"Waits for events: a list of (watch, mask, cookie, name), empty when\n"
"`timeout` seconds passed first. A name is '' for the watched file itself.");

PyDoc_STRVAR(fileno_doc,
"fileno($self, /)\n--\n\n"
"The descriptor; raises HandleClosedError when closed.");

static PyMethodDef inotify_methods[] = {
    {"create", inotify_create, METH_NOARGS | METH_CLASS, inotify_create_doc},
    {"add_watch", (PyCFunction)(void (*)(void))inotify_add,
     METH_VARARGS | METH_KEYWORDS, add_watch_doc},
    {"remove_watch", inotify_remove, METH_O, remove_watch_doc},
    {"read_events", (PyCFunction)(void (*)(void))inotify_read,
     METH_VARARGS | METH_KEYWORDS, read_events_doc},
    {"fileno", shd_descriptor_fileno, METH_NOARGS, fileno_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(inotify_doc,
"SafeInotifyHandle(value=-1, owns_handle=True)\n--\n\n"
"An inotify instance. The constructor adopts a descriptor, which should be\n"
"non-blocking; create() makes one. The bits of masks are attributes: MODIFY,\n"
"CREATE, CLOSE_WRITE, ...");

static PyType_Slot inotify_slots[] = {
    {Py_tp_doc, (void *)inotify_doc},
    {Py_tp_init, shd_native_init},
    {Py_tp_dealloc, shd_handle_dealloc},
    {Py_tp_methods, inotify_methods},
    {0, NULL},
};

static PyType_Spec inotify_spec = {
    .name = "safehandle_debug.SafeInotifyHandle",
    .basicsize = sizeof(shd_handle),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = inotify_slots,
};

static const struct {
    const char *name;
    unsigned int bit;
} bits[] = {
    {"ACCESS", IN_ACCESS},
    {"MODIFY", IN_MODIFY},
    {"ATTRIB", IN_ATTRIB},
    {"CLOSE_WRITE", IN_CLOSE_WRITE},
    {"CLOSE_NOWRITE", IN_CLOSE_NOWRITE},
    {"OPEN", IN_OPEN},
    {"MOVED_FROM", IN_MOVED_FROM},
    {"MOVED_TO", IN_MOVED_TO},
    {"CREATE", IN_CREATE},
    {"DELETE", IN_DELETE},
    {"DELETE_SELF", IN_DELETE_SELF},
    {"MOVE_SELF", IN_MOVE_SELF},
    {"UNMOUNT", IN_UNMOUNT},
    {"Q_OVERFLOW", IN_Q_OVERFLOW},
    {"IGNORED", IN_IGNORED},
    {"ONLYDIR", IN_ONLYDIR},
    {"DONT_FOLLOW", IN_DONT_FOLLOW},
    {"EXCL_UNLINK", IN_EXCL_UNLINK},
    {"MASK_ADD", IN_MASK_ADD},
    {"ISDIR", IN_ISDIR},
    {"ONESHOT", IN_ONESHOT},
};

int
shd_inotify_add(PyObject *module, shd_interp *state)
{
    static const shd_kind kind = {
        .number = SHD_KIND_INOTIFY,
        .name = "inotify",
        .space = "fd",
        .release = shd_descriptor_close,
    };
    static const shd_native native = {&kind, SHD_RULE_FD};
    if (shd_descriptor_add(module, &inotify_spec, state, &native) < 0) {
        return -1;
    }
    PyObject *type = PyObject_GetAttrString(module, "SafeInotifyHandle");
    int result = type == NULL ? -1 : 0;
    for (size_t i = 0; result == 0 && i < Py_ARRAY_LENGTH(bits); i++) {
        PyObject *bit = PyLong_FromUnsignedLong(bits[i].bit);
        result = bit == NULL
                     ? -1
                     : PyDict_SetItemString(((PyTypeObject *)type)->tp_dict,
                                            bits[i].name, bit);
        Py_XDECREF(bit);
    }
    if (type != NULL) {
        PyType_Modified((PyTypeObject *)type);
    }
    Py_XDECREF(type);
    return result;
}
