/* Places and events.
 *
 * Every function marks its thread as inside while it touches the recording,
 * and finds out only then whether there still is one. */
#include "depot.h"
#include "parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

_Atomic uint64_t shd_newest_serial SHD_HOT_COUNT;
uint64_t shd_inherited_serials SHD_HOT;
int shd_listening;

static _Atomic int child_pending; /* a forked child has no file yet */
static char *test_name;           /* malloc'ed, or NULL */
_Atomic uint64_t shd_record_test SHD_HOT;

/* --- switching --------------------------------------------------------------- */

static void
renew_test(void)
{
    shd_thread *thread = shd_thread_get();
    uint32_t id = 0;
    if (test_name != NULL && thread != NULL && shd_thread_enter(thread)) {
        id = shd_depot_string(test_name);
        shd_thread_leave(thread);
    }
    atomic_store(&shd_record_test, (uint64_t)shd_rec.epoch << 32 | id);
}

void
shd_record_set_test(const char *name)
{
    free(test_name);
    test_name = name[0] ? strdup(name) : NULL;
    renew_test();
}

void
shd_record_listen(void)
{
    child_pending = 0;
    shd_listening = shd_recording();
    if (shd_listening) {
        shd_rec.header->watch = atomic_load(&shd_on.watching);
    }
    renew_test();
}

void
shd_record_forked(void)
{
    shd_inherited_serials = shd_newest_serial;
    if (shd_rec.map != NULL) {
        child_pending = shd_rec.settings.children;
        shd_recorder_forget();
    }
    shd_listening = child_pending;
}

int
shd_record_begin_late(void)
{
    if (!atomic_load_explicit(&child_pending, memory_order_relaxed)
        || !atomic_exchange(&child_pending, 0)) {
        return 0;
    }
    int error = errno;
    shd_recorder_start_child(shd_inherited_serials);
    shd_record_listen();
    errno = error;
    return shd_listening;
}

/* --- places ------------------------------------------------------------------ */

/* The task of the events that lack it is the one that runs now, if nothing has
   changed since. */
static void
settle_tasks(shd_thread *thread)
{
    int certain =
        thread->task && thread->unsure_epoch == shd_rec.epoch
        && shd_same_moment(thread->unsure_moment, thread->task_moment);
    for (int i = 0; certain && i < thread->unsure; i++) {
        const shd_unsure *at = &thread->unsure_events[i];
        if (at->block->type == SHD_BLOCK_EVENTS
            && at->block != thread->writer.block) {
            continue; /* recycled, perhaps */
        }
        atomic_store_explicit((_Atomic uint32_t *)&at->event->task,
                              thread->task, memory_order_relaxed);
        shd_live *live = shd_record_slot(at->slot, at->serial);
        if (live != NULL && live->task == 0 && shd_recorder_live_try(live)) {
            live->task = thread->task;
            shd_recorder_live_end(live);
        }
    }
    thread->unsure = 0;
}

void
shd_record_keep_unsure(const shd_place *here, shd_event *event,
                       shd_block_head *block, const shd_subject *subject)
{
    shd_thread *thread = here->thread;
    if (thread->unsure_epoch != shd_rec.epoch
        || !shd_same_moment(thread->unsure_moment, here->moment)) {
        thread->unsure = 0;
        thread->unsure_epoch = shd_rec.epoch;
        thread->unsure_moment = here->moment;
    }
    if (thread->unsure < SHD_MOST_UNSURE) {
        thread->unsure_events[thread->unsure++] =
            (shd_unsure){event, block, subject->serial, subject->slot};
    }
}

/* The place of a thread that has the GIL; 1 when it is inside then. */
static inline int
enter_held(shd_place *here, PyThreadState *tstate, int stack)
{
    shd_thread *thread = shd_thread_get();
    if (thread == NULL) {
        return 0;
    }
    shd_interp *state = shd_interp_of(tstate);
    here->thread_id = shd_thread_named_id(thread);
    here->task = state == NULL ? 0 : shd_thread_task(thread, state, tstate);
    if (!shd_record_enter(thread)) {
        return 0;
    }
    shd_place_fill_in(here, thread);
    if (thread->unsure) {
        settle_tasks(thread);
    }
    if (stack) {
        shd_place_capture(here, tstate, SHD_WALKER_ASKING);
    }
    return 1;
}

