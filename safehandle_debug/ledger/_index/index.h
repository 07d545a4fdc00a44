/* The index of a recording: what a reader keeps of millions of events.
 *
 * An extension of its own, `safehandle_debug.ledger._index`: it reads events
 * and never writes any, and knows nothing of the core but format.h.
 *
 *   merge.c   puts the events of several threads in order
 *   packs.c   slots, packed by column
 *   open.c    the handles that are open, by serial
 *   places.c  what each acquire stack opened, closed and still holds
 *   asked.c   answers of Python's that are asked for once
 *   moments.c copies of both, so that any moment can be had again
 *   ended.c   the handles that ended last
 *   stretches.c where the events of a handle may be
 *   taking.c  what each event changes in all of these
 *   index.c   the Python type that puts them together
 *
 * and what a view needs of many handles without a Python object for each:
 *
 *   slots.c     the handles that are open, as Python has them
 *   handles.c   the handles of a process at one moment
 *   table.c     some of them by serial
 *   question.c  answers about them that are kept
 *   tests.c     the conditions of a filter
 *   groups.c    how many there are alike
 *   order.c     which comes first
 *   selection.c those that pass, in some order
 *
 * All of them grow with the handles that are open at once and with the number
 * of different stacks, never with the number of events. */
#ifndef SHD_INDEX_H
#define SHD_INDEX_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#include "packs.h"
#include "recording/format.h"

/* Shared by all the files, and checked by Python against its own numbers. */
#define IDX_BUCKETS 32   /* of births over the life of the process */
#define IDX_LIFETIMES 64 /* powers of two of ticks */

/* --- table.c --- */

typedef struct {
    shd_live *slots; /* serial 0: free */
    size_t room;     /* a power of two, or 0 */
    size_t used;
} idx_table;

shd_live *idx_table_find(const idx_table *table, uint64_t serial);
/* A new slot for a serial that is not there yet; NULL without memory. */
shd_live *idx_table_add(idx_table *table, uint64_t serial);
void idx_table_remove(idx_table *table, shd_live *slot);
void idx_table_clear(idx_table *table);

/* --- open.c --- */

typedef struct {
    idx_pack **packs;
    uint64_t *firsts; /* serials */
    size_t count;     /* packs */
    size_t room;
    size_t used;   /* handles */
    uint64_t last; /* the greatest serial that there was */
} idx_open;

/* Where a handle is, until another one comes or goes. */
typedef struct {
    size_t pack;
    uint32_t at;
} idx_open_at;

bool idx_open_find(const idx_open *open, uint64_t serial, idx_open_at *found);
shd_live idx_open_slot(const idx_open *open, idx_open_at place);
/* Without memory these give false. */
bool idx_open_change(idx_open *open, idx_open_at place, int column,
                     uint32_t value);
bool idx_open_dispose(idx_open *open, idx_open_at place);
/* Adds one whose serial is not there yet. */
bool idx_open_add(idx_open *open, const shd_live *slot);
bool idx_open_remove(idx_open *open, idx_open_at place);
/* A copy that costs little, and does not change with the other. */
bool idx_open_copy(const idx_open *open, idx_open *copy);
void idx_open_clear(idx_open *open);

/* --- places.c --- */

/* What was acquired with one stack and as one type. */
typedef struct {
    uint32_t users; /* that see it; it is copied before it changes */
    uint32_t stack;
    uint32_t type;
    uint32_t last_close_stack;
    uint64_t opened;
    uint64_t closed;
    uint64_t finalized; /* of those closed: by a finalizer */
    uint64_t importing; /* of those opened: while a module was imported */
    uint64_t first_ticks;
    uint64_t last_ticks;               /* of the newest acquire */
    uint64_t last_close_ticks;         /* 0: none was closed yet */
    uint32_t births[IDX_BUCKETS];      /* of all, by when they were opened */
    uint32_t survivors[IDX_BUCKETS];   /* of those open, the same */
    uint32_t lifetimes[IDX_LIFETIMES]; /* of those closed, by log2 of ticks */
} idx_place;

