/* The conditions of a filter, asked of some handles at a time.
 *
 * What depends on texts is asked of Python once for each pair of ids, numbers
 * are compared here. */
#include "index.h"

#include <string.h>

enum {
    ASK,
    COMPARE,
    DIGITS,
    SIGNED
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
    else if (valid && (read.what == DIGITS || read.what == SIGNED)) {
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

/* "#123" of a serial, at the end of the room. */
typedef struct {
    uint64_t serial;
    size_t length; /* 0: of none yet */
    char room[24];
} number_text;

static void
write_number(number_text *text, uint64_t serial)
{
    char *end = text->room + sizeof(text->room), *at = end;
    bool is_next = text->length != 0 && serial == text->serial + 1;
    text->serial = serial;
    if (is_next) {
        /* Serials are often consecutive: counting up is quicker. */
        while (*--at == '9') {
            *at = '0';
        }
        if (*at != '#') {
            ++*at;
            return;
        }
        *at = '1';
    }
    else {
        do {
            *--at = (char)('0' + serial % 10);
            serial /= 10;
        } while (serial != 0);
    }
    at = is_next ? end - text->length : at;
    *--at = '#';
    text->length = (size_t)(end - at);
}

static void
have_digits(const atom *atom, const idx_handle *handles, size_t count,
            uint8_t *holds)
{
    const char *wanted = PyBytes_AS_STRING(atom->asked);
    size_t length = (size_t)PyBytes_GET_SIZE(atom->asked);
    number_text text = {0};
    const char *end = text.room + sizeof(text.room) - length;
    for (size_t at = 0; at < count; at++) {
        if (!holds[at]) {
            continue;
        }
        write_number(&text, idx_handle_serial(&handles[at]));
        bool found = false;
        const char *from = text.room + sizeof(text.room) - text.length;
        for (; !found && length <= sizeof(text.room) && from <= end; from++) {
            found = *from == *wanted && memcmp(from, wanted, length) == 0;
        }
        holds[at] = found;
    }
}

/* How many of the handles are of one pack in which a column is the same for
 * all; 0: nobody knows without looking at each. */
static size_t
alike(const idx_handle *handles, size_t count, int packed)
{
    const idx_part *part = handles[0].part;
    if (part->pack->columns[packed].width != 0) {
        return 0;
    }
    size_t run = 1;
    while (run < count && handles[run].part == part) {
        run++;
    }
    return run;
}

static bool
is_true(int sign, int64_t number, int64_t limit)
{
    switch (sign) {
    case LESS:
        return number < limit;
    case AT_MOST:
        return number <= limit;
    case EQUAL:
        return number == limit;
    case AT_LEAST:
        return number >= limit;
    default:
        return number > limit;
    }
}

static void
compare(const atom *atom, const idx_handle *handles, size_t count, int64_t now,
        uint8_t *holds)
{
    bool may_be_alike = atom->first == IDX_REFS;
    for (size_t at = 0; at < count; at++) {
        size_t run = 0;
        if (may_be_alike
            && (at == 0 || handles[at].part != handles[at - 1].part)) {
            run = alike(&handles[at], count - at, IDX_AT_REFS);
        }
        if (!holds[at] && run == 0) {
            continue;
        }
        bool holds_here = is_true(
            atom->second, idx_handle_number(&handles[at], atom->first, now),
            atom->limit);
        if (run == 0) {
            holds[at] = holds_here;
            continue;
        }
        if (!holds_here) {
            memset(holds + at, 0, run);
        }
        at += run - 1;
    }
}

#define KNOWN 16 /* answers at hand */

/* The same of a column of ids. */
static size_t
ids_alike(const idx_handle *handles, size_t count, int column)
{
    static const int packed[IDX_COLUMNS] = {
        [IDX_STACK] = IDX_AT_STACK,   [IDX_TYPE] = IDX_AT_TYPE,
        [IDX_THREAD] = IDX_AT_THREAD, [IDX_TASK] = IDX_AT_TASK,
        [IDX_TEST] = IDX_AT_TEST,     [IDX_DETAIL] = IDX_AT_DETAIL,
    };
    if (column == IDX_NONE) {
        return count;
    }
    return packed[column] ? alike(handles, count, packed[column]) : 0;
}

static bool
ask(const atom *atom, const idx_handle *handles, size_t count, uint8_t *holds)
{
    /* The latest answers: those are mostly the next ones, too. */
    struct {
        uint32_t first, second;
        bool is_known, answer;
    } known[KNOWN] = {0};
    size_t run = 0; /* handles from here on that have the same answer */
    for (size_t at = 0; at < count; at++, run = run ? run - 1 : 0) {
        if (run == 0
            && (at == 0 || handles[at].part != handles[at - 1].part)) {
            size_t first = ids_alike(&handles[at], count - at, atom->first);
            size_t second = ids_alike(&handles[at], count - at, atom->second);
            run = first < second ? first : second;
        }
        if (!holds[at]) {
            continue;
        }
        uint32_t first = idx_handle_column(&handles[at], atom->first);
        uint32_t second = idx_handle_column(&handles[at], atom->second);
        size_t slot = (first * 0x9E3779B1u ^ second) >> 8 & (KNOWN - 1);
        if (!known[slot].is_known || known[slot].first != first
            || known[slot].second != second) {
            int64_t told = idx_question_told(atom->asked, first, second);
            if (told < 0) {
                return false;
            }
            known[slot].first = first;
            known[slot].second = second;
            known[slot].is_known = true;
            known[slot].answer = told != 0;
        }
        bool answer = known[slot].answer;
        if (run == 0) {
            holds[at] = answer;
            continue;
        }
        if (!answer) {
            memset(holds + at, 0, run);
        }
        at += run - 1;
        run = 1;
    }
    return true;
}

/* Leaves a sign only at those for which the atom holds. */
static bool
keep(const atom *atom, const idx_handle *handles, size_t count, int64_t now,
     size_t from, uint8_t *holds)
{
    switch (atom->what) {
    case ASK:
        return ask(atom, handles, count, holds);
    case DIGITS:
        have_digits(atom, handles, count, holds);
        return true;
    case COMPARE:
        compare(atom, handles, count, now, holds);
        return true;
    default:
        break;
    }
    const char *signs = PyBytes_AS_STRING(atom->asked);
    size_t length = (size_t)PyBytes_GET_SIZE(atom->asked);
    for (size_t at = 0; at < count; at++) {
        holds[at] = holds[at] && from + at < length && signs[from + at];
    }
    return true;
}

bool
idx_tests_pass(const idx_tests *tests, const idx_handle *handles, size_t count,
               int64_t now, size_t from, uint8_t *passed)
{
    uint8_t branch[IDX_BATCH], term[IDX_BATCH];
    bool begins_branch = true, begins_term = true;
    memset(passed, 1, count);
    for (size_t number = 0; number < tests->count; number++) {
        const atom *atom = &tests->atoms[number];
        if (begins_term) {
            memset(term, 0, count);
        }
        if (begins_branch) {
            /* What is decided is not asked any more. */
            for (size_t at = 0; at < count; at++) {
                branch[at] = passed[at] && !term[at];
            }
        }
        if (!keep(atom, handles, count, now, from, branch)) {
            return false;
        }
        begins_branch = atom->ends_branch;
        begins_term = atom->ends_term;
        for (size_t at = 0; begins_branch && at < count; at++) {
            term[at] |= branch[at];
        }
        for (size_t at = 0; begins_term && at < count; at++) {
            passed[at] = passed[at] && term[at] != atom->negated;
        }
    }
    return true;
}
