/* SafeBuffer's part of every object: how much memory the handle names. */
#ifndef SHD_BUFFER_H
#define SHD_BUFFER_H

#include "lifetime/handle.h"

typedef struct {
    shd_handle base; /* its value is the address of the first byte */
    Py_ssize_t length;
    uint8_t initialized; /* length is known */
    uint8_t readonly;
} shd_buffer;

/* Makes the length known, before anybody else sees the object. */
void shd_buffer_set(shd_buffer *buffer, Py_ssize_t length, int readonly);

/* 0, or -1 with an exception: it has a length, may be written to, has `size`
 * bytes at `offset`, which becomes `at`. */
int shd_buffer_check(const shd_buffer *self);
int shd_buffer_check_writable(const shd_buffer *self);
int shd_buffer_check_range(const shd_buffer *self, PyObject *offset,
                           Py_ssize_t size, Py_ssize_t *at);

/* Takes a reference; the address, or NULL with an exception. */
char *shd_buffer_enter(shd_buffer *self);

/* Copies `size` bytes at `at` from the buffer, or into it; -1 with an
 * exception. */
int shd_buffer_transfer(shd_buffer *self, Py_ssize_t at, char *outside,
                        Py_ssize_t size, int into);

/* The same with all checks: the bytes at `offset` as an object, and back. */
PyObject *shd_buffer_take(shd_buffer *self, PyObject *offset, Py_ssize_t size);
int shd_buffer_put(shd_buffer *self, PyObject *offset, const void *data,
                   Py_ssize_t size);

/* Drops a reference of the handle; an exception that is set stays, and one
 * that the release raises is reported as nobody's. */
void shd_buffer_leave(shd_buffer *buffer);

#endif
