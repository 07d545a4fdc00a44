/* What the files that write events share. */
#ifndef SHD_PARTS_H
#define SHD_PARTS_H

#include "blocks.h"
#include "clock.h"
#include "record.h"
#include "table.h"
#include "unwind.h"

/* epoch << 32 | STRING id of the running test's name */
extern _Atomic uint64_t shd_record_test;

/* Events that lack their task are kept in mind, and get it later: the first few
   of one moment. */
static inline int
shd_record_is_unsure(const shd_place *here)
{
    return here->unsure
           && (here->thread->unsure < SHD_MOST_UNSURE
               || here->thread->unsure_epoch != shd_rec.epoch
               || !shd_same_moment(here->thread->unsure_moment, here->moment));
}
void shd_record_keep_unsure(const shd_place *here, shd_event *event,
                            shd_block_head *block, const shd_subject *subject);

/* As shd_thread_enter(); what happens in the middle of the recorder's own work
   is counted as dropped. */
static inline int
shd_record_enter(shd_thread *thread)
{
    if (shd_thread_enter(thread)) {
        return 1;
    }
    if (atomic_load_explicit(&thread->inside, memory_order_relaxed)
        && shd_recording()) {
        shd_recorder_count(&shd_rec.header->dropped_events, 1);
    }
    return 0;
}

static inline void
shd_place_fill_in(shd_place *here, shd_thread *thread)
{
    uint64_t word =
        atomic_load_explicit(&shd_record_test, memory_order_relaxed);
    here->thread = thread;
    here->epoch = shd_rec.epoch;
    here->test = (uint32_t)(word >> 32) == here->epoch ? (uint32_t)word : 0;
    here->stack = 0;
    here->importing = 0;
    here->finalizing = shd_is_finalizing();
    here->unsure = 0;
}

static inline void
shd_place_capture(shd_place *here, PyThreadState *tstate,
                  enum shd_walker walker)
{
    here->stack = shd_unwind_capture(here->thread, tstate, walker);
    here->importing = shd_unwind_importing(here->thread);
}

/* Where this thread is, asking nobody; 1 when it is inside then. */
static inline int
shd_place_enter(shd_place *here, PyThreadState *tstate, int stack)
{
    shd_thread *thread = shd_thread_get();
    if (thread == NULL || !shd_record_enter(thread)) {
        return 0;
    }
    shd_place_fill_in(here, thread);
    here->thread_id = shd_thread_id(thread, tstate);
    int64_t task = shd_thread_known_task(thread, tstate);
    here->task = task < 0 ? 0 : (uint32_t)task;
    here->unsure = task < 0;
    if (here->unsure) {
        here->moment = shd_thread_moment(tstate);
    }
    if (stack) {
        int held = here->finalizing && shd_holds_gil(tstate);
        shd_place_capture(here, tstate,
                          held ? SHD_WALKER_HELD : SHD_WALKER_BARE);
    }
    return 1;
}

static inline shd_live *
shd_record_slot(uint32_t slot, uint64_t serial)
{
    shd_live *live = slot == 0 ? NULL : shd_recorder_live_if_made(slot);
    return live != NULL && live->serial == serial ? live : NULL;
}

/* Two threads at once may leave the older number behind until the next event;
   the end of the process counts once more. */
static inline void
shd_record_count_open(shd_header *header)
{
    _Atomic uint64_t *live = (_Atomic uint64_t *)&header->live;
    uint64_t now = shd_table_live();
    atomic_store_explicit(live, now, memory_order_relaxed);
    if (!SHD_SINGLE_THREADED && shd_table_live() != now) {
        atomic_store_explicit(live, shd_table_live(), memory_order_relaxed);
    }
}

static inline void
shd_record_raise_serial(shd_header *header, uint64_t serial)
{
    _Atomic uint64_t *newest = (_Atomic uint64_t *)&header->newest_serial;
    if (atomic_load_explicit(newest, memory_order_relaxed) < serial) {
        atomic_store_explicit(newest, serial, memory_order_relaxed);
    }
}

static inline void
shd_record_count_serial(shd_header *header, uint64_t serial)
{
    shd_record_raise_serial(header, serial);
    shd_record_count_open(header);
}

static inline void
shd_record_write_at(uint64_t ticks, const shd_place *here,
                    const shd_subject *subject, int kind, uint32_t refs,
                    int ending, int flags, int64_t value, uint32_t detail,
                    int pinned)
{
    shd_block_head *block;
    shd_writer *writer = pinned ? NULL : &here->thread->writer;
    shd_event *event = shd_recorder_begin(writer, here->thread_id, &block);
    if (event != NULL) {
        event->ticks = ticks;
        event->serial = subject->serial;
        event->value = value;
        event->stack = here->stack;
        event->thread = here->thread_id;
        event->task = here->task;
        event->test = here->test;
        event->detail = detail;
        event->type = subject->type;
        event->refs = refs;
        event->kind = (uint8_t)kind;
        event->ending = (uint8_t)ending;
        event->flags = (uint16_t)flags;
        if (shd_record_is_unsure(here)) {
            shd_record_keep_unsure(here, event, block, subject);
        }
        shd_recorder_commit(writer, block);
        if (ticks
            >= atomic_load_explicit(&shd_rec.due, memory_order_relaxed)) {
            shd_recorder_look_up(ticks);
        }
    }
}

static inline void
shd_record_write(const shd_place *here, const shd_subject *subject, int kind,
                 uint32_t refs, int ending, int flags, int64_t value,
                 uint32_t detail, int pinned)
{
    shd_record_write_at(shd_clock_ticks(), here, subject, kind, refs, ending,
                        flags, value, detail, pinned);
}

/* The ACQUIRE event and the live slot. */
static inline void
shd_record_set_up(const shd_place *here, const shd_subject *subject, int flags)
{
    uint64_t ticks = shd_clock_ticks();
    shd_record_count_serial(shd_rec.header, subject->serial);
    shd_live *live = subject->slot ? shd_recorder_live(subject->slot) : NULL;
    if (live != NULL) {
        shd_recorder_live_begin(live);
        live->serial = subject->serial;
        live->ticks = ticks;
        live->value = subject->value;
        live->stack = live->last_stack = here->stack;
        live->thread = here->thread_id;
        live->task = here->task;
        live->test = here->test;
        live->detail = subject->detail;
        live->type = subject->type;
        live->refs = 1;
        live->flags = (uint32_t)flags;
        shd_recorder_live_end(live);
    }
    shd_record_write_at(ticks, here, subject, SHD_EVENT_ACQUIRE, 1,
                        SHD_ENDING_NONE, flags, subject->value,
                        subject->detail, 0);
}

static inline void
shd_record_free(shd_live *live)
{
    shd_recorder_live_begin(live);
    live->serial = 0;
    shd_recorder_live_end(live);
}

/* Writes the acquire event once more, from the live slot: the first one may
   have been dropped, and the slot is about to be freed. */
void shd_record_repeat(shd_writer *writer, const shd_live *live,
                       uint64_t serial);

/* Before the CLOSE that a finalizer does. */
static inline void
shd_record_repeat_if_dropped(const shd_place *here, const shd_subject *subject,
                             int kind, int flags, int pinned,
                             const shd_live *live)
{
    if (live != NULL && kind == SHD_EVENT_CLOSE
        && (flags & SHD_FLAG_FINALIZER)) {
        shd_record_repeat(pinned ? NULL : &here->thread->writer, live,
                          subject->serial);
    }
}

#endif
