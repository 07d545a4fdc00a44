/* The slots through which objects call libc: found by their relocations. */
#define _GNU_SOURCE
#include "objects.h"

#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
enum {
    JUMP = R_X86_64_JUMP_SLOT,
    GLOBAL = R_X86_64_GLOB_DAT,
    DATA = R_X86_64_64
};
#elif defined(__aarch64__)
enum {
    JUMP = R_AARCH64_JUMP_SLOT,
    GLOBAL = R_AARCH64_GLOB_DAT,
    DATA = R_AARCH64_ABS64
};
#else
enum {
    JUMP = -1,
    GLOBAL = -2,
    DATA = -3
};
#endif

enum {
    MOST = 1 << 18
};

static shd_slot *slots;
static size_t used;
static _Atomic size_t held, foreign;

int
shd_slots_start(void)
{
#if !defined(__x86_64__) && !defined(__aarch64__)
    return -1;
#endif
    if (slots != NULL) {
        return 0;
    }
    void *memory = mmap(NULL, MOST * sizeof(shd_slot), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return -1;
    }
    slots = memory;
    return 0;
}

size_t
shd_slots_count(void)
{
    return atomic_load_explicit(&held, memory_order_relaxed);
}

size_t
shd_slots_foreign(void)
{
    return atomic_load_explicit(&foreign, memory_order_relaxed);
}

/* What the dynamic linker left of an object: its relocations. */
typedef struct {
    const ElfW(Rela) * first[2], *last[2]; /* calls; data */
    const ElfW(Sym) * symbols;
    const char *strings;
} links;

static int
read_dynamic(const shd_object *object, links *found)
{
    const ElfW(Dyn) *entry = NULL;
    for (size_t at = 0; at < object->headers_count; at++) {
        const ElfW(Phdr) *header = &object->headers[at];
        if (header->p_type == PT_DYNAMIC) {
            entry = (const void *)(object->base + header->p_vaddr);
        }
    }
    uintptr_t places[2] = {0}, sizes[2] = {0}, symbols = 0, strings = 0;
    uintptr_t relative = 0, form = DT_RELA;
    for (; entry != NULL && entry->d_tag != DT_NULL; entry++) {
        /* glibc has added the base to these; musl and others have not. */
        uintptr_t address = entry->d_un.d_ptr;
        address += address < object->base ? object->base : 0;
        switch (entry->d_tag) {
        case DT_JMPREL:
            places[0] = address;
            break;
        case DT_PLTRELSZ:
            sizes[0] = entry->d_un.d_val;
            break;
        case DT_PLTREL:
            form = entry->d_un.d_val;
            break;
        case DT_RELA:
            places[1] = address;
            break;
        case DT_RELASZ:
            sizes[1] = entry->d_un.d_val;
            break;
        case DT_RELACOUNT:
            relative = entry->d_un.d_val;
            break;
        case DT_SYMTAB:
            symbols = address;
            break;
        case DT_STRTAB:
            strings = address;
            break;
        }
    }
    if (symbols == 0 || strings == 0 || form != DT_RELA) {
        return 0;
    }
    found->symbols = (const void *)symbols;
    found->strings = (const char *)strings;
    for (int at = 0; at < 2; at++) {
        size_t count = places[at] == 0 ? 0 : sizes[at] / sizeof(ElfW(Rela));
        size_t skipped = at == 1 && relative <= count ? relative : 0;
        found->first[at] = (const ElfW(Rela) *)places[at] + skipped;
        found->last[at] = (const ElfW(Rela) *)places[at] + count;
    }
    return 1;
}

/* RELRO pages are opened at the first slot in them, and closed again. */
typedef struct {
    const shd_object *object;
    int open;
} pages;

static int
can_write(pages *protected, const void *slot)
{
    const shd_object *object = protected->object;
    uintptr_t at = (uintptr_t)slot;
    if (at < object->protected_low || at >= object->protected_high) {
        return 1;
    }
    if (!protected->open) {
        protected->open =
            mprotect((void *)object->protected_low,
                     object->protected_high - object->protected_low,
                     PROT_READ | PROT_WRITE)
            == 0;
    }
    return protected->open;
}

static void
close_pages(const pages *protected)
{
    const shd_object *object = protected->object;
    if (protected->open) {
        mprotect((void *)object->protected_low,
                 object->protected_high - object->protected_low, PROT_READ);
    }
}

static void *
value_of(void **slot)
{
    return __atomic_load_n(slot, __ATOMIC_RELAXED);
}

static int
set(pages *protected, void **slot, void *from, void *to)
{
    return can_write(protected, slot)
           && __atomic_compare_exchange_n(slot, &from, to, 0, __ATOMIC_RELEASE,
                                          __ATOMIC_RELAXED);
}

