/* Blocks without locks.
 *
 * Fresh blocks are counted off by compare-and-swap; before the last secured
 * ones are gone, one thread secures more while the others go on.  Retired ones
 * wait in a ring in which a place that is still being filled is passed over
 * rather than waited for.  A block that several threads append to in turn is
 * lent: taken out of a small pool by exchange, put back when done.
 *
 * A page of a sparse mapped file that the disk has no room for is a SIGBUS in
 * the program.  So storage is secured before it is touched: the first blocks
 * by posix_fallocate() while the file is open, later ones by
 * MADV_POPULATE_WRITE, which needs no descriptor (a library that opens files
 * at odd moments changes the numbers that the program gets) and answers with
 * an error where a store would have been a SIGBUS.  Kernels without it get
 * posix_fallocate() on the reopened file. */
#define _GNU_SOURCE
#include "blocks.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define LARGEST_STEP 16
#define LEAST_RESERVE 2 /* secured blocks left when more are secured */
#define YIELDS 100
#define PATIENCE 1000 /* with what one may sleep, some 0.1 s */
#define POOL 16

static _Atomic uint32_t used;   /* blocks ever used */
static _Atomic uint32_t backed; /* blocks whose storage is secured */
static _Atomic int growing;     /* a thread secures more */
static _Atomic int disk_full;
uint32_t shd_recorder_capacity SHD_HOT; /* blocks that the file may have */

/* Numbers from 1 of blocks that no thread owns any more, oldest first; twice
   as many places as there are blocks. */
static _Atomic uint32_t *ring;
static uint64_t ring_mask;
static _Atomic uint64_t ring_first, ring_next;

_Atomic(shd_live *) *shd_recorder_live_blocks
    SHD_HOT;                /* by slot / SHD_LIVE_A_BLOCK */
static size_t account_size; /* bytes of both, which are one mapping */

static _Atomic(shd_block_head *) pools[SHD_BLOCK_DATA + 1][POOL];

static shd_block_head *
block_at(uint32_t number)
{
    return (shd_block_head *)(shd_rec.map + SHD_HEADER_SIZE
                              + (uint64_t)number * SHD_BLOCK_SIZE);
}

static uint32_t
number_of(const shd_block_head *block)
{
    return (uint32_t)(((const unsigned char *)block - shd_rec.map
                       - SHD_HEADER_SIZE)
                      / SHD_BLOCK_SIZE);
}

int
shd_blocks_disk_full(void)
{
    return atomic_load(&disk_full);
}

/* Nobody is inside the recorder when these two are called. */
int
shd_blocks_prepare(uint32_t blocks)
{
    uint64_t places = 64;
    while (places < (uint64_t)blocks * 2) {
        places *= 2;
    }
    size_t size =
        places * sizeof(uint32_t) + (size_t)blocks * sizeof(shd_live *);
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return errno;
    }
    if (ring != NULL) {
        munmap((void *)ring, account_size);
    }
    ring = memory;
    ring_mask = places - 1;
    shd_recorder_live_blocks = (void *)((uint32_t *)memory + places);
    account_size = size;
    return 0;
}

void
shd_blocks_begin(uint32_t blocks, uint32_t secured)
{
    shd_recorder_capacity = blocks;
    used = 0;
    backed = secured;
    growing = 0;
    disk_full = 0;
    ring_first = ring_next = 0;
    memset((void *)pools, 0, sizeof(pools));
}

/* --- growth ---------------------------------------------------------------- */

static int
secure(uint64_t offset, uint64_t length)
{
    /* madvise() wants whole pages; the header is one of 4 KiB, so on larger
       pages the range begins inside one that is already there. */
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t start = offset & ~(page - 1);
    if (madvise(shd_rec.map + start, offset + length - start,
                MADV_POPULATE_WRITE)
        == 0) {
        return 0;
    }
    if (errno != EINVAL) {
        return errno == EFAULT ? ENOSPC : errno;
    }
    int fd = open(shd_rec.path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return errno;
    }
    int error = posix_fallocate(fd, (off_t)offset, (off_t)length);
    close(fd);
    return error;
}

static int
can_grow(void)
{
    return atomic_load(&backed) < shd_recorder_capacity
           && !atomic_load(&disk_full);
}

/* 0 when another thread is at it. */
static int
grow(void)
{
    if (atomic_exchange(&growing, 1)) {
        return 0;
    }
    uint32_t from = atomic_load(&backed);
    uint32_t step = from / 4;
    step = step < LARGEST_STEP ? step : LARGEST_STEP;
    step = step < shd_recorder_capacity - from ? step
                                               : shd_recorder_capacity - from;
    if (step && !atomic_load(&disk_full)) {
        int kept = errno;
        int error = secure(SHD_HEADER_SIZE + (uint64_t)from * SHD_BLOCK_SIZE,
                           (uint64_t)step * SHD_BLOCK_SIZE);
        if (error) {
            atomic_store(&disk_full, error);
            shd_rec.header->error = error;
        }
        else {
            atomic_store(&backed, from + step);
        }
        errno = kept;
    }
    atomic_store(&growing, 0);
    return 1;
}

/* Another thread secures more; it may have lost its processor, or wait for the
 * disk.  What would be recycled instead is history. */
static void
wait_a_little(int waited)
{
    if (waited < YIELDS) {
        sched_yield();
        return;
    }
    const struct timespec pause = {0, 20000};
    int kept = errno;
    syscall(SYS_nanosleep, &pause, NULL); /* no point of cancellation */
    errno = kept;
}

/* The more there are, the more threads may take one before the next are
 * there. */
