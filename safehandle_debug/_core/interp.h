/* What the core keeps for each interpreter.
 *
 * It lives in static C memory, not in module state: a module's state goes
 * before the last of its objects does, and deallocation must not need it. */
#ifndef SHD_INTERP_H
#define SHD_INTERP_H

#include "compat.h"

enum shd_error {
    SHD_ERROR_CLOSED,
    SHD_ERROR_NULL,
    SHD_ERROR_NOT_SUPPORTED,
    SHD_ERROR_OVERFLOW,
    SHD_ERROR_STATE,
    SHD_ERROR_RECORDING,
    SHD_ERRORS,
};

typedef struct shd_interp {
    struct shd_interp *next;
    PyInterpreterState *interp;
    int64_t id;
    int watched;       /* its end is registered */
    PyObject *modules; /* sys.modules: PyImport_GetModuleDict() aborts at the
                          very end */

    PyTypeObject *critical_finalizer;
    PyTypeObject *handle;
    PyTypeObject *safe;
    PyTypeObject *safe_zero;
    PyTypeObject *hold;
    PyObject *errors[SHD_ERRORS];
    PyObject *provenance_reader;

    /* Critical finalizers that wait for the ordinary ones. */
    PyThreadState *collecting; /* the thread whose collection runs, or NULL */
    PyObject *gc_callbacks;    /* the list gc.callbacks */
    int callbacks_installed;
    int exit_guard; /* the interpreter ends: see critical.c */
    PyObject **queue;
    Py_ssize_t queued, queue_capacity;
} shd_interp;

/* The one asked for last: there is nearly always only one. */
extern shd_interp *shd_interp_latest;

shd_interp *shd_interp_find(PyInterpreterState *interp);

/* The thread's interpreter, or NULL before its start or after its end. */
static inline shd_interp *
shd_interp_of(PyThreadState *tstate)
{
    shd_interp *latest = shd_interp_latest;
    if (latest != NULL && latest->interp == tstate->interp) {
        return latest;
    }
    return shd_interp_find(tstate->interp);
}

/* The running interpreter's. */
static inline shd_interp *
shd_interp_get(void)
{
    return shd_interp_of(PyThreadState_Get());
}

/* Makes it, or sets an exception and returns NULL. */
shd_interp *shd_interp_make(void);

/* A module that the program has loaded; borrowed, NULL without exception. */
PyObject *shd_interp_loaded_module(const char *name);

/* The errors module's class; borrowed. */
PyObject *shd_interp_error(enum shd_error error);

/* Drops all references; the interpreter's objects are as good as gone. */
void shd_interp_end(shd_interp *state);

#endif
