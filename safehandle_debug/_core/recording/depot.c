/* Interning: one open-addressed table for data records, one for stack nodes.
 *
 * Tables only grow: a place is filled once, by compare-and-swap, and names a
 * record in the file, which is what a key is compared with.  A table that is
 * two thirds full gets a successor twice as large; what is found in an older
 * one moves on into the newest.  Two threads that intern the same at the same
 * time may write it twice: readers do not care. */
#include "depot.h"

#include "recorder.h"
#include "thread.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* Names may fill half of the recording, details an eighth; the rest is for
   events. */
#define NAMES_SHARE 2
#define DETAILS_SHARE 8

typedef struct table {
    struct table *older;
    uint32_t mask;
    _Atomic uint32_t used;
    _Atomic uint64_t places[]; /* hash << 32 | id, 0: free */
} table;

static _Atomic(table *) data_table, node_table;
static _Atomic uint64_t data_bytes;

static size_t
size_of_table(uint32_t places)
{
    return sizeof(table) + (size_t)places * sizeof(uint64_t);
}

static void
free_tables(_Atomic(table *) *newest)
{
    table *at = atomic_exchange(newest, NULL);
    while (at != NULL) {
        table *older = at->older;
        munmap(at, size_of_table(at->mask + 1));
        at = older;
    }
}

void
shd_depot_reset(void)
{
    free_tables(&data_table);
    free_tables(&node_table);
    atomic_store(&data_bytes, 0);
}

