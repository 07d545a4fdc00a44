/* Another tool, that came with LD_PRELOAD and stands before libc. */
#define _GNU_SOURCE
#include <dlfcn.h>

int preloaded_closes;

int
close(int fd)
{
    static int (*next)(int);
    if (next == 0) {
        next = (int (*)(int))dlsym(RTLD_NEXT, "close");
    }
    preloaded_closes++;
    return next(fd);
}
