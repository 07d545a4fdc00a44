/* Interning: one open-addressed table for data records, one for stack nodes.
 *
 * A code object is known by what hangs on it (its co_extra): the id and the
 * recording's epoch in one word.  That is one load for a known function, and
 * the interpreter tells us when the function dies. */
#include "depot.h"

#include "recorder.h"

#include <stdlib.h>
#include <string.h>

uint64_t shd_depot_deaths;

/* Names may fill half of the recording, details an eighth; the rest is for
   events. */
#define NAMES_SHARE 2
#define DETAILS_SHARE 8

typedef struct {
    uint32_t hash;
    uint32_t id; /* 0: free */
} data_slot;

typedef struct {
    uint32_t parent, code, lasti;
    uint32_t id; /* 0: free */
} node_slot;

static struct {
    data_slot *slots;
    uint32_t mask, used;
} data_table;

static struct {
    node_slot *slots;
    uint32_t mask, used;
} node_table;

static uint32_t tables_epoch;
static uint64_t data_bytes;

static void
code_died(void *Py_UNUSED(extra))
{
    shd_depot_deaths++;
}

Py_ssize_t
shd_depot_request_index(void)
{
    return SHD_CODE_EXTRA_REQUEST(code_died);
}

void
shd_depot_reset(void)
{
    free(data_table.slots);
    free(node_table.slots);
    memset(&data_table, 0, sizeof(data_table));
    memset(&node_table, 0, sizeof(node_table));
    data_bytes = 0;
    tables_epoch = shd_rec.epoch;
}

static inline void
check_epoch(void)
{
    if (tables_epoch != shd_rec.epoch) {
        shd_depot_reset();
    }
}

static uint32_t
hash_bytes(uint32_t hash, const void *bytes, size_t size)
{
    const unsigned char *at = bytes;
    while (size--) {
        hash = (hash ^ *at++) * 16777619u;
    }
    return hash;
}

static inline uint32_t
hash_node(uint32_t parent, uint32_t code, uint32_t lasti)
{
    uint64_t mixed = (((uint64_t)parent << 32) | code)
                     ^ ((uint64_t)lasti * UINT64_C(0x9E3779B97F4A7C15));
    mixed *= UINT64_C(0xFF51AFD7ED558CCD);
    return (uint32_t)(mixed >> 32) ^ (uint32_t)mixed;
}

static int
grow_data_table(void)
{
    uint32_t size = data_table.slots == NULL ? 256 : (data_table.mask + 1) * 2;
    data_slot *slots = calloc(size, sizeof(data_slot));
    if (slots == NULL) {
        return -1;
    }
    for (uint32_t i = 0; data_table.slots != NULL && i <= data_table.mask;
         i++) {
        data_slot slot = data_table.slots[i];
        if (slot.id) {
            uint32_t at = slot.hash & (size - 1);
            while (slots[at].id) {
                at = (at + 1) & (size - 1);
            }
            slots[at] = slot;
        }
    }
    free(data_table.slots);
    data_table.slots = slots;
    data_table.mask = size - 1;
    return 0;
}

