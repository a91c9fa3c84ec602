/*
 * The functions of libc that the library stands before. Each looks whether the call is about a descriptor or a path of
 * ours, and is the plain system call otherwise.
 */
#include "sim/preload/preload.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define NOT_OURS (-2)

/** in_dev() - whether a relative path's folder is /dev. */
static bool in_dev(int folder)
{
    struct stat here;
    struct stat dev;
    int r = folder == AT_FDCWD ? fstatat(AT_FDCWD, ".", &here, 0) : fstat(folder, &here);
    return r == 0 && stat("/dev", &dev) == 0 && here.st_dev == dev.st_dev &&
           here.st_ino == dev.st_ino;
}

/** device_named() - which of the two devices a path means, SIM_KIND_NONE if neither. */
static enum sim_kind device_named(int folder, const char *path)
{
    if (!path)
        return SIM_KIND_NONE;
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    enum sim_kind kind = strcmp(name, "kvm") == 0   ? SIM_KIND_KVM
                         : strcmp(name, "sev") == 0 ? SIM_KIND_SEV
                                                    : SIM_KIND_NONE;
    if (kind == SIM_KIND_NONE || strncmp(path, "/dev/", 5) == 0)
        return kind == SIM_KIND_NONE || name == path + 5 ? kind : SIM_KIND_NONE;
    return name == path && in_dev(folder) ? kind : SIM_KIND_NONE;
}

static int do_open(int folder, const char *path, int flags, mode_t mode)
{
    int saved = errno;
    enum sim_kind kind = device_named(folder, path);
    errno = saved;
    if (kind != SIM_KIND_NONE && connection_ready()) {
        int fd = open_device(kind, flags);
        if (fd != NOT_OURS)
            return fd;
    }
    return (int)raw_syscall(SYS_openat, folder, (long)path, flags, (long)mode, 0, 0);
}

static mode_t mode_argument(int flags, va_list args)
{
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(args, mode_t) : 0;
}

#define OPEN_HOOK(name)                                \
    EXPORT int name(const char *path, int flags, ...); \
    int name(const char *path, int flags, ...)         \
    {                                                  \
        va_list args;                                  \
        va_start(args, flags);                         \
        mode_t mode = mode_argument(flags, args);      \
        va_end(args);                                  \
        return do_open(AT_FDCWD, path, flags, mode);   \
    }

#define OPENAT_HOOK(name)                                          \
    EXPORT int name(int folder, const char *path, int flags, ...); \
    int name(int folder, const char *path, int flags, ...)         \
    {                                                              \
        va_list args;                                              \
        va_start(args, flags);                                     \
        mode_t mode = mode_argument(flags, args);                  \
        va_end(args);                                              \
        return do_open(folder, path, flags, mode);                 \
    }

OPEN_HOOK(open)
OPEN_HOOK(open64)
OPENAT_HOOK(openat)
OPENAT_HOOK(openat64)

/* The forms that _FORTIFY_SOURCE calls. */
EXPORT int __open_2(const char *path, int flags);
EXPORT int __open64_2(const char *path, int flags);
EXPORT int __openat_2(int folder, const char *path, int flags);
EXPORT int __openat64_2(int folder, const char *path, int flags);

int __open_2(const char *path, int flags)
{
    return do_open(AT_FDCWD, path, flags, 0);
}

int __open64_2(const char *path, int flags)
{
    return do_open(AT_FDCWD, path, flags, 0);
}

int __openat_2(int folder, const char *path, int flags)
{
    return do_open(folder, path, flags, 0);
}

int __openat64_2(int folder, const char *path, int flags)
{
    return do_open(folder, path, flags, 0);
}

static int do_ioctl(int fd, unsigned long request, unsigned long arg)
{
    unsigned type = _IOC_TYPE(request);
    if (type != ABI_KVMIO && request != ABI_SEV_ISSUE_CMD)
        return raw_ioctl(fd, request, arg);
    int saved = errno;
    struct entry *entry = entry_of(fd);
    if (!entry) {
        bool system = type == ABI_KVMIO && is_kvm_device(fd) && connection_ready();
        errno = saved;
        return system ? system_ioctl(fd, NULL, request, arg) : raw_ioctl(fd, request, arg);
    }
    errno = saved;
    switch (entry->kind) {
    case SIM_KIND_KVM:
        return system_ioctl(fd, entry, request, arg);
    case SIM_KIND_SEV:
        return sev_device_ioctl(entry, request, arg);
    case SIM_KIND_VM:
        return vm_ioctl(entry, request, arg);
    case SIM_KIND_VCPU:
        return vcpu_ioctl(entry, request, arg);
    default:
        return fail(-ENOTTY);
    }
}

