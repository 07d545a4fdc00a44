/* Constructors of owners, and socket.detach(). */
#include "owners.h"

#include "callsites.h"
#include "hooks.h"
#include "lifetime/events.h"
#include "owners_parts.h"
#include "owners_slots.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/* One of the types. */
typedef struct {
    const char *module, *name;
    enum shd_owner owner;
    size_t (*find_layout)(PyTypeObject *type);
    size_t number_at; /* offset of the descriptor, 0: not seen */
} owner_type;

static owner_type file = {"_io", "FileIO", SHD_OWNER_FILEIO, shd_layout_file,
                          0};
static owner_type sock = {"_socket", "socket", SHD_OWNER_SOCKET,
                          shd_layout_socket, 0};
static owner_type mapping = {"mmap", "mmap", SHD_OWNER_MMAP, shd_layout_mmap,
                             0};
static owner_type epoll = {"select", "epoll", SHD_OWNER_EPOLL,
                           shd_layout_epoll, 0};

static owner_type *const types[] = {&file, &sock, &mapping, &epoll};

static int is_started;
static getter get_closefd;

/* --- what objects do --------------------------------------------------------- */

static int
number_of(const owner_type *type, PyObject *self)
{
    return type->number_at == 0 ? -1
                                : *(int *)((char *)self + type->number_at);
}

static void
took(const owner_type *type, PyObject *self, uint64_t since)
{
    int fd = number_of(type, self);
    if (fd >= 0 && is_started) {
        shd_watch_taken(fd, type->owner, self, since);
    }
}

static int file_init(PyObject *self, PyObject *args, PyObject *kwargs);
static int socket_init(PyObject *self, PyObject *args, PyObject *kwargs);
static PyObject *mmap_new(PyTypeObject *type, PyObject *args,
                          PyObject *kwargs);
static PyObject *epoll_new(PyTypeObject *type, PyObject *args,
                           PyObject *kwargs);
static PyObject *epoll_fromfd(PyObject *type, PyObject *number);
static PyObject *socket_detach(PyObject *self, PyObject *ignored);

static shd_wrapped file_init_slot =
    SHD_WRAPPED(tp_init, "__init__", file_init);
static shd_wrapped socket_init_slot =
    SHD_WRAPPED(tp_init, "__init__", socket_init);
static shd_wrapped mmap_new_slot = SHD_WRAPPED(tp_new, NULL, mmap_new);
static shd_wrapped epoll_new_slot = SHD_WRAPPED(tp_new, NULL, epoll_new);
static shd_wrapped_method epoll_fromfd_method = {
    .name = "fromfd",
    .flags = METH_O | METH_CLASS,
    .replacement = epoll_fromfd,
};
static shd_wrapped_method socket_detach_method = {
    .name = "detach",
    .flags = METH_NOARGS,
    .replacement = socket_detach,
};

/* A file was not made of what it was asked to.  All that it does with a number
 * is to ask what it is, which by itself is no use of it. */
static void
refused(PyObject *args, PyObject *kwargs)
{
    if (!is_started || !PyErr_ExceptionMatches(PyExc_OSError)) {
        return;
    }
    PyObject *named = PyTuple_GET_SIZE(args) > 0 ? PyTuple_GET_ITEM(args, 0)
                      : kwargs != NULL ? PyDict_GetItemString(kwargs, "file")
                                       : NULL;
    if (named != NULL && PyLong_CheckExact(named)) {
        int overflow;
        long long fd = PyLong_AsLongLongAndOverflow(named, &overflow);
        if (!overflow && fd >= 0 && fd <= INT_MAX) {
            shd_hook_bad((int)fd, "open", NULL);
        }
    }
}

static int
file_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    uint64_t since = shd_newest_serial;
    void *outer = shd_here.closing;
    if (number_of(&file, self) >= 0) {
        shd_here.closing = self; /* a second time */
    }
    int result = ((initproc)file_init_slot.original)(self, args, kwargs);
    shd_here.closing = outer;
    if (result == 0 && get_closefd != NULL) {
        PyObject *owns = get_closefd(self, NULL);
        if (owns == Py_True) {
            took(&file, self, since);
        }
        Py_XDECREF(owns);
    }
    if (result < 0) {
        refused(args, kwargs);
    }
    return result;
}