/* Ticks of one bucket, so that what comes next needs no division. */
typedef struct {
    uint64_t first;
    uint64_t end; /* 0: of none yet */
    unsigned bucket;
} idx_bucket;

typedef struct {
    idx_place **places;
    uint32_t count;
    uint32_t room;
    uint32_t *numbers; /* hash table: number of a place + 1, 0: free */
    uint32_t numbers_room;
    idx_bucket last_birth;
    idx_bucket last_end;
    uint64_t start;             /* ticks at which the first bucket begins */
    uint64_t width;             /* ticks of one bucket */
    uint64_t ends[IDX_BUCKETS]; /* of all places: handles closed */
} idx_places;

void idx_places_init(idx_places *places, uint64_t start, uint64_t width);
void idx_places_clear(idx_places *places);
/* A copy that costs little and does not change with the other, without the
 * hash table or with it; false without memory. */
bool idx_places_copy(const idx_places *places, idx_places *copy, bool usable);
/* The number of the place; UINT32_MAX without memory. */
uint32_t idx_place_of(idx_places *places, uint32_t stack, uint32_t type);
/* A handle came, by what it was acquired; false without memory. */
bool idx_place_opened(idx_places *places, const shd_live *handle);
bool idx_place_closed(idx_places *places, const shd_live *handle,
                      const shd_event *close);
/* It is of another type from now on, and counts as if it always had been. */
bool idx_place_moved(idx_places *places, const shd_live *handle,
                     uint32_t type);
/* It is not open any more, and nobody knows how it ended. */
bool idx_place_forgotten(idx_places *places, const shd_live *handle);

/* --- asked.c --- */

typedef struct {
    uint64_t *keys; /* the two ids, plus one; 0: free */
    uint32_t *answers;
    size_t room;
    size_t used;
} idx_asked;

/* What question(first, second) answered the first time, a number or a truth;
 * -1 with an exception. */
int64_t idx_asked_answer(idx_asked *asked, PyObject *question, uint32_t first,
                         uint32_t second);
void idx_asked_clear(idx_asked *asked);

/* --- ended.c --- */

/* Handles that ended, the newest ones: as they were acquired, but that
 * `last_stack` is that of the close, `refs` 0, and `version` a state. */
typedef struct {
    shd_live *slots; /* a ring */
    uint64_t *ticks; /* when each was closed */
    size_t room;
    size_t most;
    size_t first;
    size_t count;
} idx_ended;

/* Notes one more, or the newest instead of the oldest; false without memory. */
bool idx_ended_note(idx_ended *ended, const shd_live *handle,
                    const shd_event *close);
/* (packed slots, packed u64) of all, the oldest first; with `left` those alone
 * that only the end of the interpreter closed. */
PyObject *idx_ended_packed(const idx_ended *ended, bool left);
void idx_ended_clear(idx_ended *ended);

/* --- stretches.c --- */

typedef struct {
    uint64_t first; /* seqs */
    uint64_t last;
    uint64_t least; /* serials */
    uint64_t greatest;
} idx_stretch;

typedef struct {
    idx_stretch *all;
    size_t count;
    size_t room;
    size_t in_last; /* events */
} idx_stretches;

bool idx_stretches_note(idx_stretches *stretches, const shd_event *event);
/* [(seq, seq), ...]: after the one and up to the other, and up to `until`,
 * there may be events of the handle. */
PyObject *idx_stretches_of(const idx_stretches *stretches, uint64_t serial,
                           uint64_t until);
void idx_stretches_clear(idx_stretches *stretches);

/* --- merge.c --- */

/* Calls `take` with each event of an iterable of (lower bound of the seqs,
 * packed events by seq), by seq; returns their number, -1 with an exception. */
typedef int (*idx_taker)(void *context, const shd_event *event);
Py_ssize_t idx_merge(PyObject *chunks, idx_taker take, void *context);

/* --- moments.c --- */

/* How all stood right after an event. */
typedef struct {
    uint64_t seq; /* of the last event before it */
    idx_open open;
    idx_places places; /* without its hash table */
} idx_moment;

