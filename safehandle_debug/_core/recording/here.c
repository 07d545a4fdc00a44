/* The switches, and where each thread is. */
#include "here.h"

#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

_Alignas(SHD_PAGE_SIZE) shd_switches shd_on;

_Thread_local _Alignas(64) struct shd_here shd_here
    __attribute__((tls_model("initial-exec"))) = {
        .turn.last = -1,
};

void
shd_on_start(void)
{
    if (sysconf(_SC_PAGESIZE) <= SHD_PAGE_SIZE) {
        (void)madvise(&shd_on, sizeof(shd_on), MADV_WIPEONFORK);
    }
}
