/* What the life of a SafeHandle leaves in the recording.
 *
 * Nothing here fails: a handle works the same whether or not its event finds
 * room. */
#include "events.h"

#include "recording/depot.h"
#include "watch/watch.h"

#include <stdlib.h>
#include <string.h>

enum shd_on_error shd_on_error;
int shd_mirror_tracemalloc;
uint64_t shd_problems;

#define TRACEMALLOC_DOMAIN 0x5AFE

int shd_unsettled;

static char pending[256]; /* what on_error= has still to say */

static uint32_t *fd_owners; /* table slot by descriptor, 0: none */
static int64_t fd_owners_size;

void
shd_events_forked(void)
{
    shd_record_forked();
    shd_unsettled = 0;
}

uint32_t
shd_events_capture(void)
{
    shd_place here;
    return shd_record_ready() && shd_place_held(&here, PyThreadState_Get())
               ? here.stack
               : 0;
}

static int
standing_flags(const shd_handle *handle)
{
    return (shd_has(handle, SHD_OWNS) ? 0 : SHD_FLAG_BORROWED)
           | (shd_has(handle, SHD_COLLECTED) || shd_critical_in_pass()
                  ? SHD_FLAG_IN_GC
                  : 0)
           | (shd_is_finalizing() ? SHD_FLAG_FINALIZING : 0)
           | (shd_is_inherited(shd_serial(handle)) ? SHD_FLAG_INHERITED : 0);
}

static int
is_problem(int kind, int flags)
{
    switch (kind) {
    case SHD_EVENT_DOUBLE_RELEASE:
    case SHD_EVENT_RELEASE_FAILED:
    case SHD_EVENT_DOUBLE_OWNER:
    case SHD_EVENT_OVERFLOW:
    case SHD_EVENT_SET_VALUE:
        return 1;
    case SHD_EVENT_DISPOSE:
        return (flags & SHD_FLAG_FINALIZER) != 0;
    default:
        return 0;
    }
}

static void
speak_up(const shd_handle *handle, int kind, int flags, const char *detail)
{
    static const char *const names[] = {
        [SHD_EVENT_DOUBLE_RELEASE] = "released with no reference to release",
        [SHD_EVENT_RELEASE_FAILED] = "could not be released",
        [SHD_EVENT_DOUBLE_OWNER] = "has another owner already",
        [SHD_EVENT_SET_VALUE] = "was overwritten while open",
        [SHD_EVENT_DISPOSE] = "dropped with references out",
    };
    if (shd_on_error == SHD_ON_ERROR_RECORD || kind == SHD_EVENT_OVERFLOW) {
        return;
    }
    snprintf(pending, sizeof(pending), "%.100s #%llu (value %lld) %s%s%.80s",
             Py_TYPE(handle)->tp_name, (unsigned long long)shd_serial(handle),
             (long long)handle->value, names[kind], detail == NULL ? "" : ": ",
             detail == NULL ? "" : detail);
    if (shd_on_error == SHD_ON_ERROR_ABORT) {
        Py_FatalError(pending);
    }
    /* A finalizer has no caller to tell. */
    shd_unsettled = !(flags & SHD_FLAG_FINALIZER);
}

int
shd_events_say(int result)
{
    char text[sizeof(pending)];
    memcpy(text, pending, sizeof(text));
    shd_unsettled = 0;
    if (result < 0 || PyErr_Occurred()) {
        return result;
    }
    if (shd_on_error == SHD_ON_ERROR_RAISE) {
        PyErr_SetString(shd_interp_error(SHD_ERROR_STATE), text);
        return -1;
    }
    return PyErr_WarnEx(PyExc_RuntimeWarning, text, 1) < 0 ? -1 : result;
}

/* Id of a text, or 0. */
static uint32_t
text_id(PyObject *str)
{
    shd_thread *thread = shd_thread_get();
    uint32_t id = 0;
    if (str != NULL && thread != NULL && shd_thread_enter(thread)) {
        id = shd_depot_detail(str);
        shd_thread_leave(thread);
    }
    return id;
}

void
shd_events_emit(shd_handle *handle, int kind, uint32_t refs, int ending,
                int flags, int64_t value, const char *detail)
{
    int problem = is_problem(kind, flags);
    if (problem) {
        shd_problems += kind != SHD_EVENT_OVERFLOW;
        speak_up(handle, kind, flags, detail);
    }
    if (!shd_record_ready()) {
        return;
    }
    int only_recorded = !problem
                        && (kind != SHD_EVENT_USE_CLOSED
                            || shd_rec.settings.level != SHD_LEVEL_FULL);
    int late = kind != SHD_EVENT_USE_CLOSED && kind != SHD_EVENT_RELEASE_FAILED
                       && kind != SHD_EVENT_DOUBLE_RELEASE
                   ? SHD_FLAG_UNSAMPLED
                   : 0;
    const shd_subject subject = {
        .serial = shd_serial(handle),
        .type = shd_type_id(Py_TYPE(handle)),
        .slot = handle->slot,
    };
    shd_record_held(PyThreadState_Get(), &subject, kind, refs, ending,
                    flags | standing_flags(handle), value,
                    shd_record_detail(detail), problem, only_recorded, late);
}

