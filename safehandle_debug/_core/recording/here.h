/* What every event looks at, kept close together.
 *
 * A hook runs just back from the kernel, or about to go there: of what it
 * touches, little is still in the processor's first cache.  So it costs as many
 * nanoseconds as there are cache lines in it, more than what it does with
 * them. */
#ifndef SHD_HERE_H
#define SHD_HERE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Variables that stay as they are from event to event, and those that every
 * event changes, wherever they are defined. */
#if defined(__ELF__)
#define SHD_HOT __attribute__((section("shd_hot")))
#define SHD_HOT_COUNT __attribute__((section("shd_hot_count")))
#else
#define SHD_HOT
#define SHD_HOT_COUNT
#endif

/* Functions that every event comes by lie together too. */
#define SHD_FAST __attribute__((hot, aligned(64)))

/* Most that a page of memory has on this machine. */
#if defined(__x86_64__)
#define SHD_PAGE_SIZE 4096
#else
#define SHD_PAGE_SIZE 65536
#endif

/* The switches.  Their page is one that a fork leaves empty: a copy of the
 * process that nobody told us of is off, and writes nothing. */
typedef union {
    struct {
        _Atomic uint32_t recording; /* events may be written */
        _Atomic uint32_t watching;  /* hooks are awake */
    };
    char page[SHD_PAGE_SIZE];
} shd_switches;

extern _Alignas(SHD_PAGE_SIZE) shd_switches shd_on;

/* Where the kernel cannot do that, forks of libc are told of. */
void shd_on_start(void);

/* Of the close that this thread did last, see watch/judge.h. */
struct shd_turn {
    struct shd_held_back *mine;
    int last;       /* number of the last close, -1: another call came after */
    uint32_t stack; /* of that close */
    int run;        /* wrong closes held back, all neighbours */
    int sweeping;   /* the last closes went from neighbour to neighbour */
};

/* What this thread is in the middle of. */
struct shd_here {
    struct shd_thread *thread; /* thread.h; NULL: nothing recorded yet */
    int busy;                  /* shd_watch_asleep() */
    uint8_t finalizing;        /* shd_owners_finalizing() */
    uint8_t learning;          /* call site that is being learned, 0: none */
    uint16_t collecting;       /* collections of the cyclic collector */
    struct shd_turn turn;
    uint64_t releasing; /* shd_watch_may_release() */
    void *closing;      /* the object that closes its descriptor, or NULL */
    uint16_t *waiters;  /* of the number that it waits on */

    /* Seldom looked at. */
    uint64_t since;           /* newest serial when the finalizer began */
    uint64_t collected_since; /* ... and the collection */
};

_Static_assert(offsetof(struct shd_here, since) <= 64, "one cache line");

extern _Thread_local _Alignas(64) struct shd_here shd_here
    __attribute__((tls_model("initial-exec")));

#endif
