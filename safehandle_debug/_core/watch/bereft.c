/* A small table by object.  An entry is changed by who took it out of its
 * state by an exchange; what is just being changed is as if it were not there:
 * a lost entry means that something is not told. */
#include "bereft.h"

#include "callsites.h"
#include "state.h"

#define ENTRIES 1024
#define TRIES 16

typedef struct {
    _Atomic uintptr_t object; /* 0: free, BUSY: being changed */
    int fd;
    shd_bereft what;
} entry;

#define BUSY ((uintptr_t)1)

static entry entries[ENTRIES];
_Atomic int shd_bereft_count;

static entry *
place(uintptr_t object, unsigned int try)
{
    return &entries[((object >> 4) * 0x9E3779B1u + try) % ENTRIES];
}

static int
take(entry *each, uintptr_t expected)
{
    return atomic_compare_exchange_strong(&each->object, &expected, BUSY);
}

static void
free_entry(entry *each)
{
    atomic_fetch_sub(&shd_bereft_count, 1);
    atomic_store(&each->object, 0);
}

/* The object's entry for the number, taken; NULL: it has none. */
static entry *
find(uintptr_t object, int fd)
{
    for (unsigned int try = 0;
         object != 0 && atomic_load(&shd_bereft_count) != 0 && try < TRIES;
         try++) {
        entry *each = place(object, try);
        if (take(each, object)) {
            if (each->fd == fd) {
                return each;
            }
            atomic_store(&each->object, object);
        }
    }
    return NULL;
}

static void
note(uintptr_t object, int fd, const shd_number *number, uint64_t word)
{
    for (unsigned int try = 0; object != 0 && try < TRIES; try++) {
        entry *each = place(object, try);
        if (take(each, 0)) {
            each->fd = fd;
            each->what = (shd_bereft){word, shd_word_serial(word),
                                      number->detail, number->epoch};
            atomic_fetch_add(&shd_bereft_count, 1);
            atomic_store(&each->object, object);
            return;
        }
    }
}

void
shd_bereft_forget_all(uintptr_t object)
{
    for (unsigned int try = 0; try < TRIES; try++) {
        entry *each = place(object, try);
        if (take(each, object)) {
            free_entry(each);
        }
    }
}

void
shd_bereft_note(int fd, const shd_number *number, uint64_t word)
{
    note(atomic_load(&number->object), fd, number, word);
    if (word & SHD_WORD_SECOND) {
        note(number->second, fd, number, word);
    }
}

void
shd_bereft_start(void)
{
    for (int i = 0; i < ENTRIES; i++) {
        uintptr_t object = atomic_load(&entries[i].object);
        if (object > BUSY && take(&entries[i], object)) {
            free_entry(&entries[i]);
        }
    }
}

/* What an object that is closing `fd` had by it, and whether that is not what
 * `word` names.  Once it has closed the number, it will not do so again. */
static int
is_of_another(uintptr_t closing, int fd, uint64_t word, int is_use,
              shd_bereft *own)
{
    entry *found = find(closing, fd);
    if (found == NULL) {
        return 0;
    }
    *own = found->what;
    if (is_use) {
        atomic_store(&found->object, closing);
    }
    else {
        free_entry(found);
    }
    return own->now != shd_word_serial(word);
}

int
shd_bereft_closes(int fd, const shd_number *number, uint64_t word,
                  const void *caller, shd_bereft *own)
{
    uintptr_t closing = (uintptr_t)shd_here.closing;
    uintptr_t object = atomic_load(&number->object);
    uintptr_t second = word & SHD_WORD_SECOND ? number->second : 0;
    if (fd <= 2) {
        return 0;
    }
    /* A close() in Python may call anything, os.close() too. */
    if (closing != 0 && shd_callsites_closes_any(caller)) {
        closing = 0;
    }
    int mistaken = closing != object && closing != second
                   && is_of_another(closing, fd, word, 0, own);
    if (object != closing) {
        note(object, fd, number, word);
    }
    if (second != closing) {
        note(second, fd, number, word);
    }
    return mistaken;
}

int
shd_bereft_acts(int fd, uint64_t word, int is_use, shd_bereft *own)
{
    return is_of_another((uintptr_t)shd_here.closing, fd, word, is_use, own);
}

void
shd_bereft_goes_on(uintptr_t object, int fd, uint64_t old, uint64_t new)
{
    entry *found = find(object, fd);
    if (found == NULL) {
        return;
    }
    if (found->what.now == old) {
        found->what.now = new;
    }
    atomic_store(&found->object, object);
}
