/* Walking frames, and finding the stack's id without hashing all of it.
 *
 * A walk costs a nanosecond a frame; hashing costs several.  Each thread keeps
 * the chain of frames that it captured last, innermost first.  Mostly the next
 * one is as long and differs in a frame or two at its inner end, which a walk
 * finds out that stores nothing.  Otherwise frames are compared from the
 * outermost in, and those beyond the common part are looked up.
 *
 * What is compared is the address of the running instruction.  A frame's own
 * address proves nothing, the next call reuses it. */
#include "unwind.h"

#include "depot.h"

#include <string.h>

#define MOST_CHANGED 8 /* inner frames that may differ from the last chain's */

static int use_frames SHD_HOT;
static _Atomic(shd_thread *) ending SHD_HOT; /* ends the interpreter */
static PyCodeObject *importer
    SHD_HOT; /* importlib's frame around every module body */

#if SHD_HAVE_FRAMES
static uint32_t
walk_frames(PyThreadState *tstate, shd_walked *walk)
{
    uint32_t count = 0;
    shd_frame *frame = shd_frame_newest(tstate);
    for (; frame != NULL && count < SHD_WALK_FRAMES;
         frame = shd_frame_caller(frame)) {
        int lasti = shd_frame_lasti(frame);
        if (lasti >= 0) {
            walk[count].at = shd_frame_at(frame);
            walk[count].code = shd_frame_code(frame);
            walk[count].lasti = (uint32_t)lasti;
            count++;
        }
    }
    return count;
}
#endif

static uint32_t
walk_public(PyThreadState *tstate, shd_walked *walk)
{
    uint32_t count = 0;
    PyFrameObject *frame = PyThreadState_GetFrame(tstate);
    while (frame != NULL && count < SHD_WALK_FRAMES) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        walk[count].code = code;
        walk[count].lasti = (uint32_t)PyFrame_GetLasti(frame);
        /* Not where that is, but as good: inside the code object. */
        walk[count].at = (const char *)code + walk[count].lasti;
        count++;
        PyFrameObject *caller = PyFrame_GetBack(frame);
        Py_DECREF(code); /* the frame still holds it */
        Py_DECREF(frame);
        frame = caller;
    }
    Py_XDECREF(frame);
    return count;
}

#if !SHD_HAVE_FRAMES
/* The public API makes frame objects: when there is no memory for one, there
 * is no stack, and the exception under way stays the one it was. */
static uint32_t
walk_undisturbed(PyThreadState *tstate, shd_walked *walk)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    uint32_t count = walk_public(tstate, walk);
    if (PyErr_Occurred()) {
        count = 0;
    }
    PyErr_Restore(type, value, traceback);
    return count;
}
#endif

static uint32_t
walk_stack(PyThreadState *tstate, shd_walked *walk)
{
#if SHD_HAVE_FRAMES
    if (use_frames) {
        return walk_frames(tstate, walk);
    }
    return walk_public(tstate, walk);
#else
    return walk_undisturbed(tstate, walk);
#endif
}

/* Without the GIL, frames stand still because their thread is elsewhere in C.
   Nobody else changes them, until the interpreter's end frees those of all
   threads but the one that ends it. */
static int
can_walk(const shd_thread *thread, enum shd_walker walker)
{
    if (!use_frames) {
        return walker == SHD_WALKER_ASKING;
    }
    if (walker != SHD_WALKER_BARE) {
        return 1;
    }
    const shd_thread *last =
        atomic_load_explicit(&ending, memory_order_relaxed);
    return last == thread || (last == NULL && !shd_is_finalizing());
}

void
shd_unwind_ending(void)
{
    atomic_store(&ending, shd_thread_get());
    (void)shd_thread_all_outside();
}

static inline shd_step *
step_of(shd_thread *thread, uint32_t parent, const void *at)
{
    uint32_t mixed = parent * 31 + (uint32_t)((uintptr_t)at >> 1);
    return &thread->steps[mixed % SHD_STEPS];
}

/* Id of the stack `parent` with one frame more, if it was looked up lately, or
 * 0: a line that opens and the one that closes take turns. */
