/* The live table's memory: segments that double, never move and never shrink,
 * so that an entry's address is good for the life of the process. */
#include "table.h"

#include <stddef.h>
#include <sys/mman.h>

#define FIRST_SEGMENT_BITS 8
#define SEGMENTS 22

/* Segment k holds 2^(8+k) entries. */
static shd_entry *segments[SEGMENTS];
static void **extras[SEGMENTS]; /* as `segments`; made when first needed */
static uint32_t taken;          /* slots ever taken */
static uint32_t free_head; /* first of the free slots, linked by `value` */
static _Atomic uint64_t live;

static int
locate(uint32_t slot, uint32_t *offset)
{
    uint32_t position = slot - 1 + (1u << FIRST_SEGMENT_BITS);
    int top = 31 - __builtin_clz(position);
    *offset = position - (1u << top);
    return top - FIRST_SEGMENT_BITS;
}

shd_entry *
shd_table_entry(uint32_t slot)
{
    if (slot == 0 || slot > taken) {
        return NULL;
    }
    uint32_t offset;
    int segment = locate(slot, &offset);
    return &segments[segment][offset];
}

uint32_t
shd_table_take(void)
{
    if (free_head) {
        uint32_t slot = free_head;
        free_head = (uint32_t)shd_table_entry(slot)->value;
        return slot;
    }
    uint32_t offset;
    int segment = locate(taken + 1, &offset);
    if (segment >= SEGMENTS) {
        return 0;
    }
    if (segments[segment] == NULL) {
        size_t size = sizeof(shd_entry) << (FIRST_SEGMENT_BITS + segment);
        void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) {
            return 0;
        }
        segments[segment] = memory;
    }
    return ++taken;
}

void
shd_table_give(uint32_t slot)
{
    shd_entry *entry = shd_table_entry(slot);
    entry->value = free_head;
    free_head = slot;
}

void
shd_table_set(uint32_t slot, int64_t value, uint64_t meta)
{
    shd_entry *entry = shd_table_entry(slot);
    entry->value = value;
    atomic_store_explicit(&entry->meta, meta, memory_order_release);
    atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
}

/* Where the slot's extra is kept; NULL when its segment was never needed. */
static void **
extra_of(uint32_t slot)
{
    uint32_t offset;
    int segment = locate(slot, &offset);
    return extras[segment] == NULL ? NULL : &extras[segment][offset];
}

int
shd_table_set_extra(uint32_t slot, void *extra)
{
    uint32_t offset;
    int segment = locate(slot, &offset);
    if (extras[segment] == NULL) {
        size_t size = sizeof(void *) << (FIRST_SEGMENT_BITS + segment);
        void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) {
            return -1;
        }
        extras[segment] = memory;
    }
    extras[segment][offset] = extra;
    return 0;
}

void *
shd_table_extra(uint32_t slot)
{
    void **extra = slot == 0 ? NULL : extra_of(slot);
    return extra == NULL ? NULL : *extra;
}

void *
shd_table_take_extra(uint32_t slot)
{
    void **place = slot == 0 ? NULL : extra_of(slot);
    if (place == NULL) {
        return NULL;
    }
    void *extra = *place;
    *place = NULL;
    return extra;
}

int
shd_table_claim(uint32_t slot, uint64_t serial)
{
    shd_entry *entry = shd_table_entry(slot);
    if (entry == NULL) {
        return 0;
    }
    uint64_t meta = atomic_load_explicit(&entry->meta, memory_order_acquire);
    if (meta == 0 || shd_table_serial(meta) != serial) {
        return 0;
    }
    if (!atomic_compare_exchange_strong(&entry->meta, &meta, 0)) {
        return 0;
    }
    atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    return 1;
}

uint32_t
shd_table_size(void)
{
    return taken;
}

uint64_t
shd_table_live(void)
{
    return atomic_load_explicit(&live, memory_order_relaxed);
}
