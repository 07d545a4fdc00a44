/* The handle object, its state word, and what the other files do to it. */
#ifndef SHD_HANDLE_H
#define SHD_HANDLE_H

#include "compat.h"
#include "recording/format.h"
#include "interp.h"
#include "recording/table.h"

#include <stdatomic.h>

/* The state word.  Every change is one compare-and-swap of the whole word.
 *
 *    31 ............................ 2   1          0
 *   +---------------------------------+----------+--------+
 *   | references, the initial one too | disposed | closed |
 *   +---------------------------------+----------+--------+
 *
 * closed    nobody may take a reference any more; the resource is given back,
 *           or is not ours to give back
 * disposed  the program (or a finalizer) asked for the close; the initial
 *           reference is gone and will not be dropped again
 * 0         the object was never initialised */
#define SHD_CLOSED 1u
#define SHD_DISPOSED 2u
#define SHD_ONE_REF 4u
#define SHD_MOST_REFS ((1u << 30) - 1)

static inline uint32_t
shd_refs(uint32_t state)
{
    return state >> 2;
}

/* CriticalFinalizer's part of every object. */
typedef struct {
    PyObject_HEAD
    uint64_t bits; /* serial in the low SHD_SERIAL_BITS, flags above */
} shd_critical;

#define SHD_BIT(n) (UINT64_C(1) << (SHD_SERIAL_BITS + (n)))
#define SHD_FINALIZED SHD_BIT(0) /* the critical finalizer ran or is queued */
#define SHD_OWNS SHD_BIT(1)
#define SHD_EXITING SHD_BIT(2)   /* being closed by its with-block */
#define SHD_VALUED SHD_BIT(3)    /* a value was acquired: serial is valid */
#define SHD_INVALID_0 SHD_BIT(4) /* invalid_handle_value was 0 */
#define SHD_INVALID_1 SHD_BIT(5) /* invalid_handle_value was -1 */
#define SHD_DEFERRED_EXIT SHD_BIT(6) /* close was asked by a with-block */
#define SHD_IS_HANDLE SHD_BIT(7)
#define SHD_IS_CRITICAL SHD_BIT(8) /* a CriticalHandle: no reference count */
#define SHD_COLLECTED SHD_BIT(9)   /* became garbage in a collection */
#define SHD_SHARES_NUMBER SHD_BIT(10) /* its number is its parent's, too */
#define SHD_RESETS SHD_BIT(11) /* the value is -1 once released: an address */

typedef struct {
    shd_critical base;
    int64_t value;
    PyObject *weaklist;
    _Atomic uint32_t state;
    uint32_t slot; /* in the live table, 0: none */
} shd_handle;

_Static_assert(sizeof(void *) != 8 || sizeof(shd_handle) == 48,
               "a handle costs 48 bytes");

static inline uint64_t
shd_serial(const shd_handle *handle)
{
    return handle->base.bits & SHD_SERIAL_MASK;
}

static inline int
shd_has(const shd_handle *handle, uint64_t bit)
{
    return (handle->base.bits & bit) != 0;
}

/* --- kinds and types (kinds.c) --- */

enum shd_rule {
    SHD_RULE_PYTHON, /* the type's is_invalid property decides */
    SHD_RULE_ZERO_OR_MINUS_ONE,
    SHD_RULE_MINUS_ONE,
    SHD_RULE_FD, /* below 0 or above INT_MAX */
};

typedef struct {
    int number;        /* in the live table; 0: released by a Python hook */
    const char *name;  /* "file" */
    const char *space; /* handles of one space share numbers */
    /* 0 or errno.  Called once, without the GIL, at times after the
       interpreter's end: no Python.  Frees `extra`, see table.h. */
    int (*release)(int64_t value, void *extra);
    /* Frees `extra` where nothing is released (a detached handle); may be
       NULL. */
    void (*forget)(void *extra);
    /* The handle that this one was made from and holds a reference of, as a
       strong reference taken out of `extra`; NULL when there is none.  With
       the GIL, before release or forget; the reference is dropped after. */
    shd_handle *(*parent)(void *extra);
    /* The release is seen by other processes (a key revoked): finalizers in a
       forked child leave it to the parent. */
    int outside;
} shd_kind;

typedef struct {
    const shd_kind *kind;
    enum shd_rule rule;
} shd_native;

