/* From a hook to Python: a call that the main thread makes when it can. */
#include "owners_parts.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#define SENTENCE 256

static _Atomic int wanted; /* shd_soon; a call is pending while it is not 0 */

/* `sentence` belongs to whoever moved the state away from EMPTY or FULL. */
enum {
    EMPTY,
    BUSY,
    FULL
};
static _Atomic int sentence_state;
static char sentence[SENTENCE];

static PyObject *
call_alarm(const char *function, PyObject *argument)
{
    PyObject *alarm = PyImport_ImportModule("safehandle_debug.activate.alarm");
    if (alarm == NULL) {
        PyErr_Clear(); /* no descriptor left to read it with */
        return Py_NewRef(Py_None);
    }
    PyObject *result =
        argument == NULL ? PyObject_CallMethod(alarm, function, NULL)
                         : PyObject_CallMethod(alarm, function, "O", argument);
    Py_DECREF(alarm);
    return result;
}

static int
say(void)
{
    int full = FULL;
    if (!atomic_compare_exchange_strong(&sentence_state, &full, BUSY)) {
        return 0;
    }
    PyObject *text = PyUnicode_DecodeUTF8(
        sentence, (Py_ssize_t)strlen(sentence), "replace");
    atomic_store(&sentence_state, EMPTY);
    PyObject *result = text == NULL ? NULL : call_alarm("say", text);
    Py_XDECREF(text);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
run_soon(void *Py_UNUSED(ignored))
{
    int what = atomic_exchange(&wanted, 0);
    if (what & SHD_SOON_ATTACH) {
        shd_owners_again();
    }
    if (what & SHD_SOON_EXHAUSTED) {
        PyObject *result = call_alarm("exhausted", NULL);
        if (result == NULL) {
            PyErr_WriteUnraisable(NULL);
        }
        Py_XDECREF(result);
    }
    return what & SHD_SOON_SAY ? say() : 0;
}

void
shd_owners_soon(int what)
{
    int error = errno;
    if (atomic_fetch_or(&wanted, what) == 0 && Py_IsInitialized()
        && Py_AddPendingCall(run_soon, NULL) < 0) {
        atomic_store(&wanted, 0); /* the queue is full: another time */
    }
    errno = error;
}

void
shd_owners_say(const char *text)
{
    int empty = EMPTY;
    if (atomic_compare_exchange_strong(&sentence_state, &empty, BUSY)) {
        strncpy(sentence, text, SENTENCE - 1);
        sentence[SENTENCE - 1] = 0;
        atomic_store(&sentence_state, FULL);
    }
    shd_owners_soon(SHD_SOON_SAY);
}
