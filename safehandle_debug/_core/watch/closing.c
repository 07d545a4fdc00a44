/* A number loses its handle: closed, replaced, swept away. */
#define _GNU_SOURCE
#include "bereft.h"
#include "callsites.h"
#include "lifetime/events.h"
#include "judge.h"
#include "natural.h"
#include "owners.h"
#include "quarantine.h"
#include "sentinel.h"
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int
ending_now(uint64_t serial)
{
    switch (shd_owners_finalizing(serial)) {
    case SHD_FINAL_DROPPED:
        return SHD_ENDING_DROPPED;
    case SHD_FINAL_COLLECTED:
        return SHD_ENDING_COLLECTED;
    default:
        return SHD_ENDING_CLOSED;
    }
}

enum closer {
    RIGHTFUL,
    BEHIND
};

/* A SafeHandle leaves the live table before its release hook runs, which may
 * be Python and call os.close(). */
static int
is_being_released(const shd_number *number, uint64_t word)
{
    shd_entry *entry = shd_table_entry(number->slot);
    return entry == NULL
           || shd_table_serial(atomic_load(&entry->meta))
                  != shd_word_serial(word);
}

int
shd_watch_is_held(const shd_number *number, uint64_t word)
{
    return shd_word_owner(word) == SHD_OWNER_SAFEHANDLE
           && !is_being_released(number, word);
}

static enum closer
judge_closer(const shd_number *number, uint64_t word, enum shd_owner behalf,
             const void *caller)
{
    enum shd_owner owner = (enum shd_owner)shd_word_owner(word);
    if (owner == SHD_OWNER_RAW || owner == behalf
        || (owner == SHD_OWNER_SCANDIR && behalf == SHD_OWNER_DIR)) {
        return RIGHTFUL;
    }
    if (owner == SHD_OWNER_SAFEHANDLE) {
        return is_being_released(number, word) ? RIGHTFUL : BEHIND;
    }
    return shd_callsites_judge(caller, owner) == SHD_CLOSER_STRANGER
               ? BEHIND
               : RIGHTFUL;
}

/* Records the end of a handle of which more is to be said. */
static __attribute__((noinline)) void
end_with_more(int fd, shd_number *number, uint64_t word,
              const shd_subject *subject, const char *how, int behind,
              int ending)
{
    int error = errno;
    int owner = shd_word_owner(word);
    shd_place here;
    if (shd_place_here(&here)) {
        int flags = 0;
        if (ending == SHD_ENDING_DROPPED || ending == SHD_ENDING_COLLECTED) {
            flags |= SHD_FLAG_FINALIZER;
        }
        if (shd_is_finalizing()) {
            flags |= SHD_FLAG_FINALIZING;
        }
        if (word & SHD_WORD_SECOND && !behind) {
            shd_judge_double_owner(&here, subject, number);
        }
        if (shd_watch_somebody_waits(fd, number, word)) {
            __atomic_fetch_add(&shd_problems, 1, __ATOMIC_RELAXED);
            shd_record_event(&here, subject, SHD_EVENT_USE_CLOSED, 0, 0,
                             SHD_FLAG_IN_USE, fd, shd_record_detail(how), 1);
        }
        if (owner != SHD_OWNER_SAFEHANDLE) {
            int for_life =
                word & SHD_WORD_LOCKED && flags & SHD_FLAG_FINALIZING;
            shd_record_event(&here, subject, SHD_EVENT_CLOSE, 0, ending, flags,
                             fd,
                             behind     ? shd_record_detail(how)
                             : for_life ? shd_record_detail("lock")
                                        : 0,
                             0);
        }
    }
    if (behind) {
        shd_judge_behind(subject, fd, how);
    }
    if (owner != SHD_OWNER_SAFEHANDLE) {
        shd_record_vanished(subject);
        shd_watch_clear_entry(number, subject->serial);
    }
    errno = error;
}

/* Records the end of the handle that `word` names; the record is CLOSING.
 * `behind`: by another than its owner. */
