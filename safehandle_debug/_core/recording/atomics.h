/* Changes of one word that every thread sees done or not begun, at no more
 * than they must cost.
 *
 * In a process of one thread, one instruction is whole for everybody there is:
 * a signal handler comes before it or after it.  What makes it whole for other
 * threads costs several times as much as the change itself.  Only this process
 * writes to the words that are changed here. */
#ifndef SHD_ATOMICS_H
#define SHD_ATOMICS_H

#include <stdatomic.h>
#include <stdint.h>

#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#define SHD_SINGLE_THREADED __libc_single_threaded
#else
#define SHD_SINGLE_THREADED 0
#endif

/* Both return what the word was. */
static inline uint64_t
shd_add(_Atomic uint64_t *word, uint64_t by)
{
#if defined(__x86_64__)
    if (SHD_SINGLE_THREADED) {
        __asm__ volatile("xaddq %0, %1"
                         : "+r"(by), "+m"(*(volatile uint64_t *)word)
                         :
                         : "cc", "memory");
        return by;
    }
#endif
    return atomic_fetch_add_explicit(word, by, memory_order_acq_rel);
}

static inline int
shd_add_int(_Atomic int *word, int by)
{
#if defined(__x86_64__)
    if (SHD_SINGLE_THREADED) {
        __asm__ volatile("xaddl %0, %1"
                         : "+r"(by), "+m"(*(volatile int *)word)
                         :
                         : "cc", "memory");
        return by;
    }
#endif
    return atomic_fetch_add_explicit(word, by, memory_order_acq_rel);
}

/* Sets all bits to 0 that are in `bits`. */
static inline void
shd_clear(_Atomic uint64_t *word, uint64_t bits)
{
#if defined(__x86_64__)
    if (SHD_SINGLE_THREADED) {
        __asm__ volatile("andq %1, %0"
                         : "+m"(*(volatile uint64_t *)word)
                         : "r"(~bits)
                         : "cc", "memory");
        return;
    }
#endif
    atomic_fetch_and_explicit(word, ~bits, memory_order_acq_rel);
}

/* 1: it was `*was`, and is `next` now.  0: `*was` says what it is. */
static inline int
shd_swap(_Atomic uint64_t *word, uint64_t *was, uint64_t next)
{
#if defined(__x86_64__)
    if (SHD_SINGLE_THREADED) {
        int done;
        __asm__ volatile("cmpxchgq %3, %1"
                         : "=@ccz"(done), "+m"(*(volatile uint64_t *)word),
                           "+a"(*was)
                         : "r"(next)
                         : "memory");
        return done;
    }
#endif
    return atomic_compare_exchange_strong_explicit(
        word, was, next, memory_order_acq_rel, memory_order_acquire);
}

#endif
