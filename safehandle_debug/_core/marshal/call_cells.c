/* Out and Ref: places that a native call writes to. */
#include "call.h"

#include <structmember.h>

static int
cell_traverse(shd_cell *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->value);
    return 0;
}

static int
cell_clear(shd_cell *self)
{
    Py_CLEAR(self->value);
    return 0;
}

static void
cell_dealloc(shd_cell *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->value);
    type->tp_free(self);
    Py_DECREF(type);
}

static int
ref_init(shd_cell *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"value", NULL};
    PyObject *value;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Ref", names, &value)) {
        return -1;
    }
    Py_XSETREF(self->value, Py_NewRef(value));
    return 0;
}

static int
out_init(shd_cell *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    return PyArg_ParseTupleAndKeywords(args, kwargs, ":Out", names) ? 0 : -1;
}

static PyObject *
cell_repr(shd_cell *self)
{
    if (self->value == NULL) {
        return PyUnicode_FromFormat("%s()", _PyType_Name(Py_TYPE(self)));
    }
    return PyUnicode_FromFormat("<%s value=%R>", _PyType_Name(Py_TYPE(self)),
                                self->value);
}

static PyMemberDef cell_members[] = {
    {"value", T_OBJECT_EX, offsetof(shd_cell, value), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef cell_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(ref_doc,
             "Ref(value)\n--\n\n"
             "A variable that a native function reads and may write.\n\n"
             "A handle stays the same object unless native code wrote another "
             "number; then\n"
             "`value` is a new handle, and the old one is still open.");
PyDoc_STRVAR(out_doc, "Out()\n--\n\n"
                      "A variable that a native function writes: `value` "
                      "afterwards. A handle of\n"
                      "which nothing was written is invalid.");

#define CELL_SLOTS(name, doc, init)                                           \
    static PyType_Slot name[] = {                                             \
        {Py_tp_doc, (void *)doc},                                             \
        {Py_tp_new, PyType_GenericNew},                                       \
        {Py_tp_init, init},                                                   \
        {Py_tp_repr, cell_repr},                                              \
        {Py_tp_traverse, cell_traverse},                                      \
        {Py_tp_clear, cell_clear},                                            \
        {Py_tp_dealloc, cell_dealloc},                                        \
        {Py_tp_members, cell_members},                                        \
        {Py_tp_methods, cell_methods},                                        \
        {0, NULL},                                                            \
    }

CELL_SLOTS(ref_slots, ref_doc, ref_init);
CELL_SLOTS(out_slots, out_doc, out_init);

static PyType_Spec ref_spec = {
    .name = "safehandle_debug.marshal.Ref",
    .basicsize = sizeof(shd_cell),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = ref_slots,
};

static PyType_Spec out_spec = {
    .name = "safehandle_debug.marshal.Out",
    .basicsize = sizeof(shd_cell),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = out_slots,
};

/* Each interpreter has types of its own; their deallocator is one. */
static int
has_init(PyObject *object, initproc init)
{
    return Py_TYPE(object)->tp_init == init;
}

int
shd_cell_is_ref(PyObject *object)
{
    return has_init(object, (initproc)(void (*)(void))ref_init);
}

int
shd_cell_is_out(PyObject *object)
{
    return has_init(object, (initproc)(void (*)(void))out_init);
}

int
shd_cells_add(PyObject *module)
{
    PyTypeObject *ref = shd_type_make(module, &ref_spec, NULL);
    PyTypeObject *out = shd_type_make(module, &out_spec, NULL);
    int result = ref == NULL || out == NULL ? -1 : 0;
    Py_XDECREF(ref);
    Py_XDECREF(out);
    return result;
}
