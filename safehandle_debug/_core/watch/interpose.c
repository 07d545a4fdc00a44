/* Patching what is loaded, as it is loaded. */
#define _GNU_SOURCE
#include "interpose.h"

#include "objects.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <time.h>

enum {
    TRIES = 3,
    PATIENCE = 1, /* seconds */
    FORKING = 1,  /* a flag in the thread's number */
};

/* The thread that patches; 0: nobody.  Who comes second goes away. */
static _Atomic uintptr_t patching;
static atomic_int started;

/* In a child process: the dynamic linker's locks may be held by a thread that
 * is not here.  Once the program itself has passed them, so may we. */
static atomic_int inherited;

/* Threads in fork(): they come first. */
static atomic_int forks;

/* How often the dynamic linker loaded and unloaded when we last looked. */
static unsigned long long added, removed;
static uint32_t walks;

static uintptr_t
self(void)
{
    return (uintptr_t)pthread_self();
}

static int
begin(uintptr_t who)
{
    uintptr_t nobody = 0;
    return atomic_compare_exchange_strong_explicit(
        &patching, &nobody, who, memory_order_acquire, memory_order_relaxed);
}

static void
end(void)
{
    atomic_store_explicit(&patching, 0, memory_order_release);
}

static time_t
seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec;
}

/* A thread that lists the objects holds a lock of the dynamic linker, which a
 * child process would find held for ever: fork() waits until it is through.
 * Not without end: it may itself wait for a dlopen() that waits for us. */
static void
before_fork(void)
{
    time_t until = seconds() + PATIENCE;
    atomic_fetch_add(&forks, 1);
    while (!begin(self() | FORKING)) {
        if (atomic_load_explicit(&patching, memory_order_relaxed) == self()
            || seconds() > until) {
            return; /* a signal handler forks */
        }
        sched_yield();
    }
}

static void
after_fork(void)
{
    atomic_fetch_sub(&forks, 1);
    if (atomic_load_explicit(&patching, memory_order_relaxed)
        == (self() | FORKING)) {
        end();
    }
}

static void
after_fork_in_child(void)
{
    atomic_store_explicit(&inherited, 1, memory_order_relaxed);
    atomic_store(&forks, 0);
    if (atomic_load_explicit(&patching, memory_order_relaxed) != self()) {
        end();
    }
}

void
shd_interpose_passed(void)
{
    if (atomic_load_explicit(&inherited, memory_order_relaxed)) {
        atomic_store_explicit(&inherited, 0, memory_order_relaxed);
    }
}

/* 1: to be ended with end(). */
static int
may_begin(void)
{
    return atomic_load_explicit(&started, memory_order_acquire)
           && !atomic_load_explicit(&inherited, memory_order_relaxed)
           && atomic_load_explicit(&forks, memory_order_relaxed) == 0
           && begin(self());
}

typedef struct {
    unsigned long long added, removed;
    int reloaded, first;
} look;

static int
read_counts(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    look *now = data;
    now->added = info->dlpi_adds;
    now->removed = info->dlpi_subs;
    return 1;
}

static int
note(struct dl_phdr_info *info, size_t size, void *data)
{
    look *now = data;
    if (now->first) {
        now->first = 0;
        read_counts(info, size, now);
        now->reloaded = now->removed != removed;
        if (now->added == added && !now->reloaded) {
            return 1;
        }
        walks++;
        shd_objects_rewind();
    }
    uint32_t number = shd_objects_seen(info, now->reloaded, walks);
    if (number != 0 && now->reloaded) {
        shd_slots_probe(number);
    }
    return 0;
}

static int
patch(struct dl_phdr_info *info, size_t size, void *data)
{
    const look *noted = data;
    look now;
    read_counts(info, size, &now);
    if (now.removed != noted->removed) {
        return 1;
    }
    uint32_t number = shd_objects_find(info);
    shd_object *object = number == 0 ? NULL : shd_objects_get(number);
    if (object != NULL && !object->patched && !object->ours) {
        object->patched = 1;
        shd_slots_patch(number);
    }
    return 0;
}

/* An object is listed before its slots are filled in.  Whoever loads holds a
 * lock meanwhile; this takes it for a moment, so that all that was listed
 * before is complete after. */
static void
wait_for_loading(void)
{
    Dl_info nothing;
    dladdr(NULL, &nothing);
}

/* 1: nothing more to do.  0: something was unloaded meanwhile. */
static int
patch_new_once(void)
{
    look now = {.first = 1};
    if (dl_iterate_phdr(note, &now) != 0) {
        return 1;
    }
    shd_objects_settle(walks);
    if (now.reloaded) {
        shd_slots_forget();
    }
    wait_for_loading();
    shd_objects_rewind();
    if (dl_iterate_phdr(patch, &now) != 0) {
        return 0;
    }
    added = now.added;
    removed = now.removed;
    return 1;
}

static void
patch_new(void)
{
    for (int at = 0; at < TRIES && !patch_new_once(); at++) {
    }
}

void
shd_interpose_again(void)
{
    if (!may_begin()) {
        return;
    }
    int error = errno;
    patch_new();
    end();
    errno = error;
}

static int
check(struct dl_phdr_info *info, size_t size, void *data)
{
    look now;
    read_counts(info, size, &now);
    if (now.removed == removed) {
        shd_slots_check(*(const int *)data);
        return 2;
    }
    return 1;
}

void
shd_interpose_verify(void)
{
    if (!may_begin()) {
        return;
    }
    int error = errno, back = 0;
    patch_new();
    dl_iterate_phdr(check, &back);
    end();
    errno = error;
}

int
shd_interpose_start(const shd_hook *hooks, size_t count, char *error,
                    size_t size)
{
    static int prepared;
    if (shd_slots_start() < 0 || shd_objects_start() < 0) {
        snprintf(error, size,
                 "functions can be watched on x86-64 and aarch64 only, with "
                 "some memory to spare");
        return -1;
    }
    if (shd_originals_start(hooks, count, error, size) < 0) {
        return -1;
    }
    if (!prepared) {
        if (pthread_atfork(before_fork, after_fork, after_fork_in_child)
            != 0) {
            snprintf(error, size, "there is no memory to watch fork() with");
            return -1;
        }
        prepared = 1;
    }
    added = 0;
    atomic_store_explicit(&started, 1, memory_order_release);
    shd_interpose_again();
    return 0;
}

void
shd_interpose_stop(void)
{
    int back = 1;
    while (!begin(self())) {
        sched_yield();
    }
    if (atomic_exchange(&started, 0)
        && !atomic_load_explicit(&inherited, memory_order_relaxed)) {
        while (dl_iterate_phdr(check, &back) == 1) {
            patch_new();
        }
        shd_objects_unpatched();
    }
    end();
}

size_t
shd_interpose_slots(void)
{
    return shd_slots_count();
}

size_t
shd_interpose_foreign(void)
{
    return shd_slots_foreign();
}

typedef struct {
    void (*each)(const char *function, const char *tool, void *arg);
    void *arg;
} listener;

static void
tell_other(const char *function, const void *theirs, void *arg)
{
    const listener *to = arg;
    to->each(function,
             shd_interpose_object_name(shd_interpose_object_of(theirs)),
             to->arg);
}

void
shd_interpose_each_other(void (*each)(const char *function, const char *tool,
                                      void *arg),
                         void *arg)
{
    listener to = {each, arg};
    if (may_begin()) {
        shd_originals_each_preloaded(tell_other, &to);
        shd_slots_each_foreign(tell_other, &to);
        end();
    }
}
