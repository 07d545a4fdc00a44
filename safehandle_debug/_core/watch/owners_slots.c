/* Exchanging functions in types, and in the subclasses that copied them. */
#include "owners_slots.h"

PyObject *
shd_type_own(PyTypeObject *type, const char *name)
{
    /* None of CPython's own static types since 3.12 is asked for. */
    if (type->tp_dict == NULL) {
        return NULL;
    }
    PyObject *found = PyDict_GetItemString(type->tp_dict, name);
    PyErr_Clear();
    return found;
}

static void
exchange(const shd_wrapped *wrapped, PyTypeObject *type, void *from, void *to)
{
    void **at = (void **)((char *)type + wrapped->slot);
    if (*at == from) {
        *at = to;
    }
    PyObject *attribute =
        wrapped->name == NULL ? NULL : shd_type_own(type, wrapped->name);
    if (attribute != NULL && Py_IS_TYPE(attribute, &PyWrapperDescr_Type)) {
        PyWrapperDescrObject *descriptor = (PyWrapperDescrObject *)attribute;
        if (descriptor->d_wrapped == from) {
            descriptor->d_wrapped = to;
        }
    }
    PyObject *subclasses = PyObject_CallMethod((PyObject *)&PyType_Type,
                                               "__subclasses__", "O", type);
    if (subclasses == NULL) {
        PyErr_Clear();
        return;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(subclasses); i++) {
        exchange(wrapped, (PyTypeObject *)PyList_GET_ITEM(subclasses, i), from,
                 to);
    }
    Py_DECREF(subclasses);
}

int
shd_slot_wrap(shd_wrapped *wrapped, PyTypeObject *type)
{
    void *present = *(void **)((char *)type + wrapped->slot);
    if (wrapped->type != NULL || present == NULL
        || present == wrapped->replacement) {
        return wrapped->type != NULL;
    }
    wrapped->original = present;
    wrapped->type = (PyTypeObject *)Py_NewRef(type);
    exchange(wrapped, type, present, wrapped->replacement);
    return 1;
}

void
shd_slot_restore(shd_wrapped *wrapped)
{
    if (wrapped->type != NULL) {
        exchange(wrapped, wrapped->type, wrapped->replacement,
                 wrapped->original);
        Py_CLEAR(wrapped->type);
    }
}

int
shd_method_wrap(shd_wrapped_method *wrapped, PyTypeObject *type)
{
    PyObject *attribute = shd_type_own(type, wrapped->name);
    if (wrapped->method != NULL || attribute == NULL
        || !(Py_IS_TYPE(attribute, &PyMethodDescr_Type)
             || Py_IS_TYPE(attribute, &PyClassMethodDescr_Type))) {
        return wrapped->method != NULL;
    }
    PyMethodDef *method = ((PyMethodDescrObject *)attribute)->d_method;
    if (method->ml_flags != wrapped->flags
        || method->ml_meth == wrapped->replacement) {
        return 0;
    }
    wrapped->original = method->ml_meth;
    wrapped->method = method;
    method->ml_meth = wrapped->replacement;
    return 1;
}

void
shd_method_restore(shd_wrapped_method *wrapped)
{
    if (wrapped->method != NULL
        && wrapped->method->ml_meth == wrapped->replacement) {
        wrapped->method->ml_meth = wrapped->original;
    }
    wrapped->method = NULL;
}
