/* Slots by serial: open addressing, linear probing, and no tombstones,
 * because a long run closes as many handles as it opens. */
#include "index.h"

#define LEAST_ROOM 256

static size_t
home(const idx_table *table, uint64_t serial)
{
    /* Scattered: what leaked in a row would else be one long run to probe. */
    return (size_t)(serial * 0x9E3779B97F4A7C15u >> 32) & (table->room - 1);
}

shd_live *
idx_table_find(const idx_table *table, uint64_t serial)
{
    if (table->used == 0 || serial == 0) {
        return NULL;
    }
    for (size_t at = home(table, serial);; at = (at + 1) & (table->room - 1)) {
        shd_live *slot = &table->slots[at];
        if (slot->serial == serial) {
            return slot;
        }
        if (slot->serial == 0) {
            return NULL;
        }
    }
}

static shd_live *
free_slot(idx_table *table, uint64_t serial)
{
    size_t at = home(table, serial);
    while (table->slots[at].serial != 0) {
        at = (at + 1) & (table->room - 1);
    }
    return &table->slots[at];
}

static bool
grow(idx_table *table)
{
    idx_table grown = {.room = table->room ? table->room * 2 : LEAST_ROOM,
                       .used = table->used};
    grown.slots = calloc(grown.room, sizeof(shd_live));
    if (grown.slots == NULL) {
        return false;
    }
    for (size_t at = 0; at < table->room; at++) {
        if (table->slots[at].serial != 0) {
            *free_slot(&grown, table->slots[at].serial) = table->slots[at];
        }
    }
    free(table->slots);
    *table = grown;
    return true;
}

shd_live *
idx_table_add(idx_table *table, uint64_t serial)
{
    if (table->used * 2 >= table->room && !grow(table)) {
        return NULL;
    }
    shd_live *slot = free_slot(table, serial);
    slot->serial = serial;
    table->used++;
    return slot;
}

void
idx_table_remove(idx_table *table, shd_live *slot)
{
    size_t mask = table->room - 1;
    size_t hole = (size_t)(slot - table->slots);
    size_t at = hole;
    for (;;) {
        at = (at + 1) & mask;
        if (table->slots[at].serial == 0) {
            break;
        }
        /* It may move into the hole unless its home lies behind that. */
        size_t from = home(table, table->slots[at].serial);
        if (((at - from) & mask) >= ((at - hole) & mask)) {
            table->slots[hole] = table->slots[at];
            hole = at;
        }
    }
    table->slots[hole].serial = 0;
    table->used--;
}

void
idx_table_clear(idx_table *table)
{
    free(table->slots);
    *table = (idx_table){0};
}
