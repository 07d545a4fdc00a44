/* What a frame's local variables hold, without disturbing the frame. */
#ifndef SHD_LOCALS_H
#define SHD_LOCALS_H

#include "compat.h"

/* `frame_locals(frame)`: a new dict, or NULL with an exception. */
PyObject *shd_frame_locals(PyObject *module, PyObject *frame);

#endif
