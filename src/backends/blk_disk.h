/*
 * The disk behind a block back-end: one raw regular file or block device, open and, if wanted, locked. Everything here
 * is settled before the first queue runs, but for the flags that note what the file system turned out not to support.
 */
#ifndef HUSK_BACKENDS_BLK_DISK_H
#define HUSK_BACKENDS_BLK_DISK_H

#include "base/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BLK_SECTOR_BYTES 512u
#define BLK_SERIAL_BYTES 20u /* virtio 1.2, 5.2.6: VIRTIO_BLK_T_GET_ID */

struct blk_options;

struct blk_disk {
    int fd;
    bool is_device; /* a block device, not a regular file */
    bool readonly;
    bool direct;                            /* O_DIRECT */
    bool can_discard;                       /* and write zeroes without moving data */
    uint64_t bytes;                         /* capacity: whole logical blocks */
    uint32_t logical_bytes, physical_bytes; /* block sizes, powers of two */
    uint32_t opt_io_bytes;               /* best size of an access, 0 if the device does not say */
    uint32_t memory_align, offset_align; /* of O_DIRECT */
    char serial[BLK_SERIAL_BYTES + 1];
    atomic_bool writeback; /* false: every write is stable before it is answered */

    /* What was answered with "not supported" once and is not tried again. */
    atomic_bool no_punch, no_zero_range, no_nowait_read, no_nowait_write;
};

/** blk_disk_open() - open the disk that @options name, find its size and limits, and lock it.
 *
 * A descriptor given in @options is taken over. Refused: anything that is neither a regular file nor a block device, a
 * descriptor that cannot write for a disk that can, a disk that another process has locked (-EAGAIN).
 *
 * Return: 0, or -errno with @err filled.
 */
int blk_disk_open(struct blk_disk *disk, const struct blk_options *options, struct error *err);

/** blk_disk_close() - close it, which releases the lock. */
void blk_disk_close(struct blk_disk *disk);

#endif
