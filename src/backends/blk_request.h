/* One virtio block request, as the driver laid it out. Numbers and layouts: virtio 1.2, 5.2.6. */
#ifndef HUSK_BACKENDS_BLK_REQUEST_H
#define HUSK_BACKENDS_BLK_REQUEST_H

#include "backends/blk_disk.h"
#include "backends/server.h"

#include <stddef.h>

#define BLK_T_IN 0u
#define BLK_T_OUT 1u
#define BLK_T_FLUSH 4u
#define BLK_T_GET_ID 8u
#define BLK_T_DISCARD 11u
#define BLK_T_WRITE_ZEROES 13u

#define BLK_S_OK 0u
#define BLK_S_IOERR 1u
#define BLK_S_UNSUPP 2u

#define BLK_HEADER_BYTES 16u  /* type, reserved, sector */
#define BLK_SEGMENT_BYTES 16u /* sector, number of sectors, flags */
#define BLK_SEGMENTS_MAX 16u  /* in one discard or write zeroes */
#define BLK_SEGMENT_SECTORS_MAX (1u << 22)

/* A range to discard or to fill with zeroes, in bytes. */
struct blk_segment {
    uint64_t offset;
    uint32_t len_sectors;
    bool unmap; /* the space may be given back */
};

struct blk_request {
    struct vu_chain chain; /* as popped, for giving it back */
    uint8_t *status_at;    /* in guest RAM; NULL if the driver left no room for it */
    uint32_t type;
    uint64_t offset, len; /* bytes on the disk: reads and writes */
    struct iovec *data;   /* guest buffers between header and status */
    unsigned n_data;
    unsigned n_segments;
    struct blk_segment segments[BLK_SEGMENTS_MAX];
};

/**
 * blk_request_parse() - read and check a request. Header, segments and status may be parted in any way.
 * @data: room for as many entries as the chain has; the request refers to it and to the chain's own.
 *
 * Return: BLK_S_OK if it is to be carried out; else the status that answers it.
 */
uint8_t blk_request_parse(struct blk_request *request, const struct blk_disk *disk,
                          const struct vu_chain *chain, struct iovec *data);

/* Guest buffers as one row of bytes. */

/** blk_iov_read() - the first @len bytes to @to. Returns how many there were. */
size_t blk_iov_read(const struct iovec *iov, unsigned n, void *to, size_t len);

/** blk_iov_write() - @len bytes to the first buffers. Returns how many had room. */
size_t blk_iov_write(const struct iovec *iov, unsigned n, const void *from, size_t len);

/** blk_iov_drop() - leave the first @len bytes out: moves *iov and *n on and changes the first entry. */
void blk_iov_drop(struct iovec **iov, unsigned *n, uint64_t len);

#endif