/* The successor of `old`, which may be NULL; NULL when memory is out. */
static table *
grow_table(_Atomic(table *) *newest, table *old, uint32_t first)
{
    uint32_t places = old == NULL ? first : (old->mask + 1) * 2;
    int error = errno;
    table *made = mmap(NULL, size_of_table(places), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    errno = error;
    if (made == MAP_FAILED) {
        return NULL;
    }
    made->older = old;
    made->mask = places - 1;
    if (!atomic_compare_exchange_strong(newest, &old, made)) {
        munmap(made, size_of_table(places));
        return old; /* another thread's */
    }
    return made;
}

/* Forgetting it when there is no room is harmless: it is written once more. */
static void
put(_Atomic(table *) *newest, uint32_t first, uint32_t hash, uint32_t id)
{
    table *at = atomic_load_explicit(newest, memory_order_acquire);
    if (at == NULL
        || atomic_load_explicit(&at->used, memory_order_relaxed) * 3
               >= at->mask * 2) {
        at = grow_table(newest, at, first);
        if (at == NULL) {
            return;
        }
    }
    uint64_t word = (uint64_t)hash << 32 | id;
    uint32_t place = hash & at->mask;
    for (uint32_t tries = 0; tries <= at->mask; tries++) {
        uint64_t none = 0;
        if (atomic_load_explicit(&at->places[place], memory_order_relaxed) == 0
            && atomic_compare_exchange_strong(&at->places[place], &none,
                                              word)) {
            atomic_fetch_add_explicit(&at->used, 1, memory_order_relaxed);
            return;
        }
        place = (place + 1) & at->mask;
    }
}

/* Id of the record that `is` the key, or 0. */
static inline __attribute__((always_inline)) uint32_t
find(_Atomic(table *) *newest, uint32_t hash,
     int (*is)(uint32_t id, const void *key), const void *key)
{
    table *first = atomic_load_explicit(newest, memory_order_acquire);
    for (table *at = first; at != NULL; at = at->older) {
        for (uint32_t place = hash & at->mask;;
             place = (place + 1) & at->mask) {
            uint64_t word =
                atomic_load_explicit(&at->places[place], memory_order_acquire);
            if (word == 0) {
                break;
            }
            if ((uint32_t)(word >> 32) == hash && is((uint32_t)word, key)) {
                if (at != first) {
                    put(newest, 0, hash, (uint32_t)word);
                }
                return (uint32_t)word;
            }
        }
    }
    return 0;
}

/* --- data ------------------------------------------------------------------- */

#define FIRST_DATA 256
#define FIRST_NODES 1024

typedef struct {
    const void *payload;
    size_t size;
    int type;
} data_key;

static int
is_data(uint32_t id, const void *key)
{
    const data_key *wanted = key;
    const shd_data_head *known =
        (const shd_data_head *)(shd_rec.map + (uint64_t)id * 8);
    return known->size == wanted->size && known->type == wanted->type
           && memcmp(known + 1, wanted->payload, wanted->size) == 0;
}

static uint32_t
hash_bytes(uint64_t hash, const void *bytes, size_t size)
{
    const unsigned char *at = bytes;
    uint64_t word = 0;
    for (; size >= 8; size -= 8, at += 8) {
        memcpy(&word, at, 8);
        hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
        hash ^= hash >> 29;
    }
    word = 0;
    memcpy(&word, at, size);
    hash = (hash ^ word ^ (uint64_t)size << 56) * UINT64_C(0xFF51AFD7ED558CCD);
    return (uint32_t)(hash >> 32) ^ (uint32_t)hash;
}

static uint32_t
intern(int type, const void *payload, size_t size, unsigned int share)
{
    uint32_t hash = hash_bytes((uint64_t)type, payload, size);
    const data_key key = {payload, size, type};
    uint32_t id = find(&data_table, hash, is_data, &key);
    if (id) {
        return id;
    }
    if (atomic_load_explicit(&data_bytes, memory_order_relaxed) + size
        > shd_rec.size / share) {
        shd_recorder_count(&shd_rec.header->dropped_data, 1);
        return 0;
    }
    id = shd_recorder_data(type, payload, size, NULL, 0);
    if (id) {
        put(&data_table, FIRST_DATA, hash, id);
        atomic_fetch_add_explicit(&data_bytes, size + sizeof(shd_data_head),
                                  memory_order_relaxed);
    }
    return id;
}

uint32_t
shd_depot_bytes(const char *utf8, size_t size)
{
    return intern(SHD_DATA_STRING, utf8, size, NAMES_SHARE);
}

uint32_t
shd_depot_string(const char *utf8)
{
    return intern(SHD_DATA_STRING, utf8, strlen(utf8), NAMES_SHARE);
}

uint32_t
shd_depot_detail_string(const char *utf8)
{
    return intern(SHD_DATA_STRING, utf8, strlen(utf8), DETAILS_SHARE);
}

uint32_t
shd_depot_new_path(shd_thread *thread, const char *path)
{
    thread->path = shd_depot_detail_string(path);
    thread->path_epoch = shd_rec.epoch;
    return thread->path;
}

/* --- texts ------------------------------------------------------------------- */

/* UTF-8 of any str, lone surrogates as three bytes each; its size, or 0 when
   it does not fit. */
static size_t
encode(PyObject *str, unsigned char *to, size_t room)
{
    int kind = PyUnicode_KIND(str);
    const void *text = PyUnicode_DATA(str);
    Py_ssize_t length = PyUnicode_GET_LENGTH(str);
    unsigned char *at = to;
    for (Py_ssize_t i = 0; i < length; i++) {
        if ((size_t)(at - to) + 4 > room) {
            return 0;
        }
        Py_UCS4 ch = PyUnicode_READ(kind, text, i);
        if (ch < 0x80) {
            *at++ = (unsigned char)ch;
            continue;
        }
        int more = ch < 0x800 ? 1 : ch < 0x10000 ? 2 : 3;
        static const unsigned char lead[] = {0, 0xC0, 0xE0, 0xF0};
        *at++ = (unsigned char)(lead[more] | ch >> (6 * more));
        while (more--) {
            *at++ = (unsigned char)(0x80 | ((ch >> (6 * more)) & 0x3F));
        }
    }
    return (size_t)(at - to);
}

static uint32_t
intern_text(PyObject *str, unsigned int share)
{
    if (PyUnicode_IS_COMPACT_ASCII(str)) {
        return intern(SHD_DATA_STRING, PyUnicode_DATA(str),
                      (size_t)PyUnicode_GET_LENGTH(str), share);
    }
    shd_thread *thread = shd_thread_get();
    size_t size = 0;
    if (thread != NULL && shd_text_is_ready(str)) {
        size = encode(str, thread->text, sizeof(thread->text));
    }
    if (size == 0) {
        shd_recorder_count(&shd_rec.header->dropped_data, 1);
        return 0;
    }
    return intern(SHD_DATA_STRING, thread->text, size, share);
}

uint32_t
shd_depot_text(PyObject *str)
{
    return intern_text(str, NAMES_SHARE);
}

uint32_t
shd_depot_detail(PyObject *str)
{
    return intern_text(str, DETAILS_SHARE);
}

uint32_t
shd_depot_type(const char *name, const char *kind, const char *space)
{
    shd_type type = {
        shd_depot_string(name),
        shd_depot_string(kind),
        shd_depot_string(space),
        0,
    };
    return intern(SHD_DATA_TYPE, &type, sizeof(type), NAMES_SHARE);
}

/* --- stacks ------------------------------------------------------------------ */

static inline uint32_t
hash_node(uint32_t parent, uint32_t code, uint32_t lasti)
{
    uint64_t mixed = (((uint64_t)parent << 32) | code)
                     ^ ((uint64_t)lasti * UINT64_C(0x9E3779B97F4A7C15));
    mixed *= UINT64_C(0xFF51AFD7ED558CCD);
    return (uint32_t)(mixed >> 32) ^ (uint32_t)mixed;
}

static int
is_node(uint32_t id, const void *key)
{
    const shd_stack_node *wanted = key;
    const shd_stack_node *known =
        (const shd_stack_node *)(shd_rec.map + (uint64_t)id * 16);
    return known->parent == wanted->parent && known->code == wanted->code
           && known->lasti == wanted->lasti;
}

uint32_t
shd_depot_node(uint32_t parent, uint32_t code, uint32_t lasti, uint32_t depth)
{
    uint32_t hash = hash_node(parent, code, lasti);
    const shd_stack_node key = {parent, code, lasti, depth};
    uint32_t id = find(&node_table, hash, is_node, &key);
    if (id == 0) {
        id = shd_recorder_node(parent, code, lasti, depth);
        if (id) {
            put(&node_table, FIRST_NODES, hash, id);
        }
    }
    return id;
}
