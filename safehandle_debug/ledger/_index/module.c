/* The Python type Index: the table, the places and the moments together. */
#include "index.h"

#include <string.h>

#define MOST_ORPHANS 4096 /* closes whose acquire has not been seen yet */
#define MOST_ALARMS (1u << 20)

/* Kinds of events that are findings by themselves. */
#define ALARMS                                                                \
    (1u << SHD_EVENT_SET_VALUE | 1u << SHD_EVENT_DOUBLE_RELEASE               \
     | 1u << SHD_EVENT_RELEASE_FAILED | 1u << SHD_EVENT_DOUBLE_OWNER          \
     | 1u << SHD_EVENT_OVERFLOW | 1u << SHD_EVENT_CLOSED_BEHIND               \
     | 1u << SHD_EVENT_RECYCLED | 1u << SHD_EVENT_EXHAUSTED)

typedef struct {
    PyObject_HEAD
    uint64_t inherited;
    uint64_t newest_seq;
    idx_table open;
    idx_places places;
    idx_moments moments;
    idx_ended ended;
    idx_stretches stretches;
    idx_asked asked;
    PyObject *question; /* NULL, or which closes are told beside */
    uint64_t events;
    /* Closes without acquire in the same shape, oldest first in the ring:
     * `value` is the seq, `refs` kind and ending, `last_stack` the stack. */
    idx_table orphans;
    uint64_t ring[MOST_ORPHANS];
    size_t ring_first;
    size_t ring_count;
    uint64_t first_start; /* of the buckets of births, before any event */
    uint64_t first_width;
    uint64_t *alarms;
    size_t alarm_count;
    size_t alarm_room;
    bool is_past; /* of some moment: it keeps none itself */
    bool busy;    /* inside take() */
} Index;

typedef struct {
    Index *index;
    PyObject *notable; /* NULL: nobody wants to know */
} taking;

static int
no_memory(void)
{
    PyErr_NoMemory();
    return -1;
}

/* --- telling Python of the few events that matter --- */

static int
tell(PyObject *notable, const shd_event *event, const shd_live *acquired)
{
    PyObject *row =
        Py_BuildValue("(KKIIIII)", (unsigned long long)event->seq,
                      (unsigned long long)event->serial, event->stack,
                      event->type, (unsigned)event->kind,
                      (unsigned)event->ending, (unsigned)event->flags);
    if (row == NULL) {
        return -1;
    }
    PyObject *before = Py_NewRef(Py_None);
    if (acquired != NULL) {
        Py_SETREF(before,
                  Py_BuildValue("(III)", acquired->type, acquired->stack,
                                acquired->flags & ~IDX_DISPOSED));
    }
    PyObject *answer = NULL;
    if (before != NULL) {
        PyObject *arguments[] = {row, before};
        answer = PyObject_Vectorcall(notable, arguments, 2, NULL);
    }
    Py_DECREF(row);
    Py_XDECREF(before);
    Py_XDECREF(answer);
    return answer == NULL ? -1 : 0;
}

static shd_event
orphaned(const shd_live *orphan)
{
    return (shd_event){.seq = (uint64_t)orphan->value,
                       .ticks = orphan->ticks,
                       .serial = orphan->serial,
                       .stack = orphan->last_stack,
                       .type = orphan->type,
                       .kind = (uint8_t)orphan->refs,
                       .ending = (uint8_t)(orphan->refs >> 8),
                       .flags = (uint16_t)orphan->flags};
}

/* Forgets the oldest orphan, and tells of it unless its acquire came. */
static int
forget_oldest(Index *self, PyObject *notable)
{
    uint64_t serial = self->ring[self->ring_first];
    self->ring_first = (self->ring_first + 1) % MOST_ORPHANS;
    self->ring_count--;
    shd_live *orphan = idx_table_find(&self->orphans, serial);
    if (orphan == NULL) {
        return 0;
    }
    shd_event event = orphaned(orphan);
    idx_table_remove(&self->orphans, orphan);
    return notable != NULL ? tell(notable, &event, NULL) : 0;
}