static uint32_t
intern(int type, const void *payload, size_t size, unsigned int share)
{
    check_epoch();
    if (data_table.used * 3 >= data_table.mask * 2 && grow_data_table() < 0) {
        return 0;
    }
    uint32_t hash = hash_bytes(2166136261u ^ (uint32_t)type, payload, size);
    uint32_t at = hash & data_table.mask;
    for (; data_table.slots[at].id; at = (at + 1) & data_table.mask) {
        if (data_table.slots[at].hash != hash) {
            continue;
        }
        const shd_data_head *known =
            (const shd_data_head *)(shd_rec.map
                                    + (uint64_t)data_table.slots[at].id * 8);
        if (known->size == size && known->type == type
            && memcmp(known + 1, payload, size) == 0) {
            return data_table.slots[at].id;
        }
    }
    if (data_bytes + size > shd_rec.size / share) {
        shd_rec.header->dropped_data++;
        return 0;
    }
    uint32_t id = shd_recorder_data(type, payload, size, NULL, 0);
    if (id) {
        data_table.slots[at] = (data_slot){hash, id};
        data_table.used++;
        data_bytes += size + sizeof(shd_data_head);
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

static uint32_t
intern_text(PyObject *str, unsigned int share)
{
    uint32_t id = 0;
    if (PyUnicode_IS_COMPACT_ASCII(str)) {
        return intern(SHD_DATA_STRING, PyUnicode_DATA(str),
                      (size_t)PyUnicode_GET_LENGTH(str), share);
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *bytes = PyUnicode_AsEncodedString(str, "utf-8", "surrogatepass");
    if (bytes != NULL) {
        id = intern(SHD_DATA_STRING, PyBytes_AS_STRING(bytes),
                    (size_t)PyBytes_GET_SIZE(bytes), share);
        Py_DECREF(bytes);
    }
    PyErr_Restore(type, value, traceback);
    return id;
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

uint32_t
shd_depot_code(PyCodeObject *code, Py_ssize_t index)
{
    check_epoch();
    void *extra = NULL;
    if (index < 0 || SHD_CODE_EXTRA_GET((PyObject *)code, index, &extra) < 0) {
        PyErr_Clear();
        return 0;
    }
    if ((uint32_t)((uintptr_t)extra >> 32) == shd_rec.epoch) {
        return (uint32_t)(uintptr_t)extra;
    }
    PyObject *table = code->co_linetable;
    shd_code record = {
        shd_depot_text(code->co_filename),
        shd_depot_text(code->co_qualname),
        code->co_firstlineno,
        (uint32_t)PyBytes_GET_SIZE(table),
    };
    const uint32_t most = SHD_BLOCK_SIZE - SHD_BLOCK_HEAD_SIZE
                          - sizeof(shd_data_head) - sizeof(record);
    if (record.linetable_size > most) {
        record.linetable_size = most;
    }
    uint32_t id =
        shd_recorder_data(SHD_DATA_CODE, &record, sizeof(record),
                          PyBytes_AS_STRING(table), record.linetable_size);
    if (id == 0) {
        return 0;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    uintptr_t word = ((uintptr_t)shd_rec.epoch << 32) | id;
    if (SHD_CODE_EXTRA_SET((PyObject *)code, index, (void *)word) < 0) {
        PyErr_Clear();
        id = 0; /* without a freefunc call its death would go unseen */
    }
    PyErr_Restore(type, value, traceback);
    return id;
}

static int
grow_node_table(void)
{
    uint32_t size =
        node_table.slots == NULL ? 1024 : (node_table.mask + 1) * 2;
    node_slot *slots = calloc(size, sizeof(node_slot));
    if (slots == NULL) {
        return -1;
    }
    for (uint32_t i = 0; node_table.slots != NULL && i <= node_table.mask;
         i++) {
        node_slot slot = node_table.slots[i];
        if (slot.id) {
            uint32_t at =
                hash_node(slot.parent, slot.code, slot.lasti) & (size - 1);
            while (slots[at].id) {
                at = (at + 1) & (size - 1);
            }
            slots[at] = slot;
        }
    }
    free(node_table.slots);
    node_table.slots = slots;
    node_table.mask = size - 1;
    return 0;
}

uint32_t
shd_depot_node(uint32_t parent, uint32_t code, uint32_t lasti, uint32_t depth)
{
    check_epoch();
    if (node_table.used * 3 >= node_table.mask * 2 && grow_node_table() < 0) {
        return 0;
    }
    uint32_t at = hash_node(parent, code, lasti) & node_table.mask;
    for (; node_table.slots[at].id; at = (at + 1) & node_table.mask) {
        node_slot *slot = &node_table.slots[at];
        if (slot->parent == parent && slot->code == code
            && slot->lasti == lasti) {
            return slot->id;
        }
    }
    uint32_t id = shd_recorder_node(parent, code, lasti, depth);
    if (id) {
        node_table.slots[at] = (node_slot){parent, code, lasti, id};
        node_table.used++;
    }
    return id;
}
