/* The index of a recording: what a reader keeps of millions of events.
 *
 * An extension of its own, `safehandle_debug.ledger._index`: it reads events
 * and never writes any, and knows nothing of the core but format.h.
 *
 *   merge.c   puts the events of several threads in order
 *   table.c   the handles that are open, by serial
 *   places.c  what each acquire stack opened, closed and still holds
 *   asked.c   answers of Python's that are asked for once
 *   moments.c copies of both, so that any moment can be had again
 *   module.c  the Python type that puts them together
 *
 * All of them grow with the handles that are open at once and with the number
 * of different stacks, never with the number of events. */
#ifndef SHD_INDEX_H
#define SHD_INDEX_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#include "recording/format.h"

/* Shared by all the files, and checked by Python against its own numbers. */
#define IDX_BUCKETS 32   /* of births over the life of the process */
#define IDX_LIFETIMES 64 /* powers of two of ticks */

/* --- table.c --- */

/* A handle that is open is kept in the shape that the recording's own slots
 * have, so that a reader of those can read it.  `version` is the number of its
 * place here, and the uppermost bit of `flags` says that a close was asked
 * for. */
#define IDX_DISPOSED (1u << 31)

typedef struct {
    shd_live *slots; /* serial 0: free */
    size_t room;     /* a power of two, or 0 */
    size_t used;
} idx_table;

shd_live *idx_table_find(const idx_table *table, uint64_t serial);
/* A new slot for a serial that is not there yet; NULL without memory. */
shd_live *idx_table_add(idx_table *table, uint64_t serial);
/* Makes an empty table of slots as they stood in another. */
bool idx_table_fill(idx_table *table, const shd_live *slots, size_t count);
void idx_table_remove(idx_table *table, shd_live *slot);
void idx_table_clear(idx_table *table);

/* --- places.c --- */

/* What was acquired with one stack and as one type. */
typedef struct {
    uint32_t stack;
    uint32_t type;
    uint64_t opened;
    uint64_t closed;
    uint64_t finalized; /* of those closed: by a finalizer */
    uint64_t importing; /* of those opened: while a module was imported */
    uint64_t first_ticks;
    uint64_t last_ticks;       /* of the newest acquire */
    uint64_t last_close_ticks; /* 0: none was closed yet */
    uint32_t last_close_stack;
    uint32_t births[IDX_BUCKETS];      /* of all, by when they were opened */
    uint32_t lifetimes[IDX_LIFETIMES]; /* of those closed, by log2 of ticks */
} idx_place;

typedef struct {
    idx_place *places;
    uint32_t count;
    uint32_t room;
    uint32_t *numbers; /* hash table: number of a place + 1, 0: free */
    uint32_t numbers_room;
    uint64_t start;             /* ticks at which the first bucket begins */
    uint64_t width;             /* ticks of one bucket */
    uint64_t ends[IDX_BUCKETS]; /* of all places: handles closed */
} idx_places;

void idx_places_init(idx_places *places, uint64_t start, uint64_t width);
void idx_places_clear(idx_places *places);
/* Copies them, without the hash table or with it; false without memory. */
bool idx_places_copy(const idx_places *places, idx_places *copy, bool usable);
/* The number of the place; UINT32_MAX without memory. */
uint32_t idx_place_of(idx_places *places, uint32_t stack, uint32_t type);
void idx_place_opened(idx_places *places, uint32_t number, uint64_t ticks,
                      bool importing);
void idx_place_closed(idx_places *places, uint32_t number,
                      const shd_live *handle, const shd_event *close);
unsigned idx_bucket(const idx_places *places, uint64_t ticks);

/* --- asked.c --- */

typedef struct {
    uint64_t *keys; /* stack and type, 0: free */
    uint8_t *answers;
    size_t room;
    size_t used;
} idx_asked;

/* What question(stack, type) answered the first time; -1 with an exception. */
int idx_asked_answer(idx_asked *asked, PyObject *question, uint32_t stack,
                     uint32_t type);
void idx_asked_clear(idx_asked *asked);

/* --- merge.c --- */

/* Calls `take` with each event of an iterable of (lower bound of the seqs,
 * packed events by seq), by seq; returns their number, -1 with an exception. */
typedef int (*idx_taker)(void *context, const shd_event *event);
Py_ssize_t idx_merge(PyObject *chunks, idx_taker take, void *context);

/* --- moments.c --- */

/* How all stood right after an event. */
typedef struct {
    uint64_t seq; /* of the last event before it */
    shd_live *slots;
    size_t count;
    idx_places places; /* without its hash table */
    size_t bytes;
} idx_moment;

typedef struct {
    idx_moment *moments; /* by seq */
    size_t count;
    size_t room;
    size_t bytes;     /* of all */
    uint64_t spacing; /* events from one to the next, at least */
    uint64_t events;  /* since the last one */
} idx_moments;

/* Keeps a copy when it is time for one; false without memory. */
bool idx_moments_note(idx_moments *moments, const idx_table *table,
                      const idx_places *places, uint64_t seq);
/* An event came that is older than what was copied: what lacks it goes. */
void idx_moments_cut(idx_moments *moments, uint64_t seq);
/* The latest one at or before an event; NULL: there is none. */
const idx_moment *idx_moments_before(const idx_moments *moments, uint64_t seq);
/* Brings it back into an empty table and places; false without memory. */
bool idx_moment_restore(const idx_moment *moment, idx_table *table,
                        idx_places *places);
void idx_moments_clear(idx_moments *moments);

#endif
