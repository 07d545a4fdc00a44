/* The handles of one process that may be shown, at one moment. */
#include "index.h"

#include <string.h>

#define TRIES 16
#define MOST_NS (1ll << 62) /* the year 2116; what is beyond is damage */

/* --- one handle --- */

uint32_t
idx_handle_state(const idx_handle *handle)
{
    const shd_live *slot = handle->slot;
    uint32_t state =
        handle->part->ticks != NULL ? slot->version : handle->part->state;
    if ((state & 0xFF) == IDX_LEFT && slot->flags & SHD_FLAG_IMPORTING) {
        state += IDX_OVER - IDX_LEFT;
    }
    const shd_live *problem =
        idx_table_find(&handle->handles->problems, slot->serial);
    if (problem != NULL) {
        state |= problem->type << IDX_STATE_PROBLEM;
    }
    uint32_t shown = SHD_FLAG_BORROWED | SHD_FLAG_IMPORTING;
    return state | (slot->flags & shown) << IDX_STATE_FLAGS;
}

static int64_t
wall(const idx_handles *handles, uint64_t ticks)
{
    double elapsed = (double)(int64_t)(ticks - handles->clock_ticks);
    int64_t ns;
    if (handles->ns_per_tick == 1.0) {
        ns = (int64_t)((uint64_t)handles->clock_ns + ticks
                       - handles->clock_ticks);
    }
    else {
        elapsed = __builtin_nearbyint(elapsed * handles->ns_per_tick);
        if (!(elapsed > -4e18 && elapsed < 4e18)) {
            return 0;
        }
        ns = (int64_t)((uint64_t)handles->clock_ns
                       + (uint64_t)(int64_t)elapsed);
    }
    return ns >= 0 && ns < MOST_NS ? ns : 0;
}

int64_t
idx_handle_ended(const idx_handle *handle)
{
    const idx_part *part = handle->part;
    return part->ticks != NULL ? wall(handle->handles, part->ticks[handle->at])
                               : 0;
}

uint32_t
idx_handle_column(const idx_handle *handle, int column)
{
    const shd_live *slot = handle->slot;
    switch (column) {
    case IDX_STACK:
        return slot->stack;
    case IDX_TYPE:
        return slot->type;
    case IDX_THREAD:
        return slot->thread;
    case IDX_TASK:
        return slot->task;
    case IDX_TEST:
        return slot->test;
    case IDX_DETAIL:
        return slot->detail;
    case IDX_STATE:
        return idx_handle_state(handle);
    case IDX_NUMBER:
        return (uint32_t)slot->value;
    default:
        return 0;
    }
}

int64_t
idx_handle_number(const idx_handle *handle, int number, int64_t now)
{
    const shd_live *slot = handle->slot;
    switch (number) {
    case IDX_SERIAL:
        return (int64_t)slot->serial;
    case IDX_VALUE:
        return slot->value;
    case IDX_REFS:
        return slot->refs;
    case IDX_PID:
        return (int64_t)handle->handles->pid;
    default:
        break;
    }
    int64_t birth = wall(handle->handles, slot->ticks);
    if (number == IDX_BIRTH) {
        return birth;
    }
    int64_t end = idx_handle_ended(handle);
    if (end == 0) {
        end = handle->handles->until;
    }
    if (end == 0) {
        end = now;
    }
    return end > birth ? end - birth : 0;
}

/* --- the Python type --- */

/* Takes (slots, ticks or None, state) in, cut into parts. */
static bool
add_part(idx_handles *self, PyObject *item)
{
    PyObject *slots, *ticks;
    unsigned state;
    if (!PyTuple_Check(item)
        || !PyArg_ParseTuple(item, "SOI:Handles", &slots, &ticks, &state)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError,
                            "a part is (slots, ticks or None, state)");
        }
        return false;
    }
    size_t count = (size_t)PyBytes_GET_SIZE(slots) / sizeof(shd_live);
    bool closed = ticks != Py_None;
    if (closed
        && (!PyBytes_Check(ticks)
            || (size_t)PyBytes_GET_SIZE(ticks) / sizeof(uint64_t) < count)) {
        PyErr_SetString(PyExc_TypeError, "there is no time for each slot");
        return false;
    }
    size_t more = (count + IDX_PART - 1) / IDX_PART;
    if (self->count + more > UINT32_MAX / IDX_PART) {
        PyErr_SetString(PyExc_OverflowError, "too many handles");
        return false;
    }
    idx_part *grown =
        PyMem_Realloc(self->parts, (self->count + more + 1) * sizeof(*grown));
    if (grown == NULL) {
        PyErr_NoMemory();
        return false;
    }
    self->parts = grown;
    for (size_t from = 0; from < count; from += IDX_PART) {
        idx_part *part = &self->parts[self->count++];
        size_t left = count - from;
        part->slots_of = Py_NewRef(slots);
        part->ticks_of = closed ? Py_NewRef(ticks) : NULL;
        part->slots = (const shd_live *)PyBytes_AS_STRING(slots) + from;
        part->ticks =
            closed ? (const uint64_t *)PyBytes_AS_STRING(ticks) + from : NULL;
        part->count = (uint32_t)(left < IDX_PART ? left : IDX_PART);
        part->state = state;
    }
    return true;
}

