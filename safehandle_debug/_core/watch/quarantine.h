/* Closed numbers that nobody may get for a while. */
#ifndef SHD_QUARANTINE_H
#define SHD_QUARANTINE_H

#include "numbers.h"

/* `size`: numbers to park at most, 0: none. */
void shd_quarantine_start(int size);
void shd_quarantine_stop(void);

extern _Atomic int shd_quarantine_size;
static inline int
shd_quarantine_is_on(void)
{
    return atomic_load_explicit(&shd_quarantine_size, memory_order_relaxed)
           != 0;
}

/* Closes `fd`, whose record is CLOSING, by parking it.  1: it is PARKED now.
 * 0: not done, close it as usual. */
int shd_quarantine_park(int fd, shd_number *number, uint64_t word);

/* Whether a handle of this kind may be closed by being parked. */
int shd_quarantine_takes(int fd, int kind);

/* Somebody put something else there, or is about to. */
void shd_quarantine_forget(shd_number *number, uint64_t word);

/* Moves `fd`, which nobody knows yet, to the number `wanted` if that is
 * parked; returns where it is. */
int shd_quarantine_take_over(int fd, int wanted);

/* Gives all numbers back; returns how many. */
int shd_quarantine_empty(void);

/* As shd_quarantine_empty(), and our own descriptor goes too; it is made again
 * when it is needed. */
void shd_quarantine_hide(void);

/* Looks again at what may have changed: limits, file systems. */
void shd_quarantine_refresh(void);

/* After fork, in the child: all numbers are free again. */
void shd_quarantine_forked(void);

int shd_quarantine_parked(void);

/* Descriptors open now, for the bounds. */
extern _Atomic int shd_watch_open;

#endif