SHD_FAST void
shd_watch_end(int fd, shd_number *number, uint64_t word, const char *how,
              int behind, int ending)
{
    uint64_t serial = shd_word_serial(word);
    shd_natural_give(number->natural, serial);
    shd_watch_count(-1);
    if (word & SHD_WORD_BARE) {
        shd_record_bare(0, -1);
        return;
    }
    if (serial == 0 || shd_is_inherited(serial)) {
        return;
    }
    shd_subject subject = shd_judge_subject(fd, number, word);
    if (behind || word & (SHD_WORD_SECOND | SHD_WORD_LOCKED)
        || shd_word_owner(word) == SHD_OWNER_SAFEHANDLE
        || atomic_load_explicit(&number->waiters, memory_order_relaxed) != 0) {
        end_with_more(fd, number, word, &subject, how, behind, ending);
        return;
    }
    if (subject.slot != 0) {
        shd_table_clear(subject.slot, serial);
    }
    shd_record_ended(&subject, ending);
}

/* 1 when this call has the number for itself now. */
int
shd_watch_claim(shd_number *number, uint64_t *word)
{
    while (shd_word_state(*word) == SHD_NUMBER_OPEN) {
        if (shd_swap(&number->word, word,
                     shd_word_with_state(*word, SHD_NUMBER_CLOSING))) {
            return 1;
        }
    }
    return 0;
}

void
shd_watch_mark_closed(shd_number *number, uint64_t word)
{
    atomic_store_explicit(&number->word,
                          shd_word_with_state(word, SHD_NUMBER_CLOSED),
                          memory_order_release);
}

static enum shd_verdict
refuse(int fd, shd_number *number, uint64_t word, const char *how)
{
    shd_judge_stale(fd, number, word, SHD_WRONG_CLOSE, how);
    return SHD_REFUSE;
}

static int
may_be_parked(int fd, uint64_t word)
{
    uint64_t serial = shd_word_serial(word);
    return serial != 0 && !shd_is_inherited(serial)
           && shd_quarantine_takes(fd, shd_word_kind(word));
}

/* The number, which is CLOSING, has no handle any more. */
static __attribute__((noinline)) enum shd_verdict
park_or_close(int fd, shd_number *number, uint64_t word)
{
    int error = errno;
    int parked =
        may_be_parked(fd, word) && shd_quarantine_park(fd, number, word);
    if (!parked) {
        shd_watch_mark_closed(number, word);
    }
    errno = error;
    return parked ? SHD_DONE : SHD_CALL;
}

/* Of a number that more is known of. */
static __attribute__((noinline)) enum shd_verdict
close_with_more(int fd, const char *how, enum shd_owner owner, int may_park,
                const void *caller)
{
    if (shd_callsites_note(caller)) {
        return SHD_CALL;
    }
    shd_number *number = shd_number_find(fd);
    if (number == NULL) {
        shd_judge_next(fd, 0);
        return SHD_CALL;
    }
    int error = errno;
    enum shd_verdict verdict = SHD_CALL;
    uint64_t word = atomic_load_explicit(&number->word, memory_order_acquire);
    int state = shd_word_state(word);
    shd_judge_next(
        fd, state == SHD_NUMBER_PARKED || state == SHD_NUMBER_CLOSING
                || (state == SHD_NUMBER_CLOSED && shd_word_serial(word) != 0));
    if (state == SHD_NUMBER_OPEN && !shd_watch_may_release(word)) {
        shd_judge_stolen(fd, shd_here.releasing, word);
        verdict = SHD_REFUSE;
    }
    else if (shd_watch_claim(number, &word)) {
        shd_bereft own;
        int mistaken = shd_bereft_concerned(number, word)
                       && shd_bereft_closes(fd, number, word, caller, &own);
        int behind = !mistaken && fd > 2
                     && judge_closer(number, word, owner, caller) == BEHIND
                     && !shd_is_inherited(shd_word_serial(word));
        if ((behind || mistaken) && shd_on_error == SHD_ON_ERROR_RAISE) {
            shd_subject subject = shd_judge_subject(fd, number, word);
            atomic_store(&number->word, word);
            if (mistaken) {
                shd_judge_mistaken(fd, &own, word, how, 1);
            }
            else {
                shd_judge_behind(&subject, fd, how);
            }
            errno = error;
            return SHD_REFUSE;
        }
        shd_watch_end(fd, number, word, how, behind,
                      mistaken ? SHD_ENDING_CLOSED
                               : ending_now(shd_word_serial(word)));
        if (mistaken) {
            shd_judge_mistaken(fd, &own, word, how, 0);
            word |= SHD_WORD_HIT;
        }
        if (may_park) {
            verdict = park_or_close(fd, number, word);
        }
        else {
            shd_watch_mark_closed(number, word);
        }
    }
    else {
        switch (shd_word_state(word)) {
        case SHD_NUMBER_PARKED:
        case SHD_NUMBER_CLOSING:
            verdict = refuse(fd, number, word, how);
            break;
        case SHD_NUMBER_OURS:
            verdict = SHD_REFUSE;
            break;
        default:
            break;
        }
    }
    errno = error;
    return verdict;
}