static int
add_orphan(Index *self, const shd_event *event, PyObject *notable)
{
    if (idx_table_find(&self->orphans, event->serial) != NULL) {
        return 0;
    }
    if (self->ring_count == MOST_ORPHANS && forget_oldest(self, notable) < 0) {
        return -1;
    }
    shd_live *orphan = idx_table_add(&self->orphans, event->serial);
    if (orphan == NULL) {
        return no_memory();
    }
    orphan->ticks = event->ticks;
    orphan->value = (int64_t)event->seq;
    orphan->last_stack = event->stack;
    orphan->type = event->type;
    orphan->refs = event->kind | (uint32_t)event->ending << 8;
    orphan->flags = event->flags;
    self->ring[(self->ring_first + self->ring_count++) % MOST_ORPHANS] =
        event->serial;
    return 0;
}

/* --- one event --- */

static int
is_suspicious(Index *self, const shd_event *event, const shd_live *acquired)
{
    if (event->ending == SHD_ENDING_DROPPED
        || event->ending == SHD_ENDING_COLLECTED
        || event->ending == SHD_ENDING_SWEPT
        || event->flags & (SHD_FLAG_STALE | SHD_FLAG_IN_USE)
        || acquired->flags & IDX_DISPOSED) {
        return 1;
    }
    if (event->ending != SHD_ENDING_CLOSED || self->question == NULL) {
        return 0;
    }
    if (event->flags & SHD_FLAG_FINALIZING) {
        return 1;
    }
    return (int)idx_asked_answer(&self->asked, self->question, event->stack,
                                 acquired->type);
}

static int
closed(Index *self, const shd_event *event, shd_live *slot, PyObject *notable)
{
    shd_live acquired = *slot;
    if (!idx_ended_note(&self->ended, &acquired, event)) {
        return no_memory();
    }
    idx_place_closed(&self->places, acquired.version, &acquired, event);
    idx_table_remove(&self->open, slot);
    if (notable == NULL) {
        return 0;
    }
    int told = is_suspicious(self, event, &acquired);
    return told > 0 ? tell(notable, event, &acquired) : told;
}

static int
acquired(Index *self, const shd_event *event, PyObject *notable)
{
    if (event->serial <= self->inherited
        || idx_table_find(&self->open, event->serial) != NULL) {
        return 0;
    }
    uint32_t place = idx_place_of(&self->places, event->stack, event->type);
    shd_live *slot =
        place == UINT32_MAX ? NULL : idx_table_add(&self->open, event->serial);
    if (slot == NULL) {
        return no_memory();
    }
    slot->ticks = event->ticks;
    slot->value = event->value;
    slot->stack = event->stack;
    slot->thread = event->thread;
    slot->task = event->task;
    slot->test = event->test;
    slot->detail = event->detail;
    slot->type = event->type;
    slot->refs = event->refs;
    slot->flags = event->flags;
    slot->version = place;
    slot->last_stack = event->stack;
    idx_place_opened(&self->places, place, event->ticks,
                     event->flags & SHD_FLAG_IMPORTING);
    shd_live *orphan = idx_table_find(&self->orphans, event->serial);
    if (orphan != NULL) {
        shd_event close = orphaned(orphan);
        idx_table_remove(&self->orphans, orphan);
        return closed(self, &close, slot, notable);
    }
    return 0;
}

