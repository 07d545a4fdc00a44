/* SafeSocketHandle: sockets, each acquired in one C call. */
#define _GNU_SOURCE
#include "lifetime/events.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* --- addresses, in the forms of the socket module --------------------------- */

static PyObject *
unix_address(const struct sockaddr_un *address, socklen_t length)
{
    size_t start = offsetof(struct sockaddr_un, sun_path);
    size_t size = length > start ? length - start : 0;
    if (size == 0) {
        return PyUnicode_FromString("");
    }
    if (address->sun_path[0] == 0) {
        /* Abstract: the name may hold zeros. */
        return PyBytes_FromStringAndSize(address->sun_path, (Py_ssize_t)size);
    }
    return PyUnicode_DecodeFSDefaultAndSize(
        address->sun_path, (Py_ssize_t)strnlen(address->sun_path, size));
}

static PyObject *
make_address(const struct sockaddr_storage *storage, socklen_t length)
{
    char text[INET6_ADDRSTRLEN];
    if (length < sizeof(sa_family_t)) {
        Py_RETURN_NONE;
    }
    switch (storage->ss_family) {
    case AF_INET: {
        const struct sockaddr_in *address =
            (const struct sockaddr_in *)storage;
        inet_ntop(AF_INET, &address->sin_addr, text, sizeof(text));
        return Py_BuildValue("si", text, ntohs(address->sin_port));
    }
    case AF_INET6: {
        const struct sockaddr_in6 *address =
            (const struct sockaddr_in6 *)storage;
        inet_ntop(AF_INET6, &address->sin6_addr, text, sizeof(text));
        return Py_BuildValue("siII", text, ntohs(address->sin6_port),
                             (unsigned int)ntohl(address->sin6_flowinfo),
                             (unsigned int)address->sin6_scope_id);
    }
    case AF_UNIX:
        return unix_address((const struct sockaddr_un *)storage, length);
    default:
        return Py_BuildValue("iy#", storage->ss_family, storage,
                             (Py_ssize_t)length);
    }
}

/* --- acquisition -------------------------------------------------------------- */

static const char *
type_word(int type)
{
    switch (type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) {
    case SOCK_STREAM:
        return "stream";
    case SOCK_DGRAM:
        return "datagram";
    case SOCK_SEQPACKET:
        return "packet";
    default:
        return "socket";
    }
}

static const char *
family_word(int family)
{
    switch (family) {
    case AF_INET:
        return "inet";
    case AF_INET6:
        return "inet6";
    case AF_UNIX:
        return "unix";
    case AF_NETLINK:
        return "netlink";
    default:
        return "other";
    }
}

static PyObject *
socket_create(PyObject *cls, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"family", "type", "proto", NULL};
    int family = AF_INET, type = SOCK_STREAM, proto = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|iii:create", names,
                                     &family, &type, &proto)) {
        return NULL;
    }
    PyObject *detail =
        PyUnicode_FromFormat("%s %s", family_word(family), type_word(type));
    if (detail == NULL) {
        return NULL;
    }
    PyObject *result = NULL;
    uint32_t slot;
    shd_handle *handle = shd_handle_begin((PyTypeObject *)cls, -1, &slot);
    if (handle != NULL) {
        int fd = socket(family, type | SOCK_CLOEXEC, proto);
        if (fd >= 0) {
            result = shd_handle_complete(handle, slot, fd, detail);
        }
        else {
            PyErr_SetFromErrno(PyExc_OSError);
            shd_handle_abandon(handle, slot);
        }
    }
    Py_DECREF(detail);
    return result;
}

static PyObject *
socket_pair(PyObject *cls, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"family", "type", "proto", NULL};
    int family = AF_UNIX, type = SOCK_STREAM, proto = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|iii:pair", names, &family,
                                     &type, &proto)) {
        return NULL;
    }
    PyObject *detail = PyUnicode_FromFormat("%s %s pair", family_word(family),
                                            type_word(type));
    PyObject *pair = detail == NULL ? NULL : PyTuple_New(2);
    uint32_t slots[2] = {0, 0};
    shd_handle *ends[2] = {NULL, NULL};
    int numbers[2];
    if (pair == NULL) {
        goto error;
    }
    for (int i = 0; i < 2; i++) {
        ends[i] = shd_handle_begin((PyTypeObject *)cls, -1, &slots[i]);
        if (ends[i] == NULL) {
            goto error;
        }
    }
    if (socketpair(family, type | SOCK_CLOEXEC, proto, numbers) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        goto error;
    }
    for (int i = 0; i < 2; i++) {
        shd_life_acquire(ends[i], numbers[i], slots[i], detail);
        PyTuple_SET_ITEM(pair, i, (PyObject *)ends[i]);
    }
    Py_DECREF(detail);
    if (shd_events_settle(0) < 0) {
        Py_CLEAR(pair);
    }
    return pair;

error:
    for (int i = 0; i < 2; i++) {
        if (ends[i] != NULL) {
            shd_handle_abandon(ends[i], slots[i]);
        }
    }
    Py_XDECREF(pair);
    Py_XDECREF(detail);
    return NULL;
}

