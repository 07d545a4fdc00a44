/* SafeHandles for other C extensions: references without Python calls.
 *
 *     static const SafeHandleDebug_API *handles;
 *
 *     handles = SafeHandleDebug_Import();          at module initialisation
 *     if (handles == NULL) return -1;
 *
 *     int64_t value;                               around a use
 *     if (handles->add_ref(object, &value) < 0) return NULL;
 *     ... use (int)value, with or without the GIL ...
 *     if (handles->release(object) < 0) return NULL;
 *
 *     uint32_t ticket;                             to acquire
 *     PyObject *handle = handles->prepare(type, &ticket);
 *     if (handle == NULL) return NULL;
 *     int fd = open(...);
 *     if (fd < 0) {
 *         PyErr_SetFromErrno(PyExc_OSError);
 *         return handles->abandon(handle, ticket);
 *     }
 *     return handles->complete(handle, ticket, fd, NULL);
 *
 * All functions need the GIL.  The directory of this file is what
 * safehandle_debug.marshal.get_include() returns. */
#ifndef SAFEHANDLE_DEBUG_H
#define SAFEHANDLE_DEBUG_H

#include <Python.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SAFEHANDLE_DEBUG_CAPSULE "safehandle_debug._native._C_API"
#define SAFEHANDLE_DEBUG_API_VERSION 1

typedef struct {
    uint32_t version; /* changes when what is here changes its meaning */
    uint32_t size;    /* grows when functions are added at the end */

    /* 1 for a SafeHandle, else 0.  Cannot fail. */
    int (*check)(PyObject *object);

    /* Takes a reference and, when `value` is not NULL, reads the value, in
     * this order.  -1 with NullHandleError for None, TypeError for what is no
     * SafeHandle, HandleClosedError for a closed one, HandleOverflowError. */
    int (*add_ref)(PyObject *object, int64_t *value);

    /* Drops the reference; the last one closes.  -1 with HandleClosedError
     * when there was none, or with what a Python release hook raised. */
    int (*release)(PyObject *object);

    /* The raw value in any state.  `object` must be a SafeHandle. */
    int64_t (*value)(PyObject *object);

    /* A new, empty handle of `type` for a resource that does not exist yet,
     * or NULL with an exception.  `ticket` goes to complete() or abandon(). */
    PyObject *(*prepare)(PyTypeObject *type, uint32_t *ticket);

    /* Gives the resource to the handle and returns the handle: it owns the
     * value from here on, whatever is returned (NULL with an exception where
     * on_error=raise found something wrong).  `detail`: a str that names the
     * resource in reports, or NULL.  Steals `handle`. */
    PyObject *(*complete)(PyObject *handle, uint32_t ticket, int64_t value,
                          PyObject *detail);

    /* Drops a handle that got no resource.  Returns NULL and keeps the current
     * exception.  Steals `handle`. */
    PyObject *(*abandon)(PyObject *handle, uint32_t ticket);
} SafeHandleDebug_API;

/* NULL with an exception when the package is missing or too old. */
static inline const SafeHandleDebug_API *
SafeHandleDebug_Import(void)
{
    PyObject *module = PyImport_ImportModule("safehandle_debug");
    if (module == NULL) {
        return NULL;
    }
    Py_DECREF(module);
    const SafeHandleDebug_API *api =
        (const SafeHandleDebug_API *)PyCapsule_Import(SAFEHANDLE_DEBUG_CAPSULE,
                                                      0);
    if (api != NULL
        && (api->version != SAFEHANDLE_DEBUG_API_VERSION
            || api->size < sizeof(SafeHandleDebug_API))) {
        PyErr_SetString(PyExc_ImportError,
                        "this extension was built for another version of "
                        "safehandle_debug");
        return NULL;
    }
    return api;
}

#ifdef __cplusplus
}
#endif

#endif