/* A call that was not made yet: its slot leads into the object's own stubs. */
static int
is_unresolved(const shd_object *object, int type, const ElfW(Sym) * symbol,
              const void *value)
{
    return type == JUMP && symbol->st_shndx == SHN_UNDEF
           && (uintptr_t)value >= object->low
           && (uintptr_t)value < object->high;
}

static void
count(_Atomic size_t *counter, int by)
{
    atomic_fetch_add_explicit(counter, (size_t)by, memory_order_relaxed);
}

static void
patch(shd_object *object, uint32_t number, pages *protected, int type,
      const ElfW(Sym) * symbol, const shd_original *original, void **slot)
{
    void *value = value_of(slot);
    if (used == MOST) {
        return;
    }
    /* The object's own function of that name, or one that an address was
     * added to: no call of libc. */
    if (symbol->st_shndx != SHN_UNDEF && !shd_original_is(original, value)) {
        return;
    }
    int mine = shd_original_is(original, value)
               || is_unresolved(object, type, symbol, value);
    if (!mine && type == DATA) {
        return;
    }
    if (mine && !set(protected, slot, value, original->replacement)) {
        /* Resolved by another thread just now, or not to be written to. */
        value = value_of(slot);
        mine = shd_original_is(original, value)
               && set(protected, slot, value, original->replacement);
    }
    slots[used++] = (shd_slot){slot, original, number};
    count(mine ? &held : &foreign, 1);
    if (mine && object->probe.at == NULL) {
        object->probe = slots[used - 1];
    }
}

void
shd_slots_probe(uint32_t number)
{
    shd_object *object = shd_objects_get(number);
    uintptr_t probe = (uintptr_t)object->probe.at;
    for (size_t at = 0; probe != 0 && at < object->headers_count; at++) {
        const ElfW(Phdr) *header = &object->headers[at];
        uintptr_t low = object->base + header->p_vaddr;
        if (header->p_type == PT_LOAD && (header->p_flags & PF_W) != 0
            && probe >= low && probe - low < header->p_memsz
            && value_of(object->probe.at)
                   == object->probe.original->replacement) {
            return;
        }
    }
    object->patched = 0;
}

static int
is_address_taken(int type, const ElfW(Rela) * link)
{
    return type == GLOBAL || (type == DATA && link->r_addend == 0);
}

void
shd_slots_patch(uint32_t number)
{
    shd_object *object = shd_objects_get(number);
    links found;
    if (!read_dynamic(object, &found)) {
        return;
    }
    pages protected = {object, 0};
    object->probe.at = NULL;
    for (int part = 0; part < 2; part++) {
        for (const ElfW(Rela) *link = found.first[part];
             link < found.last[part]; link++) {
            int type = (int)ELF64_R_TYPE(link->r_info);
            if (type != JUMP && !is_address_taken(type, link)) {
                continue;
            }
            const ElfW(Sym) *symbol =
                &found.symbols[ELF64_R_SYM(link->r_info)];
            const shd_original *original =
                shd_originals_find(found.strings + symbol->st_name);
            if (original != NULL) {
                patch(object, number, &protected, type, symbol, original,
                      (void **)(object->base + link->r_offset));
            }
        }
    }
    close_pages(&protected);
}

void
shd_slots_check(int back)
{
    size_t ours = 0, others = 0;
    pages protected = {NULL, 0};
    for (size_t at = 0; at < used; at++) {
        const shd_slot *slot = &slots[at];
        const shd_original *original = slot->original;
        shd_object *object = shd_objects_get(slot->object);
        if (protected.object != object) {
            if (protected.object != NULL) {
                close_pages(&protected);
            }
            protected = (pages){object, 0};
        }
        void *value = value_of(slot->at);
        if (back && value == original->replacement) {
            set(&protected, slot->at, value, original->chosen);
        }
        else if (!back && shd_original_is(original, value)) {
            set(&protected, slot->at, value, original->replacement);
        }
        if (value_of(slot->at) == original->replacement) {
            ours++;
        }
        else {
            others++;
        }
    }
    if (protected.object != NULL) {
        close_pages(&protected);
    }
    if (back) {
        used = 0;
        others = 0;
    }
    atomic_store_explicit(&held, ours, memory_order_relaxed);
    atomic_store_explicit(&foreign, others, memory_order_relaxed);
}

void
shd_slots_each_foreign(void (*each)(const char *function, const void *theirs,
                                    void *arg),
                       void *arg)
{
    for (size_t at = 0; at < used; at++) {
        const shd_original *original = slots[at].original;
        const void *value = value_of(slots[at].at);
        if (value != original->replacement
            && !shd_original_is(original, value)) {
            each(original->name, value, arg);
        }
    }
}

void
shd_slots_forget(void)
{
    size_t kept = 0;
    for (size_t at = 0; at < used; at++) {
        shd_object *object = shd_objects_get(slots[at].object);
        if (object->patched) {
            slots[kept++] = slots[at];
        }
    }
    used = kept;
}
