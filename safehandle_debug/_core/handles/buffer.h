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

/* Drops a reference of the handle; an exception that is set stays, and one
 * that the release raises is reported as nobody's. */
void shd_buffer_leave(shd_buffer *buffer);

#endif