/* Numbers of kinds in the live table. */
enum {
    SHD_KIND_PYTHON,
    SHD_KIND_FILE,
    SHD_KIND_PIPE,
    SHD_KIND_SOCKET,
    SHD_KIND_MAPPED_FILE,
    SHD_KIND_MAPPED_VIEW,
    SHD_KIND_PROCESS,
    SHD_KIND_WAIT,
    SHD_KIND_POLL,
    SHD_KIND_INOTIFY,
    SHD_KIND_PROVIDER,
    SHD_KIND_KEY,
    SHD_KIND_SECRET,
    SHD_KIND_KEYRING,
    SHD_KIND_WATCHED, /* no object, nothing to release: never swept */
    SHD_KINDS,
};

extern const shd_kind shd_kind_python;

const shd_kind *shd_kind_by_number(int number);

typedef struct {
    PyTypeObject *type;
    unsigned int version;
    uint32_t epoch; /* `id` is of this recording */
    uint32_t id;
    const shd_kind *kind;
    enum shd_rule rule;
    uint8_t python_release; /* release_handle is overridden */
    uint8_t python_invalid;
    uint8_t python_dispose;
    uint8_t python_finalize;
    uint8_t idle_release; /* a call of the hook would run nothing */
    uint8_t release_inherited;
    uint8_t fd_space;
} shd_type_info;

/* Prepares the lookups below, once; -1 with an exception. */
int shd_type_start(void);

/* What the object's type overrides.  Never fails; valid until the next call.*/
const shd_type_info *shd_type_info_of(PyTypeObject *type);

/* TYPE id in the present recording. */
uint32_t shd_type_id(PyTypeObject *type);

/* Marks a C type with its kind and rule, and makes the kind known; -1 with an
 * exception. */
int shd_type_mark(PyTypeObject *type, const shd_native *native);

/* Kind of the native base, whatever Python overrides; NULL without one. */
const shd_kind *shd_type_native_kind(PyTypeObject *type);

/* TypeError when the type lacks a hook; -1 then. */
int shd_type_check_concrete(PyTypeObject *type);

/* --- life (life.c, finalize.c) --- */

/* Gives the handle a value to own: serial, table, events.  `slot` was taken
 * before the resource was acquired.  Cannot fail. */
void shd_life_acquire(shd_handle *handle, int64_t value, uint32_t slot,
                      PyObject *detail);

/* As above for a value whose resource exists already; -1 with MemoryError. */
int shd_life_adopt(shd_handle *handle, int64_t value, PyObject *detail);

/* 0, or -1 with an exception. */
int shd_life_add_ref(shd_handle *handle);
int shd_life_release(shd_handle *handle);

/* The release at the end of a call that held a reference: keeps the current
 * exception, reports its own as nobody's. */
void shd_life_let_go(shd_handle *handle);

int shd_life_dispose(shd_handle *handle, int ending, int finalizer);
int shd_life_close_critical(shd_handle *handle, int ending, int finalizer);
int shd_life_invalidate(shd_handle *handle);
int shd_life_detach(shd_handle *handle);

/* Takes the value off the live table, without a release. */
void shd_life_forget(shd_handle *handle);

/* 1 invalid, 0 valid, -1 with an exception. */
int shd_life_is_invalid(shd_handle *handle, const shd_type_info *info);

/* dispose() as the program would call it: a Python override comes first. */
int shd_life_call_dispose(shd_handle *handle, int disposing);

/* How a handle ends whose finalizer runs now: a shd_ending. */
int shd_life_finalizer_ending(const shd_handle *handle);

/* The critical finalizer: never raises. */
void shd_life_finalize(shd_handle *handle);

/* Whether the finalizer has anything to do. */
int shd_life_needs_finalizer(shd_handle *handle);

/* Last resort, from tp_dealloc: native release, never raises. */
void shd_life_dealloc(shd_handle *handle);

/* Sweep of one handle with a Python hook. */
void shd_life_sweep(shd_handle *handle);

/* --- types --- */

int shd_critical_add(PyObject *module, shd_interp *state);
int shd_handle_add(PyObject *module, shd_interp *state);
int shd_safe_handle_add(PyObject *module, shd_interp *state);
int shd_critical_handle_add(PyObject *module, shd_interp *state);
int shd_hold_add(PyObject *module, shd_interp *state);
int shd_call_add(PyObject *module, shd_interp *state);
int shd_file_add(PyObject *module, shd_interp *state);
int shd_pipe_add(PyObject *module, shd_interp *state);
int shd_wait_add(PyObject *module, shd_interp *state);
int shd_poll_add(PyObject *module, shd_interp *state);
int shd_inotify_add(PyObject *module, shd_interp *state);
int shd_process_handle_add(PyObject *module, shd_interp *state);
int shd_buffer_add(PyObject *module, shd_interp *state);
int shd_mapping_add(PyObject *module, shd_interp *state);
int shd_view_add(PyObject *module, shd_interp *state);
int shd_socket_add(PyObject *module, shd_interp *state);
int shd_keyring_add(PyObject *module, shd_interp *state);
int shd_crypto_add(PyObject *module, shd_interp *state);
int shd_watch_add(PyObject *module, shd_interp *state);

