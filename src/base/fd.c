#include "base/fd.h"

#include "base/bytes.h"
#include "base/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* How many descriptors are tried one by one where no /proc tells which there are. */
#define FDS_WITHOUT_PROC 65536

void fd_fill_standard(void)
{
    int fd = 0;
    while (fd >= 0 && fd <= STDERR_FILENO)
        fd = open("/dev/null", O_RDWR);
    if (fd > STDERR_FILENO)
        close(fd);
}

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

void fd_close_others(int *keep, unsigned n)
{
    int first = STDERR_FILENO + 1;
    qsort(keep, n, sizeof(*keep), by_number);
    for (unsigned i = 0; i < n; i++) {
        if (keep[i] > first)
            close_range((unsigned)first, (unsigned)keep[i] - 1, 0);
        first = MAX(first, keep[i] + 1);
    }
    close_range((unsigned)first, ~0u, 0);
}

/** close_if_inherited() - exec would not have closed it, and it is not among @keep. */
static void close_if_inherited(int fd, const int *keep, unsigned n)
{
    int flags = fd > STDERR_FILENO ? fcntl(fd, F_GETFD) : -1;
    if (flags < 0 || flags & FD_CLOEXEC)
        return;
    for (unsigned i = 0; i < n; i++)
        if (keep[i] == fd)
            return;
    close(fd);
}

void fd_close_inherited(const int *keep, unsigned n)
{
    DIR *folder = opendir("/proc/self/fd");
    const struct dirent *entry;
    while (folder && (entry = readdir(folder)) != NULL)
        close_if_inherited(atoi(entry->d_name), keep, n);
    if (folder)
        closedir(folder);
    for (int fd = STDERR_FILENO + 1; !folder && fd < FDS_WITHOUT_PROC; fd++)
        close_if_inherited(fd, keep, n);
}

int fd_open_file(const char *path, uint64_t *size, struct error *err)
{
    /* Non-blocking, so that a FIFO without a writer is refused rather than waited for. */
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return error_set_errno(err, -errno, "could not open '%s'", path);
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_set_errno(err, -errno, "could not look at '%s'", path);
    if (!S_ISREG(st.st_mode))
        return error_set(err, S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL, "'%s' is not a regular file",
                         path);
    *size = (uint64_t)st.st_size;
    return take_fd(&fd);
}

int fd_pread_full(int fd, void *buf, size_t len, uint64_t offset)
{
    uint8_t *to = buf;
    while (len) {
        ssize_t n = pread(fd, to, MIN(len, (size_t)1 << 30), (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -ENODATA;
        to += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

int fd_write_full(int fd, const void *buf, size_t len)
{
    const uint8_t *from = buf;
    while (len) {
        ssize_t n = write(fd, from, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        from += n;
        len -= (size_t)n;
    }
    return 0;
}

int fd_set_nonblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    return 0;
}

void fd_signal(int event_fd)
{
    const uint64_t one = 1;
    if (fd_set_nonblock(event_fd) == 0 && write(event_fd, &one, sizeof(one)) < 0)
        return; /* full: it is readable, which is all that counts */
}

void fd_unsignal(int event_fd)
{
    uint64_t count;
    struct iovec to = {.iov_base = &count, .iov_len = sizeof(count)};
    if (preadv2(event_fd, &to, 1, -1, RWF_NOWAIT) >= 0 || errno != EOPNOTSUPP)
        return;
    if (fd_set_nonblock(event_fd) == 0 && read(event_fd, &count, sizeof(count)) < 0)
        return; /* it had counted nothing */
}
