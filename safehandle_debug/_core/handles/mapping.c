/* SafeMemoryMappedFileHandle: what can be mapped, be it a file, memory without
 * a name, or POSIX shared memory.
 *
 * The name of shared memory outlives every process.  So the handle that made
 * it removes it when it is released, by whatever ending, and in the process
 * that made it only: a forked child has a copy of the handle, not of the
 * name. */
#define _GNU_SOURCE
#include "lifetime/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- the release ------------------------------------------------------------ */

/* A name to remove, as the live table's extra. */
typedef struct {
    pid_t maker;
    int kept; /* removed only when the acquisition fails */
    char name[];
} removal;

static int
mapping_release(int64_t value, void *extra)
{
    removal *name = extra;
    int error = 0;
    if (name != NULL) {
        if (!name->kept && name->maker == getpid()
            && shm_unlink(name->name) < 0 && errno != ENOENT) {
            error = errno;
        }
        free(name);
    }
    int close_error = shd_descriptor_close(value, NULL);
    return close_error ? close_error : error;
}

static removal *
removal_of(const char *name, int kept)
{
    size_t size = strlen(name) + 1;
    removal *made = malloc(sizeof(*made) + size);
    if (made == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    made->maker = getpid();
    made->kept = kept;
    memcpy(made->name, name, size);
    return made;
}

/* --- acquisition -------------------------------------------------------------- */

/* Whether the call that just failed is to be tried again. */
static int
interrupted(void)
{
    return errno == EINTR && PyErr_CheckSignals() == 0;
}

static int
size_converter(PyObject *number, void *size)
{
    long long value = PyLong_AsLongLong(number);
    if (value == -1 && PyErr_Occurred()) {
        return 0;
    }
    if (value < 0) {
        PyErr_SetString(PyExc_ValueError, "size must not be negative");
        return 0;
    }
    *(long long *)size = value;
    return 1;
}

/* Makes the file at least `size` bytes long; 0, or -1 with errno. */
static int
grow(int fd, long long size)
{
    struct stat status;
    if (fstat(fd, &status) < 0) {
        return -1;
    }
    if (S_ISDIR(status.st_mode) || S_ISFIFO(status.st_mode)
        || S_ISSOCK(status.st_mode)) {
        errno = S_ISDIR(status.st_mode) ? EISDIR : ENODEV;
        return -1;
    }
    if (!S_ISREG(status.st_mode) || status.st_size >= size) {
        return 0;
    }
    int result;
    do {
        result = ftruncate(fd, size);
    } while (result < 0 && errno == EINTR);
    return result;
}

/* The error in errno, of the named file; nothing is kept. */
static PyObject *
fail(shd_handle *handle, uint32_t slot, PyObject *name)
{
    if (!PyErr_Occurred()) {
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, name);
    }
    free(shd_table_take_extra(slot));
    return shd_handle_abandon(handle, slot);
}

/* `fd`, grown to `size`, becomes the handle's; closed when that fails. */
static PyObject *
conclude(shd_handle *handle, uint32_t slot, int fd, long long size,
         PyObject *name)
{
    if (fd < 0) {
        return fail(handle, slot, name);
    }
    if (grow(fd, size) < 0) {
        int error = errno;
        removal *made = shd_table_extra(slot);
        if (made != NULL) {
            shm_unlink(made->name);
        }
        close(fd);
        errno = error;
        return fail(handle, slot, name);
    }
    return shd_handle_complete(handle, slot, fd, name);
}

