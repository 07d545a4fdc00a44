/* SafeBuffer: memory that is read and written within its bounds, and that stays
 * while anybody looks at it.
 *
 * Exported buffers are plain memory, as they have to be; everything else goes
 * by buffer_access.c. */
#include "buffer.h"

#include "lifetime/events.h"

/* --- typed access ------------------------------------------------------------ */

static PyObject *
struct_function(const char *name)
{
    /* Importing what is there already costs as much as the rest of a read. */
    PyObject *module = Py_XNewRef(shd_interp_loaded_module("_struct"));
    if (module == NULL) {
        module = PyImport_ImportModule("_struct");
    }
    PyObject *function =
        module == NULL ? NULL : PyObject_GetAttrString(module, name);
    Py_XDECREF(module);
    return function;
}

static Py_ssize_t
format_size(PyObject *format)
{
    PyObject *function = struct_function("calcsize");
    PyObject *number =
        function == NULL ? NULL : PyObject_CallOneArg(function, format);
    Py_ssize_t size = number == NULL ? -1 : PyLong_AsSsize_t(number);
    Py_XDECREF(function);
    Py_XDECREF(number);
    return size;
}

static PyObject *
buffer_read(shd_buffer *self, PyObject *args)
{
    PyObject *offset, *format;
    if (!PyArg_ParseTuple(args, "OO:read", &offset, &format)
        || shd_buffer_check(self) < 0) {
        return NULL;
    }
    Py_ssize_t size = format_size(format);
    PyObject *bytes = size < 0 ? NULL : shd_buffer_take(self, offset, size);
    PyObject *function = bytes == NULL ? NULL : struct_function("unpack");
    PyObject *values =
        function == NULL
            ? NULL
            : PyObject_CallFunctionObjArgs(function, format, bytes, NULL);
    Py_XDECREF(function);
    Py_XDECREF(bytes);
    if (values != NULL && PyTuple_GET_SIZE(values) == 1) {
        PyObject *value = Py_NewRef(PyTuple_GET_ITEM(values, 0));
        Py_DECREF(values);
        return value;
    }
    return values;
}

/* struct.pack(format, *value) for a tuple, struct.pack(format, value) else. */
static PyObject *
pack(PyObject *format, PyObject *value)
{
    PyObject *first = PyTuple_Pack(1, format);
    PyObject *rest =
        PyTuple_Check(value) ? Py_NewRef(value) : PyTuple_Pack(1, value);
    PyObject *all =
        first == NULL || rest == NULL ? NULL : PySequence_Concat(first, rest);
    PyObject *function = all == NULL ? NULL : struct_function("pack");
    PyObject *bytes =
        function == NULL ? NULL : PyObject_Call(function, all, NULL);
    Py_XDECREF(function);
    Py_XDECREF(all);
    Py_XDECREF(rest);
    Py_XDECREF(first);
    return bytes;
}

static PyObject *
buffer_write(shd_buffer *self, PyObject *args)
{
    PyObject *offset, *format, *value;
    if (!PyArg_ParseTuple(args, "OOO:write", &offset, &format, &value)
        || shd_buffer_check(self) < 0 || shd_buffer_check_writable(self) < 0) {
        return NULL;
    }
    PyObject *bytes = pack(format, value);
    if (bytes == NULL) {
        return NULL;
    }
    int result = shd_buffer_put(self, offset, PyBytes_AS_STRING(bytes),
                                PyBytes_GET_SIZE(bytes));
    Py_DECREF(bytes);
    if (result < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* --- bulk access --------------------------------------------------------------- */

static PyObject *
buffer_read_bytes(shd_buffer *self, PyObject *args)
{
    PyObject *offset;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "On:read_bytes", &offset, &size)
        || shd_buffer_check(self) < 0) {
        return NULL;
    }
    if (size < 0) {
        PyErr_SetString(PyExc_ValueError, "size must not be negative");
        return NULL;
    }
    return shd_buffer_take(self, offset, size);
}

static PyObject *
buffer_read_into(shd_buffer *self, PyObject *args)
{
    PyObject *offset;
    Py_buffer target;
    if (!PyArg_ParseTuple(args, "Ow*:read_into", &offset, &target)) {
        return NULL;
    }
    Py_ssize_t at, size = target.len;
    int result = shd_buffer_check(self);
    if (result == 0) {
        result = shd_buffer_check_range(self, offset, size, &at);
    }
    if (result == 0) {
        result = shd_buffer_transfer(self, at, target.buf, size, 0);
    }
    PyBuffer_Release(&target);
    return result < 0 ? NULL : PyLong_FromSsize_t(size);
}

