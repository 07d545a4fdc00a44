/* Replaces functions with ones that count, and says what came of it.
 *
 *     main SCENARIO LIBRARY [OTHER]
 *
 * Prints nothing and returns 0 when all is as it should be. */
#define _GNU_SOURCE
#include "interpose.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static _Atomic int closes, dups, fopens, fcloses;
static int (*original_close)(int), (*original_dup)(int);
static FILE *(*original_fopen)(const char *, const char *);
static int (*original_fclose)(FILE *);
static void *original_absent = "not NULL";

static int
counted_close(int fd)
{
    closes++;
    return original_close(fd);
}

static int
counted_dup(int fd)
{
    dups++;
    return original_dup(fd);
}

static FILE *
counted_fopen(const char *path, const char *mode)
{
    fopens++;
    return original_fopen(path, mode);
}

static int
counted_fclose(FILE *file)
{
    fcloses++;
    return original_fclose(file);
}

static const shd_hook hooks[] = {
    {"close", counted_close, (void **)&original_close},
    {"dup", counted_dup, (void **)&original_dup},
    {"fopen", counted_fopen, (void **)&original_fopen},
    {"fclose", counted_fclose, (void **)&original_fclose},
    {"no_such_function", counted_close, &original_absent},
};

#define CHECK(condition)                                                      \
    do {                                                                      \
        if (!(condition)) {                                                   \
            printf("line %d: %s\n", __LINE__, #condition);                    \
            exit(1);                                                          \
        }                                                                     \
    } while (0)

static void
start(void)
{
    char error[200];
    if (shd_interpose_start(hooks, 5, error, sizeof(error)) < 0) {
        printf("%s\n", error);
        exit(1);
    }
    CHECK(original_absent == NULL);
    CHECK(original_close != NULL);
}

typedef struct {
    void *handle;
    int (*dup)(int), (*close)(int), (*dup_by_table)(int),
        (*close_by_table)(int);
    FILE *(*fopen)(const char *);
    int (*fclose)(FILE *);
    void *(*look_up)(const char *, const char *);
    void *(*look_up_version)(const char *, const char *, const char *);
    void *(*look_up_in)(void *, const char *);
    void *(*look_up_version_in)(void *, const char *, const char *);
} library;

static library
load(const char *path)
{
    void *handle = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (handle == NULL) {
        printf("%s\n", dlerror());
        exit(1);
    }
    return (library){
        handle,
        dlsym(handle, "call_dup"),
        dlsym(handle, "call_close"),
        dlsym(handle, "call_dup_by_table"),
        dlsym(handle, "call_close_by_table"),
        dlsym(handle, "call_fopen"),
        dlsym(handle, "call_fclose"),
        dlsym(handle, "look_up"),
        dlsym(handle, "look_up_version"),
        dlsym(handle, "look_up_in"),
        dlsym(handle, "look_up_version_in"),
    };
}

static void
use(const library *lib)
{
    int fd = lib->dup(0);
    CHECK(fd > 2 && lib->close(fd) == 0);
    CHECK(lib->dup_by_table(0) == fd && lib->close_by_table(fd) == 0);
    FILE *file = lib->fopen("/dev/null");
    CHECK(file != NULL && lib->fclose(file) == 0);
    errno = 0;
    CHECK(lib->close(fd) == -1 && errno == EBADF);
}

static void
is_counted(const library *lib, int times)
{
    closes = dups = fopens = fcloses = 0;
    use(lib);
    CHECK(closes == 3 * times);
    CHECK(dups == 2 * times);
    CHECK(fopens == times && fcloses == times);
}

/* Loaded before the start; some calls bound already, others not. */
static void
before(char **paths)
{
    library lib = load(paths[0]);
    lib.close(lib.dup(0));
    start();
    is_counted(&lib, 1);
    size_t slots = shd_interpose_slots();
    shd_interpose_again();
    shd_interpose_verify();
    CHECK(shd_interpose_slots() == slots && slots > 5);
    is_counted(&lib, 1);
    shd_interpose_stop();
    CHECK(shd_interpose_slots() == 0);
    is_counted(&lib, 0);
    start();
    CHECK(shd_interpose_slots() == slots);
    is_counted(&lib, 1);
}

/* Loaded after it. */
static void
after(char **paths)
{
    start();
    library lib = load(paths[0]);
    is_counted(&lib, 0); /* nobody looked anything up through our dlsym() */
    errno = ENOTTY;
    shd_interpose_again();
    CHECK(errno == ENOTTY);
    is_counted(&lib, 1);
    library other = load(paths[1]);
    CHECK(lib.look_up_in(other.handle, "call_dup") == (void *)other.dup);
    is_counted(&other, 1);
}

/* Unloaded and loaded again, at the same place or at another. */
static void
churn(char **paths)
{
    start();
    library stays = load(paths[1]);
    uint32_t most = 0;
    size_t slots = 0;
    for (int round = 0; round < 50; round++) {
        library lib = load(paths[0]);
        shd_interpose_again();
        is_counted(&lib, 1);
        is_counted(&stays, 1);
        uint32_t object = shd_interpose_object_of((void *)lib.dup);
        CHECK(object != 0);
        const char *slash = strrchr(paths[0], '/');
        CHECK(strcmp(shd_interpose_object_name(object), slash + 1) == 0);
        most = object > most ? object : most;
        dlclose(lib.handle);
        if (round % 3 == 0) {
            shd_interpose_again();
            CHECK(shd_interpose_object_of((void *)lib.dup) == 0);
        }
        if (round % 5 == 0) {
            shd_interpose_verify();
        }
        if (round == 0) {
            shd_interpose_again();
            slots = shd_interpose_slots();
        }
    }
    shd_interpose_verify();
    CHECK(shd_interpose_slots() == slots);
    CHECK(most < 40);
    shd_interpose_stop();
    is_counted(&stays, 0);
}

/* Who looks functions up. */
static void
lookups(char **paths)
{
    library lib = load(paths[0]);
    start();
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    void *mine = (void *)counted_dup;
    CHECK(lib.look_up_in(libc, "dup") == mine);
    CHECK(lib.look_up_in(dlopen(NULL, RTLD_LAZY), "dup") == mine);
    CHECK(lib.look_up("default", "dup") == mine);
    CHECK(lib.look_up_in(libc, "getpid") == dlsym(libc, "getpid"));
    CHECK(lib.look_up_version_in(libc, "dup", "GLIBC_2.2.5") == mine
          || dlvsym(libc, "dup", "GLIBC_2.2.5") == NULL);

    /* What a caller has before itself or after it is its own affair. */
    CHECK(lib.look_up("next", "dup") == (void *)original_dup);
    CHECK(lib.look_up("default", "in_this_scope") != NULL);
    CHECK(dlsym(RTLD_DEFAULT, "in_this_scope") == NULL);
    CHECK(lib.look_up_version("next", "dup", "GLIBC_2.2.5") != mine);

    /* dlerror() is that of the program's own lookup. */
    dlerror();
    CHECK(lib.look_up_in(lib.handle, "missing_function") == NULL);
    const char *text = dlerror();
    CHECK(text != NULL && strstr(text, "missing_function") != NULL);
    CHECK(lib.look_up("next", "missing_too") == NULL);
    text = dlerror();
    CHECK(text != NULL && strstr(text, "missing_too") != NULL);
    CHECK(dlerror() == NULL);
}

/* A library's own function of that name is no call of libc. */
static void
own(char **paths)
{
    void *handle = dlopen(paths[0], RTLD_LAZY | RTLD_DEEPBIND);
    CHECK(handle != NULL);
    int (*call)(int) = dlsym(handle, "call_own_dup");
    start();
    dups = 0;
    CHECK(call(21) == 42);
    CHECK(dups == 0);
}

/* A preloaded tool stays between us and libc. */
static void
preloaded(char **paths)
{
    int *theirs = dlsym(RTLD_DEFAULT, "preloaded_closes");
    CHECK(theirs != NULL);
    library lib = load(paths[0]);
    start();
    int before = *theirs;
    is_counted(&lib, 1);
    CHECK(*theirs == before + 3);
    shd_interpose_stop();
    is_counted(&lib, 0);
    CHECK(*theirs == before + 6);
}

static int
other_tool(int fd)
{
    return original_dup(fd);
}

typedef struct {
    const void *inside;
    void **slot;
} search;

/* The slot that holds our function, behind what is read-only. */
static int
search_object(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    search *it = data;
    uintptr_t low = 0, high = 0, first = 0, last = 0;
    for (size_t at = 0; at < info->dlpi_phnum; at++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[at];
        uintptr_t from = info->dlpi_addr + header->p_vaddr;
        if (header->p_type == PT_LOAD) {
            first = first == 0 ? from : first;
            last = from + header->p_memsz;
            if (header->p_flags & PF_W) {
                low = from > low ? from : low;
                high = last;
            }
        }
        else if (header->p_type == PT_GNU_RELRO) {
            from += header->p_memsz;
            low = from > low ? from : low;
        }
    }
    if ((uintptr_t)it->inside < first || (uintptr_t)it->inside >= last) {
        return 0;
    }
    for (void **at = (void **)((low + 7) & -8ul); at < (void **)high; at++) {
        if (*at == (void *)counted_dup) {
            it->slot = at;
        }
    }
    return 1;
}

/* A tool that came before us keeps its slots; one that goes away and puts
 * libc's address back loses them to us at the next checkpoint. */
static void
tools(char **paths)
{
    library lib = load(paths[0]);
    start();
    search it = {(const void *)lib.dup, NULL};
    dl_iterate_phdr(search_object, &it);
    CHECK(it.slot != NULL);
    size_t usual = shd_interpose_foreign(), all = shd_interpose_slots();
    shd_interpose_stop();

    *it.slot = (void *)other_tool;
    start();
    CHECK(shd_interpose_foreign() == usual + 1);
    CHECK(shd_interpose_slots() == all - 1);
    dups = 0;
    original_close(lib.dup(0));
    CHECK(dups == 0);

    *it.slot = (void *)original_dup;
    shd_interpose_verify();
    CHECK(shd_interpose_foreign() == usual);
    CHECK(shd_interpose_slots() == all);
    is_counted(&lib, 1);

    *it.slot = (void *)other_tool;
    shd_interpose_verify();
    CHECK(shd_interpose_foreign() == usual + 1);
    shd_interpose_stop();
    CHECK(*it.slot == (void *)other_tool);
}

static _Atomic int stopping;

static void *
patch_on(void *unused)
{
    while (!stopping) {
        shd_interpose_again();
        shd_interpose_verify();
    }
    return unused;
}

static void *
ask_on(void *address)
{
    while (!stopping) {
        uint32_t object = shd_interpose_object_of(address);
        CHECK(object != 0);
        CHECK(strlen(shd_interpose_object_name(object)) > 0);
    }
    return NULL;
}

static void *
load_on(void *path)
{
    while (!stopping) {
        library lib = load(path);
        use(&lib);
        dlclose(lib.handle);
    }
    return NULL;
}

enum {
    MOST_THREADS = 4
};

static void
start_threads(pthread_t *all, int count, void *(*const *work)(void *),
              void *const *with)
{
    for (int at = 0; at < count; at++) {
        CHECK(pthread_create(&all[at], NULL, work[at], with[at]) == 0);
    }
}

static void
stop_threads(const pthread_t *all, int count)
{
    stopping = 1;
    for (int at = 0; at < count; at++) {
        pthread_join(all[at], NULL);
    }
}

static void
wait_for(pid_t child)
{
    int status;
    CHECK(child > 0);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

/* Threads load, unload, patch and ask at once, and the process forks.  Its
 * children may find the dynamic linker locked for ever by the thread that
 * loads: what we do by ourselves must not wait for it. */
static void
threads(char **paths)
{
    library stays = load(paths[1]);
    start();
    void *(*const work[])(void *) = {patch_on, patch_on, ask_on, load_on};
    void *const with[] = {NULL, NULL, (void *)stays.dup, paths[0]};
    pthread_t all[MOST_THREADS];
    start_threads(all, 4, work, with);
    for (int round = 0; round < 100; round++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            shd_interpose_verify();
            closes = 0;
            stays.close(-1);
            shd_interpose_stop();
            _exit(closes == 1 ? 0 : 3);
        }
        wait_for(child);
        CHECK(stays.close(-1) == -1);
    }
    stop_threads(all, 4);
    shd_interpose_again();
    library lib = load(paths[0]);
    shd_interpose_again();
    is_counted(&lib, 1);
    is_counted(&stays, 1);
    shd_interpose_stop();
    is_counted(&lib, 0);
}

/* Our own threads never leave it locked. */
static void
forks(char **paths)
{
    library stays = load(paths[1]);
    start();
    void *(*const work[])(void *) = {patch_on, patch_on};
    void *const with[] = {NULL, NULL};
    pthread_t all[MOST_THREADS];
    start_threads(all, 2, work, with);
    for (int round = 0; round < 100; round++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            library lib = load(paths[0]);
            stays.look_up_in(lib.handle, "call_dup");
            is_counted(&lib, 1);
            shd_interpose_stop();
            is_counted(&lib, 0);
            _exit(0);
        }
        wait_for(child);
    }
    stop_threads(all, 2);
}

