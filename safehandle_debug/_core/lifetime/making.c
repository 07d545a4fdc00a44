/* Making handle objects, and unmaking them; acquisition in one call. */
#include "events.h"

PyObject *
shd_handle_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
               PyObject *Py_UNUSED(kwargs))
{
    if (shd_type_check_concrete(type) < 0 || shd_critical_prepare(type) < 0) {
        return NULL;
    }
    shd_handle *self = (shd_handle *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->base.bits = SHD_IS_HANDLE;
    }
    return (PyObject *)self;
}

void
shd_handle_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    shd_handle *handle = (shd_handle *)self;
    if (handle->weaklist != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    shd_life_dealloc(handle);
    type->tp_free(self);
    Py_DECREF(type);
}

void
shd_handle_init(shd_handle *handle, int64_t value, int owns, uint64_t bits)
{
    handle->base.bits |= bits | (owns ? SHD_OWNS : 0);
    handle->value = value;
    atomic_store(&handle->state, SHD_ONE_REF);
}

int
shd_handle_init_once(shd_handle *handle, int64_t invalid, int owns,
                     uint64_t bits)
{
    if (atomic_load(&handle->state) != 0) {
        PyErr_Format(shd_interp_error(SHD_ERROR_STATE),
                     "%.200s is initialised already",
                     Py_TYPE(handle)->tp_name);
        return -1;
    }
    if (invalid == 0) {
        bits |= SHD_INVALID_0;
    }
    else if (invalid == -1) {
        bits |= SHD_INVALID_1;
    }
    shd_handle_init(handle, invalid, owns, bits);
    return 0;
}

shd_handle *
shd_handle_blank(PyTypeObject *type, int64_t invalid)
{
    if (PyType_HasFeature(type, Py_TPFLAGS_IMMUTABLETYPE)) {
        /* A C type as it is, no subclass with a constructor of its own. */
        shd_handle *handle = (shd_handle *)shd_handle_new(type, NULL, NULL);
        if (handle != NULL) {
            shd_handle_init(handle, invalid, 1,
                            invalid ? SHD_INVALID_1 : SHD_INVALID_0);
        }
        return handle;
    }
    PyObject *object = PyObject_CallNoArgs((PyObject *)type);
    if (object == NULL) {
        return NULL;
    }
    shd_handle *handle = (shd_handle *)object;
    if (!PyObject_TypeCheck(object, type)
        || atomic_load(&handle->state) != SHD_ONE_REF
        || shd_has(handle, SHD_VALUED) || !shd_has(handle, SHD_OWNS)) {
        PyErr_Format(PyExc_TypeError,
                     "%.200s() must give a new owning handle without a value",
                     type->tp_name);
        Py_DECREF(object);
        return NULL;
    }
    return handle;
}

shd_handle *
shd_handle_begin(PyTypeObject *type, int64_t invalid, uint32_t *slot)
{
    shd_handle *handle = shd_handle_blank(type, invalid);
    if (handle == NULL) {
        return NULL;
    }
    *slot = shd_table_take();
    if (*slot == 0) {
        Py_DECREF(handle);
        PyErr_NoMemory();
        return NULL;
    }
    return handle;
}

PyObject *
shd_handle_complete(shd_handle *handle, uint32_t slot, int64_t value,
                    PyObject *detail)
{
    shd_life_acquire(handle, value, slot, detail);
    if (shd_events_settle(0) < 0) {
        Py_CLEAR(handle);
    }
    return (PyObject *)handle;
}

PyObject *
shd_handle_abandon(shd_handle *handle, uint32_t slot)
{
    shd_table_give(slot);
    Py_DECREF(handle);
    return NULL;
}
