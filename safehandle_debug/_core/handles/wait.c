/* SafeWaitHandle: eventfd(2) and timerfd_create(2). */
#define _GNU_SOURCE
#include "lifetime/events.h"
#include "several.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

static PyObject *
wait_event(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"initial", "semaphore", NULL};
    static PyObject *details[2];
    unsigned int initial = 0;
    PyObject *number = NULL;
    int semaphore = 0;
    uint32_t slot;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|Op:event", names, &number,
                                     &semaphore)) {
        return NULL;
    }
    if (number != NULL) {
        long long wanted = PyLong_AsLongLong(number);
        if (wanted == -1 && PyErr_Occurred()) {
            return NULL;
        }
        if (wanted < 0 || wanted > UINT_MAX) {
            PyErr_SetString(PyExc_ValueError, "initial must be 0 to 2**32-1");
            return NULL;
        }
        initial = (unsigned int)wanted;
    }
    if (details[semaphore] == NULL) {
        details[semaphore] =
            PyUnicode_InternFromString(semaphore ? "semaphore" : "event");
    }
    shd_handle *handle = shd_handle_begin((PyTypeObject *)type, -1, &slot);
    if (handle == NULL) {
        return NULL;
    }
    int fd = eventfd(initial, EFD_CLOEXEC | EFD_NONBLOCK
                                  | (semaphore ? EFD_SEMAPHORE : 0));
    return shd_descriptor_conclude(handle, slot, fd, details[semaphore]);
}

static int
parse_time(double seconds, double interval, struct itimerspec *time)
{
    if (shd_seconds(seconds, "seconds", &time->it_value) < 0
        || shd_seconds(interval, "interval", &time->it_interval) < 0) {
        return -1;
    }
    if (time->it_value.tv_sec == 0 && time->it_value.tv_nsec == 0) {
        time->it_value.tv_nsec = 1; /* 0 would disarm */
    }
    return 0;
}

static PyObject *
wait_timer(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"seconds", "interval", NULL};
    static PyObject *detail;
    double seconds, interval = 0;
    struct itimerspec time;
    uint32_t slot;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "d|d:timer", names,
                                     &seconds, &interval)
        || parse_time(seconds, interval, &time) < 0) {
        return NULL;
    }
    if (detail == NULL) {
        detail = PyUnicode_InternFromString("timer");
    }
    shd_handle *handle = shd_handle_begin((PyTypeObject *)type, -1, &slot);
    if (handle == NULL) {
        return NULL;
    }
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd >= 0 && timerfd_settime(fd, 0, &time, NULL) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        fd = -1;
    }
    return shd_descriptor_conclude(handle, slot, fd, detail);
}

static PyObject *
wait_duplicate(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    uint32_t slot;
    shd_fd_ref ref;
    shd_handle *handle = shd_handle_begin(Py_TYPE(self), -1, &slot);
    if (handle == NULL) {
        return NULL;
    }
    if (shd_fd_take(self, &ref) < 0) {
        return shd_handle_abandon(handle, slot);
    }
    int fd = fcntl(ref.fd, F_DUPFD_CLOEXEC, 0);
    PyObject *twin = shd_descriptor_conclude(handle, slot, fd, NULL);
    if (shd_fd_drop(&ref, twin == NULL ? -1 : 0) < 0) {
        Py_CLEAR(twin);
    }
    return twin;
}

static PyObject *
wait_wait(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", "take", NULL};
    shd_deadline deadline = SHD_FOREVER;
    int takes = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O&p:wait", names,
                                     shd_deadline_converter, &deadline,
                                     &takes)) {
        return NULL;
    }
    int result = shd_wait_one(self, takes, deadline);
    return result < 0 ? NULL : PyBool_FromLong(result);
}