static bool
add_problems(idx_handles *self, PyObject *problems)
{
    PyObject *serial, *number;
    Py_ssize_t at = 0;
    while (PyDict_Next(problems, &at, &serial, &number)) {
        uint64_t key = PyLong_AsUnsignedLongLong(serial);
        unsigned long problem = PyLong_AsUnsignedLong(number);
        if (PyErr_Occurred()) {
            return false;
        }
        if (key == 0 || idx_table_find(&self->problems, key) != NULL) {
            continue;
        }
        shd_live *slot = idx_table_add(&self->problems, key);
        if (slot == NULL) {
            PyErr_NoMemory();
            return false;
        }
        slot->type = problem & 0xFF;
    }
    return true;
}

static PyObject *
handles_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"parts",    "inherited", "pid", "clock",
                            "problems", "until",     NULL};
    PyObject *parts, *problems = NULL;
    unsigned long long inherited = 0, pid = 0, ticks = 0;
    long long ns = 0, until = 0;
    double rate = 1.0;
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "O|KK(KLd)O!L:Handles", names, &parts, &inherited,
            &pid, &ticks, &ns, &rate, &PyDict_Type, &problems, &until)) {
        return NULL;
    }
    PyObject *each = PySequence_Fast(parts, "parts is no sequence");
    idx_handles *self = (idx_handles *)type->tp_alloc(type, 0);
    if (each == NULL || self == NULL) {
        goto failed;
    }
    self->inherited = inherited;
    self->pid = pid;
    self->clock_ticks = ticks;
    self->clock_ns = ns;
    self->ns_per_tick = rate;
    self->until = until;
    for (Py_ssize_t at = 0; at < PySequence_Fast_GET_SIZE(each); at++) {
        if (!add_part(self, PySequence_Fast_GET_ITEM(each, at))) {
            goto failed;
        }
    }
    if (problems != NULL && !add_problems(self, problems)) {
        goto failed;
    }
    Py_DECREF(each);
    return (PyObject *)self;
failed:
    Py_XDECREF(each);
    Py_XDECREF(self);
    return NULL;
}