/* Whether it is open and nobody's, and this thread in the middle of nothing. */
static inline int
is_plain(const shd_number *number, uint64_t word)
{
    return shd_word_state(word) == SHD_NUMBER_OPEN
           && shd_word_owner(word) == SHD_OWNER_RAW
           && !shd_bereft_concerned(number, word) && shd_here.releasing == 0
           && shd_here.learning == 0 && shd_here.turn.mine == NULL;
}

SHD_FAST enum shd_verdict
shd_watch_closing(int fd, const char *how, enum shd_owner owner, int may_park,
                  const void *caller)
{
    shd_number *number = shd_number_find(fd);
    uint64_t word =
        number == NULL
            ? 0
            : atomic_load_explicit(&number->word, memory_order_acquire);
    if (number == NULL || !is_plain(number, word)
        || !shd_watch_claim(number, &word)) {
        return close_with_more(fd, how, owner, may_park, caller);
    }
    shd_judge_next(fd, 0);
    shd_watch_end(fd, number, word, how, 0, ending_now(shd_word_serial(word)));
    if (may_park && shd_quarantine_is_on()) {
        return park_or_close(fd, number, word);
    }
    shd_watch_mark_closed(number, word);
    return SHD_CALL;
}

int
shd_watch_close(int fd)
{
    shd_number *number = shd_number_find(fd);
    uint64_t word = number == NULL ? 0 : atomic_load(&number->word);
    if (number == NULL || !shd_watch_running()) {
        return close(fd);
    }
    if (shd_word_state(word) == SHD_NUMBER_OPEN
        && !shd_watch_may_release(word)) {
        /* The object's own handle is gone, and somebody else has the
           number. */
        shd_judge_stolen(fd, shd_here.releasing, word);
        errno = EBADF;
        return -1;
    }
    if (shd_watch_claim(number, &word)) {
        shd_watch_end(fd, number, word, "close", 0, SHD_ENDING_CLOSED);
        if (may_be_parked(fd, word) && shd_quarantine_park(fd, number, word)) {
            return 0;
        }
        shd_watch_mark_closed(number, word);
        return close(fd);
    }
    if (shd_word_state(word) == SHD_NUMBER_PARKED
        || shd_word_state(word) == SHD_NUMBER_CLOSING) {
        /* Somebody closed it behind the object's back. */
        shd_judge_stale(fd, number, word, SHD_WRONG_CLOSE, "close");
        errno = EBADF;
        return -1;
    }
    return close(fd);
}

static uint64_t
serial_of(int fd)
{
    shd_number *number = shd_number_find(fd);
    return number == NULL ? 0 : shd_word_serial(atomic_load(&number->word));
}

/* --- over and across ------------------------------------------------------------ */

void
shd_watch_replacing(int fd, int from, const char *how, const void *caller)
{
    if (shd_callsites_note(caller)) {
        return;
    }
    shd_number *number = shd_number_find(fd);
    shd_judge_next(-1, 0);
    if (number == NULL || fd == from) {
        return;
    }
    int error = errno;
    /* A call that will fail replaces nothing. */
    if (syscall(SYS_fcntl, from, F_GETFD) < 0) {
        errno = error;
        return;
    }
    uint64_t word = atomic_load_explicit(&number->word, memory_order_acquire);
    if (shd_watch_claim(number, &word)) {
        int behind =
            fd > 2 && !shd_is_inherited(shd_word_serial(word))
            && judge_closer(number, word, SHD_OWNER_RAW, caller) == BEHIND;
        int natural = number->natural;
        shd_bereft_note(fd, number, word);
        shd_watch_end(fd, number, word, how, behind, SHD_ENDING_CLOSED);
        number->natural = natural;
        shd_watch_mark_closed(number, word);
    }
    else if (shd_word_state(word) == SHD_NUMBER_OURS) {
        shd_sentinel_lost(fd);
        atomic_store(&number->word, 0);
    }
    else if (shd_word_state(word) == SHD_NUMBER_PARKED) {
        /* Closing a number and naming it anew is right, as long as nobody
           else would have got it meanwhile. */
        uint64_t victim = shd_natural_holder(number->natural);
        if (victim != 0 && victim != serial_of(from)) {
            shd_judge_stale(fd, number, word, SHD_WRONG_USE, how);
            number->natural = -1;
        }
        shd_quarantine_forget(number, word);
    }
    errno = error;
}