/* A connection and the address of its other end, or -1 with an exception. */
static int
wait_for_connection(int listener, struct sockaddr_storage *address,
                    socklen_t *length)
{
    int fd;
    do {
        *length = sizeof(*address);
        Py_BEGIN_ALLOW_THREADS
        fd = accept4(listener, (struct sockaddr *)address, length,
                     SOCK_CLOEXEC);
        Py_END_ALLOW_THREADS
    } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED)
             && PyErr_CheckSignals() == 0);
    if (fd < 0 && !PyErr_Occurred()) {
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return fd;
}

static PyObject *
socket_accept(PyObject *cls, PyObject *argument)
{
    if (argument == Py_None) {
        PyErr_SetString(shd_interp_error(SHD_ERROR_NULL),
                        "accept() needs a listening SafeSocketHandle, not "
                        "None");
        return NULL;
    }
    const shd_kind *kind = shd_type_native_kind(Py_TYPE(argument));
    if (kind == NULL || kind->number != SHD_KIND_SOCKET) {
        PyErr_Format(PyExc_TypeError,
                     "accept() needs a listening SafeSocketHandle, not %.200s",
                     Py_TYPE(argument)->tp_name);
        return NULL;
    }
    shd_handle *listener = (shd_handle *)argument;
    PyObject *pair = PyTuple_New(2);
    PyObject *detail = PyUnicode_FromFormat(
        "accepted by #%llu", (unsigned long long)shd_serial(listener));
    uint32_t slot;
    shd_handle *handle = NULL;
    if (pair != NULL && detail != NULL) {
        handle = shd_handle_begin((PyTypeObject *)cls, -1, &slot);
    }
    if (handle == NULL || shd_life_add_ref(listener) < 0) {
        if (handle != NULL) {
            shd_handle_abandon(handle, slot);
        }
        Py_XDECREF(pair);
        Py_XDECREF(detail);
        return NULL;
    }
    struct sockaddr_storage storage;
    socklen_t length;
    int fd = wait_for_connection((int)listener->value, &storage, &length);
    if (fd >= 0) {
        shd_life_acquire(handle, fd, slot, detail);
        PyTuple_SET_ITEM(pair, 0, (PyObject *)handle);
        PyObject *address = make_address(&storage, length);
        if (address == NULL) {
            Py_CLEAR(pair); /* and with it the connection */
        }
        else {
            PyTuple_SET_ITEM(pair, 1, address);
        }
    }
    else {
        shd_handle_abandon(handle, slot);
        Py_CLEAR(pair);
    }
    Py_DECREF(detail);
    shd_life_let_go(listener);
    if (shd_events_settle(0) < 0) {
        Py_CLEAR(pair);
    }
    return pair;
}

/* --- the type ------------------------------------------------------------------ */

PyDoc_STRVAR(create_doc,
"create($type, /, family=socket.AF_INET, type=socket.SOCK_STREAM, proto=0)\n"
"--\n\n"
"A new socket: socket(2), close-on-exec. Raises OSError.");
PyDoc_STRVAR(pair_doc,
"pair($type, /, family=socket.AF_UNIX, type=socket.SOCK_STREAM, proto=0)\n"
"--\n\n"
"Two connected sockets: socketpair(2). Raises OSError.");
PyDoc_STRVAR(accept_doc,
"accept($type, listener, /)\n--\n\n"
"Waits for a connection to `listener`, a SafeSocketHandle, which cannot be\n"
"closed meanwhile. Returns (handle, address), the address as the socket\n"
"module gives it.\n\n"
"Raises OSError, HandleClosedError when the listener is closed.");
PyDoc_STRVAR(fileno_doc,
"fileno($self, /)\n--\n\n"
"The descriptor; raises HandleClosedError when closed.");

static PyMethodDef socket_methods[] = {
    {"create", (PyCFunction)(void (*)(void))socket_create,
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, create_doc},
    {"pair", (PyCFunction)(void (*)(void))socket_pair,
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, pair_doc},
    {"accept", socket_accept, METH_O | METH_CLASS, accept_doc},
    {"fileno", shd_descriptor_fileno, METH_NOARGS, fileno_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(socket_doc,
"SafeSocketHandle(value=-1, owns_handle=True)\n--\n\n"
"A socket. The constructor adopts a descriptor; create(), pair() and\n"
"accept() acquire one. socket.socket(fileno=handle.detach()) makes it a\n"
"socket object.");

static PyType_Slot socket_slots[] = {
    {Py_tp_doc, (void *)socket_doc},
    {Py_tp_init, shd_native_init},
    {Py_tp_dealloc, shd_handle_dealloc},
    {Py_tp_methods, socket_methods},
    {0, NULL},
};

static PyType_Spec socket_spec = {
    .name = "safehandle_debug.SafeSocketHandle",
    .basicsize = sizeof(shd_handle),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = socket_slots,
};

int
shd_socket_add(PyObject *module, shd_interp *state)
{
    static const shd_kind kind = {
        .number = SHD_KIND_SOCKET,
        .name = "socket",
        .space = "fd",
        .release = shd_descriptor_close,
    };
    static const shd_native native = {&kind, SHD_RULE_FD};
    return shd_descriptor_add(module, &socket_spec, state, &native);
}
