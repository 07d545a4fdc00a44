#include "judge.h"

#include "lifetime/events.h"
#include "natural.h"
#include "owners.h"
#include "state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HELD 64
#define MANY 4 /* neighbours closed in a row from one place are a loop */

/* A finding that waits for its thread's next call.  `state` says who has the
 * entry. */
typedef struct shd_held_back {
    struct shd_held_back *next; /* of the same run of neighbours */
    _Atomic int state;
    int fd;
    int kind;
    int flags;
    int64_t value;
    shd_subject subject;
    shd_place here;
    unsigned long thread; /* its identifier */
    const char *how;
} held_back;

enum {
    FREE,
    FILLING,
    WAITING
};

static held_back held[HELD];
static _Atomic int waiting; /* of them, in this state */

static const char *
what_is_wrong(int kind)
{
    return kind == SHD_EVENT_CLOSED_BEHIND ? "its owner still holds it"
                                           : "it was closed before";
}

/* `here_too`: by the thread that did it. */
static void
say(const held_back *what, int here_too)
{
    if (shd_on_error == SHD_ON_ERROR_WARN
        || shd_on_error == SHD_ON_ERROR_RAISE) {
        char text[160];
        snprintf(text, sizeof(text), "%s of fd %d: %s", what->how, what->fd,
                 what_is_wrong(what->kind));
        if (shd_on_error == SHD_ON_ERROR_WARN || !here_too
            || !shd_owners_raise_here(text)) {
            shd_owners_say(text, what->here.stack, what->thread);
        }
    }
    shd_place here;
    if (!shd_place_bare(&here) || here.epoch != what->here.epoch) {
        return;
    }
    here.stack = what->here.stack;
    here.thread_id = what->here.thread_id;
    here.task = what->here.task;
    here.test = what->here.test;
    shd_record_event(&here, &what->subject, what->kind, 0, 0, what->flags,
                     what->value, shd_record_detail(what->how), 1);
}

/* Whoever takes the entry out of WAITING says it, or drops it. */
static int
take_out(held_back *what)
{
    int expected = WAITING;
    if (!atomic_compare_exchange_strong(&what->state, &expected, FILLING)) {
        return 0;
    }
    atomic_fetch_sub(&waiting, 1);
    return 1;
}

static void
alarm_now(int fd, int kind, const char *how)
{
    char text[160];
    int length = snprintf(text, sizeof(text),
                          "safehandle: %s of fd %d: %s; aborted as "
                          "on_error=abort asks\n",
                          how, fd, what_is_wrong(kind));
    if (write(2, text, (size_t)length) < 0) {
        /* abort() will say it. */
    }
    abort();
}

static void
report(int fd, const shd_subject *subject, int kind, int flags, int64_t value,
       const char *how, int may_wait)
{
    held_back now;
    if (!shd_place_here(&now.here)) {
        return;
    }
    __atomic_fetch_add(&shd_problems, 1, __ATOMIC_RELAXED);
    if (shd_on_error == SHD_ON_ERROR_ABORT) {
        may_wait = 0;
    }
    held_back *entry = NULL;
    for (int i = 0; may_wait && i < HELD; i++) {
        int is_free = FREE;
        if (atomic_compare_exchange_strong(&held[i].state, &is_free,
                                           FILLING)) {
            entry = &held[i];
            break;
        }
    }
    if (entry == NULL) {
        entry = &now;
    }
    entry->here = now.here;
    entry->fd = fd;
    entry->kind = kind;
    entry->flags = flags;
    entry->value = value;
    entry->subject = *subject;
    entry->subject.slot = 0; /* may be another's by then */
    entry->thread = PyThread_get_thread_ident();
    entry->how = how;
    if (entry == &now) {
        say(entry, 1);
        if (shd_on_error == SHD_ON_ERROR_ABORT) {
            alarm_now(fd, kind, how);
        }
        return;
    }
    entry->next = shd_here.turn.mine;
    shd_here.turn.mine = entry;
    shd_here.turn.run++;
    shd_here.turn.stack = now.here.stack;
    atomic_fetch_add(&waiting, 1);
    atomic_store(&entry->state, WAITING);
}

/* Ends the run: says what is held back of it, or drops it. */
static void
end_run(int is_loop)
{
    held_back *next;
    for (held_back *each = shd_here.turn.mine; each != NULL; each = next) {
        next = each->next;
        if (!take_out(each)) {
            continue;
        }
        if (is_loop) {
            __atomic_fetch_sub(&shd_problems, 1, __ATOMIC_RELAXED);
        }
        else {
            say(each, 1);
        }
        atomic_store(&each->state, FREE);
    }
    shd_here.turn.mine = NULL;
    shd_here.turn.run = 0;
}

/* CPython 3.11 makes one call by either of two instructions, one after the
 * other: which, changes when it has come by a few times. */
static int
is_same_call(uint32_t one, uint32_t other)
{
    if (one == other || one == 0 || other == 0) {
        return one == other;
    }
    const shd_stack_node *a =
        (const shd_stack_node *)(shd_rec.map + (uint64_t)one * 16);
    const shd_stack_node *b =
        (const shd_stack_node *)(shd_rec.map + (uint64_t)other * 16);
    return a->parent == b->parent && a->code == b->code
           && (a->lasti + 4 == b->lasti || b->lasti + 4 == a->lasti);
}