EXPORT int ioctl(int fd, unsigned long request, ...);
int ioctl(int fd, unsigned long request, ...)
{
    va_list args;
    va_start(args, request);
    unsigned long arg = va_arg(args, unsigned long);
    va_end(args);
    return do_ioctl(fd, (uint32_t)request, arg);
}

static int do_close(int fd)
{
    if (connection_internal(fd)) {
        errno = EBADF; /* to the program there is nothing at that number */
        return -1;
    }
    return raw_close(fd);
}

EXPORT int close(int fd);
int close(int fd)
{
    return do_close(fd);
}

/** do_close_range() - around the library's own descriptors. */
static int do_close_range(unsigned first, unsigned last, int flags)
{
    unsigned start = first;
    unsigned highest = last > INT_MAX ? INT_MAX : last;
    for (unsigned fd = first; fd <= highest && fd < 65536; fd++) {
        if (!connection_internal((int)fd))
            continue;
        if (start < fd && raw_syscall(SYS_close_range, start, fd - 1, flags, 0, 0, 0) < 0)
            return -1;
        start = fd + 1;
    }
    if (start > last && first <= last)
        return 0;
    return (int)raw_syscall(SYS_close_range, start, last, flags, 0, 0, 0);
}

EXPORT int close_range(unsigned first, unsigned last, int flags);
int close_range(unsigned first, unsigned last, int flags)
{
    return do_close_range(first, last, flags);
}

EXPORT void closefrom(int first);
void closefrom(int first)
{
    do_close_range(first < 0 ? 0 : (unsigned)first, UINT_MAX, 0);
}

static int do_dup3(int from, int to, int flags)
{
    if (connection_internal(from)) {
        errno = EBADF;
        return -1;
    }
    connection_make_room(to);
    return (int)raw_syscall(SYS_dup3, from, to, flags, 0, 0, 0);
}

static int do_dup2(int from, int to)
{
    if (from == to)
        return (int)raw_syscall(SYS_dup2, from, to, 0, 0, 0, 0);
    return do_dup3(from, to, 0);
}

EXPORT int dup(int fd);
int dup(int fd)
{
    if (connection_internal(fd)) {
        errno = EBADF;
        return -1;
    }
    return (int)raw_syscall(SYS_dup, fd, 0, 0, 0, 0, 0);
}

EXPORT int dup2(int from, int to);
int dup2(int from, int to)
{
    return do_dup2(from, to);
}

EXPORT int dup3(int from, int to, int flags);
int dup3(int from, int to, int flags)
{
    return do_dup3(from, to, flags);
}

static int do_fcntl(int fd, int cmd, unsigned long arg)
{
    if (connection_internal(fd)) {
        errno = EBADF;
        return -1;
    }
    return (int)raw_syscall(SYS_fcntl, fd, cmd, (long)arg, 0, 0, 0);
}

#define FCNTL_HOOK(name)                                 \
    EXPORT int name(int fd, int cmd, ...);               \
    int name(int fd, int cmd, ...)                       \
    {                                                    \
        va_list args;                                    \
        va_start(args, cmd);                             \
        unsigned long arg = va_arg(args, unsigned long); \
        va_end(args);                                    \
        return do_fcntl(fd, cmd, arg);                   \
    }

FCNTL_HOOK(fcntl)
FCNTL_HOOK(fcntl64)

static long do_mmap(long addr, long len, long protection, long flags, int fd, long offset)
{
    if (fd >= 0) {
        const struct entry *entry = entry_of(fd);
        if (entry && entry->kind == SIM_KIND_MEMFD) {
            struct exchange x = {.head = {.op = SIM_OP_MMAP_MEMFD,
                                          .object = entry->id,
                                          .arg = {(uint64_t)protection}}};
            errno = -exchange_run(&x);
            return -1;
        }
        if (entry && entry->kind == SIM_KIND_VCPU && entry->real >= 0)
            fd = entry->real;
    }
    return raw_syscall(SYS_mmap, addr, len, protection, flags, fd, offset);
}

