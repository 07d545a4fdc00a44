/* Signatures of a SafeNCryptKeyHandle: one call each, in the key's context. */
#include "crypto.h"

#include <limits.h>

/* NULL with the library's error noted. */
static shd_ossl_digest *
begin_signing(const shd_crypto_use *use, const char *digest, int verify)
{
    shd_ossl.ERR_clear_error();
    shd_ossl_digest *state = shd_ossl.EVP_MD_CTX_new();
    int ready =
        state == NULL ? 0
        : verify
            ? shd_ossl.EVP_DigestVerifyInit_ex(
                  state, NULL, digest, use->context, NULL, use->value, NULL)
            : shd_ossl.EVP_DigestSignInit_ex(state, NULL, digest, use->context,
                                             NULL, use->value, NULL);
    if (ready <= 0) {
        shd_ossl.EVP_MD_CTX_free(state);
        return NULL;
    }
    return state;
}

PyObject *
shd_crypto_sign(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"data", "digest", NULL};
    Py_buffer data;
    const char *digest = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*|z:sign", names, &data,
                                     &digest)) {
        return NULL;
    }
    PyObject *result = NULL;
    shd_crypto_use use;
    if (shd_crypto_use_begin(&use, self) < 0) {
        PyBuffer_Release(&data);
        return NULL;
    }
    size_t size = 0;
    shd_ossl_digest *state = begin_signing(&use, digest, 0);
    if (state != NULL
        && shd_ossl.EVP_DigestSign(state, NULL, &size, data.buf,
                                   (size_t)data.len)
               > 0
        && size <= INT_MAX) {
        result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    }
    if (result != NULL) {
        unsigned char *target = (unsigned char *)PyBytes_AS_STRING(result);
        int signed_well;
        Py_BEGIN_ALLOW_THREADS
        signed_well = shd_ossl.EVP_DigestSign(state, target, &size, data.buf,
                                              (size_t)data.len);
        Py_END_ALLOW_THREADS
        if (signed_well <= 0) {
            Py_CLEAR(result);
        }
    }
    if (result == NULL && !PyErr_Occurred()) {
        shd_crypto_error("OpenSSL cannot sign with %R", self);
    }
    shd_ossl.EVP_MD_CTX_free(state);
    shd_crypto_use_end(&use);
    PyBuffer_Release(&data);
    if (result != NULL) {
        _PyBytes_Resize(&result, (Py_ssize_t)size); /* EC: often shorter */
    }
    return result;
}

PyObject *
shd_crypto_verify(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"signature", "data", "digest", NULL};
    Py_buffer signature, data;
    const char *digest = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*y*|z:verify", names,
                                     &signature, &data, &digest)) {
        return NULL;
    }
    PyObject *result = NULL;
    shd_crypto_use use;
    if (shd_crypto_use_begin(&use, self) == 0) {
        shd_ossl_digest *state = begin_signing(&use, digest, 1);
        if (state == NULL) {
            shd_crypto_error("OpenSSL cannot verify with %R", self);
        }
        else {
            int good;
            Py_BEGIN_ALLOW_THREADS
            good = shd_ossl.EVP_DigestVerify(state, signature.buf,
                                             (size_t)signature.len, data.buf,
                                             (size_t)data.len);
            /* A signature that is no signature at all is an error to the
               library; to the caller it is simply not a good one. */
            shd_ossl.ERR_clear_error();
            Py_END_ALLOW_THREADS
            result = PyBool_FromLong(good == 1);
        }
        shd_ossl.EVP_MD_CTX_free(state);
        shd_crypto_use_end(&use);
    }
    PyBuffer_Release(&signature);
    PyBuffer_Release(&data);
    return result;
}
