/* A key's provider, and a key in use.
 *
 * A key that was made from a provider holds a reference of the provider's
 * handle, its duplicates as well: the live table's extra.  A call on a key
 * holds both. */
#include "crypto.h"

#include <stdlib.h>

typedef struct {
    shd_handle *provider; /* strong, with a reference; NULL once taken */
} key_extra;

/* --- parents -------------------------------------------------------------- */

int
shd_crypto_hold_provider(uint32_t slot, shd_handle *provider)
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

void
shd_crypto_drop_provider(uint32_t slot)
{
    key_extra *extra = shd_table_take_extra(slot);
    if (extra != NULL) {
        shd_life_let_go(extra->provider);
        Py_DECREF(extra->provider);
        free(extra);
    }
}

shd_handle *
shd_crypto_take_provider(void *extra)
{
    shd_handle *provider = ((key_extra *)extra)->provider;
    ((key_extra *)extra)->provider = NULL;
    return provider;
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
