/* SafeNCryptHandle, and all the types below it: keys and secrets stand on
 * providers, and nothing stands on this file. */
#include "crypto.h"

PyDoc_STRVAR(base_doc,
"SafeNCryptHandle(value=0, owns_handle=True)\n--\n\n"
"Base of the handles on OpenSSL 3's libcrypto, which is loaded when the first\n"
"of them is made. Their values are addresses of the library's objects.\n\n"
"Abstract: a subclass of one's own defines release_handle().\n\n"
"Raises HandleNotSupportedError where the library is not installed.");

static PyType_Slot base_slots[] = {
    {Py_tp_doc, (void *)base_doc},
    {Py_tp_init, shd_crypto_init},
    {Py_tp_dealloc, shd_handle_dealloc},
    {0, NULL},
};

static PyType_Spec base_spec = {
    .name = "safehandle_debug.SafeNCryptHandle",
    .basicsize = sizeof(shd_handle),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = base_slots,
};

int
shd_crypto_add(PyObject *module, shd_interp *state)
{
    PyTypeObject *base = shd_type_make(module, &base_spec, state->safe_zero);
    int result = base == NULL || shd_crypto_provider_add(module, base) < 0
                         || shd_crypto_key_add(module, base) < 0
                         || shd_crypto_secret_add(module, base) < 0
                     ? -1
                     : 0;
    Py_XDECREF(base);
    return result;
}
