/* Blocks of the recording: taking, filling and recycling them.
 *
 * A page of a sparse mapped file that the disk has no room for is a SIGBUS in
 * the program.  So storage is secured before it is touched: the first blocks
 * by posix_fallocate() while the file is open, later ones by
 * MADV_POPULATE_WRITE, which needs no descriptor (a library that opens files
 * at odd moments changes the numbers that the program gets) and answers with
 * an error where a store would have been a SIGBUS.  Kernels without it get
 * posix_fallocate() on the reopened file. */
#define _GNU_SOURCE
#include "recorder.h"

#include "clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define FIRST_BLOCKS 8
#define LARGEST_STEP 16

shd_recorder shd_rec;

/* Blocks that no thread owns any more, oldest first: a ring of block numbers,
   as long as there are blocks. */
static uint32_t *retired;
static uint32_t retired_first, retired_count;

static shd_live **live_blocks; /* by slot number / SHD_LIVE_A_BLOCK */
static uint32_t live_block_count;

static shd_block_head *pinned, *stacks, *data;

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

static void
count(uint64_t *counter, uint64_t by)
{
    atomic_fetch_add_explicit((_Atomic uint64_t *)counter, by,
                              memory_order_relaxed);
}

/* --- what the process is ------------------------------------------------ */

static uint64_t
own_start_ticks(void)
{
    char text[1024];
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t size = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (size <= 0) {
        return 0;
    }
    text[size] = 0;
    /* The command may hold blanks and parentheses; field 3 follows the last
       parenthesis. */
    char *at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 22; field++) {
        at = strchr(at + 1, ' ');
    }
    return at == NULL ? 0 : strtoull(at + 1, NULL, 10);
}

static void
read_boot_id(char *to, size_t size)
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    ssize_t length = read(fd, to, size - 1);
    close(fd);
    if (length > 0 && to[length - 1] == '\n') {
        to[length - 1] = 0;
    }
}

/* --- the file ----------------------------------------------------------- */

static int
fail(const char *what, const char *path, int error)
{
    /* The sentence is the user's only sign of it: what, where, why. */
    snprintf(shd_rec.error, sizeof(shd_rec.error), "cannot %s %.150s: %s",
             what, path, strerror(error));
    return -1;
}

static uint64_t
bounded_size(uint64_t wanted)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY
        && limit.rlim_cur < wanted) {
        wanted = limit.rlim_cur;
    }
    uint64_t least = SHD_HEADER_SIZE + (uint64_t)FIRST_BLOCKS * SHD_BLOCK_SIZE;
    if (wanted < least) {
        return 0;
    }
    /* Ids are 32 bits of offset / 8. */
    uint64_t most = UINT64_C(8) << 32;
    wanted = wanted < most ? wanted : most;
    return wanted - (wanted - SHD_HEADER_SIZE) % SHD_BLOCK_SIZE;
}

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

