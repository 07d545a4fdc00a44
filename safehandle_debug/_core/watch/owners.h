/* Python's own objects that own descriptors: what they take, what they let go
 * of, and whether a finalizer is at work.
 *
 * The types stay what they are.  Their C slots get wrappers, as do the few
 * methods without a slot; subclasses made before hold copies of the slots and
 * are visited too.  A type that does not look as expected is left alone.
 *
 *   owners.c           constructors and detach(): who takes a descriptor
 *   owners_layout.c    where an object keeps its descriptor
 *   owners_slots.c     wrapping, and putting back
 *   owners_finalize.c  finalizers: how a descriptor ends */
#ifndef SHD_OWNERS_H
#define SHD_OWNERS_H

#include "compat.h"
#include "recording/here.h"
#include "recording/recorder.h"

#include "watch.h"

/* With the GIL, hooks awake.  Learns the call sites too.  0: what could not be
 * wrapped is left out, and the program runs on. */
int shd_owners_start(void);
void shd_owners_stop(void);

/* Wraps what was loaded since.  With the GIL. */
void shd_owners_again(void);

/* Names of the owners whose objects are seen, as a new list. */
PyObject *shd_owners_names(void);

/* What on this thread closes a handle. */
enum shd_final {
    SHD_FINAL_NONE,      /* no finalizer of an owner */
    SHD_FINAL_DROPPED,   /* one of an object that was dropped */
    SHD_FINAL_COLLECTED, /* one that the cyclic collector called */
};

/* Of the handle with this serial: what a finalizer itself has acquired, it
 * closes as it likes.  What a collection drops may close by other ways: SQLite
 * does with the last statement, a `__del__` in Python as it likes.  Without the
 * GIL, from any thread. */
static inline int
shd_owners_finalizing(uint64_t serial)
{
    if (shd_here.collecting && serial <= shd_here.collected_since) {
        return SHD_FINAL_COLLECTED;
    }
    return shd_here.finalizing && serial <= shd_here.since
               ? shd_here.finalizing
               : SHD_FINAL_NONE;
}

enum shd_soon {
    SHD_SOON_ATTACH = 1,    /* shd_owners_again() */
    SHD_SOON_EXHAUSTED = 2, /* alarm.exhausted() */
    SHD_SOON_SAY = 4,       /* alarm.say(), see shd_owners_say() */
    SHD_SOON_ASKED = 8,     /* alarm.asked(), see shd_owners_asked() */
};

/* Has Python code run by the main thread, at its next chance.  From anywhere. */
void shd_owners_soon(int what);

/* Has alarm.asked() called: by the main thread, or, where that does not come
 * to it for a while, by a thread for this alone. */
void shd_owners_asked(void);

/* The same for a sentence that on_error= has to say of what a thread, by its
 * identifier, has done; the first few, when many wait. */
void shd_owners_say(const char *text, uint32_t stack, unsigned long thread);

/* Raises HandleStateError in this thread, as soon as it is back in Python.
 * 0: not possible here. */
int shd_owners_raise_here(const char *text);

/* After fork, in the child: what another thread had begun ends nowhere. */
void shd_owners_forked(void);

#endif
