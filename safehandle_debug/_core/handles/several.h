/* Waiting for events and timers, one or several. */
#ifndef SHD_SEVERAL_H
#define SHD_SEVERAL_H

#include "waiting.h"

/* Reads an event's count or a timer's ticks: 1 taken, 0 not signalled, -1 with
 * errno. No Python. */
int shd_wait_take(int fd, uint64_t *count);

/* Waits for one handle and, when `takes`, takes its signal: 1, 0 at the
 * deadline, -1 with an exception. */
int shd_wait_one(PyObject *handle, int takes, shd_deadline deadline);

/* Adds wait_on() to the module; -1 with an exception. */
int shd_several_add(PyObject *module);

#endif
