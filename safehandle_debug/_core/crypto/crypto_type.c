/* What the types on OpenSSL share: constructor and registration. */
#include "crypto.h"

int
shd_crypto_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"value", "owns_handle", NULL};
    int64_t value = 0;
    int owns = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O&p", names,
                                     shd_value_converter, &value, &owns)
        || shd_crypto_load() < 0) {
        return -1;
    }
    return shd_handle_init_value((shd_handle *)self, 0, value, owns);
}

int
shd_crypto_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base,
                    const shd_native *native)
{
    PyTypeObject *type = shd_type_make(module, spec, base);
    int result = type == NULL ? -1 : shd_type_mark(type, native);
    Py_XDECREF(type);
    return result;
}
