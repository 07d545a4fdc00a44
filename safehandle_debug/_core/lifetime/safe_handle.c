/* SafeHandle and its two common bases: Python's view of the reference count. */
#include "events.h"

static int
safe_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"invalid_handle_value", "owns_handle", NULL};
    int64_t invalid;
    int owns = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|p:SafeHandle", names,
                                     shd_value_converter, &invalid, &owns)) {
        return -1;
    }
    return shd_handle_init_once((shd_handle *)self, invalid, owns, 0);
}

static int
init_with_rule(PyObject *self, PyObject *args, PyObject *kwargs,
               int64_t invalid)
{
    static char *names[] = {"owns_handle", NULL};
    int owns = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|p", names, &owns)) {
        return -1;
    }
    return shd_handle_init_once((shd_handle *)self, invalid, owns, 0);
}

static int
safe_zero_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return init_with_rule(self, args, kwargs, 0);
}

static int
safe_minus_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return init_with_rule(self, args, kwargs, -1);
}

static PyObject *
dangerous_get_handle(shd_handle *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLongLong(self->value);
}

static PyObject *
dangerous_add_ref(shd_handle *self, PyObject *Py_UNUSED(ignored))
{
    return shd_events_conclude(shd_life_add_ref(self));
}

static PyObject *
dangerous_release(shd_handle *self, PyObject *Py_UNUSED(ignored))
{
    return shd_events_conclude(shd_life_release(self));
}

static PyObject *
hold(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    shd_interp *state = shd_interp_get();
    if (state == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the interpreter is ending");
        return NULL;
    }
    return shd_hold_new(state, (shd_handle *)self);
}

static PyObject *
detach(shd_handle *self, PyObject *Py_UNUSED(ignored))
{
    int64_t value = self->value;
    if (shd_life_detach(self) < 0) {
        return NULL;
    }
    return PyLong_FromLongLong(value);
}

PyDoc_STRVAR(get_doc,
"dangerous_get_handle($self, /)\n--\n\n"
"The raw value in any state; nothing keeps it from being closed.");
PyDoc_STRVAR(add_ref_doc,
"dangerous_add_ref($self, /)\n--\n\n"
"Takes a reference: the resource stays until it is released.\n\n"
"Raises HandleClosedError when the handle is closed, HandleOverflowError at\n"
"2**30 - 1 references.");
PyDoc_STRVAR(release_doc,
"dangerous_release($self, /)\n--\n\n"
"Drops a reference that dangerous_add_ref() took.\n\n"
"Raises HandleClosedError when there is none left. Without an add-ref it\n"
"closes the handle under its owner, which is reported as double-release.");
PyDoc_STRVAR(hold_doc,
"hold($self, /)\n--\n\n"
"A reference for a with-block, which gets the raw value.\n\n"
"Raises HandleClosedError when the handle is closed.");
PyDoc_STRVAR(detach_doc,
"detach($self, /)\n--\n\n"
"Gives up ownership and returns the value; the handle is closed, its ending\n"
"is `transferred`.\n\n"
"Raises HandleClosedError when it is closed, HandleStateError while others\n"
"hold references.");

static PyMethodDef safe_methods[] = {
    {"dangerous_get_handle", (PyCFunction)dangerous_get_handle, METH_NOARGS,
     get_doc},
    {"dangerous_add_ref", (PyCFunction)dangerous_add_ref, METH_NOARGS,
     add_ref_doc},
    {"dangerous_release", (PyCFunction)dangerous_release, METH_NOARGS,
     release_doc},
    {"hold", hold, METH_NOARGS, hold_doc},
    {"detach", (PyCFunction)detach, METH_NOARGS, detach_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(safe_doc,
"SafeHandle(invalid_handle_value, owns_handle=True)\n--\n\n"
"The one owner of one resource of the operating system.\n\n"
"A subclass defines release_handle() and is_invalid, and hands the resource\n"
"over with set_handle(). The resource is given back once: by close(), at the\n"
"end of a with-block, when the last reference taken with hold() goes, or by\n"
"the critical finalizer.\n\n"
"Class attributes: handle_kind (str) names the resource in reports;\n"
"release_inherited (bool): the finalizer of a forked child may run the hook\n"
"for handles that the parent acquired.");

static PyType_Slot safe_slots[] = {
    {Py_tp_doc, (void *)safe_doc},
    {Py_tp_init, safe_init},
    {Py_tp_dealloc, shd_handle_dealloc},
    {Py_tp_methods, safe_methods},
    {0, NULL},
};

static PyType_Spec safe_spec = {
    .name = "safehandle_debug.SafeHandle",
    .basicsize = sizeof(shd_handle),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = safe_slots,
};

static PyType_Slot safe_zero_slots[] = {
    {Py_tp_doc, (void *)"A SafeHandle whose invalid values are 0 and -1."},
    {Py_tp_init, safe_zero_init},
    {Py_tp_dealloc, shd_handle_dealloc},
    {0, NULL},
};

static PyType_Spec safe_zero_spec = {
    .name = "safehandle_debug.SafeHandleZeroOrMinusOneIsInvalid",
    .basicsize = sizeof(shd_handle),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = safe_zero_slots,
};

static PyType_Slot safe_minus_slots[] = {
    {Py_tp_doc, (void *)"A SafeHandle whose invalid value is -1."},
    {Py_tp_init, safe_minus_init},
    {Py_tp_dealloc, shd_handle_dealloc},
    {0, NULL},
};

static PyType_Spec safe_minus_spec = {
    .name = "safehandle_debug.SafeHandleMinusOneIsInvalid",
    .basicsize = sizeof(shd_handle),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = safe_minus_slots,
};

int
shd_safe_handle_add(PyObject *module, shd_interp *state)
{
    static const shd_native zero = {&shd_kind_python,
                                    SHD_RULE_ZERO_OR_MINUS_ONE};
    static const shd_native minus = {&shd_kind_python, SHD_RULE_MINUS_ONE};
    state->safe = shd_type_make(module, &safe_spec, state->handle);
    if (state->safe == NULL) {
        return -1;
    }
    int result = -1;
    PyTypeObject *safe_minus = NULL;
    state->safe_zero = shd_type_make(module, &safe_zero_spec, state->safe);
    if (state->safe_zero != NULL
        && shd_type_mark(state->safe_zero, &zero) == 0) {
        safe_minus = shd_type_make(module, &safe_minus_spec, state->safe);
    }
    if (safe_minus != NULL) {
        result = shd_type_mark(safe_minus, &minus);
    }
    Py_XDECREF(safe_minus);
    return result;
}