int
shd_recorder_start(const char *path, const shd_settings *settings,
                   uint64_t inherited)
{
    unsigned char *map = MAP_FAILED;
    size_t length = strlen(path);
    if (length >= sizeof(shd_rec.path)) {
        return fail("create the recording", path, ENAMETOOLONG);
    }
    uint64_t size = bounded_size(settings->size);
    if (size == 0) {
        return fail("record into less than 516 KiB at", path, EFBIG);
    }
    int fd =
        open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        return fail("create the recording", path, errno);
    }
    const char *what = "reserve room for the recording";
    int error = 0;
    if (ftruncate(fd, (off_t)size) < 0) {
        error = errno;
        goto done;
    }
    error = posix_fallocate(
        fd, 0, SHD_HEADER_SIZE + (off_t)FIRST_BLOCKS * SHD_BLOCK_SIZE);
    if (error) {
        goto done;
    }
    what = "map the recording";
    map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        error = errno;
        goto done;
    }
    /* Without it, the first touch brings in megabytes at once: milliseconds,
       and memory that most programs never fill. */
    madvise(map, size, MADV_RANDOM);
    what = "keep account of the recording";
    uint32_t capacity = (uint32_t)((size - SHD_HEADER_SIZE) / SHD_BLOCK_SIZE);
    uint32_t *ring = malloc(capacity * sizeof(uint32_t));
    if (ring == NULL) {
        error = ENOMEM;
        goto done;
    }
    free(retired);
    retired = ring;
    retired_first = retired_count = 0;

    shd_header *header = (shd_header *)map;
    header->version = SHD_VERSION;
    header->byte_order_mark = SHD_BYTE_ORDER_MARK;
    header->header_size = SHD_HEADER_SIZE;
    header->block_size = SHD_BLOCK_SIZE;
    header->file_size = size;
    header->pid = (uint32_t)getpid();
    header->parent_pid = (uint32_t)getppid();
    header->start_ticks = own_start_ticks();
    read_boot_id(header->boot_id, sizeof(header->boot_id));
    header->python_version = settings->python_version;
    header->level = (uint32_t)settings->level;
    header->frames = settings->frames;
    header->sample = settings->sample;
    header->clock = (uint32_t)shd_clock_cycles;
    header->ticks_per_ns = shd_clock_rate();
    header->first = shd_clock_anchor();
    header->inherited_serials = inherited;
    header->newest_serial = inherited;
    header->next_seq = 1;

    memmove(shd_rec.path, path, length + 1);
    shd_rec.error[0] = 0;
    shd_rec.settings = *settings;
    shd_rec.pid = getpid();
    shd_rec.size = size;
    shd_rec.capacity = capacity;
    shd_rec.blocks = 0;
    shd_rec.backed = FIRST_BLOCKS;
    shd_rec.disk_full = 0;
    shd_rec.epoch++;
    shd_rec.anchor_gap = (uint64_t)(10e6 * header->ticks_per_ns);
    shd_rec.anchor_due = header->first.ticks + shd_rec.anchor_gap;
    shd_rec.header = header;
    shd_rec.map = map;
    live_block_count = 0;
    pinned = stacks = data = NULL;

    header->meta = shd_recorder_data(SHD_DATA_STRING, settings->meta,
                                     strlen(settings->meta), NULL, 0);
    /* A reader that sees the magic sees a whole header. */
    atomic_thread_fence(memory_order_release);
    memcpy(header->magic, SHD_MAGIC, sizeof(header->magic));

done:
    close(fd);
    if (error) {
        if (map != MAP_FAILED) {
            munmap(map, size);
        }
        unlink(path);
        return fail(what, path, error);
    }
    return 0;
}

int
shd_recorder_start_child(uint64_t inherited)
{
    char path[PATH_MAX];
    shd_settings settings = shd_rec.settings;
    char *slash = strrchr(shd_rec.path, '/');
    int folder = slash == NULL ? 0 : (int)(slash - shd_rec.path) + 1;
    int length =
        snprintf(path, sizeof(path), "%.*s%d-%llu.shd", folder, shd_rec.path,
                 (int)getpid(), (unsigned long long)own_start_ticks());
    if (length < 0 || (size_t)length >= sizeof(path)) {
        return fail("create a recording beside", shd_rec.path, ENAMETOOLONG);
    }
    return shd_recorder_start(path, &settings, inherited);
}

