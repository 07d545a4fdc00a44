/* What all handle types share: their value and their methods. */
#include "events.h"
#include "recording/thread.h"

#include <limits.h>
#include <stddef.h>
#include <structmember.h>

/* --- conversions ------------------------------------------------------------ */

int
shd_value_converter(PyObject *number, void *value)
{
    PyObject *index = PyNumber_Index(number);
    if (index == NULL) {
        return 0;
    }
    int overflow;
    long long converted = PyLong_AsLongLongAndOverflow(index, &overflow);
    if (overflow > 0) {
        /* An address or a widened -1: the same 64 bits. */
        PyErr_Clear();
        converted = (long long)PyLong_AsUnsignedLongLong(index);
        overflow = PyErr_Occurred() != NULL;
    }
    Py_DECREF(index);
    if (overflow || (converted == -1 && PyErr_Occurred())) {
        PyErr_SetString(PyExc_OverflowError,
                        "a handle value must fit in 64 bits");
        return 0;
    }
    *(int64_t *)value = converted;
    return 1;
}

/* --- properties --------------------------------------------------------------- */

static PyObject *
get_handle(shd_handle *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(self->value);
}

/* Whether the value is one that somebody would have to release. */
static int
is_worth_owning(shd_handle *self, int64_t value)
{
    const shd_type_info *info = shd_type_info_of(Py_TYPE(self));
    if (info->rule != SHD_RULE_PYTHON) {
        int64_t old = self->value;
        self->value = value;
        int invalid = shd_life_is_invalid(self, info);
        self->value = old;
        return !invalid;
    }
    return !(value == 0 && shd_has(self, SHD_INVALID_0))
           && !(value == -1 && shd_has(self, SHD_INVALID_1));
}

static int
set_value(shd_handle *self, int64_t value)
{
    uint32_t state = atomic_load(&self->state);
    if (state == 0) {
        PyErr_Format(shd_interp_error(SHD_ERROR_STATE),
                     "%.200s is not initialised: call super().__init__() "
                     "first",
                     Py_TYPE(self)->tp_name);
        return -1;
    }
    int worthy = is_worth_owning(self, value);
    if (state & SHD_CLOSED) {
        if (worthy && shd_has(self, SHD_OWNS) && value != self->value
            && value != 0) {
            shd_events_emit(self, SHD_EVENT_SET_VALUE, 0, 0, 0, value,
                            "set after the handle was closed");
        }
        self->value = value;
        return shd_events_settle(0);
    }
    if (shd_has(self, SHD_VALUED)) {
        if (value == self->value) {
            return 0;
        }
        if (!shd_has(self, SHD_OWNS)) {
            shd_events_emit(self, SHD_EVENT_CLOSE, 0, SHD_ENDING_TRANSFERRED,
                            0, self->value, NULL);
        }
        else if (worthy) {
            shd_events_emit(self, SHD_EVENT_SET_VALUE, shd_refs(state),
                            SHD_ENDING_LOST, 0, self->value,
                            "overwritten by set_handle");
        }
        else {
            shd_events_emit(self, SHD_EVENT_CLOSE, 0, SHD_ENDING_TRANSFERRED,
                            0, self->value, NULL);
        }
        shd_life_forget(self);
    }
    self->value = value;
    if (!worthy) {
        return shd_events_settle(0);
    }
    if (shd_life_adopt(self, value, NULL) < 0) {
        return -1;
    }
    if (shd_events_settle(0) < 0) {
        shd_life_invalidate(self); /* not ours to close, then */
        return -1;
    }
    return 0;
}

static int
set_handle_property(shd_handle *self, PyObject *number,
                    void *Py_UNUSED(closure))
{
    int64_t value;
    if (number == NULL) {
        PyErr_SetString(PyExc_AttributeError, "handle cannot be deleted");
        return -1;
    }
    if (!shd_value_converter(number, &value)) {
        return -1;
    }
    return set_value(self, value);
}

int
shd_handle_init_value(shd_handle *handle, int64_t invalid, int64_t value,
                      int owns)
{
    if (shd_handle_init_once(handle, invalid, owns, 0) < 0) {
        return -1;
    }
    if (!is_worth_owning(handle, value)) {
        handle->value = value;
        return 0;
    }
    if (shd_life_adopt(handle, value, NULL) < 0) {
        return -1;
    }
    if (shd_events_settle(0) < 0) {
        shd_life_invalidate(handle); /* not ours to close, then */
        return -1;
    }
    return 0;
}

