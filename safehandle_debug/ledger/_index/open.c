/* The handles that are open, packed, by serial.
 *
 * Serials grow, so a new handle comes behind all others nearly always: into
 * the last pack, which is wide.  When that is full it is packed narrow.  What
 * is closed stays where it was and is marked, until most of a pack is gone.
 *
 * A copy of all of it shares the packs: the table makes a pack its own before
 * it changes anything in it, and only what changes is copied then. */
#include "index.h"

/* A pack of which a fourth is left joins the one before it, and is packed anew
 * by itself once, when an eighth of many is left: what is closed in the order
 * in which it came soon leaves none. */
#define JOINS 4
#define ALONE 8
#define MANY (IDX_PACK / 2)

/* The pack that a serial belongs to; `count` when there is none. */
static size_t
pack_of(const idx_open *open, uint64_t serial)
{
    if (open->count == 0 || serial < open->firsts[0]) {
        return open->count;
    }
    size_t low = open->count - 1;
    if (serial >= open->firsts[low]) {
        return low;
    }
    size_t high = low;
    low = 0;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (open->firsts[middle] <= serial) {
            low = middle;
        }
        else {
            high = middle;
        }
    }
    return low;
}

/* The first slot of a pack with this serial or a greater one. */
static uint32_t
slot_of(const idx_pack *pack, uint64_t serial)
{
    uint32_t low = 0, high = pack->count;
    uint64_t first = idx_pack_get(pack, IDX_AT_SERIAL, 0);
    if (serial - first < high
        && idx_pack_get(pack, IDX_AT_SERIAL, (uint32_t)(serial - first))
               == serial) {
        return (uint32_t)(serial - first); /* they are often consecutive */
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (idx_pack_get(pack, IDX_AT_SERIAL, middle) < serial) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low;
}

bool
idx_open_find(const idx_open *open, uint64_t serial, idx_open_at *found)
{
    size_t number = serial <= open->last ? pack_of(open, serial) : open->count;
    if (number == open->count) {
        return false;
    }
    const idx_pack *pack = open->packs[number];
    uint32_t at = slot_of(pack, serial);
    if (at == pack->count || idx_bit(pack->gone, at)
        || idx_pack_get(pack, IDX_AT_SERIAL, at) != serial) {
        return false;
    }
    *found = (idx_open_at){number, at};
    return true;
}

shd_live
idx_open_slot(const idx_open *open, idx_open_at place)
{
    return idx_pack_slot(open->packs[place.pack], place.at);
}

bool
idx_open_change(idx_open *open, idx_open_at place, int column, uint32_t value)
{
    idx_pack **pack = &open->packs[place.pack];
    if (idx_pack_get(*pack, column, place.at) == value) {
        return true;
    }
    if (!idx_pack_own(pack)) {
        return false;
    }
    idx_pack_change(*pack, column, place.at, value);
    return true;
}

bool
idx_open_dispose(idx_open *open, idx_open_at place)
{
    if (!idx_pack_own(&open->packs[place.pack])) {
        return false;
    }
    idx_pack_dispose(open->packs[place.pack], place.at);
    return true;
}

/* --- packs that come and go --- */

static bool
insert_pack(idx_open *open, size_t number, idx_pack *pack)
{
    if (open->count == open->room) {
        size_t room = open->room ? open->room * 2 : 16;
        idx_pack **packs = realloc(open->packs, room * sizeof(*packs));
        if (packs == NULL) {
            return false;
        }
        open->packs = packs;
        uint64_t *firsts = realloc(open->firsts, room * sizeof(*firsts));
        if (firsts == NULL) {
            return false;
        }
        open->firsts = firsts;
        open->room = room;
    }
    size_t behind = open->count - number;
    memmove(open->packs + number + 1, open->packs + number,
            behind * sizeof(*open->packs));
    memmove(open->firsts + number + 1, open->firsts + number,
            behind * sizeof(*open->firsts));
    open->packs[number] = pack;
    open->firsts[number] = idx_pack_get(pack, IDX_AT_SERIAL, 0);
    open->count++;
    return true;
}

static void
remove_pack(idx_open *open, size_t number)
{
    idx_pack_leave(open->packs[number]);
    size_t behind = --open->count - number;
    memmove(open->packs + number, open->packs + number + 1,
            behind * sizeof(*open->packs));
    memmove(open->firsts + number, open->firsts + number + 1,
            behind * sizeof(*open->firsts));
}

/* Puts some slots in the place of a pack; the last pack stays wide. */
static bool
replace_pack(idx_open *open, size_t number, const shd_live *slots,
             size_t count)
{
    bool is_last = number + 1 == open->count && count < IDX_PACK;
    idx_pack *made =
        is_last ? idx_pack_wide(slots, count) : idx_pack_open(slots, count);
    if (made == NULL) {
        return false;
    }
    idx_pack_leave(open->packs[number]);
    open->packs[number] = made;
    open->firsts[number] = slots[0].serial;
    return true;
}

/* The last pack is full: what is left of it goes on, or is packed narrow. */
static bool
seal_last(idx_open *open)
{
    shd_live slots[IDX_PACK];
    size_t number = open->count - 1;
    size_t count = idx_pack_slots(open->packs[number], slots);
    if (count == 0) {
        remove_pack(open, number);
        return true;
    }
    idx_pack *made = count <= IDX_PACK / 2 ? idx_pack_wide(slots, count)
                                           : idx_pack_open(slots, count);
    if (made == NULL) {
        return false;
    }
    idx_pack_leave(open->packs[number]);
    open->packs[number] = made;
    open->firsts[number] = slots[0].serial;
    return true;
}

/* Puts a late one among those that came before it. */
static bool
add_between(idx_open *open, const shd_live *slot)
{
    size_t number = pack_of(open, slot->serial);
    number = number == open->count ? 0 : number;
    idx_pack *pack = open->packs[number];
    uint32_t at = slot_of(pack, slot->serial);
    bool is_known = at < pack->count
                    && idx_pack_get(pack, IDX_AT_SERIAL, at) == slot->serial;
    if (!is_known && idx_pack_takes(pack, at)) {
        idx_pack_put(pack, at, slot);
        open->firsts[number] = idx_pack_get(pack, IDX_AT_SERIAL, 0);
        return true;
    }
    shd_live slots[IDX_PACK + 1];
    size_t count = idx_pack_slots(pack, slots), before = 0;
    while (before < count && slots[before].serial < slot->serial) {
        before++;
    }
    memmove(slots + before + 1, slots + before,
            (count - before) * sizeof(*slots));
    slots[before] = *slot;
    if (++count <= IDX_PACK) {
        return replace_pack(open, number, slots, count);
    }
    size_t half = count / 2;
    idx_pack *second = idx_pack_open(slots + half, count - half);
    if (second == NULL || !insert_pack(open, number + 1, second)) {
        idx_pack_leave(second);
        return false;
    }
    return replace_pack(open, number, slots, half);
}

bool
idx_open_add(idx_open *open, const shd_live *slot)
{
    bool is_newest = open->count == 0 || slot->serial > open->last;
    if (is_newest && open->count > 0 && open->packs[open->count - 1]->is_wide
        && open->packs[open->count - 1]->count == IDX_PACK
        && !seal_last(open)) {
        return false;
    }
    if (!is_newest) {
        if (!add_between(open, slot)) {
            return false;
        }
        open->used++;
        return true;
    }
    idx_pack *last = open->count ? open->packs[open->count - 1] : NULL;
    if (last != NULL && last->is_wide && last->users > 1
        && !idx_pack_own(&open->packs[open->count - 1])) {
        return false;
    }
    last = open->count ? open->packs[open->count - 1] : NULL;
    if (last != NULL && idx_pack_takes(last, last->count)) {
        idx_pack_put(last, last->count, slot);
    }
    else if (last != NULL && last->is_wide) {
        /* Somebody else has gone on from a copy of it. */
        shd_live slots[IDX_PACK];
        size_t count = idx_pack_slots(last, slots);
        slots[count++] = *slot;
        if (!replace_pack(open, open->count - 1, slots, count)) {
            return false;
        }
    }
    else {
        last = idx_pack_wide(slot, 1);
        if (last == NULL || !insert_pack(open, open->count, last)) {
            idx_pack_leave(last);
            return false;
        }
    }
    open->last = slot->serial;
    open->used++;
    return true;
}

/* --- those that are closed --- */

/* Packs anew what is left of a pack, if that is worth it. */
static bool
shrink(idx_open *open, size_t number)
{
    shd_live slots[2 * IDX_PACK];
    const idx_pack *pack = open->packs[number];
    size_t left = (size_t)pack->count - pack->gone_count;
    const idx_pack *before = number > 0 ? open->packs[number - 1] : NULL;
    if (before != NULL
        && (size_t)before->count - before->gone_count + left <= IDX_PACK) {
        size_t count = idx_pack_slots(before, slots);
        count += idx_pack_slots(pack, slots + count);
        if (!replace_pack(open, number - 1, slots, count)) {
            return false;
        }
        remove_pack(open, number);
        return true;
    }
    if (pack->count < MANY || left * ALONE > pack->count) {
        return true;
    }
    return replace_pack(open, number, slots, idx_pack_slots(pack, slots));
}

bool
idx_open_remove(idx_open *open, idx_open_at place)
{
    idx_pack **pack = &open->packs[place.pack];
    if (!idx_pack_own(pack)) {
        return false;
    }
    idx_set_bit((*pack)->gone, place.at, true);
    (*pack)->gone_count++;
    open->used--;
    unsigned left = (*pack)->count - (*pack)->gone_count;
    if (left == 0) {
        remove_pack(open, place.pack);
        return true;
    }
    if ((*pack)->is_wide && place.pack + 1 == open->count) {
        return true; /* it is looked after when it is full */
    }
    return left * JOINS > (*pack)->count || shrink(open, place.pack);
}

/* --- all of them --- */

bool
idx_open_copy(const idx_open *open, idx_open *copy)
{
    *copy = (idx_open){0};
    idx_open made = {.count = open->count,
                     .room = open->count + 1,
                     .used = open->used,
                     .last = open->last};
    made.packs = malloc(made.room * sizeof(*made.packs));
    made.firsts = malloc(made.room * sizeof(*made.firsts));
    if (made.packs == NULL || made.firsts == NULL) {
        free(made.packs);
        free(made.firsts);
        return false;
    }
    for (size_t at = 0; at < open->count; at++) {
        made.packs[at] = idx_pack_share(open->packs[at]);
        made.firsts[at] = open->firsts[at];
    }
    *copy = made;
    return true;
}

void
idx_open_clear(idx_open *open)
{
    for (size_t at = 0; at < open->count; at++) {
        idx_pack_leave(open->packs[at]);
    }
    free(open->packs);
    free(open->firsts);
    *open = (idx_open){0};
}
