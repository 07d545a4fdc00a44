/* Numbers of C: how wide, how signed, from and to Python's. */
#include "call.h"

#include <string.h>

size_t
shd_code_size(char code)
{
    switch (code) {
    case '?':
    case 'b':
    case 'B':
        return 1;
    case 'h':
    case 'H':
        return 2;
    case 'i':
    case 'I':
    case 'f':
        return 4;
    case 'q':
    case 'Q':
    case 'd':
    case 'P':
        return 8;
    default:
        return 0;
    }
}

int
shd_code_is_float(char code)
{
    return code == 'd' || code == 'f';
}

int64_t
shd_code_narrow(char code, int64_t bits)
{
    switch (code) {
    case '?':
        return (bits & 0xff) != 0;
    case 'b':
        return (int8_t)bits;
    case 'B':
        return (uint8_t)bits;
    case 'h':
        return (int16_t)bits;
    case 'H':
        return (uint16_t)bits;
    case 'i':
        return (int32_t)bits;
    case 'I':
    case 'f':
        return (uint32_t)bits;
    default:
        return bits;
    }
}

int64_t
shd_code_load(char code, const void *from)
{
    int64_t bits = 0;
    memcpy(&bits, from, shd_code_size(code)); /* little-endian, as both are */
    return shd_code_narrow(code, bits);
}

void
shd_code_store(char code, void *to, int64_t bits)
{
    memcpy(to, &bits, shd_code_size(code));
}

static int
float_from_python(char code, PyObject *object, int64_t *bits)
{
    double value = PyFloat_AsDouble(object);
    if (value == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    *bits = 0;
    if (code == 'f') {
        float narrow = (float)value;
        memcpy(bits, &narrow, sizeof(narrow));
    }
    else {
        memcpy(bits, &value, sizeof(value));
    }
    return 0;
}

static int
out_of_range(char code)
{
    size_t size = shd_code_size(code);
    int is_signed = code == 'b' || code == 'h' || code == 'i' || code == 'q';
    PyErr_Format(PyExc_OverflowError, "the value must fit in %s %d bits",
                 is_signed ? "signed" : "unsigned", (int)(8 * size));
    return -1;
}

/* The object as an int: itself, or what a ctypes object holds. */
static PyObject *
as_index(char code, PyObject *object)
{
    if (PyLong_CheckExact(object)) {
        return Py_NewRef(object);
    }
    if (PyIndex_Check(object)) {
        return PyNumber_Index(object);
    }
    PyObject *value = Py_TYPE(object)->tp_as_buffer == NULL
                          ? NULL
                          : PyObject_GetAttrString(object, "value");
    if (value == NULL) {
        PyErr_Clear();
    }
    else if (PyIndex_Check(value)) {
        PyObject *index = PyNumber_Index(value);
        Py_DECREF(value);
        return index;
    }
    else if (code == 'P' && value == Py_None) {
        Py_DECREF(value);
        return PyLong_FromLong(0);
    }
    Py_XDECREF(value);
    PyErr_Format(PyExc_TypeError, "an int is needed, not %.200s",
                 Py_TYPE(object)->tp_name);
    return NULL;
}

int
shd_code_from_python(char code, PyObject *object, int64_t *bits)
{
    if (shd_code_is_float(code)) {
        return float_from_python(code, object, bits);
    }
    if (code == '?') {
        int truth = PyObject_IsTrue(object);
        *bits = truth;
        return truth < 0 ? -1 : 0;
    }
    if (code == 'P' && object == Py_None) {
        *bits = 0;
        return 0;
    }
    PyObject *index = as_index(code, object);
    if (index == NULL) {
        return -1;
    }
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(index, &overflow);
    if (overflow > 0 && (code == 'Q' || code == 'P')) {
        unsigned long long wide = PyLong_AsUnsignedLongLong(index);
        overflow = PyErr_Occurred() != NULL;
        PyErr_Clear();
        value = (long long)wide;
    }
    else if (!overflow && code == 'Q' && value < 0) {
        overflow = -1;
    }
    Py_DECREF(index);
    if (overflow || shd_code_narrow(code, value) != value) {
        return out_of_range(code);
    }
    *bits = value;
    return 0;
}

PyObject *
shd_code_to_python(char code, int64_t bits)
{
    bits = shd_code_narrow(code, bits);
    switch (code) {
    case 'd': {
        double value;
        memcpy(&value, &bits, sizeof(value));
        return PyFloat_FromDouble(value);
    }
    case 'f': {
        float value;
        memcpy(&value, &bits, sizeof(value));
        return PyFloat_FromDouble(value);
    }
    case '?':
        return PyBool_FromLong(bits != 0);
    case 'P':
        if (bits == 0) {
            Py_RETURN_NONE;
        }
        return PyLong_FromUnsignedLongLong((unsigned long long)bits);
    case 'Q':
        return PyLong_FromUnsignedLongLong((unsigned long long)bits);
    default:
        return PyLong_FromLongLong(bits);
    }
}