static inline uint32_t
known_step(const shd_step *step, uint32_t parent, const void *at)
{
    return step->at == at && step->parent == parent ? step->id : 0;
}

/* Id of the stack `parent` with one frame more, or 0. */
static uint32_t
step_into(shd_thread *thread, uint32_t parent, const shd_walked *frame,
          uint32_t depth)
{
    shd_step *step = step_of(thread, parent, frame->at);
    uint32_t id = known_step(step, parent, frame->at);
    if (id == 0) {
        uint32_t code = shd_depot_code(frame->code);
        id = code == 0 ? 0 : shd_depot_node(parent, code, frame->lasti, depth);
        *step = (shd_step){frame->at, parent, id};
    }
    return id;
}

/* --- the chain --------------------------------------------------------------- */

#if SHD_HAVE_FRAMES
/* Keeps the chain whose walk is in the cache now, with `count` frames. */
static void
keep_chain(shd_thread *thread, PyThreadState *tstate, uint32_t count)
{
    uint32_t length = 0, walked = 0;
    shd_frame *frame = shd_frame_newest(tstate);
    thread->chained = 0;
    for (; frame != NULL; frame = shd_frame_caller(frame)) {
        int counts = shd_frame_lasti(frame) >= 0;
        if (length == SHD_KEEP_FRAMES
            || (!counts && !shd_frame_is_shim(frame))) {
            return;
        }
        thread->chain[length] = shd_frame_at(frame);
        thread->chain_ids[length] =
            walked < count ? thread->cache[count - 1 - walked].id : 0;
        length++;
        walked += (uint32_t)counts;
    }
    thread->chain_ids[length] = 0;
    thread->chained = length;
    thread->kept = count;
}

/* The first `changed` frames of the chain are others now: the stack's id, or
 * 0 when that cannot be said so quickly. */
static SHD_FAST __attribute__((noinline)) uint32_t
change_chain(shd_thread *thread, PyThreadState *tstate, uint32_t changed)
{
    shd_frame *frames[MOST_CHANGED], *frame = shd_frame_newest(tstate);
    if (changed > thread->kept || thread->importing > thread->kept - changed) {
        return 0;
    }
    for (uint32_t i = 0; i < changed; i++) {
        /* Each of them counted, and does. */
        if (thread->chain_ids[i] == thread->chain_ids[i + 1]
            || shd_frame_lasti(frame) < 0
            || shd_frame_code(frame) == importer) {
            return 0;
        }
        frames[i] = frame;
        frame = shd_frame_caller(frame);
    }
    uint32_t id = thread->chain_ids[changed];
    while (changed-- > 0) {
        const void *at = shd_frame_at(frames[changed]);
        uint32_t parent = id;
        id = known_step(step_of(thread, parent, at), parent, at);
        if (id == 0) {
            const shd_walked found = {
                at,
                shd_frame_code(frames[changed]),
                (uint32_t)shd_frame_lasti(frames[changed]),
            };
            id = step_into(thread, parent, &found, thread->kept - changed);
        }
        if (id == 0) {
            thread->chained = 0;
            return 0;
        }
        thread->chain[changed] = at;
        thread->chain_ids[changed] = id;
    }
    return id;
}

/* The stack's id if the chain of frames is much the same as at the last
 * capture, or 0. */
static inline uint32_t
follow_chain(shd_thread *thread, PyThreadState *tstate)
{
    uint32_t length = thread->chained, at = 0, changed = 0;
    const shd_frame *frame = shd_frame_newest(tstate);
    for (; frame != NULL; frame = frame->previous, at++) {
        if (at == length) {
            return 0;
        }
        if (shd_frame_at(frame) != thread->chain[at]) {
            changed = at + 1;
            if (changed > MOST_CHANGED) {
                return 0;
            }
        }
    }
    if (at != length || length == 0) {
        return 0;
    }
    return changed == 0 ? thread->chain_ids[0]
                        : change_chain(thread, tstate, changed);
}
#else
static inline uint32_t
follow_chain(shd_thread *Py_UNUSED(thread), PyThreadState *Py_UNUSED(tstate))
{
    return 0;
}

static inline void
keep_chain(shd_thread *Py_UNUSED(thread), PyThreadState *Py_UNUSED(tstate),
           uint32_t Py_UNUSED(count))
{
}
#endif

