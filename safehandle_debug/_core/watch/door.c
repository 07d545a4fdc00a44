/* The watch's switch, as Python sees it. */
#include "lifetime/handle.h"
#include "interpose.h"
#include "owners.h"
#include "quarantine.h"
#include "state.h"

PyDoc_STRVAR(watch_start_doc,
"watch_start(quarantine=0, arm=0)\n--\n\n"
"Watches the descriptors and child processes of all code in this process.\n\n"
"quarantine: closed numbers to park at most.  arm: descriptors that must be\n"
"open before stacks are recorded, 0: from the start.  Raises OSError.");

static PyObject *
watch_start(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"quarantine", "arm", NULL};
    int quarantine = 0;
    unsigned int arm = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|iI", names, &quarantine,
                                     &arm)
        || shd_watch_start(quarantine, arm) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(watch_stop_doc,
"watch_stop()\n--\n\nGives libc's functions back to all code.");

static PyObject *
watch_stop(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    shd_watch_stop();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(watch_pause_doc,
"watch_pause()\n--\n\n"
"What this thread opens and closes from now on goes unseen; nests.");

static PyObject *
watch_pause(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    shd_watch_enter();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(watch_resume_doc,
"watch_resume()\n--\n\nEnds one watch_pause().");

static PyObject *
watch_resume(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    shd_watch_leave();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(watch_reconcile_doc,
"watch_reconcile()\n--\n\n"
"Compares with /proc/self/fd; returns how many differences were recorded.");

static PyObject *
watch_reconcile(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    int changes = shd_watch_reconcile();
    /* What on_error= has to say of it comes as such a call. */
    return Py_MakePendingCalls() < 0 ? NULL : PyLong_FromLong(changes);
}

/* Function and tool, each pair once. */
typedef struct {
    struct {
        const char *function, *tool;
    } found[256];
    size_t count;
} others;

static void
add_other(const char *function, const char *tool, void *arg)
{
    others *all = arg;
    for (size_t i = 0; i < all->count; i++) {
        if (all->found[i].function == function && all->found[i].tool == tool) {
            return;
        }
    }
    if (all->count < Py_ARRAY_LENGTH(all->found)) {
        all->found[all->count].function = function;
        all->found[all->count].tool = tool;
        all->count++;
    }
}

static PyObject *
list_others(void)
{
    others all = {.count = 0};
    shd_interpose_each_other(add_other, &all);
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < all.count; i++) {
        PyObject *pair =
            Py_BuildValue("(ss)", all.found[i].function, all.found[i].tool);
        if (pair == NULL || PyList_Append(list, pair) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(pair);
    }
    return list;
}

PyDoc_STRVAR(watch_status_doc,
"watch_status()\n--\n\n"
"{'on', 'objects', 'slots', 'open', 'parked', 'owners', 'others'}: whether\n"
"the watch runs, loaded objects seen, calls redirected, descriptors open,\n"
"numbers parked, names of the types whose objects are known as owners,\n"
"(function, tool) of what other tools put before libc.");

static PyObject *
watch_status(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("{s:N,s:n,s:n,s:i,s:i,s:N,s:N}", "on",
                         PyBool_FromLong(shd_watch_running()), "objects",
                         (Py_ssize_t)shd_interpose_objects(), "slots",
                         (Py_ssize_t)shd_interpose_slots(), "open",
                         atomic_load(&shd_watch_open), "parked",
                         shd_quarantine_parked(), "owners", shd_owners_names(),
                         "others", list_others());
}

static PyMethodDef methods[] = {
    {"watch_start", (PyCFunction)(void (*)(void))watch_start,
     METH_VARARGS | METH_KEYWORDS, watch_start_doc},
    {"watch_stop", watch_stop, METH_NOARGS, watch_stop_doc},
    {"watch_pause", watch_pause, METH_NOARGS, watch_pause_doc},
    {"watch_resume", watch_resume, METH_NOARGS, watch_resume_doc},
    {"watch_reconcile", watch_reconcile, METH_NOARGS, watch_reconcile_doc},
    {"watch_status", watch_status, METH_NOARGS, watch_status_doc},
    {NULL, NULL, 0, NULL},
};

int
shd_watch_add(PyObject *module, shd_interp *Py_UNUSED(state))
{
    return PyModule_AddFunctions(module, methods);
}
