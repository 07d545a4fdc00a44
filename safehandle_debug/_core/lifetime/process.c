/* The last hooks there are, and what each may still do.
 *
 *   end of the last collection but one  Python hooks: later, the modules that
 *                                       they use are cleared (critical.c)
 *   capsule in the interpreter's dict   Python hooks as far as they can still
 *                                       run, then native releases
 *   Py_AtExit, atexit(3)                native releases by value; objects are
 *                                       gone or may be
 *   on_exit(3)                          the exit status, for the recording
 *
 * Every entry of the live table is claimed once, whichever hook comes first.
 * A forked child never sweeps what it inherited: those are the parent's. */
#define _GNU_SOURCE
#include "process.h"

#include "recording/depot.h"
#include "events.h"
#include "recording/recorder.h"
#include "recording/thread.h"
#include "watch/watch.h"

#include <pthread.h>
#include <stdlib.h>

#define EVERY_INTERP (-1)

typedef struct {
    uint64_t serial;
    uint32_t slot;
} candidate;

static int
newest_first(const void *a, const void *b)
{
    uint64_t one = ((const candidate *)a)->serial;
    uint64_t other = ((const candidate *)b)->serial;
    return one < other ? 1 : one > other ? -1 : 0;
}

static int
sweep_one(uint32_t slot, uint64_t serial, enum shd_sweep what)
{
    shd_entry *entry = shd_table_entry(slot);
    uint64_t meta = atomic_load(&entry->meta);
    if (meta == 0 || shd_table_serial(meta) != serial) {
        return 0;
    }
    const shd_kind *kind = shd_kind_by_number(shd_table_kind(meta));
    int64_t value = entry->value;
    if (kind->release == NULL) {
        if (what == SHD_SWEEP_NATIVE || value == 0) {
            return 0;
        }
        shd_handle *handle = (shd_handle *)(intptr_t)value;
        Py_INCREF(handle);
        shd_life_sweep(handle);
        Py_DECREF(handle);
        return 1;
    }
    if (what == SHD_SWEEP_PYTHON || !shd_table_claim(slot, serial)) {
        return 0;
    }
    uint64_t outer = shd_watch_release_begins(slot);
    int error = kind->release(value, shd_table_take_extra(slot));
    shd_watch_release_ended(outer);
    shd_record_swept(slot, serial, value, error);
    return 1;
}

int
shd_process_sweep(int64_t interp, enum shd_sweep what)
{
    /* Newest first: what was built upon others goes before them. */
    uint32_t size = shd_table_size();
    size_t count = 0;
    candidate *found = malloc((size + 1) * sizeof(*found));
    for (uint32_t slot = 1; slot <= size; slot++) {
        uint64_t meta = atomic_load(&shd_table_entry(slot)->meta);
        if (meta == 0 || shd_is_inherited(shd_table_serial(meta))
            || shd_table_kind(meta) == SHD_KIND_WATCHED
            || (interp != EVERY_INTERP
                && shd_table_interp(meta) != (interp & SHD_INTERP_MASK))) {
            continue;
        }
        if (found == NULL) {
            count += (size_t)sweep_one(slot, shd_table_serial(meta), what);
        }
        else {
            found[count++] = (candidate){shd_table_serial(meta), slot};
        }
    }
    if (found == NULL) {
        return (int)count;
    }
    qsort(found, count, sizeof(*found), newest_first);
    int swept = 0;
    for (size_t i = 0; i < count; i++) {
        swept += sweep_one(found[i].slot, found[i].serial, what);
    }
    free(found);
    return swept;
}

/* --- ends ------------------------------------------------------------------ */

#define CAPSULE "safehandle_debug._native.interp"

static void
interp_ended(PyObject *capsule)
{
    shd_interp *state = PyCapsule_GetPointer(capsule, CAPSULE);
    shd_critical_passes -= state->collecting != NULL;
    state->collecting = NULL;
    state->exit_guard = 0;
    shd_critical_drain(state);
    shd_process_sweep(state->id, SHD_SWEEP_ALL);
    shd_interp_end(state);
}

int
shd_process_watch_interp(shd_interp *state)
{
    PyObject *dict = PyInterpreterState_GetDict(state->interp);
    if (dict == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the interpreter has no dict");
        return -1;
    }
    PyObject *capsule = PyCapsule_New(state, CAPSULE, interp_ended);
    if (capsule == NULL) {
        return -1;
    }
    int result = PyDict_SetItemString(dict, CAPSULE, capsule);
    state->watched = result == 0;
    Py_DECREF(capsule);
    return result;
}

static void
process_ended(void)
{
    shd_process_sweep(EVERY_INTERP, SHD_SWEEP_NATIVE);
    shd_watch_finish();
}

#if defined(__GLIBC__)
static void
mark_status(int status, void *Py_UNUSED(arg))
{
    shd_record_count_live();
    shd_recorder_mark_ended(status);
}
#else
static void
mark_status(void)
{
    shd_record_count_live();
    shd_recorder_mark_ended(SHD_STATUS_UNKNOWN);
}
#endif

/* --- forks ----------------------------------------------------------------- */

static void
forked(void)
{
    shd_events_forked();
    shd_thread_forked();
    shd_watch_forked();
}

int
shd_process_start(void)
{
    static int started;
    if (started) {
        return 0;
    }
    /* atexit(3) runs the newest first: the status is marked last. */
#if defined(__GLIBC__)
    int failed = on_exit(mark_status, NULL);
#else
    int failed = atexit(mark_status);
#endif
    failed |= atexit(process_ended);
    failed |= pthread_atfork(NULL, NULL, forked);
    failed |= shd_thread_start();
    if (failed) {
        PyErr_SetString(PyExc_OSError,
                        "cannot register the hooks of the process");
        return -1;
    }
    /* May be full (32 slots in a process): atexit(3) does the same later. */
    (void)Py_AtExit(process_ended);
    started = 1;
    return 0;
}
