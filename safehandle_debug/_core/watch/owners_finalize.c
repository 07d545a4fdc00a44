/* Finalizers of owners: what they close was dropped, not closed.
 *
 * Files close in the finalizer that all of `io` shares, which calls close():
 * of a buffer that dies, the file below is closed inside.  mmap, epoll and
 * sqlite3 close where their memory is freed. */
#include "lifetime/handle.h"
#include "owners_parts.h"
#include "owners_slots.h"
#include "recording/record.h"

#include <dirent.h>

/* Whether the collector called, on this thread.  At interpreter end it calls
   no callbacks, and there is one thread only. */
static int
is_collection(void)
{
    return shd_critical_in_pass()
           || (shd_is_finalizing() && shd_gc_is_collecting());
}

static void
finalize(destructor original, PyObject *self)
{
    uint8_t before = shd_here.finalizing;
    uint64_t since = shd_here.since;
    shd_here.finalizing =
        is_collection() ? SHD_FINAL_COLLECTED : SHD_FINAL_DROPPED;
    shd_here.since =
        atomic_load_explicit(&shd_newest_serial, memory_order_relaxed);
    original(self);
    shd_here.finalizing = before;
    shd_here.since = since;
}

/* ... that closes what the object has. */
static void
finalize_owner(destructor original, PyObject *self)
{
    void *outer = shd_here.closing;
    shd_here.closing = self;
    finalize(original, self);
    shd_here.closing = outer;
}

#define FINALIZER(function, slot_, name_, how)                                \
    static void function(PyObject *self);                                     \
    static shd_wrapped function##_slot = SHD_WRAPPED(slot_, name_, function); \
    static void function(PyObject *self)                                      \
    {                                                                         \
        how((destructor)function##_slot.original, self);                      \
    }

FINALIZER(io_finalize, tp_finalize, "__del__", finalize)
FINALIZER(socket_finalize, tp_finalize, "__del__", finalize_owner)
FINALIZER(scandir_finalize, tp_finalize, "__del__", finalize)
FINALIZER(sqlite_finalize, tp_finalize, "__del__", finalize)
FINALIZER(sqlite_dealloc, tp_dealloc, NULL, finalize)
FINALIZER(mmap_dealloc, tp_dealloc, NULL, finalize_owner)
FINALIZER(epoll_dealloc, tp_dealloc, NULL, finalize_owner)

static void
wrap(shd_wrapped *wrapped, PyTypeObject *type)
{
    if (type != NULL) {
        shd_slot_wrap(wrapped, type);
    }
}

static void
wrap_by_name(shd_wrapped *wrapped, const char *module, const char *name)
{
    PyTypeObject *type = shd_owners_type(module, name, 1);
    wrap(wrapped, type);
    Py_XDECREF(type);
}

/* Nothing but an iterator gives the type of scandir's iterators. */
static void
wrap_scandir(void)
{
    PyObject *posix = PyImport_ImportModule("posix");
    PyObject *iterator =
        posix == NULL ? NULL : PyObject_CallMethod(posix, "scandir", "s", "/");
    if (iterator != NULL) {
        wrap(&scandir_finalize_slot, Py_TYPE(iterator));
        Py_XDECREF(PyObject_CallMethod(iterator, "close", NULL));
    }
    PyErr_Clear();
    Py_XDECREF(iterator);
    Py_XDECREF(posix);
}

int
shd_finalizers_have_sqlite(void)
{
    return sqlite_dealloc_slot.type != NULL;
}

void
shd_finalizers_again(void)
{
    wrap_by_name(&socket_finalize_slot, "_socket", "socket");
    wrap_by_name(&mmap_dealloc_slot, "mmap", "mmap");
    wrap_by_name(&epoll_dealloc_slot, "select", "epoll");
    wrap_by_name(&sqlite_dealloc_slot, "_sqlite3", "Connection");
    wrap_by_name(&sqlite_finalize_slot, "_sqlite3", "Connection");
}

void
shd_finalizers_start(void)
{
    if (shd_critical_listen() < 0) {
        PyErr_Clear(); /* collections are then taken for drops */
    }
    wrap_by_name(&io_finalize_slot, "_io", "_IOBase");
    wrap_scandir();
    shd_finalizers_again();
}

void
shd_finalizers_stop(void)
{
    shd_wrapped *const all[] = {
        &io_finalize_slot,    &socket_finalize_slot, &scandir_finalize_slot,
        &sqlite_dealloc_slot, &sqlite_finalize_slot, &mmap_dealloc_slot,
        &epoll_dealloc_slot,
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(all); i++) {
        shd_slot_restore(all[i]);
    }
}
