/* Our own descriptor, and its copies at the numbers that are parked. */
#ifndef SHD_SENTINEL_H
#define SHD_SENTINEL_H

#define SHD_SENTINEL_AT_ONCE 32 /* numbers looked at together, at most */

/* It, made if need be: below `limit`, and out of the way of those who expect
 * low numbers.  -1: none. */
int shd_sentinel_fd(int limit);

/* Gives it up; it is made again when it is needed. */
void shd_sentinel_drop(void);

/* The number went (closed by a loop): 1 if it was its own. */
int shd_sentinel_lost(int fd);

/* Whether `fd` is a sentinel still, and nobody put something there behind
 * libc's back.  A sentinel that was given up meanwhile is known by its name. */
int shd_sentinel_is(int fd);

/* Whether every one of these numbers answers as a closed one does.  What
 * somebody put there behind libc's back would answer otherwise. */
int shd_sentinel_are_all(const int *numbers, int count);

/* Closes numbers, which are in order, run by run. */
void shd_sentinel_close_all(const int *numbers, int count);

/* After fork, in the child. */
void shd_sentinel_forked(void);

#endif
