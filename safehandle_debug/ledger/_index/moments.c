/* Copies of the open handles and of the counts, so that any moment can be had
 * again: the copy before it, and the events between.
 *
 * All copies together take a bounded share of memory.  When they outgrow it,
 * every other one goes and new ones are made half as often, so that a seek is
 * longer only in proportion to the recording. */
#include "index.h"

#include <string.h>

#define LEAST_EVENTS (32 * 1024) /* from one copy to the next */
#define BYTES_AN_EVENT 16        /* copied, so that copies never dominate */
#define MOST_BYTES (64u << 20)
#define FEWEST 2 /* copies that are kept however large they are */

static void
clear_one(idx_moment *moment)
{
    free(moment->slots);
    idx_places_clear(&moment->places);
}

static void
thin(idx_moments *moments)
{
    size_t kept = 0;
    for (size_t at = 0; at < moments->count; at++) {
        if (at % 2) {
            moments->moments[kept++] = moments->moments[at];
        }
        else {
            moments->bytes -= moments->moments[at].bytes;
            clear_one(&moments->moments[at]);
        }
    }
    moments->count = kept;
    moments->spacing *= 2;
}

static bool
copy(idx_moment *moment, const idx_table *table, const idx_places *places)
{
    moment->slots = malloc((table->used + 1) * sizeof(shd_live));
    if (moment->slots == NULL
        || !idx_places_copy(places, &moment->places, false)) {
        free(moment->slots);
        return false;
    }
    for (size_t at = 0; at < table->room; at++) {
        if (table->slots[at].serial != 0) {
            moment->slots[moment->count++] = table->slots[at];
        }
    }
    return true;
}

bool
idx_moments_note(idx_moments *moments, const idx_table *table,
                 const idx_places *places, uint64_t seq)
{
    if (moments->spacing == 0) {
        moments->spacing = LEAST_EVENTS;
    }
    if (++moments->events < moments->spacing) {
        return true;
    }
    size_t bytes =
        table->used * sizeof(shd_live) + places->count * sizeof(idx_place);
    if (moments->events < bytes / BYTES_AN_EVENT) {
        return true;
    }
    if (moments->count > 0
        && moments->moments[moments->count - 1].seq >= seq) {
        return true; /* a thread's late events: the next one will do */
    }
    if (moments->count == moments->room) {
        size_t room = moments->room ? moments->room * 2 : 16;
        idx_moment *grown =
            realloc(moments->moments, room * sizeof(idx_moment));
        if (grown == NULL) {
            return false;
        }
        moments->moments = grown;
        moments->room = room;
    }
    idx_moment moment = {.seq = seq, .bytes = bytes};
    if (!copy(&moment, table, places)) {
        return false;
    }
    moments->moments[moments->count++] = moment;
    moments->bytes += bytes;
    moments->events = 0;
    if (moments->bytes > MOST_BYTES && moments->count > FEWEST) {
        thin(moments);
    }
    return true;
}

void
idx_moments_cut(idx_moments *moments, uint64_t seq)
{
    while (moments->count > 0
           && moments->moments[moments->count - 1].seq >= seq) {
        idx_moment *last = &moments->moments[--moments->count];
        moments->bytes -= last->bytes;
        clear_one(last);
    }
}

const idx_moment *
idx_moments_before(const idx_moments *moments, uint64_t seq)
{
    size_t low = 0, high = moments->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (moments->moments[middle].seq <= seq) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low > 0 ? &moments->moments[low - 1] : NULL;
}

bool
idx_moment_restore(const idx_moment *moment, idx_table *table,
                   idx_places *places)
{
    idx_places_clear(places);
    return idx_table_fill(table, moment->slots, moment->count)
           && idx_places_copy(&moment->places, places, true);
}

void
idx_moments_clear(idx_moments *moments)
{
    for (size_t at = 0; at < moments->count; at++) {
        clear_one(&moments->moments[at]);
    }
    free(moments->moments);
    *moments = (idx_moments){0};
}
