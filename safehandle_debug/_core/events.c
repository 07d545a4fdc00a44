/* One function writes every event: who, where, when, and the handle's live
 * slot beside it.
 *
 * Nothing here fails: a handle works the same whether or not its event finds
 * room.  Names of threads and tasks are looked up before room is taken, since
 * that may run C code of others. */
#include "events.h"

#include "clock.h"
#include "depot.h"
#include "recorder.h"
#include "thread.h"
#include "unwind.h"

#include <stdlib.h>
#include <string.h>

enum shd_on_error shd_on_error;
int shd_mirror_tracemalloc;
uint64_t shd_problems;
uint64_t shd_newest_serial;
uint64_t shd_inherited_serials;

#define TRACEMALLOC_DOMAIN 0x5AFE

int shd_listening;
int shd_unsettled;

static int child_pending; /* a forked child whose file is not made yet */
static char pending[256]; /* what on_error= has still to say */
static char *test_name;   /* malloc'ed, or NULL */
static uint32_t test_id, test_epoch;

static uint32_t *fd_owners; /* table slot by descriptor, 0: none */
static int64_t fd_owners_size;

void
shd_events_forked(void)
{
    shd_inherited_serials = shd_newest_serial;
    if (shd_recording()) {
        child_pending = shd_rec.settings.children;
        shd_recorder_forget();
    }
    shd_unsettled = 0;
    shd_listening = child_pending;
}

void
shd_events_listen(void)
{
    child_pending = 0;
    shd_listening = shd_recording();
}

/* 1 when events can be written. */
static int
is_ready(void)
{
    if (shd_recording()) {
        return 1;
    }
    if (!child_pending) {
        return 0;
    }
    shd_recorder_start_child(shd_inherited_serials);
    shd_events_listen();
    return shd_listening;
}

void
shd_events_set_test(const char *name)
{
    free(test_name);
    test_name = name[0] ? strdup(name) : NULL;
    test_epoch = 0;
}

static uint32_t
current_test(void)
{
    if (test_name == NULL) {
        return 0;
    }
    if (test_epoch != shd_rec.epoch) {
        test_id = shd_depot_string(test_name);
        test_epoch = shd_rec.epoch;
    }
    return test_id;
}

typedef struct {
    shd_thread *thread;
    uint32_t thread_id, task, test, stack;
} place;

/* Where the calling thread is; 0 when memory is out. */
static int
find_place(place *here)
{
    here->thread = shd_thread_get();
    if (here->thread == NULL) {
        shd_rec.header->dropped_events++;
        return 0;
    }
    PyThreadState *tstate = PyThreadState_Get();
    shd_interp *state = shd_interp_of(tstate);
    here->thread_id = shd_thread_id(here->thread);
    here->task = state == NULL ? 0 : shd_thread_task(state);
    here->test = current_test();
    here->stack = shd_unwind_capture(here->thread, tstate,
                                     state == NULL ? -1 : state->code_index);
    return 1;
}

uint32_t
shd_events_capture(void)
{
    place here;
    return is_ready() && find_place(&here) ? here.stack : 0;
}

static int
standing_flags(const shd_handle *handle)
{
    return (shd_has(handle, SHD_OWNS) ? 0 : SHD_FLAG_BORROWED)
           | (shd_has(handle, SHD_COLLECTED) || shd_critical_in_pass()
                  ? SHD_FLAG_IN_GC
                  : 0)
           | (shd_is_finalizing() ? SHD_FLAG_FINALIZING : 0)
           | (shd_is_inherited(shd_serial(handle)) ? SHD_FLAG_INHERITED : 0);
}

static shd_live *
recorded_slot(uint32_t slot, uint64_t serial)
{
    if (slot == 0 || slot > shd_rec.header->live_slots) {
        return NULL;
    }
    shd_live *live = shd_recorder_live(slot);
    return live != NULL && live->serial == serial ? live : NULL;
}

static int
is_problem(int kind, int flags)
{
    switch (kind) {
    case SHD_EVENT_DOUBLE_RELEASE:
    case SHD_EVENT_RELEASE_FAILED:
    case SHD_EVENT_DOUBLE_OWNER:
    case SHD_EVENT_OVERFLOW:
    case SHD_EVENT_SET_VALUE:
        return 1;
    case SHD_EVENT_DISPOSE:
        return (flags & SHD_FLAG_FINALIZER) != 0;
    default:
        return 0;
    }
}

static void
speak_up(const shd_handle *handle, int kind, int flags, const char *detail)
{
    static const char *const names[] = {
        [SHD_EVENT_DOUBLE_RELEASE] = "released with no reference to release",
        [SHD_EVENT_RELEASE_FAILED] = "could not be released",
        [SHD_EVENT_DOUBLE_OWNER] = "has another owner already",
        [SHD_EVENT_SET_VALUE] = "was overwritten while open",
        [SHD_EVENT_DISPOSE] = "dropped with references out",
    };
    if (shd_on_error == SHD_ON_ERROR_RECORD || kind == SHD_EVENT_OVERFLOW) {
        return;
    }
    snprintf(pending, sizeof(pending), "%.100s #%llu (value %lld) %s%s%.80s",
             Py_TYPE(handle)->tp_name, (unsigned long long)shd_serial(handle),
             (long long)handle->value, names[kind], detail == NULL ? "" : ": ",
             detail == NULL ? "" : detail);
    if (shd_on_error == SHD_ON_ERROR_ABORT) {
        Py_FatalError(pending);
    }
    /* A finalizer has no caller to tell. */
    shd_unsettled = !(flags & SHD_FLAG_FINALIZER);
}

