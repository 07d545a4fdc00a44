/* OpenSSL's libcrypto, loaded at run time, and what the handles on it share.
 *
 * Nothing of OpenSSL is needed to build or to import the package: what is used
 * of it is declared here. */
#ifndef SHD_CRYPTO_H
#define SHD_CRYPTO_H

#include "lifetime/events.h"

/* OpenSSL's objects, by address. */
typedef struct ossl_lib_ctx_st shd_ossl_context;
typedef struct ossl_provider_st shd_ossl_provider;
typedef struct evp_pkey_st shd_ossl_key;
typedef struct evp_pkey_ctx_st shd_ossl_operation;
typedef struct evp_md_ctx_st shd_ossl_digest;

/* F(result, name, arguments) for each function that is used. */
#define SHD_CRYPTO_FUNCTIONS(F)                                               \
    F(int, OPENSSL_atexit, (void (*)(void)))                                  \
    F(void, ERR_clear_error, (void))                                          \
    F(unsigned long, ERR_get_error_all,                                       \
      (const char **, int *, const char **, const char **, int *))            \
    F(const char *, ERR_reason_error_string, (unsigned long))                 \
    F(shd_ossl_context *, OSSL_LIB_CTX_new, (void))                           \
    F(void, OSSL_LIB_CTX_free, (shd_ossl_context *))                          \
    F(shd_ossl_provider *, OSSL_PROVIDER_load,                                \
      (shd_ossl_context *, const char *))                                     \
    F(int, OSSL_PROVIDER_unload, (shd_ossl_provider *))                       \
    F(const char *, OSSL_PROVIDER_get0_name, (const shd_ossl_provider *))     \
    F(int, EVP_PKEY_up_ref, (shd_ossl_key *))                                 \
    F(void, EVP_PKEY_free, (shd_ossl_key *))                                  \
    F(shd_ossl_operation *, EVP_PKEY_CTX_new_from_name,                       \
      (shd_ossl_context *, const char *, const char *))                       \
    F(shd_ossl_operation *, EVP_PKEY_CTX_new_from_pkey,                       \
      (shd_ossl_context *, shd_ossl_key *, const char *))                     \
    F(void, EVP_PKEY_CTX_free, (shd_ossl_operation *))                        \
    F(int, EVP_PKEY_keygen_init, (shd_ossl_operation *))                      \
    F(int, EVP_PKEY_CTX_set_group_name, (shd_ossl_operation *, const char *)) \
    F(int, EVP_PKEY_CTX_set_rsa_keygen_bits, (shd_ossl_operation *, int))     \
    F(int, EVP_PKEY_generate, (shd_ossl_operation *, shd_ossl_key **))        \
    F(int, EVP_PKEY_derive_init, (shd_ossl_operation *))                      \
    F(int, EVP_PKEY_derive_set_peer, (shd_ossl_operation *, shd_ossl_key *))  \
    F(int, EVP_PKEY_derive,                                                   \
      (shd_ossl_operation *, unsigned char *, size_t *))                      \
    F(shd_ossl_digest *, EVP_MD_CTX_new, (void))                              \
    F(void, EVP_MD_CTX_free, (shd_ossl_digest *))                             \
    F(int, EVP_DigestSignInit_ex,                                             \
      (shd_ossl_digest *, shd_ossl_operation **, const char *,                \
       shd_ossl_context *, const char *, shd_ossl_key *, const void *))       \
    F(int, EVP_DigestSign,                                                    \
      (shd_ossl_digest *, unsigned char *, size_t *, const unsigned char *,   \
       size_t))                                                               \
    F(int, EVP_DigestVerifyInit_ex,                                           \
      (shd_ossl_digest *, shd_ossl_operation **, const char *,                \
       shd_ossl_context *, const char *, shd_ossl_key *, const void *))       \
    F(int, EVP_DigestVerify,                                                  \
      (shd_ossl_digest *, const unsigned char *, size_t,                      \
       const unsigned char *, size_t))                                        \
    F(int, i2d_PUBKEY, (const shd_ossl_key *, unsigned char **))              \
    F(shd_ossl_key *, d2i_PUBKEY_ex,                                          \
      (shd_ossl_key **, const unsigned char **, long, shd_ossl_context *,     \
       const char *))

typedef struct {
#define SHD_CRYPTO_FIELD(result, name, arguments) result(*name) arguments;
    SHD_CRYPTO_FUNCTIONS(SHD_CRYPTO_FIELD)
#undef SHD_CRYPTO_FIELD
} shd_crypto_library;

/* Valid once shd_crypto_load() has returned 0. */
extern shd_crypto_library shd_ossl;

/* Loads the library, once; -1 with HandleNotSupportedError without it. */
int shd_crypto_load(void);

/* Whether its functions may be called by a release: not before it is loaded,
 * and not once it has cleaned up at the process's end. */
int shd_crypto_usable(void);

/* Sets an exception "`what`: why", from the errors that the library noted in
 * this thread: HandleNotSupportedError, or MemoryError.  Returns NULL. */
PyObject *shd_crypto_error(const char *format, ...);

/* Constructor T(value=0, owns_handle=True) of the types on the library. */
int shd_crypto_init(PyObject *self, PyObject *args, PyObject *kwargs);

/* Adds a type below `base`; -1 with an exception. */
int shd_crypto_add_type(PyObject *module, PyType_Spec *spec,
                        PyTypeObject *base, const shd_native *native);

int shd_crypto_provider_add(PyObject *module, PyTypeObject *base);
int shd_crypto_key_add(PyObject *module, PyTypeObject *base);
int shd_crypto_secret_add(PyObject *module, PyTypeObject *base);

/* --- what a call has in use ----------------------------------------------- */

/* The context that a provider handle's algorithms live in.  The provider is
 * held by a reference. */
shd_ossl_context *shd_crypto_context(shd_handle *provider);

/* The object as a provider handle, borrowed; NULL with TypeError. */
shd_handle *shd_crypto_provider_of(PyObject *object);

/* Takes a reference of the provider, for the key in `slot`; -1 with an
 * exception. */
int shd_crypto_hold_provider(uint32_t slot, shd_handle *provider);

/* Undoes it for a slot that got no value; keeps the exception. */
void shd_crypto_drop_provider(uint32_t slot);

/* The provider that a key's extra holds, with the reference, or NULL. */
shd_handle *shd_crypto_take_provider(void *extra);

/* A key and what it lives on, held by references for the length of a call. */
typedef struct {
    shd_handle *key;
    shd_handle *provider; /* NULL: the library's own */
    shd_ossl_key *value;
    shd_ossl_context *context; /* NULL: the library's own */
} shd_crypto_use;

/* -1 with an exception: closed, not a key, no value. */
int shd_crypto_use_begin(shd_crypto_use *use, PyObject *key);

/* Keeps the exception that is set. */
void shd_crypto_use_end(shd_crypto_use *use);

/* sign() and verify() of keys. */
PyObject *shd_crypto_sign(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *shd_crypto_verify(PyObject *self, PyObject *args, PyObject *kwargs);

/* The key's public part as DER bytes. */
PyObject *shd_crypto_public_key(const shd_crypto_use *use);

#endif
