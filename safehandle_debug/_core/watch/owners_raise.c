/* An exception for the thread that did wrong, with the GIL or without.
 *
 * What PyThreadState_SetAsyncExc() does for another thread, this one may do for
 * itself: the field is its own, and is looked at when it is back in Python.
 * The class is made before; references to it are in stock, as nobody may count
 * them here. */
#include "interp.h"
#include "owners_parts.h"

#include <stdatomic.h>
#include <string.h>

#define SENTENCE 160
#define SENTENCES 16
#define STOCK (1 << 20)

static PyObject *raised; /* the class */
static _Atomic int stock;

typedef struct {
    _Atomic unsigned long thread; /* 0: free, 1: being written */
    char text[SENTENCE];
} sentence;

static sentence sentences[SENTENCES];

/* __new__ of the class: the error that this thread was told of.  It is asked
 * for again with what it gave. */
static PyObject *
make_error(PyObject *Py_UNUSED(self), PyObject *args)
{
    if (PyTuple_GET_SIZE(args) > 1) {
        return Py_NewRef(PyTuple_GET_ITEM(args, 1));
    }
    char text[SENTENCE] = "";
    for (int i = 0; i < SENTENCES; i++) {
        if (atomic_load(&sentences[i].thread) == PyThread_get_thread_ident()) {
            memcpy(text, sentences[i].text, sizeof(text));
            atomic_store(&sentences[i].thread, 0);
            break;
        }
    }
    PyObject *error = shd_interp_error(SHD_ERROR_STATE);
    return error == NULL ? NULL : PyObject_CallFunction(error, "s", text);
}

void
shd_owners_raise_start(void)
{
    static PyMethodDef definition = {"__new__", make_error, METH_VARARGS,
                                     NULL};
    PyObject *error = shd_interp_error(SHD_ERROR_STATE);
    if (raised != NULL || error == NULL) {
        PyErr_Clear();
        return;
    }
    PyObject *method = PyCFunction_New(&definition, NULL);
    PyObject *class =
        method == NULL
            ? NULL
            : PyObject_CallFunction((PyObject *)&PyType_Type, "s(O){s:O,s:s}",
                                    "HandleStateError", error, "__new__",
                                    method, "__module__", "safehandle_debug");
    PyErr_Clear();
    Py_XDECREF(method);
    if (class != NULL) {
        Py_SET_REFCNT(class, Py_REFCNT(class) + STOCK);
        atomic_store(&stock, STOCK);
        raised = class;
    }
}

int
shd_owners_raise_here(const char *text)
{
    PyThreadState *own = shd_thread_state();
    if (raised == NULL || own == NULL || !Py_IsInitialized()
        || own->interp != PyInterpreterState_Main()) {
        return 0; /* or the class is another interpreter's */
    }
    for (int i = 0; i < SENTENCES; i++) {
        unsigned long is_free = 0;
        if (!atomic_compare_exchange_strong(&sentences[i].thread, &is_free,
                                            1)) {
            continue;
        }
        strncpy(sentences[i].text, text, SENTENCE - 1);
        atomic_store(&sentences[i].thread, PyThread_get_thread_ident());
        if (atomic_fetch_sub(&stock, 1) > 0 && shd_raise_soon(own, raised)) {
            return 1;
        }
        atomic_fetch_add(&stock, 1);
        atomic_store(&sentences[i].thread, 0);
        return 0;
    }
    return 0;
}
