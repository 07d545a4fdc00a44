/* A library that calls libc in all the ways there are.  Built several times:
 * bound lazily, at once, without a linkage table. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static int (*const table[])(int) = {dup, close};

int
call_dup(int fd)
{
    return dup(fd);
}

int
call_close(int fd)
{
    return close(fd);
}

int
call_dup_by_table(int fd)
{
    return table[0](fd);
}

int
call_close_by_table(int fd)
{
    return table[1](fd);
}

FILE *
call_fopen(const char *path)
{
    return fopen(path, "r");
}

int
call_fclose(FILE *file)
{
    return fclose(file);
}

/* Found in this library's own scope only. */
int
in_this_scope(void)
{
    return 42;
}

void *
look_up(const char *scope, const char *name)
{
    return dlsym(scope[0] == 'n' ? RTLD_NEXT : RTLD_DEFAULT, name);
}

void *
look_up_version(const char *scope, const char *name, const char *version)
{
    return dlvsym(scope[0] == 'n' ? RTLD_NEXT : RTLD_DEFAULT, name, version);
}

void *
look_up_in(void *handle, const char *name)
{
    return dlsym(handle, name);
}

void *
look_up_version_in(void *handle, const char *name, const char *version)
{
    return dlvsym(handle, name, version);
}
