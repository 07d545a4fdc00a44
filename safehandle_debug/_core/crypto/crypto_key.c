/* SafeNCryptKeyHandle: an EVP_PKEY.
 *
 * OpenSSL counts the references of a key itself: a duplicate is a handle of its
 * own with one of those, and the key is freed when the last is gone. */
#include "crypto.h"

#include <stdlib.h>
#include <strings.h>

static int
key_release(int64_t value, void *extra)
{
    if (shd_crypto_usable()) {
        shd_ossl.EVP_PKEY_free((shd_ossl_key *)(intptr_t)value);
    }
    free(extra);
    return 0;
}

static PyObject *
abandon(shd_handle *handle, uint32_t slot)
{
    shd_crypto_drop_provider(slot);
    return shd_handle_abandon(handle, slot);
}

/* --- acquisition ---------------------------------------------------------- */

typedef struct {
    const char *algorithm;
    const char *group;
    int bits;
    shd_ossl_context *context;
    char properties[128];
} recipe;

/* NULL with the library's error noted.  Without the GIL: an RSA key takes a
   while. */
static shd_ossl_key *
make_key(const recipe *made)
{
    shd_ossl_key *key = NULL;
    shd_ossl.ERR_clear_error();
    shd_ossl_operation *operation = shd_ossl.EVP_PKEY_CTX_new_from_name(
        made->context, made->algorithm,
        made->properties[0] ? made->properties : NULL);
    if (operation != NULL && shd_ossl.EVP_PKEY_keygen_init(operation) > 0
        && (made->group == NULL
            || shd_ossl.EVP_PKEY_CTX_set_group_name(operation, made->group)
                   > 0)
        && (made->bits == 0
            || shd_ossl.EVP_PKEY_CTX_set_rsa_keygen_bits(operation, made->bits)
                   > 0)
        && shd_ossl.EVP_PKEY_generate(operation, &key) <= 0) {
        key = NULL;
    }
    shd_ossl.EVP_PKEY_CTX_free(operation);
    return key;
}

/* Asks that provider and no other; -1 with an exception. */
static int
ask_provider(recipe *made, shd_handle *provider)
{
    shd_ossl_provider *value = (shd_ossl_provider *)(intptr_t)provider->value;
    if (provider->value == 0 || provider->value == -1) {
        PyErr_SetString(shd_interp_error(SHD_ERROR_STATE),
                        "the provider's handle holds none: load() makes one");
        return -1;
    }
    int size =
        snprintf(made->properties, sizeof(made->properties), "provider=%s",
                 shd_ossl.OSSL_PROVIDER_get0_name(value));
    if (size >= (int)sizeof(made->properties)) {
        PyErr_SetString(PyExc_ValueError, "the provider's name is too long");
        return -1;
    }
    made->context = shd_crypto_context(provider);
    return 0;
}

static PyObject *
key_generate(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"algorithm", "provider", "group", "bits", NULL};
    recipe made = {.bits = 0};
    PyObject *provider = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|O$zi:generate", names,
                                     &made.algorithm, &provider, &made.group,
                                     &made.bits)) {
        return NULL;
    }
    if (made.bits < 0) {
        PyErr_SetString(PyExc_ValueError, "bits must not be negative");
        return NULL;
    }
    if (made.group == NULL && strcasecmp(made.algorithm, "EC") == 0) {
        made.group = "P-256";
    }
    if (shd_crypto_load() < 0
        || (provider != Py_None && shd_crypto_provider_of(provider) == NULL)) {
        return NULL;
    }
    PyObject *detail =
        made.group == NULL
            ? PyUnicode_FromString(made.algorithm)
            : PyUnicode_FromFormat("%s %s", made.algorithm, made.group);
    uint32_t slot;
    shd_handle *handle =
        detail == NULL ? NULL
                       : shd_handle_begin((PyTypeObject *)type, 0, &slot);
    PyObject *result = NULL;
    if (handle == NULL) {
        Py_XDECREF(detail);
        return NULL;
    }
    if (provider != Py_None
        && (shd_crypto_hold_provider(slot, (shd_handle *)provider) < 0
            || ask_provider(&made, (shd_handle *)provider) < 0)) {
        abandon(handle, slot);
    }
    else {
        shd_ossl_key *key;
        Py_BEGIN_ALLOW_THREADS
        key = make_key(&made);
        Py_END_ALLOW_THREADS
        if (key != NULL) {
            result = shd_handle_complete(handle, slot, (intptr_t)key, detail);
        }
        else {
            shd_crypto_error("OpenSSL cannot generate a key of %R", detail);
            abandon(handle, slot);
        }
    }
    Py_DECREF(detail);
    return result;
}

static PyObject *
key_duplicate(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    /* The object first: nothing can fail once the key has its reference. */
    PyObject *detail = PyUnicode_FromFormat(
        "duplicate of #%llu",
        (unsigned long long)shd_serial((shd_handle *)self));
    uint32_t slot;
    shd_handle *handle =
        detail == NULL ? NULL : shd_handle_begin(Py_TYPE(self), 0, &slot);
    PyObject *result = NULL;
    shd_crypto_use use;
    if (handle == NULL) {
        Py_XDECREF(detail);
        return NULL;
    }
    /* A reference: another thread's dispose() waits for the up_ref. */
    if (shd_crypto_use_begin(&use, self) < 0) {
        shd_handle_abandon(handle, slot);
        Py_DECREF(detail);
        return NULL;
    }
    if (use.provider != NULL
        && shd_crypto_hold_provider(slot, use.provider) < 0) {
        shd_handle_abandon(handle, slot);
    }
    else if (!shd_ossl.EVP_PKEY_up_ref(use.value)) {
        shd_crypto_error("OpenSSL cannot share the key of %R", self);
        abandon(handle, slot);
    }
    else {
        result =
            shd_handle_complete(handle, slot, (intptr_t)use.value, detail);
    }
    shd_crypto_use_end(&use);
    Py_DECREF(detail);
    return result;
}