void
shd_watch_replaced(int result, int from, const void *caller)
{
    if (result < 0 || result == from || shd_callsites_note(caller)) {
        return;
    }
    if (result <= 2) {
        shd_watch_note_foreign(result); /* a redirection, never judged */
        return;
    }
    shd_number *number = shd_number_find(result);
    uint64_t word = number == NULL ? 0 : atomic_load(&number->word);
    int was_closed = shd_word_state(word) == SHD_NUMBER_CLOSED;
    uint32_t slot =
        was_closed && shd_watch_is_held(number, word) ? number->slot : 0;
    /* Whoever names a number has it from the handle that was there; and an
       object that had it goes on with what is there now. */
    uintptr_t object = was_closed ? atomic_load(&number->object) : 0;
    shd_watch_begin_like(result, from, was_closed ? number->natural : result);
    if (object != 0 && shd_bereft_count != 0) {
        shd_bereft_goes_on(object, result, shd_word_serial(word),
                           serial_of(result));
    }
    if (slot != 0) {
        shd_watch_take_as(slot, shd_word_serial(atomic_load(&number->word)));
    }
}

/* pytest does so a dozen times a test. */
int
shd_watch_redirects(int from, int to)
{
    if (to < 0 || to > 2 || from == to) {
        return 0;
    }
    const shd_number *source = shd_number_find(from);
    const shd_number *stream = shd_number_find(to);
    if (source == NULL || stream == NULL
        || shd_word_state(atomic_load(&source->word)) != SHD_NUMBER_OPEN) {
        return 0;
    }
    uint64_t word = atomic_load(&stream->word);
    return word
           == shd_word(0, SHD_NUMBER_OPEN, SHD_OWNER_RAW, shd_word_kind(word));
}

void
shd_watch_redirected(int from, int to)
{
    shd_judge_next(-1, 0);
    int kind = shd_word_kind(atomic_load(&shd_number_find(from)->word));
    shd_number *stream = shd_number_find(to);
    uint64_t word = atomic_load(&stream->word);
    if (word
        == shd_word(0, SHD_NUMBER_OPEN, SHD_OWNER_RAW, shd_word_kind(word))) {
        uint64_t now = shd_word(0, SHD_NUMBER_OPEN, SHD_OWNER_RAW, kind);
        atomic_compare_exchange_strong(&stream->word, &word, now);
    }
}

/* What closes more than this at once closes whatever there is. */
#define WIDE 64

void
shd_watch_closing_range(unsigned int first, unsigned int last,
                        const void *caller)
{
    if (shd_callsites_note(caller)) {
        return;
    }
    int error = errno;
    int end = shd_numbers_end();
    int wide = last - first >= WIDE;
    shd_judge_next(-1, 0);
    for (int fd = (int)first; first <= last && fd < end; fd++) {
        if ((unsigned int)fd > last) {
            break;
        }
        shd_number *number = shd_number_find(fd);
        uint64_t word = number == NULL ? 0 : atomic_load(&number->word);
        if (number != NULL && shd_watch_claim(number, &word)) {
            int behind =
                !wide && fd > 2 && !shd_is_inherited(shd_word_serial(word))
                && judge_closer(number, word, SHD_OWNER_RAW, caller) == BEHIND;
            shd_bereft_note(fd, number, word);
            shd_watch_end(fd, number, word, "closerange", behind,
                          SHD_ENDING_CLOSED);
            shd_watch_mark_closed(number, word);
        }
        else if (shd_word_state(word) == SHD_NUMBER_OURS) {
            shd_sentinel_lost(fd);
            atomic_store(&number->word, 0);
        }
        else if (shd_word_state(word) == SHD_NUMBER_PARKED) {
            shd_quarantine_forget(number, word);
        }
    }
    errno = error;
}
