/* Advisory locks on disk images, as Cloud Hypervisor and QEMU meet them. */
#ifndef HUSK_BACKENDS_BLK_LOCK_H
#define HUSK_BACKENDS_BLK_LOCK_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Cloud Hypervisor's lock_granularity. Some network storage makes a lock of the whole file a mandatory one, which a
 * range that merely covers all bytes is not. */
enum blk_lock_kind { BLK_LOCK_BYTE_RANGE, BLK_LOCK_FULL, BLK_LOCK_OFF };

/**
 * blk_lock() - lock an image for the life of @fd's open file description (OFD lock).
 * @fd: open for writing if @exclusive.
 * @kind: what to cover: all bytes that the file has or occupies, or the file whatever its size.
 * @exclusive: nobody else may have it; otherwise other readers may.
 * @bytes: the size of the image, for BLK_LOCK_BYTE_RANGE.
 * @wait_ms: how long to wait for another holder to let go; 0 does not wait.
 * @name: for messages.
 *
 * QEMU's locks are single bytes below 512 (raw files: 100 to 203), which both kinds cover: one keeps the other out.
 *
 * Return: 0, -EAGAIN if another process holds it, or -errno; @err is filled.
 */
int blk_lock(int fd, enum blk_lock_kind kind, bool exclusive, uint64_t bytes, unsigned wait_ms,
             const char *name, struct error *err);

#endif
