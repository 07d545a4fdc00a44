/* Walking frames, and finding the stack's id without hashing all of it.
 *
 * A walk costs a nanosecond a frame; hashing costs several.  Each thread keeps
 * the stack that it captured last, and only the frames beyond the common part
 * are looked up.  Frames are compared by (code, lasti) from the outermost in:
 * a frame's address proves nothing, the next call reuses it. */
#include "unwind.h"

#include "depot.h"

static int use_frames;
static _Atomic(shd_thread *) ending; /* ends the interpreter */
static PyCodeObject *importer; /* importlib's frame around every module body */

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

/* Id of the stack `parent` with one frame more, or 0.  A line that opens and
 * the one that closes take turns: what was looked up lately is kept. */
static inline uint32_t
step_into(shd_thread *thread, uint32_t parent, const shd_walked *frame,
          uint32_t depth)
{
    uint32_t mixed =
        parent * 31 + frame->lasti + (uint32_t)((uintptr_t)frame->code >> 4);
    shd_step *step = &thread->steps[mixed % SHD_STEPS];
    if (step->code == frame->code && step->lasti == frame->lasti
        && step->parent == parent && step->generation == thread->generation
        && step->id != 0) {
        return step->id;
    }
    uint32_t code = shd_depot_code(frame->code);
    uint32_t id =
        code == 0 ? 0 : shd_depot_node(parent, code, frame->lasti, depth);
    *step =
        (shd_step){frame->code, frame->lasti, parent, id, thread->generation};
    return id;
}

uint32_t
shd_unwind_capture(shd_thread *thread, PyThreadState *tstate,
                   enum shd_walker walker)
{
    if (tstate == NULL || !can_walk(thread, walker)) {
        thread->importing = 0;
        return 0;
    }
    uint32_t count = walk_stack(tstate, thread->walk);
    uint32_t skip = 0;
    uint32_t most = shd_rec.settings.frames;
    if (count > most) {
        /* The window moves in steps, so that calls at almost the same depth
           still share their outer part. */
        skip = (count - most) & ~(uint32_t)(SHD_WINDOW - 1);
        count -= skip;
    }
    uint64_t deaths =
        atomic_load_explicit(&shd_depot_deaths, memory_order_relaxed);
    if (thread->cached_epoch != shd_rec.epoch
        || thread->cached_deaths != deaths || thread->cached_skip != skip) {
        thread->cached = 0;
        thread->cached_skip = skip;
        if (thread->cached_epoch != shd_rec.epoch
            || thread->cached_deaths != deaths) {
            thread->cached_epoch = shd_rec.epoch;
            thread->cached_deaths = deaths;
            thread->generation++;
        }
    }
    uint32_t common = 0;
    uint32_t shared = count < thread->cached ? count : thread->cached;
    const shd_walked *from = thread->walk + count - 1;
    while (common < shared && thread->cache[common].code == from->code
           && thread->cache[common].lasti == from->lasti) {
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
        thread->cache[common] = (shd_walked){from->code, from->lasti, id};
        if (from->code == importer && thread->importing == 0) {
            thread->importing = common + 1;
        }
    }
    thread->cached = common;
    /* A stack that lacks its inner frames would name the wrong place. */
    return common == count ? id : 0;
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
