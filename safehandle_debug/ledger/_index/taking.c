/* What each event changes. */
#include "index.h"

#define MOST_ALARMS (1u << 20)

/* Kinds of events that are findings by themselves. */
#define ALARMS                                                                \
    (1u << SHD_EVENT_SET_VALUE | 1u << SHD_EVENT_DOUBLE_RELEASE               \
     | 1u << SHD_EVENT_RELEASE_FAILED | 1u << SHD_EVENT_DOUBLE_OWNER          \
     | 1u << SHD_EVENT_OVERFLOW | 1u << SHD_EVENT_CLOSED_BEHIND               \
     | 1u << SHD_EVENT_RECYCLED | 1u << SHD_EVENT_EXHAUSTED)

typedef struct {
    idx_state *state;
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
forget_oldest(idx_state *self, PyObject *notable)
{
    uint64_t serial = self->ring[self->ring_first];
    self->ring_first = (self->ring_first + 1) % IDX_ORPHANS;
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
add_orphan(idx_state *self, const shd_event *event, PyObject *notable)
{
    if (idx_table_find(&self->orphans, event->serial) != NULL) {
        return 0;
    }
    if (self->ring_count == IDX_ORPHANS && forget_oldest(self, notable) < 0) {
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
    self->ring[(self->ring_first + self->ring_count++) % IDX_ORPHANS] =
        event->serial;
    return 0;
}

/* --- one event --- */

static int
is_suspicious(idx_state *self, const shd_event *event,
              const shd_live *acquired)
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
closed(idx_state *self, const shd_event *event, idx_open_at at,
       PyObject *notable)
{
    shd_live acquired = idx_open_slot(&self->open, at);
    if (!idx_ended_note(&self->ended, &acquired, event)
        || !idx_place_closed(&self->places, &acquired, event)
        || !idx_open_remove(&self->open, at)) {
        return no_memory();
    }
    if (notable == NULL) {
        return 0;
    }
    int told = is_suspicious(self, event, &acquired);
    return told > 0 ? tell(notable, event, &acquired) : told;
}

static int
acquired(idx_state *self, const shd_event *event, PyObject *notable)
{
    idx_open_at at;
    if (event->serial <= self->inherited
        || idx_open_find(&self->open, event->serial, &at)) {
        return 0;
    }
    shd_live slot = {
        .serial = event->serial,
        .ticks = event->ticks,
        .value = event->value,
        .stack = event->stack,
        .thread = event->thread,
        .task = event->task,
        .test = event->test,
        .detail = event->detail,
        .type = event->type,
        .refs = event->refs,
        .flags = event->flags,
        .last_stack = event->stack,
    };
    if (!idx_place_opened(&self->places, &slot)
        || !idx_open_add(&self->open, &slot)) {
        return no_memory();
    }
    shd_live *orphan = idx_table_find(&self->orphans, event->serial);
    if (orphan != NULL) {
        shd_event close = orphaned(orphan);
        idx_table_remove(&self->orphans, orphan);
        return idx_open_find(&self->open, event->serial, &at)
                   ? closed(self, &close, at, notable)
                   : 0;
    }
    return 0;
}

/* Its owner changed: it counts as what it is now. */
static bool
owned(idx_state *self, idx_open_at at, uint32_t type)
{
    shd_live slot = idx_open_slot(&self->open, at);
    return slot.type == type
           || (idx_place_moved(&self->places, &slot, type)
               && idx_open_change(&self->open, at, IDX_AT_TYPE, type));
}

static int
take_event(void *context, const shd_event *event)
{
    taking *take = context;
    idx_state *self = take->state;
    if (event->seq > self->newest_seq) {
        self->newest_seq = event->seq;
    }
    if (event->kind == SHD_EVENT_ACQUIRE) {
        return acquired(self, event, take->notable);
    }
    idx_open_at at;
    bool is_open = idx_open_find(&self->open, event->serial, &at);
    bool is_end =
        event->kind == SHD_EVENT_CLOSE || event->kind == SHD_EVENT_INVALIDATE;
    if (is_end) {
        if (is_open) {
            return closed(self, event, at, take->notable);
        }
        return event->serial > self->inherited
                   ? add_orphan(self, event, take->notable)
                   : 0;
    }
    bool is_owner =
        event->kind == SHD_EVENT_OWNED || event->kind == SHD_EVENT_DISOWNED;
    if (is_open) {
        bool changed =
            idx_open_change(&self->open, at, IDX_AT_REFS, event->refs)
            && idx_open_change(&self->open, at, IDX_AT_LAST_STACK,
                               event->stack);
        if (event->kind == SHD_EVENT_DISPOSE) {
            changed = changed && idx_open_dispose(&self->open, at);
        }
        if (is_owner && !(event->flags & SHD_FLAG_INHERITED)) {
            changed = changed && owned(self, at, event->type);
        }
        if (!changed) {
            return no_memory();
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
note_alarm(idx_state *self, uint64_t seq)
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
    idx_state *self = take->state;
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

Py_ssize_t
idx_state_take(idx_state *self, PyObject *chunks, PyObject *notable)
{
    taking take = {self, notable};
    return idx_merge(chunks, take_and_note, &take);
}

int
idx_state_settle(idx_state *self, PyObject *notable)
{
    int failed = 0;
    while (!failed && self->ring_count > 0) {
        failed = forget_oldest(self, notable);
    }
    return failed;
}

/* The serials of the open handles that are not in a set, and their number; -1
 * with an exception. */
static Py_ssize_t
strangers(const idx_open *open, PyObject *live, uint64_t *serials)
{
    Py_ssize_t count = 0;
    for (size_t number = 0; number < open->count; number++) {
        const idx_pack *pack = open->packs[number];
        for (uint32_t at = 0; at < pack->count; at++) {
            if (idx_bit(pack->gone, at)) {
                continue;
            }
            uint64_t serial = idx_pack_get(pack, IDX_AT_SERIAL, at);
            PyObject *key = PyLong_FromUnsignedLongLong(serial);
            int known = key != NULL ? PySet_Contains(live, key) : -1;
            Py_XDECREF(key);
            if (known < 0) {
                return -1;
            }
            if (!known) {
                serials[count++] = serial;
            }
        }
    }
    return count;
}

int
idx_state_prune(idx_state *self, PyObject *live)
{
    uint64_t *serials = malloc((self->open.used + 1) * sizeof(*serials));
    if (serials == NULL) {
        return no_memory();
    }
    Py_ssize_t count = strangers(&self->open, live, serials);
    bool pruned = true;
    for (Py_ssize_t each = 0; pruned && each < count; each++) {
        idx_open_at at;
        if (idx_open_find(&self->open, serials[each], &at)) {
            shd_live slot = idx_open_slot(&self->open, at);
            pruned = idx_place_forgotten(&self->places, &slot)
                     && idx_open_remove(&self->open, at);
        }
    }
    free(serials);
    if (!pruned) {
        return no_memory();
    }
    return count < 0 ? -1 : 0;
}

void
idx_state_clear(idx_state *self)
{
    idx_open_clear(&self->open);
    idx_table_clear(&self->orphans);
    idx_places_clear(&self->places);
    idx_moments_clear(&self->moments);
    idx_asked_clear(&self->asked);
    free(self->alarms);
    idx_ended_clear(&self->ended);
    idx_stretches_clear(&self->stretches);
    Py_CLEAR(self->question);
}
