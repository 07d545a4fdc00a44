/* The recording's file, its header, and the records in its blocks. */
#define _GNU_SOURCE
#include "recorder.h"

#include "blocks.h"
#include "depot.h"
#include "thread.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_BLOCKS 8
#define GAP_NS 1e6     /* between two looks at what may be due */
#define ANCHOR_GAPS 10 /* between two anchors */

_Atomic uint32_t shd_recorder_answered;
_Atomic uint32_t shd_recorder_slots SHD_HOT;
void (*shd_recorder_answer)(void);
shd_recorder shd_rec;

static char sentence[256]; /* why recording failed, or "" */

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
    snprintf(sentence, sizeof(sentence), "cannot %s %.150s: %s", what, path,
             strerror(error));
    return -1;
}

const char *
shd_recorder_error(void)
{
    /* Found out by a thread that could not make a sentence of it. */
    if (sentence[0] == 0 && shd_blocks_disk_full()) {
        fail("grow the recording", shd_rec.path, shd_blocks_disk_full());
    }
    return sentence;
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

/* Unmaps the file; 0 when a thread is still inside and needs it. */
static int
shut(void)
{
    atomic_store(&shd_on.recording, 0);
    if (!shd_thread_all_outside()) {
        return 0;
    }
    unsigned char *map = shd_rec.map;
    shd_recorder_forget();
    munmap(map, shd_rec.size);
    return 1;
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
    if (shd_rec.map != NULL && !shut()) {
        return fail("begin another recording while threads write into",
                    shd_rec.path, EBUSY);
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
    error = shd_blocks_prepare(capacity);
    if (error) {
        goto done;
    }
    shd_depot_reset();

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
    sentence[0] = 0;
    shd_rec.settings = *settings;
    shd_rec.pid = getpid();
    shd_rec.size = size;
    shd_rec.epoch++;
    shd_rec.gap = (uint64_t)(GAP_NS * header->ticks_per_ns);
    shd_rec.due = header->first.ticks + shd_rec.gap;
    shd_rec.anchor_due = header->first.ticks + ANCHOR_GAPS * shd_rec.gap;
    shd_rec.header = header;
    shd_rec.map = map;
    atomic_store(&shd_recorder_answered, 0);
    atomic_store(&shd_recorder_slots, 0);
    shd_blocks_begin(capacity, FIRST_BLOCKS);

    header->meta = shd_recorder_data(SHD_DATA_STRING, settings->meta,
                                     strlen(settings->meta), NULL, 0);
    /* A reader that sees the magic sees a whole header. */
    atomic_thread_fence(memory_order_release);
    memcpy(header->magic, SHD_MAGIC, sizeof(header->magic));
    shd_on_start();
    atomic_store(&shd_on.recording, 1);

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
    if ((now & 1) || !atomic_compare_exchange_strong(version, &now, now + 1)) {
        return;
    }
    atomic_thread_fence(memory_order_release);
    header->second = shd_clock_anchor();
    atomic_store_explicit(version, now + 2, memory_order_release);
    shd_rec.anchor_due = ticks + ANCHOR_GAPS * shd_rec.gap;
}

void
shd_recorder_look_up(uint64_t ticks)
{
    atomic_store_explicit(&shd_rec.due, ticks + shd_rec.gap,
                          memory_order_relaxed);
    if (ticks >= shd_rec.anchor_due) {
        renew_anchor(ticks);
    }
    if (shd_recorder_answer != NULL
        && shd_recorder_asked()
               != atomic_load_explicit(&shd_recorder_answered,
                                       memory_order_relaxed)) {
        shd_recorder_answer();
    }
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
    (void)shut();
}

void
shd_recorder_forget(void)
{
    atomic_store(&shd_on.recording, 0);
    shd_rec.map = NULL;
    shd_rec.header = NULL;
    shd_rec.epoch++;
}

/* --- events ------------------------------------------------------------- */

/* The next block to write into, or NULL; the old one is done with. */
shd_block_head *
shd_recorder_next_block(shd_writer *writer, uint32_t thread)
{
    if (writer == NULL) {
        return shd_blocks_borrow(SHD_BLOCK_PINNED, 1);
    }
    if (writer->block != NULL && writer->epoch == shd_rec.epoch) {
        shd_blocks_retire(writer->block);
    }
    writer->block = shd_blocks_take(SHD_BLOCK_EVENTS, thread);
    writer->epoch = shd_rec.epoch;
    return writer->block;
}

void
shd_recorder_put_back(shd_block_head *block)
{
    shd_blocks_put_back(SHD_BLOCK_PINNED, block);
}

void
shd_recorder_retire(shd_writer *writer)
{
    if (shd_recording() && writer->block != NULL
        && writer->epoch == shd_rec.epoch) {
        shd_blocks_retire(writer->block);
    }
    writer->block = NULL;
}

/* --- live slots --------------------------------------------------------- */

shd_live *
shd_recorder_make_live(uint32_t slot)
{
    shd_live *slots = shd_blocks_live((slot - 1) / (uint32_t)SHD_LIVE_A_BLOCK);
    if (slots == NULL) {
        shd_recorder_count(&shd_rec.header->dropped_live, 1);
        return NULL;
    }
    shd_recorder_raise((_Atomic uint32_t *)&shd_rec.header->live_slots, slot);
    shd_recorder_raise(&shd_recorder_slots, slot);
    return &slots[(slot - 1) % SHD_LIVE_A_BLOCK];
}

/* --- data and stacks ---------------------------------------------------- */

static void *
end_of(shd_block_head *block)
{
    return (unsigned char *)(block + 1) + block->committed;
}

static void
publish(int type, shd_block_head *block, size_t size)
{
    atomic_store_explicit((_Atomic uint32_t *)&block->committed,
                          block->committed + (uint32_t)size,
                          memory_order_release);
    shd_blocks_put_back(type, block);
}

uint32_t
shd_recorder_data(int type, const void *head, size_t head_size,
                  const void *tail, size_t tail_size)
{
    const size_t room =
        SHD_BLOCK_SIZE - SHD_BLOCK_HEAD_SIZE - sizeof(shd_data_head);
    size_t payload = head_size + tail_size;
    size_t whole = (sizeof(shd_data_head) + payload + 7) & ~(size_t)7;
    shd_block_head *block =
        payload > room ? NULL
                       : shd_blocks_borrow(SHD_BLOCK_DATA, (uint32_t)whole);
    if (block == NULL) {
        shd_recorder_count(&shd_rec.header->dropped_data, 1);
        return 0;
    }
    unsigned char *to = end_of(block);
    shd_data_head record = {(uint32_t)payload, (uint16_t)type, 0};
    memcpy(to, &record, sizeof(record));
    memcpy(to + sizeof(record), head, head_size);
    if (tail_size) {
        memcpy(to + sizeof(record) + head_size, tail, tail_size);
    }
    publish(SHD_BLOCK_DATA, block, whole);
    return (uint32_t)((uint64_t)(to - shd_rec.map) / 8);
}

uint32_t
shd_recorder_node(uint32_t parent, uint32_t code, uint32_t lasti,
                  uint32_t depth)
{
    shd_block_head *block =
        shd_blocks_borrow(SHD_BLOCK_STACKS, sizeof(shd_stack_node));
    if (block == NULL) {
        shd_recorder_count(&shd_rec.header->dropped_stacks, 1);
        return 0;
    }
    shd_stack_node *node = end_of(block);
    *node = (shd_stack_node){parent, code, lasti, depth};
    publish(SHD_BLOCK_STACKS, block, sizeof(shd_stack_node));
    return (uint32_t)((uint64_t)((unsigned char *)node - shd_rec.map) / 16);
}