static PyObject *
wait_take(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    shd_fd_ref ref;
    uint64_t count = 0;
    if (shd_fd_take(self, &ref) < 0) {
        return NULL;
    }
    int taken;
    Py_BEGIN_ALLOW_THREADS
    taken = shd_wait_take(ref.fd, &count);
    Py_END_ALLOW_THREADS
    if (taken < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
    }
    if (shd_fd_drop(&ref, taken) < 0) {
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(taken ? count : 0);
}

static PyObject *
wait_set(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"count", NULL};
    PyObject *number = NULL;
    uint64_t count = 1;
    shd_fd_ref ref;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:set", names, &number)) {
        return NULL;
    }
    if (number != NULL) {
        long long wanted = PyLong_AsLongLong(number);
        if (wanted == -1 && PyErr_Occurred()) {
            return NULL;
        }
        if (wanted < 1) {
            PyErr_SetString(PyExc_ValueError, "count must be at least 1");
            return NULL;
        }
        count = (uint64_t)wanted;
    }
    if (shd_fd_take(self, &ref) < 0) {
        return NULL;
    }
    ssize_t size;
    do {
        Py_BEGIN_ALLOW_THREADS
        size = write(ref.fd, &count, sizeof(count));
        Py_END_ALLOW_THREADS
    } while (size < 0 && errno == EINTR && PyErr_CheckSignals() == 0);
    if (size < 0 && !PyErr_Occurred()) {
        if (errno == EAGAIN) {
            PyErr_SetString(PyExc_OverflowError,
                            "the count would pass 2**64-2: nobody takes");
        }
        else {
            PyErr_SetFromErrno(PyExc_OSError);
        }
    }
    if (shd_fd_drop(&ref, size < 0 ? -1 : 0) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
wait_arm(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"seconds", "interval", NULL};
    PyObject *seconds;
    double interval = 0;
    struct itimerspec time = {{0, 0}, {0, 0}};
    shd_fd_ref ref;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|d:arm", names, &seconds,
                                     &interval)) {
        return NULL;
    }
    if (seconds != Py_None) {
        double number = PyFloat_AsDouble(seconds);
        if ((number == -1 && PyErr_Occurred())
            || parse_time(number, interval, &time) < 0) {
            return NULL;
        }
    }
    if (shd_fd_take(self, &ref) < 0) {
        return NULL;
    }
    int result = timerfd_settime(ref.fd, 0, &time, NULL);
    if (result < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
    }
    if (shd_fd_drop(&ref, result) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(event_doc,
"event($type, /, initial=0, semaphore=False)\n--\n\n"
"Makes an event counter: eventfd(2), close-on-exec, non-blocking.\n\n"
"It is signalled while its count is above 0. A take brings the count to 0;\n"
"with `semaphore` it takes 1.");
PyDoc_STRVAR(timer_doc,
"timer($type, /, seconds, interval=0.0)\n--\n\n"
"Makes a running timer: timerfd_create(2) on the monotonic clock.\n\n"
"It is signalled after `seconds`, then every `interval` seconds unless that\n"
"is 0, until the ticks are taken.");
PyDoc_STRVAR(duplicate_doc,
"duplicate($self, /)\n--\n\n"
"A new handle on the same event or timer: F_DUPFD_CLOEXEC.");
PyDoc_STRVAR(wait_method_doc,
"wait($self, /, timeout=None, take=False)\n--\n\n"
"Waits until it is signalled; False when `timeout` seconds passed first.\n\n"
"With `take`, the signal is taken in the same step, as take() does. The wait\n"
"holds a reference: a close() meanwhile takes effect when it ends.");
PyDoc_STRVAR(take_doc,
"take($self, /)\n--\n\n"
"Takes the signal without waiting: the count or number of ticks taken, 0\n"
"when there is none.");
PyDoc_STRVAR(set_doc,
"set($self, /, count=1)\n--\n\n"
"Adds to the count of an event: it is signalled. OSError for a timer.");
PyDoc_STRVAR(arm_doc,
"arm($self, /, seconds, interval=0.0)\n--\n\n"
"Starts a timer anew, without the ticks so far; None stops it. OSError for\n"
"an event.");
PyDoc_STRVAR(fileno_doc,
"fileno($self, /)\n--\n\n"
"The descriptor; raises HandleClosedError when closed.");

static PyMethodDef wait_methods[] = {
    {"event", (PyCFunction)(void (*)(void))wait_event,
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, event_doc},
    {"timer", (PyCFunction)(void (*)(void))wait_timer,
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, timer_doc},
    {"duplicate", wait_duplicate, METH_NOARGS, duplicate_doc},
    {"wait", (PyCFunction)(void (*)(void))wait_wait,
     METH_VARARGS | METH_KEYWORDS, wait_method_doc},
    {"take", wait_take, METH_NOARGS, take_doc},
    {"set", (PyCFunction)(void (*)(void))wait_set,
     METH_VARARGS | METH_KEYWORDS, set_doc},
    {"arm", (PyCFunction)(void (*)(void))wait_arm,
     METH_VARARGS | METH_KEYWORDS, arm_doc},
    {"fileno", shd_descriptor_fileno, METH_NOARGS, fileno_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(wait_doc,
"SafeWaitHandle(value=-1, owns_handle=True)\n--\n\n"
"Something to wait for. The constructor adopts a descriptor, which should be\n"
"non-blocking; event() and timer() acquire one.");

static PyType_Slot wait_slots[] = {
    {Py_tp_doc, (void *)wait_doc},
    {Py_tp_init, shd_native_init},
    {Py_tp_dealloc, shd_handle_dealloc},
    {Py_tp_methods, wait_methods},
    {0, NULL},
};

static PyType_Spec wait_spec = {
    .name = "safehandle_debug.SafeWaitHandle",
    .basicsize = sizeof(shd_handle),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = wait_slots,
};

int
shd_wait_add(PyObject *module, shd_interp *state)
{
    static const shd_kind kind = {
        .number = SHD_KIND_WAIT,
        .name = "wait",
        .space = "fd",
        .release = shd_descriptor_close,
    };
    static const shd_native native = {&kind, SHD_RULE_FD};
    if (shd_several_add(module) < 0) {
        return -1;
    }
    return shd_descriptor_add(module, &wait_spec, state, &native);
}