int
shd_events_say(int result)
{
    char text[sizeof(pending)];
    memcpy(text, pending, sizeof(text));
    shd_unsettled = 0;
    if (result < 0 || PyErr_Occurred()) {
        return result;
    }
    if (shd_on_error == SHD_ON_ERROR_RAISE) {
        PyErr_SetString(shd_interp_error(SHD_ERROR_STATE), text);
        return -1;
    }
    return PyErr_WarnEx(PyExc_RuntimeWarning, text, 1) < 0 ? -1 : result;
}

/* Writes the acquire event once more, from the live slot: the first one may
   have been dropped, and the slot is about to be freed. */
static void
repeat_acquire(shd_writer *writer, const shd_live *live, uint64_t serial)
{
    if (shd_rec.header->dropped_events == 0) {
        return;
    }
    shd_event *event = shd_recorder_begin(writer, live->thread);
    if (event == NULL) {
        return;
    }
    event->ticks = live->ticks;
    event->serial = serial;
    event->value = live->value;
    event->stack = live->stack;
    event->thread = live->thread;
    event->task = live->task;
    event->test = live->test;
    event->detail = live->detail;
    event->type = live->type;
    event->refs = 1;
    event->kind = SHD_EVENT_ACQUIRE;
    event->ending = SHD_ENDING_NONE;
    event->flags = (uint16_t)(live->flags | SHD_FLAG_UNSAMPLED);
    shd_recorder_commit(writer);
}

/* Writes one event.  `live`: the handle's slot in the file or NULL. */
static void
write_event(const place *here, int pinned, uint64_t serial, int64_t value,
            uint32_t type, uint32_t detail, int kind, uint32_t refs,
            int ending, int flags, shd_live *live)
{
    shd_writer *writer = pinned ? NULL : &here->thread->writer;
    shd_event *event = shd_recorder_begin(writer, here->thread_id);
    if (event != NULL) {
        event->serial = serial;
        event->value = value;
        event->stack = here->stack;
        event->thread = here->thread_id;
        event->task = here->task;
        event->test = here->test;
        event->detail = detail;
        event->type = type;
        event->refs = refs;
        event->kind = (uint8_t)kind;
        event->ending = (uint8_t)ending;
        event->flags = (uint16_t)flags;
        shd_recorder_commit(writer);
    }
    if (live != NULL) {
        shd_recorder_live_begin(live);
        live->refs = refs;
        live->last_stack = here->stack;
        shd_recorder_live_end(live);
    }
}

void
shd_events_emit(shd_handle *handle, int kind, uint32_t refs, int ending,
                int flags, int64_t value, const char *detail)
{
    int problem = is_problem(kind, flags);
    if (problem) {
        shd_problems += kind != SHD_EVENT_OVERFLOW;
        speak_up(handle, kind, flags, detail);
    }
    if (!is_ready()) {
        return;
    }
    shd_live *live = recorded_slot(handle->slot, shd_serial(handle));
    if (live == NULL && !problem
        && (kind != SHD_EVENT_USE_CLOSED
            || shd_rec.settings.level != SHD_LEVEL_FULL)) {
        return;
    }
    place here;
    if (!find_place(&here)) {
        return;
    }
    flags |= standing_flags(handle);
    if (live == NULL && kind != SHD_EVENT_USE_CLOSED
        && kind != SHD_EVENT_RELEASE_FAILED
        && kind != SHD_EVENT_DOUBLE_RELEASE) {
        flags |= SHD_FLAG_UNSAMPLED;
    }
    if (kind == SHD_EVENT_CLOSE && (flags & SHD_FLAG_FINALIZER)
        && live != NULL) {
        repeat_acquire(&here.thread->writer, live, shd_serial(handle));
    }
    write_event(&here, problem, shd_serial(handle), value,
                shd_type_id(Py_TYPE(handle)),
                detail == NULL ? 0 : shd_depot_string(detail), kind, refs,
                ending, flags, live);
}

/* --- who owns which descriptor ------------------------------------------ */

static int
keep_fd_owner(int64_t fd, uint32_t slot)
{
    if (fd < 0 || fd > 1 << 20) {
        return -1;
    }
    if (fd >= fd_owners_size) {
        int64_t size = fd_owners_size ? fd_owners_size : 64;
        while (size <= fd) {
            size *= 2;
        }
        uint32_t *grown = realloc(fd_owners, (size_t)size * sizeof(*grown));
        if (grown == NULL) {
            return -1;
        }
        memset(grown + fd_owners_size, 0,
               (size_t)(size - fd_owners_size) * sizeof(*grown));
        fd_owners = grown;
        fd_owners_size = size;
    }
    fd_owners[fd] = slot;
    return 0;
}

