/* NativeFunction: one native call from its arguments to its result.
 *
 * The order is the promise.  References first, one argument after the other;
 * then the object for the result; then the call, without the GIL; then every
 * handle that came back goes to the object that waits for it, which cannot
 * fail; then what can; and at last the references are dropped, all of them,
 * whatever went wrong before. */
#include "call.h"

#include "lifetime/events.h"

#include <errno.h>
#include <string.h>
#include <structmember.h>

#define FEW_WORKS 4
#define SMALL_IMAGES 128

/* errno of this thread's last native call. */
static _Thread_local int last_errno;

/* --- arguments by position and name -------------------------------------------- */

static int
wrong_count(const shd_function *self, Py_ssize_t given)
{
    Py_ssize_t optional = PyTuple_GET_SIZE(self->defaults);
    if (optional) {
        PyErr_Format(PyExc_TypeError,
                     "%U() takes %zd to %zd arguments, %zd given", self->name,
                     self->count - optional, self->count, given);
    }
    else {
        PyErr_Format(PyExc_TypeError, "%U() takes %zd arguments, %zd given",
                     self->name, self->count, given);
    }
    return -1;
}

static Py_ssize_t
find_parameter(const shd_function *self, PyObject *name)
{
    for (Py_ssize_t i = 0; i < self->count; i++) {
        PyObject *candidate = self->parameters[i].name;
        if (candidate == name || PyUnicode_Compare(candidate, name) == 0) {
            return i;
        }
    }
    PyErr_Format(PyExc_TypeError, "%U() has no parameter %R", self->name,
                 name);
    return -1;
}

static int
bind(const shd_function *self, PyObject *const *args, Py_ssize_t count,
     PyObject *names, PyObject **bound)
{
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    if (count + named > self->count) {
        return wrong_count(self, count + named);
    }
    for (Py_ssize_t i = 0; i < self->count; i++) {
        bound[i] = i < count ? args[i] : NULL;
    }
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        Py_ssize_t at = find_parameter(self, name);
        if (at < 0) {
            return -1;
        }
        if (bound[at] != NULL) {
            PyErr_Format(PyExc_TypeError, "%U() got %R twice", self->name,
                         name);
            return -1;
        }
        bound[at] = args[count + i];
    }
    Py_ssize_t first = self->count - PyTuple_GET_SIZE(self->defaults);
    for (Py_ssize_t i = 0; i < self->count; i++) {
        if (bound[i] != NULL) {
            continue;
        }
        if (i < first) {
            return wrong_count(self, count + named);
        }
        bound[i] = PyTuple_GET_ITEM(self->defaults, i - first);
    }
    return 0;
}

/* --- the call -------------------------------------------------------------------- */

/* What the native function returned, by its bits. */
static int64_t
enter(const shd_function *self, shd_call *call, int *error)
{
    int64_t bits;
    Py_BEGIN_ALLOW_THREADS
    errno = 0;
    if (self->result.pass == SHD_PASS_VALUE
        && shd_code_is_float(self->result.code)) {
        double value =
            shd_registers_call_double(&call->registers, self->address);
        memcpy(&bits, &value, sizeof(bits));
    }
    else {
        bits = shd_registers_call(&call->registers, self->address);
    }
    *error = errno;
    Py_END_ALLOW_THREADS
    return shd_code_narrow(self->result.code, bits);
}

/* Whether the result says that the call failed. */
static int
is_failure(const shd_function *self, int64_t bits)
{
    if (self->result.pass == SHD_PASS_BYTES || self->result.code == 'P') {
        return bits == 0;
    }
    return self->result.pass == SHD_PASS_VALUE
           && !shd_code_is_float(self->result.code) && bits == -1;
}

static PyObject *
make_result(const shd_function *self, int64_t bits)
{
    switch (self->result.pass) {
    case SHD_PASS_VALUE:
        return shd_code_to_python(self->result.code, bits);
    case SHD_PASS_BYTES:
        if (bits != 0) {
            return PyBytes_FromString((const char *)(intptr_t)bits);
        }
        break;
    default:
        break;
    }
    Py_RETURN_NONE;
}