static void
renew_anchor(uint64_t ticks)
{
    shd_header *header = shd_rec.header;
    _Atomic uint32_t *version = (_Atomic uint32_t *)&header->second_version;
    uint32_t now = atomic_load_explicit(version, memory_order_relaxed);
    if (now & 1) {
        return;
    }
    atomic_store_explicit(version, now + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    header->second = shd_clock_anchor();
    atomic_store_explicit(version, now + 2, memory_order_release);
    shd_rec.anchor_due = ticks + shd_rec.anchor_gap;
}

static void
mark_ended(int ended, int exit_code)
{
    shd_header *header = shd_rec.header;
    if (shd_rec.pid != getpid()) {
        return;
    }
    if (header->ended != SHD_ENDED_RUNNING) {
        if (header->ended == SHD_ENDED_EXIT
            && header->exit_code == SHD_STATUS_UNKNOWN) {
            header->exit_code = exit_code;
        }
        return;
    }
    header->ended_ticks = shd_clock_ticks();
    renew_anchor(header->ended_ticks);
    header->exit_code = exit_code;
    atomic_store_explicit((_Atomic uint32_t *)&header->ended, (uint32_t)ended,
                          memory_order_release);
}

void
shd_recorder_mark_ended(int exit_code)
{
    if (shd_rec.map != NULL) {
        mark_ended(SHD_ENDED_EXIT, exit_code);
    }
}

void
shd_recorder_stop(int ended, int exit_code)
{
    if (shd_rec.map == NULL) {
        return;
    }
    mark_ended(ended, exit_code);
    unsigned char *map = shd_rec.map;
    shd_recorder_forget();
    munmap(map, shd_rec.size);
}

void
shd_recorder_forget(void)
{
    shd_rec.map = NULL;
    shd_rec.header = NULL;
    shd_rec.epoch++;
}

/* --- blocks ------------------------------------------------------------- */

static int
back_more(void)
{
    uint32_t step = shd_rec.backed / 4;
    step = step < LARGEST_STEP ? step : LARGEST_STEP;
    if (step > shd_rec.capacity - shd_rec.backed) {
        step = shd_rec.capacity - shd_rec.backed;
    }
    if (step == 0 || shd_rec.disk_full) {
        return -1;
    }
    int error =
        secure(SHD_HEADER_SIZE + (uint64_t)shd_rec.backed * SHD_BLOCK_SIZE,
               (uint64_t)step * SHD_BLOCK_SIZE);
    if (error) {
        shd_rec.disk_full = error;
        shd_rec.header->error = error;
        fail("grow the recording", shd_rec.path, error);
        return -1;
    }
    shd_rec.backed += step;
    return 0;
}

static shd_block_head *
take_block(int type, uint32_t thread)
{
    shd_block_head *block;
    if (shd_rec.blocks < shd_rec.backed || back_more() == 0) {
        block = block_at(shd_rec.blocks);
        block->type = SHD_BLOCK_FREE;
        block->thread = thread;
        atomic_store_explicit((_Atomic uint32_t *)&block->type, (uint32_t)type,
                              memory_order_release);
        shd_rec.blocks++;
        atomic_store_explicit((_Atomic uint32_t *)&shd_rec.header->blocks,
                              shd_rec.blocks, memory_order_release);
        return block;
    }
    if (retired_count == 0) {
        return NULL;
    }
    block = block_at(retired[retired_first]);
    retired_first = (retired_first + 1) % shd_rec.capacity;
    retired_count--;

    _Atomic uint32_t *generation = (_Atomic uint32_t *)&block->generation;
    uint32_t was = atomic_load_explicit(generation, memory_order_relaxed);
    atomic_store_explicit(generation, was + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    count(&shd_rec.header->dropped_events, block->committed);
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

static void
retire_block(shd_block_head *block)
{
    block->thread = 0;
    uint32_t at = (retired_first + retired_count) % shd_rec.capacity;
    retired[at] = number_of(block);
    retired_count++;
}

/* --- events ------------------------------------------------------------- */

shd_event *
shd_recorder_begin(shd_writer *writer, uint32_t thread)
{
    shd_block_head *block = pinned;
    int type = SHD_BLOCK_PINNED;
    if (writer != NULL) {
        block = writer->epoch == shd_rec.epoch ? writer->block : NULL;
        type = SHD_BLOCK_EVENTS;
    }
    uint64_t seq = shd_rec.header->next_seq; /* one writer: the GIL's holder */
    atomic_store_explicit((_Atomic uint64_t *)&shd_rec.header->next_seq,
                          seq + 1, memory_order_relaxed);
    if (block == NULL || block->committed >= SHD_EVENTS_A_BLOCK) {
        if (block != NULL && writer != NULL) {
            retire_block(block);
        }
        block = take_block(type, thread);
        if (writer != NULL) {
            writer->block = block;
            writer->epoch = shd_rec.epoch;
        }
        else {
            pinned = block;
        }
        if (block == NULL) {
            count(&shd_rec.header->dropped_events, 1);
            return NULL;
        }
        block->first_seq = seq;
    }
    shd_event *event = (shd_event *)(block + 1) + block->committed;
    event->seq = seq;
    event->ticks = shd_clock_ticks();
    if (event->ticks >= shd_rec.anchor_due) {
        renew_anchor(event->ticks);
    }
    return event;
}

void
shd_recorder_commit(shd_writer *writer)
{
    shd_block_head *block = writer == NULL ? pinned : writer->block;
    atomic_store_explicit((_Atomic uint32_t *)&block->committed,
                          block->committed + 1, memory_order_release);
}

void
shd_recorder_retire(shd_writer *writer)
{
    if (shd_recording() && writer->block != NULL
        && writer->epoch == shd_rec.epoch) {
        retire_block(writer->block);
    }
    writer->block = NULL;
}

/* --- live slots --------------------------------------------------------- */

shd_live *
shd_recorder_live(uint32_t slot)
{
    uint32_t which = (slot - 1) / SHD_LIVE_A_BLOCK;
    if (which >= live_block_count) {
        shd_live **grown =
            realloc(live_blocks, (which + 1) * sizeof(shd_live *));
        if (grown == NULL) {
            count(&shd_rec.header->dropped_live, 1);
            return NULL;
        }
        live_blocks = grown;
        while (live_block_count <= which) {
            live_blocks[live_block_count++] = NULL;
        }
    }
    if (live_blocks[which] == NULL) {
        shd_block_head *block = take_block(SHD_BLOCK_LIVE, 0);
        if (block == NULL) {
            count(&shd_rec.header->dropped_live, 1);
            return NULL;
        }
        block->index = which * (uint32_t)SHD_LIVE_A_BLOCK;
        atomic_store_explicit((_Atomic uint32_t *)&block->committed,
                              SHD_BLOCK_SIZE - SHD_BLOCK_HEAD_SIZE,
                              memory_order_release);
        live_blocks[which] = (shd_live *)(block + 1);
    }
    if (slot > shd_rec.header->live_slots) {
        shd_rec.header->live_slots = slot;
    }
    return &live_blocks[which][(slot - 1) % SHD_LIVE_A_BLOCK];
}

/* --- data and stacks ---------------------------------------------------- */

/* Room for `size` bytes in the block that `current` points to, or NULL. */
static void *
append(shd_block_head **current, int type, size_t size)
{
    const size_t room = SHD_BLOCK_SIZE - SHD_BLOCK_HEAD_SIZE;
    if (size > room) {
        return NULL;
    }
    if (*current == NULL || (*current)->committed + size > room) {
        shd_block_head *block = take_block(type, 0);
        if (block == NULL) {
            return NULL;
        }
        *current = block;
    }
    return (unsigned char *)(*current + 1) + (*current)->committed;
}

static void
publish(shd_block_head *block, size_t size)
{
    atomic_store_explicit((_Atomic uint32_t *)&block->committed,
                          block->committed + (uint32_t)size,
                          memory_order_release);
}

uint32_t
shd_recorder_data(int type, const void *head, size_t head_size,
                  const void *tail, size_t tail_size)
{
    const size_t room =
        SHD_BLOCK_SIZE - SHD_BLOCK_HEAD_SIZE - sizeof(shd_data_head);
    size_t payload = head_size + tail_size;
    size_t whole = (sizeof(shd_data_head) + payload + 7) & ~(size_t)7;
    unsigned char *to =
        payload > room ? NULL : append(&data, SHD_BLOCK_DATA, whole);
    if (to == NULL) {
        count(&shd_rec.header->dropped_data, 1);
        return 0;
    }
    shd_data_head record = {(uint32_t)payload, (uint16_t)type, 0};
    memcpy(to, &record, sizeof(record));
    memcpy(to + sizeof(record), head, head_size);
    if (tail_size) {
        memcpy(to + sizeof(record) + head_size, tail, tail_size);
    }
    publish(data, whole);
    return (uint32_t)((uint64_t)(to - shd_rec.map) / 8);
}

uint32_t
shd_recorder_node(uint32_t parent, uint32_t code, uint32_t lasti,
                  uint32_t depth)
{
    shd_stack_node *node =
        append(&stacks, SHD_BLOCK_STACKS, sizeof(shd_stack_node));
    if (node == NULL) {
        count(&shd_rec.header->dropped_stacks, 1);
        return 0;
    }
    *node = (shd_stack_node){parent, code, lasti, depth};
    publish(stacks, sizeof(shd_stack_node));
    return (uint32_t)((uint64_t)((unsigned char *)node - shd_rec.map) / 16);
}
