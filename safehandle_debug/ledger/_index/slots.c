/* The Python type Slots, and copies of what a process goes on changing. */
#include "index.h"

#define TRIES 16

/* --- the type --- */

static idx_slots *
with_room(PyTypeObject *type, size_t packs)
{
    idx_slots *self = (idx_slots *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->packs = malloc((packs + 1) * sizeof(*self->packs));
    if (self->packs == NULL) {
        Py_DECREF(self);
        PyErr_NoMemory();
        return NULL;
    }
    return self;
}

PyObject *
idx_slots_new(PyTypeObject *type, idx_pack *const *packs, size_t count)
{
    idx_slots *self = with_room(type, count);
    if (self != NULL) {
        for (size_t at = 0; at < count; at++) {
            self->packs[at] = idx_pack_share(packs[at]);
        }
        self->count = count;
    }
    return (PyObject *)self;
}

static PyObject *
slots_packed(PyTypeObject *type, const shd_live *slots, size_t count)
{
    idx_slots *self = with_room(type, count / IDX_PACK + 1);
    for (size_t from = 0; self != NULL && from < count; from += IDX_PACK) {
        size_t left = count - from;
        idx_pack *pack =
            idx_pack_new(slots + from, left < IDX_PACK ? left : IDX_PACK);
        if (pack == NULL) {
            Py_CLEAR(self);
            PyErr_NoMemory();
            break;
        }
        self->packs[self->count++] = pack;
    }
    return (PyObject *)self;
}

PyObject *
idx_slots_of(PyTypeObject *type, PyObject *bytes)
{
    if (!PyBytes_Check(bytes)) {
        PyErr_SetString(PyExc_TypeError, "slots are Slots, or packed ones");
        return NULL;
    }
    return slots_packed(type, (const shd_live *)PyBytes_AS_STRING(bytes),
                        (size_t)PyBytes_GET_SIZE(bytes) / sizeof(shd_live));
}

static PyObject *
slots_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"packed", NULL};
    PyObject *bytes;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Slots", names, &bytes)) {
        return NULL;
    }
    return idx_slots_of(type, bytes);
}

static void
slots_dealloc(idx_slots *self)
{
    PyTypeObject *type = Py_TYPE(self);
    for (size_t at = 0; at < self->count; at++) {
        idx_pack_leave(self->packs[at]);
    }
    free(self->packs);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static Py_ssize_t
slots_length(const idx_slots *self)
{
    size_t count = 0;
    for (size_t at = 0; at < self->count; at++) {
        count += (size_t)self->packs[at]->count - self->packs[at]->gone_count;
    }
    return (Py_ssize_t)count;
}

PyDoc_STRVAR(packed_doc, "packed($self, /)\n--\n\n"
                         "The slots as the recording packs them.");

static PyObject *
slots_as_bytes(idx_slots *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *bytes = PyBytes_FromStringAndSize(
        NULL, slots_length(self) * (Py_ssize_t)sizeof(shd_live));
    if (bytes != NULL) {
        shd_live *to = (shd_live *)PyBytes_AS_STRING(bytes);
        for (size_t at = 0; at < self->count; at++) {
            size_t count = idx_pack_slots(self->packs[at], to);
            for (size_t each = 0; each < count; each++) {
                to++->flags &= ~IDX_DISPOSED;
            }
        }
    }
    return bytes;
}

static PyMethodDef slots_methods[] = {
    {"packed", (PyCFunction)slots_as_bytes, METH_NOARGS, packed_doc},
    {NULL},
};

static PyType_Slot slots_of_type[] = {
    {Py_tp_doc, "Slots(packed)\n--\n\n"
                "Slots of handles, as they were at some moment."},
    {Py_tp_new, slots_new},
    {Py_tp_dealloc, slots_dealloc},
    {Py_tp_methods, slots_methods},
    {Py_sq_length, slots_length},
    {0, NULL},
};

PyType_Spec idx_slots_spec = {
    .name = "safehandle_debug.ledger._index.Slots",
    .basicsize = sizeof(idx_slots),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots_of_type,
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

/* A number that is another one when anything in the block is. */
static uint64_t
print_of(const shd_live *block)
{
    uint64_t lanes[4] = {1, 2, 3, 4};
    const char *at = (const char *)block;
    const char *end = at + SHD_LIVE_A_BLOCK * sizeof(shd_live);
    for (; at < end; at += sizeof(lanes)) {
        uint64_t words[4];
        memcpy(words, at, sizeof(words));
        for (int lane = 0; lane < 4; lane++) {
            lanes[lane] = (lanes[lane] ^ words[lane]) * 0x9E3779B97F4A7C15u;
            lanes[lane] ^= lanes[lane] >> 32;
        }
    }
    uint64_t print = 0;
    for (int lane = 0; lane < 4; lane++) {
        print = (print ^ lanes[lane]) * 0xD6E8FEB86659FD93u;
        print ^= print >> 32;
    }
    return print;
}

/* Copies the slots of a block that are in use. */
static PyObject *
copy_block(PyTypeObject *type, const shd_live *block, uint64_t print)
{
    shd_live *slots = malloc(SHD_LIVE_A_BLOCK * sizeof(*slots));
    if (slots == NULL) {
        return PyErr_NoMemory();
    }
    size_t count = 0;
    for (size_t at = 0; at < SHD_LIVE_A_BLOCK; at++) {
        copy_slot(&slots[count], &block[at]);
        count += slots[count].serial != 0;
    }
    PyObject *copy = slots_packed(type, slots, count);
    free(slots);
    if (copy != NULL) {
        ((idx_slots *)copy)->print = print;
    }
    return copy;
}

const char idx_copied_doc[] =
    "copied($module, file, starts, known, /)\n--\n\n"
    "Copies of the blocks of live slots that begin there in the file; where\n"
    "nothing changed the very object that is known.";

PyObject *
idx_copied(PyObject *module, PyObject *args)
{
    Py_buffer file;
    PyObject *starts, *known;
    idx_types *types = PyModule_GetState(module);
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
        const shd_live *block =
            (const shd_live *)((const char *)file.buf + start);
        uint64_t print = print_of(block);
        PyObject *copy =
            at < PyList_GET_SIZE(known) ? PyList_GET_ITEM(known, at) : NULL;
        if (copy != NULL && Py_IS_TYPE(copy, types->slots)
            && ((idx_slots *)copy)->print == print) {
            Py_INCREF(copy);
        }
        else {
            copy = copy_block(types->slots, block, print);
        }
        if (copy == NULL || PyList_Append(copies, copy) < 0) {
            Py_CLEAR(copies);
        }
        Py_XDECREF(copy);
    }
    PyBuffer_Release(&file);
    return copies;
}