static void
handles_dealloc(idx_handles *self)
{
    PyTypeObject *type = Py_TYPE(self);
    for (size_t at = 0; at < self->count; at++) {
        Py_DECREF(self->parts[at].slots_of);
        Py_XDECREF(self->parts[at].ticks_of);
    }
    PyMem_Free(self->parts);
    idx_table_clear(&self->problems);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

PyDoc_STRVAR(count_doc,
             "count($self, without=0, /)\n--\n\n"
             "How many are the process's own and have none of the flags.");

static PyObject *
handles_count(idx_handles *self, PyObject *args)
{
    unsigned without = 0;
    if (!PyArg_ParseTuple(args, "|I:count", &without)) {
        return NULL;
    }
    size_t count = 0;
    for (size_t number = 0; number < self->count; number++) {
        for (uint32_t at = 0; at < self->parts[number].count; at++) {
            idx_handle handle =
                idx_handle_at(self, (uint32_t)number * IDX_PART + at);
            count += handle.slot->serial && idx_handle_is_own(&handle)
                     && !(handle.slot->flags & without);
        }
    }
    return PyLong_FromSize_t(count);
}

PyDoc_STRVAR(among_doc, "among($self, serials, /)\n--\n\n"
                        "The packed slots of those with these serials.");

static PyObject *
handles_among(idx_handles *self, PyObject *serials)
{
    PyObject *iterator = PyObject_GetIter(serials);
    PyObject *found = iterator != NULL ? PyList_New(0) : NULL;
    idx_table wanted = {0};
    PyObject *item;
    while (found != NULL && (item = PyIter_Next(iterator)) != NULL) {
        uint64_t serial = PyLong_AsUnsignedLongLongMask(item);
        Py_DECREF(item);
        if (PyErr_Occurred()
            || (serial && idx_table_find(&wanted, serial) == NULL
                && idx_table_add(&wanted, serial) == NULL
                && PyErr_NoMemory() == NULL)) {
            Py_CLEAR(found);
        }
    }
    if (PyErr_Occurred()) {
        Py_CLEAR(found);
    }
    for (size_t number = 0; found != NULL && number < self->count; number++) {
        const idx_part *part = &self->parts[number];
        for (uint32_t at = 0; found != NULL && at < part->count; at++) {
            const shd_live *slot = &part->slots[at];
            if (idx_table_find(&wanted, slot->serial) != NULL) {
                PyObject *bytes = PyBytes_FromStringAndSize((const char *)slot,
                                                            sizeof(*slot));
                if (bytes == NULL || PyList_Append(found, bytes) < 0) {
                    Py_CLEAR(found);
                }
                Py_XDECREF(bytes);
            }
        }
    }
    idx_table_clear(&wanted);
    Py_XDECREF(iterator);
    return found;
}

static PyMethodDef handles_methods[] = {
    {"count", (PyCFunction)handles_count, METH_VARARGS, count_doc},
    {"among", (PyCFunction)handles_among, METH_O, among_doc},
    {NULL},
};

static PyType_Slot handles_slots[] = {
    {Py_tp_doc,
     "Handles(parts, inherited=0, pid=0, clock=(0, 0, 1.0), problems={}, "
     "until=0)\n--\n\nThe handles of one process at one moment."},
    {Py_tp_new, handles_new},
    {Py_tp_dealloc, handles_dealloc},
    {Py_tp_methods, handles_methods},
    {0, NULL},
};

PyType_Spec idx_handles_spec = {
    .name = "safehandle_debug.ledger._index.Handles",
    .basicsize = sizeof(idx_handles),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = handles_slots,
};

/* --- copies of what a process goes on changing --- */

/* A slot as it was at one moment; one that never stands still (its writer
 * died) as it is. */
static void
copy_slot(shd_live *to, const shd_live *from)
{
    for (int tries = 0; tries < TRIES; tries++) {
        uint32_t before = __atomic_load_n(&from->version, __ATOMIC_ACQUIRE);
        memcpy(to, from, sizeof(*to));
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        uint32_t after = __atomic_load_n(&from->version, __ATOMIC_RELAXED);
        if (before == after && !(before & 1)) {
            return;
        }
    }
}

const char idx_copied_doc[] =
    "copied($module, file, starts, known, /)\n--\n\n"
    "Copies of the blocks of live slots that begin there in the file; where\n"
    "nothing changed the very object that is known.";

PyObject *
idx_copied(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer file;
    PyObject *starts, *known;
    if (!PyArg_ParseTuple(args, "y*O!O!:copied", &file, &PyList_Type, &starts,
                          &PyList_Type, &known)) {
        return NULL;
    }
    const size_t bytes = SHD_LIVE_A_BLOCK * sizeof(shd_live);
    PyObject *copies = PyList_New(0);
    for (Py_ssize_t at = 0; copies != NULL && at < PyList_GET_SIZE(starts);
         at++) {
        size_t start = PyLong_AsSize_t(PyList_GET_ITEM(starts, at));
        if (start == (size_t)-1 || (size_t)file.len < bytes
            || start > (size_t)file.len - bytes || start % sizeof(uint64_t)) {
            if (!PyErr_Occurred()) {
                PyErr_SetString(PyExc_ValueError, "no block begins there");
            }
            Py_CLEAR(copies);
            break;
        }
        const char *block = (const char *)file.buf + start;
        PyObject *copy =
            at < PyList_GET_SIZE(known) ? PyList_GET_ITEM(known, at) : NULL;
        if (copy != NULL && PyBytes_Check(copy)
            && (size_t)PyBytes_GET_SIZE(copy) == bytes
            && memcmp(PyBytes_AS_STRING(copy), block, bytes) == 0) {
            Py_INCREF(copy);
        }
        else {
            copy = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)bytes);
            for (size_t slot = 0; copy != NULL && slot < SHD_LIVE_A_BLOCK;
                 slot++) {
                copy_slot((shd_live *)PyBytes_AS_STRING(copy) + slot,
                          (const shd_live *)block + slot);
            }
        }
        if (copy == NULL || PyList_Append(copies, copy) < 0) {
            Py_CLEAR(copies);
        }
        Py_XDECREF(copy);
    }
    PyBuffer_Release(&file);
    return copies;
}
