/* Copies of the open handles and of the counts, so that any moment can be had
 * again: the copy before it, and the events between.
 *
 * A copy shares with the next one all that stayed the same.  What they hold
 * beside what the index has itself is bounded: when they outgrow that, every
 * other one goes and new ones are made half as often, so that a seek is longer
 * only in proportion to the recording. */
#include "index.h"

#define LEAST_EVENTS (32 * 1024) /* from one copy to the next */
#define BYTES_AN_EVENT 16        /* copied, so that copies never dominate */
#define MOST_BYTES (8u << 20)    /* that all of them hold */
#define BYTES_A_HANDLE 32        /* or, with many that are open, so much */
#define FEWEST 2 /* copies that are kept however large they are */

/* What a copy takes that shares everything. */
static size_t
own_bytes(const idx_open *open, const idx_places *places)
{
    return open->count * (sizeof(idx_pack *) + sizeof(uint64_t))
           + places->count * sizeof(idx_place *) + sizeof(idx_moment);
}

/* What a moment holds that the one after it, or the index, does not. */
static size_t
held_bytes(const idx_moment *moment, const idx_open *next_open,
           const idx_places *next_places)
{
    size_t bytes = own_bytes(&moment->open, &moment->places), next = 0;
    for (size_t at = 0; at < moment->open.count; at++) {
        uint64_t first = moment->open.firsts[at];
        while (next < next_open->count && next_open->firsts[next] < first) {
            next++;
        }
        if (next == next_open->count
            || next_open->packs[next] != moment->open.packs[at]) {
            bytes += idx_pack_bytes(moment->open.packs[at]);
        }
    }
    for (uint32_t at = 0; at < moment->places.count; at++) {
        if (next_places->places[at] != moment->places.places[at]) {
            bytes += sizeof(idx_place);
        }
    }
    return bytes;
}

static void
clear_one(idx_moment *moment)
{
    idx_open_clear(&moment->open);
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
            clear_one(&moments->moments[at]);
        }
    }
    moments->count = kept;
    moments->spacing *= 2;
    moments->bytes = 0;
    for (size_t at = 0; at + 1 < kept; at++) {
        const idx_moment *next = &moments->moments[at + 1];
        moments->bytes +=
            held_bytes(&moments->moments[at], &next->open, &next->places);
    }
}

static bool
grow(idx_moments *moments)
{
    size_t room = moments->room ? moments->room * 2 : 16;
    idx_moment *grown = realloc(moments->moments, room * sizeof(idx_moment));
    if (grown == NULL) {
        return false;
    }
    moments->moments = grown;
    moments->room = room;
    return true;
}

bool
idx_moments_note(idx_moments *moments, const idx_open *open,
                 const idx_places *places, uint64_t seq)
{
    if (moments->spacing == 0) {
        moments->spacing = LEAST_EVENTS;
    }
    if (++moments->events < moments->spacing
        || moments->events < own_bytes(open, places) / BYTES_AN_EVENT) {
        return true;
    }
    const idx_moment *last =
        moments->count ? &moments->moments[moments->count - 1] : NULL;
    if (last != NULL && last->seq >= seq) {
        return true; /* a thread's late events: the next one will do */
    }
    moments->bytes += last != NULL ? held_bytes(last, open, places) : 0;
    size_t most = open->used * BYTES_A_HANDLE;
    if (moments->bytes > (most > MOST_BYTES ? most : MOST_BYTES)
        && moments->count > FEWEST) {
        thin(moments);
    }
    idx_moment moment = {.seq = seq};
    if ((moments->count == moments->room && !grow(moments))
        || !idx_open_copy(open, &moment.open)) {
        return false;
    }
    if (!idx_places_copy(places, &moment.places, false)) {
        idx_open_clear(&moment.open);
        return false;
    }
    moments->moments[moments->count++] = moment;
    moments->events = 0;
    return true;
}

void
idx_moments_cut(idx_moments *moments, uint64_t seq)
{
    while (moments->count > 0
           && moments->moments[moments->count - 1].seq >= seq) {
        clear_one(&moments->moments[--moments->count]);
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
idx_moment_restore(const idx_moment *moment, idx_open *open,
                   idx_places *places)
{
    idx_places_clear(places);
    return idx_open_copy(&moment->open, open)
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
