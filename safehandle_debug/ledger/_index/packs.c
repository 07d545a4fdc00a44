/* Slots packed by column. */
#include "packs.h"

#include <stdlib.h>

/* In the order of the columns. */
static inline uint64_t
field(const shd_live *slot, int column)
{
    switch (column) {
    case IDX_AT_SERIAL:
        return slot->serial;
    case IDX_AT_TICKS:
        return slot->ticks;
    case IDX_AT_VALUE:
        return (uint64_t)slot->value;
    case IDX_AT_STACK:
        return slot->stack;
    case IDX_AT_THREAD:
        return slot->thread;
    case IDX_AT_TASK:
        return slot->task;
    case IDX_AT_TEST:
        return slot->test;
    case IDX_AT_DETAIL:
        return slot->detail;
    case IDX_AT_FLAGS:
        return slot->flags & ~IDX_DISPOSED;
    case IDX_AT_VERSION:
        return slot->version;
    case IDX_AT_TYPE:
        return slot->type;
    case IDX_AT_REFS:
        return slot->refs;
    default:
        return slot->last_stack;
    }
}

static void
leave_blob(idx_blob *blob)
{
    if (blob != NULL && --blob->users == 0) {
        free(blob);
    }
}

static idx_pack *
new_pack(size_t count, size_t facts, size_t changes)
{
    idx_pack *pack = calloc(1, sizeof(*pack));
    idx_blob *blob = malloc(sizeof(*blob) + facts);
    uint8_t *changing = changes ? malloc(changes) : NULL;
    if (pack == NULL || blob == NULL || (changes && changing == NULL)) {
        free(pack);
        free(blob);
        free(changing);
        return NULL;
    }
    blob->users = 1;
    blob->count = (uint32_t)count;
    blob->size = facts;
    pack->users = 1;
    pack->count = (uint16_t)count;
    pack->facts = blob;
    pack->changes = changing;
    return pack;
}

static void
store(uint8_t *to, int width, size_t at, uint64_t number)
{
    uint16_t two = (uint16_t)number;
    uint32_t four = (uint32_t)number;
    switch (width) {
    case 0:
        break;
    case 1:
        to[at] = (uint8_t)number;
        break;
    case 2:
        memcpy(to + at * 2, &two, 2);
        break;
    case 4:
        memcpy(to + at * 4, &four, 4);
        break;
    default:
        memcpy(to + at * 8, &number, 8);
    }
}

static uint8_t
width_of(uint64_t most)
{
    if (most <= UINT8_MAX) {
        return most ? 1 : 0;
    }
    return most <= UINT16_MAX ? 2 : most <= UINT32_MAX ? 4 : 8;
}

/* Writes a column as narrow as can be; returns the bytes that it takes. */
static size_t
narrow(idx_column *column, int number, const shd_live *slots, size_t count,
       uint8_t *to)
{
    uint64_t read[IDX_PACK];
    uint64_t flip = number == IDX_AT_VALUE ? 1ull << 63 : 0;
    uint64_t least = UINT64_MAX, most = 0;
    for (size_t at = 0; at < count; at++) {
        read[at] = field(&slots[at], number) ^ flip;
        least = read[at] < least ? read[at] : least;
        most = read[at] > most ? read[at] : most;
    }
    column->width = count ? width_of(most - least) : 0;
    column->base = count ? least ^ flip : 0;
    for (size_t at = 0; column->width && at < count; at++) {
        store(to, column->width, at, read[at] - least);
    }
    return (column->width * count + 7) / 8 * 8;
}

/* Columns that change are four bytes wide, one after the other. */
static void
place_changes(idx_pack *pack, size_t room)
{
    pack->room = (uint16_t)room;
    for (int column = IDX_FACTS; column < IDX_PACKED; column++) {
        pack->columns[column] = (idx_column){
            .data = pack->changes + (size_t)(column - IDX_FACTS) * room * 4,
            .width = 4};
    }
}

static size_t
changes_size(size_t room)
{
    return (IDX_PACKED - IDX_FACTS) * room * 4;
}

static void
write_changes(idx_pack *pack, const shd_live *slots, size_t count)
{
    for (size_t at = 0; at < count; at++) {
        for (int column = IDX_FACTS; column < IDX_PACKED; column++) {
            idx_pack_change(pack, column, (uint32_t)at,
                            (uint32_t)field(&slots[at], column));
        }
        idx_set_bit(pack->disposed, (uint32_t)at,
                    slots[at].flags & IDX_DISPOSED);
    }
}

static idx_pack *
packed(const shd_live *slots, size_t count, bool is_open)
{
    idx_column columns[IDX_PACKED] = {0};
    uint8_t data[IDX_PACKED * IDX_PACK * 8];
    size_t starts[IDX_PACKED], used = 0;
    int last = is_open ? IDX_AT_VERSION : IDX_PACKED;
    for (int column = 0; column < last; column++) {
        starts[column] = used;
        used += narrow(&columns[column], column, slots, count, data + used);
    }
    idx_pack *pack =
        new_pack(count, used, is_open ? changes_size(count) + 1 : 0);
    if (pack == NULL) {
        return NULL;
    }
    memcpy(pack->facts->data, data, used);
    for (int column = 0; column < last; column++) {
        pack->columns[column] = columns[column];
        pack->columns[column].data = pack->facts->data + starts[column];
    }
    if (is_open) {
        place_changes(pack, count);
        write_changes(pack, slots, count);
    }
    return pack;
}

idx_pack *
idx_pack_new(const shd_live *slots, size_t count)
{
    return packed(slots, count, false);
}