static inline int
find_held(shd_place *here, PyThreadState *tstate, int stack)
{
    int found = enter_held(here, tstate, stack);
    if (found) {
        shd_thread_leave(here->thread);
    }
    return found;
}

static int
find(shd_place *here, int stack, int ask)
{
    if (!shd_record_ready()) {
        return 0;
    }
    PyThreadState *tstate = shd_thread_state();
    if (ask && shd_holds_gil(tstate)) {
        return find_held(here, tstate, stack);
    }
    int found = shd_place_enter(here, tstate, stack);
    if (found) {
        shd_thread_leave(here->thread);
    }
    return found;
}

int
shd_place_here(shd_place *here)
{
    return find(here, 1, 0);
}

int
shd_place_asked(shd_place *here)
{
    return find(here, 1, 1);
}

int
shd_place_bare(shd_place *here)
{
    return find(here, 0, 0);
}

int
shd_place_held(shd_place *here, PyThreadState *tstate)
{
    return find_held(here, tstate, 1);
}

/* --- ids ----------------------------------------------------------------------- */

uint32_t
shd_record_type(const char *name, const char *kind, const char *space)
{
    shd_thread *thread = shd_thread_get();
    if (thread == NULL || !shd_thread_enter(thread)) {
        return 0;
    }
    uint32_t id = shd_depot_type(name, kind, space);
    shd_thread_leave(thread);
    return id;
}

uint32_t
shd_record_detail(const char *utf8)
{
    shd_thread *thread = shd_thread_get();
    if (utf8 == NULL || thread == NULL || !shd_thread_enter(thread)) {
        return 0;
    }
    uint32_t id = shd_depot_detail_string(utf8);
    shd_thread_leave(thread);
    return id;
}

uint64_t
shd_record_serial(void)
{
    return shd_add(&shd_newest_serial, 1) + 1;
}

/* --- counts -------------------------------------------------------------------- */

void
shd_record_counted(uint64_t serial)
{
    shd_thread *thread = shd_thread_get();
    if (thread != NULL && shd_thread_enter(thread)) {
        shd_record_count_serial(shd_rec.header, serial);
        shd_thread_leave(thread);
    }
}

SHD_FAST void
shd_record_bare(uint64_t serial, int by)
{
    shd_thread *thread = shd_thread_get();
    if (thread != NULL && shd_thread_enter(thread)) {
        shd_header *header = shd_rec.header;
        shd_record_raise_serial(header, serial);
        shd_add((_Atomic uint64_t *)&header->bare, (uint64_t)(int64_t)by);
        shd_thread_leave(thread);
    }
}

void
shd_record_count_live(void)
{
    shd_thread *thread = shd_thread_get();
    if (thread != NULL && shd_thread_enter(thread)) {
        shd_record_count_serial(shd_rec.header,
                                atomic_load(&shd_newest_serial));
        shd_thread_leave(thread);
    }
}

/* --- live slots ------------------------------------------------------------------ */

void
shd_record_retyped(const shd_subject *subject)
{
    shd_thread *thread = shd_thread_get();
    if (thread == NULL || !shd_thread_enter(thread)) {
        return;
    }
    shd_live *live = shd_record_slot(subject->slot, subject->serial);
    if (live != NULL && shd_recorder_live_try(live)) {
        live->type = subject->type;
        shd_recorder_live_end(live);
    }
    shd_thread_leave(thread);
}

void
shd_record_vanished(const shd_subject *subject)
{
    shd_thread *thread = shd_thread_get();
    if (thread == NULL || !shd_thread_enter(thread)) {
        return;
    }
    shd_record_count_open(shd_rec.header);
    shd_live *live = shd_record_slot(subject->slot, subject->serial);
    if (live != NULL) {
        shd_record_free(live);
    }
    shd_thread_leave(thread);
}

