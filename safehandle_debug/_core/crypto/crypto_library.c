/* Loading libcrypto, and telling what it says when something fails.
 *
 * The library is never unloaded: it has functions registered for the ends of
 * threads and of the process. */
#define _GNU_SOURCE
#include "crypto.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>

#define LIBRARY "libcrypto.so.3"

/* Function names in the order of the table's fields. */
static const char *const function_names[] = {
#define FUNCTION_NAME(result, name, arguments) #name,
    SHD_CRYPTO_FUNCTIONS(FUNCTION_NAME)
#undef FUNCTION_NAME
};

#define FUNCTIONS (sizeof(function_names) / sizeof(function_names[0]))

_Static_assert(sizeof(shd_crypto_library) == FUNCTIONS * sizeof(void *),
               "the library's table holds function pointers alone");

shd_crypto_library shd_ossl;

enum {
    LIBRARY_UNKNOWN,
    LIBRARY_LOADED,
    LIBRARY_ENDED, /* it has cleaned up: a call would use freed memory */
};

static _Atomic int state;

/* Interpreters with a GIL of their own may come at the same time. */
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;

/* Releases all handles of one kind that this process acquired. */
static void
sweep_kind(int number)
{
    uint32_t size = shd_table_size();
    for (uint32_t slot = 1; slot <= size; slot++) {
        shd_entry *entry = shd_table_entry(slot);
        uint64_t meta = atomic_load(&entry->meta);
        uint64_t serial = shd_table_serial(meta);
        if (meta == 0 || shd_table_kind(meta) != number
            || shd_is_inherited(serial) || !shd_table_claim(slot, serial)) {
            continue;
        }
        int64_t value = entry->value;
        int error = shd_kind_by_number(number)->release(
            value, shd_table_take_extra(slot));
        shd_record_swept(slot, serial, value, error);
    }
}

/* The library cleans up at the process's end, and its exit function comes
   before ours where C's exit() was called under a running interpreter: what
   is still open goes now, keys before their providers. */
static void
ended(void)
{
    sweep_kind(SHD_KIND_KEY);
    sweep_kind(SHD_KIND_PROVIDER);
    atomic_store(&state, LIBRARY_ENDED);
}

int
shd_crypto_usable(void)
{
    return atomic_load(&state) == LIBRARY_LOADED;
}

/* The first function that the library does not have, or NULL. */
static const char *
find_functions(void *library)
{
    void **fields = (void **)&shd_ossl;
    for (size_t i = 0; i < FUNCTIONS; i++) {
        fields[i] = dlsym(library, function_names[i]);
        if (fields[i] == NULL) {
            return function_names[i];
        }
    }
    return NULL;
}

static int
load(void)
{
    PyObject *unsupported = shd_interp_error(SHD_ERROR_NOT_SUPPORTED);
    if (atomic_load(&state) == LIBRARY_ENDED) {
        PyErr_SetString(unsupported,
                        "OpenSSL has cleaned up: the process is ending");
        return -1;
    }
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        PyErr_Format(unsupported,
                     "OpenSSL 3 is needed for this handle; install Debian's "
                     "package libssl3 or its like (%.200s)",
                     dlerror());
        return -1;
    }
    const char *missing = find_functions(library);
    if (missing != NULL) {
        PyErr_Format(unsupported,
                     LIBRARY " has no function %s: OpenSSL 3.0 or newer is "
                             "needed, Debian's package libssl3",
                     missing);
        dlclose(library);
        return -1;
    }
    if (!shd_ossl.OPENSSL_atexit(ended)) {
        PyErr_NoMemory();
        return -1;
    }
    atomic_store(&state, LIBRARY_LOADED);
    return 0;
}

int
shd_crypto_load(void)
{
    if (shd_crypto_usable()) {
        return 0;
    }
    pthread_mutex_lock(&loading);
    int result = shd_crypto_usable() ? 0 : load();
    pthread_mutex_unlock(&loading);
    return result;
}

PyObject *
shd_crypto_error(const char *format, ...)
{
    /* The oldest error is the cause, what follows are its consequences. */
    const char *data = NULL;
    int flags = 0;
    unsigned long code =
        shd_ossl.ERR_get_error_all(NULL, NULL, NULL, &data, &flags);
    const char *reason = shd_ossl.ERR_reason_error_string(code);
    if (reason != NULL && strcmp(reason, "malloc failure") == 0) {
        shd_ossl.ERR_clear_error();
        return PyErr_NoMemory();
    }
    va_list arguments;
    va_start(arguments, format);
    PyObject *what = PyUnicode_FromFormatV(format, arguments);
    va_end(arguments);
    if (what != NULL) {
        int has_data = data != NULL && data[0] != 0;
        PyErr_Format(
            shd_interp_error(SHD_ERROR_NOT_SUPPORTED), "%U: %s%s%.300s%s",
            what, reason == NULL ? "OpenSSL does not say why" : reason,
            has_data ? " (" : "", has_data ? data : "", has_data ? ")" : "");
        Py_DECREF(what);
    }
    shd_ossl.ERR_clear_error();
    return NULL;
}