PyObject *shd_hold_new(shd_interp *state, shd_handle *handle);

/* A fresh handle object of `type` with its initial reference and without a
 * value, for constructors written in C; made by the type's own constructor
 * when it is a Python subclass. */
shd_handle *shd_handle_blank(PyTypeObject *type, int64_t invalid);

/* The common part of all constructors; HandleStateError the second time. */
int shd_handle_init_once(shd_handle *handle, int64_t invalid, int owns,
                         uint64_t bits);

/* tp_init of native types: the handle begins as `invalid` and adopts `value`
 * when it is a valid one. */
int shd_handle_init_value(shd_handle *handle, int64_t invalid, int64_t value,
                          int owns);

/* One-call acquisition: begin makes the object and its place in the live
 * table, then comes the system call, then complete or abandon.  No Python code
 * runs between the call's return and complete.  All steal `handle`; begin
 * returns NULL with an exception, complete the object or NULL (on_error=raise),
 * abandon NULL, keeping the exception that the caller set. */
shd_handle *shd_handle_begin(PyTypeObject *type, int64_t invalid,
                             uint32_t *slot);
PyObject *shd_handle_complete(shd_handle *handle, uint32_t slot, int64_t value,
                              PyObject *detail);
PyObject *shd_handle_abandon(shd_handle *handle, uint32_t slot);

void shd_handle_init(shd_handle *handle, int64_t value, int owns,
                     uint64_t bits);

/* tp_new and tp_dealloc of all handle types. */
PyObject *shd_handle_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);
void shd_handle_dealloc(PyObject *self);

/* Converts an index to a value, -1 with an exception. */
int shd_value_converter(PyObject *number, void *value);

/* Shared constructor `T(value=-1, owns_handle=True)` of descriptor types. */
PyObject *shd_native_vectorcall(PyObject *type, PyObject *const *args,
                                size_t nargsf, PyObject *kwnames);
int shd_native_init(PyObject *self, PyObject *args, PyObject *kwargs);

/* Converter of `dir_fd`: None leaves what is there. */
int shd_dir_fd_converter(PyObject *number, void *dir_fd);

/* fileno() of descriptor types. */
PyObject *shd_descriptor_fileno(PyObject *self, PyObject *ignored);
int shd_descriptor_close(int64_t value, void *extra);

/* shd_handle_complete() with the descriptor, or shd_handle_abandon() with the
 * error in errno. */
PyObject *shd_descriptor_conclude(shd_handle *handle, uint32_t slot, int fd,
                                  PyObject *detail);

/* Adds a descriptor type below SafeHandleZeroOrMinusOneIsInvalid. */
int shd_descriptor_add(PyObject *module, PyType_Spec *spec, shd_interp *state,
                       const shd_native *native);

PyTypeObject *shd_type_make(PyObject *module, PyType_Spec *spec,
                            PyTypeObject *base);

/* tp_finalize of CriticalFinalizer and everything below. */
void shd_critical_finalize(PyObject *self);

/* Installs our finalizer where a subclass's __del__ replaced it, and the
 * collection callbacks; called when an object is made. -1 with an exception. */
int shd_critical_prepare(PyTypeObject *type);

/* Hears of collections from now on; -1 with an exception. */
int shd_critical_listen(void);

/* Delivers a KeyboardInterrupt again once the finalizers of this thread are
 * through: sooner, it would cut the next one short. */
void shd_critical_interrupted(void);

/* Number of interpreters in which a collection runs. */
extern int shd_critical_passes;
int shd_critical_runs_pass(void);

/* 1 while this thread runs a collection. */
static inline int
shd_critical_in_pass(void)
{
    return shd_critical_passes && shd_critical_runs_pass();
}

/* Prepares for the collections at interpreter end; -1 with an exception. */
int shd_critical_guard_exit(shd_interp *state);

/* Runs what is queued. */
void shd_critical_drain(shd_interp *state);

#endif
