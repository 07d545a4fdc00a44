/* The extension module: the core's interface to the floors above it. */
#include "recording/clock.h"
#include "recording/depot.h"
#include "lifetime/events.h"
#include "lifetime/process.h"
#include "recording/recorder.h"
#include "recording/unwind.h"
#include "locals.h"
#include "watch/judge.h"
#include "watch/owners.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static int
find_word(const char *const *words, int count, const char *what,
          const char *text)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(words[i], text) == 0) {
            return i;
        }
    }
    PyErr_Format(PyExc_ValueError, "unknown %s '%s'", what, text);
    return -1;
}

static const char *const level_words[] = {"off", "sampled", "full"};
static const char *const on_error_words[] = {"record", "warn", "raise",
                                             "abort"};

static PyObject *
start_recording(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"path",        "level", "frames",   "sample",
                            "size",        "meta",  "children", "on_error",
                            "tracemalloc", NULL};
    const char *level_name = "full", *on_error_name = "record", *meta = "{}";
    PyObject *path;
    unsigned int frames = 32, sample = 100;
    unsigned long long size = 256u << 20;
    int children = 1, mirror = 0;
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "O&|$sIIKspsp:start_recording", names,
            PyUnicode_FSConverter, &path, &level_name, &frames, &sample, &size,
            &meta, &children, &on_error_name, &mirror)) {
        return NULL;
    }
    PyObject *result = NULL;
    int level = find_word(level_words, 3, "level", level_name);
    int on_error = find_word(on_error_words, 4, "on_error", on_error_name);
    if (level < 0 || on_error < 0) {
        goto done;
    }
    if (level == SHD_LEVEL_OFF || frames < 1 || frames > SHD_KEEP_FRAMES
        || sample < 1) {
        PyErr_Format(PyExc_ValueError,
                     "level must be sampled or full, frames 1 to %d, sample "
                     "at least 1",
                     SHD_KEEP_FRAMES);
        goto done;
    }
    if (shd_recording()) {
        PyErr_SetString(shd_interp_error(SHD_ERROR_STATE),
                        "recording already: stop_recording() first");
        goto done;
    }
    char *kept = strdup(meta);
    if (kept == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    shd_settings settings = {
        .level = level,
        .frames = frames,
        .sample = sample,
        .size = size,
        .children = children,
        .python_version = PY_VERSION_HEX,
        .meta = kept,
    };
    char *old = shd_rec.settings.meta;
    if (shd_recorder_start(PyBytes_AS_STRING(path), &settings,
                           shd_newest_serial)
        < 0) {
        free(kept);
        PyErr_SetString(shd_interp_error(SHD_ERROR_RECORDING),
                        shd_recorder_error());
        goto done;
    }
    free(old);
    shd_record_listen();
    shd_on_error = on_error;
    shd_mirror_tracemalloc = mirror;
    result = Py_NewRef(Py_None);
done:
    Py_DECREF(path);
    return result;
}

static PyObject *
stop_recording(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    shd_recorder_stop(SHD_ENDED_STOPPED, 0);
    shd_record_listen();
    shd_on_error = SHD_ON_ERROR_RECORD;
    shd_mirror_tracemalloc = 0;
    Py_RETURN_NONE;
}

static PyObject *
recording_path(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    if (!shd_recording()) {
        Py_RETURN_NONE;
    }
    return PyUnicode_DecodeFSDefault(shd_rec.path);
}

static PyObject *
recording_error(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    const char *error = shd_recorder_error();
    if (error[0] == 0) {
        Py_RETURN_NONE;
    }
    return PyUnicode_DecodeFSDefault(error);
}

static PyObject *
level(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    int now = shd_recording() ? shd_rec.settings.level : SHD_LEVEL_OFF;
    return PyUnicode_FromString(level_words[now]);
}

static PyObject *
newest_serial(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLongLong(shd_newest_serial);
}

static int
compare_serials(const void *a, const void *b)
{
    uint64_t one = *(const uint64_t *)a, other = *(const uint64_t *)b;
    return one < other ? -1 : one > other;
}