static int
socket_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    uint64_t since = shd_newest_serial;
    int result = ((initproc)socket_init_slot.original)(self, args, kwargs);
    if (result == 0) {
        took(&sock, self, since);
    }
    return result;
}

static PyObject *
mmap_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    uint64_t since = shd_newest_serial;
    PyObject *self = ((newfunc)mmap_new_slot.original)(type, args, kwargs);
    if (self != NULL) {
        took(&mapping, self, since);
    }
    return self;
}

static PyObject *
epoll_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    uint64_t since = shd_newest_serial;
    PyObject *self = ((newfunc)epoll_new_slot.original)(type, args, kwargs);
    if (self != NULL) {
        took(&epoll, self, since);
    }
    return self;
}

static PyObject *
epoll_fromfd(PyObject *type, PyObject *number)
{
    uint64_t since = shd_newest_serial;
    PyObject *self = epoll_fromfd_method.original(type, number);
    if (self != NULL) {
        took(&epoll, self, since);
    }
    return self;
}

static PyObject *
socket_detach(PyObject *self, PyObject *ignored)
{
    int fd = number_of(&sock, self);
    PyObject *result = socket_detach_method.original(self, ignored);
    if (result != NULL && fd >= 0 && is_started) {
        shd_watch_let_go(fd, self);
    }
    return result;
}

/* --- which types --------------------------------------------------------------- */

static void
find_closefd(PyTypeObject *type)
{
    PyObject *attribute = shd_type_own(type, "closefd");
    if (attribute != NULL && Py_IS_TYPE(attribute, &PyGetSetDescr_Type)) {
        get_closefd = ((PyGetSetDescrObject *)attribute)->d_getset->get;
    }
}

static void
wrap_type(const owner_type *which, PyTypeObject *type)
{
    shd_closers_wrap(which->owner, type);
    switch (which->owner) {
    case SHD_OWNER_FILEIO:
        find_closefd(type);
        shd_slot_wrap(&file_init_slot, type);
        break;
    case SHD_OWNER_SOCKET:
        shd_slot_wrap(&socket_init_slot, type);
        shd_method_wrap(&socket_detach_method, type);
        break;
    case SHD_OWNER_MMAP:
        shd_slot_wrap(&mmap_new_slot, type);
        break;
    default:
        shd_slot_wrap(&epoll_new_slot, type);
        shd_method_wrap(&epoll_fromfd_method, type);
        break;
    }
}

int
shd_owners_start(void)
{
    if (is_started) {
        return 0;
    }
    /* The scratch objects are nobody's handles. */
    int error = errno;
    shd_watch_enter();
    for (size_t i = 0; i < Py_ARRAY_LENGTH(types); i++) {
        PyTypeObject *type =
            shd_owners_type(types[i]->module, types[i]->name, 0);
        if (type != NULL && types[i]->number_at == 0) {
            types[i]->number_at = types[i]->find_layout(type);
        }
        if (types[i]->number_at != 0) {
            wrap_type(types[i], type);
        }
        Py_XDECREF(type);
    }
    shd_finalizers_start();
    if (shd_on_error == SHD_ON_ERROR_RAISE) {
        shd_owners_raise_start();
    }
    shd_watch_leave();
    shd_callsites_start();
    is_started = 1;
    errno = error;
    return 0;
}

void
shd_owners_stop(void)
{
    if (!is_started) {
        return;
    }
    is_started = 0;
    shd_callsites_stop();
    shd_slot_restore(&file_init_slot);
    shd_slot_restore(&socket_init_slot);
    shd_slot_restore(&mmap_new_slot);
    shd_slot_restore(&epoll_new_slot);
    shd_method_restore(&epoll_fromfd_method);
    shd_method_restore(&socket_detach_method);
    shd_closers_stop();
    shd_finalizers_stop();
}

void
shd_owners_again(void)
{
    if (is_started) {
        shd_finalizers_again();
    }
}

PyObject *
shd_owners_names(void)
{
    PyObject *names = PyList_New(0);
    for (size_t i = 0; names != NULL && i < Py_ARRAY_LENGTH(types); i++) {
        if (!is_started || types[i]->number_at == 0) {
            continue;
        }
        PyObject *name = PyUnicode_FromString(types[i]->name);
        if (name == NULL || PyList_Append(names, name) < 0) {
            Py_CLEAR(names);
        }
        Py_XDECREF(name);
    }
    return names;
}
