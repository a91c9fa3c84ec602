/* System calls past the hooks. */
#include "sim/preload/preload.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>

#define HIGH 200 /* the library's own descriptors have this number or a higher one */

long raw_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    if (result < 0 && result > -4096) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

int raw_ioctl(int fd, unsigned long request, unsigned long arg)
{
    return (int)raw_syscall(SYS_ioctl, fd, (long)request, (long)arg, 0, 0, 0);
}

int raw_close(int fd)
{
    return (int)raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
}

int raw_dup_high(int fd)
{
    int moved = (int)raw_syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, HIGH, 0, 0, 0);
    if (moved < 0)
        return fd; /* a filter or a limit: it stays where it is */
    raw_close(fd);
    return moved;
}
