/* Puts handles in an order. */
#include "index.h"

typedef struct {
    uint64_t digits[2]; /* the serial, then what it is sorted by */
    uint64_t entry;
} sorted;

/* By one digit of eight bits after the other, the least first; a digit that is
 * the same in all is passed over. */
static void
radix_sort(sorted **from, sorted **to, size_t count)
{
    for (int digit = 0; digit < 16; digit++) {
        int word = digit / 8, shift = digit % 8 * 8;
        size_t places[256] = {0};
        for (size_t at = 0; at < count; at++) {
            places[(*from)[at].digits[word] >> shift & 0xFF]++;
        }
        if (places[(*from)[0].digits[word] >> shift & 0xFF] == count) {
            continue;
        }
        size_t before = 0;
        for (int value = 0; value < 256; value++) {
            size_t here = places[value];
            places[value] = before;
            before += here;
        }
        for (size_t at = 0; at < count; at++) {
            unsigned value = (*from)[at].digits[word] >> shift & 0xFF;
            (*to)[places[value]++] = (*from)[at];
        }
        sorted *swapped = *from;
        *from = *to;
        *to = swapped;
    }
}

typedef struct {
    int first;
    int second;
    PyObject *question; /* NULL: `first` is a number */
} sort_key;

static bool
read_key(sort_key *key, PyObject *item, PyTypeObject *question)
{
    PyObject *last;
    if (!PyTuple_Check(item)
        || !PyArg_ParseTuple(item, "iiO", &key->first, &key->second, &last)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "that is no order");
        }
        return false;
    }
    key->question = last == Py_None ? NULL : last;
    int limit = last == Py_None ? IDX_NUMBERS : IDX_COLUMNS;
    if (key->first < 0 || key->first >= limit || key->second < 0
        || key->second >= limit
        || (last != Py_None && !Py_IS_TYPE(last, question))) {
        PyErr_SetString(PyExc_TypeError, "that is no order");
        return false;
    }
    return true;
}

/* What is to be ordered, and by what. */
typedef struct {
    PyObject *handles;
    const uint64_t *entries;
    size_t count;
    const sort_key *keys;
    bool descending;
    int64_t now;
} ordering;

static bool
read_digits(const ordering *by, size_t at, sorted *read)
{
    uint64_t entry = by->entries[at];
    const sort_key *key = &by->keys[entry >> 32];
    idx_handle handle = idx_handle_at(
        (idx_handles *)PyTuple_GET_ITEM(by->handles, entry >> 32),
        (uint32_t)entry);
    int64_t number;
    bool ties_too = false;
    if (key->question == NULL) {
        number = idx_handle_number(&handle, key->first, by->now);
        ties_too = key->first == IDX_PID;
    }
    else {
        number = idx_question_answer(key->question, &handle, key->first,
                                     key->second);
        if (number < 0) {
            return false;
        }
    }
    uint64_t digits = (uint64_t)number ^ 1ull << 63;
    uint64_t serial = idx_handle_serial(&handle);
    *read = (sorted){
        .digits = {by->descending && ties_too ? ~serial : serial,
                   by->descending ? ~digits : digits},
        .entry = entry,
    };
    return true;
}

/* 1: they are in order already, 0, -1 with an exception. */
static int
is_ordered(const ordering *by)
{
    sorted before = {0}, here;
    for (size_t at = 0; at < by->count; at++) {
        if (!read_digits(by, at, &here)) {
            return -1;
        }
        if (before.digits[1] > here.digits[1]
            || (before.digits[1] == here.digits[1]
                && before.digits[0] > here.digits[0])) {
            return 0;
        }
        before = here;
    }
    return 1;
}

static bool
order(const ordering *by, uint64_t *ordered)
{
    sorted *all = malloc((by->count + 1) * sizeof(*all));
    sorted *room = malloc((by->count + 1) * sizeof(*room));
    bool read = all != NULL && room != NULL;
    if (!read) {
        PyErr_NoMemory();
    }
    for (size_t at = 0; read && at < by->count; at++) {
        read = read_digits(by, at, &all[at]);
    }
    if (read) {
        radix_sort(&all, &room, by->count);
        for (size_t at = 0; at < by->count; at++) {
            ordered[at] = all[at].entry;
        }
    }
    free(all);
    free(room);
    return read;
}

int
idx_order(PyObject *handles, const uint64_t *entries, size_t count,
          PyObject *keys, bool descending, int64_t now, PyTypeObject *question,
          uint64_t *ordered)
{
    size_t processes = (size_t)PyTuple_GET_SIZE(handles);
    sort_key *read = PyMem_Calloc(processes + 1, sizeof(*read));
    if (read == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int done = 0;
    for (size_t at = 0; done == 0 && at < processes; at++) {
        if (!read_key(&read[at], PyTuple_GET_ITEM(keys, (Py_ssize_t)at),
                      question)) {
            done = -1;
        }
    }
    ordering by = {handles, entries, count, read, descending, now};
    if (done == 0) {
        done = is_ordered(&by);
    }
    if (done == 0 && !order(&by, ordered)) {
        done = -1;
    }
    PyMem_Free(read);
    return done;
}