void
shd_judge_held_back(int neighbour, int is_stale)
{
    /* A loop comes back to the same line. */
    shd_place here;
    int same = neighbour && shd_place_here(&here)
               && here.epoch == shd_here.turn.mine->here.epoch
               && is_same_call(here.stack, shd_here.turn.stack);
    if (!same) {
        shd_here.turn.sweeping = 0;
        end_run(0);
    }
    else if (!is_stale || shd_here.turn.run >= MANY) {
        /* Not the ends of a pipe closed twice: it takes whatever there is. */
        shd_here.turn.sweeping = 1;
        end_run(1);
    }
}

int
shd_judge_sweeping(int fd)
{
    return shd_here.turn.sweeping && shd_here.turn.last == fd;
}

void
shd_judge_settle(void)
{
    for (int i = 0; i < HELD && atomic_load(&waiting) > 0; i++) {
        if (take_out(&held[i])) {
            say(&held[i], 0);
            atomic_store(&held[i].state, FREE);
        }
    }
}

void
shd_judge_forked(void)
{
    for (int i = 0; i < HELD; i++) {
        atomic_store(&held[i].state, FREE);
    }
    atomic_store(&waiting, 0);
    shd_here.turn.mine = NULL;
    shd_here.turn.last = -1;
    shd_here.turn.sweeping = 0;
}

/* By an object to which the number was another handle; `victim`: 0 when it is
 * nobody's. */
static void
tell_mistaken(int fd, const shd_bereft *own, int wrong, uint64_t victim,
              const char *how, int prevented)
{
    uint64_t serial = shd_word_serial(own->word);
    if (serial == 0 || shd_is_inherited(serial) || own->word & SHD_WORD_BARE) {
        return;
    }
    const shd_subject subject = {
        .serial = serial,
        .value = fd,
        .type = shd_watch_type(shd_word_owner(own->word),
                               shd_word_kind(own->word)),
        .detail = own->epoch == shd_rec.epoch ? own->detail : 0,
    };
    if (victim != 0) {
        report(fd, &subject, SHD_EVENT_RECYCLED,
               SHD_FLAG_STALE | (prevented ? SHD_FLAG_PREVENTED : 0),
               (int64_t)victim, how, 0);
        return;
    }
    report(fd, &subject,
           wrong == SHD_WRONG_CLOSE ? SHD_EVENT_DOUBLE_RELEASE
                                    : SHD_EVENT_USE_CLOSED,
           SHD_FLAG_STALE, fd, how, wrong == SHD_WRONG_CLOSE);
}

void
shd_judge_mistaken(int fd, const shd_bereft *own, uint64_t word,
                   const char *how, int prevented)
{
    tell_mistaken(fd, own, SHD_WRONG_CLOSE, shd_word_serial(word), how,
                  prevented);
}

void
shd_judge_stale(int fd, shd_number *number, uint64_t word, int wrong,
                const char *how)
{
    uint64_t serial = shd_word_serial(word);
    shd_bereft own;
    if (shd_here.closing != NULL
        && shd_bereft_acts(fd, word, wrong == SHD_WRONG_USE, &own)) {
        tell_mistaken(fd, &own, wrong, 0, how, 0);
        return;
    }
    if (serial == 0 || shd_is_inherited(serial) || fd <= 2
        || word & SHD_WORD_HIT
        || (wrong == SHD_WRONG_CLOSE && shd_judge_sweeping(fd))) {
        return;
    }
    shd_subject subject = shd_judge_subject(fd, number, word);
    int flags = SHD_FLAG_STALE;
    int parked = shd_word_state(word) == SHD_NUMBER_PARKED;
    uint64_t victim = parked ? shd_natural_holder(number->natural) : 0;
    if (victim != 0 && victim != serial) {
        report(fd, &subject, SHD_EVENT_RECYCLED, flags | SHD_FLAG_PREVENTED,
               (int64_t)victim, how, wrong == SHD_WRONG_CLOSE);
        return;
    }
    report(fd, &subject,
           wrong == SHD_WRONG_CLOSE ? SHD_EVENT_DOUBLE_RELEASE
                                    : SHD_EVENT_USE_CLOSED,
           flags, fd, how, wrong == SHD_WRONG_CLOSE);
}

void
shd_judge_stolen(int fd, uint64_t serial, uint64_t word)
{
    const shd_subject subject = {
        .serial = serial,
        .value = fd,
        .type = shd_watch_type(SHD_OWNER_SAFEHANDLE, shd_word_kind(word)),
    };
    report(fd, &subject, SHD_EVENT_RECYCLED,
           SHD_FLAG_STALE | SHD_FLAG_PREVENTED, (int64_t)shd_word_serial(word),
           "close", 0);
}

void
shd_judge_behind(const shd_subject *subject, int fd, const char *how)
{
    if (!shd_judge_sweeping(fd)) {
        report(fd, subject, SHD_EVENT_CLOSED_BEHIND, 0, fd, how, 1);
    }
}

void
shd_judge_double_owner(const shd_place *here, const shd_subject *subject,
                       const shd_number *number)
{
    shd_place then = *here;
    then.stack = number->adopted.stack;
    then.thread_id = number->adopted.thread;
    then.task = number->adopted.task;
    then.test = number->adopted.test;
    __atomic_fetch_add(&shd_problems, 1, __ATOMIC_RELAXED);
    shd_record_event(&then, subject, SHD_EVENT_DOUBLE_OWNER, 1, 0, 0,
                     (int64_t)subject->serial, 0, 1);
}