/* --- events ------------------------------------------------------------------------ */

void
shd_record_repeat(shd_writer *writer, const shd_live *live, uint64_t serial)
{
    shd_block_head *block;
    if (shd_rec.header->dropped_events == 0) {
        return;
    }
    shd_event *event = shd_recorder_begin(writer, live->thread, &block);
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
    shd_recorder_commit(writer, block);
}

void
shd_record_appeared(const shd_place *here, const shd_subject *subject,
                    int flags)
{
    if (!shd_record_enter(here->thread)) {
        return;
    }
    if (here->epoch == shd_rec.epoch) {
        shd_record_set_up(here, subject, flags);
    }
    shd_thread_leave(here->thread);
}

void
shd_record_event(const shd_place *here, const shd_subject *subject, int kind,
                 uint32_t refs, int ending, int flags, int64_t value,
                 uint32_t detail, int pinned)
{
    if (!shd_record_enter(here->thread)) {
        return;
    }
    if (here->epoch == shd_rec.epoch) {
        shd_live *live = shd_record_slot(subject->slot, subject->serial);
        shd_record_repeat_if_dropped(here, subject, kind, flags, pinned, live);
        shd_record_write(here, subject, kind, refs, ending, flags, value,
                         detail, pinned);
        /* The slot of a handle that is closed is about to be freed. */
        if (live != NULL && kind != SHD_EVENT_CLOSE
            && shd_recorder_live_try(live)) {
            live->refs = refs;
            live->last_stack = here->stack;
            shd_recorder_live_end(live);
        }
    }
    shd_thread_leave(here->thread);
}

void
shd_record_held(PyThreadState *tstate, const shd_subject *subject, int kind,
                uint32_t refs, int ending, int flags, int64_t value,
                uint32_t detail, int pinned, int only_recorded, int late)
{
    if (only_recorded
        && shd_record_slot(subject->slot, subject->serial) == NULL) {
        return;
    }
    shd_place here;
    if (!enter_held(&here, tstate, 1)) {
        return;
    }
    shd_live *live = shd_record_slot(subject->slot, subject->serial);
    if (live == NULL) {
        flags |= late;
    }
    shd_record_repeat_if_dropped(&here, subject, kind, flags, pinned, live);
    shd_record_write(&here, subject, kind, refs, ending, flags, value, detail,
                     pinned);
    if (live != NULL) {
        /* Handles with an object are written with the GIL alone. */
        shd_recorder_live_begin(live);
        live->refs = refs;
        live->last_stack = here.stack;
        shd_recorder_live_end(live);
    }
    shd_thread_leave(here.thread);
}

void
shd_record_swept(uint32_t slot, uint64_t serial, int64_t value, int error)
{
    shd_thread *thread = shd_thread_get();
    if (thread == NULL || !shd_thread_enter(thread)) {
        return;
    }
    shd_record_count_open(shd_rec.header);
    shd_live *live = shd_record_slot(slot, serial);
    if (live != NULL) {
        /* Nobody's thread, and pinned: there may be no Python state left. */
        const shd_place nowhere = {.thread = thread,
                                   .thread_id = live->thread};
        const shd_subject subject = {serial, value, live->type, 0, slot};
        const int flags = SHD_FLAG_FINALIZER | SHD_FLAG_FINALIZING;
        shd_record_repeat(NULL, live, serial);
        shd_record_write(&nowhere, &subject, SHD_EVENT_CLOSE, 0,
                         SHD_ENDING_SWEPT, flags, value, 0, 1);
        if (error) {
            shd_record_write(&nowhere, &subject, SHD_EVENT_RELEASE_FAILED, 0,
                             SHD_ENDING_NONE, flags, error, 0, 1);
        }
        shd_record_free(live);
    }
    shd_thread_leave(thread);
}
