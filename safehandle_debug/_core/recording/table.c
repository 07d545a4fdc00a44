/* The live table's memory: segments that double, never move and never shrink,
 * so that an entry's address is good for the life of the process. */
#include "table.h"

#include "here.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

#define FIRST_SEGMENT_BITS SHD_FIRST_SEGMENT_BITS
#define SEGMENTS SHD_SEGMENTS

shd_entry *_Atomic shd_table_segments[SHD_SEGMENTS];
_Atomic uint64_t shd_table_entries_set SHD_HOT_COUNT;
static _Atomic(void *)
    *_Atomic extras[SEGMENTS]; /* as `segments`; when needed */
static _Atomic uint32_t taken; /* slots ever taken */

/* First of the free slots, linked by `value`, below a count of changes: a
   slot that was taken and given back in between is not the one seen. */
static _Atomic uint64_t free_head;

static int
locate(uint32_t slot, uint32_t *offset)
{
    uint32_t position = slot - 1 + (1u << FIRST_SEGMENT_BITS);
    int top = 31 - __builtin_clz(position);
    *offset = position - (1u << top);
    return top - FIRST_SEGMENT_BITS;
}

static void *
map_memory(size_t size)
{
    int error = errno;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    errno = error;
    return memory == MAP_FAILED ? NULL : memory;
}

shd_entry *
shd_table_entry(uint32_t slot)
{
    if (slot == 0
        || slot > atomic_load_explicit(&taken, memory_order_acquire)) {
        return NULL;
    }
    return shd_table_taken_entry(slot);
}

static uint32_t
take_free(void)
{
    uint64_t head = atomic_load_explicit(&free_head, memory_order_acquire);
    while ((uint32_t)head) {
        shd_entry *entry = shd_table_entry((uint32_t)head);
        uint64_t next = (head & UINT64_C(0xffffffff00000000))
                        | (uint32_t)atomic_load_explicit(&entry->value,
                                                         memory_order_relaxed);
        if (shd_swap(&free_head, &head, next + (UINT64_C(1) << 32))) {
            return (uint32_t)head;
        }
    }
    return 0;
}

uint32_t
shd_table_take(void)
{
    uint32_t slot = take_free();
    if (slot) {
        return slot;
    }
    uint32_t count = atomic_load_explicit(&taken, memory_order_acquire);
    for (;;) {
        uint32_t offset;
        int segment = locate(count + 1, &offset);
        if (segment >= SEGMENTS) {
            return 0;
        }
        if (atomic_load_explicit(&shd_table_segments[segment],
                                 memory_order_acquire)
            == NULL) {
            size_t size = sizeof(shd_entry) << (FIRST_SEGMENT_BITS + segment);
            shd_entry *none = NULL, *made = map_memory(size);
            if (made == NULL) {
                return 0;
            }
            if (!atomic_compare_exchange_strong(&shd_table_segments[segment],
                                                &none, made)) {
                munmap(made, size);
            }
        }
        if (atomic_compare_exchange_weak_explicit(&taken, &count, count + 1,
                                                  memory_order_acq_rel,
                                                  memory_order_acquire)) {
            return count + 1;
        }
    }
}

void
shd_table_give(uint32_t slot)
{
    shd_entry *entry = shd_table_entry(slot);
    uint64_t head = atomic_load_explicit(&free_head, memory_order_relaxed);
    uint64_t next;
    do {
        atomic_store_explicit(&entry->value, (int64_t)(uint32_t)head,
                              memory_order_relaxed);
        next = ((head >> 32) + 1) << 32 | slot;
    } while (!shd_swap(&free_head, &head, next));
}

void
shd_table_set(uint32_t slot, int64_t value, uint64_t meta)
{
    shd_entry *entry = shd_table_entry(slot);
    atomic_store_explicit(&entry->value, value, memory_order_relaxed);
    atomic_store_explicit(&entry->meta, meta, memory_order_release);
    shd_add(&shd_table_entries_set, 1);
}

/* Where the slot's extra is kept; NULL when its segment was never needed. */
static _Atomic(void *) *
extra_of(uint32_t slot)
{
    uint32_t offset;
    int segment = locate(slot, &offset);
    _Atomic(void *) *kept =
        atomic_load_explicit(&extras[segment], memory_order_acquire);
    return kept == NULL ? NULL : kept + offset;
}

int
shd_table_set_extra(uint32_t slot, void *extra)
{
    uint32_t offset;
    int segment = locate(slot, &offset);
    if (extra_of(slot) == NULL) {
        size_t size = sizeof(void *) << (FIRST_SEGMENT_BITS + segment);
        _Atomic(void *) *none = NULL, *made = map_memory(size);
        if (made == NULL) {
            return -1;
        }
        if (!atomic_compare_exchange_strong(&extras[segment], &none, made)) {
            munmap((void *)made, size);
        }
    }
    atomic_store(extra_of(slot), extra);
    return 0;
}

void *
shd_table_extra(uint32_t slot)
{
    _Atomic(void *) *place = slot == 0 ? NULL : extra_of(slot);
    return place == NULL ? NULL : atomic_load(place);
}

void *
shd_table_take_extra(uint32_t slot)
{
    _Atomic(void *) *place = slot == 0 ? NULL : extra_of(slot);
    return place == NULL || atomic_load(place) == NULL
               ? NULL
               : atomic_exchange(place, NULL);
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
    if (!shd_swap(&entry->meta, &meta, 0)) {
        return 0;
    }
    shd_add(&shd_table_entries_set, (uint64_t)-1);
    return 1;
}

uint32_t
shd_table_size(void)
{
    return atomic_load_explicit(&taken, memory_order_acquire);
}
