/* SafeMemoryMappedViewHandle: a stretch of a mapped file.
 *
 * The value is the address of the first byte that was asked for; the kernel
 * maps whole pages, so the mapping itself begins at the start of that byte's
 * page.  The live table's extra is the length of the mapping, all that
 * munmap(2) needs beside the address.
 *
 * A mapping needs no descriptor: the view holds no reference of the file's
 * handle, only for the call that makes it. */
#define _GNU_SOURCE
#include "buffer.h"

#include "lifetime/events.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* As in the mmap module. */
enum {
    ACCESS_READ = 1,
    ACCESS_WRITE = 2,
    ACCESS_COPY = 3
};

static uintptr_t
into_page(int64_t position)
{
    static uintptr_t page;
    if (page == 0) {
        page = (uintptr_t)sysconf(_SC_PAGESIZE);
    }
    return (uintptr_t)position & (page - 1);
}

static int
view_release(int64_t value, void *extra)
{
    uintptr_t delta = into_page(value);
    if (extra == NULL) {
        return EINVAL; /* set_handle() on a view: nobody said how long */
    }
    return munmap((void *)((uintptr_t)value - delta), (uintptr_t)extra) == 0
               ? 0
               : errno;
}

/* --- acquisition -------------------------------------------------------------- */

static int
access_converter(PyObject *access, void *result)
{
    if (PyUnicode_Check(access)) {
        static const char *const words[] = {"r", "rw", "c"};
        for (int i = 0; i < 3; i++) {
            if (PyUnicode_CompareWithASCIIString(access, words[i]) == 0) {
                *(int *)result = ACCESS_READ + i;
                return 1;
            }
        }
    }
    else {
        long number = PyLong_AsLong(access);
        if (number == -1 && PyErr_Occurred()) {
            return 0;
        }
        if (number >= ACCESS_READ && number <= ACCESS_COPY) {
            *(int *)result = (int)number;
            return 1;
        }
    }
    PyErr_Format(PyExc_ValueError,
                 "access must be 'r', 'rw', 'c' or mmap.ACCESS_READ, _WRITE, "
                 "_COPY, not %R",
                 access);
    return 0;
}

/* A handle whose value is a descriptor, borrowed. */
static shd_handle *
file_of(PyObject *file)
{
    if (file == Py_None) {
        PyErr_SetString(shd_interp_error(SHD_ERROR_NULL),
                        "file must be a handle, not None");
        return NULL;
    }
    shd_interp *state = shd_interp_get();
    if (state == NULL || !PyObject_TypeCheck(file, state->safe)
        || !shd_type_info_of(Py_TYPE(file))->fd_space) {
        PyErr_Format(PyExc_TypeError,
                     "file must be a SafeMemoryMappedFileHandle or another "
                     "handle of a descriptor, not %.100s",
                     Py_TYPE(file)->tp_name);
        return NULL;
    }
    return (shd_handle *)file;
}

/* Whether the file has the bytes: mapped beyond its end, memory is a trap.  A
   size of 0 becomes all that there is. */