static PyObject *
get_is_closed(shd_handle *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(atomic_load(&self->state) & SHD_CLOSED);
}

static PyObject *
get_is_invalid(shd_handle *self, void *Py_UNUSED(closure))
{
    shd_type_info info = *shd_type_info_of(Py_TYPE(self));
    if (info.rule == SHD_RULE_PYTHON) {
        /* Reached from an override by super(): what the constructor said. */
        int invalid = (self->value == 0 && shd_has(self, SHD_INVALID_0))
                      || (self->value == -1 && shd_has(self, SHD_INVALID_1));
        return PyBool_FromLong(invalid);
    }
    return PyBool_FromLong(shd_life_is_invalid(self, &info));
}

static PyGetSetDef handle_getset[] = {
    {"handle", (getter)get_handle, (setter)set_handle_property,
     "The raw value; protected by convention.", NULL},
    {"is_closed", (getter)get_is_closed, NULL,
     "True once the handle is closed or invalidated.", NULL},
    {"is_invalid", (getter)get_is_invalid, NULL,
     "True when the value names no resource.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* --- methods of all handles ---------------------------------------------------- */

static PyObject *
set_handle(shd_handle *self, PyObject *number)
{
    int64_t value;
    if (!shd_value_converter(number, &value) || set_value(self, value) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
set_handle_as_invalid(shd_handle *self, PyObject *Py_UNUSED(ignored))
{
    return shd_events_conclude(shd_life_invalidate(self));
}

static PyObject *
release_handle(shd_handle *self, PyObject *Py_UNUSED(ignored))
{
    /* An override's super().release_handle() means the native release. */
    const shd_kind *kind = shd_type_native_kind(Py_TYPE(self));
    if (kind == NULL || kind->release == NULL) {
        PyErr_Format(PyExc_NotImplementedError,
                     "%.200s does not define release_handle()",
                     Py_TYPE(self)->tp_name);
        return NULL;
    }
    int error;
    int64_t value = self->value;
    void *extra = NULL;
    shd_thread *thread = shd_thread_get();
    if (thread != NULL && thread->releasing == self) {
        extra = thread->releasing_extra;
        thread->releasing_extra = NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    error = kind->release(value, extra);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(error == 0);
}

static PyObject *
dispose(shd_handle *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"disposing", NULL};
    int disposing = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|p:dispose", names,
                                     &disposing)) {
        return NULL;
    }
    int ending = !disposing                   ? shd_life_finalizer_ending(self)
                 : shd_has(self, SHD_EXITING) ? SHD_ENDING_EXITED
                                              : SHD_ENDING_CLOSED;
    return shd_events_conclude(
        shd_has(self, SHD_IS_CRITICAL)
            ? shd_life_close_critical(self, ending, !disposing)
            : shd_life_dispose(self, ending, !disposing));
}

static PyObject *
close_handle(shd_handle *self, PyObject *Py_UNUSED(ignored))
{
    return shd_events_conclude(shd_life_call_dispose(self, 1));
}

static PyObject *
finalize(shd_handle *self, PyObject *Py_UNUSED(ignored))
{
    return shd_events_conclude(shd_life_call_dispose(self, 0));
}

static PyObject *
enter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self);
}

static PyObject *
exit_block(shd_handle *self, PyObject *const *Py_UNUSED(args),
           Py_ssize_t Py_UNUSED(nargs))
{
    self->base.bits |= SHD_EXITING;
    int result = shd_life_call_dispose(self, 1);
    self->base.bits &= ~SHD_EXITING;
    return shd_events_conclude(result);
}

static PyObject *
provenance(shd_handle *self, PyObject *Py_UNUSED(ignored))
{
    shd_interp *state = shd_interp_get();
    if (state == NULL || state->provenance_reader == NULL) {
        PyErr_SetString(shd_interp_error(SHD_ERROR_NOT_SUPPORTED),
                        "no reader of recordings is loaded: import "
                        "safehandle_debug");
        return NULL;
    }
    return PyObject_CallFunction(state->provenance_reader, "OK", self,
                                 (unsigned long long)shd_serial(self));
}

