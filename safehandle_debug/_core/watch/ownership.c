/* A number's handle gets an owner, or loses it. */
#include "bereft.h"
#include "callsites.h"
#include "lifetime/events.h"
#include "judge.h"
#include "natural.h"
#include "quarantine.h"
#include "state.h"

#include <errno.h>

static void
change_owner(int fd, shd_number *number, uint64_t word, int kind)
{
    if (word & SHD_WORD_BARE) {
        return;
    }
    shd_subject subject = shd_judge_subject(fd, number, word);
    shd_place here;
    if (shd_place_asked(&here)) {
        shd_record_event(&here, &subject, kind, 1, 0, 0, fd, 0, 0);
        shd_record_retyped(&subject);
    }
}

/* The owner lets go of a number that somebody else has closed: the two had
   come to terms (a library that takes a socket over, and then says so). */
static void
let_go_late(int fd, shd_number *number, uint64_t word)
{
    shd_subject subject = shd_judge_subject(
        fd, number, shd_word_with_owner(word, SHD_OWNER_RAW));
    subject.slot = 0;
    shd_place here;
    atomic_store(&number->object, 0);
    if (!(word & SHD_WORD_BARE) && shd_place_asked(&here)) {
        shd_record_event(&here, &subject, SHD_EVENT_DISOWNED, 0, 0, 0, fd, 0,
                         0);
    }
}

void
shd_watch_tell_locks(void)
{
    int end = shd_numbers_end();
    for (int fd = 0; fd < end; fd++) {
        shd_number *number = shd_number_find(fd);
        uint64_t word = number == NULL ? 0 : atomic_load(&number->word);
        shd_place here;
        if (word & SHD_WORD_LOCKED && !(word & SHD_WORD_BARE)
            && shd_word_state(word) == SHD_NUMBER_OPEN
            && shd_place_bare(&here)) {
            shd_subject subject = shd_judge_subject(fd, number, word);
            shd_record_event(&here, &subject, SHD_EVENT_OWNED, 1, 0, 0, fd,
                             shd_record_detail("lock"), 0);
        }
    }
}

void
shd_watch_copied(int from)
{
    shd_number *number = shd_number_find(from);
    uint64_t word = number == NULL ? 0 : atomic_load(&number->word);
    shd_place here;
    if (shd_word_state(word) != SHD_NUMBER_OPEN || !(word & SHD_WORD_LOOSE)
        || word & SHD_WORD_BARE || !shd_place_here(&here)) {
        return;
    }
    shd_subject subject = shd_judge_subject(from, number, word);
    shd_record_event(&here, &subject, SHD_EVENT_DISOWNED, 1, 0, 0, from,
                     shd_record_detail("dup"), 0);
}

/* A second owner: told when one of the two closes while the other keeps it. */
static void
take_second(shd_number *number, uint64_t word, const void *object)
{
    shd_place here;
    if (number->second == 0 && shd_place_asked(&here)) {
        number->adopted = (shd_number_place){here.stack, here.thread_id,
                                             here.task, here.test};
        number->second = (uintptr_t)object;
        atomic_compare_exchange_strong(&number->word, &word,
                                       word | SHD_WORD_SECOND);
    }
}

/* A stream that was made over somebody's number may just be forgotten, and
   then it never closes: it is no owner beside another. */
static int
is_stream(int owner)
{
    return owner == SHD_OWNER_FILE || owner == SHD_OWNER_DIR;
}

void
shd_watch_taken(int fd, enum shd_owner owner, const void *object,
                uint64_t since)
{
    (void)since;
    shd_bereft_forget(object);
    shd_number *number = shd_number_find(fd);
    if (number == NULL || fd <= 2 || !shd_watch_running()) {
        return;
    }
    int error = errno;
    uint64_t word = atomic_load(&number->word);
    uint64_t serial = shd_word_serial(word);
    if (shd_word_state(word) == SHD_NUMBER_OPEN && serial != 0
        && !shd_is_inherited(serial)) {
        int before = shd_word_owner(word);
        uintptr_t owned = atomic_load(&number->object);
        if (before == SHD_OWNER_RAW || is_stream(before)
            || (before == (int)owner && owned == 0)) {
            uint64_t taken =
                shd_word_with_owner(word, owner) & ~SHD_WORD_LOOSE;
            atomic_store(&number->object, (uintptr_t)object);
            if (before != (int)owner
                && atomic_compare_exchange_strong(&number->word, &word,
                                                  taken)) {
                change_owner(fd, number, taken, SHD_EVENT_OWNED);
            }
        }
        else if (owned != (uintptr_t)object && !is_stream((int)owner)) {
            take_second(number, word, object);
        }
    }
    errno = error;
}