typedef struct {
    idx_moment *moments; /* by seq */
    size_t count;
    size_t room;
    size_t bytes;     /* that only they hold */
    uint64_t spacing; /* events from one to the next, at least */
    uint64_t events;  /* since the last one */
} idx_moments;

/* Keeps a copy when it is time for one; false without memory. */
bool idx_moments_note(idx_moments *moments, const idx_open *open,
                      const idx_places *places, uint64_t seq);
/* An event came that is older than what was copied: what lacks it goes. */
void idx_moments_cut(idx_moments *moments, uint64_t seq);
/* The latest one at or before an event; NULL: there is none. */
const idx_moment *idx_moments_before(const idx_moments *moments, uint64_t seq);
/* Brings it back; false without memory. */
bool idx_moment_restore(const idx_moment *moment, idx_open *open,
                        idx_places *places);
void idx_moments_clear(idx_moments *moments);

/* --- taking.c --- */

#define IDX_ORPHANS 4096 /* closes whose acquire has not been seen yet */

/* All that is kept of the events that were taken in. */
typedef struct {
    uint64_t inherited;
    uint64_t newest_seq;
    uint64_t events;
    idx_open open;
    idx_places places;
    idx_moments moments;
    idx_ended ended;
    idx_stretches stretches;
    idx_asked asked;
    PyObject *question; /* NULL, or which closes are told beside */
    /* Closes without acquire, oldest first in the ring: of each slot `value`
     * is the seq, `refs` kind and ending, `last_stack` the stack. */
    idx_table orphans;
    uint64_t ring[IDX_ORPHANS];
    size_t ring_first;
    size_t ring_count;
    uint64_t *alarms; /* seqs of events that are findings by themselves */
    size_t alarm_count;
    size_t alarm_room;
    bool is_past; /* of some moment: it keeps none itself */
} idx_state;

/* Takes in chunks as idx_merge does; -1 with an exception.  `notable` is
 * called for the few events that matter; NULL: nobody wants to know. */
Py_ssize_t idx_state_take(idx_state *state, PyObject *chunks,
                          PyObject *notable);
/* Tells of all closes without acquire; -1 with an exception. */
int idx_state_settle(idx_state *state, PyObject *notable);
/* Forgets the open handles that are not in a set of serials. */
int idx_state_prune(idx_state *state, PyObject *live);
void idx_state_clear(idx_state *state);

/* --- slots.c: the Python type Slots --- */

/* Slots of handles, as they were at some moment; they never change. */
typedef struct {
    PyObject_HEAD
    idx_pack **packs;
    size_t count;   /* packs */
    uint64_t print; /* of the block that they were copied from */
} idx_slots;

extern PyType_Spec idx_slots_spec;
/* Some packs, shared; NULL with an exception. */
PyObject *idx_slots_new(PyTypeObject *type, idx_pack *const *packs,
                        size_t count);
/* Packed slots that Python has. */
PyObject *idx_slots_of(PyTypeObject *type, PyObject *bytes);
PyObject *idx_copied(PyObject *module, PyObject *args);
extern const char idx_copied_doc[];

/* --- handles.c: the Python type Handles --- */

/* What became of a handle, as far as its slot does not say it.  The lowest
 * byte is its life, then how it ended (shd_ending), then the number of what is
 * wrong with it (0: nothing), then the flags that a row shows. */
enum {
    IDX_OPEN,
    IDX_HELD,
    IDX_LEFT,
    IDX_OVER
};
#define IDX_STATE_ENDING 8
#define IDX_STATE_PROBLEM 16
#define IDX_STATE_FLAGS 24

typedef struct {
    const idx_pack *pack;
    const uint64_t *ticks; /* when each was closed; NULL: none was */
    uint32_t state;        /* of all, where `ticks` is NULL */
} idx_part;

/* The handles of one process that may be shown, at one moment.  It never
 * changes: a new moment is another one, which shares the parts that are still
 * the same. */
