/* SafeNCryptSecretHandle: bytes that two keys agree on, wiped before they are
 * freed.
 *
 * The value is the address of the first byte; the length stands before it, so
 * that a secret that was detached can be adopted again.  Releasing one needs
 * no library: whatever ends the process in order wipes it. */
#define _GNU_SOURCE
#include "crypto.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint64_t mark; /* tells a secret from any other address */
    size_t size;
    unsigned char bytes[];
} secret;

#define MARK UINT64_C(0x7465726365734453)

/* malloc(3) reuses the first words of what is freed: they must not be the
   secret's, or nobody could tell a wiped one from one overwritten. */
_Static_assert(offsetof(secret, bytes) == 16, "two words stand before");

static secret *
secret_at(int64_t value)
{
    secret *found = (secret *)((intptr_t)value - offsetof(secret, bytes));
    return found->mark == MARK ? found : NULL;
}

static secret *
secret_new(size_t size)
{
    secret *made = calloc(1, sizeof(*made) + size);
    if (made != NULL) {
        made->mark = MARK;
        made->size = size;
    }
    return made;
}

static void
secret_free(secret *old)
{
    explicit_bzero(old, sizeof(*old) + old->size);
    free(old);
}

static int
secret_release(int64_t value, void *Py_UNUSED(extra))
{
    secret *old = secret_at(value);
    if (old == NULL) {
        return EINVAL; /* adopted, and never a secret of ours */
    }
    secret_free(old);
    return 0;
}

/* --- acquisition ---------------------------------------------------------- */

/* NULL with the library's error noted, or without memory. */
static secret *
agree(const shd_crypto_use *use, shd_ossl_key *peer, int *no_memory)
{
    secret *made = NULL;
    size_t size = 0;
    shd_ossl_operation *operation =
        shd_ossl.EVP_PKEY_CTX_new_from_pkey(use->context, use->value, NULL);
    if (operation != NULL && shd_ossl.EVP_PKEY_derive_init(operation) > 0
        && shd_ossl.EVP_PKEY_derive_set_peer(operation, peer) > 0
        && shd_ossl.EVP_PKEY_derive(operation, NULL, &size) > 0) {
        made = secret_new(size);
        *no_memory = made == NULL;
    }
    if (made != NULL
        && (shd_ossl.EVP_PKEY_derive(operation, made->bytes, &size) <= 0
            || size > made->size)) {
        secret_free(made);
        made = NULL;
    }
    if (made != NULL && size < made->size) {
        explicit_bzero(made->bytes + size, made->size - size);
        made->size = size;
    }
    shd_ossl.EVP_PKEY_CTX_free(operation);
    return made;
}

/* The other side's public key as bytes: a new reference. */
static PyObject *
public_bytes(PyObject *peer)
{
    const shd_kind *kind = shd_type_native_kind(Py_TYPE(peer));
    if (kind != NULL && kind->number == SHD_KIND_KEY) {
        shd_crypto_use use;
        if (shd_crypto_use_begin(&use, peer) < 0) {
            return NULL;
        }
        PyObject *der = shd_crypto_public_key(&use);
        shd_crypto_use_end(&use);
        return der;
    }
    if (!PyObject_CheckBuffer(peer)) {
        PyErr_Format(PyExc_TypeError,
                     "peer must be a SafeNCryptKeyHandle or the bytes of a "
                     "public key, not %.200s",
                     Py_TYPE(peer)->tp_name);
        return NULL;
    }
    return PyBytes_FromObject(peer);
}

/* The peer in the key's own context, where the two can meet; NULL with an
   exception. */
static shd_ossl_key *
peer_key(const shd_crypto_use *use, PyObject *der)
{
    const unsigned char *start = (const unsigned char *)PyBytes_AS_STRING(der);
    const unsigned char *end = start;
    shd_ossl.ERR_clear_error();
    shd_ossl_key *peer = NULL;
    if (PyBytes_GET_SIZE(der) <= INT_MAX) {
        peer = shd_ossl.d2i_PUBKEY_ex(NULL, &end, (long)PyBytes_GET_SIZE(der),
                                      use->context, NULL);
    }
    if (peer == NULL || end - start != PyBytes_GET_SIZE(der)) {
        shd_ossl.EVP_PKEY_free(peer);
        shd_ossl.ERR_clear_error();
        PyErr_SetString(PyExc_ValueError,
                        "peer must be a public key in DER, as public_key() "
                        "returns it");
        return NULL;
    }
    return peer;
}

