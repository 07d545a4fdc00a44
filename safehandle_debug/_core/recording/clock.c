/* Which counter gives ticks, and how they relate to the wall clock.
 *
 * An invariant time stamp counter costs 10 ns where CLOCK_MONOTONIC costs 24;
 * events are ordered by `seq`, so a stamp needs no more than to be good enough
 * for a reader's "0.31 s ago". */
#include "clock.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

int shd_clock_cycles SHD_HOT;

static shd_anchor started;

static int
counter_is_invariant(void)
{
#if defined(__x86_64__)
    unsigned int a, b, c, d;
    return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & (1u << 8));
#else
    return 0;
#endif
}

shd_anchor
shd_clock_anchor(void)
{
    shd_anchor anchor;
    anchor.ticks = shd_clock_ticks();
    anchor.monotonic_ns = shd_clock_ns(CLOCK_MONOTONIC);
    anchor.realtime_ns = shd_clock_ns(CLOCK_REALTIME);
    return anchor;
}

void
shd_clock_start(void)
{
    shd_clock_cycles = counter_is_invariant();
    started = shd_clock_anchor();
}

double
shd_clock_rate(void)
{
    if (!shd_clock_cycles) {
        return 1.0;
    }
    /* A short busy wait bounds the error of the first estimate where the
       module was imported only just now. */
    shd_anchor now = shd_clock_anchor();
    while (now.monotonic_ns - started.monotonic_ns < 200000) {
        now = shd_clock_anchor();
    }
    return (double)(now.ticks - started.ticks)
           / (double)(now.monotonic_ns - started.monotonic_ns);
}
