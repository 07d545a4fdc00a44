/* The whole life of one handle that is nothing but a number, for tests of the
 * recorder: foreign code calls it as the descriptor watch does, with the GIL
 * or without, also from threads that Python has never heard of. */
#include "handle.h"
#include "record.h"
#include "table.h"

/* NULL when it was recorded.  (A start routine of pthread_create.) */
static void *
probe(void *number)
{
    shd_place here;
    shd_subject subject = {.value = (int64_t)(intptr_t)number};
    if (!shd_place_here(&here)) {
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
    if (!shd_place_here(&here)) {
        return number;
    }
    shd_record_event(&here, &subject, SHD_EVENT_CLOSE, 0, SHD_ENDING_CLOSED, 0,
                     subject.value, 0, 0);
    if (shd_table_claim(subject.slot, subject.serial)) {
        shd_table_give(subject.slot);
    }
    shd_record_vanished(&subject);
    return NULL;
}

int
shd_probe_add(PyObject *module)
{
    PyObject *address = PyLong_FromVoidPtr((void *)(uintptr_t)probe);
    int result = PyModule_AddObjectRef(module, "PROBE_ADDRESS", address);
    Py_XDECREF(address);
    return result;
}
