/* Learning where CPython closes and opens, and judging callers by it. */
#define _GNU_SOURCE
#include "callsites.h"

#include "interpose.h"
#include "owners_parts.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum site {
    SITE_NONE,
    /* Functions that close a number for whoever asks. */
    SITE_OS_CLOSE,
    SITE_OS_CLOSERANGE,
    SITE_OS_DUP2,
    SITE_OS_DUP3,
    SITE_SOCKET_CLOSE_NUMBER,
    /* Owners that close their own. */
    SITE_FILE_CLOSE,
    SITE_SOCKET_CLOSE,
    SITE_MMAP_CLOSE,
    SITE_EPOLL_CLOSE,
    /* Owners that open. */
    SITE_FILE_OPEN,
    SITE_SOCKET_OPEN,
    SITE_EPOLL_OPEN,
    SITES,
};

#define FIRST_CLOSER SITE_OS_CLOSE
#define FIRST_OWNER SITE_FILE_CLOSE
#define FIRST_OPENER SITE_FILE_OPEN

static const enum shd_owner owner_at[SITES] = {
    [SITE_FILE_CLOSE] = SHD_OWNER_FILEIO,
    [SITE_SOCKET_CLOSE] = SHD_OWNER_SOCKET,
    [SITE_MMAP_CLOSE] = SHD_OWNER_MMAP,
    [SITE_EPOLL_CLOSE] = SHD_OWNER_EPOLL,
    [SITE_FILE_OPEN] = SHD_OWNER_FILEIO,
    [SITE_SOCKET_OPEN] = SHD_OWNER_SOCKET,
    [SITE_EPOLL_OPEN] = SHD_OWNER_EPOLL,
};

static _Atomic(const void *) sites[SITES];

/* Addresses tell nothing when another tool stands between Python and us. */
static _Atomic int is_trusted;

_Atomic(const void *) shd_callsites_raw[SHD_RAW_OPENERS];

/* --- learning ------------------------------------------------------------------ */

void
shd_callsites_learn(const void *caller)
{
    const void *unknown = NULL;
    atomic_compare_exchange_strong(&sites[shd_here.learning], &unknown,
                                   caller);
}

/* Calls a method while the hooks listen, or unheard with SITE_NONE.  Steals
   `arguments`; a new reference or NULL without an exception. */
static PyObject *
listen(enum site site, PyObject *object, const char *method,
       PyObject *arguments)
{
    PyObject *callable =
        object == NULL ? NULL : PyObject_GetAttrString(object, method);
    PyObject *result = NULL;
    if (callable != NULL && arguments != NULL) {
        if (site != SITE_NONE) {
            shd_here.learning = (uint8_t)site;
            shd_watch_leave();
        }
        result = PyObject_CallObject(callable, arguments);
        if (site != SITE_NONE) {
            shd_watch_enter();
            shd_here.learning = SITE_NONE;
        }
    }
    PyErr_Clear();
    Py_XDECREF(callable);
    Py_XDECREF(arguments);
    return result;
}

static PyObject *
import(const char *name)
{
    PyObject *module = PyImport_ImportModule(name);
    PyErr_Clear();
    return module;
}

/* An owner's constructor and its close(). */
static void
learn_owner(enum site opens, enum site closes, const char *module_name,
            const char *name, PyObject *arguments)
{
    PyObject *module = import(module_name);
    PyObject *object = listen(opens, module, name, arguments);
    Py_XDECREF(listen(closes, object, "close", PyTuple_New(0)));
    Py_XDECREF(object);
    Py_XDECREF(module);
}

/* A function that closes the number it is given. */
static void
learn_closer(enum site site, PyObject *module, const char *name, int is_range)
{
    int fd = shd_scratch_null();
    if (fd < 0) {
        return;
    }
    PyObject *result = listen(site, module, name,
                              is_range ? Py_BuildValue("ii", fd, fd + 1)
                                       : Py_BuildValue("(i)", fd));
    if (result == NULL) {
        close(fd); /* the function is not there */
    }
    Py_XDECREF(result);
}

static void
learn_dup2(PyObject *posix)
{
    int from = shd_scratch_null(), onto = shd_scratch_null();
    if (from >= 0 && onto >= 0) {
        Py_XDECREF(listen(SITE_OS_DUP2, posix, "dup2",
                          Py_BuildValue("iii", from, onto, 1)));
        Py_XDECREF(listen(SITE_OS_DUP3, posix, "dup2",
                          Py_BuildValue("iii", from, onto, 0)));
    }
    if (from >= 0) {
        close(from);
    }
    if (onto >= 0) {
        close(onto);
    }
}

static const void *
site_address(int site)
{
    return atomic_load_explicit(&sites[site], memory_order_relaxed);
}

/* Two acts that come from one address come from a tool in between. */
static int
are_distinct(void)
{
    for (int one = FIRST_CLOSER; one < SITES; one++) {
        for (int other = one + 1; other < SITES; other++) {
            if (site_address(one) != NULL
                && site_address(one) == site_address(other)) {
                return 0;
            }
        }
    }
    return site_address(SITE_OS_CLOSE) != NULL;
}

