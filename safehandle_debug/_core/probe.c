/* The whole life of one handle that is nothing but a number, for tests of the
 * recorder: foreign code calls it as the descriptor watch does, with the GIL
 * or without, also from threads that Python has never heard of. */
#include "lifetime/handle.h"
#include "recording/record.h"
#include "recording/table.h"

/* NULL when it was recorded. */
static void *
record(void *number, int (*place)(shd_place *here))
{
    shd_place here;
    shd_subject subject = {.value = (int64_t)(intptr_t)number};
    if (!place(&here)) {
        return number;
    }
    subject.serial = shd_record_serial();
    subject.type = shd_record_type("raw", "descriptor", "probe");
    subject.detail = shd_record_detail("probe");
    subject.slot = shd_table_take();
    if (subject.slot) {
        shd_table_set(subject.slot, subject.value,
                      shd_table_meta(subject.serial, SHD_KIND_WATCHED, 0));
    }
    shd_record_appeared(&here, &subject, 0);
    int placed = place(&here);
    if (placed) {
        shd_record_event(&here, &subject, SHD_EVENT_CLOSE, 0,
                         SHD_ENDING_CLOSED, 0, subject.value, 0, 0);
    }
    int claimed = shd_table_claim(subject.slot, subject.serial);
    shd_record_vanished(&subject);
    if (claimed) {
        shd_table_give(subject.slot);
    }
    return placed ? NULL : number;
}

/* A start routine of pthread_create(), and a signal handler. */
static void *
probe(void *number)
{
    return record(number, shd_place_here);
}

static void *
asking_probe(void *number)
{
    return record(number, shd_place_asked);
}

static int
add_address(PyObject *module, const char *name, void *(*function)(void *))
{
    PyObject *address = PyLong_FromVoidPtr((void *)(uintptr_t)function);
    int result = PyModule_AddObjectRef(module, name, address);
    Py_XDECREF(address);
    return result;
}

int
shd_probe_add(PyObject *module)
{
    return add_address(module, "PROBE_ADDRESS", probe) < 0
                   || add_address(module, "ASKING_PROBE_ADDRESS", asking_probe)
                          < 0
               ? -1
               : 0;
}
