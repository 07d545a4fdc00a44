/* Per-thread state, and the names by which people know threads and tasks. */
#define _GNU_SOURCE
#include "thread.h"

#include "depot.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE 1000
#define MOST_UNNAMED 256 /* dead ones are kept for */
#define KEYS_IN_PLACE 32 /* of glibc; later ones are allocated */

_Atomic uint32_t shd_thread_unnamed;

static pthread_key_t key;
static _Atomic(shd_thread *) threads; /* newest first */
static _Atomic int visiting;          /* a thread goes through the list */
static _Atomic int no_naming;

/* --- the list ---------------------------------------------------------------- */

static void
thread_ended(void *thread)
{
    shd_here.thread = NULL;
    atomic_store_explicit(&((shd_thread *)thread)->gone, 1,
                          memory_order_release);
}

int
shd_thread_start(void)
{
    static int started;
    if (!started && pthread_key_create(&key, thread_ended) != 0) {
        return -1;
    }
    started = 1;
    return 0;
}

static int
begin_visit(int patience)
{
    while (atomic_exchange(&visiting, 1)) {
        if (patience-- == 0) {
            return 0;
        }
        sched_yield();
    }
    return 1;
}

static void
end_visit(void)
{
    atomic_store(&visiting, 0);
}

/* Takes `thread` off the list; only one thread visits, others only add. */
static void
unlink_thread(shd_thread *before, shd_thread *thread)
{
    shd_thread *head = thread;
    if (before == NULL
        && atomic_compare_exchange_strong(&threads, &head, thread->next)) {
        return;
    }
    if (before == NULL) {
        before = head;
        while (before->next != thread) {
            before = before->next;
        }
    }
    before->next = thread->next;
}

void
shd_thread_reap(void)
{
    if (!begin_visit(0)) {
        return;
    }
    shd_thread *before = NULL, *next;
    for (shd_thread *at = atomic_load(&threads); at != NULL; at = next) {
        next = at->next;
        if (!atomic_load_explicit(&at->gone, memory_order_acquire)) {
            before = at;
            continue;
        }
        if (shd_here.thread != NULL && shd_thread_enter(shd_here.thread)) {
            shd_recorder_retire(&at->writer);
            shd_thread_leave(shd_here.thread);
        }
        if (atomic_load(&at->unnamed) && !atomic_load(&no_naming)
            && atomic_load(&shd_thread_unnamed) < MOST_UNNAMED) {
            before = at; /* its name may still be found */
            continue;
        }
        unlink_thread(before, at);
        if (atomic_load(&at->unnamed)) {
            atomic_fetch_sub(&shd_thread_unnamed, 1);
        }
        munmap(at, sizeof(*at));
    }
    end_visit();
}