/* Protections of all pages, as the kernel lists them. */
static size_t
writable(char *lines, size_t size)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    char line[600];
    size_t used = 0;
    while (fgets(line, sizeof(line), maps) != NULL) {
        if (strstr(line, ".so") != NULL && used + strlen(line) < size) {
            used += (size_t)snprintf(lines + used, size - used, "%.*s\n", 32,
                                     line);
        }
    }
    fclose(maps);
    return used;
}

/* What was read-only is so again. */
static void
protections(char **paths)
{
    static char before_it[1 << 16], after_it[1 << 16];
    library lib = load(paths[0]);
    use(&lib);
    size_t size = writable(before_it, sizeof(before_it));
    start();
    CHECK(writable(after_it, sizeof(after_it)) == size);
    CHECK(strcmp(before_it, after_it) == 0);
    shd_interpose_stop();
    CHECK(writable(after_it, sizeof(after_it)) == size);
    CHECK(strcmp(before_it, after_it) == 0);
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(char **);
    } scenarios[] = {
        {"before", before}, {"after", after},
        {"churn", churn},   {"lookups", lookups},
        {"own", own},       {"preloaded", preloaded},
        {"tools", tools},   {"threads", threads},
        {"forks", forks},   {"protections", protections},
    };
    for (size_t at = 0;
         argc > 2 && at < sizeof(scenarios) / sizeof(*scenarios); at++) {
        if (strcmp(argv[1], scenarios[at].name) == 0) {
            alarm(120);
            scenarios[at].run(argv + 2);
            return 0;
        }
    }
    printf("no such scenario\n");
    return 2;
}
