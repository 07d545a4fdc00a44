/* Ticks: the cheapest monotonic stamp of this machine. */
#ifndef SHD_CLOCK_H
#define SHD_CLOCK_H

#include "format.h"
#include "here.h"

#include <time.h>

/* 1 when ticks are CPU cycles of an invariant counter, 0 when nanoseconds of
 * CLOCK_MONOTONIC.  Set once by shd_clock_start(). */
extern int shd_clock_cycles;

void shd_clock_start(void);

static inline int64_t
shd_clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline uint64_t
shd_clock_ticks(void)
{
#if defined(__x86_64__)
    if (shd_clock_cycles) {
        return __builtin_ia32_rdtsc();
    }
#endif
    return (uint64_t)shd_clock_ns(CLOCK_MONOTONIC);
}

shd_anchor shd_clock_anchor(void);

/* Ticks a nanosecond, estimated from the time since shd_clock_start(). */
double shd_clock_rate(void);

#endif