void
shd_watch_let_go(int fd, const void *object)
{
    shd_bereft_forget(object);
    shd_number *number = shd_number_find(fd);
    if (number == NULL || !shd_watch_running()) {
        return;
    }
    int error = errno;
    uint64_t word = atomic_load(&number->word);
    int state = shd_word_state(word);
    if ((state == SHD_NUMBER_PARKED || state == SHD_NUMBER_CLOSED)
        && object != NULL
        && atomic_load(&number->object) == (uintptr_t)object) {
        let_go_late(fd, number, word);
    }
    else if (state == SHD_NUMBER_OPEN && object != NULL) {
        uint64_t alone = word & ~SHD_WORD_SECOND;
        if (number->second == (uintptr_t)object) {
            number->second = 0;
            atomic_compare_exchange_strong(&number->word, &word, alone);
        }
        else if (atomic_load(&number->object) == (uintptr_t)object) {
            if (word & SHD_WORD_SECOND) {
                atomic_store(&number->object, number->second);
                number->second = 0;
            }
            else {
                alone =
                    shd_word_with_owner(alone, SHD_OWNER_RAW) | SHD_WORD_LOOSE;
                atomic_store(&number->object, 0);
            }
            if (atomic_compare_exchange_strong(&number->word, &word, alone)
                && shd_word_owner(alone) == SHD_OWNER_RAW) {
                change_owner(fd, number, alone, SHD_EVENT_DISOWNED);
            }
        }
    }
    errno = error;
}

void
shd_watch_owned(int fd, enum shd_owner owner, const void *caller)
{
    if (owner == SHD_OWNER_DIR && shd_callsites_is_python(caller)) {
        owner = SHD_OWNER_SCANDIR;
    }
    shd_watch_taken(fd, owner, NULL, 0);
}

/* By slot of the live table: serial of the handle that the number of an object
 * belongs to, its own or, of a second owner, the first one's. */
#define SLOTS (1 << 20)
static _Atomic uint64_t taken_as[SLOTS];

uint64_t
shd_watch_release_begins(uint32_t slot)
{
    uint64_t outer = shd_here.releasing;
    shd_here.releasing = slot < SLOTS
                             ? atomic_exchange_explicit(&taken_as[slot], 0,
                                                        memory_order_relaxed)
                             : 0;
    return outer;
}

void
shd_watch_release_ended(uint64_t outer)
{
    shd_here.releasing = outer;
}

void
shd_watch_take_as(uint32_t slot, uint64_t serial)
{
    if (slot < SLOTS) {
        atomic_store_explicit(&taken_as[slot], serial, memory_order_relaxed);
    }
}

void
shd_watch_adopted(int fd, uint64_t serial, uint32_t slot)
{
    if (!shd_watch_running()) {
        return;
    }
    int error = errno;
    shd_number *number = shd_number_make(fd);
    if (number != NULL) {
        uint64_t word = atomic_load(&number->word);
        int kind = SHD_FD_UNKNOWN;
        int natural = -1;
        if (shd_word_state(word) == SHD_NUMBER_OPEN) {
            if (shd_word_owner(word) == SHD_OWNER_SAFEHANDLE) {
                /* Two SafeHandles: events.c tells it. */
                shd_watch_take_as(slot, shd_word_serial(word));
                errno = error;
                return;
            }
            if (shd_word_owner(word) != SHD_OWNER_RAW) {
                take_second(number, word, number);
                shd_watch_take_as(slot, shd_word_serial(word));
                errno = error;
                return;
            }
            kind = shd_word_kind(word);
            natural = number->natural;
            if (shd_watch_claim(number, &word)) {
                shd_watch_end(fd, number, word, "", 0, SHD_ENDING_TRANSFERRED);
            }
        }
        if (natural < 0) {
            natural = shd_natural_take(serial);
        }
        else {
            shd_natural_take_at(natural, serial);
        }
        atomic_fetch_add(&shd_watch_open, 1);
        shd_watch_take_as(slot, serial);
        number->natural = natural;
        number->slot = slot;
        number->second = 0;
        number->detail = 0;
        number->epoch = shd_rec.epoch;
        atomic_store(&number->object, 0);
        atomic_store(&number->word, shd_word(serial, SHD_NUMBER_OPEN,
                                             SHD_OWNER_SAFEHANDLE, kind));
    }
    errno = error;
}

void
shd_watch_released(int fd, uint64_t serial)
{
    shd_number *number = shd_number_find(fd);
    uint64_t word = number == NULL ? 0 : atomic_load(&number->word);
    if (!shd_watch_running() || shd_word_serial(word) != serial
        || shd_word_owner(word) != SHD_OWNER_SAFEHANDLE
        || !shd_watch_claim(number, &word)) {
        return;
    }
    int natural = number->natural;
    shd_watch_end(fd, number, word, "", 0, SHD_ENDING_TRANSFERRED);
    shd_watch_mark_closed(number, word);
    shd_watch_begin(fd, shd_word_kind(word), SHD_OWNER_RAW, NULL, 0, 0,
                    natural);
}
