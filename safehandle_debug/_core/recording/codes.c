/* Code objects: which id each address has, without a lock and without a
 * reference.
 *
 * An address is good for as long as its code object lives: a frame that is
 * being walked holds its own.  The death of one that is known here clears its
 * id, in every table, before its memory can become another's.  Deaths are
 * learned where they happen, in the type's deallocator: the interpreter's code
 * watchers came with 3.12, are eight, and have to be had in every interpreter
 * anew. */
#include "depot.h"

#include "recorder.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

#define FIRST_PLACES 1024

typedef struct {
    _Atomic uintptr_t code; /* 0: free; stays once it is set */
    _Atomic uint64_t word;  /* epoch << 32 | id, 0: not known */
} place;

typedef struct table {
    struct table *older;
    uint32_t mask;
    _Atomic uint32_t used;
    place places[];
} table;

static _Atomic(table *) newest;
static destructor original;

_Atomic uint64_t shd_depot_deaths SHD_HOT;

static uint32_t
hash_of(uintptr_t code)
{
    return (uint32_t)((code >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 32);
}

/* The code's place, or the free one where it would be. */
static inline place *
look(table *at, uintptr_t code)
{
    uint32_t number = hash_of(code) & at->mask;
    for (;; number = (number + 1) & at->mask) {
        uintptr_t found = atomic_load_explicit(&at->places[number].code,
                                               memory_order_acquire);
        if (found == code || found == 0) {
            return &at->places[number];
        }
    }
}

static void
code_dies(PyObject *code)
{
    for (table *at = atomic_load(&newest); at != NULL; at = at->older) {
        place *known = look(at, (uintptr_t)code);
        if (atomic_load(&known->code) == (uintptr_t)code
            && atomic_exchange(&known->word, 0)) {
            atomic_fetch_add(&shd_depot_deaths, 1);
        }
    }
    original(code);
}

void
shd_depot_watch_codes(void)
{
    if (original == NULL) {
        original = PyCode_Type.tp_dealloc;
        PyCode_Type.tp_dealloc = code_dies;
    }
}

/* Remembers the id; 0 when memory is out. */
static int
keep(uintptr_t code, uint64_t word)
{
    table *at = atomic_load_explicit(&newest, memory_order_acquire);
    if (at == NULL
        || atomic_load_explicit(&at->used, memory_order_relaxed) * 2
               >= at->mask) {
        uint32_t places = at == NULL ? FIRST_PLACES : (at->mask + 1) * 2;
        size_t size = sizeof(table) + (size_t)places * sizeof(place);
        int error = errno;
        table *made = mmap(NULL, size, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        errno = error;
        if (made == MAP_FAILED) {
            return 0;
        }
        made->older = at;
        made->mask = places - 1;
        if (atomic_compare_exchange_strong(&newest, &at, made)) {
            at = made;
        }
        else {
            munmap(made, size);
        }
    }
    for (;;) {
        place *own = look(at, code);
        uintptr_t there = atomic_load(&own->code);
        if (there == 0) {
            if (!atomic_compare_exchange_strong(&own->code, &there, code)) {
                continue;
            }
            atomic_fetch_add_explicit(&at->used, 1, memory_order_relaxed);
        }
        atomic_store_explicit(&own->word, word, memory_order_release);
        return 1;
    }
}

static uint32_t
describe(PyCodeObject *code)
{
    PyObject *lines = code->co_linetable;
    shd_code record = {
        shd_depot_text(code->co_filename),
        shd_depot_text(code->co_qualname),
        code->co_firstlineno,
        (uint32_t)PyBytes_GET_SIZE(lines),
    };
    const uint32_t most = SHD_BLOCK_SIZE - SHD_BLOCK_HEAD_SIZE
                          - sizeof(shd_data_head) - sizeof(record);
    if (record.linetable_size > most) {
        record.linetable_size = most;
    }
    return shd_recorder_data(SHD_DATA_CODE, &record, sizeof(record),
                             PyBytes_AS_STRING(lines), record.linetable_size);
}

uint32_t
shd_depot_code(PyCodeObject *code)
{
    table *first = atomic_load_explicit(&newest, memory_order_acquire);
    for (table *at = first; at != NULL; at = at->older) {
        place *known = look(at, (uintptr_t)code);
        uint64_t word =
            atomic_load_explicit(&known->word, memory_order_acquire);
        if (atomic_load_explicit(&known->code, memory_order_relaxed)
                == (uintptr_t)code
            && (uint32_t)(word >> 32) == shd_rec.epoch && (uint32_t)word) {
            if (at != first) {
                (void)keep((uintptr_t)code, word);
            }
            return (uint32_t)word;
        }
    }
    uint32_t id = describe(code);
    /* The death of a code object that is not kept here would go unseen. */
    return id && keep((uintptr_t)code, (uint64_t)shd_rec.epoch << 32 | id) ? id
                                                                           : 0;
}
