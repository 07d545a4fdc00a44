/* SafeFileHandle: open files, each acquired in one C call.
 *
 * The object and its place in the live table exist before the system call;
 * between the call's return and the object's owning the result there is no
 * bytecode, so no interrupt can fall there. */
#define _GNU_SOURCE
#include "lifetime/events.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- what closing a file may need beyond its descriptor ---------------------- */

typedef struct {
    pid_t owner; /* the process that may delete */
    int locked;  /* by flock() */
    char *path;  /* to delete, absolute; NULL: none */
} file_extra;

static void
file_forget(void *extra)
{
    free(((file_extra *)extra)->path);
    free(extra);
}

/* Deletes the name only while it still is this file's. */
static void
delete_name(int fd, const char *path)
{
    struct stat held, named;
    if (fstat(fd, &held) == 0 && lstat(path, &named) == 0
        && held.st_dev == named.st_dev && held.st_ino == named.st_ino) {
        unlink(path);
    }
}

/* The name goes first, so that nobody finds it once the lock is free; then the
   lock, since close() can be interrupted and must not be repeated. */
static int
file_release(int64_t value, void *extra)
{
    int fd = (int)value;
    if (extra != NULL) {
        file_extra *more = extra;
        if (more->path != NULL && more->owner == getpid()) {
            delete_name(fd, more->path);
        }
        if (more->locked && more->owner == getpid()) {
            flock(fd, LOCK_UN);
        }
        file_forget(extra);
    }
    return shd_descriptor_close(value, NULL);
}

/* The slot's extra, made when there is none; NULL with MemoryError. */
static file_extra *
make_extra(uint32_t slot)
{
    file_extra *extra = shd_table_extra(slot);
    if (extra != NULL) {
        return extra;
    }
    extra = calloc(1, sizeof(*extra));
    if (extra == NULL || shd_table_set_extra(slot, extra) < 0) {
        free(extra);
        PyErr_NoMemory();
        return NULL;
    }
    extra->owner = getpid();
    return extra;
}

/* Where the descriptor's file is now, malloc'ed; NULL with errno. */
static char *
absolute_path(int fd)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof(path) - 1);
    if (size < 0) {
        return NULL;
    }
    path[size] = 0;
    return strdup(path);
}

/* 0, or -1 with errno. */
static int
lock_descriptor(int fd, int operation)
{
    int result;
    do {
        Py_BEGIN_ALLOW_THREADS
        result = flock(fd, operation);
        Py_END_ALLOW_THREADS
    } while (result < 0 && errno == EINTR && PyErr_CheckSignals() == 0);
    return result;
}

/* Whether `path` still names the open file. */
static int
is_still_named(int fd, int dir_fd, const char *path)
{
    struct stat held, named;
    return fstat(fd, &held) == 0 && fstatat(dir_fd, path, &named, 0) == 0
           && held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

/* --- acquisition --------------------------------------------------------------- */

/* Gives `fd`, or the error in errno, to the blank handle. */
static PyObject *
conclude(shd_handle *handle, uint32_t slot, int fd, PyObject *name)
{
    if (fd >= 0) {
        return shd_handle_complete(handle, slot, fd, name);
    }
    if (!PyErr_Occurred()) {
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, name);
    }
    return shd_handle_abandon(handle, slot);
}