/* The secret becomes a handle's; wiped and freed when that fails. */
static PyObject *
derive(PyTypeObject *type, const shd_crypto_use *use, shd_ossl_key *peer)
{
    PyObject *detail = PyUnicode_FromFormat(
        "derived from #%llu", (unsigned long long)shd_serial(use->key));
    uint32_t slot;
    shd_handle *handle =
        detail == NULL ? NULL : shd_handle_begin(type, 0, &slot);
    if (handle == NULL) {
        Py_XDECREF(detail);
        return NULL;
    }
    PyObject *result = NULL;
    secret *made;
    int no_memory = 0;
    Py_BEGIN_ALLOW_THREADS
    made = agree(use, peer, &no_memory);
    Py_END_ALLOW_THREADS
    if (made != NULL) {
        result =
            shd_handle_complete(handle, slot, (intptr_t)made->bytes, detail);
    }
    else {
        if (no_memory) {
            PyErr_NoMemory();
        }
        else {
            shd_crypto_error("OpenSSL cannot derive a secret with %R",
                             use->key);
        }
        shd_handle_abandon(handle, slot);
    }
    Py_DECREF(detail);
    return result;
}

static PyObject *
secret_derive(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"key", "peer", NULL};
    PyObject *key, *peer;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:derive", names, &key,
                                     &peer)) {
        return NULL;
    }
    PyObject *result = NULL;
    shd_crypto_use use;
    if (shd_crypto_use_begin(&use, key) < 0) {
        return NULL;
    }
    PyObject *der = public_bytes(peer);
    shd_ossl_key *other = der == NULL ? NULL : peer_key(&use, der);
    if (other != NULL) {
        result = derive((PyTypeObject *)type, &use, other);
        shd_ossl.EVP_PKEY_free(other);
    }
    Py_XDECREF(der);
    shd_crypto_use_end(&use);
    return result;
}

/* --- use ------------------------------------------------------------------ */

/* The secret, held by a reference; NULL with an exception. */
static secret *
secret_of(PyObject *self)
{
    shd_handle *handle = (shd_handle *)self;
    if (shd_life_add_ref(handle) < 0) {
        return NULL;
    }
    int64_t value = handle->value;
    secret *found = value == 0 || value == -1 ? NULL : secret_at(value);
    if (found == NULL) {
        PyErr_Format(shd_interp_error(SHD_ERROR_STATE),
                     "%.200s holds no secret: derive() makes one",
                     Py_TYPE(self)->tp_name);
        shd_life_let_go(handle);
    }
    return found;
}

static PyObject *
secret_read(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    secret *found = secret_of(self);
    if (found == NULL) {
        return NULL;
    }
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)found->bytes,
                                                (Py_ssize_t)found->size);
    shd_life_let_go((shd_handle *)self);
    return bytes;
}

static PyObject *
get_byte_length(PyObject *self, void *Py_UNUSED(closure))
{
    secret *found = secret_of(self);
    if (found == NULL) {
        return NULL;
    }
    size_t size = found->size;
    shd_life_let_go((shd_handle *)self);
    return PyLong_FromSize_t(size);
}

/* --- the type ------------------------------------------------------------- */

PyDoc_STRVAR(derive_doc,
"derive($type, /, key, peer)\n--\n\n"
"What a private key and the other side's public one agree on: X25519, ECDH.\n"
"`peer` is a key handle or what its public_key() returned.\n\n"
"Raises HandleNotSupportedError with OpenSSL's reason when the two do not\n"
"belong together, ValueError when the peer's bytes are no public key,\n"
"HandleClosedError.");
PyDoc_STRVAR(read_doc,
"read($self, /)\n--\n\n"
"The secret as bytes: a copy, which Python does not wipe.");

static PyMethodDef secret_methods[] = {
    {"derive", (PyCFunction)(void (*)(void))secret_derive,
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, derive_doc},
    {"read", secret_read, METH_NOARGS, read_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef secret_getset[] = {
    {"byte_length", get_byte_length, NULL, "Length of the secret in bytes.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(secret_doc,
"SafeNCryptSecretHandle(value=0, owns_handle=True)\n--\n\n"
"A shared secret in memory of its own, wiped when it is closed. Its value is\n"
"the address of the bytes; the constructor adopts one that was detached.");

static PyType_Slot secret_slots[] = {
    {Py_tp_doc, (void *)secret_doc},     {Py_tp_init, shd_crypto_init},
    {Py_tp_dealloc, shd_handle_dealloc}, {Py_tp_methods, secret_methods},
    {Py_tp_getset, secret_getset},       {0, NULL},
};

static PyType_Spec secret_spec = {
    .name = "safehandle_debug.SafeNCryptSecretHandle",
    .basicsize = sizeof(shd_handle),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = secret_slots,
};

int
shd_crypto_secret_add(PyObject *module, PyTypeObject *base)
{
    static const shd_kind kind = {
        .number = SHD_KIND_SECRET,
        .name = "secret",
        .space = "secret",
        .release = secret_release,
    };
    static const shd_native native = {&kind, SHD_RULE_ZERO_OR_MINUS_ONE};
    return shd_crypto_add_type(module, &secret_spec, base, &native);
}
