/* A bitmap of the numbers in use and the holder of each.  The search for the
 * lowest free bit starts at a hint below which all are taken. */
#include "natural.h"

#include "recording/atomics.h"
#include "recording/here.h"

#include <stdatomic.h>

#define NUMBERS (1 << 20)
#define WORDS (NUMBERS / 64)

/* Static and untouched: pages of it come into being as numbers are used. */
static _Atomic uint64_t taken[WORDS];
static _Atomic uint64_t holders[NUMBERS];
static _Atomic int lowest; /* index of a word; those below are full */

int shd_natural_kept SHD_HOT;

int
shd_natural_take_lowest(uint64_t serial)
{
    int first = atomic_load_explicit(&lowest, memory_order_relaxed);
    for (int at = first; at < WORDS; at++) {
        uint64_t word = atomic_load_explicit(&taken[at], memory_order_relaxed);
        while (word != UINT64_MAX) {
            int bit = __builtin_ctzll(~word);
            if (shd_swap(&taken[at], &word, word | UINT64_C(1) << bit)) {
                if (at != first) {
                    atomic_store_explicit(&lowest, at, memory_order_relaxed);
                }
                int number = at * 64 + bit;
                atomic_store_explicit(&holders[number], serial,
                                      memory_order_release);
                return number;
            }
        }
    }
    return -1;
}

int
shd_natural_lowest(void)
{
    for (int at = atomic_load(&lowest); shd_natural_kept && at < WORDS; at++) {
        uint64_t word = atomic_load(&taken[at]);
        if (word != UINT64_MAX) {
            return at * 64 + __builtin_ctzll(~word);
        }
    }
    return -1;
}

void
shd_natural_take_at(int number, uint64_t serial)
{
    if (shd_natural_kept && number >= 0 && number < NUMBERS) {
        atomic_fetch_or(&taken[number / 64], UINT64_C(1) << number % 64);
        atomic_store(&holders[number], serial);
    }
}

void
shd_natural_free(int number, uint64_t serial)
{
    if (number >= NUMBERS || !shd_swap(&holders[number], &serial, 0)) {
        return;
    }
    shd_clear(&taken[number / 64], UINT64_C(1) << number % 64);
    int hint = atomic_load_explicit(&lowest, memory_order_relaxed);
    while (number / 64 < hint
           && !atomic_compare_exchange_weak(&lowest, &hint, number / 64)) {
    }
}

uint64_t
shd_natural_holder(int number)
{
    return number < 0 || number >= NUMBERS ? 0 : atomic_load(&holders[number]);
}
