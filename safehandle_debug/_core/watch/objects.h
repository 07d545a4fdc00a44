/* The loaded objects, and the slots through which they call libc.
 *
 * All but shd_interpose_object_of() is for interpose.c, one thread at a
 * time.  Memory is reserved once and never moves: readers need no lock. */
#ifndef SHD_OBJECTS_H
#define SHD_OBJECTS_H

#include "originals.h"

#include <link.h>
#include <stdatomic.h>

typedef struct {
    void **at;
    const shd_original *original;
    uint32_t object;
} shd_slot;

typedef struct {
    uintptr_t base;
    const ElfW(Phdr) * headers;
    uint32_t name; /* where it stands among the names */
    uint16_t headers_count;
    uint8_t gone;
    uint8_t ours; /* not to be patched: libc and its family, us */
    uint8_t patched;
    uint8_t listed; /* among the ranges */
    uint32_t walk;  /* the last walk that saw it */
    uintptr_t low, high;
    uintptr_t protected_low, protected_high; /* RELRO pages */
    shd_slot probe;                          /* the first slot patched */
} shd_object;

int shd_objects_start(void);

/* The object that is seen, old or new; 0 when there is no room.  Names are
 * compared when something was unloaded since the last walk: another object
 * may stand where one was. */
uint32_t shd_objects_seen(const struct dl_phdr_info *info, int reloaded,
                          uint32_t walk);

/* Forgets what `walk` did not see, and publishes where the others are. */
void shd_objects_settle(uint32_t walk);

/* Before the objects are listed from the first one. */
void shd_objects_rewind(void);

/* Number of the object that is listed next, 0: not known. */
uint32_t shd_objects_find(const struct dl_phdr_info *info);

shd_object *shd_objects_get(uint32_t number);

/* Patches one object, or again what was missed or lost in it. */
void shd_slots_patch(uint32_t number);

/* After something was unloaded: an object that came back to its old place is
 * to be patched again. */
void shd_slots_probe(uint32_t number);

/* Looks all slots through: ours where libc's stands (`back` 0), or the other
 * way round. */
void shd_slots_check(int back);

/* Forgets the slots of objects that are gone. */
void shd_slots_forget(void);

int shd_slots_start(void);
size_t shd_slots_count(void);   /* hold our function */
size_t shd_slots_foreign(void); /* hold another tool's */

/* Tells of each slot that holds another tool's function. */
void shd_slots_each_foreign(void (*each)(const char *function,
                                         const void *theirs, void *arg),
                            void *arg);

/* Forgets that anything is patched. */
void shd_objects_unpatched(void);

#endif
