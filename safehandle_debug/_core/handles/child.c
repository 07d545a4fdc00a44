/* SafeProcessHandle: a process by its pidfd.
 *
 * A pidfd means one process for ever: when the number of a process that ended
 * is given to another one, waiting and signalling through the descriptor still
 * mean the first.
 *
 * A child is reaped once, by whoever sees its end first: wait(), poll(), or
 * the release of its handle.  Only a child that the handle answers for (it was
 * spawned here, or opened with reap=True) is reaped; of other children the
 * status is read and left for whoever waits for them. */
#define _GNU_SOURCE
#include "lifetime/events.h"
#include "order.h"
#include "waiting.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

typedef struct {
    shd_handle base;
    int pid;    /* 0: not known yet */
    int status; /* once it ended: exit code, or minus the signal */
    char reaps; /* the handle answers for the child */
    char ended;
} process;

/* As a table entry's extra: release reaps. */
static char reaps_mark;

/* --- release ------------------------------------------------------------- */

static int
release(int64_t value, void *extra)
{
    if (extra == &reaps_mark) {
        /* Never blocks: a child that still runs goes on, and stays a zombie
           after its end as any child that nobody waits for. In a forked
           process, and after wait(), there is nothing to reap. */
        siginfo_t info;
        while (waitid((idtype_t)P_PIDFD, (id_t)value, &info, WEXITED | WNOHANG)
                   < 0
               && errno == EINTR) {
        }
    }
    return shd_descriptor_close(value, NULL);
}

/* --- the process's end --------------------------------------------------- */

/* SIGCHLD may be ignored since before this program began: whoever ran it set
   that, and exec leaves it so. */
static int
statuses_are_discarded(void)
{
    struct sigaction now;
    return sigaction(SIGCHLD, NULL, &now) == 0
           && (now.sa_handler == SIG_IGN || (now.sa_flags & SA_NOCLDWAIT));
}

/* 1 ended and status known, 0 running, -1 with an exception. Keeps the GIL:
   two threads must not both ask the kernel for a status that is given once. */
static int
look(process *self, int fd)
{
    if (self->ended) {
        return 1;
    }
    siginfo_t info;
    int result;
    memset(&info, 0, sizeof(info));
    do {
        result = waitid((idtype_t)P_PIDFD, (id_t)fd, &info,
                        WEXITED | WNOHANG | (self->reaps ? 0 : WNOWAIT));
    } while (result < 0 && errno == EINTR);
    if (result < 0) {
        if (errno != ECHILD) {
            PyErr_SetFromErrno(PyExc_OSError);
        }
        else if (self->reaps && statuses_are_discarded()) {
            PyErr_SetString(PyExc_ChildProcessError,
                            "the exit status is lost: this process ignores "
                            "SIGCHLD, and the kernel keeps no status then");
        }
        else {
            PyErr_SetString(PyExc_ChildProcessError,
                            "only its parent gets the exit status of a "
                            "process, and once: this is not our child, or "
                            "somebody else has waited for it");
        }
        return -1;
    }
    if (info.si_pid == 0) {
        return 0;
    }
    self->pid = info.si_pid;
    self->status =
        info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
    self->ended = 1;
    return 1;
}

/* As look(), but waits: 0 at the deadline. */
static int
look_until(process *self, int fd, shd_deadline deadline)
{
    for (;;) {
        int result = look(self, fd);
        if (result) {
            return result;
        }
        result = shd_wait_readable(fd, deadline);
        if (result <= 0) {
            return result;
        }
        result = look(self, fd);
        if (result) {
            return result;
        }
        /* Ended, but a debugger has not let go of it yet. */
        struct pollfd none = {.fd = -1};
        int64_t pause = 10 * INT64_C(1000000);
        struct timespec time;
        clock_gettime(CLOCK_MONOTONIC, &time);
        pause += (int64_t)time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
        if (shd_wait_poll(&none, 1, pause < deadline ? pause : deadline) < 0) {
            return -1;
        }
        if (shd_deadline_passed(deadline)) {
            return 0;
        }
    }
}

static PyObject *
status_until(PyObject *object, shd_deadline deadline)
{
    process *self = (process *)object;
    shd_fd_ref ref;
    if (self->ended) {
        return PyLong_FromLong(self->status);
    }
    if (shd_fd_take(object, &ref) < 0) {
        return NULL;
    }
    int result = deadline == 0 ? look(self, ref.fd)
                               : look_until(self, ref.fd, deadline);
    if (shd_fd_drop(&ref, result) < 0) {
        return NULL;
    }
    if (!result) {
        Py_RETURN_NONE;
    }
    return PyLong_FromLong(self->status);
}

static PyObject *
process_poll(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return status_until(self, 0);
}

