/* The records' memory: pages that are mapped when first needed and stay. */
#include "numbers.h"

#include <errno.h>
#include <sys/mman.h>

#define PAGE_BITS SHD_NUMBER_PAGE_BITS

_Atomic(shd_number *) shd_number_pages[SHD_NUMBER_PAGES];
_Atomic int shd_number_end;

static shd_number *
map_page(unsigned int which)
{
    _Atomic(shd_number *) *pages = shd_number_pages;
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
shd_number_make_new(int fd)
{
    int error = errno;
    unsigned int number = (unsigned int)fd;
    if (number >= (unsigned int)SHD_NUMBER_PAGES << PAGE_BITS) {
        return NULL;
    }
    if (shd_number_find(fd) == NULL && map_page(number >> PAGE_BITS) == NULL) {
        errno = error;
        return NULL;
    }
    int seen = atomic_load_explicit(&shd_number_end, memory_order_relaxed);
    while (fd >= seen
           && !atomic_compare_exchange_weak(&shd_number_end, &seen, fd + 1)) {
    }
    return shd_number_find(fd);
}
