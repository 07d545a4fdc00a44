/* libc's functions, by name. */
#define _GNU_SOURCE
#include "originals.h"

#include <dlfcn.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum {
    MOST = 512,
    PLACES = 2048,
    LONGEST = 31
};

static shd_original originals[MOST];
static size_t known;
static uint16_t places[PLACES]; /* number of the original, from 1 */

/* Nearly all names of a big object fall at their first two letters. */
static uint8_t starts[256];

static unsigned int
start_of(const char *name)
{
    return ((unsigned char)name[0] * 7u + (unsigned char)name[1]) & 255;
}

/* LONGEST + 1 letters or more: not ours. */
static uint32_t
hash_of(const char *name, size_t *length)
{
    uint32_t hash = 5381;
    size_t at = 0;
    for (; at <= LONGEST && name[at] != '\0'; at++) {
        hash = hash * 33 + (unsigned char)name[at];
    }
    *length = at;
    return hash ^ (hash >> 15);
}

const shd_original *
shd_originals_find(const char *name)
{
    if (name[0] == '\0' || !starts[start_of(name)]) {
        return NULL;
    }
    size_t length;
    uint32_t at = hash_of(name, &length);
    if (length > LONGEST) {
        return NULL;
    }
    for (;; at++) {
        unsigned int number = places[at % PLACES];
        if (number == 0) {
            return NULL;
        }
        if (strcmp(originals[number - 1].name, name) == 0) {
            return &originals[number - 1];
        }
    }
}

const void *
shd_originals_in_libc(void)
{
    return originals[0].libc;
}

int
shd_interpose_is_libc(const char *name)
{
    const shd_original *original = shd_originals_find(name);
    return original != NULL && original->chosen == original->libc;
}

void
shd_originals_each_preloaded(void (*each)(const char *function,
                                          const void *theirs, void *arg),
                             void *arg)
{
    for (size_t at = 0; at < known; at++) {
        if (originals[at].chosen != originals[at].libc) {
            each(originals[at].name, originals[at].chosen, arg);
        }
    }
}

typedef struct {
    const void *address;
    int inside; /* the main program */
} program;

static int
first_object(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    program *it = data;
    uintptr_t address = (uintptr_t)it->address - info->dlpi_addr;
    for (size_t at = 0; at < info->dlpi_phnum; at++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[at];
        if (header->p_type == PT_LOAD && address >= header->p_vaddr
            && address - header->p_vaddr < header->p_memsz) {
            it->inside = 1;
        }
    }
    return 1;
}

/* What the main program has under a name of libc is either a stub of its
 * linkage table, that leads back to the slot that we change, or a function of
 * its own. */
static int
is_in_program(const void *address)
{
    program it = {address, 0};
    dl_iterate_phdr(first_object, &it);
    return it.inside;
}

static void
add(const shd_hook *hook, void *libc)
{
    void *found = libc == NULL ? NULL : dlsym(libc, hook->name);
    void *chosen = dlsym(RTLD_DEFAULT, hook->name);
    if (found == NULL) {
        found = chosen;
    }
    if (chosen == NULL || is_in_program(chosen)) {
        chosen = found;
    }
    *hook->original = chosen;
    if (found == NULL) {
        return;
    }
    originals[known] =
        (shd_original){hook->name, hook->replacement, found, chosen};
    known++;
    size_t length;
    uint32_t at = hash_of(hook->name, &length);
    while (places[at % PLACES] != 0) {
        at++;
    }
    places[at % PLACES] = (uint16_t)known;
    starts[start_of(hook->name)] = 1;
}

int
shd_originals_start(const shd_hook *hooks, size_t count, char *error,
                    size_t size)
{
    if (known > 0) {
        return 0;
    }
    if (count + 2 > MOST) {
        snprintf(error, size, "there are more than %d functions to watch",
                 MOST - 2);
        return -1;
    }
    static const shd_hook lookups[] = {
        {"dlsym", (void *)shd_replacement_dlsym, &shd_original_dlsym},
        {"dlvsym", (void *)shd_replacement_dlvsym, &shd_original_dlvsym},
    };
    /* musl has one file for libc and dynamic linker, and names it by the
     * processor; there the global scope answers. */
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    for (size_t at = 0; at < count; at++) {
        add(&hooks[at], libc);
    }
    if (known == 0) {
        snprintf(error, size, "libc has none of the functions to watch");
        return -1;
    }
    add(&lookups[0], libc);
    add(&lookups[1], libc);
    if (shd_original_dlsym == NULL) {
        snprintf(error, size, "dlsym() cannot be found");
        return -1;
    }
    return 0;
}
