/* Slots packed by column: what a reader keeps of each handle.
 *
 * Handles that were acquired one after the other are much alike.  Of each
 * column of a pack the least number is kept once, and of each slot only how
 * much more it has, in as many bytes as that needs; often in none. */
#ifndef SHD_INDEX_PACKS_H
#define SHD_INDEX_PACKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "recording/format.h"

#define IDX_PACK 256 /* slots at most */

/* Among a slot's flags: a close was asked for. */
#define IDX_DISPOSED (1u << 31)

enum {
    IDX_AT_SERIAL,
    IDX_AT_TICKS,
    IDX_AT_VALUE,
    IDX_AT_STACK,
    IDX_AT_THREAD,
    IDX_AT_TASK,
    IDX_AT_TEST,
    IDX_AT_DETAIL,
    IDX_AT_FLAGS,
    IDX_AT_VERSION,
    IDX_FACTS, /* from here on what may change while a handle is open */
    IDX_AT_TYPE = IDX_FACTS,
    IDX_AT_REFS,
    IDX_AT_LAST_STACK,
    IDX_PACKED
};

/* What several packs may have in common.  A pack knows of the first slots
 * only; more may be appended by whoever knows all of them. */
typedef struct {
    uint32_t users;
    uint32_t count; /* slots */
    size_t size;    /* bytes of them */
    uint8_t data[] __attribute__((aligned(8)));
} idx_blob;

typedef struct {
    uint64_t base;
    const uint8_t *data;
    uint8_t width; /* bytes a slot: 0, 1, 2, 4 or 8 */
} idx_column;

typedef struct {
    uint32_t users;
    uint16_t count; /* slots, those that are gone among them */
    uint16_t gone_count;
    uint16_t room;    /* of slots that can change: how many there may be */
    bool is_wide;     /* slots can be put in */
    idx_blob *facts;  /* columns that stay */
    uint8_t *changes; /* columns that change; NULL: they are among the facts */
    idx_column columns[IDX_PACKED];
    uint64_t gone[IDX_PACK / 64];
    uint64_t disposed[IDX_PACK / 64];
} idx_pack;

static inline uint64_t
idx_pack_get(const idx_pack *pack, int column, uint32_t at)
{
    const idx_column *read = &pack->columns[column];
    uint16_t two;
    uint32_t four;
    uint64_t eight;
    switch (read->width) {
    case 0:
        return read->base;
    case 1:
        return read->base + read->data[at];
    case 2:
        memcpy(&two, read->data + (size_t)at * 2, 2);
        return read->base + two;
    case 4:
        memcpy(&four, read->data + (size_t)at * 4, 4);
        return read->base + four;
    default:
        memcpy(&eight, read->data + (size_t)at * 8, 8);
        return read->base + eight;
    }
}

static inline bool
idx_bit(const uint64_t *bits, uint32_t at)
{
    return bits[at / 64] >> at % 64 & 1;
}

static inline void
idx_set_bit(uint64_t *bits, uint32_t at, bool on)
{
    uint64_t bit = 1ull << at % 64;
    bits[at / 64] = on ? bits[at / 64] | bit : bits[at / 64] & ~bit;
}

/* NULL and false mean that there is no memory. */

/* A pack of some slots, those with serial 0 too, that never changes. */
idx_pack *idx_pack_new(const shd_live *slots, size_t count);
/* One of which the handles are open: they may change and go.  Their `version`
 * is not kept. */
idx_pack *idx_pack_open(const shd_live *slots, size_t count);
/* The same, and more may be put in. */
idx_pack *idx_pack_wide(const shd_live *slots, size_t count);
/* Makes an open pack one that nobody else sees. */
bool idx_pack_own(idx_pack **pack);
/* True when a slot can be put there. */
bool idx_pack_takes(const idx_pack *pack, uint32_t at);
void idx_pack_put(idx_pack *pack, uint32_t at, const shd_live *slot);
void idx_pack_change(idx_pack *pack, int column, uint32_t at, uint32_t value);
void idx_pack_dispose(idx_pack *pack, uint32_t at);
shd_live idx_pack_slot(const idx_pack *pack, uint32_t at);
/* The slots that are not gone; returns their number. */
size_t idx_pack_slots(const idx_pack *pack, shd_live *slots);
void idx_pack_leave(idx_pack *pack);
/* About what it takes. */
size_t idx_pack_bytes(const idx_pack *pack);

static inline idx_pack *
idx_pack_share(idx_pack *pack)
{
    pack->users++;
    return pack;
}

#endif
