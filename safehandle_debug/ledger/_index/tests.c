/* The conditions of a filter, asked of each handle.
 *
 * What depends on texts is asked of Python once for each pair of ids, numbers
 * are compared here. */
#include "index.h"

#include <string.h>

/* --- questions --- */

typedef struct {
    PyObject_HEAD
    PyObject *callable;
    idx_asked asked;
} question;

static PyObject *
question_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"callable", NULL};
    PyObject *callable;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Question", names,
                                     &callable)) {
        return NULL;
    }
    question *self = (question *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->callable = Py_NewRef(callable);
    }
    return (PyObject *)self;
}

static int
question_traverse(question *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->callable);
    return 0;
}

static int
question_clear(question *self)
{
    Py_CLEAR(self->callable);
    return 0;
}

static void
question_dealloc(question *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->callable);
    idx_asked_clear(&self->asked);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyType_Slot question_slots[] = {
    {Py_tp_doc,
     "Question(callable)\n--\n\n"
     "What callable(id, id) answers, a number or a truth, asked once."},
    {Py_tp_new, question_new},
    {Py_tp_traverse, question_traverse},
    {Py_tp_clear, question_clear},
    {Py_tp_dealloc, question_dealloc},
    {0, NULL},
};

PyType_Spec idx_question_spec = {
    .name = "safehandle_debug.ledger._index.Question",
    .basicsize = sizeof(question),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = question_slots,
};

int64_t
idx_question_answer(PyObject *asked, const idx_handle *handle, int first,
                    int second)
{
    question *self = (question *)asked;
    return idx_asked_answer(&self->asked, self->callable,
                            idx_handle_column(handle, first),
                            idx_handle_column(handle, second));
}

/* --- tests --- */

enum {
    ASK,
    COMPARE,
    DIGITS
};
enum {
    LESS,
    AT_MOST,
    EQUAL,
    AT_LEAST,
    MORE,
    SIGNS
};

typedef struct {
    int what;
    int first;  /* column, or number */
    int second; /* column, or sign */
    int64_t limit;
    PyObject *asked;  /* the question, or the bytes that are looked for */
    bool ends_branch; /* the next one is an alternative */
    bool ends_term;
    bool negated; /* of the term's last */
} atom;

struct idx_tests {
    atom *atoms;
    size_t count;
    size_t room;
};

static bool
add_atom(idx_tests *tests, PyObject *item, PyTypeObject *question_type)
{
    atom read = {0};
    PyObject *last = NULL;
    bool valid = PyTuple_Check(item) && PyTuple_GET_SIZE(item) == 4
                 && PyArg_ParseTuple(item, "iiiO", &read.what, &read.first,
                                     &read.second, &last);
    if (valid && read.what == ASK) {
        valid = read.first >= 0 && read.first < IDX_COLUMNS && read.second >= 0
                && read.second < IDX_COLUMNS
                && Py_IS_TYPE(last, question_type);
        read.asked = valid ? Py_NewRef(last) : NULL;
    }
    else if (valid && read.what == COMPARE) {
        valid = read.first >= 0 && read.first < IDX_NUMBERS && read.second >= 0
                && read.second < SIGNS && PyLong_Check(last);
        read.limit = valid ? PyLong_AsLongLong(last) : 0;
    }
    else if (valid && read.what == DIGITS) {
        valid = PyBytes_Check(last);
        read.asked = valid ? Py_NewRef(last) : NULL;
    }
    else {
        valid = false;
    }
    if (!valid || PyErr_Occurred()) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "that is no test");
        }
        Py_XDECREF(read.asked);
        return false;
    }
    if (tests->count == tests->room) {
        size_t room = tests->room ? tests->room * 2 : 16;
        atom *grown = PyMem_Realloc(tests->atoms, room * sizeof(atom));
        if (grown == NULL) {
            Py_XDECREF(read.asked);
            PyErr_NoMemory();
            return false;
        }
        tests->atoms = grown;
        tests->room = room;
    }
    tests->atoms[tests->count++] = read;
    return true;
}

