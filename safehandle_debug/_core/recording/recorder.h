/* The recorder: what this process writes into its recording (format.h).
 *
 * Nothing here runs Python code, sets an exception or allocates memory that
 * others manage.  Starting and stopping need the GIL; writing does not: any
 * thread may that is marked as inside the recorder (thread.h).  What a reader
 * in another process sees is ordered by release stores. */
#ifndef SHD_RECORDER_H
#define SHD_RECORDER_H

#include "atomics.h"
#include "clock.h"
#include "format.h"
#include "here.h"

#include <limits.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/types.h>

typedef struct {
    int level;       /* shd_level, not off */
    uint32_t frames; /* least number of frames a stack keeps */
    uint32_t sample; /* one handle in `sample` at level sampled */
    uint64_t size;   /* bound of the file, bytes */
    int children;    /* forked children go on in files of their own */
    uint32_t python_version;
    char *meta; /* JSON, malloc'ed, owned by the recorder once started */
} shd_settings;

typedef struct {
    /* What every event needs comes first. */
    _Alignas(64) unsigned char *map; /* NULL: not recording */
    shd_header *header;              /* == map */
    _Atomic uint64_t due;            /* ticks; of shd_recorder_look_up() */
    uint32_t epoch; /* changes with every file; ids are of one file */
    pid_t pid;      /* the process that may write */
    shd_settings settings;
    uint64_t size;       /* bytes mapped */
    uint64_t gap;        /* ticks from one look to the next */
    uint64_t anchor_due; /* ticks; the second anchor is renewed then */
    char path[PATH_MAX]; /* of the newest recording; kept after it stopped */
} shd_recorder;

extern shd_recorder shd_rec;

/* How often readers have asked who holds what, and which question was the
 * last that was answered.  Whoever can answer is called soon after an event
 * once there is a new one: inside the recorder, by any thread. */
extern _Atomic uint32_t shd_recorder_answered;
extern void (*shd_recorder_answer)(void);

static inline uint32_t
shd_recorder_asked(void)
{
    return atomic_load_explicit(
        (_Atomic uint32_t *)(shd_rec.map + SHD_ASK_OFFSET),
        memory_order_relaxed);
}

/* 1 while events may be written. */
static inline int
shd_recording(void)
{
    return (int)atomic_load_explicit(&shd_on.recording, memory_order_acquire);
}

static inline void
shd_recorder_count(uint64_t *counter, uint64_t by)
{
    shd_add((_Atomic uint64_t *)counter, by);
}

/* Makes the number at least `to`. */
static inline void
shd_recorder_raise(_Atomic uint32_t *number, uint32_t to)
{
    uint32_t was = atomic_load_explicit(number, memory_order_relaxed);
    while (was < to
           && !atomic_compare_exchange_weak_explicit(
               number, &was, to, memory_order_release, memory_order_relaxed)) {
    }
}

/* A thread's place in its own EVENTS block. */
typedef struct {
    shd_block_head *block; /* NULL: none */
    uint32_t epoch;        /* of the file that `block` is in */
} shd_writer;

/* Why recording ended or lost something, or "". */
const char *shd_recorder_error(void);

/* 0, or -1 with a sentence in shd_recorder_error().  `inherited` is the newest
 * serial of the parent for a forked child, else 0. */
int shd_recorder_start(const char *path, const shd_settings *settings,
                       uint64_t inherited);

/* In a forked child: goes on in a file of its own beside the parent's. */
int shd_recorder_start_child(uint64_t inherited);

/* Ends the recording; the file stays.  `ended` is a shd_ended. */
void shd_recorder_stop(int ended, int exit_code);

/* After fork, in the child: forgets the parent's file without touching it. */
void shd_recorder_forget(void);

/* Stamps how the process ended, once; safe without the GIL. */
void shd_recorder_mark_ended(int exit_code);

/* The next block for events, or NULL: the slow part of what follows. */
shd_block_head *shd_recorder_next_block(shd_writer *writer, uint32_t thread);
/* What may wait a millisecond: renews the second anchor, looks for questions
 * of readers. */
void shd_recorder_look_up(uint64_t ticks);
void shd_recorder_put_back(shd_block_head *block);