/* Drops the reference that a method held; None, or NULL with its exception. */
static PyObject *
conclude_call(PyObject *self, int result)
{
    shd_life_let_go((shd_handle *)self);
    if (result < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

typedef struct {
    int dir_fd, flags, mode;
    int lock;   /* LOCK_SH or LOCK_EX, 0: none */
    int delete; /* delete the name on close */
} open_how;

/* A descriptor, or -1 with errno or an exception. */
static int
open_locked(const char *path, const open_how *how)
{
    for (;;) {
        int fd;
        do {
            Py_BEGIN_ALLOW_THREADS
            fd = openat(how->dir_fd, path, how->flags | O_CLOEXEC, how->mode);
            Py_END_ALLOW_THREADS
        } while (fd < 0 && errno == EINTR && PyErr_CheckSignals() == 0);
        if (fd < 0 || !how->lock) {
            return fd;
        }
        /* Whoever held the lock may have deleted the file before we got it. */
        if (lock_descriptor(fd, how->lock) < 0) {
            int error = errno;
            close(fd);
            errno = error;
            return -1;
        }
        if ((how->flags & O_TMPFILE) == O_TMPFILE /* never had a name */
            || is_still_named(fd, how->dir_fd, path)) {
            return fd;
        }
        close(fd);
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
    }
}

static PyObject *
open_handle(PyTypeObject *type, const char *path, PyObject *name,
            const open_how *how)
{
    uint32_t slot;
    shd_handle *handle = shd_handle_begin(type, -1, &slot);
    if (handle == NULL) {
        return NULL;
    }
    file_extra *extra = NULL;
    if ((how->lock || how->delete) && (extra = make_extra(slot)) == NULL) {
        return shd_handle_abandon(handle, slot);
    }
    int fd = open_locked(path, how);
    if (fd >= 0 && extra != NULL) {
        extra->locked = how->lock != 0;
        if (how->delete && (extra->path = absolute_path(fd)) == NULL) {
            int error = errno;
            close(fd);
            errno = error;
            fd = -1;
        }
    }
    if (fd < 0 && extra != NULL) {
        int error = errno;
        file_forget(shd_table_take_extra(slot));
        errno = error;
    }
    return conclude(handle, slot, fd, name);
}

/* "shared", "exclusive" or None as a flock() operation. */
static int
lock_converter(PyObject *word, void *lock)
{
    if (word == Py_None) {
        return 1;
    }
    if (PyUnicode_Check(word)
        && PyUnicode_CompareWithASCIIString(word, "shared") == 0) {
        *(int *)lock = LOCK_SH;
        return 1;
    }
    if (PyUnicode_Check(word)
        && PyUnicode_CompareWithASCIIString(word, "exclusive") == 0) {
        *(int *)lock = LOCK_EX;
        return 1;
    }
    PyErr_Format(PyExc_ValueError,
                 "lock must be 'shared', 'exclusive' or None, not %R", word);
    return 0;
}

static PyObject *
file_open(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"path", "flags",           "mode", "dir_fd",
                            "lock", "delete_on_close", NULL};
    PyObject *path, *encoded;
    open_how how = {AT_FDCWD, O_RDONLY, 0666, 0, 0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|ii$O&O&p:open", names,
                                     &path, &how.flags, &how.mode,
                                     shd_dir_fd_converter, &how.dir_fd,
                                     lock_converter, &how.lock, &how.delete)) {
        return NULL;
    }
    if (!PyUnicode_FSConverter(path, &encoded)) {
        return NULL;
    }
    PyObject *name = PyUnicode_DecodeFSDefaultAndSize(
        PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded));
    PyObject *result = NULL;
    if (name != NULL
        && PySys_Audit("open", "OOi", path, Py_None, how.flags) == 0) {
        result = open_handle((PyTypeObject *)type, PyBytes_AS_STRING(encoded),
                             name, &how);
    }
    Py_XDECREF(name);
    Py_DECREF(encoded);
    return result;
}

static PyObject *
file_lock(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"shared", "blocking", NULL};
    shd_handle *handle = (shd_handle *)self;
    int shared = 0, blocking = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|pp:lock", names, &shared,
                                     &blocking)) {
        return NULL;
    }
    if (shd_life_add_ref(handle) < 0) {
        return NULL;
    }
    uint64_t serial = shd_serial(handle);
    int result = -1;
    if (!handle->slot || make_extra(handle->slot) != NULL) {
        result = lock_descriptor((int)handle->value,
                                 (shared ? LOCK_SH : LOCK_EX)
                                     | (blocking ? 0 : LOCK_NB));
        if (result < 0 && !PyErr_Occurred()) {
            PyErr_SetFromErrno(PyExc_OSError);
        }
        /* Another thread may have invalidated the handle while we waited. */
        file_extra *extra = shd_table_extra(handle->slot);
        if (result == 0 && extra != NULL && shd_serial(handle) == serial) {
            extra->locked = 1;
        }
    }
    return conclude_call(self, result);
}

static PyObject *
file_unlock(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    shd_handle *handle = (shd_handle *)self;
    if (shd_life_add_ref(handle) < 0) {
        return NULL;
    }
    int result = flock((int)handle->value, LOCK_UN);
    file_extra *extra = shd_table_extra(handle->slot);
    if (result < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
    }
    else if (extra != NULL) {
        extra->locked = 0;
    }
    return conclude_call(self, result);
}

