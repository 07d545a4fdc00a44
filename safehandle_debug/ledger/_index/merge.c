/* Puts the events of several threads in order.
 *
 * Each chunk holds events of one thread, by seq; chunks come by a lower bound
 * of their first.  What is below the next chunk's bound can be taken before it
 * is looked at, so only chunks that overlap in time are held together. */
#include "index.h"

typedef struct {
    PyObject *data;
    const shd_event *at;
    const shd_event *end;
} chunk;

typedef struct {
    PyObject *iterator;
    chunk *heap; /* the one with the smallest next seq first */
    size_t count;
    size_t room;
    chunk next; /* looked at, not in the heap yet; data NULL: none */
    uint64_t bound;
} merge;

static void
sift_down(merge *state, size_t at)
{
    for (;;) {
        size_t least = at, left = 2 * at + 1;
        for (size_t child = left; child < left + 2 && child < state->count;
             child++) {
            if (state->heap[child].at->seq < state->heap[least].at->seq) {
                least = child;
            }
        }
        if (least == at) {
            return;
        }
        chunk moved = state->heap[at];
        state->heap[at] = state->heap[least];
        state->heap[least] = moved;
        at = least;
    }
}

static bool
push(merge *state, chunk pushed)
{
    if (state->count == state->room) {
        size_t room = state->room ? state->room * 2 : 16;
        chunk *grown = PyMem_Realloc(state->heap, room * sizeof(chunk));
        if (grown == NULL) {
            PyErr_NoMemory();
            return false;
        }
        state->heap = grown;
        state->room = room;
    }
    size_t at = state->count++;
    state->heap[at] = pushed;
    while (at > 0
           && state->heap[at].at->seq < state->heap[(at - 1) / 2].at->seq) {
        chunk moved = state->heap[at];
        state->heap[at] = state->heap[(at - 1) / 2];
        state->heap[(at - 1) / 2] = moved;
        at = (at - 1) / 2;
    }
    return true;
}

/* Looks at the next chunk, if there is one; false with an exception. */
static bool
look(merge *state)
{
    while (state->next.data == NULL && state->iterator != NULL) {
        PyObject *item = PyIter_Next(state->iterator);
        if (item == NULL) {
            Py_CLEAR(state->iterator);
            return !PyErr_Occurred();
        }
        unsigned long long bound;
        PyObject *data;
        if (!PyTuple_Check(item)
            || !PyArg_ParseTuple(item, "KS:take", &bound, &data)) {
            if (!PyErr_Occurred()) {
                PyErr_SetString(PyExc_TypeError,
                                "a chunk is (seq, packed events)");
            }
            Py_DECREF(item);
            return false;
        }
        size_t events = (size_t)PyBytes_GET_SIZE(data) / sizeof(shd_event);
        if (events > 0) {
            const shd_event *first =
                (const shd_event *)PyBytes_AS_STRING(data);
            state->next = (chunk){
                .data = Py_NewRef(data), .at = first, .end = first + events};
            state->bound = bound;
        }
        Py_DECREF(item);
    }
    return true;
}

/* The seq below which the first chunk of the heap comes before all others. */
static uint64_t
limit(const merge *state)
{
    uint64_t least = state->next.data != NULL ? state->bound : UINT64_MAX;
    for (size_t child = 1; child < 3 && child < state->count; child++) {
        if (state->heap[child].at->seq < least) {
            least = state->heap[child].at->seq;
        }
    }
    return least;
}

static Py_ssize_t
run(merge *state, idx_taker take, void *context)
{
    Py_ssize_t taken = 0;
    for (;;) {
        if (!look(state)) {
            return -1;
        }
        bool has_next = state->next.data != NULL;
        if (has_next
            && (state->count == 0 || state->bound <= state->heap[0].at->seq)) {
            if (!push(state, state->next)) {
                return -1;
            }
            state->next.data = NULL;
            continue;
        }
        if (state->count == 0) {
            return taken;
        }
        uint64_t below = limit(state);
        chunk *first = &state->heap[0];
        do {
            if (take(context, first->at) < 0) {
                return -1;
            }
            taken++;
            first->at++;
        } while (first->at < first->end && first->at->seq < below);
        if (first->at == first->end) {
            PyObject *done = first->data;
            *first = state->heap[--state->count];
            Py_DECREF(done);
        }
        sift_down(state, 0);
    }
}

Py_ssize_t
idx_merge(PyObject *chunks, idx_taker take, void *context)
{
    merge state = {.iterator = PyObject_GetIter(chunks)};
    if (state.iterator == NULL) {
        return -1;
    }
    Py_ssize_t taken = run(&state, take, context);
    for (size_t at = 0; at < state.count; at++) {
        Py_DECREF(state.heap[at].data);
    }
    Py_XDECREF(state.next.data);
    Py_XDECREF(state.iterator);
    PyMem_Free(state.heap);
    return taken;
}
