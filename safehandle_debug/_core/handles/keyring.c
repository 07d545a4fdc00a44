/* SafeKeyringHandle: a key in the Linux kernel's keyrings.
 *
 * The C library has no wrappers; the calls are made directly, so nothing needs
 * to be installed.  Releasing revokes the key: a stale serial number answers
 * EKEYREVOKED from then on, and the kernel collects the key by itself. */
#define _GNU_SOURCE
#include "lifetime/events.h"

#include <errno.h>
#include <linux/keyctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The extra of a key that was taken out of a keyring. */
static char unlinked;

static int
key_release(int64_t value, void *extra)
{
    if (value < 0) {
        return 0; /* one of the keyrings that every process has: nobody's */
    }
    /* Revoked or expired already, or gone: nothing is left to give back. */
    if (syscall(SYS_keyctl, KEYCTL_REVOKE, (int32_t)value) == 0
        || errno == EKEYREVOKED || errno == EKEYEXPIRED || errno == ENOKEY) {
        return 0;
    }
    if (extra == &unlinked && errno == EACCES) {
        return 0; /* out of reach: the kernel collects it */
    }
    return errno;
}

static PyObject *
set_error(int error)
{
    if (error == ENOSYS) {
        PyErr_SetString(shd_interp_error(SHD_ERROR_NOT_SUPPORTED),
                        "this kernel has no keyrings: it was built without "
                        "CONFIG_KEYS");
        return NULL;
    }
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *
key_add(PyObject *cls, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"type", "description", "payload", "keyring", NULL};
    const char *type, *description;
    Py_buffer payload;
    int keyring = KEY_SPEC_SESSION_KEYRING;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "ssy*|i:add", names, &type,
                                     &description, &payload, &keyring)) {
        return NULL;
    }
    PyObject *result = NULL;
    uint32_t slot;
    PyObject *detail = PyUnicode_FromFormat("%s %s", type, description);
    shd_handle *handle = detail == NULL
                             ? NULL
                             : shd_handle_begin((PyTypeObject *)cls, 0, &slot);
    if (handle != NULL) {
        long key = syscall(SYS_add_key, type, description, payload.buf,
                           (size_t)payload.len, keyring);
        if (key >= 0) {
            result = shd_handle_complete(handle, slot, key, detail);
        }
        else {
            set_error(errno);
            shd_handle_abandon(handle, slot);
        }
    }
    Py_XDECREF(detail);
    PyBuffer_Release(&payload);
    return result;
}

static PyObject *
key_read(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    shd_handle *handle = (shd_handle *)self;
    if (shd_life_add_ref(handle) < 0) {
        return NULL;
    }
    PyObject *payload = NULL;
    int32_t key = (int32_t)handle->value;
    long size = syscall(SYS_keyctl, KEYCTL_READ, key, NULL, 0);
    while (size >= 0) {
        payload = PyBytes_FromStringAndSize(NULL, size);
        if (payload == NULL) {
            break;
        }
        long now = syscall(SYS_keyctl, KEYCTL_READ, key,
                           PyBytes_AS_STRING(payload), (size_t)size);
        if (now >= 0 && now <= size) {
            if (now < size) {
                _PyBytes_Resize(&payload, now);
            }
            break;
        }
        Py_CLEAR(payload); /* it grew, or went, between the calls */
        size = now;
    }
    if (size < 0) {
        set_error(errno);
    }
    shd_life_let_go(handle);
    return payload;
}

/* Runs keyctl(operation, key, argument) with a reference held. */
static PyObject *
control(PyObject *self, int operation, long argument)
{
    shd_handle *handle = (shd_handle *)self;
    if (shd_life_add_ref(handle) < 0) {
        return NULL;
    }
    long result =
        syscall(SYS_keyctl, operation, (int32_t)handle->value, argument, 0, 0);
    int error = errno;
    if (result == 0 && operation == KEYCTL_UNLINK && handle->slot) {
        /* Without memory for it, closing may tell of a failure too many. */
        (void)shd_table_set_extra(handle->slot, &unlinked);
    }
    if (shd_life_release(handle) < 0) {
        return NULL;
    }
    if (result < 0) {
        return set_error(error);
    }
    Py_RETURN_NONE;
}

static PyObject *
key_revoke(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return control(self, KEYCTL_REVOKE, 0);
}

static PyObject *
key_unlink(PyObject *self, PyObject *args)
{
    int keyring;
    if (!PyArg_ParseTuple(args, "i:unlink", &keyring)) {
        return NULL;
    }
    return control(self, KEYCTL_UNLINK, keyring);
}

PyDoc_STRVAR(add_doc,
"add($type, /, type, description, payload, keyring=-3)\n--\n\n"
"Adds a key to a keyring: add_key(2). -3 is the keyring of the session; the\n"
"other special ones are in keyctl(2). In the process's own, -2, threads that\n"
"ran before its first key cannot reach a key, not even to release it.\n\n"
"A key that has the type and description already gets the payload. When a\n"
"handle owns it, it has two owners from then on, which is recorded: the first\n"
"that closes revokes it for both.\n\n"
"Raises OSError, HandleNotSupportedError on kernels without keyrings.");
PyDoc_STRVAR(read_doc,
"read($self, /)\n--\n\n"
"The payload. Raises OSError (EKEYREVOKED once the key was revoked),\n"
"HandleClosedError.");
PyDoc_STRVAR(revoke_doc,
"revoke($self, /)\n--\n\n"
"Makes the key useless for everybody; the handle stays open.");
PyDoc_STRVAR(unlink_doc,
"unlink($self, keyring, /)\n--\n\n"
"Takes the key out of one keyring.");

static PyMethodDef key_methods[] = {
    {"add", (PyCFunction)(void (*)(void))key_add,
     METH_VARARGS | METH_KEYWORDS | METH_CLASS, add_doc},
    {"read", key_read, METH_NOARGS, read_doc},
    {"revoke", key_revoke, METH_NOARGS, revoke_doc},
    {"unlink", key_unlink, METH_VARARGS, unlink_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(key_doc,
"SafeKeyringHandle(value=0, owns_handle=True)\n--\n\n"
"A key of the Linux kernel's keyrings, by serial number. Closing it revokes\n"
"the key. A finalizer in a forked child leaves the parent's keys alone.");

static int
key_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"value", "owns_handle", NULL};
    int64_t value = 0;
    int owns = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O&p:SafeKeyringHandle",
                                     names, shd_value_converter, &value,
                                     &owns)) {
        return -1;
    }
    return shd_handle_init_value((shd_handle *)self, 0, value, owns);
}

static PyType_Slot key_slots[] = {
    {Py_tp_doc, (void *)key_doc},
    {Py_tp_init, key_init},
    {Py_tp_dealloc, shd_handle_dealloc},
    {Py_tp_methods, key_methods},
    {0, NULL},
};

static PyType_Spec key_spec = {
    .name = "safehandle_debug.SafeKeyringHandle",
    .basicsize = sizeof(shd_handle),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = key_slots,
};

int
shd_keyring_add(PyObject *module, shd_interp *state)
{
    static const shd_kind kind = {
        .number = SHD_KIND_KEYRING,
        .name = "key",
        .space = "keyring",
        .release = key_release,
        .outside = 1,
    };
    static const shd_native native = {&kind, SHD_RULE_ZERO_OR_MINUS_ONE};
    PyTypeObject *type = shd_type_make(module, &key_spec, state->safe_zero);
    int result = type == NULL ? -1 : shd_type_mark(type, &native);
    Py_XDECREF(type);
    return result;
}
