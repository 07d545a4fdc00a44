/* Answers of Python's about two ids that are asked for once: whether a close
 * with some stack, of a handle of some type, may be worth telling; which place
 * a text has among others; whether it is what a filter looks for. */
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
    grown.answers = calloc(grown.room, sizeof(uint32_t));
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

int64_t
idx_asked_answer(idx_asked *asked, PyObject *question, uint32_t first,
                 uint32_t second)
{
    /* 0 marks what is free; the last pair of all has no key and is asked
     * again each time. */
    uint64_t key = ((uint64_t)first << 32 | second) + 1;
    if (asked->room != 0 && key != 0) {
        size_t at = place_of(asked, key);
        if (asked->keys[at] == key) {
            return asked->answers[at];
        }
    }
    PyObject *answer = PyObject_CallFunction(question, "II", first, second);
    if (answer == NULL) {
        return -1;
    }
    int64_t number;
    if (PyLong_Check(answer)) {
        number = (int64_t)(uint32_t)PyLong_AsUnsignedLongMask(answer);
    }
    else {
        number = PyObject_IsTrue(answer);
    }
    Py_DECREF(answer);
    if (number < 0 || key == 0) {
        return number;
    }
    /* Only now: the question may have been asked from inside itself. */
    if (asked->used * 2 >= asked->room && !grow(asked)) {
        PyErr_NoMemory();
        return -1;
    }
    size_t at = place_of(asked, key);
    asked->used += asked->keys[at] == 0;
    asked->keys[at] = key;
    asked->answers[at] = (uint32_t)number;
    return number;
}

void
idx_asked_clear(idx_asked *asked)
{
    free(asked->keys);
    free(asked->answers);
    *asked = (idx_asked){0};
}
