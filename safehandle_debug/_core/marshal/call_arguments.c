/* Arguments before the call, and the list of what to undo after it.
 *
 * An entry of the list is made before the reference that it stands for, and
 * says whether that was taken: an error anywhere in between undoes what was
 * done and nothing else. */
#include "call.h"

#include "lifetime/events.h"

#include <stddef.h>
#include <string.h>

shd_work *
shd_call_work(shd_call *call, const shd_parameter *parameter)
{
    shd_work *work = &call->works[call->used++];
    memset(work, 0, offsetof(shd_work, buffer));
    work->parameter = parameter;
    return work;
}

static int
refuse(PyObject *error, const shd_call *call, const shd_parameter *parameter,
       PyObject *field, const char *wanted, PyObject *got)
{
    const char *given = got == Py_None ? "None" : Py_TYPE(got)->tp_name;
    if (field == NULL) {
        PyErr_Format(error, "%U(): %U must be %s, not %.200s",
                     call->function->name, parameter->name, wanted, given);
    }
    else {
        PyErr_Format(error, "%U(): %U.%U must be %s, not %.200s",
                     call->function->name, parameter->name, field, wanted,
                     given);
    }
    return -1;
}

/* Puts "open(): flags: " before the text of a conversion's error. */
static int
explain(const shd_call *call, const shd_parameter *parameter, PyObject *field)
{
    PyObject *type, *value, *traceback;
    if (!PyErr_ExceptionMatches(PyExc_TypeError)
        && !PyErr_ExceptionMatches(PyExc_OverflowError)) {
        return -1;
    }
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (field == NULL) {
        PyErr_Format(type, "%U(): %U: %S", call->function->name,
                     parameter->name, value);
    }
    else {
        PyErr_Format(type, "%U(): %U.%U: %S", call->function->name,
                     parameter->name, field, value);
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return -1;
}

/* --- handles --------------------------------------------------------------- */

int
shd_call_check_critical(shd_handle *handle)
{
    uint32_t state = atomic_load(&handle->state);
    if (state == 0) {
        PyErr_Format(shd_interp_error(SHD_ERROR_STATE),
                     "%.200s is not initialised: call super().__init__() "
                     "first",
                     Py_TYPE(handle)->tp_name);
        return -1;
    }
    if (state & SHD_CLOSED) {
        shd_events_emit(handle, SHD_EVENT_USE_CLOSED, 0, 0, 0, handle->value,
                        NULL);
        PyErr_Format(shd_interp_error(SHD_ERROR_CLOSED),
                     "%.200s is closed (it held %lld)",
                     Py_TYPE(handle)->tp_name, (long long)handle->value);
        return -1;
    }
    return 0;
}

int
shd_call_check_width(const shd_handle *handle, char code)
{
    int64_t value = handle->value;
    if (shd_code_size(code) == 8
        || (value <= UINT32_MAX && value >= INT32_MIN)) {
        return 0;
    }
    PyErr_Format(PyExc_OverflowError,
                 "%.200s holds %lld, which native code would cut to another "
                 "number",
                 Py_TYPE(handle)->tp_name, (long long)value);
    return -1;
}

/* Takes the references of a handle that must stay open during the call. */
static int
hold(shd_call *call, shd_work *work, PyObject *object, PyTypeObject *type)
{
    const shd_parameter *parameter = work->parameter;
    PyObject *field = work->field == NULL ? NULL : work->field->name;
    if (!PyObject_TypeCheck(object, type)) {
        char wanted[128];
        const char *name = strrchr(type->tp_name, '.');
        snprintf(wanted, sizeof(wanted), "a %s",
                 name == NULL ? type->tp_name : name + 1);
        PyObject *error = object == Py_None ? shd_interp_error(SHD_ERROR_NULL)
                                            : PyExc_TypeError;
        return refuse(error, call, parameter, field, wanted, object);
    }
    shd_handle *handle = (shd_handle *)object;
    if (!shd_has(handle, SHD_IS_CRITICAL)) {
        if (shd_life_add_ref(handle) < 0) {
            return -1;
        }
        work->counted = 1;
    }
    else if (shd_call_check_critical(handle) < 0) {
        return -1;
    }
    work->held = (shd_handle *)Py_NewRef(object);
    return shd_call_check_width(
        handle, work->field == NULL ? parameter->code : work->field->code);
}

int
shd_call_prepare(shd_work *work, PyTypeObject *type)
{
    uint32_t slot;
    shd_handle *handle = shd_handle_begin(type, -1, &slot);
    if (handle == NULL) {
        return -1;
    }
    work->slots[work->fresh_count] = slot;
    work->fresh[work->fresh_count++] = handle;
    return 0;
}

static int
by_reference_in(shd_call *call, shd_work *work, PyObject *argument)
{
    const shd_parameter *parameter = work->parameter;
    if (hold(call, work, argument, parameter->type) < 0) {
        return -1;
    }
    shd_code_store(parameter->code, work->cells, work->held->value);
    shd_registers_int(&call->registers, (int64_t)(intptr_t)work->cells);
    return 0;
}

static int
by_reference(shd_call *call, shd_work *work, PyObject *argument)
{
    const shd_parameter *parameter = work->parameter;
    if (!shd_cell_is_ref(argument)) {
        PyObject *error = argument == Py_None
                              ? shd_interp_error(SHD_ERROR_NULL)
                              : PyExc_TypeError;
        return refuse(error, call, parameter, NULL, "a Ref", argument);
    }
    work->object = Py_NewRef(argument);
    PyObject *value = ((shd_cell *)argument)->value;
    if (hold(call, work, value == NULL ? Py_None : value, parameter->type) < 0
        || shd_call_prepare(work, parameter->type) < 0) {
        return -1;
    }
    work->before = shd_code_narrow(parameter->code, work->held->value);
    shd_code_store(parameter->code, work->cells, work->before);
    shd_registers_int(&call->registers, (int64_t)(intptr_t)work->cells);
    return 0;
}

static int
by_out(shd_call *call, shd_work *work, PyObject *argument)
{
    const shd_parameter *parameter = work->parameter;
    int count = parameter->pass == SHD_PASS_HANDLE_PAIR ? 2 : 1;
    size_t size = shd_code_size(parameter->code);
    if (!shd_cell_is_out(argument)) {
        PyObject *error = argument == Py_None
                              ? shd_interp_error(SHD_ERROR_NULL)
                              : PyExc_TypeError;
        return refuse(error, call, parameter, NULL, "an Out", argument);
    }
    work->object = Py_NewRef(argument);
    if (count == 2 && (work->pair = PyTuple_New(2)) == NULL) {
        return -1;
    }
    for (int i = 0; i < count; i++) {
        if (shd_call_prepare(work, parameter->type) < 0) {
            return -1;
        }
        shd_code_store(parameter->code, (char *)work->cells + i * size,
                       work->fresh[i]->value);
    }
    work->before = shd_code_narrow(parameter->code, work->fresh[0]->value);
    shd_registers_int(&call->registers, (int64_t)(intptr_t)work->cells);
    return 0;
}

/* --- numbers and texts ------------------------------------------------------ */

static int
by_value(shd_call *call, const shd_parameter *parameter, PyObject *argument)
{
    int64_t bits;
    if (shd_code_from_python(parameter->code, argument, &bits) < 0) {
        return explain(call, parameter, NULL);
    }
    if (shd_code_is_float(parameter->code)) {
        double value;
        memcpy(&value, &bits, sizeof(value));
        shd_registers_double(&call->registers, value);
    }
    else {
        shd_registers_int(&call->registers, bits);
    }
    return 0;
}

static int
by_cell(shd_call *call, shd_work *work, PyObject *argument)
{
    const shd_parameter *parameter = work->parameter;
    int is_ref = parameter->pass == SHD_PASS_VALUE_REF;
    if (is_ref ? !shd_cell_is_ref(argument) : !shd_cell_is_out(argument)) {
        return refuse(PyExc_TypeError, call, parameter, NULL,
                      is_ref ? "a Ref" : "an Out", argument);
    }
    work->object = Py_NewRef(argument);
    PyObject *value = ((shd_cell *)argument)->value;
    int64_t bits = 0;
    if (is_ref
        && shd_code_from_python(parameter->code,
                                value == NULL ? Py_None : value, &bits)
               < 0) {
        return explain(call, parameter, NULL);
    }
    shd_code_store(parameter->code, work->cells, bits);
    shd_registers_int(&call->registers, (int64_t)(intptr_t)work->cells);
    return 0;
}

static int
by_text(shd_call *call, shd_work *work, PyObject *argument)
{
    const shd_parameter *parameter = work->parameter;
    if (parameter->pass == SHD_PASS_TEXT) {
        PyObject *encoded;
        if (!PyUnicode_Check(argument)) {
            return refuse(PyExc_TypeError, call, parameter, NULL, "a str",
                          argument);
        }
        if (!PyUnicode_FSConverter(argument, &encoded)) {
            return -1;
        }
        work->object = encoded;
    }
    else {
        if (!PyBytes_Check(argument)) {
            return refuse(PyExc_TypeError, call, parameter, NULL, "bytes",
                          argument);
        }
        work->object = Py_NewRef(argument);
    }
    shd_registers_int(&call->registers,
                      (int64_t)(intptr_t)PyBytes_AS_STRING(work->object));
    return 0;
}

/* `writable`, or a function object of ctypes, whose memory holds the address
   of the function. */
static int
by_buffer(shd_call *call, shd_work *work, PyObject *argument)
{
    const shd_parameter *parameter = work->parameter;
    int is_callback = parameter->pass == SHD_PASS_CALLBACK;
    if (is_callback && !PyObject_TypeCheck(argument, parameter->type)) {
        return refuse(PyExc_TypeError, call, parameter, NULL,
                      parameter->type->tp_name, argument);
    }
    work->object = Py_NewRef(argument);
    if (PyObject_GetBuffer(argument, &work->buffer, PyBUF_WRITABLE) < 0) {
        PyErr_Clear();
        return refuse(PyExc_TypeError, call, parameter, NULL,
                      "a writable buffer", argument);
    }
    work->has_buffer = 1;
    void *address = work->buffer.buf;
    if (is_callback) {
        memcpy(&address, work->buffer.buf, sizeof(address));
    }
    shd_registers_int(&call->registers, (int64_t)(intptr_t)address);
    return 0;
}

/* --- structures -------------------------------------------------------------- */

static int
fill_field(shd_call *call, shd_work *whole, const shd_field *field)
{
    const shd_parameter *parameter = whole->parameter;
    unsigned char *at = whole->image + field->offset;
    PyObject *value = PyObject_GetAttr(whole->object, field->name);
    if (value == NULL) {
        return -1;
    }
    int result;
    int64_t bits = 0;
    if (field->type != NULL) {
        shd_work *work = shd_call_work(call, parameter);
        work->field = field;
        work->image = at;
        result = hold(call, work, value, field->type);
        if (result == 0) {
            bits = work->before =
                shd_code_narrow(field->code, work->held->value);
        }
    }
    else {
        result = shd_code_from_python(field->code, value, &bits);
        if (result < 0) {
            explain(call, parameter, field->name);
        }
    }
    Py_DECREF(value);
    if (result == 0) {
        shd_code_store(field->code, at, bits);
    }
    return result;
}

static int
by_structure(shd_call *call, shd_work *work, PyObject *argument)
{
    const shd_parameter *parameter = work->parameter;
    if (!PyObject_TypeCheck(argument, parameter->type)) {
        return refuse(argument == Py_None ? shd_interp_error(SHD_ERROR_NULL)
                                          : PyExc_TypeError,
                      call, parameter, NULL, parameter->type->tp_name,
                      argument);
    }
    size_t size = shd_parameter_image(parameter);
    work->object = Py_NewRef(argument);
    work->image = call->images;
    call->images += size;
    memset(work->image, 0, size);
    for (Py_ssize_t i = 0; i < parameter->field_count; i++) {
        if (fill_field(call, work, &parameter->fields[i]) < 0) {
            return -1;
        }
    }
    if (parameter->pass == SHD_PASS_STRUCT) {
        shd_registers_struct(&call->registers, work->image, parameter->size,
                             parameter->floats);
        return 0;
    }
    memcpy(work->image + size / 2, work->image, size / 2);
    shd_registers_int(&call->registers, (int64_t)(intptr_t)work->image);
    return 0;
}

/* --- all of them -------------------------------------------------------------- */

int
shd_call_argument(shd_call *call, const shd_parameter *parameter,
                  PyObject *argument)
{
    if (argument == Py_None && parameter->optional) {
        shd_registers_int(&call->registers, 0);
        return 0;
    }
    if (parameter->pass == SHD_PASS_VALUE) {
        return by_value(call, parameter, argument);
    }
    shd_work *work = shd_call_work(call, parameter);
    switch (parameter->pass) {
    case SHD_PASS_HANDLE:
        if (hold(call, work, argument, parameter->type) < 0) {
            return -1;
        }
        /* Read after the reference was taken: a number read before could be
           somebody else's by now. */
        shd_registers_int(&call->registers, work->held->value);
        return 0;
    case SHD_PASS_HANDLE_IN:
        return by_reference_in(call, work, argument);
    case SHD_PASS_HANDLE_REF:
        return by_reference(call, work, argument);
    case SHD_PASS_HANDLE_OUT:
    case SHD_PASS_HANDLE_PAIR:
        return by_out(call, work, argument);
    case SHD_PASS_VALUE_REF:
    case SHD_PASS_VALUE_OUT:
        return by_cell(call, work, argument);
    case SHD_PASS_BYTES:
    case SHD_PASS_TEXT:
        return by_text(call, work, argument);
    case SHD_PASS_BUFFER:
    case SHD_PASS_CALLBACK:
        return by_buffer(call, work, argument);
    default:
        return by_structure(call, work, argument);
    }
}

/* --- afterwards ---------------------------------------------------------------- */

/* Adds the current exception, if any, to what went wrong so far. */
static void
collect(PyObject **problem)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (type == NULL) {
        return;
    }
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(value, traceback);
    }
    Py_DECREF(type);
    Py_XDECREF(traceback);
    if (*problem == NULL) {
        *problem = value;
        return;
    }
    PyException_SetContext(value, *problem); /* steals */
    *problem = value;
}

static void
undo(shd_work *work, PyObject **problem)
{
    for (int i = work->fresh_count - 1; i >= 0; i--) {
        shd_handle *unused = work->fresh[i];
        if (unused == NULL) {
            continue;
        }
        shd_table_give(work->slots[i]);
        if (shd_life_call_dispose(unused, 1) < 0) {
            collect(problem);
        }
        Py_DECREF(unused);
    }
    if (work->counted && shd_life_release(work->held) < 0) {
        collect(problem);
    }
    if (work->has_buffer) {
        PyBuffer_Release(&work->buffer);
    }
    Py_XDECREF(work->held);
    Py_XDECREF(work->object);
    Py_XDECREF(work->pair);
    Py_XDECREF(work->later);
}

PyObject *
shd_call_cleanup(shd_call *call)
{
    PyObject *problem = NULL;
    while (call->used) {
        undo(&call->works[--call->used], &problem);
    }
    if (shd_events_settle(0) < 0) {
        collect(&problem);
    }
    return problem;
}
