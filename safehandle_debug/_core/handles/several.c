/* Waiting for one of several handles, or for every one at once.
 *
 * A wait that takes what it waited for does so in the same C call: no
 * interrupt falls between, and a wait for all gives back what it took as long
 * as it has not got everything. */
#define _GNU_SOURCE
#include "several.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif

/* --- taking and giving back ---------------------------------------------- */

int
shd_wait_take(int fd, uint64_t *count)
{
    ssize_t size;
    do {
        size = read(fd, count, sizeof(*count));
    } while (size < 0 && errno == EINTR);
    if (size == (ssize_t)sizeof(*count)) {
        return 1;
    }
    if (size >= 0) {
        errno = EINVAL;
        return -1;
    }
    return errno == EAGAIN ? 0 : -1;
}

static void
give_back(int fd, uint64_t count)
{
    ssize_t size;
    do {
        size = write(fd, &count, sizeof(count));
    } while (size < 0 && errno == EINTR);
    if (size < 0 && errno == EINVAL) {
        /* A timer is not written to.  A kernel without this request has lost
           the tick; the timer itself goes on. */
        (void)ioctl(fd, TFD_IOC_SET_TICKS, &count);
    }
}

/* --- waiting for several ------------------------------------------------- */

typedef struct {
    shd_fd_ref ref;
    int takes;
    uint64_t taken;
} member;

typedef struct {
    Py_ssize_t count;
    member *members;
    struct pollfd *fds;
} group;

/* Drops the references of the first `count`. */
static int
leave(group *all, int result)
{
    while (all->count > 0) {
        result = shd_fd_drop(&all->members[--all->count].ref, result);
    }
    PyMem_Free(all->members);
    PyMem_Free(all->fds);
    return result;
}

static int
bad_member(const group *all, nfds_t i)
{
    if (all->fds[i].revents & POLLNVAL) {
        errno = EBADF;
        return 1;
    }
    return 0;
}

/* The first signalled one, after taking it; -1 none, -2 with errno. */
static Py_ssize_t
take_first(group *all)
{
    for (Py_ssize_t i = 0; i < all->count; i++) {
        if (!all->fds[i].revents) {
            continue;
        }
        if (bad_member(all, (nfds_t)i)) {
            return -2;
        }
        member *one = &all->members[i];
        int taken = one->takes ? shd_wait_take(one->ref.fd, &one->taken) : 1;
        if (taken) {
            return taken > 0 ? i : -2;
        }
    }
    return -1;
}

static Py_ssize_t
wait_any(group *all, shd_deadline deadline)
{
    for (;;) {
        int ready = shd_wait_poll(all->fds, (nfds_t)all->count, deadline);
        if (ready <= 0) {
            return ready < 0 ? -2 : -1;
        }
        Py_ssize_t first;
        Py_BEGIN_ALLOW_THREADS
        first = take_first(all);
        Py_END_ALLOW_THREADS
        if (first == -2) {
            PyErr_SetFromErrno(PyExc_OSError);
        }
        if (first != -1) {
            return first;
        }
        /* Somebody was faster. */
    }
}

/* Takes all or none: 1, 0, or -1 with errno. */
static int
take_all(group *all)
{
    if (poll(all->fds, (nfds_t)all->count, 0) < all->count) {
        return 0;
    }
    for (Py_ssize_t i = 0; i < all->count; i++) {
        member *one = &all->members[i];
        int taken = !one->takes ? 1 : shd_wait_take(one->ref.fd, &one->taken);
        if (taken == 1) {
            continue;
        }
        int error = errno;
        while (--i >= 0) {
            one = &all->members[i];
            if (one->takes) {
                give_back(one->ref.fd, one->taken);
            }
        }
        errno = error;
        return taken;
    }
    return 1;
}

/* Blocks until each was signalled at some time since the call: 1, 0 at the
   deadline, -1 with an exception. */
static int
wait_each(group *all, shd_deadline deadline)
{
    Py_ssize_t missing = all->count;
    int result = 1;
    while (missing && result > 0) {
        result = shd_wait_poll(all->fds, (nfds_t)all->count, deadline);
        for (Py_ssize_t i = 0; result > 0 && i < all->count; i++) {
            if (!all->fds[i].revents) {
                continue;
            }
            if (bad_member(all, (nfds_t)i)) {
                PyErr_SetFromErrno(PyExc_OSError);
                result = -1;
                break;
            }
            all->fds[i].fd = -1; /* poll() passes over it */
            all->fds[i].revents = 0;
            missing--;
        }
    }
    for (Py_ssize_t i = 0; i < all->count; i++) {
        all->fds[i].fd = all->members[i].ref.fd;
    }
    return result;
}

