/* SafeFileHandle: open files, each acquired in one C call.
 *
 * The object and its place in the live table exist before the system call;
 * between the call's return and the object's owning the result there is no
 * bytecode, so no interrupt can fall there. */
#define _GNU_SOURCE
#include "events.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <unistd.h>

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

static int
dir_fd_converter(PyObject *number, void *dir_fd)
{
    if (number == Py_None) {
        return 1;
    }
    int value = PyObject_AsFileDescriptor(number);
    if (value == -1) {
        return 0;
    }
    *(int *)dir_fd = value;
    return 1;
}

static PyObject *
file_open(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"path", "flags", "mode", "dir_fd", NULL};
    PyObject *path, *encoded;
    int flags = O_RDONLY, mode = 0666, dir_fd = AT_FDCWD;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|ii$O&:open", names,
                                     &path, &flags, &mode, dir_fd_converter,
                                     &dir_fd)) {
        return NULL;
    }
    if (!PyUnicode_FSConverter(path, &encoded)) {
        return NULL;
    }
    PyObject *name = PyOS_FSPath(path);
    PyObject *text = name;
    if (name != NULL && PyBytes_Check(name)) {
        text = PyUnicode_DecodeFSDefaultAndSize(PyBytes_AS_STRING(name),
                                                PyBytes_GET_SIZE(name));
        Py_DECREF(name);
    }
    PyObject *result = NULL;
    uint32_t slot;
    shd_handle *handle = NULL;
    if (text != NULL
        && PySys_Audit("open", "OOi", path, Py_None, flags) == 0) {
        handle = shd_handle_begin((PyTypeObject *)type, -1, &slot);
    }
    if (handle != NULL) {
        int fd;
        do {
            Py_BEGIN_ALLOW_THREADS
            fd = openat(dir_fd, PyBytes_AS_STRING(encoded),
                        flags | O_CLOEXEC, mode);
            Py_END_ALLOW_THREADS
        } while (fd < 0 && errno == EINTR && PyErr_CheckSignals() == 0);
        result = conclude(handle, slot, fd, text);
    }
    Py_XDECREF(text);
    Py_DECREF(encoded);
    return result;
}

static PyObject *
file_memfd(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name", "flags", NULL};
    PyObject *name;
    unsigned int flags = MFD_CLOEXEC;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U|I:memfd", names, &name,
                                     &flags)) {
        return NULL;
    }
    const char *utf8 = PyUnicode_AsUTF8(name);
    uint32_t slot;
    shd_handle *handle
        = utf8 == NULL ? NULL : shd_handle_begin((PyTypeObject *)type, -1, &slot);
    if (handle == NULL) {
        return NULL;
    }
    PyObject *detail = PyUnicode_FromFormat("memfd:%U", name);
    if (detail == NULL) {
        return shd_handle_abandon(handle, slot);
    }
    int fd = memfd_create(utf8, flags);
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
    PyObject *detail = PyUnicode_FromFormat("duplicate of #%llu",
                                            (unsigned long long)shd_serial(
                                                source));
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
    PyObject *error_type, *error_value, *traceback;
    PyErr_Fetch(&error_type, &error_value, &traceback);
    if (shd_life_release(source) < 0) {
        PyErr_WriteUnraisable(self);
    }
    PyErr_Restore(error_type, error_value, traceback);
    return result;
}

PyDoc_STRVAR(open_doc,
"open($type, /, path, flags=os.O_RDONLY, mode=0o666, *, dir_fd=None)\n--\n\n"
"Opens a file: openat(2), close-on-exec, in one uninterruptible step.\n\n"
"Raises OSError as os.open() does.");
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
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = file_slots,
};

int
shd_file_add(PyObject *module, shd_interp *state)
{
    static const shd_kind kind
        = {SHD_KIND_FILE, "file", "fd", shd_descriptor_close, NULL};
    static const shd_native native = {&kind, SHD_RULE_FD};
    return shd_descriptor_add(module, &file_spec, state, &native);
}
