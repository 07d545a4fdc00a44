/* The module: its types and constants. */
#include "index.h"

idx_types *
idx_types_of(PyTypeObject *type)
{
    return PyType_GetModuleState(type);
}

static PyTypeObject *
add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type != NULL && PyModule_AddType(module, (PyTypeObject *)type) < 0) {
        Py_CLEAR(type);
    }
    return (PyTypeObject *)type;
}

static const struct {
    const char *name;
    int number;
} constants[] = {
    {"BUCKETS", IDX_BUCKETS}, {"LIFETIMES", IDX_LIFETIMES},
    {"NONE", IDX_NONE},       {"STACK", IDX_STACK},
    {"TYPE", IDX_TYPE},       {"THREAD", IDX_THREAD},
    {"TASK", IDX_TASK},       {"TEST", IDX_TEST},
    {"DETAIL", IDX_DETAIL},   {"STATE", IDX_STATE},
    {"NUMBER", IDX_NUMBER},   {"SERIAL", IDX_SERIAL},
    {"VALUE", IDX_VALUE},     {"REFS", IDX_REFS},
    {"AGE", IDX_AGE},         {"BIRTH", IDX_BIRTH},
    {"PID", IDX_PID},
};

static int
index_exec(PyObject *module)
{
    idx_types *types = PyModule_GetState(module);
    types->slots = add_type(module, &idx_slots_spec);
    types->handles = add_type(module, &idx_handles_spec);
    types->question = add_type(module, &idx_question_spec);
    PyTypeObject *rest[] = {add_type(module, &idx_index_spec),
                            add_type(module, &idx_selection_spec)};
    bool failed = types->slots == NULL || types->handles == NULL
                  || types->question == NULL || rest[0] == NULL
                  || rest[1] == NULL;
    Py_XDECREF(rest[0]);
    Py_XDECREF(rest[1]);
    size_t count = sizeof(constants) / sizeof(constants[0]);
    for (size_t at = 0; !failed && at < count; at++) {
        failed = PyModule_AddIntConstant(module, constants[at].name,
                                         constants[at].number)
                 < 0;
    }
    return failed ? -1 : 0;
}

static int
index_traverse(PyObject *module, visitproc visit, void *arg)
{
    idx_types *types = PyModule_GetState(module);
    Py_VISIT(types->slots);
    Py_VISIT(types->handles);
    Py_VISIT(types->question);
    return 0;
}

static int
index_clear(PyObject *module)
{
    idx_types *types = PyModule_GetState(module);
    Py_CLEAR(types->slots);
    Py_CLEAR(types->handles);
    Py_CLEAR(types->question);
    return 0;
}

static PyMethodDef module_functions[] = {
    {"copied", idx_copied, METH_VARARGS, idx_copied_doc},
    {NULL},
};

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, index_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef index_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_index",
    .m_doc = "What a reader keeps of a recording's events.",
    .m_size = sizeof(idx_types),
    .m_methods = module_functions,
    .m_slots = module_slots,
    .m_traverse = index_traverse,
    .m_clear = index_clear,
};

PyMODINIT_FUNC
PyInit__index(void)
{
    return PyModuleDef_Init(&index_module);
}