/* --- use ------------------------------------------------------------------ */

static PyObject *
key_public(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    shd_crypto_use use;
    if (shd_crypto_use_begin(&use, self) < 0) {
        return NULL;
    }
    PyObject *der = shd_crypto_public_key(&use);
    shd_crypto_use_end(&use);
    return der;
}

/* --- the type ------------------------------------------------------------- */

static int
key_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"value", "owns_handle", "provider", NULL};
    int64_t value = 0;
    int owns = 1;
    PyObject *parent = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O&p$O", names,
                                     shd_value_converter, &value, &owns,
                                     &parent)
        || shd_crypto_load() < 0) {
        return -1;
    }
    shd_handle *handle = (shd_handle *)self;
    if (parent == Py_None) {
        return shd_handle_init_value(handle, 0, value, owns);
    }
    shd_handle *provider = shd_crypto_provider_of(parent);
    /* Before the key has its value: it must never be without its provider. */
    if (provider == NULL || shd_life_add_ref(provider) < 0) {
        return -1;
    }
    int result = shd_handle_init_value(handle, 0, value, owns);
    if (result == 0 && handle->slot != 0) {
        result = shd_crypto_hold_provider(handle->slot, provider);
        if (result < 0) {
            shd_life_invalidate(handle); /* not ours to free, then */
        }
    }
    /* With the key's own reference or, for an invalid key, with none: its
       release, which would drop it, never runs. */
    shd_life_let_go(provider);
    return result;
}

PyDoc_STRVAR(generate_doc,
"generate($type, /, algorithm, provider=None, *, group=None, bits=0)\n--\n\n"
"Makes a new key: 'RSA' (of `bits`, 0: 2048), 'EC' (on the curve `group`,\n"
"None: 'P-256'), 'ED25519', 'X25519', whatever OpenSSL knows.\n\n"
"With a SafeNCryptProviderHandle that provider is asked and no other; the key\n"
"keeps it loaded.\n\n"
"Raises HandleNotSupportedError with OpenSSL's reason.");
PyDoc_STRVAR(duplicate_doc,
"duplicate($self, /)\n--\n\n"
"Another handle of the same key, which is freed when both are gone.\n\n"
"Raises HandleClosedError, HandleStateError for an invalid handle.");
PyDoc_STRVAR(sign_doc,
"sign($self, /, data, digest=None)\n--\n\n"
"The signature of bytes. None: the digest that is the key's default.\n\n"
"Raises HandleNotSupportedError for a key that cannot sign,\n"
"HandleClosedError.");
PyDoc_STRVAR(verify_doc,
"verify($self, /, signature, data, digest=None)\n--\n\n"
"Whether the signature is of these bytes and this key.\n\n"
"Raises HandleNotSupportedError for a key that cannot verify,\n"
"HandleClosedError.");
PyDoc_STRVAR(public_doc,
"public_key($self, /)\n--\n\n"
"The public part as bytes: SubjectPublicKeyInfo in DER.");

static PyMethodDef key_methods[] = {
    {"generate", (PyCFunction)(void (*)(void))key_generate,
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, generate_doc},
    {"duplicate", key_duplicate, METH_NOARGS, duplicate_doc},
    {"sign", (PyCFunction)(void (*)(void))shd_crypto_sign,
     METH_VARARGS | METH_KEYWORDS, sign_doc},
    {"verify", (PyCFunction)(void (*)(void))shd_crypto_verify,
     METH_VARARGS | METH_KEYWORDS, verify_doc},
    {"public_key", key_public, METH_NOARGS, public_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(key_doc,
"SafeNCryptKeyHandle(value=0, owns_handle=True, *, provider=None)\n--\n\n"
"A key, private or public: an EVP_PKEY. The constructor adopts one of the\n"
"system's libcrypto; while the handle has it, `provider` stays loaded.");

static PyType_Slot key_slots[] = {
    {Py_tp_doc, (void *)key_doc},
    {Py_tp_init, key_init},
    {Py_tp_dealloc, shd_handle_dealloc},
    {Py_tp_methods, key_methods},
    {0, NULL},
};

static PyType_Spec key_spec = {
    .name = "safehandle_debug.SafeNCryptKeyHandle",
    .basicsize = sizeof(shd_handle),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = key_slots,
};

int
shd_crypto_key_add(PyObject *module, PyTypeObject *base)
{
    static const shd_kind kind = {
        .number = SHD_KIND_KEY,
        .name = "key",
        .space = "pkey",
        .release = key_release,
        .forget = free,
        .parent = shd_crypto_take_provider,
    };
    static const shd_native native = {&kind, SHD_RULE_ZERO_OR_MINUS_ONE};
    return shd_crypto_add_type(module, &key_spec, base, &native);
}
