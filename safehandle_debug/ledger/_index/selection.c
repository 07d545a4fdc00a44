/* Handles of several processes, those that pass some tests, in some order.
 *
 * An entry is eight bytes; what it stands for is in the Handles. */
#include "index.h"

#include <string.h>

typedef struct {
    PyObject_HEAD
    PyObject *handles; /* a tuple of Handles */
    uint64_t *entries; /* number of the Handles, and place in it */
    size_t count;
} selection;

static idx_handle
handle_of(const selection *self, uint64_t entry)
{
    return idx_handle_at(
        (idx_handles *)PyTuple_GET_ITEM(self->handles, entry >> 32),
        (uint32_t)entry);
}

/* Another one over the same handles, with room for as many entries. */
static selection *
another(const selection *self)
{
    PyTypeObject *type = Py_TYPE(self);
    selection *made = (selection *)type->tp_alloc(type, 0);
    if (made == NULL) {
        return NULL;
    }
    made->handles = Py_NewRef(self->handles);
    made->entries = malloc((self->count + 1) * sizeof(uint64_t));
    if (made->entries == NULL) {
        Py_DECREF(made);
        PyErr_NoMemory();
        return NULL;
    }
    return made;
}

static void
shrink(selection *self)
{
    uint64_t *less =
        realloc(self->entries, (self->count + 1) * sizeof(uint64_t));
    if (less != NULL) {
        self->entries = less;
    }
}

static PyObject *
selection_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"handles", NULL};
    PyObject *handles;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!:Selection", names,
                                     &PyTuple_Type, &handles)) {
        return NULL;
    }
    size_t room = 0;
    idx_types *types = idx_types_of(type);
    for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(handles); at++) {
        PyObject *each = PyTuple_GET_ITEM(handles, at);
        if (types == NULL || !Py_IS_TYPE(each, types->handles)) {
            PyErr_SetString(PyExc_TypeError, "a selection is of Handles");
            return NULL;
        }
        const idx_handles *one = (idx_handles *)each;
        for (size_t part = 0; part < one->count; part++) {
            room += one->parts[part].pack->count;
        }
    }
    selection *self = (selection *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->handles = Py_NewRef(handles);
    self->entries = malloc((room + 1) * sizeof(uint64_t));
    if (self->entries == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(handles); at++) {
        const idx_handles *one = (idx_handles *)PyTuple_GET_ITEM(handles, at);
        for (uint32_t part = 0; part < one->count; part++) {
            for (uint32_t slot = 0; slot < one->parts[part].pack->count;
                 slot++) {
                uint32_t place = part * IDX_PACK + slot;
                idx_handle handle = idx_handle_at(one, place);
                if (idx_handle_is_own(&handle)) {
                    self->entries[self->count++] = (uint64_t)at << 32 | place;
                }
            }
        }
    }
    shrink(self);
    return (PyObject *)self;
}

