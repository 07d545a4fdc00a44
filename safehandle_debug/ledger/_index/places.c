/* What each acquire stack opened, closed and still holds.
 *
 * When the process has lived longer than the buckets of births reach, they are
 * merged two by two: their number stays, their width doubles. */
#include "index.h"

#include <string.h>

#define LEAST_ROOM 64

void
idx_places_init(idx_places *places, uint64_t start, uint64_t width)
{
    *places = (idx_places){.start = start, .width = width ? width : 1};
}

static void
leave(idx_place *place)
{
    if (--place->users == 0) {
        free(place);
    }
}

void
idx_places_clear(idx_places *places)
{
    for (uint32_t number = 0; number < places->count; number++) {
        leave(places->places[number]);
    }
    free(places->places);
    free(places->numbers);
    places->places = NULL;
    places->numbers = NULL;
    places->count = places->room = places->numbers_room = 0;
}

/* A place that nobody else sees; NULL without memory. */
static idx_place *
own(idx_places *places, uint32_t number)
{
    idx_place *place = places->places[number];
    if (place->users > 1) {
        idx_place *copy = malloc(sizeof(*copy));
        if (copy == NULL) {
            return NULL;
        }
        *copy = *place;
        copy->users = 1;
        place->users--;
        places->places[number] = place = copy;
    }
    return place;
}

static uint32_t
home(const idx_places *places, uint32_t stack, uint32_t type)
{
    uint64_t key = ((uint64_t)stack << 32 | type) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(key >> 32) & (places->numbers_room - 1);
}

static uint32_t *
number_of(idx_places *places, uint32_t stack, uint32_t type)
{
    uint32_t at = home(places, stack, type);
    for (;; at = (at + 1) & (places->numbers_room - 1)) {
        uint32_t number = places->numbers[at];
        if (number == 0
            || (places->places[number - 1]->stack == stack
                && places->places[number - 1]->type == type)) {
            return &places->numbers[at];
        }
    }
}