/* --- who owns what already ---------------------------------------------- */

static int
keep_fd_owner(int64_t fd, uint32_t slot)
{
    if (fd < 0 || fd > 1 << 20) {
        return -1;
    }
    if (fd >= fd_owners_size) {
        int64_t size = fd_owners_size ? fd_owners_size : 64;
        while (size <= fd) {
            size *= 2;
        }
        uint32_t *grown = realloc(fd_owners, (size_t)size * sizeof(*grown));
        if (grown == NULL) {
            return -1;
        }
        memset(grown + fd_owners_size, 0,
               (size_t)(size - fd_owners_size) * sizeof(*grown));
        fd_owners = grown;
        fd_owners_size = size;
    }
    fd_owners[fd] = slot;
    return 0;
}

/* Serial of the handle that owns `fd` already, or 0. */
static uint64_t
other_fd_owner(const shd_handle *handle)
{
    int64_t fd = handle->value;
    if (fd < 0 || fd >= fd_owners_size || fd_owners[fd] == 0
        || fd_owners[fd] == handle->slot) {
        return 0;
    }
    shd_entry *entry = shd_table_entry(fd_owners[fd]);
    uint64_t meta = atomic_load(&entry->meta);
    uint64_t serial = shd_table_serial(meta);
    if (meta == 0 || shd_is_inherited(serial)
        || (shd_table_kind(meta) != 0 && entry->value != fd)) {
        return 0;
    }
    return serial;
}

static void
forget_fd_owner(const shd_handle *handle)
{
    int64_t fd = handle->value;
    if (fd >= 0 && fd < fd_owners_size && fd_owners[fd] == handle->slot) {
        fd_owners[fd] = 0;
    }
}

/* Serial of the handle that owns the same thing outside of the process already,
   or 0.  There are few of them, and every acquisition is a call to the
   kernel: looking at each handle is good enough. */
static uint64_t
other_outside_owner(const shd_handle *handle, int kind)
{
    uint32_t size = shd_table_size();
    for (uint32_t slot = 1; slot <= size; slot++) {
        const shd_entry *entry = shd_table_entry(slot);
        uint64_t meta = atomic_load(&entry->meta);
        uint64_t serial = shd_table_serial(meta);
        if (meta != 0 && shd_table_kind(meta) == kind && slot != handle->slot
            && entry->value == handle->value && !shd_is_inherited(serial)) {
            return serial;
        }
    }
    return 0;
}

static uint64_t
other_owner(const shd_handle *handle, const shd_type_info *info)
{
    return info->fd_space ? other_fd_owner(handle)
           : info->kind->outside
               ? other_outside_owner(handle, info->kind->number)
               : 0;
}

/* --- the beginning and the end of a handle's life ------------------------ */

void
shd_events_acquired(shd_handle *handle, PyObject *detail)
{
    uint64_t serial = shd_serial(handle);
    if (shd_mirror_tracemalloc) {
        PyTraceMalloc_Track(TRACEMALLOC_DOMAIN, (uintptr_t)serial, 1);
    }
    int owned =
        shd_has(handle, SHD_OWNS) && !shd_has(handle, SHD_SHARES_NUMBER);
    const shd_type_info *info = shd_type_info_of(Py_TYPE(handle));
    int fd_space = owned && info->fd_space;
    if (!shd_record_ready()) {
        if (fd_space) {
            shd_watch_adopted((int)handle->value, serial, handle->slot);
        }
        return;
    }
    uint64_t other = owned ? other_owner(handle, info) : 0;
    if (fd_space) {
        keep_fd_owner(handle->value, handle->slot);
    }
    shd_place here;
    if ((shd_rec.settings.level == SHD_LEVEL_SAMPLED
         && serial % shd_rec.settings.sample != 0)
        || !shd_place_held(&here, PyThreadState_Get())) {
        shd_record_counted(serial);
    }
    else {
        const shd_subject subject = {
            .serial = serial,
            .value = handle->value,
            .type = shd_type_id(Py_TYPE(handle)),
            .detail = text_id(detail),
            .slot = handle->slot,
        };
        shd_record_appeared(&here, &subject,
                            standing_flags(handle)
                                | (here.importing ? SHD_FLAG_IMPORTING : 0));
    }
    if (other) {
        shd_events_emit(handle, SHD_EVENT_DOUBLE_OWNER, 1, 0, 0,
                        (int64_t)other, NULL);
    }
    if (fd_space) {
        shd_watch_adopted((int)handle->value, serial, handle->slot);
    }
}

void
shd_events_gone(shd_handle *handle)
{
    if (shd_mirror_tracemalloc) {
        PyTraceMalloc_Untrack(TRACEMALLOC_DOMAIN,
                              (uintptr_t)shd_serial(handle));
    }
    forget_fd_owner(handle);
    const shd_subject subject = {.serial = shd_serial(handle),
                                 .slot = handle->slot};
    shd_record_vanished(&subject);
}

void
shd_events_passed_on(shd_handle *handle)
{
    if (shd_type_info_of(Py_TYPE(handle))->fd_space) {
        shd_watch_released((int)handle->value, shd_serial(handle));
    }
}