void
shd_callsites_start(void)
{
    int error = errno;
    shd_watch_enter();
    PyObject *posix = import("posix");
    PyObject *sockets = import("_socket");
    learn_closer(SITE_OS_CLOSE, posix, "close", 0);
    learn_closer(SITE_OS_CLOSERANGE, posix, "closerange", 1);
    learn_closer(SITE_SOCKET_CLOSE_NUMBER, sockets, "close", 0);
    learn_dup2(posix);
    learn_owner(SITE_FILE_OPEN, SITE_FILE_CLOSE, "_io", "FileIO",
                Py_BuildValue("(s)", "/dev/null"));
    const int unix_family = 1, stream = 1;
    learn_owner(SITE_SOCKET_OPEN, SITE_SOCKET_CLOSE, "_socket", "socket",
                Py_BuildValue("ii", unix_family, stream));
    learn_owner(SITE_EPOLL_OPEN, SITE_EPOLL_CLOSE, "select", "epoll",
                PyTuple_New(0));
    int memory = shd_scratch_memory();
    if (memory >= 0) {
        learn_owner(SITE_NONE, SITE_MMAP_CLOSE, "mmap", "mmap",
                    Py_BuildValue("ii", memory, 4096));
        close(memory);
    }
    Py_XDECREF(sockets);
    Py_XDECREF(posix);
    atomic_store(&is_trusted, are_distinct());
    shd_watch_leave();
    errno = error;
}

void
shd_callsites_stop(void)
{
    atomic_store(&is_trusted, 0);
    for (size_t i = 0; i < SHD_RAW_OPENERS; i++) {
        atomic_store(&shd_callsites_raw[i], NULL);
    }
}

/* --- judging ------------------------------------------------------------------- */

static uint32_t
object_of_site(int site)
{
    const void *address = site_address(site);
    return address == NULL ? 0 : shd_interpose_object_of(address);
}

/* Whether the calls come from SQLite, its own library or linked into the
   extension. */
static int
is_sqlite(uint32_t object)
{
    const char *name = object == 0 ? "" : shd_interpose_object_name(object);
    return strncmp(name, "libsqlite3", 10) == 0
           || strncmp(name, "_sqlite3", 8) == 0;
}

/* It asks the kernel through a pipe of its own whether memory can be read. */
static int
is_unwinder(uint32_t object)
{
    return object != 0
           && strncmp(shd_interpose_object_name(object), "libunwind", 9) == 0;
}

/* Whether the owner's code is all in one object, and not in this one. */
static int
is_elsewhere(const void *caller, enum shd_owner owner)
{
    uint32_t object = shd_interpose_object_of(caller);
    if (object == 0) {
        return 0; /* made at run time */
    }
    if (owner == SHD_OWNER_SQLITE) {
        return !is_sqlite(object) && object != object_of_site(SITE_OS_CLOSE);
    }
    if (owner == SHD_OWNER_SCANDIR || owner == SHD_OWNER_SAFEHANDLE) {
        return object != object_of_site(SITE_OS_CLOSE)
               && object != object_of_site(SITE_SOCKET_CLOSE);
    }
    for (int site = FIRST_OWNER; site < FIRST_OPENER; site++) {
        if (owner_at[site] == owner) {
            uint32_t home = object_of_site(site);
            return home != 0 && home != object;
        }
    }
    return 0; /* FILE and DIR: of whoever called fopen() */
}

enum shd_closer
shd_callsites_judge(const void *caller, enum shd_owner owner)
{
    if (caller == NULL
        || !atomic_load_explicit(&is_trusted, memory_order_acquire)
        || owner == SHD_OWNER_RAW || owner == SHD_OWNER_FILE
        || owner == SHD_OWNER_DIR) {
        return SHD_CLOSER_UNKNOWN;
    }
    for (int site = FIRST_CLOSER; site < FIRST_OPENER; site++) {
        if (site_address(site) == caller) {
            return site < FIRST_OWNER        ? SHD_CLOSER_STRANGER
                   : owner_at[site] == owner ? SHD_CLOSER_OWN
                                             : SHD_CLOSER_UNKNOWN;
        }
    }
    if (is_elsewhere(caller, owner)) {
        return SHD_CLOSER_STRANGER;
    }
    return owner == SHD_OWNER_SQLITE
                   && is_sqlite(shd_interpose_object_of(caller))
               ? SHD_CLOSER_OWN
               : SHD_CLOSER_UNKNOWN;
}

int
shd_callsites_closes_any(const void *caller)
{
    int found = 0;
    for (int site = FIRST_CLOSER; site < FIRST_OWNER; site++) {
        found |= site_address(site) == caller;
    }
    return caller != NULL && found;
}

enum shd_owner
shd_callsites_new_opener(const void *caller)
{
    if (caller == NULL
        || !atomic_load_explicit(&is_trusted, memory_order_acquire)) {
        return SHD_OWNER_RAW;
    }
    for (int site = FIRST_OPENER; site < SITES; site++) {
        if (site_address(site) == caller) {
            return owner_at[site];
        }
    }
    uint32_t object = shd_interpose_object_of(caller);
    if (is_unwinder(object)) {
        return SHD_OWNER_NOBODY;
    }
    if (object == object_of_site(SITE_OS_CLOSE) || !is_sqlite(object)) {
        if (object != 0) {
            atomic_store_explicit(shd_callsites_raw_opener(caller), caller,
                                  memory_order_relaxed);
        }
        return SHD_OWNER_RAW;
    }
    if (!shd_finalizers_have_sqlite()) {
        shd_owners_soon(SHD_SOON_ATTACH);
    }
    return SHD_OWNER_SQLITE;
}

int
shd_callsites_is_python(const void *caller)
{
    uint32_t home = object_of_site(SITE_OS_CLOSE);
    return home != 0 && shd_interpose_object_of(caller) == home;
}