#define MMAP_HOOK(name)                                                                         \
    EXPORT void *name(void *addr, size_t len, int protection, int flags, int fd, off_t offset); \
    void *name(void *addr, size_t len, int protection, int flags, int fd, off_t offset)         \
    {                                                                                           \
        return (void *)do_mmap((long)addr, (long)len, protection, flags, fd, offset);           \
    }

MMAP_HOOK(mmap)
MMAP_HOOK(mmap64)

static int do_fallocate(int fd, int mode, long offset, long len)
{
    const struct entry *entry = entry_of(fd);
    if (!entry || entry->kind != SIM_KIND_MEMFD)
        return (int)raw_syscall(SYS_fallocate, fd, mode, offset, len, 0, 0);
    struct exchange x = {.head = {.op = SIM_OP_FALLOCATE,
                                  .object = entry->id,
                                  .arg = {(uint64_t)mode, (uint64_t)offset, (uint64_t)len}}};
    int r = exchange_run(&x);
    if (!r && entry->memory && (size_t)offset < entry->memory_len) {
        size_t there = entry->memory_len - (size_t)offset;
        int advice = mode & FALLOC_FL_PUNCH_HOLE ? MADV_REMOVE : MADV_POPULATE_WRITE;
        raw_syscall(SYS_madvise, (long)entry->memory + offset,
                    (long)((size_t)len < there ? (size_t)len : there), advice, 0, 0, 0);
    }
    return fail(r);
}

#define FALLOCATE_HOOK(name)                                    \
    EXPORT int name(int fd, int mode, off_t offset, off_t len); \
    int name(int fd, int mode, off_t offset, off_t len)         \
    {                                                           \
        return do_fallocate(fd, mode, offset, len);             \
    }

FALLOCATE_HOOK(fallocate)
FALLOCATE_HOOK(fallocate64)

/* The first filter of a process closes the way to the simulator: it is taken before. */
EXPORT int prctl(int option, ...);
int prctl(int option, ...)
{
    va_list args;
    va_start(args, option);
    long a[4];
    for (size_t i = 0; i < 4; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (option == PR_SET_SECCOMP || option == PR_SET_NO_NEW_PRIVS)
        connection_ready();
    return (int)raw_syscall(SYS_prctl, option, a[0], a[1], a[2], a[3], 0);
}

EXPORT long syscall(long number, ...);
long syscall(long number, ...)
{
    va_list args;
    va_start(args, number);
    long a[6];
    for (size_t i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    switch (number) {
    case SYS_open:
        return do_open(AT_FDCWD, (const char *)a[0], (int)a[1], (mode_t)a[2]);
    case SYS_openat:
        return do_open((int)a[0], (const char *)a[1], (int)a[2], (mode_t)a[3]);
    case SYS_openat2:
        /* struct open_how begins with the flags. */
        if (a[2] && device_named((int)a[0], (const char *)a[1]) != SIM_KIND_NONE)
            return do_open((int)a[0], (const char *)a[1], (int)*(const uint64_t *)a[2], 0);
        break;
    case SYS_ioctl:
        return do_ioctl((int)a[0], (uint32_t)a[1], (unsigned long)a[2]);
    case SYS_close:
        return do_close((int)a[0]);
    case SYS_close_range:
        return do_close_range((unsigned)a[0], (unsigned)a[1], (int)a[2]);
    case SYS_dup:
        return dup((int)a[0]);
    case SYS_dup2:
        return do_dup2((int)a[0], (int)a[1]);
    case SYS_dup3:
        return do_dup3((int)a[0], (int)a[1], (int)a[2]);
    case SYS_fcntl:
        return do_fcntl((int)a[0], (int)a[1], (unsigned long)a[2]);
    case SYS_mmap:
        return do_mmap(a[0], a[1], a[2], a[3], (int)a[4], a[5]);
    case SYS_fallocate:
        return do_fallocate((int)a[0], (int)a[1], a[2], a[3]);
    case SYS_seccomp:
    case SYS_landlock_restrict_self:
        connection_ready();
        break;
    default:
        break;
    }
    return raw_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
