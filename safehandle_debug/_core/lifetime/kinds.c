/* Kinds of handle, and what a type overrides of its native base.
 *
 * Method lookups on every release would cost more than the release; a small
 * cache keyed by the type's version tag answers "is anything overridden?" and
 * forgets by itself when somebody assigns to the class. */
#include "handle.h"

#include "recording/record.h"

#include <string.h>

const shd_kind shd_kind_python = {
    SHD_KIND_PYTHON, "handle", "", NULL, NULL, NULL, 0};

static const shd_kind *kinds[SHD_KINDS];

const shd_kind *
shd_kind_by_number(int number)
{
    return kinds[number];
}

#define CACHE_SIZE 64
#define NATIVE_MARK "_native_handle"

static shd_type_info cache[CACHE_SIZE];

/* What subclasses may define, interned once: a lookup must not need memory. */
enum {
    NAME_RELEASE_HANDLE,
    NAME_IS_INVALID,
    NAME_DISPOSE,
    NAME_FINALIZE,
    NAME_RELEASE_INHERITED,
    NAME_HANDLE_KIND,
    NAME_HANDLE_SPACE,
    NAME_NATIVE_MARK,
    NAMES,
};

static PyObject *names[NAMES];

int
shd_type_start(void)
{
    static const char *const texts[NAMES] = {
        [NAME_RELEASE_HANDLE] = "release_handle",
        [NAME_IS_INVALID] = "is_invalid",
        [NAME_DISPOSE] = "dispose",
        [NAME_FINALIZE] = "finalize",
        [NAME_RELEASE_INHERITED] = "release_inherited",
        [NAME_HANDLE_KIND] = "handle_kind",
        [NAME_HANDLE_SPACE] = "handle_space",
        [NAME_NATIVE_MARK] = NATIVE_MARK,
    };
    for (int i = 0; i < NAMES; i++) {
        if (names[i] == NULL) {
            names[i] = PyUnicode_InternFromString(texts[i]);
        }
        if (names[i] == NULL) {
            return -1;
        }
    }
    return 0;
}

static PyObject *
lookup(PyTypeObject *type, int name)
{
    return shd_type_lookup(type, names[name]);
}

static int
is_overridden(PyTypeObject *type, int name)
{
    /* Methods and properties of C types are method or getset descriptors;
       whatever else stands there was put there by Python code. */
    PyObject *found = lookup(type, name);
    return found != NULL && !Py_IS_TYPE(found, &PyMethodDescr_Type)
           && !Py_IS_TYPE(found, &PyGetSetDescr_Type);
}

/* A generator or coroutine: a call makes an object, and releases nothing. */
static int
is_idle(PyTypeObject *type, int name)
{
    PyObject *found = lookup(type, name);
    if (found == NULL || !PyFunction_Check(found)) {
        return 0;
    }
    PyCodeObject *code = (PyCodeObject *)PyFunction_GET_CODE(found);
    return (code->co_flags
            & (CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR))
           != 0;
}

static const char *
type_text(PyTypeObject *type, int name)
{
    PyObject *found = lookup(type, name);
    if (found == NULL || !PyUnicode_Check(found)) {
        return NULL;
    }
    const char *text = PyUnicode_AsUTF8(found);
    if (text == NULL) {
        PyErr_Clear();
    }
    return text;
}

static const shd_native *
native_of(PyTypeObject *type)
{
    PyObject *mark = lookup(type, NAME_NATIVE_MARK);
    if (mark == NULL || !PyCapsule_IsValid(mark, NATIVE_MARK)) {
        return NULL;
    }
    return PyCapsule_GetPointer(mark, NATIVE_MARK);
}

