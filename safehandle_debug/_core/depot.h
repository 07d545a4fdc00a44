/* The depot: everything that events name by an id is in the recording once.
 *
 * Strings, types, code objects and stack nodes are interned here.  The tables
 * are private memory; only what they name is in the file.  All functions need
 * the GIL, keep the current exception and run no Python code. */
#ifndef SHD_DEPOT_H
#define SHD_DEPOT_H

#include "compat.h"

#include <stdint.h>

/* Changes whenever a described code object dies: an address seen before may
 * now be another function's. */
extern uint64_t shd_depot_deaths;

/* Asks the running interpreter for a place on its code objects; once per
 * interpreter.  Returns its index, or -1 when there is none left: stacks are
 * then not captured in that interpreter. */
Py_ssize_t shd_depot_request_index(void);

/* Forgets all ids: the next recording starts empty. */
void shd_depot_reset(void);

/* Ids, or 0 when the recording has no room left. */
uint32_t shd_depot_bytes(const char *utf8, size_t size);
uint32_t shd_depot_string(const char *utf8);
uint32_t shd_depot_text(PyObject *str);

/* Text of which there may be as much as there are handles (paths, reasons,
 * task names): refused before it takes the room of names. */
uint32_t shd_depot_detail(PyObject *str);
uint32_t shd_depot_type(const char *name, const char *kind, const char *space);
uint32_t shd_depot_code(PyCodeObject *code, Py_ssize_t index);
uint32_t shd_depot_node(uint32_t parent, uint32_t code, uint32_t lasti,
                        uint32_t depth);

#endif