idx_pack *
idx_pack_open(const shd_live *slots, size_t count)
{
    return packed(slots, count, true);
}

static int
wide_width(int column)
{
    return column <= IDX_AT_VALUE ? 8 : column < IDX_AT_VERSION ? 4 : 0;
}

idx_pack *
idx_pack_wide(const shd_live *slots, size_t count)
{
    size_t size = 0;
    for (int column = 0; column < IDX_FACTS; column++) {
        size += (size_t)wide_width(column) * IDX_PACK;
    }
    idx_pack *pack = new_pack(0, size, changes_size(IDX_PACK));
    if (pack == NULL) {
        return NULL;
    }
    size_t start = 0;
    for (int column = 0; column < IDX_FACTS; column++) {
        int width = wide_width(column);
        pack->columns[column] = (idx_column){.data = pack->facts->data + start,
                                             .width = (uint8_t)width};
        start += (size_t)width * IDX_PACK;
    }
    place_changes(pack, IDX_PACK);
    pack->is_wide = true;
    for (size_t at = 0; at < count; at++) {
        idx_pack_put(pack, (uint32_t)at, &slots[at]);
    }
    return pack;
}

bool
idx_pack_own(idx_pack **pack)
{
    idx_pack *shared = *pack;
    if (shared->users == 1) {
        return true;
    }
    idx_pack *own = malloc(sizeof(*own));
    uint8_t *changes = malloc(changes_size(shared->room) + 1);
    if (own == NULL || changes == NULL) {
        free(own);
        free(changes);
        return false;
    }
    *own = *shared;
    own->users = 1;
    own->facts->users++;
    own->changes = changes;
    memcpy(changes, shared->changes, changes_size(shared->room));
    place_changes(own, shared->room);
    shared->users--;
    *pack = own;
    return true;
}

bool
idx_pack_takes(const idx_pack *pack, uint32_t at)
{
    if (!pack->is_wide || pack->users != 1 || pack->count == IDX_PACK) {
        return false;
    }
    return pack->facts->users == 1
           || (at == pack->count && pack->facts->count == pack->count);
}

void
idx_pack_put(idx_pack *pack, uint32_t at, const shd_live *slot)
{
    size_t behind = pack->count - at;
    for (int column = 0; column < IDX_PACKED; column++) {
        size_t width = pack->columns[column].width;
        if (width != 0) {
            /* It is this pack's own, or there is nothing there yet. */
            uint8_t *data = (uint8_t *)pack->columns[column].data;
            if (behind != 0) {
                memmove(data + (at + 1) * width, data + at * width,
                        behind * width);
            }
            store(data, (int)width, at, field(slot, column));
        }
    }
    for (uint32_t moved = pack->count; behind != 0 && moved > at; moved--) {
        idx_set_bit(pack->gone, moved, idx_bit(pack->gone, moved - 1));
        idx_set_bit(pack->disposed, moved, idx_bit(pack->disposed, moved - 1));
    }
    idx_set_bit(pack->gone, at, false);
    idx_set_bit(pack->disposed, at, slot->flags & IDX_DISPOSED);
    pack->facts->count = ++pack->count;
}

void
idx_pack_change(idx_pack *pack, int column, uint32_t at, uint32_t value)
{
    store(pack->changes + (size_t)(column - IDX_FACTS) * pack->room * 4, 4, at,
          value);
}

void
idx_pack_dispose(idx_pack *pack, uint32_t at)
{
    idx_set_bit(pack->disposed, at, true);
}

shd_live
idx_pack_slot(const idx_pack *pack, uint32_t at)
{
    return (shd_live){
        .serial = idx_pack_get(pack, IDX_AT_SERIAL, at),
        .ticks = idx_pack_get(pack, IDX_AT_TICKS, at),
        .value = (int64_t)idx_pack_get(pack, IDX_AT_VALUE, at),
        .stack = (uint32_t)idx_pack_get(pack, IDX_AT_STACK, at),
        .thread = (uint32_t)idx_pack_get(pack, IDX_AT_THREAD, at),
        .task = (uint32_t)idx_pack_get(pack, IDX_AT_TASK, at),
        .test = (uint32_t)idx_pack_get(pack, IDX_AT_TEST, at),
        .detail = (uint32_t)idx_pack_get(pack, IDX_AT_DETAIL, at),
        .type = (uint32_t)idx_pack_get(pack, IDX_AT_TYPE, at),
        .refs = (uint32_t)idx_pack_get(pack, IDX_AT_REFS, at),
        .flags = (uint32_t)idx_pack_get(pack, IDX_AT_FLAGS, at)
                 | (idx_bit(pack->disposed, at) ? IDX_DISPOSED : 0),
        .version = (uint32_t)idx_pack_get(pack, IDX_AT_VERSION, at),
        .last_stack = (uint32_t)idx_pack_get(pack, IDX_AT_LAST_STACK, at),
    };
}

size_t
idx_pack_slots(const idx_pack *pack, shd_live *slots)
{
    size_t count = 0;
    for (uint32_t at = 0; at < pack->count; at++) {
        if (!idx_bit(pack->gone, at)) {
            slots[count++] = idx_pack_slot(pack, at);
        }
    }
    return count;
}

void
idx_pack_leave(idx_pack *pack)
{
    if (pack != NULL && --pack->users == 0) {
        leave_blob(pack->facts);
        free(pack->changes);
        free(pack);
    }
}

size_t
idx_pack_bytes(const idx_pack *pack)
{
    size_t changes = pack->changes != NULL ? changes_size(pack->room) : 0;
    size_t facts = pack->facts->users == 1 ? pack->facts->size : 0;
    return sizeof(*pack) + changes + facts;
}
