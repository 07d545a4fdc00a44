/* What the watch's own files share. */
#ifndef SHD_WATCH_STATE_H
#define SHD_WATCH_STATE_H

#include "numbers.h"
#include "recording/record.h"

static inline int
shd_watch_running(void)
{
    return atomic_load_explicit(&shd_on.watching, memory_order_relaxed);
}

/* Whether acquisitions get events yet: with `arm=N`, when so many are open. */
extern _Atomic int shd_watch_armed;
extern uint32_t shd_watch_arm_at;

/* Descriptors that are open now; returns how many that are. */
extern _Atomic int shd_watch_open;
static inline int
shd_watch_count(int by)
{
    int open = shd_add_int(&shd_watch_open, by) + by;
    if (shd_watch_arm_at != 0 && (uint32_t)open >= shd_watch_arm_at) {
        atomic_store_explicit(&shd_watch_armed, 1, memory_order_relaxed);
    }
    return open;
}

/* The live table's entry is free again. */
static inline void
shd_watch_forget_entry(uint32_t slot, uint64_t serial)
{
    if (slot != 0 && shd_table_claim(slot, serial)) {
        shd_record_count_live();
        shd_table_give(slot);
    }
}

/* The same of a number, which keeps the entry for its next handle. */
static inline void
shd_watch_clear_entry(const shd_number *number, uint64_t serial)
{
    if (number->slot != 0 && number->slot == number->kept) {
        shd_table_clear(number->slot, serial);
        shd_record_count_live();
    }
}

/* TYPE id. */
extern _Atomic uint64_t shd_watch_types[SHD_OWNERS]
                                       [SHD_FD_KINDS]; /* epoch | id */
uint32_t shd_watch_new_type(int owner, int kind);
static inline uint32_t
shd_watch_type(int owner, int kind)
{
    uint64_t known = atomic_load_explicit(&shd_watch_types[owner][kind],
                                          memory_order_relaxed);
    return known >> 32 == shd_rec.epoch && known != 0
               ? (uint32_t)known
               : shd_watch_new_type(owner, kind);
}

/* A handle begins.  `natural` -1: the lowest free number. */
void shd_watch_begin(int fd, int kind, int owner, const char *path,
                     uint32_t detail, int flags, int natural);

/* Open before the watch began, or a standard stream: somebody else's, never
 * judged. */
void shd_watch_note_foreign(int fd);

/* As shd_watch_begin(), with kind and detail of another number's handle. */
void shd_watch_begin_like(int fd, int from, int natural);

/* The process ends: says which of the numbers that are open hold a lock. */
void shd_watch_tell_locks(void);

/* A number that its owner let go of is copied: whoever does that has it now.
 */
void shd_watch_copied(int from);

/* 1 when this call has the number for itself now: it was OPEN, and is CLOSING.
 * `word` is what it was. */
int shd_watch_claim(shd_number *number, uint64_t *word);

/* Records the end of the handle that `word` names; the number is CLOSING.
 * `behind`: by another than its owner.  `ending`: a shd_ending. */
void shd_watch_end(int fd, shd_number *number, uint64_t word, const char *how,
                   int behind, int ending);

/* Serial of the handle that the release which runs on this thread may close;
 * 0: whatever. */
static inline int
shd_watch_may_release(uint64_t word)
{
    return shd_here.releasing == 0
           || shd_here.releasing == shd_word_serial(word);
}
/* The object with this slot may close the handle with this serial. */
void shd_watch_take_as(uint32_t slot, uint64_t serial);

/* Whether a SafeHandle holds it, and is not just releasing it. */
int shd_watch_is_held(const shd_number *number, uint64_t word);

void shd_watch_mark_closed(shd_number *number, uint64_t word);

/* A handle is found to be gone at a checkpoint, or its number given out again
 * unseen. */
void shd_watch_end_unseen(int fd, shd_number *number, uint64_t word,
                          int ending);

/* Whether another thread is blocked inside a call on the number. */
int shd_watch_somebody_waits(int fd, const shd_number *number, uint64_t word);

/* Forgets children that were waited for unseen; at the end, also those that
 * still run. */
void shd_children_checkpoint(void);
void shd_children_end(void);
void shd_children_forked(void);

void shd_children_each(void (*visit)(const shd_subject *child, void *arg),
                       void *arg);

/* leaving.c: _exit(), with the GIL or without. */
void shd_leaving_start(void);
void shd_leaving_forked(void);
void shd_leaving_judge(void);

/* Wakes the hooks up, or puts them to sleep. */
void shd_inside_switch(int on);
/* Also in a child process that nobody has told of it. */
int shd_inside_was_on(void);
void shd_inside_forked(void);

#endif
