/* From a hook to Python: a call that the main thread makes when it can. */
#include "interp.h"
#include "owners_parts.h"
#include "recording/clock.h"
#include "recording/recorder.h"
#include "watch.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define SENTENCE 256
#define PATIENCE INT64_C(300000000) /* ns, of who asks, with the main thread */
#define APART_STACK (1 << 20)

static _Atomic int wanted; /* shd_soon; a call is pending while it is not 0 */

/* A sentence belongs to whoever moved its state away from EMPTY or FULL. */
enum {
    EMPTY,
    BUSY,
    FULL
};

#define SENTENCES 8

typedef struct {
    _Atomic int state;
    char text[SENTENCE];
    unsigned long thread; /* that it is about */
    uint32_t stack;
} sentence;

static sentence sentences[SENTENCES];

/* A tuple is taken for several arguments. */
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

/* "file:line" of the wrong act, or None. */
static PyObject *
place_of(uint32_t stack)
{
    shd_watch_enter(); /* what is read for it is not the program's */
    PyObject *number = PyLong_FromUnsignedLong(stack);
    PyObject *place = number == NULL ? NULL : call_alarm("place", number);
    PyErr_Clear();
    Py_XDECREF(number);
    shd_watch_leave();
    return place == NULL ? Py_NewRef(Py_None) : place;
}

static int
say(sentence *what)
{
    int full = FULL;
    if (!atomic_compare_exchange_strong(&what->state, &full, BUSY)) {
        return 0;
    }
    unsigned long thread = what->thread;
    uint32_t stack = what->stack;
    PyObject *text = PyUnicode_DecodeUTF8(
        what->text, (Py_ssize_t)strlen(what->text), "replace");
    atomic_store(&what->state, EMPTY);
    PyObject *place = place_of(stack);
    PyObject *told = text == NULL ? NULL : PyTuple_Pack(2, text, place);
    PyObject *result = told == NULL ? NULL : call_alarm("say", told);
    PyObject *error = shd_interp_error(SHD_ERROR_STATE);
    if (result == NULL && text != NULL && PyErr_ExceptionMatches(error)
        && thread != PyThread_get_thread_ident()) {
        PyErr_Clear();
        if (raise_in(thread, error, text)) {
            result = Py_NewRef(Py_None);
        }
        else if (place == Py_None) {
            PyErr_SetObject(error, text);
        }
        else {
            PyErr_Format(error, "%U (at %S, in a thread that has ended)", text,
                         place);
        }
    }
    Py_XDECREF(told);
    Py_DECREF(place);
    Py_XDECREF(text);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
say_all(void)
{
    for (int i = 0; i < SENTENCES; i++) {
        if (say(&sentences[i]) < 0) {
            shd_owners_soon(SHD_SOON_SAY); /* the others */
            return -1;
        }
    }
    return 0;
}

/* Since when the main thread has been asked to answer; 0: not at all. */
#define APART (-1) /* a thread of its own answers */
static _Atomic int64_t waiting_since;

/* Answers who asked, each question once. */
static void
answer(void)
{
    uint32_t asked = shd_recorder_asked();
    if (!shd_recording()
        || atomic_exchange(&shd_recorder_answered, asked) == asked) {
        return;
    }
    shd_watch_enter(); /* what is loaded and read for it is not the program's */
    PyObject *number = PyLong_FromUnsignedLong(asked);
    PyObject *result = number == NULL ? NULL : call_alarm("asked", number);
    if (result == NULL) {
        PyErr_WriteUnraisable(NULL);
    }
    Py_XDECREF(number);
    Py_XDECREF(result);
    shd_watch_leave();
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
    if (what & SHD_SOON_ASKED) {
        answer();
        int64_t since = atomic_load(&waiting_since);
        if (since != APART) {
            atomic_compare_exchange_strong(&waiting_since, &since, 0);
        }
    }
    return what & SHD_SOON_SAY ? say_all() : 0;
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

static void *
answer_apart(void *Py_UNUSED(ignored))
{
    if (Py_IsInitialized() && !shd_is_finalizing()) {
        PyGILState_STATE state = PyGILState_Ensure();
        answer();
        PyGILState_Release(state);
    }
    atomic_store(&waiting_since, 0);
    return NULL;
}

/* A thread for one answer, that no signal of the program's comes to. */
static void
start_apart(void)
{
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) {
        return; /* the main thread may still answer */
    }
    sigset_t all, before;
    sigfillset(&all);
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    (void)pthread_attr_setstacksize(&attributes, APART_STACK);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    if (pthread_create(&thread, &attributes, answer_apart, NULL) != 0) {
        atomic_store(&waiting_since, 0);
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
}

void
shd_owners_asked(void)
{
    int error = errno;
    int64_t now = shd_clock_ns(CLOCK_MONOTONIC);
    int64_t since = atomic_load(&waiting_since);
    if (since == 0) {
        atomic_store(&waiting_since, now);
        shd_owners_soon(SHD_SOON_ASKED);
    }
    /* A main thread that waits in a lock or a call answers nobody. */
    else if (since != APART && now - since > PATIENCE
             && getpid() == shd_rec.pid
             && atomic_compare_exchange_strong(&waiting_since, &since,
                                               APART)) {
        start_apart();
    }
    errno = error;
}

void
shd_owners_say(const char *text, uint32_t stack, unsigned long thread)
{
    for (int i = 0; i < SENTENCES; i++) {
        sentence *mine = &sentences[i];
        int empty = EMPTY;
        if (atomic_compare_exchange_strong(&mine->state, &empty, BUSY)) {
            strncpy(mine->text, text, SENTENCE - 1);
            mine->text[SENTENCE - 1] = 0;
            mine->thread = thread;
            mine->stack = stack;
            atomic_store(&mine->state, FULL);
            break;
        }
    }
    shd_owners_soon(SHD_SOON_SAY);
}

void
shd_owners_forked(void)
{
    atomic_store(&wanted, 0);
    atomic_store(&waiting_since, 0);
    for (int i = 0; i < SENTENCES; i++) {
        atomic_store(&sentences[i].state, EMPTY);
    }
}