/* Serial of the handle that owns `fd` already, or 0. */
static uint64_t
other_fd_owner(const shd_handle *handle)
{
    int64_t fd = handle->value;
    if (fd < 0 || fd >= fd_owners_size || fd_owners[fd] == 0
        || fd_owners[fd] == handle->slot) {
        return 0;
    }
    shd_entry *entry = shd_table_entry(fd_owners[fd]);
    uint64_t meta = atomic_load(&entry->meta);
    uint64_t serial = shd_table_serial(meta);
    if (meta == 0 || shd_is_inherited(serial)
        || (shd_table_kind(meta) != 0 && entry->value != fd)) {
        return 0;
    }
    return serial;
}

static void
forget_fd_owner(const shd_handle *handle)
{
    int64_t fd = handle->value;
    if (fd >= 0 && fd < fd_owners_size && fd_owners[fd] == handle->slot) {
        fd_owners[fd] = 0;
    }
}

/* --- the beginning and the end of a handle's life ------------------------ */

void
shd_events_acquired(shd_handle *handle, PyObject *detail)
{
    uint64_t serial = shd_serial(handle);
    if (shd_mirror_tracemalloc) {
        PyTraceMalloc_Track(TRACEMALLOC_DOMAIN, (uintptr_t)serial, 1);
    }
    if (!is_ready()) {
        return;
    }
    int owned =
        shd_has(handle, SHD_OWNS) && !shd_has(handle, SHD_SHARES_NUMBER);
    int fd_space = owned && shd_type_info_of(Py_TYPE(handle))->fd_space;
    uint64_t other = fd_space ? other_fd_owner(handle) : 0;
    if (fd_space) {
        keep_fd_owner(handle->value, handle->slot);
    }
    shd_header *header = shd_rec.header;
    header->newest_serial = serial;
    header->live = shd_table_live();
    place here;
    if ((shd_rec.settings.level != SHD_LEVEL_SAMPLED
         || serial % shd_rec.settings.sample == 0)
        && find_place(&here)) {
        int flags = standing_flags(handle);
        if (shd_unwind_importing(here.thread)) {
            flags |= SHD_FLAG_IMPORTING;
        }
        uint32_t type = shd_type_id(Py_TYPE(handle));
        uint32_t text = detail == NULL ? 0 : shd_depot_detail(detail);
        shd_live *live = handle->slot ? shd_recorder_live(handle->slot) : NULL;
        if (live != NULL) {
            shd_recorder_live_begin(live);
            live->serial = serial;
            live->ticks = shd_clock_ticks();
            live->value = handle->value;
            live->stack = live->last_stack = here.stack;
            live->thread = here.thread_id;
            live->task = here.task;
            live->test = here.test;
            live->detail = text;
            live->type = type;
            live->refs = 1;
            live->flags = (uint32_t)flags;
            shd_recorder_live_end(live);
        }
        write_event(&here, 0, serial, handle->value, type, text,
                    SHD_EVENT_ACQUIRE, 1, 0, flags, NULL);
    }
    if (other) {
        shd_events_emit(handle, SHD_EVENT_DOUBLE_OWNER, 1, 0, 0,
                        (int64_t)other, NULL);
    }
}

void
shd_events_gone(shd_handle *handle)
{
    if (shd_mirror_tracemalloc) {
        PyTraceMalloc_Untrack(TRACEMALLOC_DOMAIN,
                              (uintptr_t)shd_serial(handle));
    }
    forget_fd_owner(handle);
    if (!shd_recording()) {
        return;
    }
    shd_rec.header->live = shd_table_live();
    shd_live *live = recorded_slot(handle->slot, shd_serial(handle));
    if (live != NULL) {
        shd_recorder_live_begin(live);
        live->serial = 0;
        shd_recorder_live_end(live);
    }
}

void
shd_events_swept(uint32_t slot, uint64_t serial, int64_t value, int error)
{
    if (!shd_recording()) {
        return;
    }
    shd_rec.header->live = shd_table_live();
    shd_live *live = recorded_slot(slot, serial);
    if (live == NULL) {
        return;
    }
    /* Nobody's thread, and pinned: there may be no Python state left. */
    const place nowhere = {.thread_id = live->thread};
    const int flags = SHD_FLAG_FINALIZER | SHD_FLAG_FINALIZING;
    repeat_acquire(NULL, live, serial);
    write_event(&nowhere, 1, serial, value, live->type, 0, SHD_EVENT_CLOSE, 0,
                SHD_ENDING_SWEPT, flags, NULL);
    if (error) {
        write_event(&nowhere, 1, serial, error, live->type, 0,
                    SHD_EVENT_RELEASE_FAILED, 0, SHD_ENDING_NONE, flags, NULL);
    }
    shd_recorder_live_begin(live);
    live->serial = 0;
    shd_recorder_live_end(live);
}
