/* Which objects are loaded, and where. */
#define _GNU_SOURCE
#include "objects.h"

#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    MOST = 1 << 14,
    NAMES = 1 << 20
};

typedef struct {
    _Atomic uintptr_t low, high;
    _Atomic uint32_t object;
} range;

/* Two tables of ranges: while one is read the other is written.  `version`
 * says which, and whether it changed under the reader's hands. */
typedef struct {
    range ranges[2][MOST];
    _Atomic uint32_t counts[2];
    shd_object objects[MOST];
    char names[NAMES];
} store;

static store *all;
static _Atomic uint32_t version;
static _Atomic uint32_t objects_count; /* numbers given out */
static uint32_t names_used = 1;        /* 0: no name */

int
shd_objects_start(void)
{
    if (all != NULL) {
        return 0;
    }
    void *memory = mmap(NULL, sizeof(store), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return -1;
    }
    all = memory;
    return 0;
}

shd_object *
shd_objects_get(uint32_t number)
{
    return &all->objects[number - 1];
}

static const char *
base_name(const char *path)
{
    if (path == NULL || path[0] == '\0') {
        path = (const char *)getauxval(AT_EXECFN);
    }
    if (path == NULL) {
        return "";
    }
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static uint32_t
keep_name(const char *name)
{
    size_t length = strlen(name) + 1;
    if (length > NAMES - names_used) {
        return 0;
    }
    memcpy(&all->names[names_used], name, length);
    names_used += (uint32_t)length;
    return names_used - (uint32_t)length;
}

/* glibc calls itself past its own linkage tables: of what its parts open, and
 * of what they close, only some would be seen. */
static int
is_of_libc(const char *name)
{
    static const char *const family[] = {
        "ld-linux",   "ld-musl",     "linux-vdso", "libc.so.",
        "libc.musl-", "libpthread",  "libdl.so.",  "librt.so.",
        "libnss_",    "libutil.so.", "libresolv",  "libanl.so.",
    };
    for (size_t at = 0; at < sizeof(family) / sizeof(family[0]); at++) {
        if (strncmp(name, family[at], strlen(family[at])) == 0) {
            return 1;
        }
    }
    return 0;
}

static void
measure(shd_object *object)
{
    uintptr_t page = (uintptr_t)getpagesize();
    object->low = UINTPTR_MAX;
    object->high = 0;
    for (size_t at = 0; at < object->headers_count; at++) {
        const ElfW(Phdr) *header = &object->headers[at];
        uintptr_t low = object->base + header->p_vaddr;
        uintptr_t high = low + header->p_memsz;
        if (header->p_type == PT_LOAD) {
            object->low = low < object->low ? low : object->low;
            object->high = high > object->high ? high : object->high;
        }
        else if (header->p_type == PT_GNU_RELRO) {
            object->protected_low = low & -page;
            object->protected_high = high & -page;
        }
    }
}

static int
contains(const shd_object *object, const void *address)
{
    return (uintptr_t)address >= object->low
           && (uintptr_t)address < object->high;
}

static int
is_ours(const shd_object *object, const char *name)
{
    return contains(object, (const void *)shd_objects_get)
           || contains(object, shd_originals_in_libc())
           || contains(object, (const void *)getauxval(AT_SYSINFO_EHDR))
           || contains(object, (const void *)getauxval(AT_BASE))
           || is_of_libc(name);
}

static uint32_t
number_at(uintptr_t address)
{
    for (;;) {
        uint32_t before = atomic_load_explicit(&version, memory_order_acquire);
        const range *ranges = all->ranges[before & 1];
        uint32_t low = 0, high = atomic_load_explicit(&all->counts[before & 1],
                                                      memory_order_relaxed);
        uint32_t found = 0;
        while (low < high) {
            const range *middle = &ranges[low + (high - low) / 2];
            if (address
                < atomic_load_explicit(&middle->low, memory_order_relaxed)) {
                high = low + (high - low) / 2;
            }
            else if (address >= atomic_load_explicit(&middle->high,
                                                     memory_order_relaxed)) {
                low += (high - low) / 2 + 1;
            }
            else {
                found = atomic_load_explicit(&middle->object,
                                             memory_order_relaxed);
                break;
            }
        }
        atomic_thread_fence(memory_order_acquire);
        if (before == atomic_load_explicit(&version, memory_order_relaxed)) {
            return found;
        }
    }
}

uint32_t
shd_interpose_object_of(const void *address)
{
    return all == NULL ? 0 : number_at((uintptr_t)address);
}

const char *
shd_interpose_object_name(uint32_t object)
{
    if (object == 0
        || object
               > atomic_load_explicit(&objects_count, memory_order_acquire)) {
        return "";
    }
    return &all->names[shd_objects_get(object)->name];
}

size_t
shd_interpose_objects(void)
{
    return all == NULL
               ? 0
               : atomic_load_explicit(&all->counts[atomic_load(&version) & 1],
                                      memory_order_relaxed);
}

/* The dynamic linker lists the objects in the order of the last walk, mostly. */
static uint32_t order[MOST];
static uint32_t walked;

void
shd_objects_rewind(void)
{
    walked = 0;
}

static int
is_there(uint32_t number, const struct dl_phdr_info *info)
{
    return number != 0 && shd_objects_get(number)->headers == info->dlpi_phdr
           && shd_objects_get(number)->base == info->dlpi_addr
           && !shd_objects_get(number)->gone;
}

static uint32_t
search(const struct dl_phdr_info *info)
{
    for (size_t at = 0; at < info->dlpi_phnum; at++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[at];
        if (header->p_type == PT_LOAD) {
            uint32_t number = number_at(info->dlpi_addr + header->p_vaddr);
            return is_there(number, info) ? number : 0;
        }
    }
    return 0;
}

uint32_t
shd_objects_find(const struct dl_phdr_info *info)
{
    uint32_t at = walked < MOST ? walked++ : 0;
    if (!is_there(order[at], info)) {
        order[at] = search(info);
    }
    return order[at];
}

static int
is_named(const shd_object *object, const char *name)
{
    return strcmp(&all->names[object->name], name) == 0;
}

static uint32_t
add(const struct dl_phdr_info *info, const char *name)
{
    uint32_t count =
        atomic_load_explicit(&objects_count, memory_order_relaxed);
    uint32_t number = 0;
    /* What comes and goes at one place keeps its number. */
    for (uint32_t at = 1; at <= count && number == 0; at++) {
        const shd_object *object = shd_objects_get(at);
        if (object->gone && object->base == info->dlpi_addr
            && object->headers == info->dlpi_phdr && is_named(object, name)) {
            number = at;
        }
    }
    if (number == 0) {
        if (count == MOST) {
            return 0;
        }
        number = count + 1;
    }
    shd_object *object = shd_objects_get(number);
    uint32_t kept = number > count ? keep_name(name) : object->name;
    *object = (shd_object){
        .base = info->dlpi_addr,
        .headers = info->dlpi_phdr,
        .headers_count = info->dlpi_phnum,
        .name = kept,
    };
    measure(object);
    object->ours = (uint8_t)is_ours(object, name);
    if (number > count) {
        atomic_store_explicit(&objects_count, number, memory_order_release);
    }
    return number;
}

uint32_t
shd_objects_seen(const struct dl_phdr_info *info, int reloaded, uint32_t walk)
{
    uint32_t number = shd_objects_find(info);
    if (number == 0 || reloaded) {
        const char *name = base_name(info->dlpi_name);
        if (number != 0 && !is_named(shd_objects_get(number), name)) {
            shd_objects_get(number)->gone = 1;
            number = 0;
        }
        if (number == 0) {
            number = add(info, name);
            order[walked - 1] = number;
        }
    }
    if (number != 0) {
        shd_objects_get(number)->walk = walk;
    }
    return number;
}

/* Inserted by hand: qsort() may call malloc(), and few are new. */
static uint32_t
insert(uint32_t *sorted, uint32_t count, uint32_t number)
{
    uint32_t to = count;
    uintptr_t low = shd_objects_get(number)->low;
    while (to > 0 && shd_objects_get(sorted[to - 1])->low > low) {
        sorted[to] = sorted[to - 1];
        to--;
    }
    sorted[to] = number;
    return count + 1;
}

static void
publish(const uint32_t *sorted, uint32_t count)
{
    uint32_t now = atomic_load_explicit(&version, memory_order_relaxed);
    range *ranges = all->ranges[(now + 1) & 1];
    /* Whoever still reads this table began two versions ago and will see. */
    atomic_thread_fence(memory_order_release);
    for (uint32_t at = 0; at < count; at++) {
        const shd_object *object = shd_objects_get(sorted[at]);
        atomic_store_explicit(&ranges[at].low, object->low,
                              memory_order_relaxed);
        atomic_store_explicit(&ranges[at].high, object->high,
                              memory_order_relaxed);
        atomic_store_explicit(&ranges[at].object, sorted[at],
                              memory_order_relaxed);
    }
    atomic_store_explicit(&all->counts[(now + 1) & 1], count,
                          memory_order_relaxed);
    atomic_store_explicit(&version, now + 1, memory_order_release);
}

void
shd_objects_settle(uint32_t walk)
{
    static uint32_t sorted[MOST];
    static uint32_t listed;
    uint32_t before = listed;
    listed = 0;
    for (uint32_t at = 0; at < before; at++) {
        shd_object *object = shd_objects_get(sorted[at]);
        if (object->walk == walk) {
            sorted[listed++] = sorted[at];
        }
        else {
            object->listed = 0;
        }
    }
    uint32_t count =
        atomic_load_explicit(&objects_count, memory_order_relaxed);
    for (uint32_t number = 1; number <= count; number++) {
        shd_object *object = shd_objects_get(number);
        if (object->walk != walk) {
            object->gone = 1;
            object->patched = 0;
        }
        else if (!object->listed && object->low < object->high) {
            object->listed = 1;
            listed = insert(sorted, listed, number);
        }
    }
    publish(sorted, listed);
}

void
shd_objects_unpatched(void)
{
    uint32_t count =
        atomic_load_explicit(&objects_count, memory_order_relaxed);
    for (uint32_t number = 1; number <= count; number++) {
        shd_objects_get(number)->patched = 0;
    }
}
