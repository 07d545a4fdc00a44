/* What the waiting types share: descriptors that stay open for the length of
 * a call, deadlines, and one poll(2) loop for all. */
#ifndef SHD_WAITING_H
#define SHD_WAITING_H

#include "lifetime/handle.h"

#include <poll.h>

/* A descriptor with a reference on its handle; `handle` is NULL for a plain
   number. */
typedef struct {
    shd_handle *handle;
    int fd;
} shd_fd_ref;

/* The descriptor of a handle, a number, or an object with fileno(). 0, or -1
 * with an exception and nothing to drop. */
int shd_fd_take(PyObject *object, shd_fd_ref *ref);

/* Drops the reference. Returns `result`, or -1 with an exception; an exception
 * that is set already stays. */
int shd_fd_drop(shd_fd_ref *ref, int result);

/* A moment of CLOCK_MONOTONIC in nanoseconds. */
typedef int64_t shd_deadline;

#define SHD_FOREVER INT64_MAX

/* For "O&": None is for ever, otherwise seconds from now on. */
int shd_deadline_converter(PyObject *seconds, void *deadline);

int shd_deadline_passed(shd_deadline deadline);

/* Polls without the GIL, through signals whose handlers return. The number of
 * ready ones, 0 at the deadline, -1 with an exception. */
int shd_wait_poll(struct pollfd *fds, nfds_t count, shd_deadline deadline);

/* As above for reading one descriptor: 1, 0 or -1. */
int shd_wait_readable(int fd, shd_deadline deadline);

/* Seconds as a timespec, rounded up: never early. ValueError below 0 and
 * beyond what fits. 0, or -1 with an exception. */
int shd_seconds(double seconds, const char *what, struct timespec *out);

#endif