shd_thread *
shd_thread_make(void)
{
    int error = errno;
    shd_thread *thread = mmap(NULL, sizeof(*thread), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    errno = error;
    if (thread == MAP_FAILED) {
        return NULL;
    }
    if (shd_here.thread != NULL) {
        /* A signal handler was here meanwhile. */
        munmap(thread, sizeof(*thread));
        return shd_here.thread;
    }
    shd_here.thread = thread;
    thread->ident = PyThread_get_thread_ident();
    if (key < KEYS_IN_PLACE) {
        thread->told = pthread_setspecific(key, thread) == 0;
    }
    thread->next = atomic_load(&threads);
    while (!atomic_compare_exchange_weak(&threads, &thread->next, thread)) {
    }
    shd_thread_reap();
    return thread;
}

void
shd_thread_forked(void)
{
    shd_thread *at = atomic_exchange(&threads, NULL);
    while (at != NULL) {
        shd_thread *next = at->next;
        if (at != shd_here.thread) {
            munmap(at, sizeof(*at));
        }
        at = next;
    }
    if (shd_here.thread != NULL) {
        shd_here.thread->next = NULL;
        atomic_store(&shd_here.thread->inside, 0);
        atomic_store(&shd_here.thread->unnamed, 0);
        atomic_store(&threads, shd_here.thread);
    }
    atomic_store(&visiting, 0);
    atomic_store(&shd_thread_unnamed, 0);
}

/* --- who is inside ----------------------------------------------------------- */

/* Every thread of this process passes a memory barrier. */
static void
fence_all(void)
{
#ifdef SYS_membarrier
    enum {
        EXPEDITED = 1 << 3,
        REGISTER = 1 << 4
    }; /* linux/membarrier.h */
    if (syscall(SYS_membarrier, EXPEDITED, 0, 0) == 0
        || (syscall(SYS_membarrier, REGISTER, 0, 0) == 0
            && syscall(SYS_membarrier, EXPEDITED, 0, 0) == 0)) {
        return;
    }
#endif
    /* No store waits as long in its processor. */
    nanosleep(&(struct timespec){0, 5000000}, NULL);
}

int
shd_thread_all_outside(void)
{
    fence_all();
    if (!begin_visit(PATIENCE)) {
        return 0;
    }
    int outside = 1;
    shd_thread *at = atomic_load(&threads);
    for (; at != NULL && outside; at = at->next) {
        for (int i = 0; at != shd_here.thread && atomic_load(&at->inside);
             i++) {
            if (i == PATIENCE) {
                outside = 0;
                break;
            }
            /* It is preempted, or makes room on a slow disk. */
            nanosleep(&(struct timespec){0, i < 10 ? 0 : 1000000}, NULL);
        }
    }
    end_visit();
    return outside;
}

/* --- names ------------------------------------------------------------------- */

/* Its name, a new reference, or NULL. */
static PyObject *
name_of(PyObject *thread)
{
    PyObject *name = PyObject_GetAttrString(thread, "_name");
    if (name != NULL && !PyUnicode_Check(name)) {
        Py_CLEAR(name);
    }
    return name;
}

/* Name of a thread that has ended, if its object has not: those are in the set
   `threading._dangling.data`, by weak references. */
static PyObject *
name_of_ended(PyObject *space, uint32_t native)
{
    PyObject *dangling = PyDict_GetItemString(space, "_dangling");
    PyObject *data =
        dangling == NULL ? NULL : PyObject_GetAttrString(dangling, "data");
    PyObject *all = data == NULL || !PyAnySet_CheckExact(data)
                        ? NULL
                        : PyObject_GetIter(data);
    PyObject *name = NULL, *each;
    while (name == NULL && all != NULL && (each = PyIter_Next(all)) != NULL) {
        PyObject *thread = shd_weakly_held(each);
        PyObject *number = thread == NULL
                               ? NULL
                               : PyObject_GetAttrString(thread, "_native_id");
        if (number != NULL && PyLong_CheckExact(number)
            && PyLong_AsUnsignedLong(number) == native) {
            name = name_of(thread);
        }
        PyErr_Clear();
        Py_XDECREF(number);
        Py_XDECREF(thread);
        Py_DECREF(each);
    }
    Py_XDECREF(all);
    Py_XDECREF(data);
    return name;
}

/* threading's name of a thread, a new reference, or NULL. */
static PyObject *
known_name(const shd_thread *thread)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *name = NULL;
    PyObject *threading = shd_interp_loaded_module("threading");
    PyObject *space = threading == NULL ? NULL : PyModule_GetDict(threading);
    PyObject *active =
        space == NULL ? NULL : PyDict_GetItemString(space, "_active");
    PyObject *number = PyLong_FromUnsignedLong(thread->ident);
    if (active != NULL && PyDict_CheckExact(active) && number != NULL) {
        PyObject *found = PyDict_GetItemWithError(active, number);
        /* The number of one that has ended may be another's already. */
        if (found != NULL && !atomic_load(&thread->gone)) {
            Py_INCREF(found);
            name = name_of(found);
            Py_DECREF(found);
        }
        if (name == NULL) {
            name = name_of_ended(space, thread->native);
        }
    }
    Py_XDECREF(number);
    PyErr_Clear();
    PyErr_Restore(type, value, traceback);
    return name;
}

/* A name for a thread that threading does not know. */
static uint32_t
other_name(uint32_t native)
{
    char text[32] = "MainThread";
    if (native != (uint32_t)shd_rec.pid) {
        char digits[16];
        int count = 0;
        for (uint32_t left = native; count == 0 || left; left /= 10) {
            digits[count++] = (char)('0' + left % 10);
        }
        memcpy(text, "thread ", 7);
        for (int i = 0; i < count; i++) {
            text[7 + i] = digits[count - 1 - i];
        }
        text[7 + count] = 0;
    }
    return shd_depot_string(text);
}

static int
name_all(void *Py_UNUSED(nothing))
{
    shd_thread_name_all();
    return 0;
}

/* `name`: threading's, or NULL.  A thread whose name threading may know, but
   without the GIL nobody can ask, has none for the time being. */
static uint32_t
describe_thread(shd_thread *thread, PyObject *name, int askable)
{
    thread->native = (uint32_t)syscall(SYS_gettid);
    shd_thread_record record = {thread->ident, thread->native, 0};
    if (name != NULL) {
        record.name = shd_depot_text(name);
    }
    /* The main thread may be in a signal handler: a pending call is not asked
       of it, and its name is known. */
    if (record.name == 0
        && (!askable || thread->native == (uint32_t)shd_rec.pid)) {
        record.name = other_name(thread->native);
    }
    thread->id =
        shd_recorder_data(SHD_DATA_THREAD, &record, sizeof(record), NULL, 0);
    atomic_store(&thread->epoch, shd_rec.epoch);
    if (record.name == 0 && thread->id
        && !atomic_exchange(&thread->unnamed, 1)) {
        atomic_fetch_add(&shd_thread_unnamed, 1);
        if (!atomic_load(&no_naming) && !shd_is_finalizing()) {
            (void)Py_AddPendingCall(name_all, NULL);
        }
    }
    return thread->id;
}

uint32_t
shd_thread_new_id(shd_thread *thread, const PyThreadState *tstate)
{
    int error = errno;
    uint32_t id = describe_thread(thread, NULL, tstate != NULL);
    errno = error;
    return id;
}

