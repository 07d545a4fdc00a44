/* os._exit(): nothing is torn down, and nearly everything is still open.
 *
 * Most of that is no mistake.  What an object owns, what a function holds that
 * still runs, what a with or try statement around the call would have closed,
 * what another thread or a forked process goes on with, is left alone.  What
 * remains are bare numbers, and children that are dead, of calls that have long
 * returned, in a process that ends where it wants to. */
#define _GNU_SOURCE
#include "judge.h"
#include "lifetime/events.h"
#include "recording/recorder.h"
#include "state.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* All processes that were forked from this one, and from those: they share the
 * page. */
#define DESCENDANTS 1000

typedef struct {
    _Atomic int count;
    _Atomic pid_t pids[DESCENDANTS];
} family;

static family *shared;
static int is_child; /* it goes on for another process */

void
shd_leaving_start(void)
{
    if (shared == NULL) {
        void *page = mmap(NULL, sizeof(family), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        shared = page == MAP_FAILED ? NULL : page;
    }
}

static void
add(pid_t pid)
{
    if (shared != NULL) {
        int at = atomic_fetch_add(&shared->count, 1);
        if (at < DESCENDANTS) {
            atomic_store(&shared->pids[at], pid);
        }
    }
}

void
shd_leaving_forked(void)
{
    is_child = 1;
    add((pid_t)syscall(SYS_getpid));
}

void
shd_watch_has_forked(pid_t pid)
{
    add(pid);
}

static int
has_ended(pid_t pid)
{
    siginfo_t info = {0};
    if (kill(pid, 0) < 0) {
        return 1;
    }
    return syscall(SYS_waitid, P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT,
                   NULL)
               == 0
           && info.si_pid == pid;
}

/* Whether nobody goes on with what this process had open. */
static int
is_last(void)
{
    int count = shared == NULL ? DESCENDANTS : atomic_load(&shared->count);
    if (count >= DESCENDANTS) {
        return 0;
    }
    for (int i = 0; i < count; i++) {
        if (!has_ended(atomic_load(&shared->pids[i]))) {
            return 0;
        }
    }
    return 1;
}

/* --- where the process ends --------------------------------------------------- */

static int
next_number(const unsigned char **at, const unsigned char *end)
{
    int number = 0;
    while (*at < end) {
        unsigned char byte = *(*at)++;
        number = number << 6 | (byte & 63);
        if (!(byte & 64)) {
            break;
        }
    }
    return number;
}

/* Whether the instruction is inside a with or try statement.  The table has
 * (start, size, handler, depth), in units of two bytes. */
static int
is_protected(PyCodeObject *code, int offset)
{
    PyObject *table =
        PyObject_GetAttrString((PyObject *)code, "co_exceptiontable");
    int found = 1;
    if (table != NULL && PyBytes_Check(table)) {
        const unsigned char *at =
            (const unsigned char *)PyBytes_AS_STRING(table);
        const unsigned char *end = at + PyBytes_GET_SIZE(table);
        found = 0;
        while (at < end && !found) {
            int start = next_number(&at, end);
            int size = next_number(&at, end);
            next_number(&at, end);
            next_number(&at, end);
            found = offset / 2 >= start && offset / 2 < start + size;
        }
    }
    PyErr_Clear();
    Py_XDECREF(table);
    return found;
}

static int
is_module_level(PyCodeObject *code)
{
    const char *name = PyUnicode_AsUTF8(code->co_name);
    const char *file = PyUnicode_AsUTF8(code->co_filename);
    PyErr_Clear();
    return name != NULL && file != NULL
           && (strcmp(name, "<module>") == 0
               || strncmp(file, "<frozen ", 8) == 0);
}

/* How many frames this thread has, and how many of them, from the outermost
 * one, belong to modules that are being run.  0: one of them has yet something
 * to clean up. */
static int
look_at_frames(int *depth, int *modules)
{
    PyFrameObject *frame = PyThreadState_GetFrame(PyThreadState_Get());
    int fine = 1;
    *depth = *modules = 0;
    while (frame != NULL) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        int at_module = is_module_level(code);
        fine = fine && !is_protected(code, PyFrame_GetLasti(frame));
        *modules = at_module ? *modules + 1 : 0;
        ++*depth;
        PyFrameObject *back = PyFrame_GetBack(frame);
        Py_DECREF(code);
        Py_DECREF(frame);
        frame = back;
    }
    return fine;
}

static const shd_stack_node *
node_at(uint32_t stack)
{
    return (const shd_stack_node *)(shd_rec.map + (uint64_t)stack * 16);
}

static uint32_t
depth_of(uint32_t stack)
{
    return stack == 0 ? 0 : node_at(stack)->depth;
}

/* How many frames, from the outermost one, run the same functions. */
static uint32_t
shared_frames(uint32_t one, uint32_t other)
{
    while (depth_of(one) > depth_of(other)) {
        one = node_at(one)->parent;
    }
    while (depth_of(other) > depth_of(one)) {
        other = node_at(other)->parent;
    }
    uint32_t same = 0;
    for (; one != 0 && other != 0; one = node_at(one)->parent) {
        same = node_at(one)->code == node_at(other)->code ? same + 1 : 0;
        other = node_at(other)->parent;
    }
    return same;
}

/* --- what it leaves ------------------------------------------------------------- */

typedef struct {
    shd_place here;
    uint32_t modules;
} end;

static void
judge(const end *now, const shd_subject *subject)
{
    const shd_live *live = shd_recorder_live_if_made(subject->slot);
    if (live == NULL || live->serial != subject->serial || live->stack == 0
        || live->thread != now->here.thread_id
        || live->flags & (SHD_FLAG_IMPORTING | SHD_FLAG_LATE)
        || shared_frames(live->stack, now->here.stack) > now->modules) {
        return;
    }
    shd_record_event(&now->here, subject, SHD_EVENT_DISPOSE, 0, 0,
                     SHD_FLAG_FINALIZER, subject->value,
                     shd_record_detail("_exit"), 1);
}

static void
judge_numbers(const end *now)
{
    int last = shd_numbers_end();
    for (int fd = 3; fd < last; fd++) {
        shd_number *number = shd_number_find(fd);
        uint64_t word = number == NULL ? 0 : atomic_load(&number->word);
        if (shd_word_state(word) == SHD_NUMBER_OPEN
            && shd_word_serial(word) != 0 && number->slot != 0
            && shd_word_owner(word) == SHD_OWNER_RAW
            && !(word & (SHD_WORD_BARE | SHD_WORD_LATE | SHD_WORD_LOCKED))) {
            const shd_subject subject = shd_judge_subject(fd, number, word);
            judge(now, &subject);
        }
    }
}

static void
judge_child(const shd_subject *child, void *now)
{
    siginfo_t info = {0};
    if (syscall(SYS_waitid, P_PID, (pid_t)child->value, &info,
                WEXITED | WNOHANG | WNOWAIT, NULL)
            == 0
        && info.si_pid == child->value) {
        judge(now, child);
    }
}

void
shd_leaving_judge(void)
{
    end now;
    int depth, modules;
    if (is_child || syscall(SYS_gettid) != getpid() || !Py_IsInitialized()
        || shd_is_finalizing() || !PyGILState_Check() || !is_last()
        || !look_at_frames(&depth, &modules) || !shd_place_here(&now.here)
        || depth_of(now.here.stack) != (uint32_t)depth) {
        return;
    }
    now.modules = (uint32_t)modules;
    judge_numbers(&now);
    shd_children_each(judge_child, &now);
}
