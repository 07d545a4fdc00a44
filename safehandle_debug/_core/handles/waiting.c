/* Waiting: references, deadlines and the poll(2) loop of all waiting types. */
#define _GNU_SOURCE
#include "waiting.h"

#include "lifetime/events.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <time.h>

#define NANOSECONDS INT64_C(1000000000)

/* --- descriptors with a reference ---------------------------------------- */

int
shd_fd_take(PyObject *object, shd_fd_ref *ref)
{
    shd_interp *state = shd_interp_get();
    ref->handle = NULL;
    if (state == NULL || !PyObject_TypeCheck(object, state->safe)) {
        if (object == Py_None) {
            PyErr_SetString(shd_interp_error(SHD_ERROR_NULL),
                            "a handle or descriptor is needed, not None");
            return -1;
        }
        ref->fd = PyObject_AsFileDescriptor(object);
        return ref->fd < 0 ? -1 : 0;
    }
    shd_handle *handle = (shd_handle *)object;
    if (!shd_type_info_of(Py_TYPE(object))->fd_space) {
        PyErr_Format(PyExc_TypeError,
                     "%.200s is no descriptor: it cannot be waited for or "
                     "passed as one",
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    if (shd_life_add_ref(handle) < 0) {
        return -1;
    }
    ref->handle = (shd_handle *)Py_NewRef(object);
    /* After the reference: nobody can close the number now. */
    if (handle->value < 0 || handle->value > INT_MAX) {
        errno = EBADF;
        PyErr_SetFromErrno(PyExc_OSError);
        return shd_fd_drop(ref, -1);
    }
    ref->fd = (int)handle->value;
    return 0;
}

int
shd_fd_drop(shd_fd_ref *ref, int result)
{
    shd_handle *handle = ref->handle;
    if (handle == NULL) {
        return result;
    }
    ref->handle = NULL;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    int failed = shd_events_settle(shd_life_release(handle)) < 0;
    if (failed && type != NULL) {
        PyErr_WriteUnraisable((PyObject *)handle);
    }
    if (type != NULL) {
        PyErr_Restore(type, value, traceback);
    }
    else if (failed) {
        result = -1;
    }
    Py_DECREF(handle);
    return result;
}

/* --- time ---------------------------------------------------------------- */

int
shd_seconds(double seconds, const char *what, struct timespec *out)
{
    if (!(seconds >= 0)) {
        PyErr_Format(PyExc_ValueError, "%s must be at least 0 seconds", what);
        return -1;
    }
    if (seconds > (double)INT_MAX) {
        PyErr_Format(PyExc_ValueError, "%s must be below 2**31 seconds", what);
        return -1;
    }
    double whole = floor(seconds);
    out->tv_sec = (time_t)whole;
    out->tv_nsec = (long)ceil((seconds - whole) * 1e9);
    if (out->tv_nsec >= NANOSECONDS) {
        out->tv_sec++;
        out->tv_nsec = 0;
    }
    return 0;
}

static int64_t
now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * NANOSECONDS + time.tv_nsec;
}

int
shd_deadline_converter(PyObject *seconds, void *deadline)
{
    shd_deadline *at = deadline;
    *at = SHD_FOREVER;
    if (seconds == Py_None) {
        return 1;
    }
    double number = PyFloat_AsDouble(seconds);
    if (number == -1 && PyErr_Occurred()) {
        return 0;
    }
    if (number > (double)INT_MAX) {
        return 1;
    }
    struct timespec length;
    if (shd_seconds(number, "timeout", &length) < 0) {
        return 0;
    }
    *at = now() + (int64_t)length.tv_sec * NANOSECONDS + length.tv_nsec;
    return 1;
}

int
shd_deadline_passed(shd_deadline deadline)
{
    return deadline != SHD_FOREVER && now() >= deadline;
}

/* --- poll ---------------------------------------------------------------- */

int
shd_wait_poll(struct pollfd *fds, nfds_t count, shd_deadline deadline)
{
    for (;;) {
        struct timespec left = {0, 0};
        if (deadline != SHD_FOREVER) {
            int64_t nanoseconds = deadline - now();
            if (nanoseconds > 0) {
                left.tv_sec = (time_t)(nanoseconds / NANOSECONDS);
                left.tv_nsec = (long)(nanoseconds % NANOSECONDS);
            }
        }
        int ready;
        Py_BEGIN_ALLOW_THREADS
        ready =
            ppoll(fds, count, deadline == SHD_FOREVER ? NULL : &left, NULL);
        Py_END_ALLOW_THREADS
        if (ready >= 0) {
            return ready;
        }
        if (errno != EINTR) {
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
    }
}

int
shd_wait_readable(int fd, shd_deadline deadline)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    int ready = shd_wait_poll(&one, 1, deadline);
    if (ready > 0 && (one.revents & POLLNVAL)) {
        errno = EBADF;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return ready;
}
