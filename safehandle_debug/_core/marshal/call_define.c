/* From a signature's description, made by `safehandle_debug.marshal`, to what
 * a call reads. */
#include "call.h"

#include <string.h>

static const struct {
    const char *word;
    enum shd_pass pass;
} passes[] = {
    {"void", SHD_PASS_VOID},
    {"value", SHD_PASS_VALUE},
    {"bytes", SHD_PASS_BYTES},
    {"text", SHD_PASS_TEXT},
    {"buffer", SHD_PASS_BUFFER},
    {"callback", SHD_PASS_CALLBACK},
    {"handle", SHD_PASS_HANDLE},
    {"handle-in", SHD_PASS_HANDLE_IN},
    {"handle-ref", SHD_PASS_HANDLE_REF},
    {"handle-out", SHD_PASS_HANDLE_OUT},
    {"handle-pair", SHD_PASS_HANDLE_PAIR},
    {"value-ref", SHD_PASS_VALUE_REF},
    {"value-out", SHD_PASS_VALUE_OUT},
    {"struct", SHD_PASS_STRUCT},
    {"struct-in", SHD_PASS_STRUCT_IN},
    {"struct-ref", SHD_PASS_STRUCT_REF},
};

static int
find_pass(const char *word, enum shd_pass *pass)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(passes); i++) {
        if (strcmp(passes[i].word, word) == 0) {
            *pass = passes[i].pass;
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError, "unknown way to pass: '%s'", word);
    return -1;
}

static int
check_code(int code)
{
    if (shd_code_size((char)code) == 0) {
        PyErr_Format(PyExc_ValueError, "unknown type code '%c'", code);
        return -1;
    }
    return 0;
}

static int
check_handle(PyObject *type)
{
    shd_interp *state = shd_interp_get();
    if (state == NULL || !PyType_Check(type)
        || !PyType_IsSubtype((PyTypeObject *)type, state->handle)) {
        PyErr_Format(PyExc_TypeError, "%R is not a handle type", type);
        return -1;
    }
    return 0;
}

static int
fill_field(shd_field *field, PyObject *tuple, size_t size)
{
    PyObject *name, *type;
    Py_ssize_t offset;
    int code;
    if (!PyArg_ParseTuple(tuple, "UnCO", &name, &offset, &code, &type)
        || check_code(code) < 0
        || (type != Py_None && check_handle(type) < 0)) {
        return -1;
    }
    if (offset < 0 || (size_t)offset + shd_code_size((char)code) > size) {
        PyErr_Format(PyExc_ValueError, "field %R is outside the structure",
                     name);
        return -1;
    }
    PyUnicode_InternInPlace(&name);
    field->name = Py_NewRef(name);
    field->offset = (size_t)offset;
    field->code = (char)code;
    field->type = type == Py_None ? NULL : (PyTypeObject *)Py_NewRef(type);
    return 0;
}

/* Which 8 bytes hold nothing but floating point numbers. */
static unsigned int
float_words(const shd_parameter *parameter)
{
    unsigned int floats = 0, others = 0;
    for (Py_ssize_t i = 0; i < parameter->field_count; i++) {
        const shd_field *field = &parameter->fields[i];
        unsigned int bit =
            1u << (field->offset / 8 < 31 ? field->offset / 8 : 31);
        if (shd_code_is_float(field->code)) {
            floats |= bit;
        }
        else {
            others |= bit;
        }
    }
    return floats & ~others;
}

static int
fill_structure(shd_parameter *to, PyObject *fields)
{
    Py_ssize_t count = PyTuple_GET_SIZE(fields);
    to->fields = PyMem_Calloc((size_t)count + 1, sizeof(*to->fields));
    if (to->fields == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *field = PyTuple_GET_ITEM(fields, i);
        if (!PyTuple_Check(field)) {
            PyErr_SetString(PyExc_TypeError, "a field must be a tuple");
            return -1;
        }
        if (fill_field(&to->fields[i], field, to->size) < 0) {
            return -1;
        }
        to->field_count++;
    }
    to->floats = float_words(to);
    return 0;
}

static int
is_handle(enum shd_pass pass)
{
    return pass >= SHD_PASS_HANDLE && pass <= SHD_PASS_HANDLE_PAIR;
}

int
shd_parameter_fill(shd_parameter *to, PyObject *tuple)
{
    PyObject *name, *type, *fields;
    const char *word;
    int code, optional;
    Py_ssize_t size;
    if (!PyTuple_Check(tuple)) {
        PyErr_SetString(PyExc_TypeError, "a parameter must be a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(tuple, "UsCOpnO!", &name, &word, &code, &type,
                          &optional, &size, &PyTuple_Type, &fields)
        || find_pass(word, &to->pass) < 0 || check_code(code) < 0) {
        return -1;
    }
    if (is_handle(to->pass) ? check_handle(type) < 0
                            : type != Py_None && !PyType_Check(type)) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_TypeError, "%R is not a type", type);
        }
        return -1;
    }
    if (to->pass >= SHD_PASS_STRUCT || to->pass == SHD_PASS_CALLBACK) {
        if (!PyType_Check(type) || size < 0 || size > 4096) {
            PyErr_SetString(PyExc_ValueError, "a type and its size needed");
            return -1;
        }
    }
    PyUnicode_InternInPlace(&name);
    to->name = Py_NewRef(name);
    to->type = type == Py_None ? NULL : (PyTypeObject *)Py_NewRef(type);
    to->code = (char)code;
    to->optional = (char)optional;
    to->size = (size_t)size;
    return fill_structure(to, fields);
}

void
shd_parameter_clear(shd_parameter *parameter)
{
    for (Py_ssize_t i = 0;
         parameter->fields != NULL && i < parameter->field_count; i++) {
        Py_CLEAR(parameter->fields[i].name);
        Py_CLEAR(parameter->fields[i].type);
    }
    PyMem_Free(parameter->fields);
    parameter->fields = NULL;
    parameter->field_count = 0;
    Py_CLEAR(parameter->name);
    Py_CLEAR(parameter->type);
}

int
shd_parameter_visit(const shd_parameter *parameter, visitproc visit, void *arg)
{
    for (Py_ssize_t i = 0; i < parameter->field_count; i++) {
        Py_VISIT(parameter->fields[i].type);
    }
    Py_VISIT(parameter->type);
    return 0;
}

Py_ssize_t
shd_parameter_works(const shd_parameter *parameter)
{
    return 1 + parameter->field_count;
}

size_t
shd_parameter_image(const shd_parameter *parameter)
{
    size_t size = (parameter->size + 15) & ~(size_t)15;
    return parameter->pass < SHD_PASS_STRUCT    ? 0
           : parameter->pass == SHD_PASS_STRUCT ? size
                                                : 2 * size;
}