static int
take_event(void *context, const shd_event *event)
{
    taking *take = context;
    Index *self = take->index;
    if (event->seq > self->newest_seq) {
        self->newest_seq = event->seq;
    }
    if (event->kind == SHD_EVENT_ACQUIRE) {
        return acquired(self, event, take->notable);
    }
    shd_live *slot = idx_table_find(&self->open, event->serial);
    bool is_end =
        event->kind == SHD_EVENT_CLOSE || event->kind == SHD_EVENT_INVALIDATE;
    if (is_end) {
        if (slot != NULL) {
            return closed(self, event, slot, take->notable);
        }
        return event->serial > self->inherited
                   ? add_orphan(self, event, take->notable)
                   : 0;
    }
    bool is_owner =
        event->kind == SHD_EVENT_OWNED || event->kind == SHD_EVENT_DISOWNED;
    if (slot != NULL) {
        slot->refs = event->refs;
        slot->last_stack = event->stack;
        if (event->kind == SHD_EVENT_DISPOSE) {
            slot->flags |= IDX_DISPOSED;
        }
        if (is_owner && !(event->flags & SHD_FLAG_INHERITED)) {
            slot->type = event->type;
        }
    }
    bool is_use = event->kind == SHD_EVENT_USE_CLOSED
                  && !(event->flags & (SHD_FLAG_STALE | SHD_FLAG_IN_USE));
    if (event->kind == SHD_EVENT_ADD_REF || event->kind == SHD_EVENT_RELEASE
        || is_owner || is_use || take->notable == NULL) {
        return 0;
    }
    return tell(take->notable, event, NULL);
}

static bool
note_alarm(Index *self, uint64_t seq)
{
    if (self->alarm_count == self->alarm_room) {
        size_t room = self->alarm_room ? self->alarm_room * 2 : 64;
        uint64_t *grown = realloc(self->alarms, room * sizeof(uint64_t));
        if (grown == NULL) {
            return false;
        }
        self->alarms = grown;
        self->alarm_room = room;
    }
    self->alarms[self->alarm_count++] = seq;
    return true;
}

static int
take_and_note(void *context, const shd_event *event)
{
    taking *take = context;
    Index *self = take->index;
    if (event->seq < self->newest_seq) {
        idx_moments_cut(&self->moments, event->seq);
    }
    if (take_event(context, event) < 0) {
        return -1;
    }
    self->events++;
    if (self->is_past) {
        return 0;
    }
    if (event->kind < 32 && ALARMS >> event->kind & 1
        && self->alarm_count < MOST_ALARMS && !note_alarm(self, event->seq)) {
        return no_memory();
    }
    if (!idx_stretches_note(&self->stretches, event)) {
        return no_memory();
    }
    return idx_moments_note(&self->moments, &self->open, &self->places,
                            self->newest_seq)
               ? 0
               : no_memory();
}

