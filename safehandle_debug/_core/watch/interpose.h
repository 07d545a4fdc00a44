/* Our functions in place of libc's, in every object of this process.
 *
 * Each loaded object calls libc through slots that the dynamic linker filled
 * in: JUMP_SLOT, GLOB_DAT and plain data relocations.  They are pointed at our
 * functions instead, object by object, each once; our own object keeps libc's.
 * What is looked up at run time (ctypes, cffi) comes through dlsym(), which is
 * one of the functions replaced. */
#ifndef SHD_INTERPOSE_H
#define SHD_INTERPOSE_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *name;  /* "close" */
    void *replacement; /* ours */
    void **original;   /* where libc's address goes; never NULL once started */
} shd_hook;

/* Finds the originals (a hook whose function libc lacks is left out, its
 * original NULL), and patches all objects.  0, or -1 with a sentence. */
int shd_interpose_start(const shd_hook *hooks, size_t count, char *error,
                        size_t size);

/* Patches the objects that were loaded since.  Little when there are none.
 * Without the GIL, from any thread; a second caller at the same time returns
 * at once. */
void shd_interpose_again(void);

/* The same, and takes back what was overwritten since: by the dynamic linker,
 * that resolved a call in another thread meanwhile, or by another tool that
 * put libc's addresses back.  For checkpoints. */
void shd_interpose_verify(void);

/* Puts libc's addresses back everywhere. */
void shd_interpose_stop(void);

/* Number of the loaded object that holds an address, from 1; 0: none known.
 * Cheap, without locks.  Names stay valid for the life of the process. */
uint32_t shd_interpose_object_of(const void *address);
const char *shd_interpose_object_name(uint32_t object); /* "libsqlite3.so.0" */
size_t shd_interpose_objects(void);
size_t shd_interpose_slots(void);   /* patched now */
size_t shd_interpose_foreign(void); /* left alone: another tool has them */

/* Tells of each function that another tool stands before: it has slots of
 * ours, or comes before libc in all of them. */
void shd_interpose_each_other(void (*each)(const char *function,
                                           const char *tool, void *arg),
                              void *arg);

/* 1 when the program would call libc's own function of this name. */
int shd_interpose_is_libc(const char *name);

#endif