static PyObject *
open_since(PyObject *Py_UNUSED(module), PyObject *number)
{
    unsigned long long mark = PyLong_AsUnsignedLongLong(number);
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (mark >= shd_newest_serial) {
        return PyList_New(0);
    }
    uint32_t size = shd_table_size();
    size_t count = 0;
    uint64_t *found = malloc((size + 1) * sizeof(*found));
    if (found == NULL) {
        return PyErr_NoMemory();
    }
    for (uint32_t slot = 1; slot <= size; slot++) {
        uint64_t meta = atomic_load(&shd_table_entry(slot)->meta);
        if (meta && shd_table_serial(meta) > mark) {
            found[count++] = shd_table_serial(meta);
        }
    }
    qsort(found, count, sizeof(*found), compare_serials);
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *serial = PyLong_FromUnsignedLongLong(found[i]);
        if (serial == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)i, serial);
    }
    free(found);
    return list;
}

static PyObject *
live_count(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLongLong(shd_table_live());
}

static PyObject *
problem_count(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    shd_judge_settle();
    return PyLong_FromUnsignedLongLong(shd_problems);
}

static PyObject *
set_test(PyObject *Py_UNUSED(module), PyObject *name)
{
    if (name == Py_None) {
        shd_record_set_test("");
        Py_RETURN_NONE;
    }
    const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
    if (text == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "name must be str or None");
        }
        return NULL;
    }
    shd_record_set_test(text);
    Py_RETURN_NONE;
}

static PyObject *
set_meta(PyObject *Py_UNUSED(module), PyObject *json)
{
    const char *text = PyUnicode_Check(json) ? PyUnicode_AsUTF8(json) : NULL;
    if (text == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "meta must be str");
        }
        return NULL;
    }
    uint32_t id = shd_recording() ? shd_depot_string(text) : 0;
    if (id != 0) {
        /* The text is there before its number: a reader sees either one. */
        atomic_store_explicit((_Atomic uint32_t *)&shd_rec.header->meta, id,
                              memory_order_release);
    }
    return PyBool_FromLong(id != 0);
}

static PyObject *
set_provenance_reader(PyObject *Py_UNUSED(module), PyObject *reader)
{
    shd_interp *state = shd_interp_get();
    if (state != NULL) {
        PyObject *kept = reader == Py_None ? NULL : Py_NewRef(reader);
        Py_XSETREF(state->provenance_reader, kept);
    }
    Py_RETURN_NONE;
}

static PyObject *
sweep(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    shd_interp *state = shd_interp_get();
    return PyLong_FromLong(
        state == NULL ? 0 : shd_process_sweep(state->id, SHD_SWEEP_ALL));
}

static PyObject *
guard_exit(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    shd_interp *state = shd_interp_get();
    if (state != NULL && shd_critical_guard_exit(state) < 0) {
        return NULL;
    }
    if (shd_recording()
        && PyInterpreterState_Get() == PyInterpreterState_Main()) {
        shd_thread_stop_naming();
        shd_thread_name_all();
        shd_unwind_ending();
        shd_thread_reap();
        shd_rec.header->finalizing_seq = shd_rec.header->next_seq;
    }
    Py_RETURN_NONE;
}

static PyObject *
stack_source(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyUnicode_FromString(shd_unwind_source());
}

static PyObject *
capture_stack(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLong(shd_events_capture());
}

PyDoc_STRVAR(start_recording_doc,
"start_recording($module, /, path, *, level='full', frames=32, sample=100,\n"
"                size=268435456, meta='{}', children=True,\n"
"                on_error='record', tracemalloc=False)\n--\n\n"
"Starts recording into the new file `path`.\n\n"
"Raises RecordingError when it cannot be written, HandleStateError when\n"
"recording already.");

