/* Copies of the table of open handles, so that any moment can be had again:
 * the copy before it, and the events between. */
#include "index.h"

#include <string.h>

#define LEAST_EVENTS (64 * 1024) /* from one copy to the next */
#define EVENTS_A_HANDLE 4        /* so that copies never dominate */

bool
idx_moments_note(idx_moments *moments, const idx_table *table, uint64_t seq)
{
    if (++moments->events < LEAST_EVENTS
        || moments->events < (uint64_t)table->used * EVENTS_A_HANDLE) {
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
    idx_moment *moment = &moments->moments[moments->count];
    moment->seq = seq;
    moment->count = 0;
    moment->slots = malloc((table->used + 1) * sizeof(shd_live));
    if (moment->slots == NULL) {
        return false;
    }
    for (size_t at = 0; at < table->room; at++) {
        if (table->slots[at].serial != 0) {
            moment->slots[moment->count++] = table->slots[at];
        }
    }
    moments->count++;
    moments->events = 0;
    return true;
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

void
idx_moments_clear(idx_moments *moments)
{
    for (size_t at = 0; at < moments->count; at++) {
        free(moments->moments[at].slots);
    }
    free(moments->moments);
    *moments = (idx_moments){0};
}
