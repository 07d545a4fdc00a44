/* What the files about owners share. */
#ifndef SHD_OWNERS_PARTS_H
#define SHD_OWNERS_PARTS_H

#include "owners.h"

/* Offset of the `int` in which objects of the type keep their descriptor, -1
 * once closed; 0 when it was not found.  Makes objects of the type and closes
 * them.  Never leaves an exception. */
size_t shd_layout_file(PyTypeObject *type);
size_t shd_layout_socket(PyTypeObject *type);
size_t shd_layout_mmap(PyTypeObject *type);
size_t shd_layout_epoll(PyTypeObject *type);

/* A class of a module; a new reference or NULL without an exception.  The
 * module is imported unless `loaded_only`. */
PyTypeObject *shd_owners_type(const char *module, const char *name,
                              int loaded_only);

/* A descriptor of our own that only the kernel knows of, or -1. */
int shd_scratch_null(void);
int shd_scratch_memory(void);

/* Wraps close() of a type, so that `closing` is known. */
void shd_closers_wrap(enum shd_owner owner, PyTypeObject *type);
void shd_closers_stop(void);

/* Wraps the finalizers of all types that are loaded. */
void shd_owners_raise_start(void);
void shd_finalizers_start(void);
void shd_finalizers_again(void);
void shd_finalizers_stop(void);

/* Whether those of sqlite3 are wrapped. */
int shd_finalizers_have_sqlite(void);

#endif