static uint32_t
reserve_of(uint32_t secured)
{
    uint32_t reserve = secured / 4;
    return reserve < LEAST_RESERVE  ? LEAST_RESERVE
           : reserve > LARGEST_STEP ? LARGEST_STEP
                                    : reserve;
}

/* Number of a block never used before, from 1; 0: there is none. */
static uint32_t
count_off(void)
{
    uint32_t number = atomic_load(&used);
    for (int waited = 0;;) {
        uint32_t secured = atomic_load(&backed);
        if (number < secured) {
            if (atomic_compare_exchange_weak(&used, &number, number + 1)) {
                if (secured - number <= reserve_of(secured) && can_grow()) {
                    (void)grow();
                }
                return number + 1;
            }
            continue;
        }
        if (!can_grow() || waited > PATIENCE) {
            return 0;
        }
        if (!grow()) {
            wait_a_little(waited++);
        }
        number = atomic_load(&used);
    }
}

/* --- retired blocks -------------------------------------------------------- */

static void
push_retired(uint32_t number)
{
    while (number) {
        uint64_t at = atomic_fetch_add(&ring_next, 1);
        /* What was passed over while it was being stored, a lap ago. */
        number = atomic_exchange(&ring[at & ring_mask], number);
    }
}

static uint32_t
pop_retired(void)
{
    uint64_t at = atomic_load(&ring_first);
    while (at < atomic_load(&ring_next)) {
        if (atomic_compare_exchange_weak(&ring_first, &at, at + 1)) {
            uint32_t number = atomic_exchange(&ring[at & ring_mask], 0);
            if (number) {
                return number;
            }
            at++;
        }
    }
    return 0;
}

/* --- blocks ------------------------------------------------------------------ */

static shd_block_head *
recycle(int type, uint32_t thread)
{
    uint32_t from = pop_retired();
    if (from == 0) {
        return NULL;
    }
    shd_block_head *block = block_at(from - 1);
    _Atomic uint32_t *generation = (_Atomic uint32_t *)&block->generation;
    uint32_t was = atomic_load_explicit(generation, memory_order_relaxed);
    atomic_store_explicit(generation, was + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    shd_recorder_count(&shd_rec.header->dropped_events, block->committed);
    block->committed = 0;
    block->first_seq = 0;
    block->index = 0;
    block->type = (uint32_t)type;
    block->thread = thread;
    if (type != SHD_BLOCK_EVENTS && type != SHD_BLOCK_PINNED) {
        memset(block + 1, 0, SHD_BLOCK_SIZE - SHD_BLOCK_HEAD_SIZE);
    }
    atomic_store_explicit(generation, was + 2, memory_order_release);
    return block;
}

shd_block_head *
shd_blocks_take(int type, uint32_t thread)
{
    uint32_t number = count_off();
    if (number == 0) {
        return recycle(type, thread);
    }
    shd_block_head *block = block_at(number - 1);
    block->thread = thread;
    atomic_store_explicit((_Atomic uint32_t *)&block->type, (uint32_t)type,
                          memory_order_release);
    shd_recorder_raise((_Atomic uint32_t *)&shd_rec.header->blocks, number);
    return block;
}

void
shd_blocks_retire(shd_block_head *block)
{
    block->thread = 0;
    push_retired(number_of(block) + 1);
}

shd_block_head *
shd_blocks_borrow(int type, uint32_t size)
{
    const uint32_t room = type == SHD_BLOCK_PINNED
                              ? (uint32_t)SHD_EVENTS_A_BLOCK
                              : SHD_BLOCK_SIZE - SHD_BLOCK_HEAD_SIZE;
    if (size > room) {
        return NULL;
    }
    for (int i = 0; i < POOL; i++) {
        _Atomic(shd_block_head *) *place = &pools[type][i];
        if (atomic_load_explicit(place, memory_order_relaxed) == NULL) {
            continue;
        }
        shd_block_head *block = atomic_exchange(place, NULL);
        if (block == NULL) {
            continue;
        }
        if (block->committed + size <= room) {
            return block;
        }
        break; /* full: it stays as it is */
    }
    return shd_blocks_take(type, 0);
}

void
shd_blocks_put_back(int type, shd_block_head *block)
{
    for (int i = 0; i < POOL; i++) {
        shd_block_head *none = NULL;
        if (atomic_load_explicit(&pools[type][i], memory_order_relaxed) == NULL
            && atomic_compare_exchange_strong(&pools[type][i], &none, block)) {
            return;
        }
    }
}

shd_live *
shd_blocks_live(uint32_t index)
{
    if (index >= shd_recorder_capacity) {
        return NULL;
    }
    shd_live *slots = atomic_load(&shd_recorder_live_blocks[index]);
    if (slots != NULL) {
        return slots;
    }
    shd_block_head *block = shd_blocks_take(SHD_BLOCK_LIVE, 0);
    if (block == NULL) {
        return NULL;
    }
    block->index = index * (uint32_t)SHD_LIVE_A_BLOCK;
    atomic_store_explicit((_Atomic uint32_t *)&block->committed,
                          SHD_BLOCK_SIZE - SHD_BLOCK_HEAD_SIZE,
                          memory_order_release);
    if (!atomic_compare_exchange_strong(&shd_recorder_live_blocks[index],
                                        &slots, (shd_live *)(block + 1))) {
        /* Another thread made it meanwhile. */
        block->committed = 0;
        block->type = SHD_BLOCK_FREE;
        shd_blocks_retire(block);
        return slots;
    }
    return (shd_live *)(block + 1);
}
