/* The Python type Index: all that is kept of a recording's events. */
#include "index.h"

typedef struct {
    PyObject_HEAD
    idx_state state;
    uint64_t first_start; /* of the buckets of births, before any event */
    uint64_t first_width;
    bool busy; /* inside take() */
} Index;

static bool
enter(Index *self)
{
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "the index is taking events");
        return false;
    }
    self->busy = true;
    return true;
}

PyDoc_STRVAR(take_doc,
             "take($self, chunks, notable, /)\n--\n\n"
             "Takes in (lower bound of the seqs, packed events by seq), and\n"
             "calls notable(row, acquired) for the few that matter.  Returns\n"
             "the number of events.");

static PyObject *
index_take(Index *self, PyObject *args)
{
    PyObject *chunks, *notable;
    if (!PyArg_ParseTuple(args, "OO:take", &chunks, &notable)
        || !enter(self)) {
        return NULL;
    }
    Py_ssize_t taken = idx_state_take(&self->state, chunks,
                                      notable == Py_None ? NULL : notable);
    self->busy = false;
    return taken < 0 ? NULL : PyLong_FromSsize_t(taken);
}

PyDoc_STRVAR(settle_doc,
             "settle($self, notable, /)\n--\n\n"
             "No acquire will come any more: tells of closes without one.");

static PyObject *
index_settle(Index *self, PyObject *notable)
{
    if (!enter(self)) {
        return NULL;
    }
    int failed = idx_state_settle(&self->state, notable);
    self->busy = false;
    if (failed) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(prune_doc,
             "prune($self, live, /)\n--\n\n"
             "Forgets the handles that are not in the set of serials.");

static PyObject *
index_prune(Index *self, PyObject *live)
{
    if (!PyAnySet_Check(live)) {
        PyErr_SetString(PyExc_TypeError, "prune() takes a set of serials");
        return NULL;
    }
    if (!enter(self)) {
        return NULL;
    }
    int failed = idx_state_prune(&self->state, live);
    self->busy = false;
    if (failed) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
place_tuple(const idx_place *place)
{
    return Py_BuildValue(
        "(IIKKKKKKKIy#y#y#)", place->stack, place->type,
        (unsigned long long)place->opened, (unsigned long long)place->closed,
        (unsigned long long)place->finalized,
        (unsigned long long)place->importing,
        (unsigned long long)place->first_ticks,
        (unsigned long long)place->last_ticks,
        (unsigned long long)place->last_close_ticks, place->last_close_stack,
        (const char *)place->births, (Py_ssize_t)sizeof(place->births),
        (const char *)place->survivors, (Py_ssize_t)sizeof(place->survivors),
        (const char *)place->lifetimes, (Py_ssize_t)sizeof(place->lifetimes));
}

PyDoc_STRVAR(places_doc,
             "places($self, /)\n--\n\n"
             "What each stack and type opened, closed and still holds.");

static PyObject *
index_places(Index *self, PyObject *Py_UNUSED(ignored))
{
    const idx_places *places = &self->state.places;
    PyObject *found = PyList_New(0);
    for (uint32_t at = 0; found != NULL && at < places->count; at++) {
        if (places->places[at]->opened == 0) {
            continue; /* all of them count elsewhere now */
        }
        PyObject *place = place_tuple(places->places[at]);
        if (place == NULL || PyList_Append(found, place) < 0) {
            Py_CLEAR(found);
        }
        Py_XDECREF(place);
    }
    return found;
}

PyDoc_STRVAR(span_doc,
             "span($self, /)\n--\n\n"
             "The buckets of births: ticks at which the first begins, ticks\n"
             "of each, and how many handles were closed in each.");

static PyObject *
index_span(Index *self, PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("(KKy#)",
                         (unsigned long long)self->state.places.start,
                         (unsigned long long)self->state.places.width,
                         (const char *)self->state.places.ends,
                         (Py_ssize_t)sizeof(self->state.places.ends));
}

PyDoc_STRVAR(open_doc, "open($self, /)\n--\n\n"
                       "The handles that are open.");

static PyObject *
index_open(Index *self, PyObject *Py_UNUSED(ignored))
{
    idx_types *types = idx_types_of(Py_TYPE(self));
    return types == NULL ? NULL
                         : idx_slots_new(types->slots, self->state.open.packs,
                                         self->state.open.count);
}

PyDoc_STRVAR(before_doc,
             "before($self, seq, /)\n--\n\n"
             "The seq of the latest moment kept at or before an event, 0 for\n"
             "the beginning.");

static PyObject *
index_before(Index *self, PyObject *arg)
{
    uint64_t seq = PyLong_AsUnsignedLongLong(arg);
    if (seq == (uint64_t)-1 && PyErr_Occurred()) {
        return NULL;
    }
    const idx_moment *moment = idx_moments_before(&self->state.moments, seq);
    return PyLong_FromUnsignedLongLong(moment != NULL ? moment->seq : 0);
}

PyDoc_STRVAR(ended_doc,
             "ended($self, left=False, /)\n--\n\n"
             "The handles that ended last, the oldest first: packed slots, and\n"
             "packed u64 of the ticks of each close; with `left` those alone\n"
             "that only the end of the interpreter closed.");

static PyObject *
index_ended(Index *self, PyObject *args)
{
    int left = 0;
    if (!PyArg_ParseTuple(args, "|p:ended", &left)) {
        return NULL;
    }
    return idx_ended_packed(&self->state.ended, left);
}

PyDoc_STRVAR(restored_doc,
             "restored($self, seq, most_ended=0, /)\n--\n\n"
             "Another index as this one stood at before(seq): once it has\n"
             "taken in the events from there to seq, it tells of that moment.");

static PyObject *
index_restored(Index *self, PyObject *args)
{
    unsigned long long seq;
    Py_ssize_t most_ended = 0;
    if (!PyArg_ParseTuple(args, "K|n:restored", &seq, &most_ended)) {
        return NULL;
    }
    PyTypeObject *type = Py_TYPE(self);
    Index *then = (Index *)type->tp_alloc(type, 0);
    if (then == NULL) {
        return NULL;
    }
    then->state.inherited = self->state.inherited;
    then->state.is_past = true;
    then->state.ended.most = most_ended > 0 ? (size_t)most_ended : 0;
    const idx_moment *moment = idx_moments_before(&self->state.moments, seq);
    if (moment == NULL) {
        idx_places_init(&then->state.places, self->first_start,
                        self->first_width);
    }
    else if (!idx_moment_restore(moment, &then->state.open,
                                 &then->state.places)) {
        Py_DECREF(then);
        return PyErr_NoMemory();
    }
    else {
        then->state.newest_seq = moment->seq;
    }
    return (PyObject *)then;
}

PyDoc_STRVAR(stretches_doc,
             "stretches($self, serial, until, /)\n--\n\n"
             "Where the events of a handle may be, up to an event: (after,\n"
             "up to) pairs of seqs.");

static PyObject *
index_stretches(Index *self, PyObject *args)
{
    unsigned long long serial, until;
    if (!PyArg_ParseTuple(args, "KK:stretches", &serial, &until)) {
        return NULL;
    }
    return idx_stretches_of(&self->state.stretches, serial, until);
}

PyDoc_STRVAR(alarms_doc,
             "alarms($self, /)\n--\n\n"
             "The seqs of the first events that are findings by themselves,\n"
             "as packed u64 in the order in which they were taken in.");

static PyObject *
index_alarms(Index *self, PyObject *Py_UNUSED(ignored))
{
    return PyBytes_FromStringAndSize(
        (const char *)self->state.alarms,
        (Py_ssize_t)(self->state.alarm_count * sizeof(uint64_t)));
}

static PyObject *
index_events(Index *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(self->state.events);
}

static PyObject *
index_open_count(Index *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(self->state.open.used);
}

static PyObject *
index_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"inherited_serials", "start_ticks", "bucket_ticks",
                            "question",          "most_ended",  NULL};
    unsigned long long inherited = 0, start = 0, width = 1;
    PyObject *question = Py_None;
    Py_ssize_t most_ended = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|KKKOn:Index", names,
                                     &inherited, &start, &width, &question,
                                     &most_ended)) {
        return NULL;
    }
    Index *self = (Index *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->state.inherited = inherited;
        self->state.question =
            question == Py_None ? NULL : Py_NewRef(question);
        self->state.ended.most = most_ended > 0 ? (size_t)most_ended : 0;
        self->first_start = start;
        self->first_width = width;
        idx_places_init(&self->state.places, start, width);
    }
    return (PyObject *)self;
}

