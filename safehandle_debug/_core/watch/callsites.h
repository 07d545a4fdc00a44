/* Which code calls: known by the address that the call returns to.
 *
 * CPython closes descriptors at few places, and each is learned at start by
 * doing the act once.  A place that was not learned is never accused. */
#ifndef SHD_CALLSITES_H
#define SHD_CALLSITES_H

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
int shd_callsites_note(const void *caller);

/* Whether a close from there is what the owner does. */
enum shd_closer shd_callsites_judge(const void *caller, enum shd_owner owner);

/* Owner of what is opened from there; RAW: nobody known. */
enum shd_owner shd_callsites_opener(const void *caller);

/* Whether it is in the object that os.close() is in. */
int shd_callsites_is_python(const void *caller);

#endif
