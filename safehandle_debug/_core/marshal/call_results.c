/* What a native call leaves behind.
 *
 * Two steps.  The first captures every handle that came back and cannot fail:
 * all objects exist already.  The second does what may fail, so that an error
 * there finds nothing that nobody owns. */
#include "call.h"

#include <limits.h>
#include <string.h>

/* Whether the value names a resource.  Asks no Python code: between the call
   and the owner there is none.  A Python rule has its say when the handle is
   closed. */
static int
is_worth_owning(shd_handle *handle, int64_t value)
{
    switch (shd_type_info_of(Py_TYPE(handle))->rule) {
    case SHD_RULE_ZERO_OR_MINUS_ONE:
        return value != 0 && value != -1;
    case SHD_RULE_MINUS_ONE:
        return value != -1;
    case SHD_RULE_FD:
        return value >= 0 && value <= INT_MAX;
    case SHD_RULE_PYTHON:
        break;
    }
    return !(value == 0 && shd_has(handle, SHD_INVALID_0))
           && !(value == -1 && shd_has(handle, SHD_INVALID_1));
}

int
shd_call_give(shd_work *work, int which, int64_t value)
{
    shd_handle *handle = work->fresh[which];
    uint32_t slot = work->slots[which];
    work->fresh[which] = NULL;
    if (is_worth_owning(handle, value)) {
        shd_life_acquire(handle, value, slot, NULL);
        return 1;
    }
    handle->value = value;
    shd_table_give(slot);
    return 0;
}

/* Puts an object into a cell; what was there goes when the call is over.
   Steals `value`. */
static void
put(shd_work *work, PyObject *value)
{
    shd_cell *cell = (shd_cell *)work->object;
    work->later = cell->value;
    cell->value = value;
}

static void
capture_pair(shd_work *work)
{
    char code = work->parameter->code;
    size_t size = shd_code_size(code);
    int64_t values[2];
    for (int i = 0; i < 2; i++) {
        values[i] = shd_code_load(code, (char *)work->cells + i * size);
    }
    int written = values[0] != work->before || values[1] != work->before;
    PyObject *pair = work->pair;
    work->pair = NULL;
    for (int i = 0; i < 2; i++) {
        PyTuple_SET_ITEM(pair, i, Py_NewRef(work->fresh[i]));
        if (written) {
            shd_handle *handle = work->fresh[i];
            shd_call_give(work, i, values[i]);
            Py_DECREF(handle);
        } /* else the cleanup disposes of both */
    }
    put(work, pair);
}

void
shd_call_capture(shd_call *call)
{
    for (Py_ssize_t i = 0; i < call->used; i++) {
        shd_work *work = &call->works[i];
        enum shd_pass pass = work->parameter->pass;
        if (pass == SHD_PASS_HANDLE_PAIR) {
            capture_pair(work);
            continue;
        }
        if (pass != SHD_PASS_HANDLE_OUT && pass != SHD_PASS_HANDLE_REF) {
            continue;
        }
        int64_t value = shd_code_load(work->parameter->code, work->cells);
        if (pass == SHD_PASS_HANDLE_OUT || value != work->before) {
            shd_handle *handle = work->fresh[0];
            shd_call_give(work, 0, value);
            put(work, (PyObject *)handle);
        }
    }
}

static int
changed_handle(const shd_work *work)
{
    if (shd_code_load(work->field->code, work->image) == work->before) {
        return 0;
    }
    PyErr_Format(shd_interp_error(SHD_ERROR_NOT_SUPPORTED),
                 "native code replaced the handle in %U.%U; a structure's "
                 "handles cannot be created in native code: use Ref or Out",
                 work->parameter->name, work->field->name);
    return -1;
}

static int
write_back_structure(const shd_work *work)
{
    const shd_parameter *parameter = work->parameter;
    const unsigned char *old =
        work->image + shd_parameter_image(parameter) / 2;
    for (Py_ssize_t i = 0; i < parameter->field_count; i++) {
        const shd_field *field = &parameter->fields[i];
        if (field->type != NULL
            || memcmp(work->image + field->offset, old + field->offset,
                      shd_code_size(field->code))
                   == 0) {
            continue;
        }
        PyObject *value = shd_code_to_python(
            field->code,
            shd_code_load(field->code, work->image + field->offset));
        int result = value == NULL
                         ? -1
                         : PyObject_SetAttr(work->object, field->name, value);
        Py_XDECREF(value);
        if (result < 0) {
            return -1;
        }
    }
    return 0;
}

static int
write_back_number(shd_work *work)
{
    char code = work->parameter->code;
    PyObject *value =
        shd_code_to_python(code, shd_code_load(code, work->cells));
    if (value == NULL) {
        return -1;
    }
    put(work, value);
    return 0;
}

int
shd_call_write_back(shd_call *call)
{
    for (Py_ssize_t i = 0; i < call->used; i++) {
        shd_work *work = &call->works[i];
        enum shd_pass pass = work->parameter->pass;
        int result = 0;
        if (pass == SHD_PASS_VALUE_OUT || pass == SHD_PASS_VALUE_REF) {
            result = write_back_number(work);
        }
        else if (pass == SHD_PASS_STRUCT_REF && work->field != NULL) {
            result = changed_handle(work);
        }
        if (result < 0) {
            return -1;
        }
    }
    /* Numbers last: not into a structure whose handles are wrong. */
    for (Py_ssize_t i = 0; i < call->used; i++) {
        shd_work *work = &call->works[i];
        if (work->parameter->pass == SHD_PASS_STRUCT_REF && work->field == NULL
            && write_back_structure(work) < 0) {
            return -1;
        }
    }
    return 0;
}