static PyObject *
refuse_copy(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyErr_Format(PyExc_TypeError,
                 "cannot copy or pickle %.200s: a handle has one owner",
                 Py_TYPE(self)->tp_name);
    return NULL;
}

static PyObject *
represent(shd_handle *self)
{
    uint32_t state = atomic_load(&self->state);
    const char *word = state == 0             ? "not initialised"
                       : state & SHD_CLOSED   ? "closed"
                       : state & SHD_DISPOSED ? "close pending"
                                              : "open";
    return PyUnicode_FromFormat("<%s #%llu value=%lld %s refs=%u>",
                                Py_TYPE(self)->tp_name,
                                (unsigned long long)shd_serial(self),
                                (long long)self->value, word, shd_refs(state));
}

PyDoc_STRVAR(set_handle_doc,
"set_handle($self, value, /)\n--\n\n"
"Gives the handle a value to own. A live value in its place is lost, and\n"
"reported.");
PyDoc_STRVAR(set_handle_as_invalid_doc,
"set_handle_as_invalid($self, /)\n--\n\n"
"Closes the handle without releasing its resource.");
PyDoc_STRVAR(release_handle_doc,
"release_handle($self, /)\n--\n\n"
"Hook: gives the resource back. False, or an exception, is reported as\n"
"release-failed. Runs once or, for invalid and borrowed handles, never.");
PyDoc_STRVAR(dispose_doc,
"dispose($self, /, disposing=True)\n--\n\n"
"Drops the initial reference: closes now, or when the last reference goes.\n"
"Again is silent. The finalizer calls it with False.");
PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\nThe same as dispose().");
PyDoc_STRVAR(finalize_doc,
"finalize($self, /)\n--\n\n"
"The critical finalizer: dispose(False).");
PyDoc_STRVAR(provenance_doc,
"provenance($self, /)\n--\n\n"
"The handle's own History: who acquired it, every event since, with stacks\n"
"as far as the recording level keeps them.");

static PyMethodDef handle_methods[] = {
    {"set_handle", (PyCFunction)set_handle, METH_O, set_handle_doc},
    {"set_handle_as_invalid", (PyCFunction)set_handle_as_invalid, METH_NOARGS,
     set_handle_as_invalid_doc},
    {"release_handle", (PyCFunction)release_handle, METH_NOARGS,
     release_handle_doc},
    {"dispose", (PyCFunction)(void (*)(void))dispose,
     METH_VARARGS | METH_KEYWORDS, dispose_doc},
    {"close", (PyCFunction)close_handle, METH_NOARGS, close_doc},
    {"finalize", (PyCFunction)finalize, METH_NOARGS, finalize_doc},
    {"provenance", (PyCFunction)provenance, METH_NOARGS, provenance_doc},
    {"__enter__", enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))exit_block, METH_FASTCALL, NULL},
    {"__reduce_ex__", refuse_copy, METH_O, NULL},
    {"__reduce__", refuse_copy, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef handle_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(shd_handle, weaklist),
     READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot handle_slots[] = {
    {Py_tp_doc, (void *)"What SafeHandle and CriticalHandle have in common."},
    {Py_tp_new, shd_handle_new},
    {Py_tp_dealloc, shd_handle_dealloc},
    {Py_tp_finalize, shd_critical_finalize},
    {Py_tp_repr, represent},
    {Py_tp_methods, handle_methods},
    {Py_tp_getset, handle_getset},
    {Py_tp_members, handle_members},
    {0, NULL},
};

static PyType_Spec handle_spec = {
    .name = "safehandle_debug._native._Handle",
    .basicsize = sizeof(shd_handle),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = handle_slots,
};

PyTypeObject *
shd_type_make(PyObject *module, PyType_Spec *spec, PyTypeObject *base)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(
        module, spec, (PyObject *)base);
    if (type != NULL && PyModule_AddType(module, type) < 0) {
        Py_CLEAR(type);
    }
    return type;
}

int
shd_handle_add(PyObject *module, shd_interp *state)
{
    static const shd_native undecided = {&shd_kind_python, SHD_RULE_PYTHON};
    state->handle =
        shd_type_make(module, &handle_spec, state->critical_finalizer);
    return state->handle == NULL ? -1
                                 : shd_type_mark(state->handle, &undecided);
}