static PyObject *
file_memfd(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name", "flags", NULL};
    const char *name;
    unsigned int flags = MFD_CLOEXEC;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|I:memfd", names, &name,
                                     &flags)) {
        return NULL;
    }
    uint32_t slot;
    shd_handle *handle = shd_handle_begin((PyTypeObject *)type, -1, &slot);
    if (handle == NULL) {
        return NULL;
    }
    PyObject *detail = PyUnicode_FromFormat("memfd:%s", name);
    if (detail == NULL) {
        return shd_handle_abandon(handle, slot);
    }
    int fd = memfd_create(name, flags);
    PyObject *result = conclude(handle, slot, fd, detail);
    Py_DECREF(detail);
    return result;
}

static PyObject *
file_duplicate(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    uint32_t slot;
    shd_handle *source = (shd_handle *)self;
    shd_handle *handle = shd_handle_begin(Py_TYPE(self), -1, &slot);
    if (handle == NULL) {
        return NULL;
    }
    if (shd_life_add_ref(source) < 0) {
        return shd_handle_abandon(handle, slot);
    }
    int fd = fcntl((int)source->value, F_DUPFD_CLOEXEC, 0);
    int error = errno;
    PyObject *detail = PyUnicode_FromFormat(
        "duplicate of #%llu", (unsigned long long)shd_serial(source));
    PyObject *result = NULL;
    if (detail != NULL) {
        errno = error;
        result = conclude(handle, slot, fd, detail);
        Py_DECREF(detail);
    }
    else {
        if (fd >= 0) {
            close(fd);
        }
        shd_handle_abandon(handle, slot);
    }
    shd_life_let_go(source);
    return result;
}

PyDoc_STRVAR(open_doc,
"open($type, /, path, flags=os.O_RDONLY, mode=0o666, *, dir_fd=None,\n"
"     lock=None, delete_on_close=False)\n--\n\n"
"Opens a file: openat(2), close-on-exec, in one uninterruptible step.\n\n"
"lock is 'shared' or 'exclusive': waits for flock(2), and opens again if the\n"
"name had gone to another file by then. delete_on_close: closing deletes the\n"
"name, if it still is this file's, before the lock is dropped.\n\n"
"Raises OSError as os.open() does.");
PyDoc_STRVAR(lock_doc,
"lock($self, /, shared=False, blocking=True)\n--\n\n"
"Locks the file by flock(2); closing unlocks it. Raises BlockingIOError when\n"
"another process has it and blocking is false.");
PyDoc_STRVAR(unlock_doc, "unlock($self, /)\n--\n\nDrops the lock.");
PyDoc_STRVAR(memfd_doc,
"memfd($type, /, name, flags=os.MFD_CLOEXEC)\n--\n\n"
"Makes an anonymous file in memory: memfd_create(2).");
PyDoc_STRVAR(duplicate_doc,
"duplicate($self, /)\n--\n\n"
"A new handle on the same open file: F_DUPFD_CLOEXEC.\n\n"
"Raises HandleClosedError when this one is closed.");
PyDoc_STRVAR(fileno_doc,
"fileno($self, /)\n--\n\n"
"The descriptor; raises HandleClosedError when closed.");

static PyMethodDef file_methods[] = {
    {"open", (PyCFunction)(void (*)(void))file_open,
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, open_doc},
    {"memfd", (PyCFunction)(void (*)(void))file_memfd,
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, memfd_doc},
    {"lock", (PyCFunction)(void (*)(void))file_lock,
     METH_VARARGS | METH_KEYWORDS, lock_doc},
    {"unlock", file_unlock, METH_NOARGS, unlock_doc},
    {"duplicate", file_duplicate, METH_NOARGS, duplicate_doc},
    {"fileno", shd_descriptor_fileno, METH_NOARGS, fileno_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(file_doc,
"SafeFileHandle(value=-1, owns_handle=True)\n--\n\n"
"An open file. The constructor adopts a descriptor; open(), memfd() and\n"
"duplicate() acquire one. 0 is valid; below 0 and above INT_MAX is not.");

static PyType_Slot file_slots[] = {
    {Py_tp_doc, (void *)file_doc},
    {Py_tp_init, shd_native_init},
    {Py_tp_dealloc, shd_handle_dealloc},
    {Py_tp_methods, file_methods},
    {0, NULL},
};

static PyType_Spec file_spec = {
    .name = "safehandle_debug.SafeFileHandle",
    .basicsize = sizeof(shd_handle),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = file_slots,
};

int
shd_file_add(PyObject *module, shd_interp *state)
{
    static const shd_kind kind = {
        .number = SHD_KIND_FILE,
        .name = "file",
        .space = "fd",
        .release = file_release,
        .forget = file_forget,
    };
    static const shd_native native = {&kind, SHD_RULE_FD};
    return shd_descriptor_add(module, &file_spec, state, &native);
}
