/*
 * OFD locks belong to the open file description, not to the process: closing another descriptor of the same file does
 * not lose them, and one that a process killed in the middle of I/O held lasts until the kernel has let go of the file,
 * which is after its last write has landed.
 */
#include "backends/blk_lock.h"

#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

/* More than the last byte that QEMU locks, so that a tiny image is locked against it too. */
#define LOCK_BYTES_MIN 512u
#define RETRY_NS 1000000

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* The bytes a file has, or occupies: small ones occupy more than they have, sparse ones less. */
static uint64_t bytes_covered(int fd, uint64_t bytes)
{
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        bytes = MAX(bytes, (uint64_t)st.st_size);
        bytes = MAX(bytes, (uint64_t)st.st_blocks * 512);
    }
    return MIN(MAX(bytes, LOCK_BYTES_MIN), (uint64_t)INT64_MAX);
}

int blk_lock(int fd, enum blk_lock_kind kind, bool exclusive, uint64_t bytes, unsigned wait_ms,
             const char *name, struct error *err)
{
    if (kind == BLK_LOCK_OFF)
        return 0;
    struct flock lock = {
        .l_type = exclusive ? F_WRLCK : F_RDLCK,
        .l_whence = SEEK_SET,
        .l_len = kind == BLK_LOCK_FULL ? 0 : (off_t)bytes_covered(fd, bytes),
    };
    uint64_t deadline = now_ms() + wait_ms;
    while (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EACCES) {
            error_set_errno(err, -errno, "could not lock '%s'", name);
            return error_hint(err, "the file system may not support locks: lock_granularity=off "
                                   "goes without");
        }
        if (now_ms() >= deadline) {
            error_set(err, -EAGAIN, "'%s' is in use by another process", name);
            return error_hint(err, exclusive ? "a disk that is written to belongs to one machine; "
                                               "open it read-only everywhere to share it"
                                             : "somebody writes to it");
        }
        nanosleep(&(struct timespec){.tv_nsec = RETRY_NS}, NULL);
    }
    return 0;
}
