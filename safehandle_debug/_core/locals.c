/* What a frame's local variables hold, without disturbing the frame.
 *
 * Before 3.13 `frame.f_locals` makes a snapshot and keeps it in the frame: the
 * objects in it would stay alive after the program has let go of them, so that
 * looking at a program would change when its handles are closed.  Here the
 * variables are read where they lie; cells are given as they are. */
#include "locals.h"

#if PY_VERSION_HEX < 0x030D0000 && SHD_HAVE_FRAMES

static PyObject *
frame_values(PyFrameObject *object)
{
    PyObject *values = PyDict_New();
    if (values == NULL) {
        return NULL;
    }
    struct _PyInterpreterFrame *frame = object->f_frame;
    PyCodeObject *code = frame->f_code;
    for (int i = 0; i < code->co_nlocalsplus; i++) {
        PyObject *value = frame->localsplus[i];
        PyObject *name = PyTuple_GET_ITEM(code->co_localsplusnames, i);
        if (value != NULL && PyDict_SetItem(values, name, value) < 0) {
            Py_DECREF(values);
            return NULL;
        }
    }
    return values;
}

#else

/* From 3.13 on it is a view that keeps nothing. */
static PyObject *
frame_values(PyFrameObject *object)
{
    PyObject *view = PyObject_GetAttrString((PyObject *)object, "f_locals");
    if (view == NULL) {
        return NULL;
    }
    PyObject *values = PyDict_New();
    if (values != NULL && PyDict_Update(values, view) < 0) {
        Py_CLEAR(values);
    }
    Py_DECREF(view);
    return values;
}

#endif

PyObject *
shd_frame_locals(PyObject *Py_UNUSED(module), PyObject *frame)
{
    if (!PyFrame_Check(frame)) {
        return PyErr_Format(PyExc_TypeError, "frame expected, got %.200s",
                            Py_TYPE(frame)->tp_name);
    }
    return frame_values((PyFrameObject *)frame);
}
