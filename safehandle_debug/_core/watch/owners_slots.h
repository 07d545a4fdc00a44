/* Functions in C slots of types, exchanged and put back.  All need the GIL. */
#ifndef SHD_OWNERS_SLOTS_H
#define SHD_OWNERS_SLOTS_H

#include "compat.h"

#include <stddef.h>

/* One slot of a type and of those subclasses that hold the same function. */
typedef struct {
    size_t slot;        /* offset in PyTypeObject */
    const char *name;   /* the attribute through which Python code calls it, or
                          NULL */
    void *replacement;  /* ours */
    void *original;     /* once wrapped never NULL again: a call may be under
                          way in another thread */
    PyTypeObject *type; /* where it is wrapped now; a reference */
} shd_wrapped;

#define SHD_WRAPPED(slot_, name_, replacement_)                               \
    {.slot = offsetof(PyTypeObject, slot_),                                   \
     .name = (name_),                                                         \
     .replacement = (void *)(replacement_)}

/* 1, or 0 when the type has no such function. */
int shd_slot_wrap(shd_wrapped *wrapped, PyTypeObject *type);

/* Puts the original back wherever the replacement still stands. */
void shd_slot_restore(shd_wrapped *wrapped);

/* One C method. */
typedef struct {
    const char *name;
    int flags; /* METH_*, as expected */
    PyCFunction replacement, original;
    PyMethodDef *method; /* while wrapped */
} shd_wrapped_method;

int shd_method_wrap(shd_wrapped_method *wrapped, PyTypeObject *type);
void shd_method_restore(shd_wrapped_method *wrapped);

/* An attribute of the type's own dictionary; borrowed, NULL without an
 * exception. */
PyObject *shd_type_own(PyTypeObject *type, const char *name);

#endif
