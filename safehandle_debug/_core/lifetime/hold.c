/* Hold: one reference of a handle for the length of a with-block.
 *
 * The reference is taken when the object is made, in one C call, and belongs
 * to the object: an interrupt between hold() and the block drops the object,
 * and with it the reference. */
#include "events.h"

typedef struct {
    PyObject_HEAD
    shd_handle *handle;
    int active;
} hold;

PyObject *
shd_hold_new(shd_interp *state, shd_handle *handle)
{
    hold *self = PyObject_GC_New(hold, state->hold);
    if (self == NULL) {
        return NULL;
    }
    self->handle = NULL;
    self->active = 0;
    if (shd_life_add_ref(handle) < 0) {
        PyObject_GC_Track(self);
        Py_DECREF(self);
        return NULL;
    }
    self->handle = (shd_handle *)Py_NewRef(handle);
    self->active = 1;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static PyObject *
hold_enter(hold *self, PyObject *Py_UNUSED(ignored))
{
    if (!self->active) {
        PyErr_SetString(shd_interp_error(SHD_ERROR_STATE),
                        "this hold has ended: call hold() again");
        return NULL;
    }
    return PyLong_FromLongLong(self->handle->value);
}

/* Gives the reference back.  Somebody may have released it by mistake; where
   that closed the handle under its owner it has been told already, and where
   it completed a pending close it is told here, since nobody saw it. */
static int
give_back(shd_handle *handle)
{
    uint32_t state = atomic_load(&handle->state);
    if (shd_refs(state) > 0) {
        return shd_life_release(handle);
    }
    if (state & SHD_DISPOSED) {
        shd_events_emit(handle, SHD_EVENT_DOUBLE_RELEASE, 0, 0, 0,
                        handle->value,
                        "somebody had released the reference of this hold");
    }
    return 0;
}

static PyObject *
hold_exit(hold *self, PyObject *const *Py_UNUSED(args),
          Py_ssize_t Py_UNUSED(nargs))
{
    if (!self->active) {
        /* An event, not an error: the second exit must not mask what the
           block raised. */
        shd_handle *handle = self->handle;
        shd_events_emit(handle, SHD_EVENT_DOUBLE_RELEASE,
                        shd_refs(atomic_load(&handle->state)), 0, 0,
                        handle->value, "the hold had ended before");
        if (shd_events_settle(0) < 0) {
            return NULL;
        }
        Py_RETURN_NONE;
    }
    self->active = 0;
    if (shd_events_settle(give_back(self->handle)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static int
hold_traverse(hold *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->handle);
    return 0;
}

static void
hold_dealloc(hold *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->active) {
        PyObject *error_type, *error, *traceback;
        PyErr_Fetch(&error_type, &error, &traceback);
        self->active = 0;
        if (give_back(self->handle) < 0) {
            PyErr_WriteUnraisable((PyObject *)type);
        }
        PyErr_Restore(error_type, error, traceback);
    }
    Py_CLEAR(self->handle);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef hold_methods[] = {
    {"__enter__", (PyCFunction)hold_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))hold_exit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(hold_doc,
"One reference of a handle, dropped when the with-block ends.\n\n"
"Made by SafeHandle.hold(). Dropping it without a block drops the reference\n"
"too.");

static PyType_Slot hold_slots[] = {
    {Py_tp_doc, (void *)hold_doc},
    {Py_tp_methods, hold_methods},
    {Py_tp_traverse, hold_traverse},
    {Py_tp_dealloc, hold_dealloc},
    {0, NULL},
};

static PyType_Spec hold_spec = {
    .name = "safehandle_debug.Hold",
    .basicsize = sizeof(hold),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = hold_slots,
};

int
shd_hold_add(PyObject *module, shd_interp *state)
{
    state->hold = shd_type_make(module, &hold_spec, NULL);
    return state->hold == NULL ? -1 : 0;
}
