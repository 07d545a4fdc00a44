/* CriticalFinalizer: finalizers that run after all ordinary ones.
 *
 * A collection calls the finalizers of its garbage in no useful order, and
 * clears instances before the memory of their C bases goes: a Python hook
 * called that late would find no attributes.  So during a collection a
 * critical finalizer only enters a queue, which keeps the object (and what it
 * reaches) whole, and the end of the collection drains the queue.
 *
 * Outside a collection an object that dies is finalized at once; but a chain
 * of objects whose hooks drop the next one would nest without bound, so beyond
 * a depth it is queued as well and the outermost finalizer drains.
 *
 * The rule for resurrected objects: a critical finalizer that has become due
 * runs, whether or not an ordinary finalizer made the object reachable again
 * (as in .NET).
 *
 * The collections at interpreter end call no callbacks.  For those an object
 * is made just before, that only such a collection can find: it is cleared
 * after all finalizers of that collection, and drains. */
#include "handle.h"

#include "process.h"
#include "recording/record.h"

#define DEEPEST 20

/* --- interrupts ------------------------------------------------------------- */

void
shd_critical_interrupted(void)
{
    shd_thread *thread = shd_thread_get();
    if (thread == NULL || thread->finalizers == 0) {
        PyErr_SetInterrupt();
        return;
    }
    thread->interrupted = 1;
}

static void
deliver_interrupt(shd_thread *thread)
{
    if (thread->finalizers == 0 && thread->interrupted) {
        thread->interrupted = 0;
        PyErr_SetInterrupt();
    }
}

/* --- the queue ------------------------------------------------------------ */

static int
enqueue(shd_interp *state, PyObject *object)
{
    if (state->queued == state->queue_capacity) {
        Py_ssize_t capacity =
            state->queue_capacity ? state->queue_capacity * 2 : 64;
        PyObject **grown = PyMem_RawRealloc(
            state->queue, (size_t)capacity * sizeof(PyObject *));
        if (grown == NULL) {
            return -1;
        }
        state->queue = grown;
        state->queue_capacity = capacity;
    }
    state->queue[state->queued++] = Py_NewRef(object);
    return 0;
}

static void
run_finalizer(PyObject *object)
{
    if (((shd_critical *)object)->bits & SHD_IS_HANDLE) {
        shd_life_finalize((shd_handle *)object);
        return;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *result = PyObject_CallMethod(object, "finalize", NULL);
    if (result == NULL) {
        PyErr_WriteUnraisable((PyObject *)Py_TYPE(object));
    }
    Py_XDECREF(result);
    PyErr_Restore(type, value, traceback);
}

void
shd_critical_drain(shd_interp *state)
{
    shd_thread *thread = shd_thread_get();
    if (thread != NULL) {
        thread->finalizers++;
    }
    while (state->queued) {
        PyObject **queue = state->queue;
        Py_ssize_t count = state->queued;
        state->queue = NULL;
        state->queued = state->queue_capacity = 0;
        for (Py_ssize_t i = 0; i < count; i++) {
            run_finalizer(queue[i]);
            Py_DECREF(queue[i]);
        }
        PyMem_RawFree(queue);
    }
    if (thread != NULL) {
        thread->finalizers--;
        deliver_interrupt(thread);
    }
}

/* --- when a collection runs ------------------------------------------------ */

int shd_critical_passes;

int
shd_critical_runs_pass(void)
{
    PyThreadState *tstate = PyThreadState_Get();
    shd_interp *state = shd_interp_of(tstate);
    return state != NULL && state->collecting == tstate;
}

static PyObject *
collection_callback(PyObject *Py_UNUSED(self), PyObject *const *args,
                    Py_ssize_t nargs)
{
    shd_interp *state = shd_interp_get();
    if (state != NULL && nargs >= 1 && PyUnicode_Check(args[0])) {
        if (PyUnicode_CompareWithASCIIString(args[0], "start") == 0) {
            shd_critical_passes += state->collecting == NULL;
            state->collecting = PyThreadState_Get();
            shd_here.collecting = 1;
            shd_here.collected_since =
                atomic_load_explicit(&shd_newest_serial, memory_order_relaxed);
        }
        else if (PyUnicode_CompareWithASCIIString(args[0], "stop") == 0) {
            shd_critical_passes -= state->collecting != NULL;
            state->collecting = NULL;
            shd_here.collecting = 0;
            shd_critical_drain(state);
        }
    }
    Py_RETURN_NONE;
}

static PyMethodDef callback_def = {
    "safehandle_debug", (PyCFunction)(void (*)(void))collection_callback,
    METH_FASTCALL, NULL};

static int
install_callback(shd_interp *state)
{
    PyObject *callback = PyCFunction_New(&callback_def, NULL);
    if (callback == NULL) {
        return -1;
    }
    int result = PyList_Check(state->gc_callbacks)
                     ? PyList_Append(state->gc_callbacks, callback)
                     : 0;
    Py_DECREF(callback);
    return result;
}

/* True for a collection at interpreter end, which we see only from inside. */
static int
in_last_passes(shd_interp *state)
{
    return state->exit_guard && shd_gc_is_collecting()
           && state->collecting == NULL;
}

/* --- finalizers ------------------------------------------------------------ */

void
shd_critical_finalize(PyObject *self)
{
    shd_critical *object = (shd_critical *)self;
    if (object->bits & SHD_FINALIZED) {
        return;
    }
    if ((object->bits & SHD_IS_HANDLE)
        && !shd_life_needs_finalizer((shd_handle *)self)) {
        return;
    }
    shd_interp *state = shd_interp_get();
    shd_thread *thread = shd_thread_get();
    if (state == NULL || thread == NULL) {
        return;
    }
    object->bits |= SHD_FINALIZED;
    int in_pass = shd_critical_in_pass() || in_last_passes(state);
    if (in_pass) {
        object->bits |= SHD_COLLECTED;
    }
    if ((in_pass || thread->finalizers >= DEEPEST)
        && enqueue(state, self) == 0) {
        return;
    }
    thread->finalizers++;
    run_finalizer(self);
    thread->finalizers--;
    if (thread->finalizers == 0 && state->queued && !in_pass) {
        shd_critical_drain(state);
    }
    deliver_interrupt(thread);
}

/* tp_finalize of subclasses with a __del__ of their own: that is an ordinary
   finalizer, ours comes after it, also when it forgets its base. */
static void
finalize_with_del(PyObject *self)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *del = PyObject_GetAttrString(self, "__del__");
    PyObject *result = del == NULL ? NULL : PyObject_CallNoArgs(del);
    if (result == NULL) {
        PyErr_WriteUnraisable(del);
    }
    Py_XDECREF(result);
    Py_XDECREF(del);
    PyErr_Restore(type, value, traceback);
    shd_critical_finalize(self);
}