static void
selection_dealloc(selection *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(self->handles);
    free(self->entries);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

/* --- filters --- */

PyDoc_STRVAR(where_doc,
             "where($self, tests, now_ns, /)\n--\n\n"
             "Those that pass the tests of their process: for each Handles a\n"
             "list of (negated, [[test, ...], ...]), of which all must hold.");

static PyObject *
selection_where(selection *self, PyObject *args)
{
    PyObject *tests;
    long long now;
    if (!PyArg_ParseTuple(args, "O!L:where", &PyList_Type, &tests, &now)) {
        return NULL;
    }
    Py_ssize_t processes = PyTuple_GET_SIZE(self->handles);
    idx_types *types = idx_types_of(Py_TYPE(self));
    if (types == NULL || PyList_GET_SIZE(tests) != processes) {
        PyErr_SetString(PyExc_ValueError, "there are no tests for each");
        return NULL;
    }
    idx_tests **all = PyMem_Calloc((size_t)processes + 1, sizeof(*all));
    selection *made = all != NULL ? another(self) : NULL;
    bool failed = made == NULL;
    for (Py_ssize_t at = 0; !failed && at < processes; at++) {
        all[at] = idx_tests_read(PyList_GET_ITEM(tests, at), types->question);
        failed = all[at] == NULL;
    }
    for (size_t at = 0; !failed && at < self->count;) {
        /* Some of one process at a time. */
        uint64_t process = self->entries[at] >> 32;
        idx_handle handles[IDX_BATCH];
        uint8_t passed[IDX_BATCH];
        size_t count = 0;
        while (count < IDX_BATCH && at + count < self->count
               && self->entries[at + count] >> 32 == process) {
            handles[count] = handle_of(self, self->entries[at + count]);
            count++;
        }
        failed =
            !idx_tests_pass(all[process], handles, count, now, at, passed);
        for (size_t each = 0; !failed && each < count; each++) {
            made->entries[made->count] = self->entries[at + each];
            made->count += passed[each];
        }
        at += count;
    }
    for (Py_ssize_t at = 0; all != NULL && at < processes; at++) {
        idx_tests_free(all[at]);
    }
    PyMem_Free(all);
    if (failed) {
        Py_XDECREF(made);
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    if (made->count == self->count) {
        Py_DECREF(made);
        return Py_NewRef((PyObject *)self);
    }
    shrink(made);
    return (PyObject *)made;
}

/* --- order --- */

PyDoc_STRVAR(sorted_doc,
             "sorted($self, keys, descending, now_ns, /)\n--\n\n"
             "All of them by (number, 0, None), or by the answer to (column,\n"
             "column, question), one such key for each Handles; equal ones\n"
             "by serial.");

static PyObject *
selection_sorted(selection *self, PyObject *args)
{
    PyObject *keys;
    int descending;
    long long now;
    if (!PyArg_ParseTuple(args, "O!pL:sorted", &PyList_Type, &keys,
                          &descending, &now)) {
        return NULL;
    }
    idx_types *types = idx_types_of(Py_TYPE(self));
    if (types == NULL
        || PyList_GET_SIZE(keys) != PyTuple_GET_SIZE(self->handles)) {
        PyErr_SetString(PyExc_ValueError, "there is no key for each");
        return NULL;
    }
    /* A question may do anything to the list. */
    PyObject *held = PyList_AsTuple(keys);
    selection *made = held != NULL ? another(self) : NULL;
    int done = made == NULL ? -1
                            : idx_order(self->handles, self->entries,
                                        self->count, held, descending, now,
                                        types->question, made->entries);
    Py_XDECREF(held);
    if (done != 0) {
        Py_CLEAR(made);
        return done > 0 ? Py_NewRef((PyObject *)self) : NULL;
    }
    made->count = self->count;
    return (PyObject *)made;
}

/* --- what is in it --- */

static Py_ssize_t
selection_length(selection *self)
{
    return (Py_ssize_t)self->count;
}

static PyObject *
selection_item(selection *self, Py_ssize_t at)
{
    if (at < 0 || (size_t)at >= self->count) {
        PyErr_SetString(PyExc_IndexError, "there are not so many handles");
        return NULL;
    }
    uint64_t entry = self->entries[at];
    idx_handle handle = handle_of(self, entry);
    shd_live slot = idx_handle_slot(&handle);
    return Py_BuildValue("(Iy#LI)", (unsigned)(entry >> 32),
                         (const char *)&slot, (Py_ssize_t)sizeof(slot),
                         (long long)idx_handle_ended(&handle),
                         idx_handle_state(&handle));
}

PyDoc_STRVAR(find_doc, "find($self, process, serial, /)\n--\n\n"
                       "At which index a handle is; -1: it is not there.");

static PyObject *
selection_find(selection *self, PyObject *args)
{
    unsigned process;
    unsigned long long serial;
    if (!PyArg_ParseTuple(args, "IK:find", &process, &serial)) {
        return NULL;
    }
    Py_ssize_t found = -1;
    for (size_t at = 0; found < 0 && at < self->count; at++) {
        uint64_t entry = self->entries[at];
        idx_handle handle = handle_of(self, entry);
        if (entry >> 32 == process && idx_handle_serial(&handle) == serial) {
            found = (Py_ssize_t)at;
        }
    }
    return PyLong_FromSsize_t(found);
}

PyDoc_STRVAR(numbers_doc, "numbers($self, number, now_ns=0, /)\n--\n\n"
                          "A number of each as packed i64, in order.");

static PyObject *
selection_numbers(selection *self, PyObject *args)
{
    int number;
    long long now = 0;
    if (!PyArg_ParseTuple(args, "i|L:numbers", &number, &now)) {
        return NULL;
    }
    if (number < 0 || number >= IDX_NUMBERS) {
        PyErr_SetString(PyExc_ValueError, "there is no such number");
        return NULL;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(
        NULL, (Py_ssize_t)(self->count * sizeof(int64_t)));
    if (bytes != NULL) {
        int64_t *to = (int64_t *)PyBytes_AS_STRING(bytes);
        for (size_t at = 0; at < self->count; at++) {
            idx_handle handle = handle_of(self, self->entries[at]);
            to[at] = idx_handle_number(&handle, number, now);
        }
    }
    return bytes;
}

PyDoc_STRVAR(groups_doc,
             "groups($self, columns, start_ns=0, span_ns=1, buckets=1, /)\n"
             "--\n\n"
             "Those alike in the columns: (number of the Handles, columns,\n"
             "count, oldest and newest birth, serial of the newest, least and\n"
             "greatest value, births in so many parts of the span).");

static PyObject *
selection_groups(selection *self, PyObject *args)
{
    return idx_groups(self->handles, self->entries, self->count, args);
}

static PyMethodDef selection_methods[] = {
    {"where", (PyCFunction)selection_where, METH_VARARGS, where_doc},
    {"sorted", (PyCFunction)selection_sorted, METH_VARARGS, sorted_doc},
    {"find", (PyCFunction)selection_find, METH_VARARGS, find_doc},
    {"numbers", (PyCFunction)selection_numbers, METH_VARARGS, numbers_doc},
    {"groups", (PyCFunction)selection_groups, METH_VARARGS, groups_doc},
    {NULL},
};

static PyType_Slot selection_slots_of_type[] = {
    {Py_tp_doc, "Selection(handles)\n--\n\n"
                "The handles that their processes have to close."},
    {Py_tp_new, selection_new},
    {Py_tp_dealloc, selection_dealloc},
    {Py_tp_methods, selection_methods},
    {Py_sq_length, selection_length},
    {Py_sq_item, selection_item},
    {0, NULL},
};

PyType_Spec idx_selection_spec = {
    .name = "safehandle_debug.ledger._index.Selection",
    .basicsize = sizeof(selection),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = selection_slots_of_type,
};