/* --- methods --- */

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
    taking take = {self, notable == Py_None ? NULL : notable};
    Py_ssize_t taken = idx_merge(chunks, take_and_note, &take);
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
    int failed = 0;
    while (!failed && self->ring_count > 0) {
        failed = forget_oldest(self, notable) < 0;
    }
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
    int known = 0;
    idx_table kept = {0};
    for (size_t at = 0; at < self->open.room && known >= 0; at++) {
        const shd_live *slot = &self->open.slots[at];
        PyObject *serial =
            slot->serial ? PyLong_FromUnsignedLongLong(slot->serial) : NULL;
        if (serial == NULL) {
            known = slot->serial ? -1 : 0;
            continue;
        }
        known = PySet_Contains(live, serial);
        Py_DECREF(serial);
        if (known > 0) {
            shd_live *copy = idx_table_add(&kept, slot->serial);
            if (copy == NULL) {
                known = no_memory();
                break;
            }
            *copy = *slot;
        }
    }
    idx_table *dropped = known < 0 ? &kept : &self->open;
    idx_table_clear(dropped);
    if (known >= 0) {
        self->open = kept;
    }
    self->busy = false;
    if (known < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

typedef struct {
    uint32_t births[IDX_BUCKETS];
    uint64_t live;
    uint64_t oldest;
} survivors;

static PyObject *
place_tuple(const idx_place *place, const survivors *alive)
{
    return Py_BuildValue(
        "(IIKKKKKKKIy#y#y#KK)", place->stack, place->type,
        (unsigned long long)place->opened, (unsigned long long)place->closed,
        (unsigned long long)place->finalized,
        (unsigned long long)place->importing,
        (unsigned long long)place->first_ticks,
        (unsigned long long)place->last_ticks,
        (unsigned long long)place->last_close_ticks, place->last_close_stack,
        (const char *)place->births, (Py_ssize_t)sizeof(place->births),
        (const char *)alive->births, (Py_ssize_t)sizeof(alive->births),
        (const char *)place->lifetimes, (Py_ssize_t)sizeof(place->lifetimes),
        (unsigned long long)alive->live, (unsigned long long)alive->oldest);
}

PyDoc_STRVAR(places_doc,
             "places($self, /)\n--\n\n"
             "What each stack and type opened, closed and still holds.");

static PyObject *
index_places(Index *self, PyObject *Py_UNUSED(ignored))
{
    uint32_t count = self->places.count;
    survivors *alive = PyMem_Calloc(count + 1, sizeof(survivors));
    if (alive == NULL) {
        return PyErr_NoMemory();
    }
    for (size_t at = 0; at < self->open.room; at++) {
        const shd_live *slot = &self->open.slots[at];
        if (slot->serial != 0) {
            survivors *place = &alive[slot->version];
            place->births[idx_bucket(&self->places, slot->ticks)]++;
            if (place->live++ == 0 || slot->ticks < place->oldest) {
                place->oldest = slot->ticks;
            }
        }
    }
    PyObject *found = PyList_New(count);
    for (uint32_t at = 0; found != NULL && at < count; at++) {
        PyObject *place = place_tuple(&self->places.places[at], &alive[at]);
        if (place == NULL) {
            Py_CLEAR(found);
        }
        else {
            PyList_SET_ITEM(found, at, place);
        }
    }
    PyMem_Free(alive);
    return found;
}

PyDoc_STRVAR(span_doc,
             "span($self, /)\n--\n\n"
             "The buckets of births: ticks at which the first begins, ticks\n"
             "of each, and how many handles were closed in each.");

static PyObject *
index_span(Index *self, PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("(KKy#)", (unsigned long long)self->places.start,
                         (unsigned long long)self->places.width,
                         (const char *)self->places.ends,
                         (Py_ssize_t)sizeof(self->places.ends));
}

static PyObject *
packed(const shd_live *slots, size_t room, size_t used)
{
    PyObject *result =
        PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(used * sizeof(*slots)));
    if (result == NULL) {
        return NULL;
    }
    shd_live *to = (shd_live *)PyBytes_AS_STRING(result);
    for (size_t at = 0; at < room; at++) {
        if (slots[at].serial != 0) {
            *to = slots[at];
            to->version = 0;
            to->flags &= ~IDX_DISPOSED;
            to++;
        }
    }
    return result;
}

PyDoc_STRVAR(open_doc, "open($self, /)\n--\n\n"
                       "The handles that are open, as packed live slots.");

static PyObject *
index_open(Index *self, PyObject *Py_UNUSED(ignored))
{
    return packed(self->open.slots, self->open.room, self->open.used);
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
    const idx_moment *moment = idx_moments_before(&self->moments, seq);
    return PyLong_FromUnsignedLongLong(moment != NULL ? moment->seq : 0);
}

static void
index_free(Index *self)
{
    idx_table_clear(&self->open);
    idx_table_clear(&self->orphans);
    idx_places_clear(&self->places);
    idx_moments_clear(&self->moments);
    idx_asked_clear(&self->asked);
    free(self->alarms);
    idx_ended_clear(&self->ended);
    idx_stretches_clear(&self->stretches);
    Py_CLEAR(self->question);
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
    return idx_ended_packed(&self->ended, left);
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
    then->inherited = self->inherited;
    then->is_past = true;
    then->ended.most = most_ended > 0 ? (size_t)most_ended : 0;
    const idx_moment *moment = idx_moments_before(&self->moments, seq);
    if (moment == NULL) {
        idx_places_init(&then->places, self->first_start, self->first_width);
    }
    else if (!idx_moment_restore(moment, &then->open, &then->places)) {
        Py_DECREF(then);
        return PyErr_NoMemory();
    }
    else {
        then->newest_seq = moment->seq;
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
    return idx_stretches_of(&self->stretches, serial, until);
}

PyDoc_STRVAR(alarms_doc,
             "alarms($self, /)\n--\n\n"
             "The seqs of the first events that are findings by themselves,\n"
             "as packed u64 in the order in which they were taken in.");

static PyObject *
index_alarms(Index *self, PyObject *Py_UNUSED(ignored))
{
    return PyBytes_FromStringAndSize(
        (const char *)self->alarms,
        (Py_ssize_t)(self->alarm_count * sizeof(uint64_t)));
}

static PyObject *
index_events(Index *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(self->events);
}

static PyObject *
index_open_count(Index *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(self->open.used);
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
        self->inherited = inherited;
        self->question = question == Py_None ? NULL : Py_NewRef(question);
        self->ended.most = most_ended > 0 ? (size_t)most_ended : 0;
        self->first_start = start;
        self->first_width = width;
        idx_places_init(&self->places, start, width);
    }
    return (PyObject *)self;
}