static PyObject *
buffer_write_bytes(shd_buffer *self, PyObject *args)
{
    PyObject *offset;
    Py_buffer source;
    if (!PyArg_ParseTuple(args, "Oy*:write_bytes", &offset, &source)) {
        return NULL;
    }
    Py_ssize_t size = source.len;
    int result = shd_buffer_check(self);
    if (result == 0) {
        result = shd_buffer_put(self, offset, source.buf, size);
    }
    PyBuffer_Release(&source);
    return result < 0 ? NULL : PyLong_FromSsize_t(size);
}

/* --- plain memory ---------------------------------------------------------------- */

static PyObject *
buffer_acquire_pointer(shd_buffer *self, PyObject *Py_UNUSED(ignored))
{
    char *address = shd_buffer_check(self) < 0 ? NULL : shd_buffer_enter(self);
    return address == NULL ? NULL : PyLong_FromVoidPtr(address);
}

static PyObject *
buffer_release_pointer(shd_buffer *self, PyObject *Py_UNUSED(ignored))
{
    if (shd_buffer_check(self) < 0
        || shd_events_settle(shd_life_release(&self->base)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static int
buffer_export(PyObject *self, Py_buffer *view, int flags)
{
    shd_buffer *buffer = (shd_buffer *)self;
    view->obj = NULL;
    char *address =
        shd_buffer_check(buffer) < 0 ? NULL : shd_buffer_enter(buffer);
    if (address == NULL) {
        return -1;
    }
    if (PyBuffer_FillInfo(view, self, address, buffer->length,
                          buffer->readonly, flags)
        < 0) {
        shd_buffer_leave(buffer);
        return -1;
    }
    return 0;
}

static void
buffer_unexport(PyObject *self, Py_buffer *Py_UNUSED(view))
{
    shd_buffer_leave((shd_buffer *)self);
}

/* --- making ------------------------------------------------------------------------ */

static int
buffer_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"owns_handle", NULL};
    shd_handle *handle = (shd_handle *)self;
    int owns = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|p:SafeBuffer", names,
                                     &owns)) {
        return -1;
    }
    if (atomic_load(&handle->state) != 0) {
        PyErr_Format(shd_interp_error(SHD_ERROR_STATE),
                     "%.200s is initialised already", Py_TYPE(self)->tp_name);
        return -1;
    }
    shd_handle_init(handle, 0, owns, SHD_INVALID_0);
    return 0;
}

static PyObject *
buffer_initialize(shd_buffer *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"count", "element_size", NULL};
    Py_ssize_t count, element = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n|n:initialize", names,
                                     &count, &element)) {
        return NULL;
    }
    if (count < 0 || element < 0) {
        PyErr_SetString(PyExc_ValueError, "a length must not be negative");
        return NULL;
    }
    Py_ssize_t length;
    if (__builtin_mul_overflow(count, element, &length)) {
        PyErr_SetString(PyExc_OverflowError,
                        "count * element_size is more than there can be");
        return NULL;
    }
    if (self->initialized) {
        PyErr_Format(shd_interp_error(SHD_ERROR_STATE),
                     "%.200s has its %zd bytes already",
                     Py_TYPE(self)->tp_name, self->length);
        return NULL;
    }
    shd_buffer_set(self, length, 0);
    Py_RETURN_NONE;
}

static PyObject *
get_byte_length(shd_buffer *self, void *Py_UNUSED(closure))
{
    return shd_buffer_check(self) < 0 ? NULL
                                      : PyLong_FromSsize_t(self->length);
}

static PyObject *
get_readonly(shd_buffer *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->readonly);
}

PyDoc_STRVAR(
    initialize_doc,
    "initialize($self, /, count, element_size=1)\n--\n\n"
    "Says how many bytes the memory has; needed once, before any use.\n\n"
    "Raises ValueError for negative numbers, OverflowError when the product "
    "is\n"
    "too big, HandleStateError when the length is known already.");
