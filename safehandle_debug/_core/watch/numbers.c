/* The records' memory: pages that are mapped when first needed and stay. */
#include "numbers.h"

#include <sys/mman.h>

#define PAGE_BITS 9
#define PAGES 2048 /* 2^20 numbers: the kernel's usual bound */

static _Atomic(shd_number *) pages[PAGES];
static _Atomic int end;

shd_number *
shd_number_find(int fd)
{
    unsigned int number = (unsigned int)fd;
    if (number >= (unsigned int)PAGES << PAGE_BITS) {
        return NULL;
    }
    shd_number *page = atomic_load_explicit(&pages[number >> PAGE_BITS],
                                            memory_order_acquire);
    return page == NULL ? NULL : &page[number & ((1u << PAGE_BITS) - 1)];
}

static shd_number *
map_page(unsigned int which)
{
    size_t size = sizeof(shd_number) << PAGE_BITS;
    shd_number *page = mmap(NULL, size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return NULL;
    }
    shd_number *other = NULL;
    if (!atomic_compare_exchange_strong(&pages[which], &other, page)) {
        munmap(page, size);
        return other;
    }
    return page;
}

shd_number *
shd_number_make(int fd)
{
    unsigned int number = (unsigned int)fd;
    if (number >= (unsigned int)PAGES << PAGE_BITS) {
        return NULL;
    }
    shd_number *page = atomic_load_explicit(&pages[number >> PAGE_BITS],
                                            memory_order_acquire);
    if (page == NULL) {
        page = map_page(number >> PAGE_BITS);
        if (page == NULL) {
            return NULL;
        }
    }
    int seen = atomic_load_explicit(&end, memory_order_relaxed);
    while (fd >= seen && !atomic_compare_exchange_weak(&end, &seen, fd + 1)) {
    }
    return &page[number & ((1u << PAGE_BITS) - 1)];
}

int
shd_numbers_end(void)
{
    return atomic_load_explicit(&end, memory_order_acquire);
}
