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

#include <stdatomic.h>
#include <stdint.h>

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
uint64_t shd_table_live(void);

#endif
