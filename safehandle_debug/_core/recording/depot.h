/* The depot: everything that events name by an id is in the recording once.
 *
 * Strings, types, code objects and stack nodes are interned here.  The tables
 * are private memory; only what they name is in the file.  Any thread may ask,
 * with or without the GIL, while it is marked as inside the recorder
 * (thread.h); nothing locks, allocates Python memory, touches the current
 * exception or runs Python code. */
#ifndef SHD_DEPOT_H
#define SHD_DEPOT_H

#include "compat.h"

#include <stdatomic.h>
#include <stdint.h>

/* Forgets all ids: the next recording starts empty.  With nobody inside. */
void shd_depot_reset(void);

/* Ids, or 0 when the recording has no room left. */
uint32_t shd_depot_bytes(const char *utf8, size_t size);
uint32_t shd_depot_string(const char *utf8);
uint32_t shd_depot_text(PyObject *str);

/* Text of which there may be as much as there are handles (paths, reasons,
 * task names): refused before it takes the room of names. */
uint32_t shd_depot_detail(PyObject *str);
uint32_t shd_depot_detail_string(const char *utf8);
/* The same for a path: often the one that the thread opened last. */
struct shd_thread;
uint32_t shd_depot_new_path(struct shd_thread *thread, const char *path);
uint32_t shd_depot_type(const char *name, const char *kind, const char *space);
uint32_t shd_depot_node(uint32_t parent, uint32_t code, uint32_t lasti,
                        uint32_t depth);

/* --- codes.c --- */

/* Changes whenever a described code object dies: an address seen before may
 * now be another function's. */
extern _Atomic uint64_t shd_depot_deaths;

/* Sees to it that deaths are told, once. */
void shd_depot_watch_codes(void);

/* Of a code object that a frame holds. */
uint32_t shd_depot_code(PyCodeObject *code);

#endif
