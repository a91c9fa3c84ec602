/* Single accesses to a disk, in three ways: at once or not at all, waiting, and by io_uring. */
#ifndef HUSK_BACKENDS_BLK_IO_H
#define HUSK_BACKENDS_BLK_IO_H

#include "backends/blk_disk.h"

#include <sys/uio.h>

struct io_uring_sqe;

enum blk_io_kind {
    BLK_IO_READ,
    BLK_IO_WRITE,
    BLK_IO_SYNC,     /* fdatasync: everything that was answered before is on the disk then */
    BLK_IO_ALLOCATE, /* fallocate with @flags */
    BLK_IO_DISCARD,  /* BLKDISCARD */
};

struct blk_io {
    enum blk_io_kind kind;
    int flags; /* RWF_* or FALLOC_FL_* */
    const struct iovec *iov;
    unsigned n_iov;
    uint64_t offset, len; /* bytes on the disk; len of the last two kinds */
};

/** blk_io_now() - what the page cache can do without waiting. Returns bytes, -EAGAIN, or another -errno. */
int64_t blk_io_now(struct blk_disk *disk, const struct blk_io *io);

/** blk_io_wait() - carry it out. Returns bytes (0 for the last three kinds) or -errno. */
int64_t blk_io_wait(const struct blk_disk *disk, const struct blk_io *io);

/** blk_io_prepare() - fill @sqe. Returns false for what io_uring has no operation for. */
bool blk_io_prepare(const struct blk_disk *disk, const struct blk_io *io, struct io_uring_sqe *sqe);

#endif