static PyMethodDef module_methods[] = {
    {"start_recording", (PyCFunction)(void (*)(void))start_recording,
     METH_VARARGS | METH_KEYWORDS, start_recording_doc},
    {"stop_recording", stop_recording, METH_NOARGS,
     PyDoc_STR("stop_recording($module, /)\n--\n\n"
               "Ends the recording; the file stays.")},
    {"recording_path", recording_path, METH_NOARGS,
     PyDoc_STR("recording_path($module, /)\n--\n\n"
               "The recording's path, or None when not recording.")},
    {"recording_error", recording_error, METH_NOARGS,
     PyDoc_STR("recording_error($module, /)\n--\n\n"
               "Why recording failed or lost something, or None.")},
    {"level", level, METH_NOARGS,
     PyDoc_STR("level($module, /)\n--\n\n\"off\", \"sampled\" or \"full\".")},
    {"newest_serial", newest_serial, METH_NOARGS,
     PyDoc_STR("newest_serial($module, /)\n--\n\n"
               "Serial of the handle acquired last; 0 before the first.")},
    {"open_since", open_since, METH_O,
     PyDoc_STR("open_since($module, mark, /)\n--\n\n"
               "Serials above `mark` that are open and owned, ascending.")},
    {"live_count", live_count, METH_NOARGS,
     PyDoc_STR("live_count($module, /)\n--\n\n"
               "Number of handles open and owned now.")},
    {"problem_count", problem_count, METH_NOARGS,
     PyDoc_STR("problem_count($module, /)\n--\n\n"
               "Number of events so far that are findings by themselves.")},
    {"set_test", set_test, METH_O,
     PyDoc_STR("set_test($module, name, /)\n--\n\n"
               "Marks this process's events from now on with a test's name.")},
    {"set_meta", set_meta, METH_O,
     PyDoc_STR(
         "set_meta($module, json, /)\n--\n\n"
         "Replaces what the recording says of its process; False when it "
         "has no room.")},
    {"set_provenance_reader", set_provenance_reader, METH_O,
     PyDoc_STR("set_provenance_reader($module, reader, /)\n--\n\n"
               "Sets what SafeHandle.provenance() calls: reader(handle, "
               "serial).")},
    {"sweep", sweep, METH_NOARGS,
     PyDoc_STR("sweep($module, /)\n--\n\n"
               "Releases all open handles that this process acquired; "
               "returns how many.")},
    {"guard_exit", guard_exit, METH_NOARGS,
     PyDoc_STR("guard_exit($module, /)\n--\n\n"
               "Prepares for the collections at interpreter end; called as "
               "late as possible.")},
    {"stack_source", stack_source, METH_NOARGS,
     PyDoc_STR("stack_source($module, /)\n--\n\n"
               "\"frames\" or \"public\": how stacks are walked.")},
    {"capture_stack", capture_stack, METH_NOARGS,
     PyDoc_STR("capture_stack($module, /)\n--\n\n"
               "Stack id of the caller; 0 when not recording.")},
    {"frame_locals", shd_frame_locals, METH_O,
     PyDoc_STR("frame_locals($module, frame, /)\n--\n\n"
               "A function's local variables by name; cells as they are.")},
    {NULL, NULL, 0, NULL},
};

static int
module_exec(PyObject *module)
{
    static int clock_started;
    if (!clock_started) {
        shd_clock_start();
        clock_started = 1;
    }
    shd_interp *state = shd_interp_make();
    if (state == NULL || shd_type_start() < 0 || shd_process_start() < 0) {
        return -1;
    }
    if (!state->watched) {
        shd_depot_watch_codes();
        if (shd_process_watch_interp(state) < 0) {
            return -1;
        }
    }
    shd_recorder_answer = shd_owners_asked;
    if (shd_unwind_start() < 0) {
        PyErr_NoMemory();
        return -1;
    }
    static int (*const adders[])(PyObject *, shd_interp *) = {
        shd_critical_add,    shd_handle_add,
        shd_safe_handle_add, shd_critical_handle_add,
        shd_hold_add,        shd_call_add,
        shd_file_add,        shd_pipe_add,
        shd_wait_add,        shd_poll_add,
        shd_inotify_add,     shd_process_handle_add,
        shd_buffer_add,      shd_mapping_add,
        shd_view_add,        shd_socket_add,
        shd_keyring_add,     shd_crypto_add,
        shd_watch_add,
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(adders); i++) {
        if (adders[i](module, state) < 0) {
            return -1;
        }
    }
    if (shd_probe_add(module) < 0) {
        return -1;
    }
    return PyModule_AddIntConstant(module, "STATE_OFFSET",
                                   offsetof(shd_handle, state));
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_SUPPORTED},
#endif
    {0, NULL},
};

static PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "safehandle_debug._native",
    .m_doc = "The C core: handle types, stacks, recorder.",
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&module_def);
}
