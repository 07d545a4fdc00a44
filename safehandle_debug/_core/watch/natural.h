/* Numbers as they would be without the quarantine.
 *
 * The kernel gives the lowest free number.  Parked numbers are not free, so
 * handles get other numbers than in a program that is not watched, and what
 * would have been recycled there is not here.  This is the number line of the
 * unwatched program: it says who would have had a number. */
#ifndef SHD_NATURAL_H
#define SHD_NATURAL_H

#include <stdint.h>

/* The lowest free number is now `serial`'s; -1 when there are too many. */
int shd_natural_take(uint64_t serial);

/* What the next one would be, for now; -1 when there are too many. */
int shd_natural_lowest(void);

/* This very number (dup2, or open before the watch began). */
void shd_natural_take_at(int number, uint64_t serial);

/* Free again, if it is still `serial`'s. */
void shd_natural_give(int number, uint64_t serial);

/* Serial of the handle that has it, 0: nobody, or nobody we know. */
uint64_t shd_natural_holder(int number);

#endif
