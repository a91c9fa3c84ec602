#include "backends/blk_io.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

int64_t blk_io_now(struct blk_disk *disk, const struct blk_io *io)
{
    if (disk->direct || io->flags) /* what is to be stable waits for the disk */
        return -EAGAIN;
    atomic_bool *refused = io->kind == BLK_IO_READ ? &disk->no_nowait_read : &disk->no_nowait_write;
    if (io->kind > BLK_IO_WRITE || atomic_load_explicit(refused, memory_order_relaxed))
        return -EAGAIN;
    ssize_t n = io->kind == BLK_IO_READ
                    ? preadv2(disk->fd, io->iov, (int)io->n_iov, (off_t)io->offset, RWF_NOWAIT)
                    : pwritev2(disk->fd, io->iov, (int)io->n_iov, (off_t)io->offset, RWF_NOWAIT);
    if (n >= 0)
        return n;
    if (errno == EOPNOTSUPP || errno == ENOSYS) {
        atomic_store(refused, true);
        return -EAGAIN;
    }
    return errno == EINTR ? -EAGAIN : -errno;
}

int64_t blk_io_wait(const struct blk_disk *disk, const struct blk_io *io)
{
    uint64_t range[2] = {io->offset, io->len};
    off_t offset = (off_t)io->offset;
    ssize_t n;
    do {
        switch (io->kind) {
        case BLK_IO_READ:
            n = preadv2(disk->fd, io->iov, (int)io->n_iov, offset, io->flags);
            break;
        case BLK_IO_WRITE:
            n = pwritev2(disk->fd, io->iov, (int)io->n_iov, offset, io->flags);
            break;
        case BLK_IO_SYNC:
            n = fdatasync(disk->fd);
            break;
        case BLK_IO_ALLOCATE:
            n = fallocate(disk->fd, io->flags, offset, (off_t)io->len);
            break;
        default:
            n = ioctl(disk->fd, BLKDISCARD, range);
            break;
        }
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

bool blk_io_prepare(const struct blk_disk *disk, const struct blk_io *io, struct io_uring_sqe *sqe)
{
    switch (io->kind) {
    case BLK_IO_READ:
        io_uring_prep_readv2(sqe, disk->fd, io->iov, io->n_iov, io->offset, io->flags);
        return true;
    case BLK_IO_WRITE:
        io_uring_prep_writev2(sqe, disk->fd, io->iov, io->n_iov, io->offset, io->flags);
        return true;
    case BLK_IO_SYNC:
        io_uring_prep_fsync(sqe, disk->fd, IORING_FSYNC_DATASYNC);
        return true;
    case BLK_IO_ALLOCATE:
        /* io_uring_prep_fallocate() takes signed numbers in some versions and unsigned ones in others. */
        io_uring_prep_rw(IORING_OP_FALLOCATE, sqe, disk->fd, NULL, (unsigned)io->flags, io->offset);
        sqe->addr = io->len;
        return true;
    default:
        return false;
    }
}