static void
index_dealloc(Index *self)
{
    PyTypeObject *type = Py_TYPE(self);
    idx_state_clear(&self->state);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef index_methods[] = {
    {"take", (PyCFunction)index_take, METH_VARARGS, take_doc},
    {"settle", (PyCFunction)index_settle, METH_O, settle_doc},
    {"prune", (PyCFunction)index_prune, METH_O, prune_doc},
    {"places", (PyCFunction)index_places, METH_NOARGS, places_doc},
    {"span", (PyCFunction)index_span, METH_NOARGS, span_doc},
    {"open", (PyCFunction)index_open, METH_NOARGS, open_doc},
    {"before", (PyCFunction)index_before, METH_O, before_doc},
    {"restored", (PyCFunction)index_restored, METH_VARARGS, restored_doc},
    {"ended", (PyCFunction)index_ended, METH_VARARGS, ended_doc},
    {"stretches", (PyCFunction)index_stretches, METH_VARARGS, stretches_doc},
    {"alarms", (PyCFunction)index_alarms, METH_NOARGS, alarms_doc},
    {NULL},
};

static PyGetSetDef index_properties[] = {
    {"events", (getter)index_events, NULL,
     "The number of events that were taken in.", NULL},
    {"open_count", (getter)index_open_count, NULL,
     "The number of handles that are open.", NULL},
    {NULL},
};

static PyType_Slot index_slots[] = {
    {Py_tp_doc,
     "Index(inherited_serials=0, start_ticks=0, bucket_ticks=1, "
     "question=None, most_ended=0)\n--\n\nWhat is kept of a recording's events."},
    {Py_tp_new, index_new},
    {Py_tp_dealloc, index_dealloc},
    {Py_tp_methods, index_methods},
    {Py_tp_getset, index_properties},
    {0, NULL},
};

PyType_Spec idx_index_spec = {
    .name = "safehandle_debug.ledger._index.Index",
    .basicsize = sizeof(Index),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = index_slots,
};