static PyObject *
process_wait(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", NULL};
    shd_deadline deadline = SHD_FOREVER;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O&:wait", names,
                                     shd_deadline_converter, &deadline)) {
        return NULL;
    }
    return status_until(self, deadline);
}

static PyObject *
process_await(PyObject *self)
{
    PyObject *module = PyImport_ImportModule("safehandle_debug.handles.wait");
    if (module == NULL) {
        return NULL;
    }
    PyObject *result = PyObject_CallMethod(module, "await_process", "O", self);
    Py_DECREF(module);
    return result;
}

static PyObject *
process_send_signal(PyObject *self, PyObject *number)
{
    shd_fd_ref ref;
    long signal = PyLong_AsLong(number);
    if (signal == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (signal < 0 || signal >= NSIG) {
        PyErr_Format(PyExc_ValueError, "%ld is no signal", signal);
        return NULL;
    }
    if (shd_fd_take(self, &ref) < 0) {
        return NULL;
    }
    long result = syscall(SYS_pidfd_send_signal, ref.fd, (int)signal, NULL, 0);
    if (result < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
    }
    if (shd_fd_drop(&ref, (int)result) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* --- properties ---------------------------------------------------------- */

/* The pid of an adopted pidfd: "Pid:\t123" in its fdinfo, below 0 without. */
static int
pid_of(int fd)
{
    char path[40], line[128];
    int pid = -1;
    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
    FILE *info = fopen(path, "re");
    if (info == NULL) {
        return -1;
    }
    while (fgets(line, sizeof(line), info) != NULL) {
        if (strncmp(line, "Pid:", 4) == 0) {
            pid = atoi(line + 4);
        }
    }
    fclose(info);
    return pid;
}

static PyObject *
get_pid(PyObject *object, void *Py_UNUSED(closure))
{
    process *self = (process *)object;
    shd_fd_ref ref;
    if (self->pid > 0) {
        return PyLong_FromLong(self->pid);
    }
    if (shd_fd_take(object, &ref) < 0) {
        return NULL;
    }
    int pid = pid_of(ref.fd);
    if (shd_fd_drop(&ref, 0) < 0) {
        return NULL;
    }
    if (pid <= 0) {
        PyErr_SetString(PyExc_ProcessLookupError,
                        "the process has ended and its pid is gone, or the "
                        "descriptor is no pidfd");
        return NULL;
    }
    self->pid = pid;
    return PyLong_FromLong(pid);
}

static PyObject *
get_returncode(PyObject *object, void *Py_UNUSED(closure))
{
    process *self = (process *)object;
    if (!self->ended) {
        Py_RETURN_NONE;
    }
    return PyLong_FromLong(self->status);
}

/* --- opening ------------------------------------------------------------- */

/* Linux 5.4 has all of it; -1 with an exception before. */
static int
check_kernel(void)
{
    static int checked;
    if (checked) {
        return 0;
    }
    int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    siginfo_t info;
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    int known =
        fd >= 0
        && (waitid((idtype_t)P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG) == 0
            || errno == ECHILD);
    if (fd >= 0) {
        close(fd);
    }
    if (!known) {
        PyErr_SetString(shd_interp_error(SHD_ERROR_NOT_SUPPORTED),
                        "process handles need pidfd_open(2) and "
                        "waitid(P_PIDFD): Linux 5.4, and no sandbox that "
                        "forbids them");
        return -1;
    }
    checked = 1;
    return 0;
}

static PyObject *
complete(process *self, uint32_t slot, int fd, int pid, const char *name)
{
    self->pid = pid;
    PyObject *detail =
        PyUnicode_FromFormat(*name ? "pid %d: %s" : "pid %d", pid, name);
    if (detail == NULL) {
        PyErr_Clear(); /* the process exists: a text is not worth it */
    }
    PyObject *handle = shd_handle_complete(&self->base, slot, fd, detail);
    Py_XDECREF(detail);
    return handle;
}

/* The object, its place, and the mark that its release reaps. */
static process *
begin(PyTypeObject *type, int reaps, uint32_t *slot)
{
    if (check_kernel() < 0) {
        return NULL;
    }
    process *self = (process *)shd_handle_begin(type, -1, slot);
    if (self == NULL) {
        return NULL;
    }
    self->reaps = (char)reaps;
    if (reaps && shd_table_set_extra(*slot, &reaps_mark) < 0) {
        PyErr_NoMemory();
        shd_handle_abandon(&self->base, *slot);
        return NULL;
    }
    return self;
}

static PyObject *
abandon(process *self, uint32_t slot)
{
    shd_table_take_extra(slot);
    return shd_handle_abandon(&self->base, slot);
}

static PyObject *
process_open(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"pid", "reap", NULL};
    int pid, reap = 0;
    uint32_t slot;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|$p:open", names, &pid,
                                     &reap)) {
        return NULL;
    }
    if (pid <= 0) {
        PyErr_Format(PyExc_ValueError, "%d is no process: a pid is above 0",
                     pid);
        return NULL;
    }
    process *self = begin((PyTypeObject *)type, reap, &slot);
    if (self == NULL) {
        return NULL;
    }
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return abandon(self, slot);
    }
    return complete(self, slot, fd, pid, "");
}