PyDoc_STRVAR(
    read_doc,
    "read($self, offset, format, /)\n--\n\n"
    "The value at `offset` in the terms of the struct module; a tuple unless\n"
    "`format` has exactly one value.\n\n"
    "Raises HandleStateError before initialize(), IndexError outside of the\n"
    "buffer, HandleClosedError when closed, OSError (EFAULT) when the file\n"
    "under a view was truncated.");
PyDoc_STRVAR(
    write_doc,
    "write($self, offset, format, value, /)\n--\n\n"
    "Writes `value`, or a tuple of values, in the terms of the struct "
    "module.\n\n"
    "Raises as read() does, and TypeError when the buffer is read-only.");
PyDoc_STRVAR(read_bytes_doc,
             "read_bytes($self, offset, size, /)\n--\n\n"
             "`size` bytes at `offset`; never fewer. Raises as read() does.");
PyDoc_STRVAR(read_into_doc, "read_into($self, offset, target, /)\n--\n\n"
                            "Fills `target`, a writable bytes-like object, "
                            "from `offset` on; returns its\n"
                            "size. Raises as read() does.");
PyDoc_STRVAR(
    write_bytes_doc,
    "write_bytes($self, offset, data, /)\n--\n\n"
    "Writes all of `data`, a bytes-like object; returns its size. Raises as\n"
    "write() does.");
PyDoc_STRVAR(
    acquire_doc,
    "acquire_pointer($self, /)\n--\n\n"
    "Takes a reference and returns the address, for native code. What lies\n"
    "beyond the end of a truncated file must not be touched through it.\n\n"
    "Raises HandleStateError before initialize(), HandleClosedError when "
    "closed.");
PyDoc_STRVAR(release_doc, "release_pointer($self, /)\n--\n\n"
                          "Drops the reference that acquire_pointer() took.");

static PyMethodDef buffer_methods[] = {
    {"initialize", (PyCFunction)(void (*)(void))buffer_initialize,
     METH_VARARGS | METH_KEYWORDS, initialize_doc},
    {"read", (PyCFunction)buffer_read, METH_VARARGS, read_doc},
    {"write", (PyCFunction)buffer_write, METH_VARARGS, write_doc},
    {"read_bytes", (PyCFunction)buffer_read_bytes, METH_VARARGS,
     read_bytes_doc},
    {"read_into", (PyCFunction)buffer_read_into, METH_VARARGS, read_into_doc},
    {"write_bytes", (PyCFunction)buffer_write_bytes, METH_VARARGS,
     write_bytes_doc},
    {"acquire_pointer", (PyCFunction)buffer_acquire_pointer, METH_NOARGS,
     acquire_doc},
    {"release_pointer", (PyCFunction)buffer_release_pointer, METH_NOARGS,
     release_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef buffer_getset[] = {
    {"byte_length", (getter)get_byte_length, NULL,
     "Bytes in the buffer; HandleStateError before initialize().", NULL},
    {"readonly", (getter)get_readonly, NULL,
     "True when the memory must not be written.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(
    buffer_doc,
    "SafeBuffer(owns_handle=True)\n--\n\n"
    "Memory as a handle: its value is an address.\n\n"
    "A subclass defines release_handle(), hands the address over with\n"
    "set_handle() and says its length with initialize(). Every access takes "
    "a\n"
    "reference, and so does every exported buffer: memoryview(buffer) keeps "
    "the\n"
    "memory until it is released, also when the handle is closed meanwhile.\n"
    "After the release the value is -1.");

static PyType_Slot buffer_slots[] = {
    {Py_tp_doc, (void *)buffer_doc},        {Py_tp_init, buffer_init},
    {Py_tp_dealloc, shd_handle_dealloc},    {Py_tp_methods, buffer_methods},
    {Py_tp_getset, buffer_getset},          {Py_bf_getbuffer, buffer_export},
    {Py_bf_releasebuffer, buffer_unexport}, {0, NULL},
};

static PyType_Spec buffer_spec = {
    .name = "safehandle_debug.SafeBuffer",
    .basicsize = sizeof(shd_buffer),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = buffer_slots,
};

int
shd_buffer_add(PyObject *module, shd_interp *state)
{
    PyTypeObject *type = shd_type_make(module, &buffer_spec, state->safe_zero);
    Py_XDECREF(type);
    return type == NULL ? -1 : 0;
}
