/* What is wrong with an act on a number, and when it is said.
 *
 * A wrong close is held back until the thread's next call: a loop that closes
 * one number after the other, whatever they are, is no bug. */
#ifndef SHD_JUDGE_H
#define SHD_JUDGE_H

#include "bereft.h"
#include "numbers.h"
#include "recording/record.h"
#include "state.h"

enum shd_wrong {
    SHD_WRONG_CLOSE,  /* of a number that was closed */
    SHD_WRONG_USE,    /* of a number that was closed */
    SHD_WRONG_BEHIND, /* close of a number that has an owner */
};

/* The subject of events about a number's handle, as of `word`. */
static inline shd_subject
shd_judge_subject(int fd, const shd_number *number, uint64_t word)
{
    return (shd_subject){
        .serial = shd_word_serial(word),
        .value = fd,
        .type = shd_watch_type(shd_word_owner(word), shd_word_kind(word)),
        .detail = number->epoch == shd_rec.epoch ? number->detail : 0,
        .slot = word & SHD_WORD_BARE ? 0 : number->slot,
    };
}

/* A stale act: DOUBLE_RELEASE, USE_CLOSED or RECYCLED. */
void shd_judge_stale(int fd, shd_number *number, uint64_t word, int wrong,
                     const char *how);

/* A SafeHandle's release is about to close a number that is another's by now:
 * RECYCLED, on the SafeHandle's own serial. */
void shd_judge_stolen(int fd, uint64_t serial, uint64_t word);

/* The same of another object, whose handle the number was once; `word`: what
 * the number is now. */
void shd_judge_mistaken(int fd, const shd_bereft *own, uint64_t word,
                        const char *how, int prevented);

/* The close was done behind the owner. */
void shd_judge_behind(const shd_subject *subject, int fd, const char *how);

/* Two owners had the number, and one closes it. */
void shd_judge_double_owner(const shd_place *here, const shd_subject *subject,
                            const shd_number *number);

/* What is held back is said now, or has turned out to be part of a loop. */
void shd_judge_held_back(int neighbour, int is_stale);

/* At each call of this thread: `fd` is about to be closed, or -1 for any other
 * call.  Says what was held back, unless the neighbour's turn has come;
 * `is_stale`: the number was closed before. */
static inline void
shd_judge_next(int fd, int is_stale)
{
    int last = shd_here.turn.last;
    int neighbour = fd >= 0 && last >= 0 && (fd == last + 1 || fd == last - 1);
    shd_here.turn.last = fd;
    if (shd_here.turn.mine == NULL) {
        shd_here.turn.sweeping &= neighbour;
    }
    else {
        shd_judge_held_back(neighbour, is_stale);
    }
}

/* Whether this thread is inside a loop over neighbouring numbers that has come
 * to `fd`. */
int shd_judge_sweeping(int fd);

/* Says everything that is held back, of all threads. */
void shd_judge_settle(void);

void shd_judge_forked(void);

#endif
