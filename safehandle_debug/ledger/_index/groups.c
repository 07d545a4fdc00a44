/* How many handles there are alike in some columns. */
#include "index.h"

#include <string.h>

#define MOST_COLUMNS 6
#define MOST_BUCKETS 32
#define LEAST_ROOM 64

typedef struct {
    uint32_t process;
    uint32_t columns[MOST_COLUMNS];
    uint64_t count; /* 0: free */
    int64_t oldest; /* births, ns */
    int64_t newest;
    uint64_t newest_serial;
    int64_t least; /* values */
    int64_t greatest;
    uint32_t births[MOST_BUCKETS];
} group;

typedef struct {
    group *groups;
    size_t room; /* a power of two */
    size_t used;
    int columns[MOST_COLUMNS];
    size_t column_count;
    group *last; /* that was counted */
    int64_t start;
    int64_t span;
    int buckets;
} groups;

static group *
group_of(const groups *all, uint32_t process, const uint32_t *columns)
{
    uint64_t hash = process;
    for (size_t at = 0; at < all->column_count; at++) {
        hash = (hash ^ columns[at]) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 29;
    }
    for (size_t at = hash & (all->room - 1);;
         at = (at + 1) & (all->room - 1)) {
        group *found = &all->groups[at];
        if (found->count == 0
            || (found->process == process
                && memcmp(found->columns, columns, sizeof(found->columns))
                       == 0)) {
            return found;
        }
    }
}

static bool
grow(groups *all)
{
    groups grown = *all;
    grown.last = NULL;
    grown.room = all->room ? all->room * 2 : LEAST_ROOM;
    grown.groups = calloc(grown.room, sizeof(group));
    if (grown.groups == NULL) {
        PyErr_NoMemory();
        return false;
    }
    for (size_t at = 0; at < all->room; at++) {
        const group *moved = &all->groups[at];
        if (moved->count != 0) {
            *group_of(&grown, moved->process, moved->columns) = *moved;
        }
    }
    free(all->groups);
    *all = grown;
    return true;
}

static int
bucket_of(const groups *all, int64_t birth)
{
    if (birth < all->start) {
        return 0;
    }
    uint64_t since = (uint64_t)birth - (uint64_t)all->start;
    if (since >= (uint64_t)all->span) {
        return all->buckets - 1;
    }
    if (since <= UINT64_MAX / MOST_BUCKETS) {
        return (int)(since * (unsigned)all->buckets / (uint64_t)all->span);
    }
    return (int)((unsigned __int128)since * (unsigned)all->buckets
                 / (uint64_t)all->span);
}

static bool
count_in(groups *all, uint32_t process, const idx_handle *handle)
{
    if (all->used * 2 >= all->room && !grow(all)) {
        return false;
    }
    uint32_t columns[MOST_COLUMNS] = {0};
    for (size_t at = 0; at < all->column_count; at++) {
        columns[at] = idx_handle_column(handle, all->columns[at]);
    }
    int64_t birth = idx_handle_number(handle, IDX_BIRTH, 0);
    int64_t value = idx_handle_number(handle, IDX_VALUE, 0);
    uint64_t serial = idx_handle_serial(handle);
    group *counted = all->last;
    if (counted == NULL || counted->process != process
        || memcmp(counted->columns, columns, sizeof(columns)) != 0) {
        counted = all->last = group_of(all, process, columns);
    }
    if (counted->count++ == 0) {
        all->used++;
        counted->process = process;
        memcpy(counted->columns, columns, sizeof(columns));
        counted->oldest = counted->newest = birth;
        counted->newest_serial = serial;
        counted->least = counted->greatest = value;
    }
    if (birth < counted->oldest) {
        counted->oldest = birth;
    }
    if (birth > counted->newest
        || (birth == counted->newest && serial > counted->newest_serial)) {
        counted->newest = birth;
        counted->newest_serial = serial;
    }
    if (value < counted->least) {
        counted->least = value;
    }
    if (value > counted->greatest) {
        counted->greatest = value;
    }
    counted->births[bucket_of(all, birth)]++;
    return true;
}

static PyObject *
group_tuple(const groups *all, const group *told)
{
    PyObject *columns = PyTuple_New((Py_ssize_t)all->column_count);
    PyObject *births = PyTuple_New(all->buckets);
    for (size_t at = 0; columns != NULL && at < all->column_count; at++) {
        PyObject *id = PyLong_FromUnsignedLong(told->columns[at]);
        if (id == NULL) {
            Py_CLEAR(columns);
            break;
        }
        PyTuple_SET_ITEM(columns, (Py_ssize_t)at, id);
    }
    for (int at = 0; births != NULL && at < all->buckets; at++) {
        PyObject *number = PyLong_FromUnsignedLong(told->births[at]);
        if (number == NULL) {
            Py_CLEAR(births);
            break;
        }
        PyTuple_SET_ITEM(births, at, number);
    }
    if (columns == NULL || births == NULL) {
        Py_XDECREF(columns);
        Py_XDECREF(births);
        return NULL;
    }
    return Py_BuildValue(
        "(INKLLKLLN)", (unsigned)told->process, columns,
        (unsigned long long)told->count, (long long)told->oldest,
        (long long)told->newest, (unsigned long long)told->newest_serial,
        (long long)told->least, (long long)told->greatest, births);
}

static PyObject *
packed(const groups *all)
{
    PyObject *found = PyList_New(0);
    for (size_t at = 0; found != NULL && at < all->room; at++) {
        if (all->groups[at].count != 0) {
            PyObject *told = group_tuple(all, &all->groups[at]);
            if (told == NULL || PyList_Append(found, told) < 0) {
                Py_CLEAR(found);
            }
            Py_XDECREF(told);
        }
    }
    return found;
}

PyObject *
idx_groups(PyObject *handles, const uint64_t *entries, size_t count,
           PyObject *args)
{
    PyObject *columns;
    long long start = 0, span = 1;
    groups all = {.buckets = 1};
    if (!PyArg_ParseTuple(args, "O!|LLi:groups", &PyTuple_Type, &columns,
                          &start, &span, &all.buckets)) {
        return NULL;
    }
    all.start = start;
    all.span = span;
    all.column_count = (size_t)PyTuple_GET_SIZE(columns);
    if (span < 1 || all.buckets < 1 || all.buckets > MOST_BUCKETS
        || all.column_count > MOST_COLUMNS) {
        PyErr_SetString(PyExc_ValueError, "too many columns or buckets");
        return NULL;
    }
    for (size_t at = 0; at < all.column_count; at++) {
        long column = PyLong_AsLong(PyTuple_GET_ITEM(columns, (Py_ssize_t)at));
        if (column < 0 || column >= IDX_COLUMNS) {
            if (!PyErr_Occurred()) {
                PyErr_SetString(PyExc_ValueError, "there is no such column");
            }
            return NULL;
        }
        all.columns[at] = (int)column;
    }
    bool counted = true;
    for (size_t at = 0; counted && at < count; at++) {
        uint32_t process = (uint32_t)(entries[at] >> 32);
        idx_handle handle =
            idx_handle_at((idx_handles *)PyTuple_GET_ITEM(handles, process),
                          (uint32_t)entries[at]);
        counted = count_in(&all, process, &handle);
    }
    PyObject *found = counted ? packed(&all) : NULL;
    free(all.groups);
    return found;
}
