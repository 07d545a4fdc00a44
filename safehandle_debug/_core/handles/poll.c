/* SafePollHandle: epoll(7).
 *
 * It waits with shd_wait_poll() and then collects without blocking, so that
 * timeouts and signals are the same as for every other wait. */
#define _GNU_SOURCE
#include "lifetime/events.h"
#include "waiting.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static PyObject *
none_unless(int failed)
{
    if (failed < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
poll_create(PyObject *type, PyObject *Py_UNUSED(ignored))
{
    uint32_t slot;
    shd_handle *handle = shd_handle_begin((PyTypeObject *)type, -1, &slot);
    if (handle == NULL) {
        return NULL;
    }
    return shd_descriptor_conclude(handle, slot, epoll_create1(EPOLL_CLOEXEC),
                                   NULL);
}

static PyObject *
control(PyObject *self, int operation, PyObject *target, unsigned int events)
{
    shd_fd_ref ours, theirs;
    if (shd_fd_take(self, &ours) < 0) {
        return NULL;
    }
    if (shd_fd_take(target, &theirs) < 0) {
        return none_unless(shd_fd_drop(&ours, -1));
    }
    struct epoll_event event = {.events = events, .data.fd = theirs.fd};
    int result = epoll_ctl(ours.fd, operation, theirs.fd, &event);
    if (result < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
    }
    result = shd_fd_drop(&theirs, result);
    return none_unless(shd_fd_drop(&ours, result));
}

static PyObject *
poll_register(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"target", "events", NULL};
    PyObject *target;
    unsigned int events = EPOLLIN;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|I:register", names,
                                     &target, &events)) {
        return NULL;
    }
    return control(self, EPOLL_CTL_ADD, target, events);
}

static PyObject *
poll_modify(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"target", "events", NULL};
    PyObject *target;
    unsigned int events;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OI:modify", names, &target,
                                     &events)) {
        return NULL;
    }
    return control(self, EPOLL_CTL_MOD, target, events);
}

static PyObject *
poll_unregister(PyObject *self, PyObject *target)
{
    return control(self, EPOLL_CTL_DEL, target, 0);
}

/* Waits and fills `events`: their number, or -1 with an exception. */
static int
collect(int fd, struct epoll_event *events, int most, shd_deadline deadline)
{
    for (;;) {
        int ready = shd_wait_readable(fd, deadline);
        if (ready <= 0) {
            return ready;
        }
        int count = epoll_wait(fd, events, most, 0);
        if (count < 0 && errno != EINTR) {
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        if (count > 0) {
            return count;
        }
        /* Somebody else's wait was faster. */
        if (shd_deadline_passed(deadline)) {
            return 0;
        }
    }
}

static PyObject *
poll_poll(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", "max_events", NULL};
    shd_deadline deadline = SHD_FOREVER;
    int most = 256;
    shd_fd_ref ref;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O&i:poll", names,
                                     shd_deadline_converter, &deadline,
                                     &most)) {
        return NULL;
    }
    if (most < 1 || most > INT_MAX / (int)sizeof(struct epoll_event)) {
        PyErr_SetString(PyExc_ValueError, "max_events must be at least 1");
        return NULL;
    }
    struct epoll_event *events = PyMem_New(struct epoll_event, (size_t)most);
    if (events == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *list = NULL;
    if (shd_fd_take(self, &ref) == 0) {
        int count = collect(ref.fd, events, most, deadline);
        if (shd_fd_drop(&ref, count) >= 0) {
            list = PyList_New(count);
        }
        for (int i = 0; list != NULL && i < count; i++) {
            PyObject *pair = Py_BuildValue("iI", events[i].data.fd,
                                           (unsigned int)events[i].events);
            if (pair == NULL) {
                Py_CLEAR(list);
                break;
            }
            PyList_SET_ITEM(list, i, pair);
        }
    }
    PyMem_Free(events);
    return list;
}

PyDoc_STRVAR(poll_create_doc,
"create($type, /)\n--\n\n"
"Makes an epoll instance: epoll_create1(2), close-on-exec.");
PyDoc_STRVAR(register_doc,
"register($self, /, target, events=select.EPOLLIN)\n--\n\n"
"Watches a handle, a descriptor, or an object with fileno().\n\n"
"A handle is referenced during this call only: closing it later ends the\n"
"registration, as the kernel has it.");
PyDoc_STRVAR(modify_doc,
"modify($self, /, target, events)\n--\n\n"
"Changes the events that a registered descriptor is watched for.");
PyDoc_STRVAR(unregister_doc,
"unregister($self, target, /)\n--\n\n"
"Ends the watch.");
PyDoc_STRVAR(poll_poll_doc,
"poll($self, /, timeout=None, max_events=256)\n--\n\n"
"Waits for events: a list of (descriptor, events), empty when `timeout`\n"
"seconds passed first.");
PyDoc_STRVAR(fileno_doc,
"fileno($self, /)\n--\n\n"
"The descriptor; raises HandleClosedError when closed.");

static PyMethodDef poll_methods[] = {
    {"create", poll_create, METH_NOARGS | METH_CLASS, poll_create_doc},
    {"register", (PyCFunction)(void (*)(void))poll_register,
     METH_VARARGS | METH_KEYWORDS, register_doc},
    {"modify", (PyCFunction)(void (*)(void))poll_modify,
     METH_VARARGS | METH_KEYWORDS, modify_doc},
    {"unregister", poll_unregister, METH_O, unregister_doc},
    {"poll", (PyCFunction)(void (*)(void))poll_poll,
     METH_VARARGS | METH_KEYWORDS, poll_poll_doc},
    {"fileno", shd_descriptor_fileno, METH_NOARGS, fileno_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(poll_doc,
"SafePollHandle(value=-1, owns_handle=True)\n--\n\n"
"An epoll instance. The constructor adopts a descriptor; create() makes\n"
"one.");

static PyType_Slot poll_slots[] = {
    {Py_tp_doc, (void *)poll_doc},
    {Py_tp_init, shd_native_init},
    {Py_tp_dealloc, shd_handle_dealloc},
    {Py_tp_methods, poll_methods},
    {0, NULL},
};

static PyType_Spec poll_spec = {
    .name = "safehandle_debug.SafePollHandle",
    .basicsize = sizeof(shd_handle),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = poll_slots,
};

int
shd_poll_add(PyObject *module, shd_interp *state)
{
    static const shd_kind kind = {
        .number = SHD_KIND_POLL,
        .name = "poll",
        .space = "fd",
        .release = shd_descriptor_close,
    };
    static const shd_native native = {&kind, SHD_RULE_FD};
    return shd_descriptor_add(module, &poll_spec, state, &native);
}