uint32_t
shd_thread_find_name(shd_thread *thread)
{
    if (!thread->told) {
        thread->told = 1;
        (void)pthread_setspecific(key, thread);
    }
    if (atomic_load_explicit(&shd_thread_unnamed, memory_order_relaxed)) {
        shd_thread_name_all();
    }
    if (atomic_load_explicit(&thread->epoch, memory_order_relaxed)
        != shd_rec.epoch) {
        PyObject *name = known_name(thread);
        if (shd_thread_enter(thread)) {
            describe_thread(thread, name, 0);
            shd_thread_leave(thread);
        }
        Py_XDECREF(name);
    }
    return thread->id;
}

/* Fills in the name in the record, which readers look at again until it has
   one. */
static void
name_thread(shd_thread *own, shd_thread *thread)
{
    PyObject *known = known_name(thread);
    if (shd_thread_enter(own)) {
        if (atomic_load(&thread->epoch) == shd_rec.epoch
            && atomic_exchange(&thread->unnamed, 0)) {
            shd_thread_record *record =
                (shd_thread_record *)(shd_rec.map + (uint64_t)thread->id * 8
                                      + sizeof(shd_data_head));
            uint32_t name = known == NULL ? 0 : shd_depot_text(known);
            atomic_store_explicit((_Atomic uint32_t *)&record->name,
                                  name ? name : other_name(thread->native),
                                  memory_order_release);
            atomic_fetch_sub(&shd_thread_unnamed, 1);
        }
        shd_thread_leave(own);
    }
    Py_XDECREF(known);
}

void
shd_thread_name_all(void)
{
    shd_thread *own = shd_thread_get();
    if (own == NULL || !shd_recording() || !begin_visit(0)) {
        return;
    }
    shd_thread *at = atomic_load(&threads);
    for (; at != NULL; at = at->next) {
        if (atomic_load(&at->unnamed)) {
            name_thread(own, at);
        }
    }
    end_visit();
}

void
shd_thread_stop_naming(void)
{
    atomic_store(&no_naming, 1);
}

/* --- tasks ------------------------------------------------------------------- */

/* The running task, a new reference, or NULL without an exception. */
static PyObject *
running_task(PyObject *module)
{
    static PyObject *get_loop_name, *tasks_name;
    if (get_loop_name == NULL) {
        get_loop_name = PyUnicode_InternFromString("_get_running_loop");
        tasks_name = PyUnicode_InternFromString(
            PY_VERSION_HEX >= 0x030E0000 ? "current_task" : "_current_tasks");
        if (get_loop_name == NULL || tasks_name == NULL) {
            return NULL;
        }
    }
    PyObject *loop = PyObject_CallMethodNoArgs(module, get_loop_name);
    if (loop == NULL || loop == Py_None) {
        Py_XDECREF(loop);
        return NULL;
    }
#if PY_VERSION_HEX >= 0x030E0000
    /* The thread has its task, and only this tells it. */
    PyObject *task = PyObject_CallMethodOneArg(module, tasks_name, loop);
    if (task == Py_None) {
        Py_CLEAR(task);
    }
#else
    PyObject *task = NULL;
    PyObject *tasks =
        PyDict_GetItemWithError(PyModule_GetDict(module), tasks_name);
    if (tasks != NULL && PyDict_CheckExact(tasks)) {
        task = Py_XNewRef(PyDict_GetItemWithError(tasks, loop));
    }
#endif
    Py_DECREF(loop);
    return task;
}

static uint32_t
look_up_task(shd_thread *thread, shd_interp *state)
{
    static PyObject *seen_modules;
    static Py_ssize_t seen_size;
    static int loaded;
    if (state->modules == NULL || !PyDict_CheckExact(state->modules)) {
        return 0;
    }
    if (state->modules != seen_modules
        || PyDict_GET_SIZE(state->modules) != seen_size) {
        loaded = shd_interp_loaded_module("_asyncio") != NULL;
        seen_modules = state->modules;
        seen_size = PyDict_GET_SIZE(state->modules);
    }
    if (!loaded) {
        return 0;
    }
    uint32_t id = 0;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *module = shd_interp_loaded_module("_asyncio");
    PyObject *task = module == NULL ? NULL : running_task(module);
    if (task != NULL) {
        PyObject *name = PyObject_CallMethod(task, "get_name", NULL);
        if (name != NULL && PyUnicode_Check(name)
            && shd_thread_enter(thread)) {
            id = shd_depot_detail(name);
            shd_thread_leave(thread);
        }
        Py_XDECREF(name);
        Py_DECREF(task);
    }
    PyErr_Clear();
    PyErr_Restore(type, value, traceback);
    return id;
}

uint32_t
shd_thread_task(shd_thread *thread, shd_interp *state, PyThreadState *tstate)
{
    thread->task = look_up_task(thread, state);
    thread->task_epoch = shd_rec.epoch;
    thread->task_moment = shd_thread_moment(tstate);
    return thread->task;
}
