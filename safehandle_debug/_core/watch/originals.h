/* libc's functions and what stands in their place. */
#ifndef SHD_ORIGINALS_H
#define SHD_ORIGINALS_H

#include "interpose.h"

typedef struct {
    const char *name;
    void *replacement;
    void *libc;   /* libc's own address; NULL: libc has no such function */
    void *chosen; /* what the program would call without us: libc's, or that
                     of a preloaded library */
} shd_original;

/* Looks the originals up and fills `hook->original`.  0, or -1 with a
 * sentence.  Repeating it changes nothing. */
int shd_originals_start(const shd_hook *hooks, size_t count, char *error,
                        size_t size);

/* NULL: not one of ours. */
const shd_original *shd_originals_find(const char *name);

/* 1 when `value` is the function that the program would call. */
static inline int
shd_original_is(const shd_original *original, const void *value)
{
    return value == original->libc || value == original->chosen;
}

/* Tells of each function that a preloaded library puts before libc's. */
void shd_originals_each_preloaded(void (*each)(const char *function,
                                               const void *theirs, void *arg),
                                  void *arg);

/* libc's base address, to leave libc itself alone. */
const void *shd_originals_in_libc(void);

/* The program passed the dynamic linker's locks. */
void shd_interpose_passed(void);

/* dlsym and dlvsym, which are replaced too (dlsym.c). */
extern void *shd_original_dlsym, *shd_original_dlvsym;
void *shd_replacement_dlsym(void *handle, const char *name);
void *shd_replacement_dlvsym(void *handle, const char *name,
                             const char *version);

#endif