typedef struct {
    PyObject_HEAD
    PyObject *kept; /* what the parts are of */
    idx_part *parts;
    size_t count;
    size_t room;
    uint64_t inherited;
    uint64_t pid;
    uint64_t clock_ticks; /* when it was clock_ns */
    int64_t clock_ns;
    double ns_per_tick;
    int64_t until; /* ns: the end of the process, 0: it runs */
    idx_table problems;
} idx_handles;

/* What a column of handles can be. */
enum {
    IDX_NONE,
    IDX_STACK,
    IDX_TYPE,
    IDX_THREAD,
    IDX_TASK,
    IDX_TEST,
    IDX_DETAIL,
    IDX_STATE,
    IDX_NUMBER, /* the value, as far as 32 bits hold it */
    IDX_COLUMNS
};
enum {
    IDX_SERIAL,
    IDX_VALUE,
    IDX_REFS,
    IDX_AGE,
    IDX_BIRTH,
    IDX_PID,
    IDX_NUMBERS
};

/* One of them. */
typedef struct {
    const idx_handles *handles;
    const idx_part *part;
    uint32_t at; /* in its part */
} idx_handle;

static inline idx_handle
idx_handle_at(const idx_handles *handles, uint32_t place)
{
    return (idx_handle){handles, &handles->parts[place / IDX_PACK],
                        place % IDX_PACK};
}
static inline uint64_t
idx_handle_get(const idx_handle *handle, int column)
{
    return idx_pack_get(handle->part->pack, column, handle->at);
}
static inline uint64_t
idx_handle_serial(const idx_handle *handle)
{
    return idx_handle_get(handle, IDX_AT_SERIAL);
}
/* True for one that the process itself has to close. */
static inline bool
idx_handle_is_own(const idx_handle *handle)
{
    return idx_handle_serial(handle) > handle->handles->inherited
           && !(idx_handle_get(handle, IDX_AT_FLAGS) & SHD_FLAG_INHERITED)
           && !idx_bit(handle->part->pack->gone, handle->at);
}
shd_live idx_handle_slot(const idx_handle *handle);
uint32_t idx_handle_state(const idx_handle *handle);
int64_t idx_handle_ended(const idx_handle *handle); /* ns, 0: it did not */
uint32_t idx_handle_column(const idx_handle *handle, int column);
int64_t idx_handle_number(const idx_handle *handle, int number, int64_t now);

extern PyType_Spec idx_handles_spec;

/* --- question.c: the Python type Question --- */

extern PyType_Spec idx_question_spec;
/* What it answers about two ids; -1 with an exception. */
int64_t idx_question_told(PyObject *question, uint32_t first, uint32_t second);
/* The same about two columns of a handle. */
int64_t idx_question_answer(PyObject *question, const idx_handle *handle,
                            int first, int second);

/* --- tests.c: what a filter asks --- */

typedef struct idx_tests idx_tests;
/* Reads the tests of one process; NULL with an exception. */
idx_tests *idx_tests_read(PyObject *tests, PyTypeObject *question);
#define IDX_BATCH 1024
/* Gives those that pass a sign, of at most IDX_BATCH handles; `from` is the
 * place of the first among all.  False with an exception. */
bool idx_tests_pass(const idx_tests *tests, const idx_handle *handles,
                    size_t count, int64_t now, size_t from, uint8_t *passed);
void idx_tests_free(idx_tests *tests);

/* --- groups.c --- */

PyObject *idx_groups(PyObject *handles, const uint64_t *entries, size_t count,
                     PyObject *args);

/* --- order.c --- */

/* Writes the entries in the order of `keys`; 1: they stand in it already, 0,
 * -1 with an exception. */
int idx_order(PyObject *handles, const uint64_t *entries, size_t count,
              PyObject *keys, bool descending, int64_t now,
              PyTypeObject *question, uint64_t *ordered);

/* --- index.c, selection.c: the Python types Index and Selection --- */

extern PyType_Spec idx_index_spec;
extern PyType_Spec idx_selection_spec;

/* The types that need each other. */
typedef struct {
    PyTypeObject *slots;
    PyTypeObject *handles;
    PyTypeObject *question;
} idx_types;
idx_types *idx_types_of(PyTypeObject *type);

#endif
