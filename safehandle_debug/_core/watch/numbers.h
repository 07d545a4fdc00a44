/* Who has which number: one cache line a descriptor number.
 *
 * The state is one word, changed by compare-and-swap.  Who moves a number from
 * OPEN to CLOSING has it alone until it is CLOSED or PARKED; who got it from
 * the kernel has it alone until it is OPEN.  The other fields belong to
 * whoever has the number. */
#ifndef SHD_NUMBERS_H
#define SHD_NUMBERS_H

#include "recording/table.h"
#include "watch.h"

enum shd_number_state {
    SHD_NUMBER_UNKNOWN, /* never seen */
    SHD_NUMBER_OPEN,
    SHD_NUMBER_CLOSING, /* between the two */
    SHD_NUMBER_PARKED,  /* closed; kept from being reused */
    SHD_NUMBER_CLOSED,  /* closed; free, as far as we know */
    SHD_NUMBER_OURS,    /* the quarantine's own descriptor */
};

/*  63 .. 56   55 .. 52   51 .. 48   47 .. 44   43 .. 0
 * +---------+----------+----------+----------+--------+
 * | flags   | kind     | owner    | state    | serial |
 * +---------+----------+----------+----------+--------+ */
#define SHD_STATE_SHIFT SHD_SERIAL_BITS
#define SHD_OWNER_SHIFT 48
#define SHD_KIND_SHIFT 52
#define SHD_WORD_SECOND (UINT64_C(1) << 56) /* a second owner took it */
#define SHD_WORD_SHUT (UINT64_C(1) << 57)   /* shutdown(2) was called */
#define SHD_WORD_BARE (UINT64_C(1) << 58)   /* counted, without an event */
#define SHD_WORD_LATE (UINT64_C(1) << 59)   /* found at a checkpoint */

#define SHD_WORD_LOOSE (UINT64_C(1) << 60)  /* its owner let go of it */
#define SHD_WORD_LOCKED (UINT64_C(1) << 61) /* it holds a lock on its file */
#define SHD_WORD_HIT (UINT64_C(1) << 62)    /* closed by who had another */

/* Where a second owner took the number: told only if both keep it. */
typedef struct {
    uint32_t stack, thread, task, test;
} shd_number_place;

typedef struct {
    _Atomic uint64_t word;
    _Atomic uintptr_t object; /* the owner, if it is a Python object */
    uintptr_t second;         /* the second owner */
    int32_t natural;          /* number without the quarantine, -1: unknown */
    uint32_t slot;            /* its handle's in the live table, 0: none */
    uint32_t detail;          /* STRING id ... */
    uint32_t epoch;           /* ... in the file of this epoch */
    shd_number_place adopted;
    uint32_t kept;            /* slot for its handles without an object */
    _Atomic uint16_t waiters; /* threads inside a call that may block */
    uint16_t round;           /* of the checkpoint that saw it last */
} shd_number;

_Static_assert(sizeof(void *) != 8 || sizeof(shd_number) == 64,
               "a number costs a cache line");

static inline uint64_t
shd_word(uint64_t serial, int state, int owner, int kind)
{
    return serial | (uint64_t)state << SHD_STATE_SHIFT
           | (uint64_t)owner << SHD_OWNER_SHIFT
           | (uint64_t)kind << SHD_KIND_SHIFT;
}

static inline uint64_t
shd_word_serial(uint64_t word)
{
    return word & SHD_SERIAL_MASK;
}

static inline int
shd_word_state(uint64_t word)
{
    return (int)(word >> SHD_STATE_SHIFT) & 15;
}

static inline int
shd_word_owner(uint64_t word)
{
    return (int)(word >> SHD_OWNER_SHIFT) & 15;
}

static inline int
shd_word_kind(uint64_t word)
{
    return (int)(word >> SHD_KIND_SHIFT) & 15;
}

static inline uint64_t
shd_word_with_state(uint64_t word, int state)
{
    return (word & ~(UINT64_C(15) << SHD_STATE_SHIFT))
           | (uint64_t)state << SHD_STATE_SHIFT;
}

static inline uint64_t
shd_word_with_owner(uint64_t word, int owner)
{
    return (word & ~(UINT64_C(15) << SHD_OWNER_SHIFT))
           | (uint64_t)owner << SHD_OWNER_SHIFT;
}

#define SHD_NUMBER_PAGE_BITS 9
#define SHD_NUMBER_PAGES 2048 /* 2^20 numbers: the kernel's usual bound */
extern _Atomic(shd_number *) shd_number_pages[SHD_NUMBER_PAGES];

/* Its record, or NULL: below 0, too large, never seen.  */
static inline shd_number *
shd_number_find(int fd)
{
    unsigned int number = (unsigned int)fd;
    if (number >= (unsigned int)SHD_NUMBER_PAGES << SHD_NUMBER_PAGE_BITS) {
        return NULL;
    }
    shd_number *page =
        atomic_load_explicit(&shd_number_pages[number >> SHD_NUMBER_PAGE_BITS],
                             memory_order_acquire);
    return page == NULL ? NULL
                        : &page[number & ((1u << SHD_NUMBER_PAGE_BITS) - 1)];
}

extern _Atomic int shd_number_end;

/* One more than the highest number that has a record. */
static inline int
shd_numbers_end(void)
{
    return atomic_load_explicit(&shd_number_end, memory_order_acquire);
}

/* Makes the record if need be; NULL when memory is out or fd too large. */
shd_number *shd_number_make_new(int fd);
static inline shd_number *
shd_number_make(int fd)
{
    shd_number *number = shd_number_find(fd);
    return number != NULL
                   && atomic_load_explicit(&number->word, memory_order_relaxed)
                          != 0
               ? number
               : shd_number_make_new(fd);
}

#endif