/* Calls, captures, converts.  New reference, or NULL with an exception. */
static PyObject *
perform(const shd_function *self, shd_call *call, int *error)
{
    shd_work result = {0};
    int owning = self->result.pass == SHD_PASS_HANDLE;
    if (owning && shd_call_prepare(&result, self->result.type) < 0) {
        return NULL;
    }
    int64_t bits = enter(self, call, error);
    PyObject *object = (PyObject *)result.fresh[0];
    int failed =
        owning ? !shd_call_give(&result, 0, bits) : is_failure(self, bits);
    shd_call_capture(call);
    if (!owning) {
        object = make_result(self, bits);
    }
    if (object != NULL && shd_call_write_back(call) < 0) {
        Py_CLEAR(object);
    }
    if (object != NULL && failed && self->check) {
        Py_DECREF(object);
        errno = *error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return object;
}

/* Joins the outcome of a call with what went wrong when its references were
   dropped.  Steals both; neither is lost. */
static PyObject *
join(PyObject *object, PyObject *problem)
{
    if (problem == NULL) {
        return object;
    }
    if (object != NULL) {
        if (PyObject_SetAttrString(problem, "call_result", object) < 0) {
            PyErr_Clear();
        }
        Py_DECREF(object);
        PyErr_SetObject((PyObject *)Py_TYPE(problem), problem);
        Py_DECREF(problem);
        return NULL;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    PyObject *last = value, *next;
    while ((next = PyException_GetContext(last)) != NULL) {
        Py_DECREF(next);
        last = next;
    }
    if (last != problem) {
        PyException_SetContext(last, problem);
    }
    else {
        Py_DECREF(problem);
    }
    PyErr_Restore(type, value, traceback);
    return NULL;
}

static PyObject *
call_with(const shd_function *self, PyObject *const *values, shd_call *call)
{
    PyObject *object = NULL;
    int error = last_errno;
    Py_ssize_t done = 0;
    while (done < self->count
           && shd_call_argument(call, &self->parameters[done], values[done])
                  == 0) {
        done++;
    }
    if (done == self->count) {
        object = perform(self, call, &error);
    }
    PyObject *type = NULL, *value = NULL, *traceback = NULL;
    if (object == NULL) {
        PyErr_Fetch(&type, &value, &traceback);
    }
    PyObject *problem = shd_call_cleanup(call);
    last_errno = error; /* of this call, not of a hook's calls */
    if (object == NULL) {
        PyErr_Restore(type, value, traceback);
    }
    return join(object, problem);
}

static PyObject *
function_vectorcall(PyObject *object, PyObject *const *args, size_t nargsf,
                    PyObject *names)
{
    const shd_function *self = (shd_function *)object;
    Py_ssize_t count = PyVectorcall_NARGS(nargsf);
    PyObject *bound[SHD_CALL_WORDS];
    PyObject *const *values = args;
    if (names != NULL || count != self->count) {
        if (bind(self, args, count, names, bound) < 0) {
            return NULL;
        }
        values = bound;
    }
    shd_work few[FEW_WORKS];
    _Alignas(16) unsigned char small[SMALL_IMAGES];
    shd_call call = {.function = self, .works = few, .images = small};
    shd_registers_clear(&call.registers);
    if (self->work_count <= FEW_WORKS && self->image_size <= SMALL_IMAGES) {
        return call_with(self, values, &call);
    }
    unsigned char *room = PyMem_Malloc(
        (size_t)self->work_count * sizeof(shd_work) + self->image_size + 16);
    if (room == NULL) {
        return PyErr_NoMemory();
    }
    call.images = (unsigned char *)(((uintptr_t)room + 15) & ~(uintptr_t)15);
    call.works = (shd_work *)(call.images + self->image_size);
    PyObject *result = call_with(self, values, &call);
    PyMem_Free(room);
    return result;
}

/* --- the type --------------------------------------------------------------------- */

static int
function_traverse(shd_function *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->dict);
    Py_VISIT(self->defaults);
    for (Py_ssize_t i = 0; self->parameters != NULL && i < self->count; i++) {
        int result = shd_parameter_visit(&self->parameters[i], visit, arg);
        if (result) {
            return result;
        }
    }
    return shd_parameter_visit(&self->result, visit, arg);
}

static int
function_clear(shd_function *self)
{
    /* The signature stays: somebody may be inside the call. */
    Py_CLEAR(self->dict);
    return 0;
}

static void
function_dealloc(shd_function *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    for (Py_ssize_t i = 0; self->parameters != NULL && i < self->count; i++) {
        shd_parameter_clear(&self->parameters[i]);
    }
    PyMem_Free(self->parameters);
    shd_parameter_clear(&self->result);
    Py_CLEAR(self->dict);
    Py_CLEAR(self->name);
    Py_CLEAR(self->defaults);
    type->tp_free(self);
    Py_DECREF(type);
}

static int
fill(shd_function *self, PyObject *parameters, PyObject *result)
{
    Py_ssize_t count = PyTuple_GET_SIZE(parameters);
    self->parameters =
        PyMem_Calloc((size_t)count + 1, sizeof(*self->parameters));
    if (self->parameters == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->count = count;
    size_t words = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        shd_parameter *parameter = &self->parameters[i];
        if (shd_parameter_fill(parameter, PyTuple_GET_ITEM(parameters, i))
            < 0) {
            return -1;
        }
        words +=
            parameter->pass == SHD_PASS_STRUCT ? (parameter->size + 7) / 8 : 1;
        self->work_count += shd_parameter_works(parameter);
        self->image_size += shd_parameter_image(parameter);
    }
    if (words > SHD_CALL_WORDS) {
        PyErr_Format(PyExc_ValueError,
                     "%U() has more than %d words of arguments", self->name,
                     SHD_CALL_WORDS);
        return -1;
    }
    return shd_parameter_fill(&self->result, result);
}

static PyObject *
function_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name",     "address", "parameters", "result",
                            "defaults", "check",   NULL};
    PyObject *name, *parameters, *result, *defaults, *number;
    int check = 0;
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "UO!O!O!O!p:NativeFunction", names, &name,
            &PyLong_Type, &number, &PyTuple_Type, &parameters, &PyTuple_Type,
            &result, &PyTuple_Type, &defaults, &check)) {
        return NULL;
    }
    void *address = PyLong_AsVoidPtr(number);
    if (address == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "the address is NULL");
        }
        return NULL;
    }
    if (!shd_call_possible) {
        PyErr_SetString(shd_interp_error(SHD_ERROR_NOT_SUPPORTED),
                        "native calls are made on Linux, on x86-64 and "
                        "AArch64, only; use handles in ctypes' argtypes");
        return NULL;
    }
    if (PyTuple_GET_SIZE(defaults) > PyTuple_GET_SIZE(parameters)) {
        PyErr_SetString(PyExc_ValueError, "more defaults than parameters");
        return NULL;
    }
    shd_function *self = (shd_function *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->vectorcall = function_vectorcall;
    self->address = address;
    self->check = check;
    self->name = Py_NewRef(name);
    self->defaults = Py_NewRef(defaults);
    if (fill(self, parameters, result) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static PyObject *
function_repr(shd_function *self)
{
    return PyUnicode_FromFormat("<native function %U at %p>", self->name,
                                self->address);
}

static PyObject *
get_address(shd_function *self, void *Py_UNUSED(closure))
{
    return PyLong_FromVoidPtr(self->address);
}

static PyGetSetDef function_getset[] = {
    {"address", (getter)get_address, NULL, "Where the native code is.", NULL},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef function_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(shd_function, vectorcall),
     READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(shd_function, dict), READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef function_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(
    function_doc,
    "NativeFunction(name, address, parameters, result, defaults, "
    "check)\n--\n\n"
    "A native function that holds the handles it is given while it runs, and\n"
    "owns those that it returns. Made by safehandle_debug.marshal.");

static PyType_Slot function_slots[] = {
    {Py_tp_doc, (void *)function_doc},
    {Py_tp_new, function_new},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_repr, function_repr},
    {Py_tp_traverse, function_traverse},
    {Py_tp_clear, function_clear},
    {Py_tp_dealloc, function_dealloc},
    {Py_tp_members, function_members},
    {Py_tp_methods, function_methods},
    {Py_tp_getset, function_getset},
    {0, NULL},
};

static PyType_Spec function_spec = {
    .name = "safehandle_debug.marshal.NativeFunction",
    .basicsize = sizeof(shd_function),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = function_slots,
};

int
shd_call_last_errno(void)
{
    return last_errno;
}

int
shd_call_function_add(PyObject *module)
{
    PyTypeObject *type = shd_type_make(module, &function_spec, NULL);
    Py_XDECREF(type);
    return type == NULL ? -1 : 0;
}
