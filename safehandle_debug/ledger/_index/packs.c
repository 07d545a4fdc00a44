/* Slots packed by column. */
#include "packs.h"

#include <stddef.h>
#include <stdlib.h>

/* Where a column is in a slot. */
static const struct {
    size_t offset;
    bool is_long;
} fields[IDX_PACKED] = {
    [IDX_AT_SERIAL] = {offsetof(shd_live, serial), true},
    [IDX_AT_TICKS] = {offsetof(shd_live, ticks), true},
    [IDX_AT_VALUE] = {offsetof(shd_live, value), true},
    [IDX_AT_STACK] = {offsetof(shd_live, stack), false},
    [IDX_AT_THREAD] = {offsetof(shd_live, thread), false},
    [IDX_AT_TASK] = {offsetof(shd_live, task), false},
    [IDX_AT_TEST] = {offsetof(shd_live, test), false},
    [IDX_AT_DETAIL] = {offsetof(shd_live, detail), false},
    [IDX_AT_FLAGS] = {offsetof(shd_live, flags), false},
    [IDX_AT_VERSION] = {offsetof(shd_live, version), false},
    [IDX_AT_TYPE] = {offsetof(shd_live, type), false},
    [IDX_AT_REFS] = {offsetof(shd_live, refs), false},
    [IDX_AT_LAST_STACK] = {offsetof(shd_live, last_stack), false},
};

static inline uint64_t
field(const shd_live *slot, int column)
{
    const char *at = (const char *)slot + fields[column].offset;
    uint64_t eight;
    uint32_t four;
    if (fields[column].is_long) {
        memcpy(&eight, at, 8);
        return eight;
    }
    memcpy(&four, at, 4);
    return column == IDX_AT_FLAGS ? four & ~IDX_DISPOSED : four;
}

/* The column of some slots. */
static void
gather(const shd_live *slots, size_t count, int column, uint64_t *numbers)
{
    const char *at = (const char *)slots + fields[column].offset;
    uint32_t kept =
        column == IDX_AT_FLAGS ? ~(uint32_t)IDX_DISPOSED : UINT32_MAX;
    if (fields[column].is_long) {
        for (size_t each = 0; each < count; each++) {
            memcpy(&numbers[each], at + each * sizeof(*slots), 8);
        }
        return;
    }
    for (size_t each = 0; each < count; each++) {
        uint32_t four;
        memcpy(&four, at + each * sizeof(*slots), 4);
        numbers[each] = four & kept;
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

static void
store_all(uint8_t *to, int width, const uint64_t *numbers, size_t count)
{
    switch (width) {
    case 0:
        break;
    case 1:
        for (size_t at = 0; at < count; at++) {
            to[at] = (uint8_t)numbers[at];
        }
        break;
    case 2:
        for (size_t at = 0; at < count; at++) {
            store(to, 2, at, numbers[at]);
        }
        break;
    case 4:
        for (size_t at = 0; at < count; at++) {
            store(to, 4, at, numbers[at]);
        }
        break;
    default:
        memcpy(to, numbers, count * sizeof(*numbers));
    }
}

/* Writes a column as narrow as can be; returns the bytes that it takes. */
static size_t
narrow(idx_column *column, int number, const shd_live *slots, size_t count,
       uint8_t *to)
{
    uint64_t read[IDX_PACK];
    uint64_t flip = number == IDX_AT_VALUE ? 1ull << 63 : 0;
    uint64_t least = UINT64_MAX, most = 0;
    gather(slots, count, number, read);
    for (size_t at = 0; at < count; at++) {
        read[at] ^= flip;
        least = read[at] < least ? read[at] : least;
        most = read[at] > most ? read[at] : most;
    }
    column->width = count ? width_of(most - least) : 0;
    column->base = count ? least ^ flip : 0;
    if (column->width != 0) {
        for (size_t at = 0; at < count; at++) {
            read[at] -= least;
        }
        store_all(to, column->width, read, count);
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

/* Makes room for a slot before others. */
static void
move_behind(idx_pack *pack, uint32_t at)
{
    size_t behind = pack->count - at;
    for (int column = 0; column < IDX_PACKED; column++) {
        size_t width = pack->columns[column].width;
        uint8_t *data = (uint8_t *)pack->columns[column].data;
        if (width != 0) {
            memmove(data + (at + 1) * width, data + at * width,
                    behind * width);
        }
    }
    for (uint32_t moved = pack->count; moved > at; moved--) {
        idx_set_bit(pack->gone, moved, idx_bit(pack->gone, moved - 1));
        idx_set_bit(pack->disposed, moved, idx_bit(pack->disposed, moved - 1));
    }
}

void
idx_pack_put(idx_pack *pack, uint32_t at, const shd_live *slot)
{
    if (at != pack->count) {
        move_behind(pack, at);
    }
    for (int column = 0; column < IDX_PACKED; column++) {
        /* It is this pack's own, or there is nothing there yet. */
        uint8_t *data = (uint8_t *)pack->columns[column].data;
        uint64_t number = field(slot, column);
        uint32_t four = (uint32_t)number;
        if (column <= IDX_AT_VALUE) {
            memcpy(data + (size_t)at * 8, &number, 8);
        }
        else if (column != IDX_AT_VERSION) {
            memcpy(data + (size_t)at * 4, &four, 4);
        }
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

/* Without a question for each column how wide it is. */
static shd_live
wide_slot(const idx_pack *pack, uint32_t at)
{
    shd_live slot = {0};
    for (int column = 0; column < IDX_PACKED; column++) {
        char *to = (char *)&slot + fields[column].offset;
        const uint8_t *data = pack->columns[column].data;
        if (column <= IDX_AT_VALUE) {
            memcpy(to, data + (size_t)at * 8, 8);
        }
        else if (column != IDX_AT_VERSION) {
            memcpy(to, data + (size_t)at * 4, 4);
        }
    }
    return slot;
}

static shd_live
narrow_slot(const idx_pack *pack, uint32_t at)
{
    shd_live slot = {0};
    for (int column = 0; column < IDX_PACKED; column++) {
        char *to = (char *)&slot + fields[column].offset;
        uint64_t eight = idx_pack_get(pack, column, at);
        uint32_t four = (uint32_t)eight;
        if (fields[column].is_long) {
            memcpy(to, &eight, 8);
        }
        else {
            memcpy(to, &four, 4);
        }
    }
    return slot;
}

shd_live
idx_pack_slot(const idx_pack *pack, uint32_t at)
{
    shd_live slot =
        pack->is_wide ? wide_slot(pack, at) : narrow_slot(pack, at);
    if (idx_bit(pack->disposed, at)) {
        slot.flags |= IDX_DISPOSED;
    }
    return slot;
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
