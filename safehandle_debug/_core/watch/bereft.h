/* Objects whose number was closed by somebody else, and who do not know.
 *
 * Such an object closes the number when its own time comes, and by then it may
 * be another's: known by the object that is closing, not by the number. */
#ifndef SHD_BEREFT_H
#define SHD_BEREFT_H

#include "numbers.h"
#include "owners_parts.h"

/* A handle that was taken from an object. */
typedef struct {
    uint64_t word; /* of its number, while it was open */
    uint64_t now;  /* serial of what took its place by dup2(), or its own */
    uint32_t detail, epoch;
} shd_bereft;

/* Before the end of the handle that `word` names: 0 when it is closed by who
 * has it, as far as is known.  1: it is closed by an object that takes it for
 * its own, which goes to `own`. */
int shd_bereft_closes(int fd, const shd_number *number, uint64_t word,
                      const void *caller, shd_bereft *own);

/* The same where nobody has it.  `is_use`: it is not closed yet, only asked
 * for what a warning says of it. */
int shd_bereft_acts(int fd, uint64_t word, int is_use, shd_bereft *own);

/* The watch begins, perhaps not for the first time: nothing is known. */
void shd_bereft_start(void);

/* Whether the two above have anything to say of this number. */
static inline int
shd_bereft_concerned(const shd_number *number, uint64_t word)
{
    return atomic_load_explicit(&number->object, memory_order_relaxed)
               != (uintptr_t)shd_here.closing
           || (word & SHD_WORD_SECOND);
}

/* The handle was closed, nobody knows by whom. */
void shd_bereft_note(int fd, const shd_number *number, uint64_t word);

/* The object that had a number has what replaced it. */
void shd_bereft_goes_on(uintptr_t object, int fd, uint64_t old, uint64_t new);

/* The object takes a number, or lets go of what it had. */
extern _Atomic int shd_bereft_count;
void shd_bereft_forget_all(uintptr_t object);
static inline void
shd_bereft_forget(const void *object)
{
    if (atomic_load_explicit(&shd_bereft_count, memory_order_relaxed) != 0) {
        shd_bereft_forget_all((uintptr_t)object);
    }
}

#endif
