/* The CriticalHandle family: no reference count, closed at once.
 *
 * For resources whose calls never outlive their owner; and the negative
 * example for everything that counts references. */
#include "handle.h"

static int
init_critical(PyObject *self, int64_t invalid)
{
    return shd_handle_init_once((shd_handle *)self, invalid, 1,
                                SHD_IS_CRITICAL);
}

static int
critical_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"invalid_handle_value", NULL};
    int64_t invalid;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&:CriticalHandle", names,
                                     shd_value_converter, &invalid)) {
        return -1;
    }
    return init_critical(self, invalid);
}

static int
init_without_arguments(PyObject *self, PyObject *args, PyObject *kwargs,
                       int64_t invalid)
{
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "", names)) {
        return -1;
    }
    return init_critical(self, invalid);
}

static int
critical_zero_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return init_without_arguments(self, args, kwargs, 0);
}

static int
critical_minus_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return init_without_arguments(self, args, kwargs, -1);
}

PyDoc_STRVAR(zero_doc,
"CriticalHandleZeroOrMinusOneIsInvalid()\n--\n\n"
"A CriticalHandle whose invalid values are 0 and -1.");
PyDoc_STRVAR(minus_doc,
"CriticalHandleMinusOneIsInvalid()\n--\n\n"
"A CriticalHandle whose invalid value is -1.");
PyDoc_STRVAR(critical_doc,
"CriticalHandle(invalid_handle_value)\n--\n\n"
"A handle without a reference count: close() closes at once, also while\n"
"somebody uses it. Critical finalization and recording are those of\n"
"SafeHandle.");

static PyType_Slot critical_slots[] = {
    {Py_tp_doc, (void *)critical_doc},
    {Py_tp_init, critical_init},
    {Py_tp_dealloc, shd_handle_dealloc},
    {0, NULL},
};

static PyType_Spec critical_spec = {
    .name = "safehandle_debug.CriticalHandle",
    .basicsize = sizeof(shd_handle),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = critical_slots,
};

static PyType_Slot zero_slots[] = {
    {Py_tp_doc, (void *)zero_doc},
    {Py_tp_init, critical_zero_init},
    {Py_tp_dealloc, shd_handle_dealloc},
    {0, NULL},
};

static PyType_Spec zero_spec = {
    .name = "safehandle_debug.CriticalHandleZeroOrMinusOneIsInvalid",
    .basicsize = sizeof(shd_handle),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = zero_slots,
};

static PyType_Slot minus_slots[] = {
    {Py_tp_doc, (void *)minus_doc},
    {Py_tp_init, critical_minus_init},
    {Py_tp_dealloc, shd_handle_dealloc},
    {0, NULL},
};

static PyType_Spec minus_spec = {
    .name = "safehandle_debug.CriticalHandleMinusOneIsInvalid",
    .basicsize = sizeof(shd_handle),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = minus_slots,
};

int
shd_critical_handle_add(PyObject *module, shd_interp *state)
{
    static const shd_native zero = {&shd_kind_python,
                                    SHD_RULE_ZERO_OR_MINUS_ONE};
    static const shd_native minus = {&shd_kind_python, SHD_RULE_MINUS_ONE};
    PyTypeObject *base = shd_type_make(module, &critical_spec, state->handle);
    if (base == NULL) {
        return -1;
    }
    PyTypeObject *zero_type = shd_type_make(module, &zero_spec, base);
    PyTypeObject *minus_type = shd_type_make(module, &minus_spec, base);
    int result = zero_type == NULL || minus_type == NULL
                         || shd_type_mark(zero_type, &zero) < 0
                         || shd_type_mark(minus_type, &minus) < 0
                     ? -1
                     : 0;
    Py_DECREF(base);
    Py_XDECREF(zero_type);
    Py_XDECREF(minus_type);
    return result;
}
