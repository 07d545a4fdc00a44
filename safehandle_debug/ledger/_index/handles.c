/* The handles of one process that may be shown, at one moment. */
#include "index.h"

#include <string.h>

#define TRIES 16
#define MOST_NS (1ll << 62) /* the year 2116; what is beyond is damage */

/* --- one handle --- */

uint32_t
idx_handle_state(const idx_handle *handle)
{
    uint32_t flags = (uint32_t)idx_handle_get(handle, IDX_AT_FLAGS);
    uint32_t state = handle->part->ticks != NULL
                         ? (uint32_t)idx_handle_get(handle, IDX_AT_VERSION)
                         : handle->part->state;
    if ((state & 0xFF) == IDX_LEFT && flags & SHD_FLAG_IMPORTING) {
        state += IDX_OVER - IDX_LEFT;
    }
    const idx_table *problems = &handle->handles->problems;
    const shd_live *problem =
        problems->used ? idx_table_find(problems, idx_handle_serial(handle))
                       : NULL;
    if (problem != NULL) {
        state |= problem->type << IDX_STATE_PROBLEM;
    }
    uint32_t shown = SHD_FLAG_BORROWED | SHD_FLAG_IMPORTING;
    return state | (flags & shown) << IDX_STATE_FLAGS;
}

shd_live
idx_handle_slot(const idx_handle *handle)
{
    shd_live slot = idx_pack_slot(handle->part->pack, handle->at);
    slot.flags &= ~IDX_DISPOSED;
    return slot;
}

/* To the nearest whole number, half to even, as nearbyint() does it; that is
 * a call where this is two additions. */
static inline double
rounded(double number)
{
    const double most = 0x1p51, shift = 0x1.8p52;
    if (number > -most && number < most) {
        return number + shift - shift;
    }
    return __builtin_nearbyint(number);
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
        elapsed = rounded(elapsed * handles->ns_per_tick);
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
    switch (column) {
    case IDX_STACK:
        return (uint32_t)idx_handle_get(handle, IDX_AT_STACK);
    case IDX_TYPE:
        return (uint32_t)idx_handle_get(handle, IDX_AT_TYPE);
    case IDX_THREAD:
        return (uint32_t)idx_handle_get(handle, IDX_AT_THREAD);
    case IDX_TASK:
        return (uint32_t)idx_handle_get(handle, IDX_AT_TASK);
    case IDX_TEST:
        return (uint32_t)idx_handle_get(handle, IDX_AT_TEST);
    case IDX_DETAIL:
        return (uint32_t)idx_handle_get(handle, IDX_AT_DETAIL);
    case IDX_STATE:
        return idx_handle_state(handle);
    case IDX_NUMBER:
        return (uint32_t)idx_handle_get(handle, IDX_AT_VALUE);
    default:
        return 0;
    }
}

int64_t
idx_handle_number(const idx_handle *handle, int number, int64_t now)
{
    switch (number) {
    case IDX_SERIAL:
        return (int64_t)idx_handle_serial(handle);
    case IDX_VALUE:
        return (int64_t)idx_handle_get(handle, IDX_AT_VALUE);
    case IDX_REFS:
        return (int64_t)idx_handle_get(handle, IDX_AT_REFS);
    case IDX_PID:
        return (int64_t)handle->handles->pid;
    default:
        break;
    }
    int64_t birth =
        wall(handle->handles, idx_handle_get(handle, IDX_AT_TICKS));
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

/* Takes (Slots or packed slots, ticks or None, state) in, pack by pack. */
static bool
add_part(idx_handles *self, PyObject *item, PyTypeObject *slots_type)
{
    PyObject *given, *ticks;
    unsigned state;
    if (!PyTuple_Check(item)
        || !PyArg_ParseTuple(item, "OOI:Handles", &given, &ticks, &state)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError,
                            "a part is (slots, ticks or None, state)");
        }
        return false;
    }
    PyObject *slots = Py_IS_TYPE(given, slots_type)
                          ? Py_NewRef(given)
                          : idx_slots_of(slots_type, given);
    if (slots == NULL) {
        return false;
    }
    bool kept = PyList_Append(self->kept, slots) == 0
                && PyList_Append(self->kept, ticks) == 0;
    Py_DECREF(slots);
    if (!kept) {
        return false;
    }
    const idx_slots *taken = (const idx_slots *)slots;
    size_t count = 0;
    for (size_t at = 0; at < taken->count; at++) {
        count += taken->packs[at]->count;
    }
    bool closed = ticks != Py_None;
    if (closed
        && (!PyBytes_Check(ticks)
            || (size_t)PyBytes_GET_SIZE(ticks) / sizeof(uint64_t) < count)) {
        PyErr_SetString(PyExc_TypeError, "there is no time for each slot");
        return false;
    }
    if (self->count + taken->count > UINT32_MAX / IDX_PACK) {
        PyErr_SetString(PyExc_OverflowError, "too many handles");
        return false;
    }
    const uint64_t *when =
        closed ? (const uint64_t *)PyBytes_AS_STRING(ticks) : NULL;
    for (size_t at = 0; at < taken->count; at++) {
        if (self->count == self->room) {
            size_t room = self->room ? self->room * 2 : 64;
            idx_part *grown =
                PyMem_Realloc(self->parts, room * sizeof(*grown));
            if (grown == NULL) {
                PyErr_NoMemory();
                return false;
            }
            self->parts = grown;
            self->room = room;
        }
        self->parts[self->count++] = (idx_part){taken->packs[at], when, state};
        when = closed ? when + taken->packs[at]->count : NULL;
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
    idx_types *types = idx_types_of(type);
    if (each == NULL || self == NULL || types == NULL
        || (self->kept = PyList_New(0)) == NULL) {
        goto failed;
    }
    self->inherited = inherited;
    self->pid = pid;
    self->clock_ticks = ticks;
    self->clock_ns = ns;
    self->ns_per_tick = rate;
    self->until = until;
    for (Py_ssize_t at = 0; at < PySequence_Fast_GET_SIZE(each); at++) {
        if (!add_part(self, PySequence_Fast_GET_ITEM(each, at),
                      types->slots)) {
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
    Py_XDECREF(self->kept);
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
        for (uint32_t at = 0; at < self->parts[number].pack->count; at++) {
            idx_handle handle =
                idx_handle_at(self, (uint32_t)number * IDX_PACK + at);
            count += idx_handle_is_own(&handle)
                     && !(idx_handle_get(&handle, IDX_AT_FLAGS) & without);
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
        const idx_pack *pack = self->parts[number].pack;
        for (uint32_t at = 0; found != NULL && at < pack->count; at++) {
            uint64_t serial = idx_pack_get(pack, IDX_AT_SERIAL, at);
            if (!idx_bit(pack->gone, at)
                && idx_table_find(&wanted, serial) != NULL) {
                idx_handle handle =
                    idx_handle_at(self, (uint32_t)number * IDX_PACK + at);
                shd_live slot = idx_handle_slot(&handle);
                PyObject *bytes = PyBytes_FromStringAndSize(
                    (const char *)&slot, sizeof(slot));
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