static int
check_extent(int fd, Py_ssize_t *size, long long offset)
{
    struct stat status;
    if (fstat(fd, &status) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    if (!S_ISREG(status.st_mode)) {
        if (*size > 0) {
            return 0;
        }
        PyErr_SetString(PyExc_ValueError, "size is needed: it is no file");
        return -1;
    }
    long long there = (long long)status.st_size - offset;
    if (*size == 0 && there > 0 && there <= PY_SSIZE_T_MAX) {
        *size = (Py_ssize_t)there;
    }
    if (*size == 0 || *size > there) {
        PyErr_Format(PyExc_ValueError,
                     "cannot map %zd bytes at offset %lld: the file has %lld",
                     *size, offset, (long long)status.st_size);
        return -1;
    }
    return 0;
}

/* Maps, for a reference of `file` that is held; consumes handle and slot. */
static PyObject *
map_held(shd_handle *handle, uint32_t slot, shd_handle *file, Py_ssize_t size,
         int access, long long offset)
{
    int fd = (int)file->value;
    uintptr_t delta = into_page(offset);
    PyObject *detail = NULL;
    if (check_extent(fd, &size, offset) < 0) {
        return shd_handle_abandon(handle, slot);
    }
    if ((uintptr_t)size > PY_SSIZE_T_MAX - delta) {
        PyErr_SetString(PyExc_OverflowError, "size is too big");
        return shd_handle_abandon(handle, slot);
    }
    size_t length = (size_t)size + delta;
    detail = PyUnicode_FromFormat("%zd bytes at %lld of #%llu", size, offset,
                                  (unsigned long long)shd_serial(file));
    if (detail == NULL
        || PySys_Audit("mmap.__new__", "iniL", fd, size, access, offset) < 0) {
        Py_XDECREF(detail);
        return shd_handle_abandon(handle, slot);
    }
    if (shd_table_set_extra(slot, (void *)length) < 0) {
        Py_DECREF(detail);
        PyErr_NoMemory();
        return shd_handle_abandon(handle, slot);
    }
    void *address;
    Py_BEGIN_ALLOW_THREADS
    address = mmap(NULL, length,
                   access == ACCESS_READ ? PROT_READ : PROT_READ | PROT_WRITE,
                   access == ACCESS_COPY ? MAP_PRIVATE : MAP_SHARED, fd,
                   (off_t)(offset - (long long)delta));
    Py_END_ALLOW_THREADS
    PyObject *result;
    if (address == MAP_FAILED) {
        PyErr_SetFromErrno(PyExc_OSError);
        shd_table_take_extra(slot);
        result = shd_handle_abandon(handle, slot);
    }
    else {
        shd_buffer_set((shd_buffer *)handle, size, access == ACCESS_READ);
        result = shd_handle_complete(
            handle, slot, (int64_t)((intptr_t)address + (intptr_t)delta),
            detail);
    }
    Py_DECREF(detail);
    return result;
}

static PyObject *
view_map(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"file", "size", "access", "offset", NULL};
    PyObject *source;
    Py_ssize_t size = 0;
    int access = ACCESS_WRITE;
    long long offset = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|nO&L:map", names,
                                     &source, &size, access_converter, &access,
                                     &offset)) {
        return NULL;
    }
    if (size < 0 || offset < 0) {
        PyErr_SetString(PyExc_ValueError,
                        "size and offset must not be negative");
        return NULL;
    }
    shd_handle *file = file_of(source);
    uint32_t slot;
    shd_handle *handle =
        file == NULL ? NULL : shd_handle_begin((PyTypeObject *)type, 0, &slot);
    if (handle == NULL) {
        return NULL;
    }
    if (shd_life_add_ref(file) < 0) {
        shd_events_settle(-1);
        return shd_handle_abandon(handle, slot);
    }
    PyObject *result = map_held(handle, slot, file, size, access, offset);
    shd_life_let_go(file);
    return result;
}

/* --- the constructor ------------------------------------------------------------ */

/* Gives the handle somebody else's mapping; what it fails with, the caller
   still owns the memory. */
static int
adopt(shd_buffer *self, int64_t value, Py_ssize_t length, int readonly)
{
    shd_handle *handle = &self->base;
    if (length <= 0 || (uintptr_t)length > PY_SSIZE_T_MAX - into_page(value)) {
        PyErr_SetString(PyExc_ValueError,
                        "byte_length is needed to adopt a mapping: how many "
                        "bytes lie at the address");
        return -1;
    }
    uint32_t slot = shd_table_take();
    if (slot == 0) {
        PyErr_NoMemory();
        return -1;
    }
    if (shd_has(handle, SHD_OWNS)) {
        uintptr_t whole = (uintptr_t)length + into_page(value);
        if (shd_table_set_extra(slot, (void *)whole) < 0) {
            shd_table_give(slot);
            PyErr_NoMemory();
            return -1;
        }
    }
    shd_buffer_set(self, length, readonly);
    shd_life_acquire(handle, value, slot, NULL);
    if (shd_events_settle(0) < 0) {
        shd_life_invalidate(handle);
        return -1;
    }
    return 0;
}

