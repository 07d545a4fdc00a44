/* A library that goes round libc: the system calls themselves. */
#include <fcntl.h>
#include <sys/syscall.h>

static long
call(long number, long a, long b, long c)
{
#if defined(__x86_64__)
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return result;
#else
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2)
                     : "memory");
    return x0;
#endif
}

int
round_open(const char *path)
{
    return (int)call(SYS_openat, AT_FDCWD, (long)path, O_RDONLY);
}

int
round_close(int fd)
{
    return (int)call(SYS_close, fd, 0, 0);
}