static PyObject *
mapping_create(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"size", "name", NULL};
    long long size;
    PyObject *name = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|U:create", names,
                                     size_converter, &size, &name)) {
        return NULL;
    }
    if (size == 0) {
        PyErr_SetString(PyExc_ValueError, "size must be at least 1");
        return NULL;
    }
    Py_ssize_t length = 7;
    const char *utf8 =
        name == NULL ? "mapping" : PyUnicode_AsUTF8AndSize(name, &length);
    if (utf8 != NULL && strlen(utf8) != (size_t)length) {
        PyErr_SetString(PyExc_ValueError, "embedded null character in name");
        return NULL;
    }
    PyObject *detail =
        utf8 == NULL ? NULL : PyUnicode_FromFormat("memfd:%s", utf8);
    uint32_t slot;
    shd_handle *handle =
        detail == NULL ? NULL
                       : shd_handle_begin((PyTypeObject *)type, -1, &slot);
    PyObject *result = NULL;
    if (handle != NULL) {
        int fd = memfd_create(utf8, MFD_CLOEXEC);
        result = conclude(handle, slot, fd, size, detail);
    }
    Py_XDECREF(detail);
    return result;
}

static PyObject *
mapping_open(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"path", "flags", "mode", "dir_fd", "size", NULL};
    PyObject *path, *encoded;
    int flags = O_RDWR, mode = 0666, dir_fd = AT_FDCWD;
    long long size = 0;
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "O|ii$O&O&:open", names, &path, &flags, &mode,
            shd_dir_fd_converter, &dir_fd, size_converter, &size)
        || !PyUnicode_FSConverter(path, &encoded)) {
        return NULL;
    }
    PyObject *name = PyUnicode_DecodeFSDefaultAndSize(
        PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded));
    uint32_t slot;
    shd_handle *handle = NULL;
    if (name != NULL
        && PySys_Audit("open", "OOi", path, Py_None, flags) == 0) {
        handle = shd_handle_begin((PyTypeObject *)type, -1, &slot);
    }
    PyObject *result = NULL;
    if (handle != NULL) {
        int fd;
        do {
            Py_BEGIN_ALLOW_THREADS
            fd = openat(dir_fd, PyBytes_AS_STRING(encoded), flags | O_CLOEXEC,
                        mode);
            Py_END_ALLOW_THREADS
        } while (fd < 0 && interrupted());
        result = conclude(handle, slot, fd, size, name);
    }
    Py_XDECREF(name);
    Py_DECREF(encoded);
    return result;
}

/* "/name" as shm_open(3) wants it. */
static PyObject *
shm_name(PyObject *name)
{
    if (PyUnicode_GET_LENGTH(name) > 0
        && PyUnicode_READ_CHAR(name, 0) == '/') {
        return Py_NewRef(name);
    }
    return PyUnicode_FromFormat("/%U", name);
}

static PyObject *
mapping_shm(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name", "size", "mode", "unlink", NULL};
    PyObject *name, *encoded = NULL;
    long long size = 0;
    int mode = 0600, unlink = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U|O&$ip:shm", names, &name,
                                     size_converter, &size, &mode, &unlink)) {
        return NULL;
    }
    name = shm_name(name);
    if (name == NULL || !PyUnicode_FSConverter(name, &encoded)) {
        Py_XDECREF(name);
        return NULL;
    }
    const char *path = PyBytes_AS_STRING(encoded);
    int flags = size ? O_RDWR | O_CREAT | O_EXCL : O_RDWR;
    removal *made = NULL;
    uint32_t slot;
    shd_handle *handle = NULL;
    if (PySys_Audit("open", "OOi", name, Py_None, flags) == 0
        && (size == 0 || (made = removal_of(path, !unlink)) != NULL)) {
        handle = shd_handle_begin((PyTypeObject *)type, -1, &slot);
    }
    PyObject *result = NULL;
    if (handle == NULL) {
        free(made);
    }
    else if (made != NULL && shd_table_set_extra(slot, made) < 0) {
        free(made);
        PyErr_NoMemory();
        shd_handle_abandon(handle, slot);
    }
    else {
        int fd;
        do {
            fd = shm_open(path, flags, (mode_t)mode);
        } while (fd < 0 && interrupted());
        result = conclude(handle, slot, fd, size, name);
    }
    Py_DECREF(encoded);
    Py_DECREF(name);
    return result;
}