/* Room for one event, or NULL (the drop is counted).  `writer` NULL takes a
 * pinned block.  The event has its `seq`; the caller fills the rest and commits
 * with the same `block`. */
static inline shd_event *
shd_recorder_begin(shd_writer *writer, uint32_t thread, shd_block_head **where)
{
    shd_header *header = shd_rec.header;
    shd_block_head *block = NULL;
    if (writer != NULL && writer->epoch == shd_rec.epoch) {
        block = writer->block;
    }
    if (block == NULL || block->committed >= SHD_EVENTS_A_BLOCK) {
        block = shd_recorder_next_block(writer, thread);
    }
    uint64_t seq = shd_add((_Atomic uint64_t *)&header->next_seq, 1);
    if (block == NULL) {
        shd_recorder_count(&header->dropped_events, 1);
        return NULL;
    }
    if (block->committed == 0) {
        block->first_seq = seq;
    }
    *where = block;
    shd_event *event = (shd_event *)(block + 1) + block->committed;
    event->seq = seq;
    return event;
}

static inline void
shd_recorder_commit(const shd_writer *writer, shd_block_head *block)
{
    uint32_t count = block->committed + 1;
    atomic_store_explicit((_Atomic uint32_t *)&block->committed, count,
                          memory_order_release);
    /* No event has been where the next one goes for a long time.  A store
       there that waits for memory makes the next system call wait. */
    __builtin_prefetch((shd_event *)(block + 1) + count, 1);
    if (writer == NULL) {
        shd_recorder_put_back(block);
    }
}

/* The writer's thread is gone: its block may be recycled. */
void shd_recorder_retire(shd_writer *writer);

/* Where the blocks of LIVE slots are; read-only but in blocks.c. */
extern _Atomic(shd_live *) *shd_recorder_live_blocks;
extern uint32_t shd_recorder_capacity;
extern _Atomic uint32_t shd_recorder_slots; /* as in the header */

/* The LIVE slot of a table slot, which was written before, or NULL. */
static inline shd_live *
shd_recorder_live_if_made(uint32_t slot)
{
    uint32_t index = (slot - 1) / (uint32_t)SHD_LIVE_A_BLOCK;
    shd_live *slots =
        index >= shd_recorder_capacity
            ? NULL
            : atomic_load_explicit(&shd_recorder_live_blocks[index],
                                   memory_order_acquire);
    return slots == NULL ? NULL : &slots[(slot - 1) % SHD_LIVE_A_BLOCK];
}

/* The same, made if need be; NULL when there is no room (counted). */
shd_live *shd_recorder_make_live(uint32_t slot);
static inline shd_live *
shd_recorder_live(uint32_t slot)
{
    shd_live *live = shd_recorder_live_if_made(slot);
    return live != NULL
                   && slot <= atomic_load_explicit(&shd_recorder_slots,
                                                   memory_order_relaxed)
               ? live
               : shd_recorder_make_live(slot);
}

/* Whoever sets up or frees a slot owns it; an update meanwhile, of a handle
 * that is no more, is given up: 0. */
static inline void
shd_recorder_live_begin(shd_live *live)
{
    _Atomic uint32_t *version = (_Atomic uint32_t *)&live->version;
    uint32_t was = atomic_load_explicit(version, memory_order_relaxed);
    atomic_store_explicit(version, was | 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
}

static inline int
shd_recorder_live_try(shd_live *live)
{
    _Atomic uint32_t *version = (_Atomic uint32_t *)&live->version;
    uint32_t was = atomic_load_explicit(version, memory_order_relaxed);
    if ((was & 1)
        || !atomic_compare_exchange_strong_explicit(version, &was, was + 1,
                                                    memory_order_relaxed,
                                                    memory_order_relaxed)) {
        return 0;
    }
    atomic_thread_fence(memory_order_release);
    return 1;
}

static inline void
shd_recorder_live_end(shd_live *live)
{
    atomic_store_explicit((_Atomic uint32_t *)&live->version,
                          (live->version | 1) + 1, memory_order_release);
}

/* Ids, or 0 when there is no room (counted). */
uint32_t shd_recorder_data(int type, const void *head, size_t head_size,
                           const void *tail, size_t tail_size);
uint32_t shd_recorder_node(uint32_t parent, uint32_t code, uint32_t lasti,
                           uint32_t depth);

#endif