static bool
grow(idx_places *places)
{
    uint32_t room = places->room ? places->room * 2 : LEAST_ROOM;
    idx_place **grown = realloc(places->places, room * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    places->places = grown;
    places->room = room;
    uint32_t *numbers = calloc((size_t)room * 2, sizeof(uint32_t));
    if (numbers == NULL) {
        return false;
    }
    free(places->numbers);
    places->numbers = numbers;
    places->numbers_room = room * 2;
    for (uint32_t number = 0; number < places->count; number++) {
        const idx_place *place = places->places[number];
        *number_of(places, place->stack, place->type) = number + 1;
    }
    return true;
}

bool
idx_places_copy(const idx_places *places, idx_places *copy, bool usable)
{
    idx_places made = *places;
    made.numbers = NULL;
    made.numbers_room = 0;
    made.room = usable && places->count ? LEAST_ROOM : places->count;
    while (made.room < places->count) {
        made.room *= 2;
    }
    made.places = malloc((made.room + 1) * sizeof(*made.places));
    if (made.places == NULL) {
        return false;
    }
    if (made.count) {
        memcpy(made.places, places->places, made.count * sizeof(*made.places));
    }
    if (usable && made.room) {
        made.numbers_room = made.room * 2;
        made.numbers = calloc(made.numbers_room, sizeof(uint32_t));
        if (made.numbers == NULL) {
            free(made.places);
            return false;
        }
        for (uint32_t number = 0; number < made.count; number++) {
            const idx_place *place = made.places[number];
            *number_of(&made, place->stack, place->type) = number + 1;
        }
    }
    for (uint32_t number = 0; number < made.count; number++) {
        made.places[number]->users++;
    }
    *copy = made;
    return true;
}

uint32_t
idx_place_of(idx_places *places, uint32_t stack, uint32_t type)
{
    if (places->numbers_room == 0 && !grow(places)) {
        return UINT32_MAX;
    }
    uint32_t *number = number_of(places, stack, type);
    if (*number != 0) {
        return *number - 1;
    }
    if (places->count == places->room || places->numbers_room <= places->count
        || places->numbers_room != places->room * 2) {
        if (!grow(places)) {
            return UINT32_MAX;
        }
        number = number_of(places, stack, type);
    }
    idx_place *place = calloc(1, sizeof(*place));
    if (place == NULL) {
        return UINT32_MAX;
    }
    place->users = 1;
    place->stack = stack;
    place->type = type;
    places->places[places->count] = place;
    *number = ++places->count;
    return *number - 1;
}

static unsigned
bucket_of(const idx_places *places, uint64_t ticks, idx_bucket *last)
{
    if (ticks >= last->first && ticks < last->end) {
        return last->bucket;
    }
    if (ticks <= places->start) {
        return 0;
    }
    uint64_t bucket = (ticks - places->start) / places->width;
    if (bucket >= IDX_BUCKETS) {
        return IDX_BUCKETS - 1;
    }
    uint64_t first = places->start + bucket * places->width;
    *last = (idx_bucket){first, first + places->width, (unsigned)bucket};
    return last->bucket;
}

/* Merges the buckets two by two. */
static void
fold(uint32_t *buckets)
{
    for (unsigned at = 0; at < IDX_BUCKETS / 2; at++) {
        buckets[at] = buckets[2 * at] + buckets[2 * at + 1];
    }
    memset(buckets + IDX_BUCKETS / 2, 0, sizeof(*buckets) * (IDX_BUCKETS / 2));
}

static bool
widen(idx_places *places)
{
    for (uint32_t number = 0; number < places->count; number++) {
        if (own(places, number) == NULL) {
            return false;
        }
    }
    for (uint32_t number = 0; number < places->count; number++) {
        fold(places->places[number]->births);
        fold(places->places[number]->survivors);
    }
    for (unsigned at = 0; at < IDX_BUCKETS / 2; at++) {
        places->ends[at] = places->ends[2 * at] + places->ends[2 * at + 1];
    }
    memset(places->ends + IDX_BUCKETS / 2, 0,
           sizeof(*places->ends) * (IDX_BUCKETS / 2));
    places->width *= 2;
    places->last_birth = places->last_end = (idx_bucket){0};
    return true;
}

/* A clock that makes no sense (a damaged file) must not widen for ever. */
static bool
reach(idx_places *places, uint64_t ticks)
{
    if (ticks < places->last_birth.end || ticks < places->last_end.end) {
        return true;
    }
    while (ticks > places->start
           && (ticks - places->start) / places->width >= IDX_BUCKETS
           && places->width < UINT64_MAX / 2 / IDX_BUCKETS) {
        if (!widen(places)) {
            return false;
        }
    }
    return true;
}

/* The place of a handle, to be changed; NULL without memory. */
static idx_place *
changed(idx_places *places, const shd_live *handle, uint32_t type)
{
    uint32_t number = idx_place_of(places, handle->stack, type);
    return number == UINT32_MAX ? NULL : own(places, number);
}

static void
came(idx_places *places, idx_place *place, const shd_live *handle)
{
    unsigned bucket = bucket_of(places, handle->ticks, &places->last_birth);
    if (place->opened++ == 0) {
        place->first_ticks = handle->ticks;
    }
    place->last_ticks = handle->ticks;
    place->importing += (handle->flags & SHD_FLAG_IMPORTING) != 0;
    place->births[bucket]++;
    place->survivors[bucket]++;
}

bool
idx_place_opened(idx_places *places, const shd_live *handle)
{
    idx_place *place = reach(places, handle->ticks)
                           ? changed(places, handle, handle->type)
                           : NULL;
    if (place != NULL) {
        came(places, place, handle);
    }
    return place != NULL;
}

bool
idx_place_closed(idx_places *places, const shd_live *handle,
                 const shd_event *close)
{
    idx_place *place = reach(places, close->ticks)
                           ? changed(places, handle, handle->type)
                           : NULL;
    if (place == NULL) {
        return false;
    }
    place->closed++;
    place->finalized += close->ending == SHD_ENDING_DROPPED
                        || close->ending == SHD_ENDING_COLLECTED;
    place->last_close_ticks = close->ticks;
    if (close->stack != 0) { /* the exit sweep has none */
        place->last_close_stack = close->stack;
    }
    uint64_t life =
        close->ticks > handle->ticks ? close->ticks - handle->ticks : 0;
    place->lifetimes[life ? 63 - __builtin_clzll(life) : 0]++;
    place->survivors[bucket_of(places, handle->ticks, &places->last_birth)]--;
    places->ends[bucket_of(places, close->ticks, &places->last_end)]++;
    return true;
}

bool
idx_place_moved(idx_places *places, const shd_live *handle, uint32_t type)
{
    idx_place *from = changed(places, handle, handle->type);
    idx_place *to = changed(places, handle, type);
    if (from == NULL || to == NULL) {
        return false;
    }
    unsigned bucket = bucket_of(places, handle->ticks, &places->last_birth);
    from->opened--;
    from->importing -= (handle->flags & SHD_FLAG_IMPORTING) != 0;
    from->births[bucket]--;
    from->survivors[bucket]--;
    uint64_t newest = to->last_ticks;
    came(places, to, handle);
    if (newest > to->last_ticks) {
        to->last_ticks = newest;
    }
    return true;
}

bool
idx_place_forgotten(idx_places *places, const shd_live *handle)
{
    idx_place *place = changed(places, handle, handle->type);
    if (place != NULL) {
        place->survivors[bucket_of(places, handle->ticks,
                                   &places->last_birth)]--;
    }
    return place != NULL;
}
