/* close() of owners: which object it is that closes a number. */
#include "owners_parts.h"
#include "owners_slots.h"

#define CLOSER(function)                                                      \
    static PyObject *function(PyObject *self, PyObject *ignored);             \
    static shd_wrapped_method function##_method = {                           \
        .name = "close",                                                      \
        .flags = METH_NOARGS,                                                 \
        .replacement = function,                                              \
    };                                                                        \
    static PyObject *function(PyObject *self, PyObject *ignored)              \
    {                                                                         \
        void *outer = shd_here.closing;                                       \
        shd_here.closing = self;                                              \
        PyObject *result = function##_method.original(self, ignored);         \
        shd_here.closing = outer;                                             \
        return result;                                                        \
    }

CLOSER(file_close)
CLOSER(socket_close)
CLOSER(mmap_close)
CLOSER(epoll_close)

/* That of files, from CPython 3.12 on. */
static PyObject *file_close_of_class(PyObject *self, PyTypeObject *class,
                                     PyObject *const *args, size_t count,
                                     PyObject *names);
static shd_wrapped_method file_close_of_class_method = {
    .name = "close",
    .flags = METH_METHOD | METH_FASTCALL | METH_KEYWORDS,
    .replacement = (PyCFunction)(void (*)(void))file_close_of_class,
};

static PyObject *
file_close_of_class(PyObject *self, PyTypeObject *class, PyObject *const *args,
                    size_t count, PyObject *names)
{
    void *outer = shd_here.closing;
    shd_here.closing = self;
    PyCMethod original =
        (PyCMethod)(void (*)(void))file_close_of_class_method.original;
    PyObject *result = original(self, class, args, count, names);
    shd_here.closing = outer;
    return result;
}

void
shd_closers_wrap(enum shd_owner owner, PyTypeObject *type)
{
    switch (owner) {
    case SHD_OWNER_FILEIO:
        shd_method_wrap(&file_close_method, type);
        shd_method_wrap(&file_close_of_class_method, type);
        break;
    case SHD_OWNER_SOCKET:
        shd_method_wrap(&socket_close_method, type);
        break;
    case SHD_OWNER_MMAP:
        shd_method_wrap(&mmap_close_method, type);
        break;
    default:
        shd_method_wrap(&epoll_close_method, type);
        break;
    }
}

void
shd_closers_stop(void)
{
    shd_wrapped_method *const all[] = {
        &file_close_method, &file_close_of_class_method, &socket_close_method,
        &mmap_close_method, &epoll_close_method,
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(all); i++) {
        shd_method_restore(all[i]);
    }
}
