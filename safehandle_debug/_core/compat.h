/* Everything that differs between CPython versions.
 *
 * The one thing that no public API gives is a walk over the interpreter's own
 * frames that allocates nothing.  `shd_frame_*` is that walk; where it is not
 * known (SHD_HAVE_FRAMES 0) or fails its self-test at import, `unwind.c` takes
 * the public, slower API instead. */
#ifndef SHD_COMPAT_H
#define SHD_COMPAT_H

#define PY_SSIZE_T_CLEAN
#ifndef Py_BUILD_CORE
#define Py_BUILD_CORE 1
#endif
#include <Python.h>
#if PY_VERSION_HEX < 0x030C0000
#include <pthread.h>
#endif

#if PY_VERSION_HEX < 0x030B0000
#error "safehandle_debug needs CPython 3.11 or newer"
#endif

#if !defined(Py_GIL_DISABLED)
#define SHD_HAVE_FRAMES 1
#if PY_VERSION_HEX < 0x030E0000
#include "internal/pycore_frame.h"
#else
#include "internal/pycore_interpframe.h"
#endif
#include "internal/pycore_interp.h"
#include "internal/pycore_runtime.h"
#else
#define SHD_HAVE_FRAMES 0
#endif
#if PY_VERSION_HEX >= 0x030D0000
#include "internal/pycore_ceval.h"
#else
#include "internal/pycore_interp.h"
#endif

#if SHD_HAVE_FRAMES

typedef struct _PyInterpreterFrame shd_frame;

static inline shd_frame *
shd_frame_newest(PyThreadState *tstate)
{
#if PY_VERSION_HEX < 0x030D0000
    return tstate->cframe->current_frame;
#else
    return tstate->current_frame;
#endif
}

static inline shd_frame *
shd_frame_caller(shd_frame *frame)
{
    return frame->previous;
}

/* Where the frame is: an address inside its code object, which the instruction
 * that runs has to itself while the code object lives. */
static inline const void *
shd_frame_at(const shd_frame *frame)
{
#if PY_VERSION_HEX < 0x030D0000
    return frame->prev_instr;
#else
    return frame->instr_ptr;
#endif
}

static inline PyCodeObject *
shd_frame_code(shd_frame *frame)
{
#if PY_VERSION_HEX < 0x030D0000
    return frame->f_code;
#else
    return _PyFrame_GetCode(frame);
#endif
}

/* Byte offset of the running instruction, as `frame.f_lasti`; below 0 for a
 * frame that has not begun, or that is the interpreter's own.  A frame in its
 * first instructions (cells being made) is one that `traceback` leaves out; it
 * is in the walk, since telling it apart would read every code object. */
static inline int
shd_frame_lasti(shd_frame *frame)
{
#if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030E0000
    if (frame->owner == FRAME_OWNED_BY_CSTACK) {
        return -1;
    }
#endif
#if PY_VERSION_HEX >= 0x030D0000
    /* Also the frame of the interpreter's own code that hot constructors run
       on, which nobody knows. */
    if (_PyFrame_IsIncomplete(frame)) {
        return -1;
    }
#endif
    return (int)(_PyInterpreterFrame_LASTI(frame) * (int)sizeof(_Py_CODEUNIT));
}

/* Whether it is the interpreter's own, and for ever: where one is, no function's
 * frame can be. */
static inline int
shd_frame_is_shim(const shd_frame *frame)
{
#if PY_VERSION_HEX < 0x030C0000
    (void)frame;
    return 0;
#elif PY_VERSION_HEX < 0x030E0000
    return frame->owner == FRAME_OWNED_BY_CSTACK;
#else
    return frame->owner >= FRAME_OWNED_BY_INTERPRETER;
#endif
}

#endif /* SHD_HAVE_FRAMES */

static inline int
shd_is_finalizing(void)
{
#if PY_VERSION_HEX < 0x030C0000
    return _PyRuntimeState_GetFinalizing(&_PyRuntime) != NULL;
#elif PY_VERSION_HEX < 0x030D0000
    return _Py_IsFinalizing();
#else
    return Py_IsFinalizing();
#endif
}

/* Whether the cyclic collector is at work, also where its callbacks are not
 * called (the passes at interpreter end).  0 where that cannot be seen. */
