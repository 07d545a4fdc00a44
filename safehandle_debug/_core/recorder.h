/* The recorder: the one writer of this process's recording (format.h).
 *
 * Nothing here runs Python code, sets an exception or allocates Python memory.
 * All functions need the GIL, unless they say otherwise; what a reader in
 * another process sees is ordered by release stores. */
#ifndef SHD_RECORDER_H
#define SHD_RECORDER_H

#include "format.h"

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
    unsigned char *map; /* NULL: not recording */
    shd_header *header; /* == map */
    shd_settings settings;
    pid_t pid;           /* the process that may write */
    uint32_t epoch;      /* changes with every file; ids are of one file */
    uint64_t size;       /* bytes mapped */
    uint32_t capacity;   /* blocks that fit */
    uint32_t blocks;     /* blocks ever used */
    uint32_t backed;     /* blocks whose storage is secured */
    int disk_full;       /* errno of a failed growth: stays within `backed` */
    uint64_t anchor_due; /* ticks at which the second anchor is renewed */
    uint64_t anchor_gap; /* ticks */
    char path[PATH_MAX]; /* of the newest recording; kept after it stopped */
    char error[256];     /* why recording ended or lost something, or "" */
} shd_recorder;

extern shd_recorder shd_rec;

static inline int
shd_recording(void)
{
    return shd_rec.map != NULL;
}

/* A thread's place in its own EVENTS block. */
typedef struct {
    shd_block_head *block; /* NULL: none */
    uint32_t epoch;        /* of the file that `block` is in */
} shd_writer;

/* 0, or -1 with a sentence in shd_rec.error.  `inherited` is the newest
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

/* Room for one event, or NULL (the drop is counted).  `writer` NULL takes the
 * pinned block.  The event has its `seq` and `ticks`; the caller fills the
 * rest and commits. */
shd_event *shd_recorder_begin(shd_writer *writer, uint32_t thread);
void shd_recorder_commit(shd_writer *writer);

/* The writer's thread is gone: its block may be recycled. */
void shd_recorder_retire(shd_writer *writer);

/* The LIVE slot of a table slot, or NULL when there is no room (counted). */
shd_live *shd_recorder_live(uint32_t slot);

static inline void
shd_recorder_live_begin(shd_live *live)
{
    atomic_store_explicit((_Atomic uint32_t *)&live->version,
                          live->version + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
}

static inline void
shd_recorder_live_end(shd_live *live)
{
    atomic_store_explicit((_Atomic uint32_t *)&live->version,
                          live->version + 1, memory_order_release);
}

/* Ids, or 0 when there is no room (counted). */
uint32_t shd_recorder_data(int type, const void *head, size_t head_size,
                           const void *tail, size_t tail_size);
uint32_t shd_recorder_node(uint32_t parent, uint32_t code, uint32_t lasti,
                           uint32_t depth);

#endif