static PyObject *
start(PyTypeObject *type, shd_order *order)
{
    uint32_t slot;
    int fd;
    process *self = begin(type, 1, &slot);
    if (self == NULL) {
        return NULL;
    }
    int pid = shd_order_spawn(order, &fd);
    if (pid < 0) {
        return abandon(self, slot);
    }
    return complete(self, slot, fd, pid, order->argv[0]);
}

static PyObject *
process_spawn(PyObject *type, PyObject *args, PyObject *kwargs)
{
    shd_order order;
    PyObject *result = NULL;
    if (shd_order_make(&order, args, kwargs) == 0) {
        result = start((PyTypeObject *)type, &order);
    }
    if (shd_order_done(&order, result == NULL ? -1 : 0) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

PyDoc_STRVAR(open_doc,
"open($type, /, pid, *, reap=False)\n--\n\n"
"Opens a running process: pidfd_open(2).\n\n"
"With `reap` the handle answers for our own child as if it had spawned it.\n"
"Raises ValueError for 0 and below, ProcessLookupError when there is none.");
PyDoc_STRVAR(spawn_doc,
"spawn($type, /, args, *, env=None, cwd=None, stdin=None, stdout=None,\n"
"      stderr=None, pass_fds=(), start_new_session=False, executable=None)\n"
"--\n\n"
"Starts a program; fork, exec and pidfd are one step.\n\n"
"Standard descriptors are handles, numbers or objects with fileno(); None\n"
"inherits ours. No other descriptor is inherited but those in `pass_fds`,\n"
"under their numbers. Raises OSError as subprocess.Popen does.");
PyDoc_STRVAR(poll_doc,
"poll($self, /)\n--\n\n"
"The exit status, or None while the process runs; minus the signal's number\n"
"when a signal ended it.\n\n"
"Raises ChildProcessError for a process that is not our child.");
PyDoc_STRVAR(wait_doc,
"wait($self, /, timeout=None)\n--\n\n"
"Waits for the end and returns the exit status as poll() does; None when\n"
"`timeout` seconds passed first.");
PyDoc_STRVAR(send_signal_doc,
"send_signal($self, signal, /)\n--\n\n"
"Sends a signal to this process, never to another one that got its pid.\n\n"
"Raises ProcessLookupError when it has ended and was reaped.");
PyDoc_STRVAR(fileno_doc,
"fileno($self, /)\n--\n\n"
"The descriptor; raises HandleClosedError when closed.");

static PyMethodDef process_methods[] = {
    {"open", (PyCFunction)(void (*)(void))process_open,
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, open_doc},
    {"spawn", (PyCFunction)(void (*)(void))process_spawn,
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, spawn_doc},
    {"poll", process_poll, METH_NOARGS, poll_doc},
    {"wait", (PyCFunction)(void (*)(void))process_wait,
     METH_VARARGS | METH_KEYWORDS, wait_doc},
    {"send_signal", process_send_signal, METH_O, send_signal_doc},
    {"fileno", shd_descriptor_fileno, METH_NOARGS, fileno_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef process_getset[] = {
    {"pid", get_pid, NULL, "The process's number.", NULL},
    {"returncode", get_returncode, NULL,
     "The exit status once wait() or poll() has seen it, else None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(process_doc,
"SafeProcessHandle(value=-1, owns_handle=True)\n--\n\n"
"A process. The constructor adopts a pidfd; open() and spawn() acquire one.\n\n"
"Closing never kills and never blocks: a spawned child that has ended is\n"
"reaped, one that runs goes on without anybody who waits for it.");

static PyType_Slot process_slots[] = {
    {Py_tp_doc, (void *)process_doc},
    {Py_tp_init, shd_native_init},
    {Py_tp_dealloc, shd_handle_dealloc},
    {Py_tp_methods, process_methods},
    {Py_tp_getset, process_getset},
    {Py_am_await, process_await},
    {0, NULL},
};

static PyType_Spec process_spec = {
    .name = "safehandle_debug.SafeProcessHandle",
    .basicsize = sizeof(process),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = process_slots,
};

int
shd_process_handle_add(PyObject *module, shd_interp *state)
{
    static const shd_kind kind = {
        .number = SHD_KIND_PROCESS,
        .name = "process",
        .space = "fd",
        .release = release,
    };
    static const shd_native native = {&kind, SHD_RULE_FD};
    return shd_descriptor_add(module, &process_spec, state, &native);
}