int
shd_critical_prepare(PyTypeObject *type)
{
    if (type->tp_finalize != shd_critical_finalize) {
        type->tp_finalize = finalize_with_del;
    }
    return shd_critical_listen();
}

int
shd_critical_listen(void)
{
    shd_interp *state = shd_interp_get();
    if (state == NULL || state->callbacks_installed) {
        return 0;
    }
    state->callbacks_installed = 1;
    return install_callback(state);
}

/* --- the guard of the last collections ------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *cycle; /* itself: only the collector can find it */
} guard;

static int
guard_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((guard *)self)->cycle);
    return 0;
}

static int
guard_clear(PyObject *self)
{
    shd_interp *state = shd_interp_get();
    if (state != NULL && state->exit_guard) {
        state->exit_guard = 0; /* from now on at once: it is late */
        Py_CLEAR(state->provenance_reader); /* and what its module holds */
        shd_critical_drain(state);
        /* Python hooks of what is still reachable run now: next, the modules
           that survived this collection are emptied, `os` among them. */
        shd_process_sweep(state->id, SHD_SWEEP_PYTHON);
    }
    Py_CLEAR(((guard *)self)->cycle);
    return 0;
}

static void
guard_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(((guard *)self)->cycle);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot guard_slots[] = {
    {Py_tp_traverse, guard_traverse},
    {Py_tp_clear, guard_clear},
    {Py_tp_dealloc, guard_dealloc},
    {0, NULL},
};

static PyType_Spec guard_spec = {
    .name = "safehandle_debug._native._ExitGuard",
    .basicsize = sizeof(guard),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = guard_slots,
};

int
shd_critical_guard_exit(shd_interp *state)
{
    /* In sys.modules, since it must become garbage when the modules do. */
    PyObject *module = PyImport_AddModule("safehandle_debug._exit");
    if (module == NULL) {
        return -1;
    }
    PyTypeObject *type = (PyTypeObject *)PyType_FromSpec(&guard_spec);
    if (type == NULL) {
        return -1;
    }
    guard *object = PyObject_GC_New(guard, type);
    Py_DECREF(type);
    if (object == NULL) {
        return -1;
    }
    object->cycle = Py_NewRef(object);
    PyObject_GC_Track(object);
    int result = PyObject_SetAttrString(module, "guard", (PyObject *)object);
    Py_DECREF(object);
    state->exit_guard = result == 0;
    return result;
}

/* --- the type -------------------------------------------------------------- */

static PyObject *
critical_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
             PyObject *Py_UNUSED(kwargs))
{
    shd_interp *state = shd_interp_get();
    if (state != NULL && type == state->critical_finalizer) {
        PyErr_SetString(PyExc_TypeError,
                        "CriticalFinalizer is abstract: a subclass must "
                        "define finalize()");
        return NULL;
    }
    if (shd_critical_prepare(type) < 0) {
        return NULL;
    }
    return type->tp_alloc(type, 0);
}

static void
critical_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
critical_finalize_method(PyObject *Py_UNUSED(self),
                         PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_NONE;
}

PyDoc_STRVAR(finalize_doc,
"finalize($self, /)\n--\n\n"
"Called once, after all ordinary finalizers of the same collection.\n\n"
"Override it; an exception in it is reported, never raised.");

static PyMethodDef critical_methods[] = {
    {"finalize", critical_finalize_method, METH_NOARGS, finalize_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(critical_doc,
"Base of objects whose finalizer runs after all ordinary ones.\n\n"
"When a collection finds garbage, every __del__ and weak reference callback\n"
"of it runs first, then finalize() of the critical objects, whose attributes\n"
"are all still there. An object that dies by its reference count is\n"
"finalized at once.");

static PyType_Slot critical_slots[] = {
    {Py_tp_doc, (void *)critical_doc}, {Py_tp_new, critical_new},
    {Py_tp_dealloc, critical_dealloc}, {Py_tp_finalize, shd_critical_finalize},
    {Py_tp_methods, critical_methods}, {0, NULL},
};

static PyType_Spec critical_spec = {
    .name = "safehandle_debug.CriticalFinalizer",
    .basicsize = sizeof(shd_critical),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = critical_slots,
};

int
shd_critical_add(PyObject *module, shd_interp *state)
{
    state->critical_finalizer = shd_type_make(module, &critical_spec, NULL);
    return state->critical_finalizer == NULL ? -1 : 0;
}
