/* Access to a buffer's memory: within its bounds, and while it stays.
 *
 * Nothing here touches the memory itself.  A page of a mapped file is gone once
 * the file is truncated, whoever did that, and the processor's answer is a
 * signal that ends the process.  The kernel copies instead: it checks as it
 * copies, so there is no moment between a check and the copy, and it answers
 * with EFAULT. */
#define _GNU_SOURCE
#include "buffer.h"

#include "lifetime/events.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define COPY_WITH_GIL (32 * 1024) /* bytes; more is copied without it */

/* --- copying ---------------------------------------------------------------*/

/* Through a file in memory: for processes that may not read "another"
   process's memory, be it their own.  0 or errno. */
static int
copy_through_file(char *to, const char *from, size_t size)
{
    int fd = memfd_create("safehandle-copy", MFD_CLOEXEC);
    if (fd < 0) {
        return errno;
    }
    int error = 0;
    while (size > 0 && error == 0) {
        ssize_t count = pwrite(fd, from, size, 0);
        ssize_t back = count <= 0 ? count : pread(fd, to, (size_t)count, 0);
        if (back <= 0) {
            error = back < 0 ? errno : EFAULT;
            break;
        }
        to += back;
        from += back;
        size -= (size_t)back;
    }
    close(fd);
    return error;
}

/* 0 or errno; EFAULT when a page of either side is not there. */
static int
copy(char *to, const char *from, size_t size)
{
    pid_t self = getpid();
    while (size > 0) {
        struct iovec local = {to, size};
        struct iovec remote = {(void *)from, size};
        ssize_t count = process_vm_readv(self, &local, 1, &remote, 1, 0);
        if (count < 0 && (errno == ENOSYS || errno == EPERM)) {
            return copy_through_file(to, from, size);
        }
        if (count <= 0) {
            return count < 0 ? errno : EFAULT;
        }
        to += count;
        from += count;
        size -= (size_t)count;
    }
    return 0;
}

/* --- what every access begins and ends with -------------------------------- */

void
shd_buffer_set(shd_buffer *buffer, Py_ssize_t length, int readonly)
{
    buffer->length = length;
    buffer->readonly = readonly != 0;
    buffer->initialized = 1;
    buffer->base.base.bits |= SHD_RESETS;
}

int
shd_buffer_check(const shd_buffer *self)
{
    if (self->initialized) {
        return 0;
    }
    PyErr_Format(shd_interp_error(SHD_ERROR_STATE),
                 "%.200s has no length yet: call initialize() first",
                 Py_TYPE(self)->tp_name);
    return -1;
}

int
shd_buffer_check_writable(const shd_buffer *self)
{
    if (!self->readonly) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%.200s is read-only",
                 Py_TYPE(self)->tp_name);
    return -1;
}

int
shd_buffer_check_range(const shd_buffer *self, PyObject *offset,
                       Py_ssize_t size, Py_ssize_t *at)
{
    PyObject *index = PyNumber_Index(offset);
    if (index == NULL) {
        return -1;
    }
    int overflow;
    long long converted = PyLong_AsLongLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    /* No sum, which could wrap. */
    *at = overflow < 0   ? PY_SSIZE_T_MIN
          : overflow > 0 ? PY_SSIZE_T_MAX
                         : (Py_ssize_t)converted;
    if (*at < 0 || size > self->length || *at > self->length - size) {
        PyErr_Format(PyExc_IndexError,
                     "%zd bytes at offset %zd are outside of the %zd bytes of "
                     "this buffer",
                     size, *at, self->length);
        return -1;
    }
    return 0;
}

char *
shd_buffer_enter(shd_buffer *self)
{
    if (shd_life_add_ref(&self->base) < 0) {
        shd_events_settle(-1);
        return NULL;
    }
    int64_t address = self->base.value;
    if (address == 0 || address == -1) {
        PyErr_Format(shd_interp_error(SHD_ERROR_STATE),
                     "%.200s has no memory: its value is %lld",
                     Py_TYPE(self)->tp_name, (long long)address);
        shd_buffer_leave(self);
        return NULL;
    }
    return (char *)(intptr_t)address;
}

void
shd_buffer_leave(shd_buffer *self)
{
    shd_life_let_go(&self->base);
}

int
shd_buffer_transfer(shd_buffer *self, Py_ssize_t at, char *outside,
                    Py_ssize_t size, int into)
{
    char *inside = shd_buffer_enter(self);
    if (inside == NULL) {
        return -1;
    }
    char *to = into ? inside + at : outside;
    const char *from = into ? outside : inside + at;
    int error;
    if (size > COPY_WITH_GIL) {
        Py_BEGIN_ALLOW_THREADS
        error = copy(to, from, (size_t)size);
        Py_END_ALLOW_THREADS
    }
    else {
        error = copy(to, from, (size_t)size);
    }
    if (error == EFAULT) {
        PyObject *why = PyUnicode_FromFormat(
            "%zd bytes at offset %zd are not there: the mapped file was "
            "truncated under the view",
            size, at);
        PyObject *args = why == NULL ? NULL : Py_BuildValue("iN", error, why);
        if (args != NULL) {
            PyErr_SetObject(PyExc_OSError, args);
            Py_DECREF(args);
        }
    }
    else if (error) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    shd_buffer_leave(self);
    return shd_events_settle(error ? -1 : 0);
}

PyObject *
shd_buffer_take(shd_buffer *self, PyObject *offset, Py_ssize_t size)
{
    Py_ssize_t at;
    if (shd_buffer_check_range(self, offset, size, &at) < 0) {
        return NULL;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, size);
    if (bytes != NULL
        && shd_buffer_transfer(self, at, PyBytes_AS_STRING(bytes), size, 0)
               < 0) {
        Py_CLEAR(bytes);
    }
    return bytes;
}

int
shd_buffer_put(shd_buffer *self, PyObject *offset, const void *data,
               Py_ssize_t size)
{
    Py_ssize_t at;
    if (shd_buffer_check_writable(self) < 0
        || shd_buffer_check_range(self, offset, size, &at) < 0) {
        return -1;
    }
    return shd_buffer_transfer(self, at, (char *)data, size, 1);
}
