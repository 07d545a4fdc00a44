/* Numbers as they would be without the quarantine.
 *
 * The kernel gives the lowest free number.  Parked numbers are not free, so
 * handles get other numbers than in a program that is not watched, and what
 * would have been recycled there is not here.  This is the number line of the
 * unwatched program: it says who would have had a number. */
#ifndef SHD_NATURAL_H
#define SHD_NATURAL_H

#include <stdint.h>

/* Without a quarantine every number is the natural one, and nobody asks: 0. */
extern int shd_natural_kept;

/* The lowest free number is now `serial`'s; -1 when there are too many, or no
 * account is kept. */
int shd_natural_take_lowest(uint64_t serial);
static inline int
shd_natural_take(uint64_t serial)
{
    return shd_natural_kept ? shd_natural_take_lowest(serial) : -1;
}

/* What the next one would be, for now, or -1. */
int shd_natural_lowest(void);

/* This very number (dup2, or open before the watch began), if account is
 * kept. */
void shd_natural_take_at(int number, uint64_t serial);

/* Free again, if it is still `serial`'s. */
void shd_natural_free(int number, uint64_t serial);
static inline void
shd_natural_give(int number, uint64_t serial)
{
    if (number >= 0) {
        shd_natural_free(number, serial);
    }
}

/* Serial of the handle that has it, 0: nobody, or nobody we know. */
uint64_t shd_natural_holder(int number);

#endif