/* Walks all of the stack, and compares it from the outermost frame in. */
static __attribute__((noinline)) uint32_t
walk_anew(shd_thread *thread, PyThreadState *tstate)
{
    uint32_t count = walk_stack(tstate, thread->walk);
    uint32_t skip = 0;
    uint32_t most = shd_rec.settings.frames;
    if (count > most) {
        /* The window moves in steps, so that calls at almost the same depth
           still share their outer part. */
        skip = (count - most) & ~(uint32_t)(SHD_WINDOW - 1);
        count -= skip;
    }
    if (thread->cached_skip != skip) {
        thread->cached = 0;
        thread->cached_skip = skip;
    }
    uint32_t common = 0;
    uint32_t shared = count < thread->cached ? count : thread->cached;
    const shd_walked *from = thread->walk + count - 1;
    while (common < shared && thread->cache[common].at == from->at) {
        common++;
        from--;
    }
    uint32_t id = common ? thread->cache[common - 1].id : 0;
    if (thread->importing > common) {
        thread->importing = 0;
    }
    for (; common < count; common++, from--) {
        id = step_into(thread, id, from, common + 1);
        if (id == 0) {
            break;
        }
        thread->cache[common] = (shd_cached){from->at, id};
        if (from->code == importer && thread->importing == 0) {
            thread->importing = common + 1;
        }
    }
    thread->cached = common;
    if (common < count) {
        /* A stack that lacks its inner frames would name the wrong place. */
        thread->chained = 0;
        return 0;
    }
    if (use_frames) {
        keep_chain(thread, tstate, count);
    }
    return id;
}

SHD_FAST uint32_t
shd_unwind_capture(shd_thread *thread, PyThreadState *tstate,
                   enum shd_walker walker)
{
    if (tstate == NULL || !can_walk(thread, walker)) {
        if (thread->importing) {
            thread->importing = 0;
            thread->cached = 0;
            thread->chained = 0;
        }
        return 0;
    }
    uint64_t deaths =
        atomic_load_explicit(&shd_depot_deaths, memory_order_relaxed);
    if (thread->cached_epoch == shd_rec.epoch
        && thread->cached_deaths == deaths) {
        uint32_t id = follow_chain(thread, tstate);
        if (id != 0) {
            return id;
        }
    }
    else {
        thread->cached = 0;
        thread->chained = 0;
        thread->cached_epoch = shd_rec.epoch;
        thread->cached_deaths = deaths;
        memset(thread->steps, 0, sizeof(thread->steps));
    }
    return walk_anew(thread, tstate);
}

static PyCodeObject *
find_importer(void)
{
    PyObject *module = PyImport_ImportModule("_frozen_importlib");
    PyObject *function =
        module == NULL
            ? NULL
            : PyObject_GetAttrString(module, "_call_with_frames_removed");
    PyObject *code =
        function == NULL ? NULL : PyObject_GetAttrString(function, "__code__");
    Py_XDECREF(module);
    Py_XDECREF(function);
    if (code == NULL || !PyCode_Check(code)) {
        PyErr_Clear();
        Py_CLEAR(code);
    }
    return (PyCodeObject *)code;
}

int
shd_unwind_start(void)
{
    if (importer == NULL) {
        importer = find_importer();
    }
#if SHD_HAVE_FRAMES
    shd_thread *thread = shd_thread_get();
    if (thread == NULL) {
        return -1;
    }
    use_frames = 0;
    PyThreadState *tstate = PyThreadState_Get();
    uint32_t expected = walk_public(tstate, thread->walk);
    shd_walked *other = PyMem_RawMalloc(sizeof(thread->walk));
    if (other == NULL) {
        return -1;
    }
    uint32_t found = walk_frames(tstate, other);
    use_frames = found == expected;
    for (uint32_t i = 0; use_frames && i < found; i++) {
        use_frames = other[i].code == thread->walk[i].code
                     && other[i].lasti == thread->walk[i].lasti;
    }
    PyMem_RawFree(other);
#endif
    return 0;
}

const char *
shd_unwind_source(void)
{
    return use_frames ? "frames" : "public";
}