static void
describe(shd_type_info *info, PyTypeObject *type)
{
    PyObject *error_type, *error, *traceback;
    PyErr_Fetch(&error_type, &error, &traceback);
    const shd_native *native = native_of(type);
    memset(info, 0, sizeof(*info));
    info->type = type;
    info->python_release = is_overridden(type, NAME_RELEASE_HANDLE);
    info->idle_release = is_idle(type, NAME_RELEASE_HANDLE);
    info->python_invalid = is_overridden(type, NAME_IS_INVALID);
    info->python_dispose = is_overridden(type, NAME_DISPOSE);
    info->python_finalize = is_overridden(type, NAME_FINALIZE);
    info->rule = native == NULL || info->python_invalid ? SHD_RULE_PYTHON
                                                        : native->rule;
    info->kind = native == NULL || info->python_release ? &shd_kind_python
                                                        : native->kind;
    info->release_inherited = lookup(type, NAME_RELEASE_INHERITED) == Py_True;
    const char *space = type_text(type, NAME_HANDLE_SPACE);
    info->fd_space = space != NULL && strcmp(space, "fd") == 0;
    shd_type_assign_version(type);
    info->version = shd_type_version(type);
    PyErr_Restore(error_type, error, traceback);
}

static shd_type_info *
info_of(PyTypeObject *type)
{
    shd_type_info *info = &cache[((uintptr_t)type >> 5) % CACHE_SIZE];
    unsigned int version = shd_type_version(type);
    if (info->type != type || info->version != version || version == 0) {
        describe(info, type);
    }
    return info;
}

const shd_type_info *
shd_type_info_of(PyTypeObject *type)
{
    return info_of(type);
}

uint32_t
shd_type_id(PyTypeObject *type)
{
    shd_type_info *info = info_of(type);
    if (info->epoch == shd_rec.epoch) {
        return info->id;
    }
    const char *name = strrchr(type->tp_name, '.');
    name = name == NULL ? type->tp_name : name + 1;
    const char *kind = type_text(type, NAME_HANDLE_KIND);
    const char *space = type_text(type, NAME_HANDLE_SPACE);
    info->id = shd_record_type(name, kind == NULL ? "handle" : kind,
                               space == NULL || !space[0] ? name : space);
    info->epoch = shd_rec.epoch;
    return info->id;
}

int
shd_type_mark(PyTypeObject *type, const shd_native *native)
{
    kinds[native->kind->number] = native->kind;
    PyObject *mark = PyCapsule_New((void *)native, NATIVE_MARK, NULL);
    if (mark == NULL) {
        return -1;
    }
    int result = PyDict_SetItemString(type->tp_dict, NATIVE_MARK, mark);
    Py_DECREF(mark);
    const char *const texts[][2] = {
        {"handle_kind", native->kind->name},
        {"handle_space", native->kind->space},
    };
    for (int i = 0; result == 0 && i < 2; i++) {
        PyObject *text = PyUnicode_InternFromString(texts[i][1]);
        result = text == NULL
                     ? -1
                     : PyDict_SetItemString(type->tp_dict, texts[i][0], text);
        Py_XDECREF(text);
    }
    PyType_Modified(type);
    return result;
}

const shd_kind *
shd_type_native_kind(PyTypeObject *type)
{
    /* A lookup that is not cached clears the current exception. */
    PyObject *error_type, *error, *traceback;
    PyErr_Fetch(&error_type, &error, &traceback);
    const shd_native *native = native_of(type);
    PyErr_Restore(error_type, error, traceback);
    return native == NULL ? NULL : native->kind;
}

int
shd_type_check_concrete(PyTypeObject *type)
{
    const shd_type_info *info = info_of(type);
    const char *missing = NULL;
    if (info->kind->release == NULL && !info->python_release) {
        missing = "release_handle()";
    }
    else if (info->rule == SHD_RULE_PYTHON && !info->python_invalid) {
        missing = "the property is_invalid";
    }
    if (missing == NULL && info->idle_release) {
        PyErr_Format(PyExc_TypeError,
                     "%.200s.release_handle() is a generator or coroutine, "
                     "and a call of it would release nothing: make it a "
                     "plain method",
                     type->tp_name);
        return -1;
    }
    if (missing == NULL) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError,
                 "%.200s is abstract: a subclass must define %s",
                 type->tp_name, missing);
    return -1;
}