static PyObject *
mapping_shm_unlink(PyObject *Py_UNUSED(type), PyObject *text)
{
    if (!PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "name must be str, not %.100s",
                     Py_TYPE(text)->tp_name);
        return NULL;
    }
    PyObject *encoded = NULL;
    PyObject *name = shm_name(text);
    int result = -1;
    if (name != NULL && PyUnicode_FSConverter(name, &encoded)) {
        result = shm_unlink(PyBytes_AS_STRING(encoded));
        if (result < 0) {
            PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, name);
        }
    }
    Py_XDECREF(encoded);
    Py_XDECREF(name);
    if (result < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* --- the type ----------------------------------------------------------------- */

PyDoc_STRVAR(
    create_doc,
    "create($type, /, size, name=\"mapping\")\n--\n\n"
    "Makes memory of `size` bytes that has a descriptor and no path:\n"
    "memfd_create(2). Raises ValueError for no bytes, OSError for too many.");
PyDoc_STRVAR(
    open_doc,
    "open($type, /, path, flags=os.O_RDWR, mode=0o666, *, dir_fd=None, "
    "size=0)\n"
    "--\n\n"
    "Opens a file to be mapped; a shorter one grows to `size` bytes.\n\n"
    "Raises OSError as os.open() does, and for folders (EISDIR), pipes and\n"
    "sockets (ENODEV), which cannot be mapped.");
PyDoc_STRVAR(
    shm_doc,
    "shm($type, /, name, size=0, *, mode=0o600, unlink=True)\n--\n\n"
    "POSIX shared memory. With a size: makes it, and raises FileExistsError "
    "when\n"
    "the name is taken. Without: opens what another process has made.\n\n"
    "The name belongs to the handle that made it: whatever releases that "
    "handle\n"
    "removes the name first, unless unlink=False; a name that is gone is no\n"
    "error. Memory that is mapped or open elsewhere stays. Handles that "
    "opened\n"
    "the name, copies in forked children and detach() leave the name alone, "
    "and\n"
    "so does a process that is killed.");
PyDoc_STRVAR(shm_unlink_doc, "shm_unlink(name, /)\n--\n\n"
                             "Removes the name of shared memory; "
                             "FileNotFoundError when there is none.");
PyDoc_STRVAR(fileno_doc,
             "fileno($self, /)\n--\n\n"
             "The descriptor; raises HandleClosedError when closed.");

static PyMethodDef mapping_methods[] = {
    {"create", (PyCFunction)(void (*)(void))mapping_create,
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, create_doc},
    {"open", (PyCFunction)(void (*)(void))mapping_open,
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, open_doc},
    {"shm", (PyCFunction)(void (*)(void))mapping_shm,
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, shm_doc},
    {"shm_unlink", mapping_shm_unlink, METH_O | METH_STATIC, shm_unlink_doc},
    {"fileno", shd_descriptor_fileno, METH_NOARGS, fileno_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(
    mapping_doc,
    "SafeMemoryMappedFileHandle(value=-1, owns_handle=True)\n--\n\n"
    "What SafeMemoryMappedViewHandle.map() maps. The constructor adopts a\n"
    "descriptor; create(), open() and shm() acquire one. Views need it only "
    "while\n"
    "they are made: it may be closed before them.");

static PyType_Slot mapping_slots[] = {
    {Py_tp_doc, (void *)mapping_doc},
    {Py_tp_init, shd_native_init},
    {Py_tp_dealloc, shd_handle_dealloc},
    {Py_tp_methods, mapping_methods},
    {0, NULL},
};

static PyType_Spec mapping_spec = {
    .name = "safehandle_debug.SafeMemoryMappedFileHandle",
    .basicsize = sizeof(shd_handle),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = mapping_slots,
};

int
shd_mapping_add(PyObject *module, shd_interp *state)
{
    static const shd_kind kind = {
        .number = SHD_KIND_MAPPED_FILE,
        .name = "mapped-file",
        .space = "fd",
        .release = mapping_release,
        .forget = free,
    };
    static const shd_native native = {&kind, SHD_RULE_FD};
    return shd_descriptor_add(module, &mapping_spec, state, &native);
}