static void
index_dealloc(Index *self)
{
    PyTypeObject *type = Py_TYPE(self);
    index_free(self);
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

static PyType_Spec index_spec = {
    .name = "safehandle_debug.ledger._index.Index",
    .basicsize = sizeof(Index),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = index_slots,
};

idx_types *
idx_types_of(PyTypeObject *type)
{
    return PyType_GetModuleState(type);
}

static PyTypeObject *
add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type != NULL && PyModule_AddType(module, (PyTypeObject *)type) < 0) {
        Py_CLEAR(type);
    }
    return (PyTypeObject *)type;
}

static const struct {
    const char *name;
    int number;
} constants[] = {
    {"BUCKETS", IDX_BUCKETS}, {"LIFETIMES", IDX_LIFETIMES},
    {"NONE", IDX_NONE},       {"STACK", IDX_STACK},
    {"TYPE", IDX_TYPE},       {"THREAD", IDX_THREAD},
    {"TASK", IDX_TASK},       {"TEST", IDX_TEST},
    {"DETAIL", IDX_DETAIL},   {"STATE", IDX_STATE},
    {"NUMBER", IDX_NUMBER},   {"SERIAL", IDX_SERIAL},
    {"VALUE", IDX_VALUE},     {"REFS", IDX_REFS},
    {"AGE", IDX_AGE},         {"BIRTH", IDX_BIRTH},
    {"PID", IDX_PID},
};

static int
index_exec(PyObject *module)
{
    idx_types *types = PyModule_GetState(module);
    types->handles = add_type(module, &idx_handles_spec);
    types->question = add_type(module, &idx_question_spec);
    PyTypeObject *rest[] = {add_type(module, &index_spec),
                            add_type(module, &idx_selection_spec)};
    bool failed = types->handles == NULL || types->question == NULL
                  || rest[0] == NULL || rest[1] == NULL;
    Py_XDECREF(rest[0]);
    Py_XDECREF(rest[1]);
    size_t count = sizeof(constants) / sizeof(constants[0]);
    for (size_t at = 0; !failed && at < count; at++) {
        failed = PyModule_AddIntConstant(module, constants[at].name,
                                         constants[at].number)
                 < 0;
    }
    return failed ? -1 : 0;
}

static int
index_traverse(PyObject *module, visitproc visit, void *arg)
{
    idx_types *types = PyModule_GetState(module);
    Py_VISIT(types->handles);
    Py_VISIT(types->question);
    return 0;
}

static int
index_clear(PyObject *module)
{
    idx_types *types = PyModule_GetState(module);
    Py_CLEAR(types->handles);
    Py_CLEAR(types->question);
    return 0;
}

static PyMethodDef module_functions[] = {
    {"copied", idx_copied, METH_VARARGS, idx_copied_doc},
    {NULL},
};

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, index_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef index_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_index",
    .m_doc = "What a reader keeps of a recording's events.",
    .m_size = sizeof(idx_types),
    .m_methods = module_functions,
    .m_slots = module_slots,
    .m_traverse = index_traverse,
    .m_clear = index_clear,
};

PyMODINIT_FUNC
PyInit__index(void)
{
    return PyModuleDef_Init(&index_module);
}
