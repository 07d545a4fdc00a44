/* Which code calls: known by the address that the call returns to.
 *
 * CPython closes descriptors at few places, and each is learned at start by
 * doing the act once.  A place that was not learned is never accused. */
#ifndef SHD_CALLSITES_H
#define SHD_CALLSITES_H

#include "owners_parts.h"
#include "watch.h"

enum shd_closer {
    SHD_CLOSER_UNKNOWN,  /* may be the owner's own code */
    SHD_CLOSER_OWN,      /* the owner's own code */
    SHD_CLOSER_STRANGER, /* certainly not */
};

/* Does each act once on a descriptor of its own.  With the GIL, hooks in
 * place and awake; keeps errno and the current exception. */
void shd_callsites_start(void);
void shd_callsites_stop(void);

/* First of all in what hooks call to tell of a descriptor: 1 when this thread
 * is learning, and the call is to be heard of no further. */
void shd_callsites_learn(const void *caller);
static inline int
shd_callsites_note(const void *caller)
{
    if (shd_here.learning == 0) {
        return 0;
    }
    shd_callsites_learn(caller);
    return 1;
}

/* Whether a close from there is what the owner does. */
enum shd_closer shd_callsites_judge(const void *caller, enum shd_owner owner);

/* Whether it is a function of Python's that closes what number it is given. */
int shd_callsites_closes_any(const void *caller);

/* Callers of whom it is known that nobody owns what they open. */
#define SHD_RAW_OPENERS 64
extern _Atomic(const void *) shd_callsites_raw[SHD_RAW_OPENERS];
static inline _Atomic(const void *) *
shd_callsites_raw_opener(const void *caller)
{
    return &shd_callsites_raw[((uintptr_t)caller >> 2) % SHD_RAW_OPENERS];
}

/* Owner of what is opened from there; RAW: nobody known. */
enum shd_owner shd_callsites_new_opener(const void *caller);
static inline enum shd_owner
shd_callsites_opener(const void *caller)
{
    return atomic_load_explicit(shd_callsites_raw_opener(caller),
                                memory_order_relaxed)
                   == caller
               ? SHD_OWNER_RAW
               : shd_callsites_new_opener(caller);
}

/* Whether it is in the object that os.close() is in. */
int shd_callsites_is_python(const void *caller);

#endif
