/* Answers of Python's that are asked for once: whether a close with some
 * stack, of a handle of some type, may be worth telling. */
#include "index.h"

#define LEAST_ROOM 64

static size_t
home(const idx_asked *asked, uint64_t key)
{
    return (size_t)(key * 0x9E3779B97F4A7C15u >> 32) & (asked->room - 1);
}

static size_t
place_of(const idx_asked *asked, uint64_t key)
{
    size_t at = home(asked, key);
    while (asked->keys[at] != 0 && asked->keys[at] != key) {
        at = (at + 1) & (asked->room - 1);
    }
    return at;
}

static bool
grow(idx_asked *asked)
{
    idx_asked grown = {.room = asked->room ? asked->room * 2 : LEAST_ROOM,
                       .used = asked->used};
    grown.keys = calloc(grown.room, sizeof(uint64_t));
    grown.answers = calloc(grown.room, 1);
    if (grown.keys == NULL || grown.answers == NULL) {
        free(grown.keys);
        free(grown.answers);
        return false;
    }
    for (size_t at = 0; at < asked->room; at++) {
        if (asked->keys[at] != 0) {
            size_t to = place_of(&grown, asked->keys[at]);
            grown.keys[to] = asked->keys[at];
            grown.answers[to] = asked->answers[at];
        }
    }
    idx_asked_clear(asked);
    *asked = grown;
    return true;
}

int
idx_asked_answer(idx_asked *asked, PyObject *question, uint32_t stack,
                 uint32_t type)
{
    uint64_t key = (uint64_t)stack << 32 | type;
    if (key == 0) {
        return 0;
    }
    if (asked->used * 2 >= asked->room && !grow(asked)) {
        PyErr_NoMemory();
        return -1;
    }
    size_t at = place_of(asked, key);
    if (asked->keys[at] == key) {
        return asked->answers[at];
    }
    PyObject *answer = PyObject_CallFunction(question, "II", stack, type);
    int is_true = answer != NULL ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    if (is_true >= 0) {
        asked->keys[at] = key;
        asked->answers[at] = (uint8_t)is_true;
        asked->used++;
    }
    return is_true;
}

void
idx_asked_clear(idx_asked *asked)
{
    free(asked->keys);
    free(asked->answers);
    *asked = (idx_asked){0};
}