static inline int
shd_gc_is_collecting(void)
{
#if SHD_HAVE_FRAMES
    return PyThreadState_Get()->interp->gc.collecting;
#else
    return 0;
#endif
}

/* Whether the text is in its final form; all are since 3.12. */
static inline int
shd_text_is_ready(PyObject *str)
{
#if PY_VERSION_HEX < 0x030C0000
    return PyUnicode_IS_READY(str);
#else
    (void)str;
    return 1;
#endif
}

/* What a weak reference leads to, a new reference, or NULL. */
static inline PyObject *
shd_weakly_held(PyObject *reference)
{
    PyObject *object = NULL;
    if (!PyWeakref_Check(reference)) {
        return NULL;
    }
#if PY_VERSION_HEX < 0x030D0000
    object = PyWeakref_GetObject(reference);
    return object == Py_None ? NULL : Py_XNewRef(object);
#else
    return PyWeakref_GetRef(reference, &object) < 0 ? NULL : object;
#endif
}

/* The calling thread's state or NULL, with the GIL or without.  NULL also where
 * it cannot be known: 3.11 knows one state for each thread, which may be
 * another interpreter's while there are several. */
static inline PyThreadState *
shd_thread_state(void)
{
#if PY_VERSION_HEX < 0x030C0000
    struct _gilstate_runtime_state *known = &_PyRuntime.gilstate;
    PyThreadState *own = known->autoInterpreterState == NULL
                             ? NULL
                             : pthread_getspecific(known->autoTSSkey._key);
    if (_PyRuntime.interpreters.head != _PyRuntime.interpreters.main
        && _PyThreadState_UncheckedGet() != own) {
        return NULL;
    }
    return own;
#elif PY_VERSION_HEX < 0x030D0000
    PyThreadState *attached = _PyThreadState_UncheckedGet();
    return attached != NULL ? attached : PyGILState_GetThisThreadState();
#else
    PyThreadState *attached = PyThreadState_GetUnchecked();
    return attached != NULL ? attached : PyGILState_GetThisThreadState();
#endif
}

/* Whether the calling thread, whose state this is, has the GIL. */
static inline int
shd_holds_gil(PyThreadState *own)
{
#if PY_VERSION_HEX < 0x030D0000
    return own != NULL && _PyThreadState_UncheckedGet() == own;
#else
    return own != NULL && PyThreadState_GetUnchecked() == own;
#endif
}

/* Raises a class in the thread that calls, whose state this is, as soon as it
 * is back in Python; with the GIL or without.  Steals the reference.  0: one
 * is to be raised there already. */
static inline int
shd_raise_soon(PyThreadState *own, PyObject *class)
{
    PyObject *none = NULL;
    if (!__atomic_compare_exchange_n(&own->async_exc, &none, class, 0,
                                     __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        return 0;
    }
#if PY_VERSION_HEX >= 0x030D0000
    __atomic_fetch_or(&own->eval_breaker, _PY_ASYNC_EXCEPTION_BIT,
                      __ATOMIC_SEQ_CST);
#else
    if (shd_holds_gil(own)) { /* who takes it looks by himself */
        own->interp->ceval.pending.async_exc = 1;
        _Py_atomic_store_relaxed(&own->interp->ceval.eval_breaker, 1);
    }
#endif
    return 1;
}

/* Borrowed reference or NULL; never sets an exception, never runs Python
 * code. */
static inline PyObject *
shd_type_lookup(PyTypeObject *type, PyObject *name)
{
    return _PyType_Lookup(type, name);
}

/* A number that changes whenever an attribute of the type or of its bases
 * does; 0 when it has none. */
static inline unsigned int
shd_type_version(PyTypeObject *type)
{
#if PY_VERSION_HEX < 0x030D0000
    if (!PyType_HasFeature(type, Py_TPFLAGS_VALID_VERSION_TAG)) {
        return 0;
    }
#endif
    return type->tp_version_tag;
}

/* Gives the type a version if it has none. */
static inline void
shd_type_assign_version(PyTypeObject *type)
{
#if PY_VERSION_HEX < 0x030C0000
    (void)type; /* every lookup does */
#else
    (void)PyUnstable_Type_AssignVersionTag(type);
#endif
}

#endif
