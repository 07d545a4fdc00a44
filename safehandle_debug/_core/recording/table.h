/* The live table: one entry for every handle that has to be given back.
 *
 * It is private memory, outside any object and any interpreter, so that the
 * last hooks of a process can still release what nobody released.  An entry is
 * claimed by one compare-and-swap: whoever claims it releases, nobody else.
 *
 * Everything here may be called from any thread, with or without the GIL;
 * nothing takes a lock. */
#ifndef SHD_TABLE_H
#define SHD_TABLE_H

#include "atomics.h"

/*  63      62 .. 50    49 .. 44   43 .. 0
 * +-------+-----------+----------+--------+
 * | spare | interp    | kind     | serial |   0: the entry is free
 * +-------+-----------+----------+--------+ */
#define SHD_SERIAL_BITS 44
#define SHD_SERIAL_MASK ((UINT64_C(1) << SHD_SERIAL_BITS) - 1)
#define SHD_KIND_BITS 6
#define SHD_INTERP_MASK 0x1fff

typedef struct {
    _Atomic int64_t value; /* raw value; of Python kinds the object's address,
                              purged before its interpreter's memory goes; of
                              a free slot the next free one */
    _Atomic uint64_t meta; /* see above; written last when an entry is made */
} shd_entry;

static inline uint64_t
shd_table_meta(uint64_t serial, int kind, int64_t interp)
{
    return serial | ((uint64_t)kind << SHD_SERIAL_BITS)
           | ((uint64_t)(interp & SHD_INTERP_MASK)
              << (SHD_SERIAL_BITS + SHD_KIND_BITS));
}

static inline uint64_t
shd_table_serial(uint64_t meta)
{
    return meta & SHD_SERIAL_MASK;
}

static inline int
shd_table_kind(uint64_t meta)
{
    return (int)(meta >> SHD_SERIAL_BITS) & ((1 << SHD_KIND_BITS) - 1);
}

static inline int64_t
shd_table_interp(uint64_t meta)
{
    return (int64_t)(meta >> (SHD_SERIAL_BITS + SHD_KIND_BITS))
           & SHD_INTERP_MASK;
}

/* Takes a free slot for a later shd_table_set(); 0 when memory is out.  Slots
 * count from 1. */
uint32_t shd_table_take(void);

/* Gives back a slot that was taken and never set, or whose entry was
 * claimed. */
void shd_table_give(uint32_t slot);

void shd_table_set(uint32_t slot, int64_t value, uint64_t meta);

/* NULL when the slot was never taken. */
shd_entry *shd_table_entry(uint32_t slot);

/* Segment k holds 2^(8+k) entries. */
#define SHD_FIRST_SEGMENT_BITS 8
#define SHD_SEGMENTS 22
extern shd_entry *_Atomic shd_table_segments[SHD_SEGMENTS];
extern _Atomic uint64_t shd_table_entries_set;

/* Of a slot that was taken. */
static inline shd_entry *
shd_table_taken_entry(uint32_t slot)
{
    uint32_t position = slot - 1 + (1u << SHD_FIRST_SEGMENT_BITS);
    int top = 31 - __builtin_clz(position);
    return atomic_load_explicit(
               &shd_table_segments[top - SHD_FIRST_SEGMENT_BITS],
               memory_order_acquire)
           + (position - (1u << top));
}

/* shd_table_set(), and shd_table_claim() without giving the slot back, by
 * whoever has it alone: one slot may serve one handle after the other.  What
 * is left of a handle from before a fork is written over. */
static inline void
shd_table_fill(uint32_t slot, int64_t value, uint64_t meta)
{
    shd_entry *entry = shd_table_taken_entry(slot);
    int was_set =
        atomic_load_explicit(&entry->meta, memory_order_relaxed) != 0;
    atomic_store_explicit(&entry->value, value, memory_order_relaxed);
    atomic_store_explicit(&entry->meta, meta, memory_order_release);
    if (!was_set) {
        shd_add(&shd_table_entries_set, 1);
    }
}

static inline void
shd_table_clear(uint32_t slot, uint64_t serial)
{
    shd_entry *entry = shd_table_taken_entry(slot);
    if (shd_table_serial(
            atomic_load_explicit(&entry->meta, memory_order_relaxed))
        == serial) {
        atomic_store_explicit(&entry->meta, 0, memory_order_release);
        shd_add(&shd_table_entries_set, (uint64_t)-1);
    }
}

/* What an entry's release needs beyond the value (a path, a length): set
 * before shd_table_set() or while the handle is open.  Whoever claims the entry
 * takes it and owns it then.  -1 when memory is out. */
int shd_table_set_extra(uint32_t slot, void *extra);
void *shd_table_extra(uint32_t slot);
void *shd_table_take_extra(uint32_t slot);

/* 1 for the one caller who may release what the entry names. */
int shd_table_claim(uint32_t slot, uint64_t serial);

/* Highest slot ever taken. */
uint32_t shd_table_size(void);

/* Number of entries set. */
static inline uint64_t
shd_table_live(void)
{
    return atomic_load_explicit(&shd_table_entries_set, memory_order_relaxed);
}

#endif
