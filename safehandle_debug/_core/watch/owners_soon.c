/* From a hook to Python: a call that the main thread makes when it can. */
#include "interp.h"
#include "owners_parts.h"
#include "recording/recorder.h"

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
static unsigned long culprit; /* the thread that it is about */

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

static PyObject *
return_text(PyObject *text, PyObject *Py_UNUSED(args))
{
    return Py_NewRef(text);
}

/* Only a class can be raised in another thread: one that is the text.  0 when
   that thread has ended. */
static int
raise_in(unsigned long thread, PyObject *base, PyObject *text)
{
    static PyMethodDef definition = {"__str__", return_text, METH_VARARGS,
                                     NULL};
    PyObject *method = PyCFunction_New(&definition, text);
    PyObject *class =
        method == NULL
            ? NULL
            : PyObject_CallFunction((PyObject *)&PyType_Type, "s(O){s:O,s:s}",
                                    "HandleStateError", base, "__str__",
                                    method, "__module__", "safehandle_debug");
    int raised = class == NULL ? 0 : PyThreadState_SetAsyncExc(thread, class);
    PyErr_Clear();
    Py_XDECREF(class);
    Py_XDECREF(method);
    return raised;
}

static int
say(void)
{
    int full = FULL;
    if (!atomic_compare_exchange_strong(&sentence_state, &full, BUSY)) {
        return 0;
    }
    unsigned long thread = culprit;
    PyObject *text = PyUnicode_DecodeUTF8(
        sentence, (Py_ssize_t)strlen(sentence), "replace");
    atomic_store(&sentence_state, EMPTY);
    PyObject *result = text == NULL ? NULL : call_alarm("say", text);
    PyObject *error = shd_interp_error(SHD_ERROR_STATE);
    if (result == NULL && text != NULL && PyErr_ExceptionMatches(error)
        && thread != PyThread_get_thread_ident()) {
        PyErr_Clear();
        if (raise_in(thread, error, text)) {
            result = Py_NewRef(Py_None);
        }
        else {
            PyErr_SetObject(error, text);
        }
    }
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
    if (what & SHD_SOON_ASKED && shd_recording()) {
        uint32_t asked = shd_recorder_asked();
        atomic_store(&shd_recorder_answered, asked);
        PyObject *number = PyLong_FromUnsignedLong(asked);
        PyObject *result = number == NULL ? NULL : call_alarm("asked", number);
        if (result == NULL) {
            PyErr_WriteUnraisable(NULL);
        }
        Py_XDECREF(number);
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
        culprit = PyThread_get_thread_ident();
        atomic_store(&sentence_state, FULL);
    }
    shd_owners_soon(SHD_SOON_SAY);
}

void
shd_owners_forked(void)
{
    atomic_store(&wanted, 0);
    atomic_store(&sentence_state, EMPTY);
}
