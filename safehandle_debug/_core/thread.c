/* Per-thread state, and the names by which people know threads and tasks. */
#define _GNU_SOURCE
#include "thread.h"

#include "depot.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Thread_local shd_thread *current
    __attribute__((tls_model("initial-exec")));

static pthread_key_t key;
static shd_thread *threads;

static void
thread_ended(void *thread)
{
    current = NULL;
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

void
shd_thread_reap(void)
{
    shd_thread **at = &threads;
    while (*at != NULL) {
        shd_thread *thread = *at;
        if (!atomic_load_explicit(&thread->gone, memory_order_acquire)) {
            at = &thread->next;
            continue;
        }
        *at = thread->next;
        shd_recorder_retire(&thread->writer);
        munmap(thread, sizeof(*thread));
    }
}

shd_thread *
shd_thread_get(void)
{
    if (current != NULL) {
        return current;
    }
    shd_thread_reap();
    shd_thread *thread = mmap(NULL, sizeof(*thread), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (thread == MAP_FAILED) {
        return NULL;
    }
    if (pthread_setspecific(key, thread) != 0) {
        munmap(thread, sizeof(*thread));
        return NULL;
    }
    thread->next = threads;
    threads = thread;
    current = thread;
    return thread;
}

void
shd_thread_forked(void)
{
    while (threads != NULL) {
        shd_thread *thread = threads;
        threads = thread->next;
        if (thread != current) {
            munmap(thread, sizeof(*thread));
        }
    }
    if (current != NULL) {
        current->next = NULL;
        threads = current;
    }
}

/* threading's name of the calling thread as a STRING id. */
static uint32_t
thread_name(unsigned long ident)
{
    uint32_t id = 0;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *threading = shd_interp_loaded_module("threading");
    PyObject *active =
        threading == NULL
            ? NULL
            : PyDict_GetItemString(PyModule_GetDict(threading), "_active");
    PyObject *number = PyLong_FromUnsignedLong(ident);
    if (active != NULL && PyDict_CheckExact(active) && number != NULL) {
        PyObject *thread = PyDict_GetItemWithError(active, number);
        PyObject *name =
            thread == NULL ? NULL : PyObject_GetAttrString(thread, "_name");
        if (name != NULL && PyUnicode_Check(name)) {
            id = shd_depot_text(name);
        }
        Py_XDECREF(name);
    }
    Py_XDECREF(number);
    PyErr_Clear();
    PyErr_Restore(type, value, traceback);
    if (id == 0) {
        char text[32];
        long native = syscall(SYS_gettid);
        if (native == getpid()) {
            return shd_depot_string("MainThread");
        }
        snprintf(text, sizeof(text), "thread %ld", native);
        id = shd_depot_string(text);
    }
    return id;
}

uint32_t
shd_thread_id(shd_thread *thread)
{
    if (thread->epoch == shd_rec.epoch) {
        return thread->id;
    }
    unsigned long ident = PyThread_get_thread_ident();
    shd_thread_record record = {ident, (uint32_t)syscall(SYS_gettid),
                                thread_name(ident)};
    thread->id =
        shd_recorder_data(SHD_DATA_THREAD, &record, sizeof(record), NULL, 0);
    thread->epoch = shd_rec.epoch;
    return thread->id;
}

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

uint32_t
shd_thread_task(shd_interp *state)
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
        if (name != NULL && PyUnicode_Check(name)) {
            id = shd_depot_detail(name);
        }
        Py_XDECREF(name);
        Py_DECREF(task);
    }
    PyErr_Clear();
    PyErr_Restore(type, value, traceback);
    return id;
}