static int
view_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"value", "owns_handle", "byte_length", "readonly",
                            NULL};
    shd_buffer *buffer = (shd_buffer *)self;
    int64_t value = 0;
    int owns = 1, readonly = 0;
    Py_ssize_t length = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O&p$np", names,
                                     shd_value_converter, &value, &owns,
                                     &length, &readonly)) {
        return -1;
    }
    if (atomic_load(&buffer->base.state) != 0) {
        PyErr_Format(shd_interp_error(SHD_ERROR_STATE),
                     "%.200s is initialised already", Py_TYPE(self)->tp_name);
        return -1;
    }
    shd_handle_init(&buffer->base, 0, owns, SHD_INVALID_0);
    if (value == 0 || value == -1) {
        buffer->base.value = value;
        return 0;
    }
    return adopt(buffer, value, length, readonly);
}

/* --- methods ---------------------------------------------------------------------- */

static PyObject *
view_flush(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    shd_buffer *buffer = (shd_buffer *)self;
    if (!buffer->initialized) {
        PyErr_Format(shd_interp_error(SHD_ERROR_STATE),
                     "%.200s maps nothing yet", Py_TYPE(self)->tp_name);
        return NULL;
    }
    if (shd_life_add_ref(&buffer->base) < 0) {
        shd_events_settle(-1);
        return NULL;
    }
    int64_t value = buffer->base.value;
    uintptr_t delta = into_page(value);
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = msync((void *)((uintptr_t)value - delta),
                   (size_t)buffer->length + delta, MS_SYNC);
    Py_END_ALLOW_THREADS
    if (result < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
    }
    shd_buffer_leave(buffer);
    if (result < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    map_doc,
    "map($type, /, file, size=0, access=mmap.ACCESS_WRITE, offset=0)\n--\n\n"
    "Maps `size` bytes at `offset`, any offset; 0: all from there to the "
    "end.\n"
    "`access` is one of the mmap module's or 'r', 'rw', 'c': read, shared "
    "write,\n"
    "writes that stay in this process.\n\n"
    "`file` is a handle of a descriptor and may be closed afterwards. Raises\n"
    "ValueError when the file is shorter, HandleClosedError when it is "
    "closed,\n"
    "OSError as mmap(2) fails.");
PyDoc_STRVAR(flush_doc, "flush($self, /)\n--\n\n"
                        "Writes what changed to the file: msync(2).");

static PyMethodDef view_methods[] = {
    {"map", (PyCFunction)(void (*)(void))view_map,
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, map_doc},
    {"flush", view_flush, METH_NOARGS, flush_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(
    view_doc,
    "SafeMemoryMappedViewHandle(value=0, owns_handle=True, *, byte_length=0,\n"
    "                           readonly=False)\n--\n\n"
    "Mapped memory as a SafeBuffer. map() acquires it; the constructor adopts "
    "the\n"
    "address of a mapping that somebody else made, with its length.\n\n"
    "read() and write() and their kin stay safe when the file is truncated: "
    "what\n"
    "lies in pages that it no longer has raises OSError (EFAULT); between its "
    "end\n"
    "and the end of that page are zeros. An exported buffer or pointer is "
    "plain\n"
    "memory: touching such a page ends the process (SIGBUS).");

static PyType_Slot view_slots[] = {
    {Py_tp_doc, (void *)view_doc},
    {Py_tp_init, view_init},
    {Py_tp_dealloc, shd_handle_dealloc},
    {Py_tp_methods, view_methods},
    {0, NULL},
};

static PyType_Spec view_spec = {
    .name = "safehandle_debug.SafeMemoryMappedViewHandle",
    .basicsize = sizeof(shd_buffer),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = view_slots,
};

int
shd_view_add(PyObject *module, shd_interp *Py_UNUSED(state))
{
    static const shd_kind kind = {
        .number = SHD_KIND_MAPPED_VIEW,
        .name = "mapped-view",
        .space = "memory",
        .release = view_release,
    };
    static const shd_native native = {&kind, SHD_RULE_ZERO_OR_MINUS_ONE};
    PyObject *base = PyObject_GetAttrString(module, "SafeBuffer");
    PyTypeObject *type =
        base == NULL ? NULL
                     : shd_type_make(module, &view_spec, (PyTypeObject *)base);
    Py_XDECREF(base);
    int result = type == NULL ? -1 : shd_type_mark(type, &native);
    Py_XDECREF(type);
    return result;
}