#define LONGEST_PAUSE_MS 16

static Py_ssize_t
wait_all(group *all, shd_deadline deadline)
{
    unsigned int seed = (unsigned int)(uintptr_t)all;
    int pause = 0;
    for (;;) {
        int result = wait_each(all, deadline);
        if (result <= 0) {
            return result < 0 ? -2 : -1;
        }
        int taken;
        Py_BEGIN_ALLOW_THREADS
        taken = take_all(all);
        if (!taken && pause) {
            /* Two who take from each other must fall out of step. */
            (void)poll(NULL, 0, rand_r(&seed) % (pause + 1));
        }
        Py_END_ALLOW_THREADS
        if (taken < 0) {
            PyErr_SetFromErrno(PyExc_OSError);
            return -2;
        }
        if (taken) {
            return 0;
        }
        pause = pause == 0                  ? 1
                : pause >= LONGEST_PAUSE_MS ? LONGEST_PAUSE_MS
                                            : 2 * pause;
        if (PyErr_CheckSignals() < 0) {
            return -2;
        }
        if (shd_deadline_passed(deadline)) {
            return -1;
        }
    }
}

static int
join(group *all, PyObject *handle, int takes, int every)
{
    member *one = &all->members[all->count];
    if (takes < 0 || shd_fd_take(handle, &one->ref) < 0) {
        return -1;
    }
    one->takes = takes;
    all->fds[all->count].fd = one->ref.fd;
    all->fds[all->count].events = POLLIN;
    all->fds[all->count].revents = 0;
    all->count++;
    for (Py_ssize_t i = 0; every && i < all->count - 1; i++) {
        if (all->members[i].ref.fd == one->ref.fd) {
            PyErr_Format(PyExc_ValueError,
                         "descriptor %d stands twice in what has to be "
                         "signalled at once",
                         one->ref.fd);
            return -1;
        }
    }
    return 0;
}

int
shd_wait_one(PyObject *handle, int takes, shd_deadline deadline)
{
    member one = {.takes = takes};
    if (shd_fd_take(handle, &one.ref) < 0) {
        return -1;
    }
    struct pollfd fd = {.fd = one.ref.fd, .events = POLLIN};
    group all = {1, &one, &fd};
    Py_ssize_t result = wait_any(&all, deadline);
    if (shd_fd_drop(&one.ref, result == -2 ? -1 : 0) < 0) {
        return -1;
    }
    return result == 0;
}

static PyObject *
wait_on(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *handles, *takes;
    shd_deadline deadline;
    int every;
    if (!PyArg_ParseTuple(args, "O!O!O&p:wait_on", &PyTuple_Type, &handles,
                          &PyTuple_Type, &takes, shd_deadline_converter,
                          &deadline, &every)) {
        return NULL;
    }
    Py_ssize_t count = PyTuple_GET_SIZE(handles);
    if (count == 0 || PyTuple_GET_SIZE(takes) != count) {
        PyErr_SetString(PyExc_ValueError,
                        "give at least one handle to wait for");
        return NULL;
    }
    group all = {
        .members = PyMem_New(member, count),
        .fds = PyMem_New(struct pollfd, count),
    };
    Py_ssize_t result = -2;
    if (all.members == NULL || all.fds == NULL) {
        PyErr_NoMemory();
    }
    else {
        Py_ssize_t i = 0;
        while (i < count
               && join(&all, PyTuple_GET_ITEM(handles, i),
                       PyObject_IsTrue(PyTuple_GET_ITEM(takes, i)), every)
                      == 0) {
            i++;
        }
        if (i == count) {
            result =
                every ? wait_all(&all, deadline) : wait_any(&all, deadline);
        }
    }
    if (leave(&all, result == -2 ? -1 : 0) < 0) {
        return NULL;
    }
    return PyLong_FromSsize_t(result);
}

static PyMethodDef wait_functions[] = {
    {"wait_on", wait_on, METH_VARARGS,
     PyDoc_STR("wait_on($module, handles, takes, timeout, every, /)\n--\n\n"
               "Waits for one of several handles, or for every one at once.")},
    {NULL, NULL, 0, NULL},
};

int
shd_several_add(PyObject *module)
{
    return PyModule_AddFunctions(module, wait_functions);
}
