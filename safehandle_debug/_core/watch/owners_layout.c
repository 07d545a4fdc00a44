/* Where owners keep their descriptor: found by looking at two objects whose
 * numbers are known, and again after their close.
 *
 * Asking fileno() each time would cost a call, and mmap has none. */
#define _GNU_SOURCE
#include "interp.h"
#include "owners_parts.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

PyTypeObject *
shd_owners_type(const char *module, const char *name, int loaded_only)
{
    PyObject *from = loaded_only ? Py_XNewRef(shd_interp_loaded_module(module))
                                 : PyImport_ImportModule(module);
    PyObject *type = from == NULL ? NULL : PyObject_GetAttrString(from, name);
    Py_XDECREF(from);
    if (type != NULL && !PyType_Check(type)) {
        Py_CLEAR(type);
    }
    PyErr_Clear();
    return (PyTypeObject *)type;
}

int
shd_scratch_null(void)
{
    return open("/dev/null", O_RDWR | O_CLOEXEC);
}

int
shd_scratch_memory(void)
{
    int fd = memfd_create("shd-scratch", MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, 4096) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int
number_at(PyObject *object, size_t offset)
{
    return *(int *)((char *)object + offset);
}

/* Whether `number` is the descriptor of an object. */
typedef int (*recognize)(int number, const void *known);

static size_t
find(PyTypeObject *type, PyObject *const objects[2],
     const void *const known[2], recognize is_descriptor)
{
    size_t found = 0;
    size_t end = (size_t)type->tp_basicsize;
    for (size_t at = sizeof(PyObject); at + sizeof(int) <= end;
         at += sizeof(int)) {
        if (is_descriptor(number_at(objects[0], at), known[0])
            && is_descriptor(number_at(objects[1], at), known[1])) {
            if (found != 0) {
                return 0; /* which of the two? */
            }
            found = at;
        }
    }
    return found;
}

/* Steals the objects, either of which may be NULL. */
static size_t
learn(PyTypeObject *type, PyObject *one, PyObject *other,
      const void *const known[2], recognize is_descriptor)
{
    size_t found = 0;
    if (one != NULL && other != NULL) {
        PyObject *const objects[2] = {one, other};
        found = find(type, objects, known, is_descriptor);
        for (int i = 0; i < 2; i++) {
            PyObject *closed = PyObject_CallMethod(objects[i], "close", NULL);
            if (closed == NULL
                || (found != 0 && number_at(objects[i], found) != -1)) {
                found = 0;
            }
            Py_XDECREF(closed);
        }
    }
    PyErr_Clear();
    Py_XDECREF(one);
    Py_XDECREF(other);
    PyErr_Clear();
    return found;
}

static int
is_number(int number, const void *known)
{
    return number == *(const int *)known;
}

/* As learn(), for objects that have fileno(). */
static size_t
learn_by_fileno(PyTypeObject *type, PyObject *one, PyObject *other)
{
    PyObject *const objects[2] = {one, other};
    int numbers[2];
    for (int i = 0; i < 2; i++) {
        numbers[i] =
            objects[i] == NULL ? -1 : PyObject_AsFileDescriptor(objects[i]);
        if (numbers[i] < 0) {
            PyErr_Clear();
            numbers[i] = -2; /* is nowhere */
        }
    }
    const void *const known[2] = {&numbers[0], &numbers[1]};
    return learn(type, one, other, known, is_number);
}

size_t
shd_layout_file(PyTypeObject *type)
{
    PyObject *make = (PyObject *)type;
    PyObject *one = PyObject_CallFunction(make, "s", "/dev/null");
    PyErr_Clear();
    return learn_by_fileno(type, one,
                           PyObject_CallFunction(make, "s", "/dev/null"));
}

size_t
shd_layout_socket(PyTypeObject *type)
{
    PyObject *make = (PyObject *)type;
    const int unix_family = 1, stream = 1;
    PyObject *one = PyObject_CallFunction(make, "ii", unix_family, stream);
    PyErr_Clear();
    return learn_by_fileno(
        type, one, PyObject_CallFunction(make, "ii", unix_family, stream));
}

size_t
shd_layout_epoll(PyTypeObject *type)
{
    PyObject *one = PyObject_CallNoArgs((PyObject *)type);
    PyErr_Clear();
    return learn_by_fileno(type, one, PyObject_CallNoArgs((PyObject *)type));
}

static int
is_duplicate(int number, const void *known)
{
    int original = *(const int *)known;
    struct stat one, other;
    return number > 2 && number != original && fstat(number, &one) == 0
           && fstat(original, &other) == 0 && one.st_dev == other.st_dev
           && one.st_ino == other.st_ino;
}

size_t
shd_layout_mmap(PyTypeObject *type)
{
    size_t found = 0;
    int numbers[2] = {shd_scratch_memory(), shd_scratch_memory()};
    if (numbers[0] >= 0 && numbers[1] >= 0) {
        const void *const known[2] = {&numbers[0], &numbers[1]};
        PyObject *make = (PyObject *)type;
        PyObject *one = PyObject_CallFunction(make, "ii", numbers[0], 4096);
        PyErr_Clear();
        found = learn(type, one,
                      PyObject_CallFunction(make, "ii", numbers[1], 4096),
                      known, is_duplicate);
    }
    for (int i = 0; i < 2; i++) {
        if (numbers[i] >= 0) {
            close(numbers[i]);
        }
    }
    return found;
}