/* Takes in (negated, [[atom, ...], ...]): any of the branches with all of
 * its atoms. */
static bool
add_term(idx_tests *tests, PyObject *term, PyTypeObject *question_type)
{
    int negated;
    PyObject *branches;
    if (!PyTuple_Check(term)
        || !PyArg_ParseTuple(term, "pO!", &negated, &PyList_Type, &branches)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "a term is (negated, branches)");
        }
        return false;
    }
    size_t before = tests->count;
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(branches); at++) {
        PyObject *branch = PyList_GET_ITEM(branches, at);
        if (!PyList_Check(branch) || PyList_GET_SIZE(branch) == 0) {
            PyErr_SetString(PyExc_TypeError, "a branch is a list of tests");
            return false;
        }
        for (Py_ssize_t each = 0; each < PyList_GET_SIZE(branch); each++) {
            if (!add_atom(tests, PyList_GET_ITEM(branch, each),
                          question_type)) {
                return false;
            }
        }
        tests->atoms[tests->count - 1].ends_branch = true;
    }
    if (tests->count == before) {
        PyErr_SetString(PyExc_TypeError, "a term needs a branch");
        return false;
    }
    tests->atoms[tests->count - 1].ends_term = true;
    tests->atoms[tests->count - 1].negated = negated;
    return true;
}

idx_tests *
idx_tests_read(PyObject *terms, PyTypeObject *question_type)
{
    if (!PyList_Check(terms)) {
        PyErr_SetString(PyExc_TypeError, "tests are a list of terms");
        return NULL;
    }
    idx_tests *tests = PyMem_Calloc(1, sizeof(*tests));
    if (tests == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(terms); at++) {
        if (!add_term(tests, PyList_GET_ITEM(terms, at), question_type)) {
            idx_tests_free(tests);
            return NULL;
        }
    }
    return tests;
}

void
idx_tests_free(idx_tests *tests)
{
    if (tests != NULL) {
        for (size_t at = 0; at < tests->count; at++) {
            Py_XDECREF(tests->atoms[at].asked);
        }
        PyMem_Free(tests->atoms);
        PyMem_Free(tests);
    }
}

static bool
has_digits(const idx_handle *handle, PyObject *looked_for)
{
    char text[24];
    int length = snprintf(text, sizeof(text), "#%llu",
                          (unsigned long long)handle->slot->serial);
    return memmem(text, (size_t)length, PyBytes_AS_STRING(looked_for),
                  (size_t)PyBytes_GET_SIZE(looked_for))
           != NULL;
}

static int
holds(const atom *atom, const idx_handle *handle, int64_t now)
{
    if (atom->what == ASK) {
        int64_t answer = idx_question_answer(atom->asked, handle, atom->first,
                                             atom->second);
        return answer < 0 ? -1 : answer != 0;
    }
    if (atom->what == DIGITS) {
        return has_digits(handle, atom->asked);
    }
    int64_t number = idx_handle_number(handle, atom->first, now);
    switch (atom->second) {
    case LESS:
        return number < atom->limit;
    case AT_MOST:
        return number <= atom->limit;
    case EQUAL:
        return number == atom->limit;
    case AT_LEAST:
        return number >= atom->limit;
    default:
        return number > atom->limit;
    }
}

int
idx_tests_pass(idx_tests *tests, const idx_handle *handle, int64_t now)
{
    bool branch = true, term = false;
    for (size_t at = 0; at < tests->count; at++) {
        const atom *atom = &tests->atoms[at];
        if (branch && !term) {
            int held = holds(atom, handle, now);
            if (held < 0) {
                return -1;
            }
            branch = held;
        }
        if (atom->ends_branch) {
            term = term || branch;
            branch = true;
        }
        if (atom->ends_term) {
            if (term == atom->negated) {
                return 0;
            }
            term = false;
        }
    }
    return 1;
}
