/* SafeNCryptProviderHandle: OpenSSL's providers.
 *
 * A provider is loaded into a context of its own.  Loaded into the library's
 * default one, it would switch off the algorithms that hashlib and ssl find
 * there, and two handles of one provider would be one object with two owners.
 * The context is the live table's extra: its keys live in it and must be gone
 * before, so every key holds a reference of its provider. */
#include "crypto.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    shd_ossl_context *context;
    /* "default" beside another provider: it has the digests and the random
       numbers that most leave to it. */
    shd_ossl_provider *companion;
} provider_extra;

/* After the provider itself.  The companion is unloaded for itself: the context
   alone would free it and keep what it had loaded. */
static void
unload_context(provider_extra *extra)
{
    if (extra->companion != NULL) {
        shd_ossl.OSSL_PROVIDER_unload(extra->companion);
    }
    /* What it has cached of the providers goes with it. */
    shd_ossl.OSSL_LIB_CTX_free(extra->context);
}

/* NULL with the library's error noted; nothing is left in `extra` then. */
static shd_ossl_provider *
load_provider(const char *name, provider_extra *extra)
{
    shd_ossl_provider *provider = NULL;
    shd_ossl.ERR_clear_error();
    extra->context = shd_ossl.OSSL_LIB_CTX_new();
    if (extra->context == NULL) {
        return NULL;
    }
    int alone = strcmp(name, "default") == 0;
    if (!alone) {
        extra->companion =
            shd_ossl.OSSL_PROVIDER_load(extra->context, "default");
    }
    if (alone || extra->companion != NULL) {
        provider = shd_ossl.OSSL_PROVIDER_load(extra->context, name);
    }
    if (provider == NULL) {
        unload_context(extra);
    }
    return provider;
}

static int
provider_release(int64_t value, void *extra)
{
    int error = 0;
    if (shd_crypto_usable()) {
        shd_ossl_provider *provider = (shd_ossl_provider *)(intptr_t)value;
        error = shd_ossl.OSSL_PROVIDER_unload(provider) ? 0 : EINVAL;
        if (extra != NULL) {
            unload_context(extra);
        }
    }
    free(extra);
    return error;
}

shd_handle *
shd_crypto_provider_of(PyObject *object)
{
    if (object == Py_None) {
        PyErr_SetString(shd_interp_error(SHD_ERROR_NULL),
                        "provider must be a handle, not None");
        return NULL;
    }
    const shd_kind *kind = shd_type_native_kind(Py_TYPE(object));
    if (kind == NULL || kind->number != SHD_KIND_PROVIDER) {
        PyErr_Format(PyExc_TypeError,
                     "provider must be a SafeNCryptProviderHandle, not "
                     "%.200s",
                     Py_TYPE(object)->tp_name);
        return NULL;
    }
    return (shd_handle *)object;
}

shd_ossl_context *
shd_crypto_context(shd_handle *provider)
{
    provider_extra *extra = shd_table_extra(provider->slot);
    return extra == NULL ? NULL : extra->context;
}

static PyObject *
provider_load(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name", NULL};
    PyObject *name;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U:load", names, &name)) {
        return NULL;
    }
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(name, &size);
    if (text == NULL) {
        return NULL;
    }
    if (size == 0 || strlen(text) != (size_t)size) {
        PyErr_SetString(PyExc_ValueError,
                        "name must be a provider's, such as 'default'");
        return NULL;
    }
    uint32_t slot;
    shd_handle *handle =
        shd_crypto_load() < 0
            ? NULL
            : shd_handle_begin((PyTypeObject *)type, 0, &slot);
    if (handle == NULL) {
        return NULL;
    }
    provider_extra *extra = calloc(1, sizeof(*extra));
    if (extra == NULL || shd_table_set_extra(slot, extra) < 0) {
        free(extra);
        PyErr_NoMemory();
        return shd_handle_abandon(handle, slot);
    }
    shd_ossl_provider *provider;
    Py_BEGIN_ALLOW_THREADS
    provider = load_provider(text, extra);
    Py_END_ALLOW_THREADS
    if (provider == NULL) {
        shd_crypto_error("OpenSSL cannot load the provider %R", name);
        free(shd_table_take_extra(slot));
        return shd_handle_abandon(handle, slot);
    }
    return shd_handle_complete(handle, slot, (intptr_t)provider, name);
}

/* --- the type ------------------------------------------------------------- */

PyDoc_STRVAR(load_doc,
"load($type, /, name)\n--\n\n"
"Loads a provider: 'default', 'legacy', 'base', or one that is installed.\n"
"It serves this handle's keys alone, not hashlib or ssl.\n\n"
"Raises HandleNotSupportedError when OpenSSL has no such provider.");

static PyMethodDef provider_methods[] = {
    {"load", (PyCFunction)(void (*)(void))provider_load,
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, load_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(provider_doc,
"SafeNCryptProviderHandle(value=0, owns_handle=True)\n--\n\n"
"A provider of algorithms, an OSSL_PROVIDER. It is unloaded after the keys\n"
"that were made from it, whatever is closed first.");

static PyType_Slot provider_slots[] = {
    {Py_tp_doc, (void *)provider_doc},
    {Py_tp_init, shd_crypto_init},
    {Py_tp_dealloc, shd_handle_dealloc},
    {Py_tp_methods, provider_methods},
    {0, NULL},
};

static PyType_Spec provider_spec = {
    .name = "safehandle_debug.SafeNCryptProviderHandle",
    .basicsize = sizeof(shd_handle),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = provider_slots,
};

int
shd_crypto_provider_add(PyObject *module, PyTypeObject *base)
{
    /* `forget` leaves the context: a provider that was detached lives in it. */
    static const shd_kind kind = {
        .number = SHD_KIND_PROVIDER,
        .name = "provider",
        .space = "provider",
        .release = provider_release,
        .forget = free,
    };
    static const shd_native native = {&kind, SHD_RULE_ZERO_OR_MINUS_ONE};
    return shd_crypto_add_type(module, &provider_spec, base, &native);
}
