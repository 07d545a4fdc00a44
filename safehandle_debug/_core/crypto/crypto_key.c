/* SafeNCryptKeyHandle: an EVP_PKEY.
 *
 * OpenSSL counts the references of a key itself: a duplicate is a handle of its
 * own with one of those, and the key is freed when the last is gone.  A key
 * that was made from a provider holds a reference of the provider's handle,
 * its duplicates as well: the live table's extra. */
#include "crypto.h"

#include <stdlib.h>
#include <strings.h>

typedef struct {
    shd_handle *provider; /* strong, with a reference; NULL once taken */
} key_extra;

static int
key_release(int64_t value, void *extra)
{
    if (shd_crypto_usable()) {
        shd_ossl.EVP_PKEY_free((shd_ossl_key *)(intptr_t)value);
    }
    free(extra);
    return 0;
}

static shd_handle *
key_parent(void *extra)
{
    shd_handle *provider = ((key_extra *)extra)->provider;
    ((key_extra *)extra)->provider = NULL;
    return provider;
}

/* --- parents -------------------------------------------------------------- */

/* Takes a reference of the provider, for the handle in `slot`; -1 with an
   exception. */
static int
hold_provider(uint32_t slot, shd_handle *provider)
{
    key_extra *extra = calloc(1, sizeof(*extra));
    if (extra == NULL || shd_table_set_extra(slot, NULL) < 0) {
        free(extra);
        PyErr_NoMemory();
        return -1;
    }
    if (shd_life_add_ref(provider) < 0) {
        free(extra);
        return -1;
    }
    extra->provider = (shd_handle *)Py_NewRef(provider);
    shd_table_set_extra(slot, extra);
    return 0;
}

/* Undoes hold_provider() for a slot that got no value; keeps the exception. */
static void
drop_provider(uint32_t slot)
{
    key_extra *extra = shd_table_take_extra(slot);
    if (extra != NULL) {
        shd_life_let_go(extra->provider);
        Py_DECREF(extra->provider);
        free(extra);
    }
}

static PyObject *
abandon(shd_handle *handle, uint32_t slot)
{
    drop_provider(slot);
    return shd_handle_abandon(handle, slot);
}

/* The provider that the key holds, borrowed, or NULL. */
static shd_handle *
provider_of(const shd_handle *key)
{
    key_extra *extra = shd_table_extra(key->slot);
    return extra == NULL ? NULL : extra->provider;
}

/* --- keys in use ---------------------------------------------------------- */

int
shd_crypto_use_begin(shd_crypto_use *use, PyObject *key)
{
    const shd_kind *kind = shd_type_native_kind(Py_TYPE(key));
    if (key == Py_None) {
        PyErr_SetString(shd_interp_error(SHD_ERROR_NULL),
                        "key must be a handle, not None");
        return -1;
    }
    if (kind == NULL || kind->number != SHD_KIND_KEY) {
        PyErr_Format(PyExc_TypeError,
                     "key must be a SafeNCryptKeyHandle, not %.200s",
                     Py_TYPE(key)->tp_name);
        return -1;
    }
    use->key = (shd_handle *)key;
    if (shd_crypto_load() < 0 || shd_life_add_ref(use->key) < 0) {
        return -1;
    }
    int64_t value = use->key->value;
    if (value == 0 || value == -1) {
        PyErr_Format(shd_interp_error(SHD_ERROR_STATE),
                     "%.200s holds no key: generate() makes one",
                     Py_TYPE(key)->tp_name);
        shd_life_let_go(use->key);
        return -1;
    }
    use->value = (shd_ossl_key *)(intptr_t)value;
    /* Its own reference: set_handle() in another thread drops the key's. */
    use->provider = provider_of(use->key);
    use->context = NULL;
    if (use->provider != NULL) {
        if (shd_life_add_ref(use->provider) < 0) {
            shd_life_let_go(use->key);
            return -1;
        }
        use->context = shd_crypto_context(use->provider);
        Py_INCREF(use->provider);
    }
    return 0;
}

void
shd_crypto_use_end(shd_crypto_use *use)
{
    shd_life_let_go(use->key);
    if (use->provider != NULL) {
        shd_life_let_go(use->provider);
        Py_DECREF(use->provider);
    }
}

PyObject *
shd_crypto_public_key(const shd_crypto_use *use)
{
    shd_ossl.ERR_clear_error();
    int size = shd_ossl.i2d_PUBKEY(use->value, NULL);
    PyObject *der = size <= 0 ? NULL : PyBytes_FromStringAndSize(NULL, size);
    if (size > 0 && der == NULL) {
        return NULL;
    }
    if (der != NULL) {
        unsigned char *end = (unsigned char *)PyBytes_AS_STRING(der);
        if (shd_ossl.i2d_PUBKEY(use->value, &end) == size) {
            return der;
        }
        Py_DECREF(der);
    }
    return shd_crypto_error("OpenSSL cannot write the public key of %R",
                            use->key);
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
        && (hold_provider(slot, (shd_handle *)provider) < 0
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
    if (use.provider != NULL && hold_provider(slot, use.provider) < 0) {
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
        result = hold_provider(handle->slot, provider);
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
        .parent = key_parent,
    };
    static const shd_native native = {&kind, SHD_RULE_ZERO_OR_MINUS_ONE};
    PyTypeObject *type = shd_crypto_type(module, &key_spec, base, &native);
    Py_XDECREF(type);
    return type == NULL ? -1 : 0;
}
